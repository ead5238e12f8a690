//! Rows of two servers at one position, compared chunk by chunk along a key.
//!
//! Each server adds up the digests of the rows of a chunk. Where the sums differ, the chunk is halved
//! until few rows are left, and these are compared one by one. What differs is a suspicion, to be
//! confirmed at other positions.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::compare::columns::{
    KeyValue, Layout, Range, columns_of, key_from_record, key_to_record, keys_of,
};
use crate::compare::names::TableName;
use crate::compare::snapshot::Snapshot;
use crate::mysql::session::{Rows, Session, quoted};
use crate::mysql::trouble::Trouble;
use crate::server::error_log::without_statement;
use crate::text::count;

/// The primary works on a chunk for about so long.
const CHUNK: Duration = Duration::from_millis(500);
/// The rows of the first chunk of a table, and of the largest one.
const FIRST: u64 = 1000;
const LARGEST: u64 = 2_000_000;
/// A range of so many rows is compared one by one.
const FEW: u64 = 32;
/// So many ranges of one chunk are looked into; of so many rows one is told.
const RANGES: usize = 16;
const ROWS: usize = 200;
/// A table without a key is compared in one piece, if it has no more rows than this.
const KEYLESS: u64 = 200_000;

/// Whose fault it is that a comparison cannot go on.
pub enum Fault {
    /// The primary, or the line to it.
    Primary(Trouble),
    /// The private server.
    Private(Trouble),
}

/// Both servers, at one position.
pub struct Pair {
    /// The primary.
    pub primary: Snapshot,
    /// The private server, which does not replicate now.
    pub private: Session,
    /// Its other end is dropped to end the comparison.
    wanted: Receiver<()>,
    /// What the primary refused last.
    refusal: u16,
}

/// A row by its key, as it is on the primary and here: its digest, or nothing.
type Suspects = BTreeMap<KeyValue, (Option<String>, Option<String>)>;

/// A difference that was seen once.
#[derive(Clone, Debug)]
pub struct Suspicion {
    layout: Layout,
    /// Where it is; all of a table without a key.
    range: Range,
    rows: Suspects,
    /// The sums of the range on both sides, for a table without a key.
    sums: (String, String),
}

/// What became of the turn of a table.
pub enum Outcome {
    /// Equal.
    Equal,
    /// The time is up, and this is where to go on; `None` for the beginning.
    Part(Option<String>),
    /// It may differ.
    Suspect(Box<Suspicion>),
    /// It cannot be compared, or not now, for this reason.
    Skipped(String),
}

/// The tables of the private server that a snapshot of the primary may have, too.
///
/// # Errors
/// Those of the session.
pub fn list(session: &mut Session) -> Result<Vec<TableName>, Trouble> {
    let rows = session.query(
        "SELECT table_schema, table_name FROM information_schema.tables \
         WHERE engine = 'InnoDB' AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') \
           AND CAST(table_schema AS BINARY) NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')",
    )?;
    let mut tables: Vec<_> = rows.iter().map(|row| TableName::new(row[0], row[1])).collect();
    tables.sort();
    Ok(tables)
}

impl Pair {
    /// Both, for as long as the other end of `wanted` is there.
    pub fn new(primary: Snapshot, private: Session, wanted: Receiver<()>) -> Pair {
        Pair { primary, private, wanted, refusal: 0 }
    }

    /// Compares `table`, from the key `at` on, until `deadline`.
    ///
    /// # Errors
    /// When one of the servers is lost.
    pub fn compare(
        &mut self,
        table: &TableName,
        at: Option<&str>,
        deadline: Instant,
    ) -> Result<Outcome, Fault> {
        let layout = match self.layout(table)? {
            Ok(layout) => layout,
            Err(why) => return Ok(Outcome::Skipped(why)),
        };
        let mut after = at.and_then(|text| key_from_record(&layout, text));
        let mut size = FIRST;
        loop {
            if self.is_over(deadline) {
                let at = after.map(|key| key_to_record(&key));
                return Ok(Outcome::Part(at));
            }
            let began = Instant::now();
            let Some(upto) = self.end_of_chunk(&layout, &after, size)? else {
                return Ok(self.skipped());
            };
            let range = (after.clone(), upto);
            let Some(theirs) = self.theirs(&layout.sum(&range))? else {
                if size <= FIRST / 10 || !layout.has_key() {
                    return Ok(self.skipped());
                }
                size = (size / 4).max(1);
                continue;
            };
            let took = began.elapsed();
            let began = Instant::now();
            let ours = self.ours(&layout.sum(&range))?;
            if sums(&theirs) != sums(&ours) {
                let suspicion =
                    self.look_into(&layout, range.clone(), sums(&theirs), sums(&ours))?;
                if let Some(suspicion) = suspicion {
                    return Ok(Outcome::Suspect(Box::new(suspicion)));
                }
            }
            // At most half of the time is spent on the primary.
            let left = deadline.saturating_duration_since(Instant::now());
            self.rest(took.saturating_sub(began.elapsed()).min(left));
            let factor = CHUNK.as_secs_f64() / took.as_secs_f64().max(0.001);
            size = ((size as f64 * factor.clamp(0.25, 4.0)) as u64).clamp(1, LARGEST);
            after = range.1;
            if after.is_none() {
                return Ok(Outcome::Equal);
            }
        }
    }

