//! The way to a moment, and around damage that it meets.

use crate::error::{Error, IoExt as _, Result};
use crate::journal::cut::{Cut, Moment};
use crate::journal::group::Transaction;
use crate::journal::history::{History, OutOfReach, Point, Route};
use crate::os::clock::Micros;
use crate::os::files;
use crate::pass::means::Means;
use crate::pass::until::{Replay, Target, Way};
use crate::replication::primary::Primary;
use crate::repository::held::Held;
use crate::repository::journals::Stores;
use crate::repository::manifest::Header;
use crate::repository::restore::{self, Into};
use crate::scratch::working_directory::Scratch;
use crate::supervisor::main_loop::Supervisor;

/// So many times what can be restored is read again, if it changes meanwhile.
const REREAD: u32 = 5;

/// Where a moment is looked for.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// What is stored.
    pub stores: &'a Stores,
    /// Has what is not stored, if there is one.
    pub primary: Option<&'a Result<Primary>>,
}

/// Fills the directory `target` with the data as it was at `moment`, or at the end of a backup that is of
/// this moment. `clear` makes it as it was again, where another way is to be taken.
///
/// # Errors
/// [`Error::OutOfReach`] for a moment that cannot be had; those of a restore, and of a private server.
pub fn restore(
    Sources { stores, primary }: Sources<'_>,
    supervisor: &mut Supervisor,
    moment: &Moment,
    means: &Means,
    target: Target<'_>,
    clear: &dyn Fn() -> Result<()>,
) -> Result<Taken> {
    let repo = &stores.backups;
    let mut crew = supervisor.crew("list", 1);
    let mut history = crew.alone(|| History::read(repo))?;
    drop(crew);
    check_flavor(&history, moment)?;
    // Whatever is wrong with what names it, nobody minds until it is needed.
    let primary = match (history.route(moment), primary) {
        (Err(out), Some(Ok(primary))) if is_beyond(&out) => Some(primary),
        (Err(out), Some(Err(wrong))) if is_beyond(&out) => {
            return Err(Error::config(wrong.to_string()));
        }
        _ => None,
    };
    let find = |history: &History| find(history, moment, primary.is_some());
    let mut route = find(&history)?;
    if let Some(what) = ambiguity(&history, moment, &route) {
        log::warn!("{what}");
    }
    let mut taking = Taking { stores, supervisor, moment, means, beyond: primary };
    let mut again = 0;
    let mut searches = false;
    loop {
        let (error, spoilt) = match taking.take(&history, &route, target) {
            Ok(taken) => return Ok(taken),
            Err(failed) => failed,
        };
        if matches!(error, Error::NoBackup { .. }) && again < REREAD {
            // A pass or a follower has removed it since, and has put something else in its place.
            again += 1;
            history = History::read(repo)?;
            route = find(&history)?;
            clear()?;
            continue;
        }
        if let Some(Spoilt::Search(at)) = spoilt {
            history.rule_out(at);
            route = find(&history)?;
            if !std::mem::replace(&mut searches, true) {
                log::info!("it is not where its number says: looking in other journals");
            }
            clear()?;
            continue;
        }
        // What was found damaged may be gone around.
        let (Error::BackupDamaged { backup, .. }, Some(spoilt)) = (&error, spoilt) else {
            return Err(error);
        };
        match spoilt {
            Spoilt::Data => history.spoil_data(backup),
            Spoilt::Journal | Spoilt::Search(_) => history.spoil_journal(backup),
        }
        match find(&history) {
            Ok(other) if other != route => route = other,
            _ => return Err(error),
        }
        log::warn!("{}: {error}; taking another way to that moment", error.cause());
        clear()?;
    }
}

