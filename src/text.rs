//! Text for people: sizes, durations, counts, quoting, and other programs' messages in our style.
//!
//! Pure functions that know nothing of backups or servers.

use std::io;
use std::time::Duration;

/// A number of bytes: `17 B`, `4.0 MiB`, `1.5 GiB`.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    let mut unit = 0;
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A duration: `0.4s`, `12s`, `1m30s`, `2h5m`, `3d4h`.
pub fn short(d: Duration) -> String {
    let two = |a: u64, a_unit: &str, b: u64, b_unit: &str| {
        if b == 0 { format!("{a}{a_unit}") } else { format!("{a}{a_unit}{b}{b_unit}") }
    };
    let s = d.as_secs();
    match s {
        0..10 => format!("{:.1}s", d.as_secs_f64()).replace(".0s", "s"),
        10..60 => format!("{s}s"),
        60..3600 => two(s / 60, "m", s % 60, "s"),
        3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "m"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

/// A count with its noun: `1 failure`, `2 failures`, `2 entries`, `2 passes`.
pub fn count(n: impl TryInto<u64>, noun: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    match (n, noun.strip_suffix('y')) {
        (1, _) => format!("{n} {noun}"),
        (_, Some(stem)) => format!("{n} {stem}ies"),
        _ if noun.ends_with('s') => format!("{n} {noun}es"),
        (_, None) => format!("{n} {noun}s"),
    }
}

/// The text of a system error without std's `(os error 13)`, in lower case.
pub fn system_text(e: &io::Error) -> String {
    plain(&e.to_string())
}

/// A library's message in our style: no error number, no quotes, lower case at the start.
pub fn plain(text: &str) -> String {
    let text = text.strip_prefix("IO error: ").unwrap_or(text);
    let text = text.split(" (os error").next().unwrap_or_default().replace(['`', '\''], "");
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// True if a character changes how what follows is shown or read, instead of being shown itself:
/// control characters (C0, DEL, C1), separators of lines, and those that turn the direction.
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One line of text from outside, with `?` for each character that could forge another line or
/// steer a terminal.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { '?' } else { c }).collect()
}

/// The same for what we print in several lines.
pub fn harmless_lines(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && is_harmful(c) { '?' } else { c }).collect()
}

/// A word quoted for the shell where it needs quoting.
pub fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// An enum each of whose variants is one word of an interface: a misspelt word does not compile.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All of them, in the order of the page.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The word itself.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            /// The variant of a word.
            pub fn from_name(word: &str) -> Option<$name> {
                match word { $($word => Some($name::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = |ms| short(Duration::from_millis(ms));
        assert_eq!(shown(400), "0.4s");
        assert_eq!(shown(2000), "2s");
        assert_eq!(shown(90_000), "1m30s");
        assert_eq!(shown(7_500_000), "2h5m");
        assert_eq!(shown(86_400_000), "1d");
    }

    #[test]
    fn nouns_agree_with_their_number() {
        assert_eq!(count(1u64, "failure"), "1 failure");
        assert_eq!(count(0usize, "backup"), "0 backups");
        assert_eq!(count(2u32, "entry"), "2 entries");
        assert_eq!(
            (count(1u32, "pass"), count(2u32, "pass")),
            ("1 pass".into(), "2 passes".into())
        );
    }

    #[test]
    fn words_of_libraries_lose_numbers_and_quotes() {
        assert_eq!(plain("IO error: Permission denied (os error 13)"), "permission denied");
        assert_eq!(plain("Unknown `x`"), "unknown x");
        assert_eq!(plain(""), "");
    }

    #[test]
    fn text_from_outside_neither_forges_lines_nor_steers_a_terminal() {
        let bad = "a\n\r\x1b[31m\t\x7f\u{9b}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\u{e4}";
        assert_eq!(harmless(bad), "a???[31m?????????\u{e4}");
        assert_eq!(harmless_lines("a\nb\x1b"), "a\nb?");
    }

    #[test]
    fn quotes_and_spaces_stay_one_shell_word() {
        assert_eq!(shell("/var/lib/mysql-8.0"), "/var/lib/mysql-8.0");
        assert_eq!(shell("a b"), "'a b'");
        assert_eq!(shell("it's"), r"'it'\''s'");
    }
}
