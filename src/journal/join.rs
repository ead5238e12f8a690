//! Joins what several receivers got into one journal: every transaction from one position to another, in
//! order and once, or nothing.
//!
//! A segment is what one receiver got from a position on. The next one begins where the applier was
//! when its server was killed or pointed elsewhere, so a segment counts up to there. A segment that
//! begins at the base makes all before it useless: the base was restored again.

use std::path::PathBuf;

use crate::journal::group::{Group, Transaction};
use crate::journal::scan::{End, scan};
use crate::mysql::position::Position;
use crate::os::clock::Micros;
use crate::os::files;
use crate::text::{count, system_text};

/// The logs that one receiver got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The position before the first transaction in them.
    pub from: Position,
    /// In order.
    pub logs: Vec<PathBuf>,
}

/// A log of a journal, or its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The log.
    pub path: PathBuf,
    /// So many bytes of it count.
    pub length: u64,
    /// The position before the first transaction that ends in it.
    pub from: Position,
    /// The position after the last one.
    pub to: Position,
    /// The earliest and the latest time of these transactions, if there are any.
    pub times: Option<(Micros, Micros)>,
}

/// The logs in `segments` that lead from `base` to `goal`, until `stopped` says so.
///
/// # Errors
/// Says why there is no such journal.
pub fn join(
    segments: &[Segment],
    base: &Position,
    goal: &Position,
    stopped: &dyn Fn() -> bool,
) -> Result<Vec<Part>, String> {
    let first = segments.iter().rposition(|segment| segment.from == *base);
    let Some(first) = first else {
        if base == goal {
            return Ok(Vec::new());
        }
        return Err(match segments.first() {
            Some(segment) => format!("what was received begins at {}", segment.from),
            None => "nothing of it was kept".into(),
        });
    };
    let segments = &segments[first..];
    let ends = segments.iter().skip(1).map(|next| &next.from).chain([goal]);
    let mut parts = Vec::new();
    for (segment, end) in segments.iter().zip(ends) {
        parts.extend(segment.up_to(end, stopped)?);
    }
    Ok(parts)
}

impl Segment {
    /// The logs up to the position `end`.
    fn up_to(&self, end: &Position, stopped: &dyn Fn() -> bool) -> Result<Vec<Part>, String> {
        let mut walk = Walk::new(&self.from, end)?;
        let mut parts: Vec<Part> = Vec::new();
        let mut group = Group::default();
        for (number, path) in self.logs.iter().enumerate() {
            if walk.arrived {
                break;
            }
            if stopped() {
                return Err("the pass was stopped".into());
            }
            let name = path.file_name().unwrap_or_default().display();
            let fail = |e| format!("{name} cannot be read: {}", system_text(&e));
            let log = files::open_no_link(path).map_err(fail)?;
            let mut length = log.metadata().map_err(fail)?.len();
            let from = walk.at.clone();
            walk.times = None;
            let mut take = |transaction: Transaction| {
                let goes_on = walk.take(&transaction);
                if !goes_on {
                    length = transaction.end.offset;
                }
                goes_on && !stopped()
            };
            let ended = scan(number, &log, &mut group, &mut take).map_err(fail)?;
            if let (false, End::Torn { at, why }) = (walk.arrived, ended) {
                let at_last = &walk.at;
                return Err(format!("{name} ends at byte {at}, at {at_last}: {why}"));
            }
            let (path, to) = (path.clone(), walk.at.clone());
            parts.push(Part { path, length, from, to, times: walk.times });
            for torn in group.torn.drain(..) {
                if torn.log == number {
                    return Err(format!("{name} has a transaction that breaks off within it"));
                }
                // An applier that does not ask for positions by itself would wait for the rest of it.
                parts[torn.log].length = torn.offset;
                parts[torn.log + 1..number].iter_mut().for_each(|part| part.length = 0);
            }
        }
        parts.retain(|part| part.length > 0);
        match walk.arrived {
            true => Ok(parts),
            false => Err(format!(
                "{} from {} on do not lead to {end}, but to {}",
                count(self.logs.len(), "log"),
                self.from,
                walk.at
            )),
        }
    }
}

