//! The private mysqld's log: its length is limited, its last error lines are quoted without
//! statements, and it shows which resource the server lacks.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::os::files;

/// A longer log is emptied: a server on a full disk writes hundreds of lines per second.
pub const MAX_LENGTH: u64 = 16 << 20;
/// The same where space is scarce.
pub const MAX_LENGTH_LOW_SPACE: u64 = 1 << 20;
/// How much of its end is read for quotes.
const TAIL: u64 = 64 << 10;
/// How many lines are quoted, and how many characters of each.
const LINES: usize = 3;
const LINE_CHARS: usize = 200;
/// The same for an error of a worker: its transaction comes before the reason.
const WORKER_CHARS: usize = 400;
/// `ER_SLAVE_WORKER_STOPPED_PREVIOUS_THD_ERROR`: MySQL's number for a worker that ended because
/// another one had failed.
pub const STOPPED_BY_ANOTHER: u16 = 3030;

/// A resource that the system refused to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// `ENOMEM`.
    Memory,
    /// `ENOSPC` or `EDQUOT`.
    Space,
    /// `EFBIG`: a file size limit of the process or the file system.
    FileSize,
}

/// What one server wrote since it was started.
pub struct LogTail {
    path: PathBuf,
    from: u64,
    /// Shortages count from here on: a running server has survived those of its start.
    mark: u64,
    /// The last errors of a log that was emptied.
    before: String,
}

impl LogTail {
    /// What will be appended from now on.
    pub fn from_end(path: &Path) -> LogTail {
        let from = fs::metadata(path).map_or(0, |m| m.len());
        LogTail { path: path.to_path_buf(), from, mark: from, before: String::new() }
    }

    /// The size of the file.
    pub fn written(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |m| m.len())
    }

    /// Empties it if it is longer than `longest`. The server appends, so it continues at the new
    /// end.
    pub fn truncate_beyond(&mut self, longest: u64) {
        if self.written() > longest {
            let said = quote(&self.tail(self.from));
            let emptied = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&self.path)
                .and_then(|f| f.set_len(0));
            if emptied.is_ok() {
                (self.from, self.mark) = (0, 0);
                if !said.is_empty() {
                    self.before = said;
                }
            }
        }
    }

    /// The last error lines joined, without times and statements; empty if there are none.
    pub fn last_errors(&self) -> String {
        let now = quote(&self.tail(self.from));
        if now.is_empty() { self.before.clone() } else { now }
    }

    /// Marks the server as up: it has survived any shortage so far.
    pub fn mark(&mut self) {
        self.mark = self.written();
    }

    /// The resource it reports as lacking since it was up, or else since its start.
    pub fn shortage(&self) -> Option<(Shortage, String)> {
        shortage(&self.tail(self.mark))
    }

    /// The lack of space or of a file's length that it has reported, also during its start.
    pub fn shortage_of_space(&self) -> Option<Shortage> {
        last_shortage(&self.tail(self.from), |what| what != Shortage::Memory).map(|(what, _)| what)
    }

    /// The number and text of the last error that a worker of MySQL's applier logged.
    pub fn worker_error(&self) -> Option<(u16, String)> {
        worker_error(&self.tail(self.from))
    }

    /// True if it reports that it was refused files.
    pub fn lacks_files(&self) -> bool {
        lacks_files(&self.tail(self.from))
    }

    /// What it wrote since it was started, at most the last 64 KiB.
    pub fn text(&self) -> String {
        self.tail(self.from)
    }

    fn tail(&self, from: u64) -> String {
        let mut tail = Vec::new();
        let start = from.max(self.written().saturating_sub(TAIL));
        if let Ok(mut file) = files::open_no_link(&self.path)
            && file.seek(SeekFrom::Start(start)).is_ok()
        {
            let _ = file.take(TAIL).read_to_end(&mut tail);
        }
        String::from_utf8_lossy(&tail).into_owned()
    }
}

