//! The log of the private mysqld: kept short, and its last error lines quoted without statements.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longer than this, it is emptied: a server on a full disk writes hundreds of lines a second.
const LONGEST: u64 = 16 << 20;
/// How much of its end is read for quotes.
const TAIL: u64 = 64 << 10;
/// How many lines are quoted, and how much of each.
const LINES: usize = 3;
const LINE_CHARS: usize = 200;

/// What one server wrote since it was started.
pub struct LogTail {
    path: PathBuf,
    from: u64,
}

impl LogTail {
    /// What will be written after what is there now.
    pub fn from_end(path: &Path) -> LogTail {
        let from = fs::metadata(path).map_or(0, |m| m.len());
        LogTail { path: path.to_path_buf(), from }
    }

    /// Bytes in the file.
    pub fn written(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |m| m.len())
    }

    /// Empties it when it is too long. The server appends, so it goes on at the new end.
    pub fn keep_short(&mut self) {
        if self.written() > LONGEST {
            let emptied = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&self.path)
                .and_then(|f| f.set_len(0));
            if emptied.is_ok() {
                self.from = 0;
            }
        }
    }

    /// The last error lines in one, without times and without statements; empty if none.
    pub fn last_errors(&self) -> String {
        quote(&self.tail())
    }

    /// The last error that a worker of MySQL's applier logged: its number and text.
    pub fn worker_error(&self) -> Option<(u16, String)> {
        worker_error(&self.tail())
    }

    fn tail(&self) -> String {
        let mut tail = Vec::new();
        let start = self.from.max(self.written().saturating_sub(TAIL));
        if let Ok(mut file) = fs::File::open(&self.path)
            && file.seek(SeekFrom::Start(start)).is_ok()
        {
            let _ = file.take(TAIL).read_to_end(&mut tail);
        }
        String::from_utf8_lossy(&tail).into_owned()
    }
}

/// The last error lines of a server's log, in one.
pub fn quote(log: &str) -> String {
    let errors: Vec<String> = log.lines().filter_map(error_line).collect();
    let mut distinct: Vec<&String> = Vec::new();
    for line in errors.iter().rev() {
        if !distinct.contains(&line) && distinct.len() < LINES {
            distinct.push(line);
        }
    }
    distinct.reverse();
    distinct.into_iter().map(String::as_str).collect::<Vec<_>>().join(" | ")
}

/// The text of an error line: after `[ERROR]`, without MySQL's further brackets, or the line of
/// a crash handler (`mysqld got signal 11 ;`).
fn error_line(line: &str) -> Option<String> {
    let mut text = match line.split_once("[ERROR]") {
        Some((_, text)) => text.trim(),
        None if line.contains(" got signal ") => line.trim(),
        None => return None,
    };
    while let Some((_, rest)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        text = rest.trim();
    }
    if text == "Aborting" {
        return None;
    }
    let text = without_statement(text);
    Some(text.chars().take(LINE_CHARS).collect())
}

/// `[MY-010584] ... Worker 1 failed executing transaction '...' ...; ..., Error_code: 1062; ...`
fn worker_error(log: &str) -> Option<(u16, String)> {
    let is_one = |l: &&str| l.contains("[MY-010584]") && l.contains(": Worker ");
    let line = log.lines().rfind(is_one)?;
    let (_, rest) = line.split_once("Error_code: ")?;
    let digits: String =
        rest.trim_start_matches("MY-").chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, error_line(line)?))
}

/// A server's error text up to where it begins to quote the statement, which may hold a
/// password. MariaDB: `Error '...' on query. Default database: ... Query: '...'`; a syntax
/// error quotes after `near`; MySQL's `Query:`.
pub fn without_statement(text: &str) -> String {
    let ends = [" on query", "Query:", " near '", "Statement:"];
    let end = ends.iter().filter_map(|e| text.find(e)).min().unwrap_or(text.len());
    text[..end]
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .trim()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_quoted_without_times_repeats_and_statements() {
        let log = "\
2026-11-22 18:10:13 0 [Note] InnoDB: started
2026-11-22 18:10:13 0 [ERROR] InnoDB: Unable to lock ./ibdata1 error: 11
2026-11-22 18:10:14 0 [ERROR] InnoDB: Unable to lock ./ibdata1 error: 11
2026-11-22 18:10:15 5 [ERROR] Slave SQL: Error 'Operation CREATE USER failed' on query. Default \
database: ''. Query: 'create user u identified by 'xYz-12345'', Internal MariaDB error code: 1396
2026-11-22T18:10:16.1Z 0 [ERROR] [MY-010095] [Server] Failed to access directory
2026-11-22 18:10:16 0 [ERROR] Aborting
";
        assert_eq!(
            quote(log),
            "InnoDB: Unable to lock ./ibdata1 error: 11 | Slave SQL: Error 'Operation CREATE USER \
             failed' | Failed to access directory"
        );
        assert_eq!(quote("nothing of note\n"), "");
        let line = "2026-11-22T21:58:10.6Z 12 [ERROR] [MY-010584] [Repl] Replica SQL for channel '': \
                    Worker 1 failed executing transaction 'x:10' at source log b.000001, end_log_pos \
                    9; Could not execute Write_rows, Error_code: 1062; handler error";
        let (errno, text) = worker_error(&format!("{log}{line}\n{log}")).unwrap();
        assert_eq!(errno, 1062);
        assert!(text.starts_with("Replica SQL for channel '': Worker 1 failed"), "{text}");
        assert_eq!(worker_error(log), None);
        assert_eq!(
            quote("261122 18:11:00 [ERROR] mariadbd got signal 11 ;"),
            "mariadbd got signal 11 ;"
        );
    }
}
