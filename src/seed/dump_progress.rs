//! How far a dump is: in bytes of the primary's tables, so that there is a total and a time left.
//!
//! A dump has no length before its end, and a row takes another number of bytes in it than in a
//! table. So a table that was left behind counts whole, and the one in work with the share of its
//! rows that were loaded. The dumping client tells on its standard error (`--verbose`) which
//! table it is at. Tables are weighed by what loading them costs, else the estimate is wrong by
//! much where a table of long rows comes before one of many indexes; and the time left follows
//! what those loaded so far have cost. It is said only where it is known to within a quarter.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::report::meter::SOON;
use crate::seed::course::{Course, rows_of};
use crate::seed::pace::{Guess, Made, Pace, plus};
use crate::seed::tables::{Table, Tables};

/// What both servers' clients say when they begin a table.
const BEGINS: &str = "-- Retrieving table structure for table ";

/// What loading a byte of rows, a row, a byte of a secondary index and a table cost, in bytes of
/// rows, and what a byte costs more that may be of any value: client and server look at each of
/// these. Measured on MariaDB 10.11: tables of long rows, of short ones, with indexes and of
/// random bytes took 0.025 s for a MB of rows, 2.9 s for a million rows, 0.05 s for a MB of indexes,
/// and 0.026 s more for a MB of random bytes: of one core, both servers and clients.
const COST: Made = [1.0, 100.0, 2.2, 300_000.0, 1.0];

/// What comes after the last table: views and routines of the server's own schemas.
const AFTER: Made = [0.0, 0.0, 0.0, 8.0, 0.0];

/// So many bytes of the dump lie in the pipe and with the loader: the table that the client tells
/// of is not the one that is loaded yet.
const ON_THE_WAY: f64 = 1_000_000.0;

/// A time left is said when it is wrong by so much at most, where the error is this many times
/// the one that is usual.
const QUARTER: f64 = 0.25;
const SURE: f64 = 1.5;

/// By so much a machine is faster or slower later on than it was.
const UNSTEADY: f64 = 0.05;

/// The end comes by so many seconds sooner or later: its last statements are like none before.
const END: f64 = 2.5;

/// What was done after so many seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    at: f64,
    rows: f64,
    bytes: f64,
}

/// What tells how far a dump is.
pub struct DumpProgress {
    /// What the client says, and up to where it was read.
    said: PathBuf,
    read: u64,
    /// Tables that the dump has not come to, last one first.
    waiting: Vec<(String, Table)>,
    /// What the tables left behind are made of, and all.
    left_behind: Made,
    all: Made,
    current: Option<(Table, Course)>,
    /// When the dump was begun, and what there was when the current table was.
    start: Instant,
    began: Seen,
    bytes: f64,
    /// What the tables left behind took.
    pace: Pace,
    /// Bytes of all tables.
    total: u64,
}

impl DumpProgress {
    /// Of a dump of `tables` that begins now, and whose client writes to `said`.
    pub fn new(tables: &Tables, said: PathBuf, now: Instant) -> DumpProgress {
        let name = |full: &str| full.split_once('.').map_or(full, |(_, n)| n).to_string();
        DumpProgress {
            said,
            read: 0,
            waiting: tables.iter().rev().map(|(t, facts)| (name(t), facts.clone())).collect(),
            left_behind: Made::default(),
            all: tables.values().map(made).fold(Made::default(), plus),
            current: None,
            start: now,
            began: Seen::default(),
            bytes: 0.0,
            pace: Pace::new(COST),
            total: tables.values().map(|t| t.bytes).sum(),
        }
    }

    /// Bytes done, of how many, and the time left where it is known; `rows` were loaded and
    /// `bytes` of the dump written in all, at `now`. The total is what the primary's statistics
    /// say, so it is an estimate.
    pub fn measure(
        &mut self,
        rows: Option<u64>,
        bytes: u64,
        now: Instant,
    ) -> (u64, u64, Option<Duration>) {
        let at = now.saturating_duration_since(self.start).as_secs_f64();
        // A client that has ended tells no more.
        self.bytes = self.bytes.max(bytes as f64);
        let seen = Seen { at, rows: rows.unwrap_or(0) as f64, bytes: self.bytes };
        let (mut ended, mut begun) = (Made::default(), false);
        for line in self.new_lines().lines() {
            let Some(name) = line.strip_prefix(BEGINS) else { continue };
            ended = self.current.take().map_or(ended, |(table, _)| plus(ended, made(&table)));
            self.current = self.take(name.trim_end_matches("...")).map(|table| {
                let course = Course::of(&table);
                (table, course)
            });
            begun = true;
        }
        if begun {
            self.left_behind = plus(self.left_behind, ended);
            self.pace.took(ended, seen.at - self.began.at);
            self.began = seen;
        }
        let mut done = self.left_behind;
        if let Some((table, course)) = &mut self.current {
            let loaded = (seen.rows - self.began.rows).max(0.0);
            course.at(seen.at - self.began.at, loaded, seen.bytes - self.began.bytes);
            done = plus(done, made(table).map(|n| n * course.share()));
        }
        let left = rows.and_then(|_| self.left(seen)).and_then(known);
        let part = cost(done) / cost(self.all).max(1.0);
        ((self.total as f64 * part.min(1.0)) as u64, self.total, left)
    }

