//! Bodies of routines, triggers and events that would not arrive as they are.
//!
//! The clients write the delimiter behind a body, on its last line. One that ends with a comment to the end of
//! the line takes it in: what follows in the dump becomes part of the body, which may even load. One in
//! another language than SQL has quotes of its own around it.

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::Session;
use crate::mysql::trouble::Trouble;
use crate::seed::mend;
use crate::text::harmless;

/// All bodies, with what they are, the mode that they were made in, and their language.
const BODIES: [&str; 4] = [
    "SELECT LOWER(routine_type), routine_schema, routine_name, routine_definition, sql_mode, \
            COALESCE(external_language, 'SQL') \
     FROM information_schema.routines WHERE routine_schema <> 'sys'",
    "SELECT 'trigger', trigger_schema, trigger_name, action_statement, sql_mode, 'SQL' \
     FROM information_schema.triggers WHERE trigger_schema <> 'sys'",
    "SELECT 'event', event_schema, event_name, event_definition, sql_mode, 'SQL' \
     FROM information_schema.events WHERE event_schema <> 'sys'",
    "SELECT 'library', library_schema, library_name, library_definition, sql_mode, language \
     FROM information_schema.libraries WHERE library_schema <> 'sys'",
];
/// "Unknown table": only MySQL has libraries, since 9.2.
const UNKNOWN_TABLE: u16 = 1109;

/// Looks for one.
///
/// # Errors
/// Those of the session; the inner one names the body.
pub fn check(session: &mut Session, flavor: Flavor) -> Result<Result<()>, Trouble> {
    for bodies in BODIES {
        let found = match session.query(bodies) {
            Err(Trouble::Server { errno: UNKNOWN_TABLE, .. }) => continue,
            found => found?,
        };
        for row in found.iter() {
            let (kind, body, sql) = (row[0], row[3], row[5].eq_ignore_ascii_case("SQL"));
            let escapes = !row[4].contains("NO_BACKSLASH_ESCAPES");
            let why = if sql && ends_in_comment(body, escapes) {
                "it ends with a comment, and the client writes on in that line: end it by a line \
                 break and a semicolon, or by /* */"
            } else if flavor == Flavor::MySql && mend::mistakes(body) {
                "it has the end of a definition in a dump in its text: write that otherwise"
            } else {
                continue;
            };
            return Ok(Err(Error::config(format!(
                "a dump would change the {kind} {}.{}: {why} on the primary, or copy the data directory \
                 (--from dir:PATH, or clone on MySQL)",
                harmless(row[1]),
                harmless(row[2])
            ))));
        }
    }
    Ok(Ok(()))
}

/// True if what is written behind the statement would be in a comment.
fn ends_in_comment(body: &str, escapes: bool) -> bool {
    let text = body.as_bytes();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let line =
            rest[0] == b'#' || (rest.starts_with(b"--") && rest.get(2).is_none_or(|b| *b <= b' '));
        at += if line {
            match rest.iter().position(|b| *b == b'\n') {
                Some(end) => end + 1,
                None => return true,
            }
        } else if rest.starts_with(b"/*!") || rest.starts_with(b"/*M!") {
            // What is in it is run.
            3
        } else if rest.starts_with(b"/*") {
            let end = rest[2..].windows(2).position(|two| two == b"*/");
            end.map_or(rest.len(), |end| end + 4)
        } else if let quote @ (b'\'' | b'"' | b'`') = rest[0] {
            // A doubled quote ends it and begins another one, which comes to the same.
            let mut end = 1;
            while end < rest.len() && rest[end] != quote {
                end += if escapes && quote != b'`' && rest[end] == b'\\' { 2 } else { 1 };
            }
            end + 1
        } else {
            1
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_comment_to_the_end_counts() {
        for body in [
            "x -- a",
            "x # a",
            "x --",
            "/* a */ x # b",
            "x /*! -- a",
            "'\\\\' -- it's",
            "\"'\" # '",
        ] {
            assert!(ends_in_comment(body, true), "{body}");
        }
        for body in [
            "",
            "x -- a\n",
            "x # a\ny",
            "x /* # a */",
            "'# a'",
            "'it''s # '",
            "'\\' # '",
            "1--2",
            "`#`",
            "/*",
        ] {
            assert!(!ends_in_comment(body, true), "{body}");
        }
        assert!(ends_in_comment("'\\' # '", false));
    }
}
