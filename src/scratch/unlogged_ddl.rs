//! Finds definitions that changed so shortly before mysqld was killed that the position may miss
//! them.
//!
//! Rows and position share a log and roll back together. Tables, views and triggers have files of
//! their own, and accounts and routines are in Aria tables: these keep their changes, and the
//! statements that made them are applied again. Most of those then fail, and the error leads to a
//! fresh restore. But an unnamed key is silently added twice, and two swapped names are silently
//! swapped back. So: if something of this kind changed just before the kill, the data is unusable
//! if such a statement is among those that the killed mysqld had received beyond its position.

use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::os::files;

/// The time from a file change to its position in the log and on disk; mysqld writes its log once
/// per second.
const MARGIN: Duration = Duration::from_secs(10);
/// The first bytes of a relay log.
const MAGIC: &[u8; 4] = b"\xfebin";
/// The common header of its events.
const HEADER: usize = 19;
/// The event that starts a transaction, and three of its flags.
const GTID: u8 = 162;
const STANDALONE: u8 = 1;
const TRANSACTIONAL: u8 = 4;
const DDL: u8 = 32;

/// What is in doubt until the position is known.
pub struct Doubt {
    what: PathBuf,
    /// The first transaction still in the relay logs, unless that is the very first one.
    first: Option<Position>,
    /// Those that do more than change rows.
    statements: Vec<Position>,
}

impl Doubt {
    /// Inspects the data and relay logs of a killed mysqld that replicated since `since`. Earlier
    /// changes did not come from the primary.
    pub(super) fn look(data: &Path, since: SystemTime) -> io::Result<Option<Doubt>> {
        let Some(what) = changed_lately(data, since)? else { return Ok(None) };
        let mut logs = Vec::new();
        for entry in fs::read_dir(data)? {
            let entry = entry?;
            let path = entry.path();
            let number = path.extension().and_then(|e| e.to_str()).and_then(|e| e.parse().ok());
            if path.file_stem().is_some_and(|s| s == "relay")
                && let Some(number) = number
                // One that was emptied for lack of room counts as removed.
                && entry.metadata()?.len() > 0
            {
                logs.push((number, path));
            }
        }
        logs.sort();
        let mut doubt = Doubt { what, first: None, statements: Vec::new() };
        // The first log contains nothing but its own header.
        let purged = logs.first().is_none_or(|(number, _): &(u32, _)| *number > 2);
        for (_, path) in logs {
            doubt.read(BufReader::new(files::open_no_link(&path)?), purged)?;
        }
        // No log at all does not prove that nothing was received.
        if purged && doubt.first.is_none() {
            doubt.first = Position::parse(Flavor::MariaDb, "").ok();
        }
        Ok(Some(doubt))
    }

