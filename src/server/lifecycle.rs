//! Starting and stopping a private mysqld: waiting until it is ready, shutting it down, and
//! explaining errors met on the way.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::os::process::Activity;
use crate::report::keys::Key;
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::{Look, Supervisor, Telling, Wait};
use crate::supervisor::watched::Watched;

/// How long a killed mysqld may take to exit before it counts as hung.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// The time-outs of the steps.
#[derive(Clone, Copy)]
pub struct Patience {
    /// `--start-timeout`.
    pub start: Duration,
    /// `--shutdown-timeout`.
    pub shutdown: Duration,
    /// `--stall-timeout`, unless it is off.
    pub stall: Option<Duration>,
}

/// Waits until all our sessions with a starting mysqld are open.
///
/// # Errors
/// [`Error::MysqldStart`], [`Error::MysqldDied`], or [`Error::MysqldHung`] after `patience` without
/// activity; [`Error::Configuration`] if it is up but cannot read its data.
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
            let hung = Error::MysqldHung { what: "completed start".into(), after: Some(patience) };
            mysqld.root_cause(hung)
        })?;
    mysqld.check_components()
}

/// The proof that a mysqld ended by a clean shutdown: its data can be stored.
pub struct CleanShutdown(());

/// Shuts mysqld down cleanly.
///
/// # Errors
/// [`Error::MysqldDied`], or [`Error::MysqldHung`] after `patience` without activity, or a second
/// signal, when it is killed.
pub fn shut_down(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    patience: Duration,
) -> Result<CleanShutdown> {
    mysqld.request_shutdown();
    let mut stop = None;
    let mut ended = wait_for_exit(supervisor, mysqld, patience);
    if let Err(e @ Error::Interrupted { .. }) = ended {
        // It is already shutting down: let it finish, and report the stop then.
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
        return Err(out_of_patience(supervisor, "clean exit", patience));
    }
    if let Some(stop) = stop {
        return Err(stop);
    }
    match mysqld.ended() {
        Some(end) if !mysqld.shutdown_completed() => Err(end),
        _ => Ok(CleanShutdown(())),
    }
}

/// Why an ending mysqld is waited for no longer: a second signal, or it did nothing for `patience`.
pub fn out_of_patience(supervisor: &mut Supervisor, what: &str, patience: Duration) -> Error {
    if supervisor.was_told_again() {
        let how = "it was killed, since a second signal arrived".into();
        return Error::MysqldDied { how, log: String::new() };
    }
    Error::MysqldHung { what: what.into(), after: Some(patience) }
}

/// Finds the real reason for `error`, met while querying `mysqld`. A closed session means that
/// mysqld has exited, for which the kernel may need a moment, or is being shut down by another
/// process, which is waited for with `patience` while it is active. A lack of memory or space may
/// show as a replication error or a hang.
pub fn explain(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    error: Error,
    patience: Duration,
) -> Error {
    // During its shutdown a server rejects statements with misleading errors; MySQL then misses one
    // of its own tables.
    let pinged = match error {
        Error::ReplicationError { .. } => mysqld.ping(),
        _ => Ok(()),
    };
    let error = match pinged {
        Err(gone @ Error::MysqldHung { .. }) => gone,
        _ => error,
    };
    let Error::MysqldHung { after, .. } = &error else { return mysqld.root_cause(error) };
    let patience = if after.is_none() { patience.max(EXIT_GRACE) } else { Duration::ZERO };
    let wait = Wait { every: Duration::from_millis(100), patience: Some(patience) };
    let end = supervisor.wait_for(&mut Dying(mysqld), wait, |dying, _| {
        Ok(dying.0.ended().map_or(Look::Still, Look::Done))
    });
    match end {
        Ok(Some(end)) => end,
        Ok(None) => mysqld.root_cause(error),
        Err(stop) => stop,
    }
}

/// Waits until `mysqld` has exited. `false` if it shows no activity for `patience`, or a second
/// signal arrived.
///
/// # Errors
/// A stop, unless one is already in progress.
pub fn wait_for_exit(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    patience: Duration,
) -> Result<bool> {
    // One that is starting may have to be asked again.
    let every = Duration::from_millis(if mysqld.is_ready() { 1000 } else { 100 });
    let wait = Wait { every, patience: Some(patience) };
    let mut telling = Telling::new("mysqld is still shutting down", patience);
    let ended = supervisor.wait_for(&mut Dying(mysqld), wait, |dying, _| {
        telling.look();
        if dying.0.has_exited() {
            return Ok(Look::Done(()));
        }
        dying.0.repeat_request();
        Ok(Look::Still)
    })?;
    Ok(ended.is_some())
}

/// A mysqld that is expected to exit.
struct Dying<'a>(&'a mut Mysqld);

impl Watched for Dying<'_> {
    fn activity(&self) -> Option<Activity> {
        self.0.activity()
    }
    fn maintain(&mut self) -> Result<()> {
        self.0.maintain()
    }
}
