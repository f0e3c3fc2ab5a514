//! A command line split into words as a shell would, without a shell: quotes and backslashes, nothing else.

/// Splits at blanks. `'..'` is literal; in `".."` a backslash escapes `"`, `\`, `$` and a backquote; outside quotes it escapes
/// anything. Nothing is expanded, so what only a shell could do is refused rather than passed on as an argument.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a single quote (') is never closed".into()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err("a double quote (\") is never closed".into()),
                        },
                        Some(c) => word.push(c),
                        None => return Err("a double quote (\") is never closed".into()),
                    }
                }
            }
            '\\' => match chars.next() {
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err("the line ends in a backslash".into()),
            },
            '|' | '&' | ';' | '<' | '>' | '`' => {
                return Err(format!("`{c}` is shell syntax, and no shell runs here"));
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        let check = |line: &str, expected: &[&str]| assert_eq!(split(line).unwrap(), expected, "{line}");
        check("/bin/echo one  two\tthree", &["/bin/echo", "one", "two", "three"]);
        check("echo 'a b' \"c d\"", &["echo", "a b", "c d"]);
        check("echo a'b'\"c\"d ''", &["echo", "abcd", ""]);
        check(r#"echo \' \  "\"\\ \n""#, &["echo", "'", " ", r#""\ \n"#]);
        check(r"echo '\' $HOME *", &["echo", r"\", "$HOME", "*"]);
        check("  ", &[]);
    }

    #[test]
    fn half_a_quote_and_shell_syntax_are_refused() {
        for line in ["echo 'a", "echo \"a", "echo \"a\\", "echo a\\", "a | b", "a && b", "a; b", "a > /b", "echo `b`"] {
            assert!(split(line).is_err(), "{line}");
        }
        assert!(split("echo 'a | b' \\; \"x > y\"").is_ok());
    }
}
