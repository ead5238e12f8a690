//! What a transaction did: to how many rows of which tables, and by which statements.
//!
//! Reads rows only as far as it takes to count them, and keeps no value.

use std::collections::BTreeMap;
use std::io::BufRead;

use crate::journal::bytes::{Bytes, Malformed};
use crate::journal::columns::{self, Column, Size};
use crate::journal::compressed;
use crate::journal::event::{HEADER, Header};
use crate::journal::names::Name;
use crate::journal::scan::Look;
use crate::journal::statement::{self, Statement, Touch};

const QUERY: u8 = 2;
const LOAD: u8 = 18;
const TABLE_MAP: u8 = 19;
const INCIDENT: u8 = 26;
const PARTIAL_UPDATE: u8 = 39;
const PAYLOAD: u8 = 40;
const COMPRESSED_QUERY: u8 = 165;

/// So much of a statement is read.
const STATEMENT: usize = 1 << 20;
/// So many definitions of a transaction are kept, and so many other statements.
const DEFINITIONS: usize = 16;
/// So many tables a transaction may change before it is taken for one that was made to fill memory.
const TABLES: usize = 100_000;
/// So many tables a statement may change, and so many columns they may have.
const MAPPED: usize = 4096;
const COLUMNS: usize = 1 << 20;

/// The flag of the last rows of a statement: table maps end with it.
const STATEMENT_END: u16 = 1;

/// What the transaction that is being read has done so far.
#[derive(Debug, Default)]
pub struct Details {
    /// Changed rows by table; `None` if they were changed by a statement, so that nobody knows how many.
    pub tables: BTreeMap<Name, Option<u64>>,
    /// What its definitions are shown as.
    pub definitions: Vec<String>,
    /// What these touch.
    pub touches: Vec<Touch>,
    /// What it holds besides.
    pub other: Option<&'static str>,
    /// Bytes of its events.
    pub bytes: u64,
    /// Tables that rows of the statement are of, by number.
    maps: BTreeMap<u64, Map>,
    /// All their columns.
    columns: usize,
}

/// A table as the rows that follow have it.
#[derive(Debug)]
struct Map {
    name: Name,
    /// `None` if one is of an unknown kind, so that rows cannot be told apart.
    columns: Option<Vec<Column>>,
}

impl Look for Details {
    fn look(
        &mut self,
        header: &Header,
        body: &mut dyn BufRead,
        length: usize,
    ) -> Result<(), Malformed> {
        if header.begins() {
            *self = Details::default();
        }
        self.bytes = self.bytes.saturating_add(u64::from(header.length));
        self.event(header.kind, Bytes::new(body, length as u64), false)
    }
}

impl Details {
    /// What the transaction did that has just ended; the next one begins with nothing.
    pub fn take(&mut self) -> Details {
        std::mem::take(self)
    }

    fn event(&mut self, kind: u8, mut body: Bytes<'_>, within: bool) -> Result<(), Malformed> {
        match kind {
            QUERY => self.query(body, 0, false),
            COMPRESSED_QUERY => self.query(body, 0, true),
            // A file's number, two places in the statement, and what to do with duplicates.
            LOAD => self.query(body, 4 + 4 + 4 + 1, false),
            TABLE_MAP => self.map(&mut body),
            23..=25 | 30..=32 | PARTIAL_UPDATE => self.rows(kind, body, false),
            166..=168 => self.rows(kind - 166 + 23, body, true),
            169..=171 => self.rows(kind - 169 + 30, body, true),
            INCIDENT => {
                self.other = Some("an incident");
                Ok(())
            }
            PAYLOAD if within => Err("a compressed transaction is within another one"),
            PAYLOAD => compressed::mysql(body, |events| self.payload(events)),
            _ => Ok(()),
        }
    }

