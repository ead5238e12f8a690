//! The first backup: a dump by the primary's own client, loaded into a fresh private server.
//!
//! A client may exit with status 0 although data is missing, so nothing is taken on trust:
//! privileges are checked before, every complaint is a failure, the tables are compared
//! afterwards, and those outside InnoDB must not have been written meanwhile. A table that was
//! dropped meanwhile is missing: the dump is consistent only once it has caught up to where the
//! primary was after it. The password reaches the client through a pipe.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::error::remedy::CHANGED;
use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::settings::{STOPWORDS, value};
use crate::os::workers::Aside;
use crate::replication::primary::{Facts, Primary};
use crate::replication::privileges;
use crate::replication::replica;
use crate::replication::time_zone;
use crate::seed::carried;
use crate::seed::carry::Carrier;
use crate::seed::client_session::begins_with;
use crate::seed::definers;
use crate::seed::dump_client::{Has, everything, triggers};
use crate::seed::engines;
use crate::seed::histograms;
use crate::seed::json;
use crate::seed::memory;
use crate::seed::modes;
use crate::seed::moment::{self, Client, Moment, Watch};
use crate::seed::pipe::{Dump, Output, Pipe};
use crate::seed::prepared::Absence;
use crate::seed::read_only;
use crate::seed::seeding::{Seeded, Seeding};
use crate::seed::sequences;
use crate::seed::spatial;
use crate::seed::sys_schema;
use crate::seed::tables::{self, Tables};
use crate::server::mysqld::Mysqld;
use crate::server::setup::Setup;
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::Nothing;

/// How the first backup is taken from the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A logical dump.
    Dump,
    /// MySQL's CLONE.
    Clone,
}

/// The maximum number of dumps made while tables come, go or change, or while what happened during
/// it cannot be applied to it.
pub const TRIES: u32 = 3;

/// How often a moment for a dump is looked for, and the pause after the first time.
const MOMENTS: u32 = 150;
/// Of these tries the even ones lock the primary: not the first ones, nor for ever.
const LOCKED: RangeInclusive<u32> = 4..=20;
/// So many times no transaction may have been prepared in between either.
const STRICT: u32 = 8;
const PAUSE: Duration = Duration::from_millis(20);

/// What a server without any tables takes, with its redo log.
const EMPTY_SERVER: u64 = 120 << 20;

/// Fills the scratch directory with a dump of the primary, as a data directory that was shut
/// down cleanly.
///
/// # Errors
/// What keeps it from being complete and of one moment.
pub fn dump(seeding: &mut Seeding, primary: &Primary, facts: &Facts) -> Result<Seeded> {
    check_stopwords(facts)?;
    let asked = facts.clone();
    primary.question(seeding.supervisor, &mut Nothing, move |primary| {
        primary.check_privileges(&asked, privileges::dump(asked.flavor))
    })?;
    let asked = facts.clone();
    primary
        .question(seeding.supervisor, &mut Nothing, move |primary| json::check(primary, &asked))?;
    let asked = facts.clone();
    primary.question(seeding.supervisor, &mut Nothing, move |primary| {
        tables::check_names(primary, &asked)?;
        memory::warn(primary, &asked)
    })?;
    for tries in 1.. {
        let before = list(seeding, primary, facts)?;
        let dumped = dump_once(seeding, primary, facts, &before);
        let Err(Error::ReplicationError { errno, text }) = dumped else { return dumped };
        let after = list(seeding, primary, facts)?;
        // "Table definition has changed" and "no such table" of the servers' error references.
        let changed = matches!(errno, 1412 | 1146) || !before.tables.keys().eq(after.tables.keys());
        if changed && tries == TRIES {
            let text = format!("{CHANGED} {tries} dumps, the last time with: {text}");
            return Err(Error::ReplicationError { errno, text });
        }
        let e = Error::ReplicationError { errno, text };
        if !changed {
            return Err(e);
        }
        log::warn!("{}: {e}; tables changed meanwhile, dumping again", e.cause());
    }
    unreachable!("the last try returns")
}

