//! What others wrote, made harmless to the terminal that it is shown on (CVE-2003-0063 and its like). The one function of its
//! kind: for what services write, and for what unit files and their names say.

/// It would steer a terminal, show a text in another order than it is written in (CVE-2021-42574), or stand in it unseen.
pub fn is_harmful(character: char) -> bool {
    let reorders = matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let hides =
        matches!(character, '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    character.is_control() || reorders || hides
}

/// One line: harmful characters are shown as escapes. Tabs stay.
pub fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmful(character) && character != '\t' {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// The same for what may have many lines.
pub fn harmless_lines(text: &str) -> String {
    text.split('\n').map(harmless).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown() {
        assert_eq!(harmless("a\tb\x1b[2J\r\0\u{9b}\x7fé\n"), "a\tb\\u{1b}[2J\\r\\u{0}\\u{9b}\\u{7f}é\\n");
        assert_eq!(harmless("\u{202e}\u{2066}\u{2028}\u{2029}\u{200f}"), "\\u{202e}\\u{2066}\\u{2028}\\u{2029}\\u{200f}");
        assert_eq!(harmless("a\u{200b}\u{feff}\u{e0041}b"), "a\\u{200b}\\u{feff}\\u{e0041}b");
        assert_eq!(harmless_lines("a\nb\x1b\n"), "a\nb\\u{1b}\n");
    }
}
