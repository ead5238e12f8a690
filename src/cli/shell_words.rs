//! Splits a command in an option into words, like a shell but without running one. Pure.

/// Splits at white space. Inside single quotes everything is literal; inside double quotes
/// everything but `\"` and `\\`; elsewhere a backslash makes the next character literal. No other
/// character is special.
///
/// # Errors
/// Names the syntax error.
pub fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\0' => return Err("it contains a NUL"),
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("unclosed single quote")? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("unclosed double quote")? {
                        '"' => break,
                        '\\' => word.push(chars.next_if(|c| "\"\\".contains(*c)).unwrap_or('\\')),
                        c => word.push(c),
                    }
                }
            }
            '\\' => {
                let next = chars.next().ok_or("trailing backslash")?;
                word.get_or_insert_default().push(next);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    match words.first() {
        Some(program) if !program.is_empty() => Ok(words),
        _ => Err("it names no program"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (text, words) in [
            ("/bin/true", vec!["/bin/true"]),
            ("  a\tb \n c ", vec!["a", "b", "c"]),
            (r#"a 'b c' "d e" f\ g"#, vec!["a", "b c", "d e", "f g"]),
            (r#"a 'b\'c "d\"e\\f\g""#, vec!["a", r"b\c", r#"d"e\f\g"#]),
            (r#"a '' "" x''y"#, vec!["a", "", "", "xy"]),
            (r#"'a b'/"c d"\e"#, vec!["a b/c de"]),
            ("a $HOME `b` ~ * ; | > #c &", "a $HOME `b` ~ * ; | > #c &".split(' ').collect()),
            ("ä 'ö ü'", vec!["ä", "ö ü"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_said() {
        for (text, why) in [
            ("a 'b", "single quote"),
            ("a \"b\\\"", "double quote"),
            ("a b\\", "backslash"),
            ("", "no program"),
            (" \t", "no program"),
            ("'' b", "no program"),
            ("a\0b", "NUL"),
        ] {
            assert!(split(text).unwrap_err().contains(why), "{text:?}");
        }
    }
}