/// Fails if full-text indexes would be made before the table of stopwords is there.
fn check_stopwords(facts: &Facts) -> Result<()> {
    match value(&facts.settings, STOPWORDS) {
        None | Some("") => Ok(()),
        Some(table) => Err(Error::config(format!(
            "a dump would make full-text indexes without the stopwords in {table}, as primary {} has \
             them in {STOPWORDS}: use --from dir:PATH, or clone on MySQL",
            facts.address
        ))),
    }
}

fn dump_once(
    seeding: &mut Seeding,
    primary: &Primary,
    facts: &Facts,
    before: &Contents,
) -> Result<Seeded> {
    seeding.make_empty(before.bytes() + EMPTY_SERVER)?;
    let mut mysqld = seeding.start(true)?;
    // What of the zone only may differ is said when the server is started again.
    let seeded = time_zone::check(&mut mysqld, &facts.address.to_string(), &facts.zone)
        .and_then(|_| engines::check(seeding.supervisor, &mut mysqld, &before.engines))
        .and_then(|()| load(seeding, &mut mysqld, primary, facts, before))
        .and_then(|()| check(seeding.supervisor, &mut mysqld, primary, facts, before))
        .map_err(|e| seeding.explain(&mut mysqld, e))?;
    seeding.finish(mysqld)?;
    Ok(seeded)
}

/// Loads everything, and sets the position.
fn load(
    seeding: &mut Seeding,
    mysqld: &mut Mysqld,
    primary: &Primary,
    facts: &Facts,
    before: &Contents,
) -> Result<()> {
    let stall = seeding.patience.stall;
    sys_schema::carry(seeding.supervisor, mysqld, facts, &before.sys)?;
    spatial::carry(seeding.supervisor, mysqld, facts, &before.spatial)?;
    modes::accept(mysqld, facts.flavor)?;
    definers::make_known(mysqld, &before.definers)?;
    let (dump, output, Moment { position, reader }) =
        begin(seeding, mysqld, primary, facts, before)?;
    let asked = facts.clone();
    let list = move |primary: &Primary| sequences::statements(primary, &asked);
    let sequences = primary.question(seeding.supervisor, mysqld, list)?;
    sequences::make(mysqld, &sequences)?;
    let mut beside = None;
    if let Some(from) = reader {
        let mut to = mysqld.take_session()?;
        to.set_timeout(Duration::ZERO);
        let tables = before.carried.clone();
        let mut carrier = Carrier { from, to, tables, facts: facts.clone() };
        let carrier = primary.question(seeding.supervisor, mysqld, move |_| {
            carrier.define()?;
            Ok(carrier)
        })?;
        beside = Some(Aside::ask(seeding.supervisor.waker(), move || carrier.fill())?);
    }
    let room = seeding.room_beside(before.bytes());
    let pipe = Pipe::start(&seeding.setup, mysqld, dump, output, None, room)?;
    pipe.run(seeding.supervisor, stall, &before.tables, beside)?;
    for tables in before.carried.chunk_by(|a, b| a.schema == b.schema) {
        let tables: Vec<_> = tables.iter().filter(|t| t.triggers).collect();
        let Some(first) = tables.first() else { continue };
        let names = tables.iter().map(|table| table.name.clone());
        let mut what: Vec<_> = before.begins_with.iter().cloned().collect();
        what.extend(triggers(facts.flavor, &first.schema, names));
        let mut dump = Dump::start(&seeding.setup, primary, facts, &what)?;
        let (output, into) = (dump.take_output(), Some(first.schema.as_str()));
        let pipe = Pipe::start(&seeding.setup, mysqld, dump, output, into, room)?;
        pipe.run(seeding.supervisor, stall, &Tables::new(), None)?;
    }
    let asked = facts.clone();
    let list = move |primary: &Primary| histograms::statements(primary, &asked);
    let statements = primary.question(seeding.supervisor, mysqld, list)?;
    histograms::make(seeding.supervisor, mysqld, statements)?;
    let asked = facts.clone();
    let schemas = primary
        .question(seeding.supervisor, mysqld, move |primary| read_only::schemas(primary, &asked))?;
    read_only::make(mysqld, &schemas)?;
    if !position.is_empty() {
        let position = Position::parse(facts.flavor, &position)
            .map_err(|text| Error::ReplicationError { errno: 0, text })?;
        replica::set_position(mysqld, &position)?;
    }
    Ok(())
}