/// The first and the last error lines of a server's log, joined. The first names what failed, the
/// last its consequences.
pub fn quote(log: &str) -> String {
    let errors: Vec<String> = log.lines().filter_map(error_line).collect();
    let mut distinct: Vec<&String> = Vec::new();
    for line in errors.iter().rev() {
        if !distinct.contains(&line) {
            distinct.push(line);
        }
    }
    distinct.reverse();
    if distinct.len() > LINES {
        distinct.drain(1..distinct.len() - (LINES - 1));
    }
    distinct.into_iter().map(String::as_str).collect::<Vec<_>>().join(" | ")
}

/// The text of an error line: what follows `[ERROR]` and MySQL's further brackets, or the line of a
/// crash handler (`mysqld got signal 11 ;`).
fn error_line(line: &str) -> Option<String> {
    let mut text = match line.split_once("[ERROR]") {
        Some((_, text)) => text.trim(),
        None if line.contains(" got signal ") => line.trim(),
        None => return None,
    };
    text = without_brackets(text);
    if text == "Aborting" {
        return None;
    }
    let text = without_statement(text);
    Some(text.chars().take(LINE_CHARS).collect())
}

/// The text of a line without MySQL's leading `[MY-010095] [Server]`.
fn without_brackets(mut text: &str) -> &str {
    while let Some((_, rest)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        text = rest.trim();
    }
    text
}

/// The resource that the last line about one reports as lacking, and that line. Servers print the
/// system's error number in several ways; some lines have only words.
pub fn shortage(log: &str) -> Option<(Shortage, String)> {
    last_shortage(log, |_| true)
}

fn last_shortage(log: &str, wanted: impl Fn(Shortage) -> bool) -> Option<(Shortage, String)> {
    let words = [
        ("Out of memory", Shortage::Memory),
        ("Cannot allocate memory", Shortage::Memory),
        // MySQL 9.7, before it exits with status 2.
        ("Unable to allocate memory", Shortage::Memory),
        ("Cannot map innodb_buffer_pool", Shortage::Memory),
        ("std::bad_alloc", Shortage::Memory),
        // A thread whose stack could not be allocated.
        ("std::system_error", Shortage::Memory),
        ("No space left on device", Shortage::Space),
        ("Disk quota exceeded", Shortage::Space),
        ("File too large", Shortage::FileSize),
    ];
    let by_number = |errno: &str| match errno {
        "12" => Some(Shortage::Memory),
        "28" | "122" => Some(Shortage::Space),
        "27" => Some(Shortage::FileSize),
        _ => None,
    };
    log.lines().rev().find_map(|line| {
        let text = ["[ERROR]", "[Warning]"].iter().find_map(|m| Some(line.split_once(m)?.1));
        let text = match text {
            Some(text) => without_statement(text),
            None if line.starts_with("terminate called") => line.into(),
            None => return None,
        };
        let said = words.iter().find(|(word, _)| text.contains(word)).map(|(_, what)| *what);
        let said = said.or_else(|| {
            let marks = ["Errcode: ", "errno: ", "errno ", "errno= ", "error number ", "error "];
            marks.iter().find_map(|mark| {
                let (_, rest) = text.split_once(mark)?;
                by_number(rest.split(|c: char| !c.is_ascii_digit()).next()?)
            })
        });
        let text = without_brackets(&text);
        said.filter(|what| wanted(*what))
            .map(|what| (what, text.chars().take(LINE_CHARS).collect()))
    })
}

/// Only the server's own words count: statements, which are quoted as well, may hold any.
fn lacks_files(log: &str) -> bool {
    let text = |line: &str| {
        let marks = ["[ERROR]", "[Warning]"];
        marks.iter().find_map(|mark| Some(without_statement(line.split_once(mark)?.1)))
    };
    log.lines().filter_map(text).any(|text| text.contains("Too many open files"))
}

/// `[MY-010584] ... Worker 1 failed executing transaction '...' ...; ..., Error_code: 1062; ...`
fn worker_error(log: &str) -> Option<(u16, String)> {
    log.lines().rev().find_map(|line| {
        let (_, text) = line.split_once("[MY-010584]")?;
        let at = text.find("Worker ")?;
        let (_, rest) = text.split_once("Error_code: ")?;
        let digits: String =
            rest.trim_start_matches("MY-").chars().take_while(char::is_ascii_digit).collect();
        let number = digits.parse().ok().filter(|n| *n != STOPPED_BY_ANOTHER)?;
        Some((number, without_statement(&text[at..]).chars().take(WORKER_CHARS).collect()))
    })
}