/// The way along a log to a position.
struct Walk<'a> {
    at: Position,
    end: &'a Position,
    arrived: bool,
    /// Transactions of MySQL that are still to come.
    missing: u64,
    times: Option<(Micros, Micros)>,
}

impl<'a> Walk<'a> {
    fn new(from: &Position, end: &'a Position) -> Result<Walk<'a>, String> {
        let missing = match end {
            Position::MySql(_) if !end.contains(from) => {
                return Err(format!("{end} does not contain {from}"));
            }
            Position::MySql(_) => from.distance_to(end),
            Position::MariaDb(_) => 0,
        };
        let (at, arrived) = (from.clone(), from == end);
        Ok(Walk { at, end, arrived, missing, times: None })
    }

    /// Takes one more. False once it has arrived, or cannot arrive any more.
    fn take(&mut self, transaction: &Transaction) -> bool {
        let is_new = self.at.add(&transaction.gtid);
        let time = transaction.time;
        let (first, last) = self.times.unwrap_or((time, time));
        self.times = Some((first.min(time), last.max(time)));
        match self.end {
            Position::MariaDb(_) => self.arrived = self.at == *self.end,
            // To compare sets of many runs at each transaction would take long.
            Position::MySql(_) if is_new => {
                if !self.end.has(&transaction.gtid) {
                    return false;
                }
                self.missing = self.missing.saturating_sub(1);
                self.arrived = self.missing == 0;
            }
            Position::MySql(_) => {}
        }
        !self.arrived
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::event::{CHECKSUM, HEADER};
    use crate::journal::scan::tests::{begin, transaction};
    use crate::mysql::flavor::Flavor;
    use std::fs;
    use std::path::Path;

    fn position(text: &str) -> Position {
        Position::parse(Flavor::MariaDb, text).unwrap()
    }

    /// A directory of logs, each with transactions `(domain, sequence)`, the last one cut off by some
    /// bytes.
    struct Logs(PathBuf);

    impl Logs {
        fn new(name: &str) -> Logs {
            let dir = std::env::temp_dir().join(format!("rf-join-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            Logs(dir)
        }

        fn add(&self, name: &str, transactions: &[(u32, u64)], less: usize) -> PathBuf {
            let mut log = begin();
            for (domain, sequence) in transactions {
                log.extend(transaction(*domain, *sequence, 20));
            }
            log.truncate(log.len() - less);
            fs::write(self.0.join(name), log).unwrap();
            self.0.join(name)
        }
    }

    impl Drop for Logs {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn joined(segments: &[Segment], base: &str, goal: &str) -> Result<Vec<Part>, String> {
        join(segments, &position(base), &position(goal), &|| false)
    }

    /// The transactions in the parts, read as one sequence of logs.
    fn all(parts: &[Part]) -> Vec<String> {
        let (mut group, mut found) = (Group::default(), Vec::new());
        for (number, part) in parts.iter().enumerate() {
            let log = fs::read(&part.path).unwrap();
            let end = scan(number, &log[..part.length as usize], &mut group, &mut |t| {
                found.push(t.gtid.to_string());
                true
            });
            assert_eq!(end.unwrap(), End::Whole);
        }
        for pair in parts.windows(2) {
            assert_eq!(pair[0].to, pair[1].from);
        }
        found
    }

    #[test]
    fn segments_are_joined_where_the_next_one_begins() {
        let logs = Logs::new("segments");
        let one = Segment {
            from: position("0-1-1"),
            logs: vec![logs.add("a", &[(0, 2), (0, 3)], 0), logs.add("b", &[(0, 4), (0, 5)], 9)],
        };
        let two = Segment { from: position("0-1-3"), logs: vec![logs.add("c", &[(0, 4)], 5)] };
        let three = Segment {
            from: position("0-1-3"),
            logs: vec![logs.add("d", &[(0, 4), (5, 1), (0, 5), (0, 6)], 3)],
        };
        let segments = [one.clone(), two, three];
        let parts = joined(&segments, "0-1-1", "0-1-5,5-1-1").unwrap();
        assert_eq!(all(&parts), ["0-1-2", "0-1-3", "0-1-4", "5-1-1", "0-1-5"]);
        let whole = fs::metadata(logs.0.join("a")).unwrap().len();
        assert_eq!(parts[0].length, whole);
        // Up to the goal, which may be before the end, and not beyond what is whole.
        assert_eq!(all(&joined(&segments, "0-1-1", "0-1-4").unwrap()).len(), 3);
        assert!(joined(&segments, "0-1-1", "0-1-6,5-1-1").unwrap_err().contains("cut short"));
        assert!(joined(&segments, "0-1-1", "0-1-9").is_err());
        assert!(joined(&[one], "0-1-1", "0-1-5").unwrap_err().contains("at 0-1-4"));
    }

    #[test]
    fn what_breaks_off_and_comes_again_is_in_once() {
        let logs = Logs::new("torn");
        // The end of the transaction is its last event.
        let end = HEADER + 8 + CHECKSUM;
        let (a, b) = (logs.add("a", &[(0, 2), (0, 3)], end), logs.add("b", &[(0, 3), (0, 4)], 0));
        let segment = |logs| Segment { from: position("0-1-1"), logs };
        let parts = joined(&[segment(vec![a.clone(), b.clone()])], "0-1-1", "0-1-4").unwrap();
        assert_eq!(all(&parts), ["0-1-2", "0-1-3", "0-1-4"]);
        assert_eq!(parts[0].length, (begin().len() + transaction(0, 2, 20).len()) as u64);
        // Nothing but the beginning of it is in the first log.
        let c = logs.add("c", &[(0, 2)], end);
        let d = logs.add("d", &[(0, 2)], 0);
        assert_eq!(all(&joined(&[segment(vec![c, d])], "0-1-1", "0-1-2").unwrap()), ["0-1-2"]);
        let mut both = fs::read(&a).unwrap();
        both.extend(transaction(0, 3, 20));
        fs::write(&a, both).unwrap();
        let said = joined(&[segment(vec![a])], "0-1-1", "0-1-3").unwrap_err();
        assert!(said.contains("breaks off"), "{said}");
    }

    #[test]
    fn a_base_restored_again_makes_a_new_beginning() {
        let logs = Logs::new("again");
        let torn = Segment { from: position("0-1-1"), logs: vec![logs.add("a", &[(0, 2)], 1)] };
        let again = Segment { from: position("0-1-1"), logs: vec![logs.add("b", &[(0, 2)], 0)] };
        let parts = joined(&[torn, again], "0-1-1", "0-1-2").unwrap();
        assert_eq!(parts.iter().map(|p| &p.path).collect::<Vec<_>>(), [&logs.0.join("b")]);
    }

    #[test]
    fn a_gap_is_told_and_never_passed_over() {
        let logs = Logs::new("gap");
        let log = logs.add("a", &[(0, 3)], 0);
        let late = Segment { from: position("0-1-2"), logs: vec![log.clone()] };
        assert!(joined(&[late], "0-1-1", "0-1-3").unwrap_err().contains("begins at 0-1-2"));
        let early = Segment { from: position("0-1-1"), logs: Vec::new() };
        let next = Segment { from: position("0-1-2"), logs: vec![log] };
        assert!(joined(&[early, next], "0-1-1", "0-1-3").is_err());
        assert!(joined(&[], "0-1-1", "0-1-3").unwrap_err().contains("nothing"));
        assert_eq!(joined(&[], "0-1-1", "0-1-1"), Ok(Vec::new()));
        let missing = vec![Path::new("/nonexistent/log").to_path_buf()];
        let gone = Segment { from: position("0-1-1"), logs: missing };
        assert!(joined(&[gone], "0-1-1", "0-1-2").unwrap_err().contains("cannot be read"));
    }
}