    /// The time that is left. The table in work tells of the others as those left behind do.
    fn left(&self, seen: Seen) -> Option<Guess> {
        let mut now = Default::default();
        let mut left = Guess::default();
        if let Some((table, course)) = &self.current {
            let whole = self.pace.guess(now, [made(table)].into_iter());
            left = course.left(whole)?;
            // At first nothing but its beginning was seen.
            if course.share() > 0.0 {
                now = (made(table).map(|n| n * course.share()), seen.at - self.began.at);
            }
        }
        let waiting = self.waiting.iter().map(|(_, table)| made(table));
        let others = self.pace.guess(now, waiting.chain([AFTER]))?;
        // What was loaded of the current table is known, of those before only that it was sent.
        let before = (ON_THE_WAY - (seen.bytes - self.began.bytes)).clamp(0.0, self.began.bytes);
        let on_the_way = before / seen.bytes.max(1.0) * seen.at;
        let on_the_way = Guess { seconds: on_the_way, variance: on_the_way.powi(2) };
        Some(left.plus(others).plus(on_the_way))
    }

    /// The next table of that name: the client does not say of which schema, but goes through
    /// them in order.
    fn take(&mut self, name: &str) -> Option<Table> {
        let at = self.waiting.iter().rposition(|(waiting, _)| waiting == name)?;
        Some(self.waiting.remove(at).1)
    }

    /// Whole lines that were not read before.
    fn new_lines(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.said).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.take(1 << 20).read_to_end(&mut bytes)
        });
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if read.is_err() {
            return String::new();
        }
        self.read += whole as u64;
        String::from_utf8_lossy(&bytes[..whole]).into_owned()
    }
}

/// The time left, if it is known well enough to be said: to within a quarter, or as soon.
fn known(left: Guess) -> Option<Duration> {
    let usual = left.variance.sqrt().hypot(UNSTEADY * left.seconds);
    let error = SURE * usual;
    let soon = SOON.as_secs_f64();
    let is_soon = left.seconds < soon && left.seconds + error < 1.5 * soon;
    let is_known = left.seconds >= soon && SURE * usual.hypot(END) < QUARTER * left.seconds;
    (is_soon || is_known).then(|| Duration::try_from_secs_f64(left.seconds).ok()).flatten()
}

fn made(table: &Table) -> Made {
    let (rows, bytes) = (rows_of(table).0, table.bytes as f64);
    [bytes, rows, table.index_bytes as f64, 1.0, bytes * table.binary_percent as f64 / 100.0]
}

fn cost(made: Made) -> f64 {
    COST.iter().zip(made).map(|(cost, n)| cost * n).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_tables_count_whole_and_the_current_by_rows() {
        let table =
            |rows, bytes, index_bytes| Table { rows, bytes, index_bytes, ..Table::default() };
        // The first costs a quarter of the second; the third next to nothing.
        let tables = Tables::from([
            ("a.t".to_string(), table(4 << 20, 400 << 20, 0)),
            ("b.t".to_string(), table(16 << 20, 1600 << 20, 0)),
            ("c.empty".to_string(), table(0, 0, 0)),
        ]);
        let said = std::env::temp_dir().join(format!("rf-unit-dp-{}", std::process::id()));
        let mut text = "-- Connecting to db1...\n".to_string();
        std::fs::write(&said, &text).unwrap();
        let start = Instant::now();
        let mut progress = DumpProgress::new(&tables, said.clone(), start);
        let at = |progress: &mut DumpProgress, rows: Option<u64>, seconds| {
            let now = start + Duration::from_secs(seconds);
            let bytes = rows.unwrap_or(0) * 90;
            let (done, total, left) = progress.measure(rows, bytes, now);
            assert_eq!(total, 2000 << 20);
            ((done + (1 << 19)) >> 20, left.map(|l| l.as_secs_f64().round() as u64))
        };
        assert_eq!(at(&mut progress, Some(0), 0), (0, None));
        text += "-- Retrieving table structure for table t...\n-- Retrieving rows...\n";
        std::fs::write(&said, &text).unwrap();
        assert_eq!(at(&mut progress, Some(0), 1), (0, None));
        // One row more a page than they say.
        let (done, left) = at(&mut progress, Some((2 << 20) + 12_800), 21);
        assert_eq!(done, 200);
        assert!(left.is_none_or(|left| (170..195).contains(&left)), "{left:?}");
        assert_eq!(at(&mut progress, Some(40 << 20), 41).0, 400, "statistics may be old");
        text += "-- Retrieving table structure for table t...\n";
        std::fs::write(&said, &text).unwrap();
        assert_eq!(at(&mut progress, Some(40 << 20), 41).0, 400);
        for second in 1..=80 {
            at(&mut progress, Some((40 << 20) + second * 105_498), 41 + second);
        }
        let (done, left) = at(&mut progress, Some((48 << 20) + 51_200), 121);
        assert_eq!(done, 1200);
        assert!(left.is_some_and(|left| (76..90).contains(&left)), "{left:?}");
        assert_eq!(at(&mut progress, None, 122), (400, None));
        std::fs::remove_file(&said).unwrap();
    }

    #[test]
    fn what_is_not_known_within_a_quarter_is_not_said() {
        let known = |seconds, error: f64| known(Guess { seconds, variance: error * error });
        assert_eq!(known(40.0, 5.0), Some(Duration::from_secs(40)));
        assert_eq!(known(40.0, 8.0), None);
        assert_eq!(known(20.0, 1.0), Some(Duration::from_secs(20)));
        assert_eq!(known(14.0, 1.0), None, "the end is like nothing before");
        assert_eq!(known(8.0, 3.0), Some(Duration::from_secs(8)), "it is soon");
        assert_eq!(known(8.0, 5.0), None);
    }
}