/// Fills the data directory of `scratch`, which is made, with the data as it was at `moment`.
///
/// # Errors
/// As [`restore`].
pub fn fill(
    sources: Sources<'_>,
    supervisor: &mut Supervisor,
    moment: &Moment,
    means: &Means,
    scratch: &Scratch,
) -> Result<Taken> {
    let (data, user) = (scratch.data(), scratch.user());
    let target = Target { path: &data, owner: user, user };
    let clear = || {
        let emptied = files::open_dir(&data).and_then(|dir| files::empty(&dir, &|| false));
        emptied.doing("empty", &data)
    };
    restore(sources, supervisor, moment, means, target, &clear)
}

/// True if only what follows all that is stored can have the moment.
fn is_beyond(out: &OutOfReach) -> bool {
    out.after.is_none()
}

/// The way to a moment; on from what is stored if there is a primary that has it.
pub(super) fn find(history: &History, moment: &Moment, has_primary: bool) -> Result<Route> {
    let found = history.route(moment);
    let beyond = match &found {
        Err(out) if has_primary && is_beyond(out) => history.beyond(),
        _ => None,
    };
    beyond.map_or(found.map_err(|out| out_of_reach(history, moment, &out)), Ok)
}

/// What else has the name of the transaction that `moment` names.
pub(super) fn ambiguity(history: &History, moment: &Moment, route: &Route) -> Option<String> {
    match moment {
        Moment::Time(_) => None,
        Moment::After(gtid) | Moment::Before(gtid) => history.ambiguity(gtid, route),
    }
}

/// What is needed to take a way.
struct Taking<'a> {
    stores: &'a Stores,
    supervisor: &'a mut Supervisor,
    moment: &'a Moment,
    means: &'a Means,
    /// The primary that has what is not stored.
    beyond: Option<&'a Primary>,
}

/// What a way has led to.
pub struct Taken {
    /// The backup that was restored.
    pub held: Held,
    cut: Option<Cut>,
    replayed: bool,
}

impl Taken {
    /// The header of the data: that of the backup, brought to where it was cut.
    pub fn header(&self) -> Header {
        header(&self.held, self.cut.as_ref().filter(|_| self.replayed))
    }

    /// The last transaction that is in, and the first one that is not, in words; unless it is a backup.
    pub fn ends(&self) -> Option<[String; 2]> {
        self.cut.as_ref().map(|cut| ends(cut, &self.held))
    }
}

/// What is useless of the backup that an error names.
#[derive(Clone, Copy)]
enum Spoilt {
    Data,
    Journal,
    /// The journal that leads to this point has not the transaction.
    Search(usize),
}

impl Taking<'_> {
    fn take(
        &mut self,
        history: &History,
        route: &Route,
        target: Target<'_>,
    ) -> Result<Taken, (Error, Option<Spoilt>)> {
        let hold_by = |name: &str| self.stores.hold(name).map_err(|e| (e, None));
        let hold = |at: usize| hold_by(&history.points[at].name);
        let (held, cut) = match route {
            Route::Exactly(at) => (hold(*at)?, None),
            Route::Along(from, at) | Route::Beyond(from, at) => {
                let beyond = self.beyond.filter(|_| matches!(route, Route::Beyond(..)));
                let base = hold(*from)?;
                let steps = at.iter().filter_map(|at| history.points[*at].journal_of.as_deref());
                let mut names: Vec<&str> = steps.collect();
                names.dedup();
                let steps = names.into_iter().map(hold_by);
                let steps = steps.collect::<Result<Vec<Held>, _>>()?;
                let last = at.last().copied().unwrap_or(*from);
                let ends_well = history.points[last].is_good && beyond.is_none();
                let (steps_of, moment) = (&steps[..], self.moment);
                let way = Way { base: &base, steps: steps_of, ends_well, moment, beyond };
                let supervisor = &mut *self.supervisor;
                let (stores, means) = (self.stores, self.means);
                let mut replay = Replay { stores, supervisor, means, target };
                let cut = replay.restore(way).map_err(|e| {
                    let of_base =
                        matches!(&e, Error::BackupDamaged { backup, .. } if *backup == base.name);
                    (e, Some(if of_base { Spoilt::Data } else { Spoilt::Journal }))
                })?;
                if !cut.found && !matches!(self.moment, Moment::Time(_)) {
                    let why = "it is not in the journal".to_string();
                    let out = OutOfReach { why, before: Some(*from), after: Some(last) };
                    let search = beyond.is_none().then_some(Spoilt::Search(last));
                    return Err((out_of_reach(history, self.moment, &out), search));
                }
                if way.is_replayed(&cut) {
                    return Ok(Taken { held: base, cut: Some(cut), replayed: true });
                }
                let at_end = cut.next.is_none() && ends_well;
                let held = if at_end { hold(last)? } else { base };
                (held, Some(cut))
            }
        };
        // Of one of the backups itself.
        let (path, owner, into) = (target.path, target.owner, Into::Marked);
        let to =
            restore::Destination { path, owner, into, kept: restore::Kept::Synced, known: None };
        let mut crew = self.supervisor.crew("restore", self.means.jobs);
        restore::restore(self.stores.of(&held), &held, to, &mut crew)
            .map_err(|e| (e, Some(Spoilt::Data)))?;
        Ok(Taken { held, cut, replayed: false })
    }
}