/// A dump that waits to be read, and its moment.
type Begun = (Dump, Option<Output>, Moment);

/// Starts a dump of a moment without prepared transactions, and finds out of which moment it is where that
/// is needed: MariaDB's tells it by itself.
fn begin(
    seeding: &mut Seeding,
    mysqld: &mut Mysqld,
    primary: &Primary,
    facts: &Facts,
    before: &Contents,
) -> Result<Begun> {
    let ignored: Vec<String> = before.carried.iter().map(carried::Table::full).collect();
    let mut what = everything(facts.flavor, before.has, &ignored);
    what.extend(before.begins_with.clone());
    let reads = !before.carried.is_empty();
    let tells = facts.flavor == Flavor::MariaDb && !reads;
    let from = Beginning { primary, facts, what, reads, tells };
    let asked = facts.clone();
    let may_lock = primary.question(seeding.supervisor, mysqld, move |primary| {
        Ok(primary.check_privileges(&asked, &["RELOAD"]).is_ok())
    })?;
    let mut absence = Absence::new(primary, facts);
    let mut why = "it commits all the time".to_string();
    for tries in 1..=MOMENTS {
        let ends = absence.wait(seeding.supervisor, mysqld)?;
        let lock = may_lock && !tells && LOCKED.contains(&tries) && tries % 2 == 0;
        // With so many of them, one that is missing shows when the binary log ends it.
        let ends = (tries <= STRICT).then_some(&ends);
        match from.once(seeding, mysqld, lock)? {
            // MySQL's look at its moment includes them.
            Ok(begun)
                if facts.flavor == Flavor::MySql
                    || absence.lasted(ends, seeding.supervisor, mysqld)? =>
            {
                return Ok(begun);
            }
            Ok(_) => why = "transactions are prepared (XA) all the time".into(),
            Err(Some(busy)) => why = busy,
            Err(None) => {}
        }
        seeding.supervisor.pause(mysqld, PAUSE.saturating_mul(tries.min(25)))?;
    }
    let address = &facts.address;
    if may_lock || from.tells {
        let text = format!(
            "there is no moment of {address} to dump: {why}; seed again later, or copy the data \
             directory (--from dir:PATH, or clone on MySQL)"
        );
        return Err(Error::ReplicationError { errno: 0, text });
    }
    Err(Error::config(format!(
        "a dump may change FLOAT, DOUBLE or ENUM columns, text that is not Unicode, or ARCHIVE tables, \
         such as {}, and copying them takes a moment without commits, which {address} does not have: grant RELOAD there, for a lock of less than a second, \
         or use --from dir:PATH",
        before.carried[0].full()
    )))
}

/// How a dump begins.
struct Beginning<'a> {
    primary: &'a Primary,
    facts: &'a Facts,
    /// What the client is told to dump.
    what: Vec<String>,
    /// A session of ours reads as of the same moment.
    reads: bool,
    /// The client tells its moment.
    tells: bool,
}

