//! Text of others, made harmless for a terminal.

use super::quote;

/// A line of text, with everything escaped that isn't printable.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut out, c));
    out
}

/// Bytes as a line of text, with everything escaped that isn't printable.
pub(super) fn line(bytes: &[u8]) -> String {
    escaped(bytes, |_| false)
}

/// Bytes as text of any number of lines: line ends and tabs stay what they are.
pub(super) fn lines(bytes: &[u8]) -> String {
    escaped(bytes, |c| matches!(c, '\n' | '\t'))
}

/// JSON, which is valid already, with everything escaped that isn't printable and that JSON lets pass as it is.
pub(super) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if quote::is_printable(c) {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

fn escaped(bytes: &[u8], stays: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if stays(c) { out.push(c) } else { push(&mut out, c) }
        }
        out.push_str(&quote::hex(chunk.invalid()));
    }
    out
}

fn push(out: &mut String, c: char) {
    if matches!(c, '"' | '\\') { out.push(c) } else { quote::push(out, c) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(
            text("a\x1b[31m\"b\\\u{9b}\u{202e}\r\n\u{e9}"),
            r#"a\x1b[31m"b\\u009b\u202e\r\n"#.to_owned() + "\u{e9}"
        );
        assert_eq!(line(b"a\n\x9b\xff"), r"a\n\x9b\xff");
        assert_eq!(lines(b"a:\n\tb\r\x07"), "a:\n\tb\\r\\a");
    }

    #[test]
    fn json_stays_json() {
        let value = serde_json::Value::from("\u{7f}\u{9b}31m\x1b\u{e9}\u{202e}\u{e0001} \"\\");
        let escaped = json(&value.to_string());
        assert!(!escaped.contains(char::is_control), "{escaped}");
        assert!(!escaped.contains(['\u{202e}', '\u{e0001}']), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).expect("it is JSON"), value);
    }
}
