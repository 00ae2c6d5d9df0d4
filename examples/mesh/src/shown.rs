//! Text of others on a terminal: a peer's key may hold characters that move the cursor, begin a line or turn it around.

/// With everything escaped that does not stand for itself where it is printed.
pub(crate) fn shown(text: &str) -> String {
    escaped(text, |char| char.escape_default().to_string())
}

/// The same for a line of JSON, which stays one and keeps its meaning.
pub(crate) fn shown_json(line: &str) -> String {
    escaped(line, |char| format!("\\u{:04x}", u32::from(char)))
}

fn escaped(text: &str, escape: impl Fn(char) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if misleads(char) {
            out.push_str(&escape(char));
        } else {
            out.push(char);
        }
    }
    out
}

/// Control characters, ends of lines, and characters that change the direction of text. All are below U+10000.
fn misleads(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_controls_a_terminal_is_left() {
        assert_eq!(shown("größe → 1"), "größe → 1");
        assert_eq!(shown("a\u{1b}[2J\u{7}\r\nb"), "a\\u{1b}[2J\\u{7}\\r\\nb");
        assert_eq!(shown("\u{9b}1m \u{202e}x\u{2069}"), "\\u{9b}1m \\u{202e}x\\u{2069}");
        let text = "\u{9b}1m \u{202e}x\u{7f} \u{1b}";
        let line = shown_json(&serde_json::json!({ "key": text }).to_string());
        assert!(!line.chars().any(misleads), "{line}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["key"], text);
    }
}
