//! Definitions and accounts of two servers, by digest, and where they differ.
//!
//! The primary goes on while it is asked. So a difference counts only if both sides show it again and
//! again without a change, the private server each time at a position that the primary had between two
//! of its answers: what the primary did not change in between, a copy at that position must have.

use std::collections::{BTreeMap, BTreeSet};

use crate::compare::aspects::{self, Aspect};
use crate::compare::names::{TableName, as_part, some_of};
use crate::compare::printed;
use crate::mysql::flavor::Flavor;
use crate::mysql::session::{Session, quoted};
use crate::mysql::trouble::Trouble;
use crate::replication::privileges::partial_revoke;
use crate::text::harmless;

/// What both sides are set to, so that they print the same.
/// What a character set means without a collation is each server's.
pub const SAME: &str = "SET /*M!110201 SESSION character_set_collations = '', */ NAMES utf8mb4, \
    SESSION sql_mode = '', SESSION time_zone = '+00:00'";

/// Which object, of which kind: the kind counts through [`Asked::aspects`].
pub type Key = (usize, String);

/// What is asked of both servers.
pub struct Asked {
    aspects: Vec<Aspect>,
    /// Schemas that the account may not see.
    hidden: Vec<String>,
    /// A sequence has its own counter, read from itself.
    flavor: Flavor,
}

/// Objects with a digest of each.
pub type Digests = BTreeMap<Key, String>;

/// Objects with the names and digests of their parts.
pub type Parts = BTreeMap<Key, BTreeSet<(String, String)>>;