    fn skipped(&self) -> Outcome {
        Outcome::Skipped(format!("the primary answers with error {}", self.refusal))
    }

    /// True if the time is up, or nobody wants to know any more.
    pub fn is_over(&self, deadline: Instant) -> bool {
        Instant::now() >= deadline || !self.rest(Duration::ZERO)
    }

    /// Leaves the primary alone for a while. False if nobody wants to know any more.
    fn rest(&self, time: Duration) -> bool {
        self.wanted.recv_timeout(time) != Err(RecvTimeoutError::Disconnected)
    }

    /// What is needed to compare it, or why it cannot be.
    fn layout(&mut self, table: &TableName) -> Result<Result<Layout, String>, Fault> {
        let columns = self.ours(&columns_of(table))?;
        let keys = self.ours(&keys_of(table))?;
        let about = self.ours(&format!(
            "SELECT table_type, table_rows FROM information_schema.tables \
             WHERE table_schema = {} AND table_name = {}",
            quoted(&table.schema),
            quoted(&table.name)
        ))?;
        let (kind, rows) = about.iter().next().map_or((String::new(), 0), |row| {
            (row[0].to_string(), row[1].parse::<u64>().unwrap_or(0))
        });
        Ok(match Layout::new(table, &columns, &keys, kind == "SYSTEM VERSIONED") {
            None => Err("it is gone, or has no columns to compare".into()),
            Some(layout) if !layout.has_key() && rows > KEYLESS => {
                Err("it is large and has no key to go along".into())
            }
            Some(layout) => Ok(layout),
        })
    }

    /// The key of the last row of a chunk of `size` rows, `Some(None)` if it is the last chunk. `None` if
    /// the primary does not tell.
    fn end_of_chunk(
        &mut self,
        layout: &Layout,
        after: &Option<KeyValue>,
        size: u64,
    ) -> Result<Option<Option<KeyValue>>, Fault> {
        if !layout.has_key() {
            return Ok(Some(None));
        }
        let range = (after.clone(), None);
        let Some(rows) = self.theirs(&layout.nth(&range, size.saturating_sub(1)))? else {
            return Ok(None);
        };
        Ok(match rows.iter().next() {
            None => Some(None),
            Some(row) => layout.key_in(&row).map(Some),
        })
    }

    /// Asks the primary. `None` for what it refuses.
    fn theirs(&mut self, sql: &str) -> Result<Option<Rows>, Fault> {
        match self.primary.read(sql) {
            Ok(rows) => Ok(Some(rows)),
            Err(Trouble::Server { errno, text }) => {
                log::debug!("not compared: error {errno}: {}", without_statement(&text));
                self.refusal = errno;
                Ok(None)
            }
            Err(lost) => Err(Fault::Primary(lost)),
        }
    }

    fn ours(&mut self, sql: &str) -> Result<Rows, Fault> {
        self.private.query(sql).map_err(Fault::Private)
    }

    /// Narrows a chunk that differs down to rows. `None` if nothing differs any more, or it cannot be
    /// told.
    fn look_into(
        &mut self,
        layout: &Layout,
        range: Range,
        theirs: String,
        ours: String,
    ) -> Result<Option<Suspicion>, Fault> {
        let mut found = Suspicion {
            layout: layout.clone(),
            range: range.clone(),
            rows: Suspects::new(),
            sums: (theirs, ours),
        };
        if !layout.has_key() {
            return Ok(Some(found));
        }
        let (mut open, mut looked) = (vec![range], 0);
        while let Some(range) = open.pop() {
            let Some(theirs) = self.theirs(&layout.sum(&range))? else { return Ok(None) };
            let ours = self.ours(&layout.sum(&range))?;
            if sums(&theirs) == sums(&ours) {
                continue;
            }
            let rows: u64 = theirs.first().split(' ').next().map_or(0, |n| n.parse().unwrap_or(0));
            let middle = match rows > FEW {
                true => self.theirs(&layout.nth(&range, rows / 2 - 1))?,
                false => None,
            };
            let middle = middle.and_then(|rows| layout.key_in(&rows.iter().next()?));
            if let Some(middle) = middle.filter(|middle| Some(middle) != range.1.as_ref()) {
                open.push((Some(middle.clone()), range.1));
                open.push((range.0, Some(middle)));
                continue;
            }
            looked += 1;
            if !self.compare_rows(layout, &range, &mut found.rows)? {
                return Ok(None);
            }
            if looked >= RANGES || found.rows.len() >= ROWS {
                break;
            }
        }
        Ok((!found.rows.is_empty()).then_some(found))
    }

