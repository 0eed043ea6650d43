//! Texts of servers, for logs and terminals.

use alloc::string::String;

/// The text with its control characters escaped as in Rust (`\n`, `\u{1b}`), and likewise the characters that
/// change the direction of a text or break its lines. A server could forge lines of a log with them, or steer a
/// terminal. All other texts stay what they are.
///
/// ```
/// use etcd_watch_core::printable;
///
/// assert_eq!(printable("etcdserver: no leader"), "etcdserver: no leader");
/// assert_eq!(printable("no\nleader \u{1b}[31m"), r"no\nleader \u{1b}[31m");
/// ```
pub fn printable(text: impl Into<String>) -> String {
    let text = text.into();
    if !text.contains(is_escaped) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_escaped(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

fn is_escaped(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_a_log_is_escaped_and_nothing_else() {
        for (text, escaped) in [
            ("Umlaute: \u{e4}\u{f6}\u{fc}, \u{65e5}\u{672c}", None),
            (r"a \ stays", None),
            ("", None),
            ("two\r\nlines\t", Some(r"two\r\nlines\t")),
            ("\u{0}\u{1b}[2J\u{7f}\u{9b}", Some(r"\u{0}\u{1b}[2J\u{7f}\u{9b}")),
            ("\u{202e}gpj", Some(r"\u{202e}gpj")),
        ] {
            assert_eq!(printable(text), escaped.unwrap_or(text));
        }
    }
}