impl Asked {
    /// All that the account of the `grants` may see on the primary. `tables`: the columns of the tables
    /// of accounts. The second part names what it may not see, for people.
    pub fn new(
        flavor: Flavor,
        grants: &[String],
        missing: impl Fn(&[&'static str]) -> bool,
        accounts: &BTreeMap<String, Vec<String>>,
    ) -> (Asked, Vec<&'static str>) {
        let mut aspects = aspects::definitions(flavor);
        for table in aspects::grants(flavor) {
            aspects.extend(accounts.get(table.0).map(|columns| aspects::account(table, columns)));
        }
        // MySQL's partial revokes.
        let schemas: Vec<String> = grants
            .iter()
            .filter_map(|line| partial_revoke(line))
            .map(|(_, schema)| schema)
            .collect();
        let mut unseen: Vec<&'static str> = Vec::new();
        aspects.retain(|aspect| {
            let revoked = aspect.noun == "account" && schemas.iter().any(|s| s == "mysql");
            let hidden = revoked || missing(aspect.needs);
            if hidden && !unseen.contains(&aspect.noun) {
                unseen.push(aspect.noun);
            }
            !hidden
        });
        (Asked { aspects, hidden: schemas, flavor }, unseen)
    }

    /// True if nothing can be compared.
    pub fn is_empty(&self) -> bool {
        self.aspects.is_empty()
    }

    /// Reads the digests of a server. Only those of `again`, if that is given: then what is printed counts
    /// where the rest may differ without being another.
    ///
    /// # Errors
    /// Those of the session.
    pub fn read(
        &self,
        session: &mut Session,
        again: Option<&BTreeSet<Key>>,
    ) -> Result<Digests, Trouble> {
        let mut found = Digests::new();
        for (kind, aspect) in self.aspects.iter().enumerate() {
            let wanted =
                |object: &str| again.is_none_or(|keys| keys.contains(&(kind, object.to_string())));
            if again.is_some_and(|keys| keys.iter().all(|(k, _)| *k != kind)) {
                continue;
            }
            for row in session.query(&aspect.digests())?.iter() {
                if wanted(row[0]) && !self.is_hidden(aspect, row[0]) {
                    found.insert((kind, row[0].to_string()), format!("{} {}", row[1], row[2]));
                }
            }
        }
        if found.keys().any(|(kind, _)| self.aspects[*kind].of_views) {
            // Their columns are those of what they show.
            let views = session.query(VIEWS)?;
            let views: BTreeSet<String> = views.iter().map(|row| object(&row)).collect();
            found.retain(|(kind, object), _| {
                !self.aspects[*kind].of_views || !views.contains(object)
            });
        }
        if again.is_some() {
            self.read_printed(session, &mut found)?;
        }
        if self.flavor == Flavor::MariaDb {
            self.read_sequences(session, again, &mut found)?;
        }
        Ok(found)
    }

    /// Puts what is printed of tables in the place of their digests.
    fn read_printed(&self, session: &mut Session, found: &mut Digests) -> Result<(), Trouble> {
        for (kind, aspect) in self.aspects.iter().enumerate().filter(|(_, a)| a.printed) {
            let of_kind = found.keys().filter(|(k, _)| *k == kind);
            let objects: Vec<String> = of_kind.map(|(_, object)| object.clone()).collect();
            if objects.is_empty() {
                continue;
            }
            for (object, values) in
                printed::read(session, aspect.noun, objects.iter().map(String::as_str))?
            {
                found.insert((kind, object), format!("{values:?}"));
            }
        }
        Ok(())
    }

    /// The counters of sequences.
    fn read_sequences(
        &self,
        session: &mut Session,
        again: Option<&BTreeSet<Key>>,
        found: &mut Digests,
    ) -> Result<(), Trouble> {
        let kind = self.aspects.len();
        if self.aspects.iter().all(|aspect| aspect.noun != "table") {
            return Ok(());
        }
        let sequences = session.query(SEQUENCES)?;
        for row in sequences.iter() {
            let key = (kind, object(&row));
            if again.is_some_and(|keys| !keys.contains(&key)) {
                continue;
            }
            let sql = format!(
                "SELECT CONCAT_WS(' ', next_not_cached_value, minimum_value, maximum_value, \
                 start_value, increment, cache_size, cycle_option, cycle_count) FROM {}",
                TableName::new(row[0], row[1]).quoted()
            );
            match session.query(&sql) {
                Ok(values) => drop(found.insert(key, values.first().to_string())),
                // Dropped meanwhile: it is no longer listed, or listed again.
                Err(Trouble::Server { .. }) => {}
                Err(lost) => return Err(lost),
            }
        }
        Ok(())
    }

    fn is_hidden(&self, aspect: &Aspect, object: &str) -> bool {
        // To MariaDB every directory is a schema, also that of a file system's root.
        if object == "#mysql50#lost+found" {
            return true;
        }
        let of = |schema: &String| {
            let rest = object.strip_prefix(as_part(schema).as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        aspect.noun != "account" && self.hidden.iter().any(of)
    }

    /// The digests of all parts of these objects.
    ///
    /// # Errors
    /// Those of the session.
    pub fn parts(&self, session: &mut Session, keys: &BTreeSet<Key>) -> Result<Parts, Trouble> {
        let mut found = Parts::new();
        for (kind, aspect) in self.aspects.iter().enumerate() {
            let of_kind = keys.iter().filter(|(k, _)| *k == kind);
            let objects: Vec<&str> = of_kind.map(|(_, object)| object.as_str()).collect();
            if objects.is_empty() {
                continue;
            }
            let mut rest = objects.clone();
            if aspect.printed {
                let values = printed::read(session, aspect.noun, objects.iter().copied())?;
                rest.retain(|object| !values.contains_key(*object));
                found.extend(values.into_iter().map(|(o, v)| ((kind, o), v.into_iter().collect())));
            }
            if rest.is_empty() {
                continue;
            }
            for row in session.query(&aspect.parts_of(rest.into_iter()))?.iter() {
                let key = (kind, row[0].to_string());
                found.entry(key).or_default().insert((row[1].to_string(), row[2].to_string()));
            }
        }
        Ok(found)
    }

    /// The differences, for people: a line for each object.
    pub fn describe(
        &self,
        keys: &BTreeSet<Key>,
        (theirs, their_parts): (&Digests, &Parts),
        (ours, our_parts): (&Digests, &Parts),
    ) -> Vec<String> {
        let mut lines: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        let mut absent: BTreeSet<&str> = BTreeSet::new();
        let nothing = BTreeSet::new();
        for key in keys {
            let (noun, object) = (self.noun(key.0), key.1.as_str());
            let side = match (theirs.contains_key(key), ours.contains_key(key)) {
                (true, false) => "is missing in the backup",
                (false, true) => "is not on the primary",
                _ => "differs",
            };
            // Nothing more is said of what is missing altogether. The tables come first.
            if absent.contains(object) {
                continue;
            }
            if side != "differs" && matches!(noun, "table" | "view" | "schema") {
                absent.insert(object);
            }
            let parts = |all: &'_ Parts| all.get(key).unwrap_or(&nothing).clone();
            let changed = &parts(their_parts) ^ &parts(our_parts);
            let names: BTreeSet<String> =
                changed.iter().map(|(name, _)| harmless(self.part(key.0, name))).collect();
            let names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
            let (place, what) = match noun {
                "column" | "index" | "partition" | "foreign key" => {
                    ("table", format!("{noun} {} differs", some_of(&names)))
                }
                "account" if !names.is_empty() => {
                    (noun, format!("privilege {} differs", some_of(&names)))
                }
                _ => (noun, side.to_string()),
            };
            lines.entry((place, object)).or_default().push(what);
        }
        let line = |((noun, object), mut what): ((&str, &str), Vec<String>)| {
            what.dedup();
            format!("{noun} {}: {}", harmless(object), what.join(", "))
        };
        lines.into_iter().map(line).collect()
    }

    /// The name of a part for people: an index is one, whichever of its columns it is.
    fn part<'n>(&self, kind: usize, name: &'n str) -> &'n str {
        let of_index = self.noun(kind) == "index" && !self.aspects[kind].printed;
        let index = name.rsplit_once(' ').filter(|_| of_index).map(|(index, _)| index);
        index.unwrap_or(name).trim()
    }

    fn noun(&self, kind: usize) -> &'static str {
        self.aspects.get(kind).map_or("sequence", |aspect| aspect.noun)
    }
}

const VIEWS: &str = "\
    SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'VIEW'";
const SEQUENCES: &str = "\
    SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'SEQUENCE'";

/// As the answers to [`Aspect::digests`] have it.
fn object(row: &[&str]) -> String {
    format!("{}.{}", as_part(row[0]), row[1])
}

/// The objects that differ.
pub fn differing(theirs: &Digests, ours: &Digests) -> BTreeSet<Key> {
    let one = theirs.iter().filter(|(key, digest)| ours.get(*key) != Some(digest));
    let other = ours.iter().filter(|(key, _)| !theirs.contains_key(*key));
    one.chain(other).map(|(key, _)| key.clone()).collect()
}

/// The columns of the tables of accounts, by table.
///
/// # Errors
/// Those of the session.
pub fn account_columns(
    session: &mut Session,
    flavor: Flavor,
) -> Result<BTreeMap<String, Vec<String>>, Trouble> {
    let names: Vec<String> = aspects::grants(flavor).iter().map(|table| quoted(table.0)).collect();
    let sql = format!(
        "SELECT table_name, column_name FROM information_schema.columns \
         WHERE table_schema = 'mysql' AND table_name IN ({}) ORDER BY table_name, ordinal_position",
        names.join(", ")
    );
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in session.query(&sql)?.iter() {
        found.entry(row[0].to_string()).or_default().push(row[1].to_string());
    }
    Ok(found)
}
