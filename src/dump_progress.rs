//! How far a dump is: in bytes of the primary's tables, so that there is a total and a time left.
//!
//! A dump has no length before its end, and a row takes another number of bytes in it than in a
//! table. So a table that was left behind counts whole, and the one in work with the share of its
//! rows that were loaded. The dumping client tells on its standard error (`--verbose`) which
//! table it is at. Tables are weighed by what loading them costs, else the estimate is wrong by
//! much where a table of long rows comes before one of many indexes; and the time left follows
//! what those loaded so far have cost.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::pace::{Made, Pace};
use crate::tables::{Table, Tables};

/// What both servers' clients say when they begin a table.
const BEGINS: &str = "-- Retrieving table structure for table ";

/// What loading a byte of rows, a row, a byte of a secondary index and a table cost, in bytes of
/// rows. Measured on MariaDB 10.11: tables of long rows, of short ones and with indexes took 0.08 s
/// for a MB of rows, 5.2 s for a million rows, 0.21 to 0.27 s for a MB of indexes.
const COST: Made = [1.0, 65.0, 3.0, 300_000.0];

/// A table of which less is loaded tells nothing of its pace.
const TELLING: f64 = 0.05;

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
    current: Option<Table>,
    /// When the current table was begun, and the rows that were loaded before.
    began: Instant,
    rows_before: u64,
    /// What the tables left behind took.
    pace: Pace,
    /// Bytes of all tables.
    total: u64,
}

impl DumpProgress {
    /// Of a dump of `tables` whose client writes to `said`.
    pub fn new(tables: &Tables, said: PathBuf) -> DumpProgress {
        let name = |full: &str| full.split_once('.').map_or(full, |(_, n)| n).to_string();
        DumpProgress {
            said,
            read: 0,
            waiting: tables.iter().rev().map(|(t, facts)| (name(t), facts.clone())).collect(),
            left_behind: Made::default(),
            all: tables.values().map(made).fold(Made::default(), plus),
            current: None,
            began: Instant::now(),
            rows_before: 0,
            pace: Pace::default(),
            total: tables.values().map(|t| t.bytes).sum(),
        }
    }

    /// Bytes done, of how many, and the time left, as far as it is known; `rows` were loaded in
    /// all, at `now`. The total is what the primary's statistics say, so it is an estimate.
    pub fn measure(&mut self, rows: Option<u64>, now: Instant) -> (u64, u64, Option<Duration>) {
        for line in self.new_lines().lines() {
            let Some(name) = line.strip_prefix(BEGINS) else { continue };
            if let Some(table) = self.current.take() {
                self.left_behind = plus(self.left_behind, made(&table));
                self.pace.took(made(&table), now.duration_since(self.began).as_secs_f64());
            }
            (self.rows_before, self.began) = (rows.unwrap_or(0), now);
            self.current = self.take(name.trim_end_matches("..."));
        }
        let share = |table: &Table| match rows {
            Some(rows) if table.rows > 0 => {
                let loaded = rows.saturating_sub(self.rows_before) as f64;
                (loaded / table.rows as f64).min(1.0)
            }
            _ => 0.0,
        };
        let now_made = self.current.as_ref().map_or(Made::default(), made);
        let share = self.current.as_ref().map_or(0.0, share);
        let current = now_made.map(|n| n * share);
        let elapsed = now.duration_since(self.began).as_secs_f64();
        let done = plus(self.left_behind, current);
        let missing = |from: Made| std::array::from_fn(|n| (self.all[n] - from[n]).max(0.0));
        // What was begun just now tells nothing yet; later on nothing tells more of a table than
        // its own pace.
        let left = if share < TELLING {
            self.pace.seconds(COST, (Made::default(), 0.0), missing(done))
        } else {
            let others = missing(plus(self.left_behind, now_made));
            // By it the others are judged only where it is the first: it may be a strange one.
            let known = self.pace.seconds(COST, (Made::default(), 0.0), others);
            let others = known.or_else(|| self.pace.seconds(COST, (current, elapsed), others));
            others.map(|others| others + elapsed * (1.0 - share) / share)
        };
        let left = left.and_then(|s| Duration::try_from_secs_f64(s).ok());
        let part = cost(done) / cost(self.all).max(1.0);
        ((self.total as f64 * part.min(1.0)) as u64, self.total, left)
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

fn made(table: &Table) -> Made {
    [table.bytes as f64, table.rows as f64, table.index_bytes as f64, 1.0]
}

fn plus(a: Made, b: Made) -> Made {
    std::array::from_fn(|n| a[n] + b[n])
}

fn cost(made: Made) -> f64 {
    COST.iter().zip(made).map(|(cost, n)| cost * n).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_left_behind_count_whole_and_the_one_in_work_by_its_rows() {
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
        let mut progress = DumpProgress::new(&tables, said.clone());
        let start = Instant::now();
        let at = |progress: &mut DumpProgress, rows, seconds| {
            let now = start + Duration::from_secs(seconds);
            let (done, total, left) = progress.measure(rows, now);
            assert_eq!(total, 2000 << 20);
            ((done + (1 << 19)) >> 20, left.map(|l| l.as_secs_f64().round() as u64))
        };
        assert_eq!(at(&mut progress, Some(0), 0), (0, None));
        text += "-- Retrieving table structure for table t...\n-- Retrieving rows...\n";
        std::fs::write(&said, &text).unwrap();
        assert_eq!(at(&mut progress, Some(0), 1), (0, None));
        assert_eq!(at(&mut progress, Some(2 << 20), 11), (200, Some(90)));
        assert_eq!(at(&mut progress, Some(40 << 20), 21).0, 400, "statistics may be old");
        text += "-- Retrieving table structure for table t...\n";
        std::fs::write(&said, &text).unwrap();
        assert_eq!(at(&mut progress, Some(40 << 20), 21), (400, Some(80)));
        assert_eq!(at(&mut progress, Some(48 << 20), 61), (1200, Some(40)));
        assert_eq!(at(&mut progress, None, 62).0, 400);
        std::fs::remove_file(&said).unwrap();
    }
}
