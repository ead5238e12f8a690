//! The life of a private mysqld around the loop: waiting until it is ready, shutting it down,
//! and what an error met on the way really means.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::os::process::VitalSigns;
use crate::report::keys::Key;
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::{Look, Supervisor, Telling, Wait};
use crate::supervisor::watched::Watched;

/// How long a killed mysqld may take to vanish before it is called hung.
const DYING: Duration = Duration::from_secs(5);

/// How patient the steps are.
#[derive(Clone, Copy)]
pub struct Patience {
    /// `--start-timeout`.
    pub start: Duration,
    /// `--shutdown-timeout`.
    pub shutdown: Duration,
    /// `--stall-timeout`, if it is not off.
    pub stall: Option<Duration>,
}

/// Waits until all of our sessions with a starting mysqld are open.
///
/// # Errors
/// [`Error::MysqldStart`], its death, or [`Error::MysqldHung`] after `patience` without life;
/// [`Error::Configuration`] when it is up and cannot read its data.
pub fn wait_until_ready(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    patience: Duration,
) -> Result<()> {
    supervisor.checkpoint.set(Key::MysqldPid, mysqld.pid());
    let wait = Wait { every: Duration::from_millis(50), patience: Some(patience) };
    let mut telling = Telling::new("mysqld is still starting", patience);
    supervisor
        .wait_for(mysqld, wait, |mysqld, _| {
            telling.look();
            Ok(if mysqld.connect()? { Look::Done(()) } else { Look::Still })
        })?
        .ok_or_else(|| {
            let hung = Error::MysqldHung { what: "end of its start".into(), after: Some(patience) };
            mysqld.shortage_or(hung)
        })?;
    mysqld.check_components()
}

/// The proof that a mysqld ended by a clean shutdown: its data can be stored.
pub struct CleanShutdown(());

/// Shuts mysqld down cleanly.
///
/// # Errors
/// Its death by anything else, or [`Error::MysqldHung`] after `patience` without life; then it
/// is killed.
pub fn shut_down(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    patience: Duration,
) -> Result<CleanShutdown> {
    mysqld.ask_to_end();
    let mut stop = None;
    let mut ended = wait_for_exit(supervisor, mysqld, patience);
    if let Err(e @ Error::Interrupted { .. }) = ended {
        // It is on its way already: let it end well, and report the stop then.
        supervisor.begin_ending();
        stop = Some(e);
        ended = wait_for_exit(supervisor, mysqld, patience);
    }
    if !matches!(ended, Ok(true)) {
        mysqld.kill();
        if let Some(stop) = stop {
            return Err(stop);
        }
        ended?;
        return Err(Error::MysqldHung { what: "clean end".into(), after: Some(patience) });
    }
    if let Some(stop) = stop {
        return Err(stop);
    }
    match mysqld.ended() {
        Some(end) if !mysqld.ended_cleanly() => Err(end),
        _ => Ok(CleanShutdown(())),
    }
}

/// What `error`, met while asking `mysqld` something, really means: a session that was
/// closed is mysqld's end, for which the kernel may need a moment, or its shutdown by
/// somebody else, which is waited for with `patience` as long as it shows signs of life. Memory
/// or space that it was refused may show as an error of replication or as a hang.
pub fn explain(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    error: Error,
    patience: Duration,
) -> Error {
    // A server that goes down refuses statements with errors that look like anybody's fault:
    // MySQL lacks a table of its own then.
    let pinged = match error {
        Error::ReplicationError { .. } => mysqld.ping(),
        _ => Ok(()),
    };
    let error = match pinged {
        Err(gone @ Error::MysqldHung { .. }) => gone,
        _ => error,
    };
    let Error::MysqldHung { after, .. } = &error else { return mysqld.shortage_or(error) };
    let patience = if after.is_none() { patience.max(DYING) } else { Duration::ZERO };
    let wait = Wait { every: Duration::from_millis(100), patience: Some(patience) };
    let end = supervisor.wait_for(&mut Dying(mysqld), wait, |dying, _| {
        Ok(dying.0.ended().map_or(Look::Still, Look::Done))
    });
    match end {
        Ok(Some(end)) => end,
        Ok(None) => mysqld.shortage_or(error),
        Err(stop) => stop,
    }
}

/// Waits until `mysqld` has ended; `false` if it has not and shows no sign of life for
/// `patience`, or a second signal came.
///
/// # Errors
/// A stop, unless one is under way.
pub fn wait_for_exit(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    patience: Duration,
) -> Result<bool> {
    let wait = Wait { every: Duration::from_secs(1), patience: Some(patience) };
    let mut telling = Telling::new("mysqld is still shutting down", patience);
    let ended = supervisor.wait_for(&mut Dying(mysqld), wait, |dying, _| {
        telling.look();
        Ok(if dying.0.has_exited() { Look::Done(()) } else { Look::Still })
    })?;
    Ok(ended.is_some())
}

/// A mysqld whose end is what we wait for.
struct Dying<'a>(&'a mut Mysqld);

impl Watched for Dying<'_> {
    fn vital_signs(&self) -> Option<VitalSigns> {
        self.0.vital_signs()
    }
    fn look_after(&mut self) -> Result<()> {
        self.0.look_after()
    }
}