    /// Compares the rows of a small range one by one. False if the primary does not tell.
    fn compare_rows(
        &mut self,
        layout: &Layout,
        range: &Range,
        found: &mut Suspects,
    ) -> Result<bool, Fault> {
        let sql = layout.rows(range, ROWS);
        let Some(theirs) = self.theirs(&sql)? else { return Ok(false) };
        let (theirs, ours) = (by_key(layout, &theirs), by_key(layout, &self.ours(&sql)?));
        for key in theirs.keys().chain(ours.keys()) {
            let (one, other) = (theirs.get(key), ours.get(key));
            // Where a list is cut off, a key may be missing in it for no other reason.
            let cut = |rows: &BTreeMap<_, _>| rows.len() >= ROWS;
            let told = (one.is_some() || !cut(&theirs)) && (other.is_some() || !cut(&ours));
            if told && one != other && found.len() < ROWS {
                found.insert(key.clone(), (one.cloned(), other.cloned()));
            }
        }
        Ok(true)
    }

    /// Looks at a suspicion again, at another position: what is as it was on both sides remains. `None`
    /// if nothing does.
    ///
    /// # Errors
    /// When one of the servers is lost.
    pub fn confirm(&mut self, mut suspicion: Suspicion) -> Result<Option<Suspicion>, Fault> {
        let layout = suspicion.layout.clone();
        if !layout.has_key() {
            let sql = layout.sum(&suspicion.range);
            let Some(theirs) = self.theirs(&sql)? else { return Ok(None) };
            let again = (sums(&theirs), sums(&self.ours(&sql)?));
            return Ok((again == suspicion.sums).then_some(suspicion));
        }
        let mut rows = Suspects::new();
        for (key, before) in std::mem::take(&mut suspicion.rows) {
            let sql = layout.row(&key);
            let Some(theirs) = self.theirs(&sql)? else { return Ok(None) };
            let digest = |rows: &Rows| Some(sums(rows)).filter(|d| !d.starts_with("0 "));
            let now = (digest(&theirs), digest(&self.ours(&sql)?));
            if now == before {
                rows.insert(key, now);
            }
        }
        suspicion.rows = rows;
        Ok((!suspicion.rows.is_empty()).then_some(suspicion))
    }
}

impl Suspicion {
    /// The table.
    pub fn table(&self) -> &TableName {
        self.layout.table()
    }

    /// What differs, for people.
    pub fn describe(&self) -> String {
        let (mut missing, mut extra) = (0, 0);
        for (theirs, ours) in self.rows.values() {
            missing += u32::from(ours.is_none());
            extra += u32::from(theirs.is_none());
        }
        let Some((first, last)) = self.layout.ends(self.rows.keys()) else {
            let number = |sum: &str| sum.split(' ').next().unwrap_or_default().to_string();
            let (theirs, ours) = (number(&self.sums.0), number(&self.sums.1));
            return format!(
                "its rows differ ({theirs} on the primary, {ours} here); it has no key"
            );
        };
        let keys =
            if first == last { format!("key {first}") } else { format!("keys {first} to {last}") };
        let mut what = count(self.rows.len(), "row");
        if missing > 0 || extra > 0 {
            what += &format!(" ({missing} missing here, {extra} not on the primary)");
        }
        format!("{what} differ, {keys}")
    }
}

/// The answer to [`Layout::sum`]: number of rows and sum.
fn sums(rows: &Rows) -> String {
    rows.first().to_string()
}

/// The digest of each key.
fn by_key(layout: &Layout, rows: &Rows) -> BTreeMap<KeyValue, String> {
    let pair = |row: Vec<&str>| Some((layout.key_in(&row)?, row.last()?.to_string()));
    rows.iter().filter_map(pair).collect()
}
