//! Bytes as Go quotes them (`%q`), and as `--hex` prints them.

use std::fmt::Write as _;

/// The bytes in double quotes; what isn't printable UTF-8 is escaped.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push(&mut text, c));
        chunk.invalid().iter().for_each(|byte| escape(&mut text, format_args!("\\x{byte:02x}")));
    }
    text.push('"');
    text
}

/// Each byte as `\x` and two digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4);
    bytes.iter().for_each(|byte| escape(&mut text, format_args!("\\x{byte:02x}")));
    text
}

pub(super) fn push(text: &mut String, c: char) {
    match c {
        '"' | '\\' => text.extend(['\\', c]),
        '\x07' => text.push_str("\\a"),
        '\x08' => text.push_str("\\b"),
        '\x0c' => text.push_str("\\f"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\x0b' => text.push_str("\\v"),
        _ if is_printable(c) => text.push(c),
        '\0'..='\x7f' => escape(text, format_args!("\\x{:02x}", u32::from(c))),
        ..='\u{ffff}' => escape(text, format_args!("\\u{:04x}", u32::from(c))),
        _ => escape(text, format_args!("\\U{:08x}", u32::from(c))),
    }
}

/// Letters, marks, numbers, punctuation and symbols, as Unicode has them, and the space of ASCII.
pub(super) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // After another character, so that a mark counts as what it is there.
    let mut buffer = String::from("x");
    buffer.push(c);
    !c.is_whitespace() && buffer.escape_debug().nth(1) != Some('\\')
}

fn escape(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string doesn't fail.
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_go_does_it() {
        assert_eq!(quoted(b"a b\"c\\"), r#""a b\"c\\""#);
        assert_eq!(quoted(b"x\ny\x01\xc3\xa9\xff"), "\"x\\ny\\x01\u{e9}\\xff\"");
        assert_eq!(quoted(b"\x07\x08\x0c\r\t\x0b\x00\x7f"), r#""\a\b\f\r\t\v\x00\x7f""#);
        assert_eq!(
            quoted("e\u{301} \u{a0}\u{2028}\u{e0001}".as_bytes()),
            "\"e\u{301} \\u00a0\\u2028\\U000e0001\""
        );
        assert_eq!(quoted(b""), r#""""#);
    }

    #[test]
    fn hexadecimal_has_every_byte_escaped() {
        assert_eq!(hex(b"a\xff"), r"\x61\xff");
    }
}
