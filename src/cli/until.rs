//! `restore --until`: finds the way to the moment, and says what became of it.

use std::path::Path;
use std::time::Instant;

use crate::cli::next_steps;
use crate::cli::restore_dir;
use crate::error::{Error, Place, Result};
use crate::journal::cut::{Cut, Moment};
use crate::journal::group::Transaction;
use crate::journal::history::{History, OutOfReach, Route};
use crate::os::space::placed;
use crate::os::sys;
use crate::pass::until::{Means, Replay, Target, Way};
use crate::repository::directory::Repository;
use crate::repository::held::Held;
use crate::repository::manifest::Header;
use crate::repository::restore::{self, Into};
use crate::scratch::run_as;
use crate::supervisor::main_loop::Supervisor;
use crate::text::short;

/// Restores the data as it was at `moment` into the directory `to`. Returns the exit status.
///
/// # Errors
/// [`Error::OutOfReach`] for a moment that cannot be had; those of a restore, and of a private server.
pub fn restore(repo: &Path, to: &Path, moment: &Moment, means: &Means) -> Result<u8> {
    let began = Instant::now();
    let repo = Repository::open(repo)?;
    let mut supervisor = Supervisor::new(means.retries.poll)?;
    let target = restore_dir::Target::claim(to, repo.root())?;
    let mut crew = supervisor.crew("list", 1);
    let history = crew.alone(|| History::read(&repo))?;
    drop(crew);
    check_flavor(&history, moment)?;
    let route = history.route(moment).map_err(|out| out_of_reach(&history, moment, &out))?;
    let hold = |at: usize| repo.hold(&history.points[at].name);
    let user = match sys::is_root() {
        true => {
            run_as::choose(true, target.owner().unwrap_or_default(), means.server.user.as_deref())?
        }
        false => run_as::choose(false, (0, 0), means.server.user.as_deref())?,
    };
    let directory = Target { path: target.path(), owner: target.owner(), user };
    let full = |e| placed(e, &[(target.path(), Place::Target)]);
    let (held, cut) = match route {
        Route::Exactly(at) => (hold(at)?, None),
        Route::Along(from, at) => {
            let (base, next) = (hold(from)?, hold(at)?);
            let way = Way { base: &base, next: &next, moment };
            let supervisor = &mut supervisor;
            let mut replay = Replay { repo: &repo, supervisor, means, target: directory };
            let cut = replay.restore(way).map_err(full)?;
            if !cut.found && !matches!(moment, Moment::Time(_)) {
                let why = "it is not in the journal".to_string();
                let out = OutOfReach { why, before: Some(from), after: Some(at) };
                return Err(out_of_reach(&history, moment, &out));
            }
            (if cut.next.is_none() { next } else { base }, Some(cut))
        }
    };
    // Of one of the backups itself.
    let replayed = cut.as_ref().is_some_and(|cut| cut.transactions > 0 && cut.next.is_some());
    if !replayed {
        let (path, owner, into) = (target.path(), target.owner(), Into::Empty);
        let to = restore::Destination { path, owner, into, durable: true, known: None };
        let mut crew = supervisor.crew("restore", means.jobs);
        restore::restore(&repo, &held, to, &mut crew).map_err(full)?;
    }
    target.keep();
    log::info!(
        "restored the moment {} to {} in {}",
        shown(moment),
        to.display(),
        short(began.elapsed())
    );
    if let Some(cut) = &cut {
        for line in ends(cut, &held) {
            log::info!("{line}");
        }
    }
    let header = header(&held, cut.as_ref().filter(|_| replayed));
    for line in next_steps::lines(&header, to, next_steps::owner(to)) {
        log::info!("{line}");
    }
    Ok(0)
}

fn check_flavor(history: &History, moment: &Moment) -> Result<()> {
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
    let next = match &cut.next {
        Some(next) => named(next),
        None => format!("the first one after {}", held.name),
    };
    [
        format!("the last transaction that is in: {last}"),
        format!("the first transaction that is not: {next}"),
    ]
}

fn shown(moment: &Moment) -> String {
    match moment {
        Moment::Time(time) => time.rfc3339(),
        Moment::After(gtid) => gtid.to_string(),
        Moment::Before(gtid) => format!("before {gtid}"),
    }
}

fn out_of_reach(history: &History, moment: &Moment, out: &OutOfReach) -> Error {
    let point = |at: usize| {
        let point = &history.points[at];
        format!("{} (backup {}, at {})", point.until().rfc3339(), point.name, point.position)
    };
    let nearest = match (out.before, out.after) {
        (Some(before), Some(after)) => {
            format!("the nearest that can be are {} and {}", point(before), point(after))
        }
        (Some(only), None) | (None, Some(only)) => {
            format!("the nearest that can be is {}", point(only))
        }
        (None, None) => "there is no backup that can be restored".into(),
    };
    let what = format!("the moment {} cannot be restored: {}; {nearest}", shown(moment), out.why);
    Error::OutOfReach { what }
}