/// Fails for a GTID of the other flavor.
///
/// # Errors
/// [`Error::Configuration`].
pub fn check_flavor(history: &History, moment: &Moment) -> Result<()> {
    let (Moment::After(gtid) | Moment::Before(gtid)) = moment else { return Ok(()) };
    match history.points.last() {
        Some(point) if point.position.flavor() != gtid.flavor() => Err(Error::config(format!(
            "{gtid} is a GTID of {}, and the backups are of {}",
            gtid.flavor().name(),
            point.position.flavor().name()
        ))),
        _ => Ok(()),
    }
}

/// The header of the data: that of the backup, brought to where it was cut.
fn header(held: &Held, cut: Option<&Cut>) -> Header {
    let header = held.manifest.header.clone();
    match cut {
        Some(Cut { position, last: Some(last), .. }) => {
            Header { position: position.to_string(), data_as_of: last.time.seconds(), ..header }
        }
        _ => header,
    }
}

/// The last transaction that is in, and the first one that is not.
fn ends(cut: &Cut, held: &Held) -> [String; 2] {
    let named = |t: &Transaction| format!("{} of {}", t.gtid, t.time.rfc3339());
    let last = match &cut.last {
        Some(last) => named(last),
        None => format!("the last one of {}", held.name),
    };
    let next = match (&cut.next, &cut.last) {
        (Some(next), _) => named(next),
        // All that the primary had, or all of the journals.
        (None, Some(last)) => format!("the first one after {}", last.gtid),
        (None, None) => format!("the first one after {}", held.name),
    };
    [
        format!("the last transaction that is in: {last}"),
        format!("the first transaction that is not: {next}"),
    ]
}

/// A moment, as it is written.
pub fn shown(moment: &Moment) -> String {
    match moment {
        Moment::Time(time) => time.rfc3339(),
        Moment::After(gtid) => gtid.to_string(),
        Moment::Before(gtid) => format!("before {gtid}"),
    }
}

fn out_of_reach(history: &History, moment: &Moment, out: &OutOfReach) -> Error {
    let point = |at: usize, time: fn(&Point) -> Micros| {
        let point = &history.points[at];
        let backup = if point.is_good { format!("backup {}, ", point.name) } else { String::new() };
        format!("{} ({backup}at {})", time(point).rfc3339(), point.position)
    };
    let nearest = match (out.before, out.after) {
        (Some(before), Some(after)) => {
            let (before, after) = (point(before, Point::until), point(after, Point::began));
            format!("the nearest that can be are {before} and {after}")
        }
        (Some(before), None) => {
            format!("the nearest that can be is {}", point(before, Point::until))
        }
        (None, Some(after)) => format!("the nearest that can be is {}", point(after, Point::began)),
        (None, None) => "there is no backup that can be restored".into(),
    };
    let what = format!("the moment {} cannot be restored: {}; {nearest}", shown(moment), out.why);
    Error::OutOfReach { what }
}
