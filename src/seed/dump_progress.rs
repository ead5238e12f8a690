//! How far a dump is, in bytes that the tables take on the primary.
//!
//! A dump has no length until it ends, and a row takes fewer or more bytes in it than in a table.
//! So a finished table counts with its size on the primary, and the current one with the bytes
//! dumped of it, scaled by what the finished ones took. The dumping client reports on standard
//! error (`--verbose`) which table it is at. Sizes are the primary's statistics: the total, and
//! the time left that follows from it, are estimates.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::os::files;
use crate::seed::tables::Tables;

/// How the clients of both servers announce a table.
pub const BEGINS: &str = "-- Retrieving table structure for table ";

/// Small tables say little about the bytes of large ones: the scale starts out as if so many bytes
/// had taken as many.
const PRIOR: f64 = (64 << 20) as f64;

/// Measures a dump by what its client reports and writes.
pub struct DumpProgress {
    report: PathBuf,
    /// Bytes of the report that were read.
    read: u64,
    /// Names without schema and sizes of the tables to come, in reverse order.
    waiting: Vec<(String, u64)>,
    total: u64,
    finished: u64,
    current: u64,
    /// Bytes of the dump, and where in it the current table begins.
    written: u64,
    start: u64,
}

impl DumpProgress {
    /// For a dump of `tables` whose client reports to the file `report`.
    pub fn new(tables: &Tables, report: PathBuf) -> DumpProgress {
        DumpProgress {
            report,
            read: 0,
            waiting: tables.iter().rev().map(|(t, table)| (t.name.clone(), table.bytes)).collect(),
            total: tables.values().map(|t| t.bytes).sum(),
            finished: 0,
            current: 0,
            written: 0,
            start: 0,
        }
    }

    /// Notes that `written` bytes of the dump exist. True if there were fewer before; a client that
    /// has ended is seen with 0.
    pub fn advance(&mut self, written: u64) -> bool {
        let more = written > self.written;
        self.written = self.written.max(written);
        for line in self.new_lines().lines() {
            let Some(name) = line.strip_prefix(BEGINS) else { continue };
            self.finished += self.current;
            self.current = self.take(name.trim_end_matches("...")).unwrap_or(0);
            self.start = self.written;
        }
        more
    }

    /// Bytes done, and in all.
    pub fn done_of(&self) -> (u64, u64) {
        let scale = (PRIOR + self.finished as f64) / (PRIOR + self.start as f64);
        let current = (scale * (self.written - self.start) as f64) as u64;
        (self.finished + current.min(self.current), self.total)
    }

    /// The size of the next table of that name: the client omits the schema, but keeps the order.
    fn take(&mut self, name: &str) -> Option<u64> {
        let at = self.waiting.iter().rposition(|(waiting, _)| waiting == name)?;
        Some(self.waiting.remove(at).1)
    }

    /// Whole lines that were not read before.
    fn new_lines(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = files::open_no_link(&self.report).and_then(|mut file| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::names::TableName;
    use crate::seed::tables::Table;

    #[test]
    fn finished_tables_count_whole_and_the_current_by_its_dump() {
        const MIB: u64 = 1 << 20;
        let table = |mib| Table { bytes: mib * MIB, ..Table::default() };
        let tables = [("a", "t", 400), ("b", "t", 1600), ("c", "empty", 0)];
        let tables =
            tables.map(|(schema, name, mib)| (TableName::new(schema, name), table(mib))).into();
        let report = std::env::temp_dir().join(format!("rf-unit-dp-{}", std::process::id()));
        let mut text = "-- Connecting to db1...\n".to_string();
        let mut progress = DumpProgress::new(&tables, report.clone());
        let mut at = |line: &str, written: u64| {
            text += line;
            std::fs::write(&report, &text).unwrap();
            let moved = progress.advance(written * MIB);
            let (done, total) = progress.done_of();
            assert_eq!(total, 2000 * MIB);
            (moved, done / MIB)
        };
        let table = "-- Retrieving table structure for table t...\n-- Retrieving rows...\n";
        assert_eq!(at("", 0), (false, 0));
        assert_eq!(at(table, 1), (true, 0));
        assert_eq!(at("", 101), (true, 98));
        assert_eq!(at("", 101), (false, 98));
        assert_eq!(at("", 868), (true, 400), "statistics may be old");
        assert_eq!(at(table, 868), (false, 400));
        // The first table gave more bytes than it takes, so this one is expected to.
        assert_eq!(at("", 1868), (true, 897));
        assert_eq!(at("-- Retrieving table", 0), (false, 897));
        assert_eq!(at(" structure for table empty...\n", 0), (false, 2000));
        std::fs::remove_file(&report).unwrap();
    }
}