    /// The events of a compressed transaction, which have no checksums.
    fn payload(&mut self, mut events: Bytes<'_>) -> Result<(), Malformed> {
        while events.left() > 0 {
            let header = Header::parse(&events.array::<HEADER>()?);
            let length = u64::from(header.length).checked_sub(HEADER as u64);
            let length = length.ok_or("an event is shorter than its header")?;
            if length > events.left() {
                return Err("an event is longer than the transaction that it is in");
            }
            let left = events.left() - length;
            self.event(header.kind, Bytes::new(&mut events, length), true)?;
            let rest = events.left() - left;
            events.skip(rest)?;
        }
        Ok(())
    }

    fn query(&mut self, mut body: Bytes<'_>, more: u64, packed: bool) -> Result<(), Malformed> {
        body.skip(8)?;
        let database = u64::from(body.byte()?);
        body.skip(2)?;
        let status = u64::from(body.short()?);
        body.skip(more + status)?;
        let database = body.text(database, 255)?;
        body.skip(1)?;
        if packed {
            return compressed::mariadb(body, |text| self.statement(text, &database));
        }
        self.statement(body, &database)
    }

    fn statement(&mut self, mut text: Bytes<'_>, database: &[u8]) -> Result<(), Malformed> {
        let text = text.text(text.left(), STATEMENT)?;
        match statement::read(&text, database) {
            Statement::Control => {}
            Statement::Definition { text, touches } => {
                if self.definitions.len() < DEFINITIONS {
                    self.definitions.push(text);
                }
                if self.touches.len() < TABLES {
                    self.touches.extend(touches);
                }
            }
            Statement::Rows(names) => {
                if names.is_empty() {
                    self.other = Some("a statement");
                }
                for name in names {
                    *self.table(name)? = None;
                }
            }
            Statement::Other(what) => self.other = Some(what),
        }
        Ok(())
    }

    /// The number of changed rows of a table.
    fn table(&mut self, name: Name) -> Result<&mut Option<u64>, Malformed> {
        if self.tables.len() >= TABLES {
            return Err("a transaction changes more tables than there can be");
        }
        Ok(self.tables.entry(name).or_insert(Some(0)))
    }

    fn map(&mut self, body: &mut Bytes<'_>) -> Result<(), Malformed> {
        let table = self.number(body)?;
        body.skip(2)?;
        let length = u64::from(body.byte()?);
        let database = body.text(length, 255)?;
        body.skip(1)?;
        let length = u64::from(body.byte()?);
        let object = body.text(length, 255)?;
        body.skip(1)?;
        let columns = columns::read(body)?;
        self.columns += columns.as_ref().map_or(0, Vec::len);
        if self.maps.len() >= MAPPED || self.columns > COLUMNS {
            return Err("a statement changes more tables than there can be");
        }
        self.maps.insert(table, Map { name: Name { database, object }, columns });
        Ok(())
    }

