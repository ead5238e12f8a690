//! What a pass has found out about its data, until it is put on record.

use crate::compare::names::TableName;
use crate::compare::records::{self, Kind};
use crate::compare::rotation::Turns;
use crate::repository::directory::Repository;
use crate::repository::proofs::Record;

/// What a pass found when it looked at its data.
#[derive(Default)]
pub(crate) struct Examined {
    /// The last turns of the tables, those of this pass included; absent until they are needed.
    turns: Vec<(Kind, Turns)>,
    /// What is to be put on record besides.
    pub(super) notes: Vec<Record>,
    /// What was found, or not looked at again since.
    pub(super) found: Vec<String>,
    /// The tables at which the private server died, once for each time.
    pub(super) died_at: Vec<TableName>,
}

impl Examined {
    /// Another attempt begins, perhaps on other data.
    pub(crate) fn begin(&mut self) {
        self.found.clear();
    }

    /// Notes it for the record, in the place of an earlier one of its kind.
    pub(crate) fn note(&mut self, record: Record) {
        self.notes.retain(|old| old.kind() != record.kind());
        self.notes.push(record);
    }

    /// Adds what was found.
    pub(crate) fn add(&mut self, mut found: Vec<String>) {
        self.found.append(&mut found);
    }

    /// The turns of this kind, at first those on record of the base.
    pub(crate) fn turns(
        &mut self,
        kind: Kind,
        repo: &Repository,
        base: Option<&str>,
    ) -> &mut Turns {
        let known = self.turns.iter().position(|(k, _)| *k == kind).unwrap_or_else(|| {
            let on_record = base.map_or(Vec::new(), |base| repo.records(base));
            self.turns.push((kind, records::read(kind, &on_record)));
            self.turns.len() - 1
        });
        &mut self.turns[known].1
    }

    /// The tables at which it died on data that was restored for another try: the data is to blame.
    pub(super) fn deadly(&self) -> Vec<TableName> {
        let times = |table: &TableName| self.died_at.iter().filter(|t| *t == table).count();
        self.died_at.iter().filter(|table| times(table) > 1).cloned().collect()
    }
}
