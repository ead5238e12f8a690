//! How far a dump is: in bytes of the primary's tables, so that there is a total and a time left.
//!
//! A dump has no length before its end, and a row takes another number of bytes in it than in a
//! table. So a table that was left behind counts whole, and the one in work with the share of its
//! rows that were loaded. The dumping client tells on its standard error (`--verbose`) which
//! table it is at. Tables are weighed by what loading them costs, else the estimate is wrong by
//! much where a table of long rows comes before one of many indexes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::tables::{Table, Tables};

/// What both servers' clients say when they begin a table.
const BEGINS: &str = "-- Retrieving table structure for table ";

/// What loading a row costs beyond its bytes, and a byte of a secondary index, in bytes of data.
/// Fitted to three tables loaded into MariaDB 10.11 (short rows, long rows, a random index):
/// 13 to 22 s, 2.2 s, 10 to 15 s for 52, 176 and 85 MB of data, 1.5, 0.14 and 0.8 million rows,
/// 38, 0 and 94 MB of indexes.
const ROW: u64 = 400;
const INDEX_BYTE: u64 = 5;

/// What tells how far a dump is.
pub struct DumpProgress {
    /// What the client says, and up to where it was read.
    said: PathBuf,
    read: u64,
    /// Tables that the dump has not come to, last one first.
    waiting: Vec<(String, Table)>,
    /// Weight of the tables left behind, of all.
    left_behind: u64,
    weight: u64,
    current: Option<Table>,
    /// Rows that were loaded before the current table.
    rows_before: u64,
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
            left_behind: 0,
            weight: tables.values().map(weight).sum(),
            current: None,
            rows_before: 0,
            total: tables.values().map(|t| t.bytes).sum(),
        }
    }

    /// Bytes done, of how many, once `rows` rows were loaded in all. The total is what the
    /// primary's statistics say, so it is an estimate.
    pub fn measure(&mut self, rows: Option<u64>) -> (u64, u64) {
        for line in self.new_lines().lines() {
            let Some(name) = line.strip_prefix(BEGINS) else { continue };
            self.left_behind += self.current.take().as_ref().map_or(0, weight);
            self.rows_before = rows.unwrap_or(0);
            self.current = self.take(name.trim_end_matches("..."));
        }
        let share = |table: &Table| match rows {
            Some(rows) if table.rows > 0 => {
                let loaded = rows.saturating_sub(self.rows_before) as f64;
                (loaded / table.rows as f64).min(1.0)
            }
            _ => 0.0,
        };
        let current = self.current.as_ref().map_or(0.0, |t| weight(t) as f64 * share(t));
        let part = (self.left_behind as f64 + current) / self.weight.max(1) as f64;
        ((self.total as f64 * part.min(1.0)) as u64, self.total)
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

fn weight(table: &Table) -> u64 {
    table.bytes + ROW * table.rows + INDEX_BYTE * table.index_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_left_behind_count_whole_and_the_one_in_work_by_its_rows() {
        let table =
            |rows, bytes, index_bytes| Table { rows, bytes, index_bytes, ..Table::default() };
        // Weights of 2000, 8000 and 0.
        let tables = Tables::from([
            ("a.t".to_string(), table(4, 400, 0)),
            ("b.t".to_string(), table(10, 1000, 600)),
            ("c.empty".to_string(), table(0, 0, 0)),
        ]);
        let said = std::env::temp_dir().join(format!("rollforward-dp-{}", std::process::id()));
        let mut text = "-- Connecting to db1...\n".to_string();
        std::fs::write(&said, &text).unwrap();
        let mut progress = DumpProgress::new(&tables, said.clone());
        assert_eq!(progress.measure(Some(0)), (0, 1400));
        text += "-- Retrieving table structure for table t...\n-- Retrieving rows...\n";
        std::fs::write(&said, &text).unwrap();
        assert_eq!(progress.measure(Some(0)), (0, 1400));
        assert_eq!(progress.measure(Some(2)), (140, 1400));
        assert_eq!(progress.measure(Some(40)), (280, 1400), "statistics may be old");
        text += "-- Retrieving table structure for table t...\n";
        std::fs::write(&said, &text).unwrap();
        assert_eq!(progress.measure(Some(40)), (280, 1400));
        assert_eq!(progress.measure(Some(45)), (840, 1400));
        assert_eq!(progress.measure(None), (280, 1400));
        std::fs::remove_file(&said).unwrap();
    }
}