    /// The number of a table in six bytes.
    fn number(&self, body: &mut Bytes<'_>) -> Result<u64, Malformed> {
        let mut bytes = [0; 8];
        body.fill(&mut bytes[..6])?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn rows(&mut self, kind: u8, mut body: Bytes<'_>, packed: bool) -> Result<(), Malformed> {
        let table = self.number(&mut body)?;
        let flags = body.short()?;
        // The second version has room for more, whose length counts itself.
        if kind >= 30 {
            let more = body.short()?.checked_sub(2).ok_or("rows have more of negative length")?;
            body.skip(u64::from(more))?;
        }
        let width = body.packed()?;
        let updates = matches!(kind, 24 | 31 | PARTIAL_UPDATE);
        let Some(map) = self.maps.get(&table) else {
            // The end of a statement whose rows are of no table here.
            return if flags & STATEMENT_END != 0 && width == 0 {
                self.end_statement();
                Ok(())
            } else {
                Err("rows are of a table that was not described")
            };
        };
        let name = map.name.clone();
        let count = match &map.columns {
            None => None,
            Some(columns) if columns.len() as u64 != width => {
                return Err("rows have another number of columns than their table");
            }
            Some(columns) => {
                let present = image(&mut body, columns.len())?;
                let after = if updates { Some(image(&mut body, columns.len())?) } else { None };
                let images = Images { columns, first: present, after, partial: kind == 39 };
                Some(match packed {
                    true => compressed::mariadb(body, |mut rows| images.count(&mut rows))?,
                    false => images.count(&mut body)?,
                })
            }
        };
        let known = self.table(name)?;
        *known = known.zip(count).map(|(known, count)| known.saturating_add(count));
        if flags & STATEMENT_END != 0 {
            self.end_statement();
        }
        Ok(())
    }

    fn end_statement(&mut self) {
        self.maps.clear();
        self.columns = 0;
    }

    /// True if it touches the table, or the database that it is in. `same` compares names.
    pub fn touches(&self, table: &Name, same: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        let is_it = |name: &Name| {
            same(&name.object, &table.object) && same(&name.database, &table.database)
        };
        self.tables.keys().any(is_it)
            || self.touches.iter().any(|touch| match touch {
                Touch::Object(name) => is_it(name),
                Touch::Database(name) => same(name, &table.database),
            })
    }
}

/// A bit for each column: whether it is in an image of a row.
fn image(body: &mut Bytes<'_>, columns: usize) -> Result<Vec<u8>, Malformed> {
    let mut bits = vec![0; columns.div_ceil(8)];
    body.fill(&mut bits)?;
    Ok(bits)
}

fn has(bits: &[u8], at: usize) -> bool {
    bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

/// The images that make a row.
struct Images<'a> {
    columns: &'a [Column],
    first: Vec<u8>,
    /// Of an update.
    after: Option<Vec<u8>>,
    /// Parts of JSON values may be in the second one.
    partial: bool,
}

impl Images<'_> {
    /// The number of rows.
    fn count(&self, rows: &mut Bytes<'_>) -> Result<u64, Malformed> {
        let in_image = |bits: &[u8]| (0..self.columns.len()).any(|at| has(bits, at));
        let is_empty =
            !in_image(&self.first) && !self.after.as_deref().is_some_and(in_image) && !self.partial;
        if is_empty {
            // Of a row in which everything has its default, there is nothing.
            return if rows.left() == 0 { Ok(1) } else { Err("rows without columns take room") };
        }
        let mut count = 0;
        while rows.left() > 0 {
            self.skip(rows, &self.first)?;
            if let Some(after) = &self.after {
                if self.partial && rows.packed()? & 1 == 1 {
                    let json = self.columns.iter().filter(|column| column.is_json).count();
                    rows.skip(json.div_ceil(8) as u64)?;
                }
                self.skip(rows, after)?;
            }
            count += 1;
        }
        Ok(count)
    }

    /// Passes over an image: which of its columns are NULL, and the values of the others.
    fn skip(&self, rows: &mut Bytes<'_>, present: &[u8]) -> Result<(), Malformed> {
        let length = (0..self.columns.len()).filter(|at| has(present, *at)).count();
        let mut nulls = [0; 512];
        let nulls = &mut nulls[..length.div_ceil(8)];
        rows.fill(nulls)?;
        let mut number = 0;
        for (at, column) in self.columns.iter().enumerate() {
            if !has(present, at) {
                continue;
            }
            if !has(nulls, number) {
                let length = match column.size {
                    Size::Fixed(length) => u64::from(length),
                    Size::Prefixed(width) => {
                        let mut length = [0; 8];
                        rows.fill(&mut length[..usize::from(width)])?;
                        u64::from_le_bytes(length)
                    }
                };
                rows.skip(length)?;
            }
            number += 1;
        }
        Ok(())
    }
}

impl Details {
    /// One line of what it did, without values.
    pub fn line(&self) -> String {
        let rows = |(name, rows): (&Name, &Option<u64>)| match rows {
            Some(rows) => format!("{} {rows}", name.shown()),
            None => format!("{} ?", name.shown()),
        };
        let tables = self.tables.iter().map(rows).collect::<Vec<_>>().join(", ");
        let mut parts = self.definitions.clone();
        if !tables.is_empty() {
            parts.push(tables);
        }
        match (parts.is_empty(), self.other) {
            (true, other) => other.unwrap_or("-").into(),
            (false, _) => parts.join("; "),
        }
    }
}

#[cfg(test)]
mod tests;