impl Beginning<'_> {
    /// Tries it once, while the primary is locked with `lock`. Without a moment that is known, why there
    /// was none.
    fn once(
        &self,
        seeding: &mut Seeding,
        mysqld: &mut Mysqld,
        lock: bool,
    ) -> Result<Result<Begun, Option<String>>> {
        let (primary, facts, reads) = (self.primary, self.facts, self.reads);
        let start = |setup: &Setup| Dump::start(setup, primary, facts, &self.what);
        if self.tells {
            let mut dump = start(&seeding.setup)?;
            let Some(mut output) = dump.take_output() else { return Ok(Err(None)) };
            let client = Client::of(&dump);
            let wait = Wait { every: PAUSE, patience: seeding.patience.stall };
            let begun = seeding.supervisor.wait_for(mysqld, wait, |_, _| {
                let begun = client.has_begun_or_ended(&mut output);
                Ok(if begun { Look::Done(()) } else { Look::Still })
            })?;
            if let Some(error) = dump.failure() {
                return Err(error);
            }
            if begun.is_none() {
                let after = seeding.patience.stall.unwrap_or_default();
                return Err(Error::Stalled { after, what: "the dump has not begun".into() });
            }
            let moment = Moment { position: String::new(), reader: None };
            return Ok(Ok((dump, Some(output), moment)));
        }
        let asked = facts.clone();
        let watch = primary.question(seeding.supervisor, mysqld, move |primary| {
            Watch::begin(primary, asked, reads, lock)
        })?;
        let watch = match watch {
            moment::Begun::Busy(why) => return Ok(Err(Some(why))),
            moment::Begun::Ready(watch) => watch,
        };
        let mut dump = start(&seeding.setup)?;
        let (pid, report) = (dump.pid(), dump.report().to_path_buf());
        let Some(mut output) = dump.take_output() else { return Ok(Err(None)) };
        let find = move |_: &Primary| Ok((watch.find(pid, &report, &mut output)?, output));
        let found = primary.question(seeding.supervisor, mysqld, find)?;
        match (found, dump.failure()) {
            (_, Some(error)) => Err(error),
            ((Some(moment), output), None) => Ok(Ok((dump, Some(output), moment))),
            ((None, _), None) => Ok(Err(None)),
        }
    }
}

/// What the primary has.
struct Contents {
    tables: Tables,
    /// Those that the client would change.
    carried: Vec<carried::Table>,
    /// System versions of some, or sequences.
    has: Has,
    /// What the client is told to set first.
    begins_with: Option<String>,
    /// Engines that the private server may lack.
    engines: engines::Engines,
    /// For whom routines and views act.
    definers: BTreeSet<(String, String)>,
    /// In a schema that the client leaves out.
    sys: Arc<sys_schema::Contents>,
    /// What no client dumps.
    spatial: Arc<spatial::Systems>,
}

impl Contents {
    fn bytes(&self) -> u64 {
        self.tables.values().map(|t| t.bytes).sum()
    }
}

fn list(seeding: &mut Seeding, primary: &Primary, facts: &Facts) -> Result<Contents> {
    let facts = facts.clone();
    primary.question(seeding.supervisor, &mut Nothing, move |primary| {
        let tables = tables::list_primary(primary, &facts)?;
        let versions = tables::check_versions(primary, &facts)?;
        let has = Has { versions, sequences: !sequences::names(primary, &facts)?.is_empty() };
        let begins_with = begins_with(primary, &facts)?;
        let definers = definers::list(primary, &facts)?;
        let carried = carried::list(primary, &facts)?;
        let engines = engines::list(primary, &facts)?;
        let sys = Arc::new(sys_schema::list(primary, &facts)?);
        let spatial = Arc::new(spatial::list(primary, &facts)?);
        moment::check_log(primary, &facts)?;
        Ok(Contents { tables, carried, has, begins_with, engines, definers, sys, spatial })
    })
}

/// Compares what was loaded with the primary, and reads the position.
fn check(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    primary: &Primary,
    facts: &Facts,
    before: &Contents,
) -> Result<Seeded> {
    let (asked, sys, systems) = (facts.clone(), before.sys.clone(), before.spatial.clone());
    let after = primary.question(supervisor, mysqld, move |primary| {
        sys_schema::check_unchanged(primary, &asked, &sys)?;
        spatial::check_unchanged(primary, &asked, &systems)?;
        tables::list_primary(primary, &asked)
    })?;
    let loaded = tables::list_private(supervisor, mysqld, facts.flavor)?;
    tables::compare(&before.tables, &after, &loaded)?;
    if facts.flavor == Flavor::MariaDb {
        // The dump holds a CHANGE MASTER.
        mysqld.run("RESET SLAVE ALL")?;
    }
    let position = replica::position(mysqld, facts.flavor)?;
    if position.is_empty() {
        return Err(Error::ReplicationError { errno: 0, text: "the dump has no position".into() });
    }
    let answer = mysqld.control()?.query("SELECT VERSION()");
    let version = answer.map_err(|t| mysqld.lost("answer to a query", t))?.first().to_string();
    Ok(Seeded { position, version })
}