/// A server's error text up to where it quotes the statement, which may contain a password.
/// MariaDB: `Error '...' on query. Default database: ... Query: '...'`; a syntax error quotes after
/// `near`; MySQL: `Query:`.
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
    fn a_shortage_is_told_by_the_last_line_about_one() {
        let of = |log: &str| shortage(log).map(|(what, _)| what);
        let line = |text: &str| of(&format!("2026-11-22 21:15:37 0 {text}\nVersion: 1\n"));
        for text in [
            "[ERROR] mariadbd: Out of memory (Needed 128180224 bytes)",
            "[ERROR] InnoDB: Cannot map innodb_buffer_pool_size_max=704m",
            "[ERROR] [MY-012956] [InnoDB] Cannot allocate memory for the buffer pool",
            "[ERROR] [MY-013183] [InnoDB] Some (1) threads are still activeUnable to allocate memory \
             of size 16488.",
            "[ERROR] Can't create thread to handle new connection(errno= 12)",
        ] {
            assert_eq!(line(text), Some(Shortage::Memory), "{text}");
        }
        for text in [
            "[Warning] mariadbd: Disk is full writing './relay.000002' (Errcode: 28 \"No space left \
             on device\"). Waiting for someone to free space...",
            "[ERROR] InnoDB: preallocating 65536 bytes for file ./ibdata1 failed with error 28",
            "[ERROR] [MY-012639] [InnoDB] Operating system error number 28.",
        ] {
            assert_eq!(line(text), Some(Shortage::Space), "{text}");
        }
        for text in [
            "[Note] Out of memory",
            "[ERROR] InnoDB: Operating system error number 281.",
            "[ERROR] Slave SQL: Error 'x' on query. Query: 'insert into t values (\"Out of memory\")'",
        ] {
            assert_eq!(line(text), None, "{text}");
        }
        let crash = "terminate called after throwing an instance of 'std::bad_alloc'\n";
        assert_eq!(of(crash), Some(Shortage::Memory));
        let both = "[ERROR] Out of memory\n[ERROR] InnoDB: error 28\n";
        assert_eq!(shortage(both), Some((Shortage::Space, "InnoDB: error 28".into())));
        let memory_last = "[ERROR] InnoDB: error 28\n[ERROR] Out of memory\n";
        let space = last_shortage(memory_last, |what| what != Shortage::Memory);
        assert_eq!(space, Some((Shortage::Space, "InnoDB: error 28".into())));
    }

    #[test]
    fn a_lack_of_files_is_in_the_servers_words() {
        assert!(lacks_files("1 [ERROR] InnoDB: Error number 24 means 'Too many open files'\n"));
        for line in [
            "1 [ERROR] Slave SQL: Error 'x' on query. Query: 'insert \"Too many open files\"'",
            "1 [Note] Too many open files",
        ] {
            assert!(!lacks_files(line), "{line}");
        }
    }

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
        let many: String = (1..=9).map(|n| format!("x [ERROR] e{n}\n")).collect();
        assert_eq!(quote(&many), "e1 | e8 | e9");
        let line = "2026-11-22T21:58:10.6Z 12 [ERROR] [MY-010584] [Repl] Replica SQL for channel '': \
                    Worker 1 failed executing transaction 'x:10' at source log b.000001, end_log_pos \
                    9; Could not execute Write_rows, Error_code: 1062; handler error";
        let other = line.replace("Worker 1", "Worker 2").replace("1062", "MY-003030");
        let (errno, text) = worker_error(&format!("{log}{line}\n{log}{other}\n")).unwrap();
        assert_eq!(errno, 1062);
        assert!(text.starts_with("Worker 1 failed"), "{text}");
        assert_eq!(worker_error(&other), None);
        assert_eq!(worker_error(log), None);
        assert_eq!(
            quote("261122 18:11:00 [ERROR] mariadbd got signal 11 ;"),
            "mariadbd got signal 11 ;"
        );
    }
}
