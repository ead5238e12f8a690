//! MySQL's spatial reference systems, which no client dumps: a table with a column of one that a user has
//! made could not be made here, neither now nor later.
//!
//! Each server brings some 5,000 of its own, which users may change and drop, too.

use std::collections::BTreeMap;

use crate::compare::definitions::SAME;
use crate::compare::sessions::ask_private;
use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::{Session, quoted};
use crate::mysql::trouble::Trouble;
use crate::replication::primary::{Facts, Primary, refused};
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::Supervisor;

/// All but the one that every server has and none can change. A mark tells an empty text from none.
const LIST: &str = "\
    SELECT srs_id, srs_name, definition, IFNULL(CONCAT('=', organization), ''), \
           IFNULL(organization_coordsys_id, 0), IFNULL(CONCAT('=', description), '') \
    FROM information_schema.st_spatial_reference_systems WHERE srs_id <> 0";

/// By number, each with its attributes as a statement has them.
pub type Systems = BTreeMap<u64, String>;

/// Those of the primary.
///
/// # Errors
/// Those of any query to it.
pub fn list(primary: &Primary, facts: &Facts) -> Result<Systems> {
    if facts.flavor == Flavor::MariaDb {
        return Ok(Systems::new());
    }
    let mut session = primary.open(facts)?;
    session.set_timeout(primary.listing);
    let systems = session.run(SAME).and_then(|()| read(&mut session));
    systems.map_err(|t| refused(&facts.address, t))
}

/// Gives the fresh server those of the primary, before anything is loaded that has one.
///
/// # Errors
/// [`Error::ReplicationError`] for one that it does not take; those of any query to it.
pub fn carry(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    facts: &Facts,
    systems: &Systems,
) -> Result<()> {
    if facts.flavor == Flavor::MariaDb {
        return Ok(());
    }
    let (wanted, version) = (systems.clone(), number(&facts.version).to_string());
    let answer = ask_private(supervisor, mysqld, move |session| {
        let fresh = read(session)?;
        // One of another version may have more by itself.
        let same = number(session.query("SELECT VERSION()")?.first()) == version;
        let statements = statements(&wanted, &fresh, same);
        if statements.is_empty() {
            return Ok(true);
        }
        statements.iter().try_for_each(|statement| session.run(statement))?;
        let now = read(session)?;
        Ok(wanted.iter().all(|(id, attributes)| now.get(id) == Some(attributes)))
    })?;
    if answer.map_err(|t| mysqld.lost("spatial reference systems", t))? {
        return Ok(());
    }
    let text = "the spatial reference systems could not be carried".into();
    Err(Error::ReplicationError { errno: 0, text })
}

/// Fails if they changed while the dump ran, which then has those of before.
///
/// # Errors
/// [`Error::ReplicationError`] for another dump; as [`list`].
pub fn check_unchanged(primary: &Primary, facts: &Facts, before: &Systems) -> Result<()> {
    if list(primary, facts)? == *before {
        return Ok(());
    }
    // That of a table whose definition has changed.
    let text = "spatial reference systems were changed while the dump ran".into();
    Err(Error::ReplicationError { errno: 1412, text })
}

fn read(session: &mut Session) -> Result<Systems, Trouble> {
    let system = |r: Vec<&str>| Some((r[0].parse().ok()?, attributes(&r)));
    Ok(session.query(LIST)?.iter().filter_map(system).collect())
}

/// What makes `fresh` what is `wanted`; what only it has goes if `all` of it must be the same.
fn statements(wanted: &Systems, fresh: &Systems, all: bool) -> Vec<String> {
    let other = |(id, attributes): &(&u64, &String)| wanted.get(id) != Some(attributes);
    let goes = |(id, _): &(&u64, &String)| all || wanted.contains_key(id);
    // No two may have the same name, not even for a moment.
    let dropped = fresh.iter().filter(other).filter(goes);
    let dropped = dropped.map(|(id, _)| format!("DROP SPATIAL REFERENCE SYSTEM {id}"));
    let made = wanted.iter().filter(|(id, attributes)| fresh.get(id) != Some(attributes));
    let made = made.map(|(id, given)| format!("CREATE SPATIAL REFERENCE SYSTEM {id} {given}"));
    dropped.chain(made).collect()
}

fn attributes(row: &[&str]) -> String {
    let mut text = format!("NAME {} DEFINITION {}", quoted(row[1]), quoted(row[2]));
    if let Some(organization) = row[3].strip_prefix('=') {
        let id: u64 = row[4].parse().unwrap_or_default();
        text += &format!(" ORGANIZATION {} IDENTIFIED BY {id}", quoted(organization));
    }
    if let Some(description) = row[5].strip_prefix('=') {
        text += &format!(" DESCRIPTION {}", quoted(description));
    }
    text
}

/// `9.7.4` of `9.7.4-2`.
fn number(version: &str) -> &str {
    version.split('-').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_made_again() {
        let of = |list: &[(u64, &str)]| list.iter().map(|(id, t)| (*id, t.to_string())).collect();
        let wanted: Systems = of(&[(1, "a"), (2, "c"), (4, "b")]);
        let fresh: Systems = of(&[(1, "a"), (2, "b"), (3, "x")]);
        let [drop, make] =
            ["DROP", "CREATE"].map(|verb| format!("{verb} SPATIAL REFERENCE SYSTEM"));
        let made = [format!("{make} 2 c"), format!("{make} 4 b")];
        let dropped = [format!("{drop} 2"), format!("{drop} 3")];
        assert_eq!(statements(&wanted, &fresh, true), [dropped.clone(), made.clone()].concat());
        assert_eq!(statements(&wanted, &fresh, false), [&dropped[..1], &made].concat());
        assert!(statements(&wanted, &wanted, true).is_empty());
        assert_eq!(
            attributes(&["9", "it's", "PROJCS[\"\\\"]", "=", "7", "="]),
            "NAME 'it\\'s' DEFINITION 'PROJCS[\"\\\\\"]' ORGANIZATION '' IDENTIFIED BY 7 DESCRIPTION ''"
        );
        assert_eq!(attributes(&["9", "n", "d", "", "0", ""]), "NAME 'n' DEFINITION 'd'");
    }
}