    fn read(&mut self, mut log: impl Read, purged: bool) -> io::Result<()> {
        let mut magic = [0; MAGIC.len()];
        if !fill(&mut log, &mut magic)? || magic != *MAGIC {
            return Ok(());
        }
        let mut header = [0; HEADER];
        // The last event may be incomplete.
        while fill(&mut log, &mut header)? {
            let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
            let (server, length) = (number(5), number(9) as usize);
            let mut left = length.saturating_sub(HEADER) as u64;
            let mut body = [0; 13];
            if header[4] == GTID && left >= body.len() as u64 {
                if !fill(&mut log, &mut body)? {
                    break;
                }
                left -= body.len() as u64;
                let sequence = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| body[i]));
                let domain = u32::from_le_bytes([8, 9, 10, 11].map(|i| body[i]));
                let text = format!("{domain}-{server}-{sequence}");
                let at = Position::parse(Flavor::MariaDb, &text).map_err(io::Error::other)?;
                if purged && self.first.is_none() {
                    self.first = Some(at.clone());
                }
                if body[12] & (STANDALONE | DDL) != 0 || body[12] & TRANSACTIONAL == 0 {
                    self.statements.push(at);
                }
            }
            io::copy(&mut (&mut log).take(left), &mut io::sink())?;
        }
        Ok(())
    }

    /// Why data at position `at` cannot be trusted; `None` if it can.
    pub fn about(&self, at: &Position) -> Option<String> {
        let missing = |p: &Position| p.is_empty() || !at.contains(p);
        let gap = self.first.as_ref().is_some_and(missing);
        let doubtful = gap || self.statements.iter().any(missing);
        doubtful.then(|| {
            format!(
                "definitions in {} were changed just before the end of its mysqld, which did not shut \
                 down, and may not be those of {at}",
                self.what.display()
            )
        })
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// The first item that changed when the log may have missed it.
fn changed_lately(data: &Path, since: SystemTime) -> io::Result<Option<PathBuf>> {
    let logged = fs::metadata(data.join("ib_logfile0"))?.modified()?;
    let from = since.max(logged.checked_sub(MARGIN).unwrap_or(since));
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // A definition that is created, dropped, renamed or replaced changes its directory.
        let tells =
            if meta.is_dir() { !name.starts_with('#') } else { name.starts_with("aria_log.") };
        if tells && meta.modified()? >= from {
            return Ok(Some(PathBuf::from(name.as_ref())));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> Position {
        Position::parse(Flavor::MariaDb, text).unwrap()
    }

    #[test]
    fn only_changes_after_the_end_of_the_log_are_doubtful() {
        let data = std::env::temp_dir().join(format!("rf-unit-doubt-{}", std::process::id()));
        fs::create_dir_all(data.join("shop")).unwrap();
        fs::create_dir_all(data.join("#innodb_redo")).unwrap();
        let now = SystemTime::now();
        let touch = |name: &str, ago: u64| {
            let path = data.join(name);
            let file = if path.is_dir() { fs::File::open(&path) } else { fs::File::create(&path) };
            file.unwrap().set_modified(now - Duration::from_secs(ago)).unwrap();
        };
        let look = |since: u64| changed_lately(&data, now - Duration::from_secs(since)).unwrap();
        touch("ib_logfile0", 100);
        touch("aria_log.00000001", 500);
        touch("shop", 300);
        touch("#innodb_redo", 0);
        assert_eq!(look(600), None);
        touch("shop", 105);
        assert_eq!(look(600), Some(PathBuf::from("shop")));
        assert_eq!(look(104), None, "that was the restore");
        touch("shop", 300);
        touch("aria_log.00000001", 90);
        assert_eq!(look(600), Some(PathBuf::from("aria_log.00000001")));
        // There is no relay log to show what was received.
        let doubt = Doubt::look(&data, now - Duration::from_secs(600)).unwrap().unwrap();
        assert!(doubt.about(&position("0-1-5")).unwrap().contains("aria_log.00000001"));
        fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn a_statement_past_the_position_is_found_in_relay_logs() {
        let event = |kind: u8, body: &[u8]| {
            let mut event = vec![0; HEADER];
            event[4] = kind;
            event[5] = 9;
            event[9] = (HEADER + body.len()) as u8;
            [event, body.to_vec()].concat()
        };
        let gtid = |sequence: u8, flags: u8| {
            event(GTID, &[sequence, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, flags, 0, 0, 0, 0, 0, 0])
        };
        let mut log = MAGIC.to_vec();
        log.extend(event(15, &[7; 30]));
        for (sequence, flags) in [(5, TRANSACTIONAL), (6, STANDALONE | DDL), (7, TRANSACTIONAL)] {
            log.extend(gtid(sequence, flags));
            log.extend(event(2, &[GTID; 40]));
        }
        // Truncated in the middle of an event.
        log.extend(&gtid(8, DDL)[..25]);
        let read = |purged| {
            let mut doubt = Doubt { what: "shop".into(), first: None, statements: Vec::new() };
            doubt.read(log.as_slice(), purged).unwrap();
            doubt
        };
        assert_eq!(read(false).statements, [position("3-9-6")]);
        assert!(read(false).about(&position("3-9-5")).unwrap().contains("3-9-5"));
        assert!(read(false).about(&position("0-1-100")).is_some());
        assert_eq!(read(false).about(&position("3-9-6")), None);
        // Earlier ones are no longer there, and may not be in the data.
        assert!(read(true).about(&position("3-9-4")).is_some());
        assert_eq!(read(true).about(&position("3-9-7")), None);
    }
}
