//! The main loop: the only place that sleeps, pings, or notices that mysqld has died.
//!
//! [`Supervisor::wait_for`] blocks in one read on the signal pipe, with a time-out at the next
//! look, ping or chore, or when patience runs out. At each turn it checks in this order: a stop,
//! the exit of mysqld, an unanswered ping, the awaited condition, patience. The stop comes before
//! the exit, since a service manager may signal mysqld as well, and a stop must not be taken for a
//! crash.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::os::process::{Activity, reap_orphans};
use crate::os::signals::Signals;
use crate::os::workers::{Aside, Crew, Gauge};
use crate::report::checkpoint::Checkpoint;
use crate::report::meter::Unit;
use crate::report::sd_notify::Notifier;
use crate::supervisor::breaker::Breaker;
use crate::supervisor::watched::{Nothing, Watched};
use crate::text::short;

/// This share of a core, or this many bytes of disk I/O since the last look, are signs of life.
/// Our own queries use less.
const ALIVE_CPU_PERCENT: u64 = 10;
const ALIVE_IO_BYTES: u64 = 64 << 10;
/// The time between the first looks.
const SHORTEST: Duration = Duration::from_millis(5);
/// Interval between checks of mysqld's log and the free space, whatever the other intervals are.
const CARE: Duration = Duration::from_millis(250);

/// What a look found.
pub enum Look<T> {
    /// The condition holds.
    Done(T),
    /// Not yet, but something moved: patience starts over.
    Moving,
    /// Not yet, and nothing moved.
    Still,
}

/// How often to look during a wait, and how long to wait.
#[derive(Clone, Copy)]
pub struct Wait {
    /// The longest time between two looks.
    pub every: Duration,
    /// Ends the wait when nothing has moved for this long; `None` waits indefinitely.
    pub patience: Option<Duration>,
}

impl Wait {
    /// The time until the next look: a sixteenth of the wait so far, so that the end of a short one is
    /// noticed within milliseconds.
    fn pause(&self, waited: Duration) -> Duration {
        (waited / 16).max(SHORTEST).min(self.every)
    }
}

/// The main loop, with what it serves at each turn.
pub struct Supervisor {
    signals: Signals,
    /// Time between two pings.
    poll: Duration,
    /// Kept up to date while waiting.
    pub checkpoint: Checkpoint,
    notifier: Notifier,
    stop: Stop,
}

/// Whether a signal has told the pass to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No.
    No,
    /// This signal arrived: the current wait ends, and so does the pass.
    Asked(i32),
    /// The pass is ending, for any reason: waits end early only if more signals than these arrive.
    Ending(u32),
}

impl Supervisor {
    /// Installs the signal handlers of the process.
    pub fn new(poll: Duration) -> Result<Supervisor> {
        let signals = Signals::install()
            .map_err(|source| Error::Io { doing: "install signal handlers".into(), source })?;
        let (checkpoint, notifier) = (Checkpoint::none(), Notifier::start());
        Ok(Supervisor { signals, poll, checkpoint, notifier, stop: Stop::No })
    }

    /// Whether a stop was requested.
    pub fn stop(&mut self) -> Stop {
        if let (Stop::No, Some(signal)) = (self.stop, self.signals.stop()) {
            self.stop = Stop::Asked(signal);
        }
        self.stop
    }

    /// Fails with [`Error::Interrupted`] once a stop is requested, unless the pass is ending.
    pub fn check_stop(&mut self) -> Result<()> {
        match self.stop() {
            Stop::Asked(signal) => Err(Error::Interrupted { signal }),
            Stop::No | Stop::Ending(_) => Ok(()),
        }
    }

    /// From now on HUP asks for a stop as TERM does, unless we were started with it ignored.
    pub fn end_on_hangup(&self) -> Result<()> {
        let doing = || "install a signal handler".into();
        self.signals.heed_hup().map_err(|source| Error::Io { doing: doing(), source })
    }

    /// From now on INT is for the user's program on our terminal, or for us again.
    pub fn spare_int(&mut self, spare: bool) {
        self.signals.spare_int(spare);
    }

    /// One turn of the loop, between steps of long work on the main thread: updates the reports and
    /// checks for a stop.
    pub fn turn(&mut self) -> Result<()> {
        self.report();
        self.check_stop()
    }

    /// The pass is ending: from now on waits last until patience runs out or a second signal
    /// arrives.
    pub fn begin_ending(&mut self) {
        if !matches!(self.stop, Stop::Ending(_)) {
            self.stop = Stop::Ending(1);
        }
        self.notifier.stopping();
    }

    /// The pass is over: signals so far no longer matter, each further one ends the current wait.
    /// Returns how many there were.
    pub fn ignore_past_signals(&mut self) -> u32 {
        let signals = self.signals.stops();
        self.stop = Stop::Ending(signals);
        signals
    }

    /// True if any signal has told the pass to stop.
    pub fn was_told(&mut self) -> bool {
        self.signals.stop().is_some()
    }

    /// True if the pass is ending and one more signal has arrived.
    pub fn was_told_again(&mut self) -> bool {
        matches!(self.stop, Stop::Ending(ignored) if self.signals.stops() > ignored)
    }

    /// Updates checkpoint, metrics and service manager, and reaps orphans.
    fn report(&mut self) {
        reap_orphans();
        self.checkpoint.tick();
        self.notifier.tick(|| self.checkpoint.headline());
    }

    /// Waits until `look` returns [`Look::Done`]. `None` if patience ran out first.
    ///
    /// # Errors
    /// A stop, the exit of what is watched, an unanswered ping, or the error of `look`.
    pub fn wait_for<W: Watched, T>(
        &mut self,
        watched: &mut W,
        wait: Wait,
        mut look: impl FnMut(&mut W, &mut Checkpoint) -> Result<Look<T>>,
    ) -> Result<Option<T>> {
        let mut vital = watched.activity();
        let (mut moved, mut looked) = (Instant::now(), Instant::now());
        let (began, mut next_look) = (moved, moved);
        let mut next_ping = moved + self.poll;
        let mut next_care = moved;
        loop {
            self.check_stop()?;
            if let Some(end) = watched.ended() {
                return Err(end);
            }
            if Instant::now() >= next_ping {
                watched.ping()?;
                next_ping = Instant::now() + self.poll;
            }
            if Instant::now() >= next_care {
                watched.maintain()?;
                next_care = Instant::now() + CARE;
            }
            if Instant::now() >= next_look {
                match look(watched, &mut self.checkpoint)? {
                    Look::Done(found) => return Ok(Some(found)),
                    Look::Moving => {
                        moved = Instant::now();
                        self.checkpoint.progressed();
                    }
                    Look::Still => {}
                }
                let signs = watched.activity();
                if looked.elapsed() >= Duration::from_millis(100) {
                    if is_active(vital, signs, looked.elapsed()) {
                        moved = Instant::now();
                        self.checkpoint.progressed();
                    }
                    (vital, looked) = (signs, Instant::now());
                }
                next_look = Instant::now() + wait.pause(began.elapsed());
            }
            self.report();
            let over = wait.patience.map(|p| moved + p);
            let now = Instant::now();
            if over.is_some_and(|o| now >= o) || self.was_told_again() {
                return Ok(None);
            }
            let until = next_look.min(next_ping).min(next_care).min(self.checkpoint.due());
            let until = over.map_or(until, |o| until.min(o));
            if self.signals.wait(until.saturating_duration_since(now)) {
                // A child may have exited or a worker finished: look at once.
                next_look = Instant::now();
            }
        }
    }

    /// Runs `question`, which waits for an answer from elsewhere, on a thread of its own, while the loop
    /// goes on and watches `watched`. If that fails or a stop arrives, what still runs is left to
    /// itself: it must end by itself and change nothing of ours. `None` if no answer will ever come.
    ///
    /// # Errors
    /// As [`Supervisor::wait_for`], else that of the question.
    pub fn aside<W: Watched, T: Send + 'static>(
        &mut self,
        watched: &mut W,
        question: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        let mut answer = Aside::ask(self.waker(), question)?;
        let wait = Wait { every: Duration::from_millis(250), patience: None };
        let answered = self.wait_for(watched, wait, |_, _| match answer.take() {
            Some(answer) => answer.map(|answer| Look::Done(Some(answer))),
            None if answer.is_lost() => Ok(Look::Done(None)),
            None => Ok(Look::Still),
        })?;
        // Without patience only a second signal ends the wait.
        answered.ok_or(Error::Interrupted { signal: libc::SIGTERM })
    }

    /// Sleeps while watching `watched`. Fails as [`Supervisor::wait_for`] does.
    pub fn pause<W: Watched>(&mut self, watched: &mut W, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        let wait = Wait { every: time.max(Duration::from_millis(1)), patience: Some(time) };
        self.wait_for(watched, wait, |_, _| {
            Ok(if Instant::now() >= until { Look::Done(()) } else { Look::Still })
        })?;
        // Patience may run out a moment before `until`; both mean the same.
        Ok(())
    }

    /// Waits before the next attempt, after a failure that may pass. `next` says what that does.
    ///
    /// # Errors
    /// The failure itself, once the breaker gives up; a stop.
    pub fn back_off(&mut self, breaker: &mut Breaker, error: Error, next: &str) -> Result<()> {
        let wait = breaker.failed(Instant::now(), 0.0);
        let failures = breaker.failures();
        let Some(wait) = wait else { return Err(error) };
        log::warn!(
            "{}: {error}; failure {failures} of {}, {next} in {}",
            error.cause(),
            breaker.attempts(),
            short(wait)
        );
        self.pause(&mut Nothing, wait)?;
        breaker.probe(Instant::now());
        Ok(())
    }

    /// Makes `attempt` until no other process holds the lock that it needs, for `patience` at most.
    ///
    /// # Errors
    /// [`Error::Locked`] when patience has run out, a stop meanwhile, or that of the attempt.
    pub fn unlocked<T>(
        &mut self,
        patience: Duration,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        // Not in the loop: what can be done at once is done after a stop, too.
        let mut locked = match attempt() {
            Err(locked @ Error::Locked { .. }) => locked,
            done => return done,
        };
        let wait = Wait { every: Duration::from_millis(20), patience: Some(patience) };
        let done = self.wait_for(&mut Nothing, wait, |_, _| match attempt() {
            Err(again @ Error::Locked { .. }) => {
                locked = again;
                Ok(Look::Still)
            }
            done => done.map(Look::Done),
        })?;
        done.ok_or(locked)
    }

    /// Lets a thread end a wait when it is done.
    pub fn waker(&self) -> Option<UnixStream> {
        self.signals.waker()
    }

    /// A crew of `jobs` workers, watched until they are done. `step` names the work in progress
    /// reports.
    pub fn crew<'a>(&'a mut self, step: &'a str, jobs: usize) -> Crew<'a> {
        let waker = self.waker();
        Crew::new(jobs, waker, move |gauge| self.wait_for_workers(step, gauge))
    }

    fn wait_for_workers(&mut self, step: &str, gauge: &Gauge) -> Result<()> {
        let wait = Wait { every: Duration::from_millis(250), patience: None };
        let waited = self.wait_for(&mut Nothing, wait, |_, checkpoint| {
            // While a directory is only being listed, the total is unknown.
            if gauge.total() > 0 {
                checkpoint.measure(step, Unit::Bytes, gauge.done(), Some(gauge.total()));
            }
            Ok(if gauge.finished() { Look::Done(()) } else { Look::Still })
        });
        self.checkpoint.measured();
        waited.map(drop)
    }
}

/// Logs twice per patience that a long wait continues: with signs of life it may take hours.
pub struct Telling {
    what: &'static str,
    began: Instant,
    every: Duration,
    next: Instant,
}

impl Telling {
    /// Begins now.
    pub fn new(what: &'static str, patience: Duration) -> Telling {
        let (began, every) = (Instant::now(), (patience / 2).max(Duration::from_secs(1)));
        Telling { what, began, every, next: began + every }
    }

    /// Logs it, if it is time to.
    pub fn look(&mut self) {
        if Instant::now() >= self.next {
            self.next += self.every;
            log::info!("{}, after {}", self.what, short(self.began.elapsed()));
        }
    }
}

/// True if `before` and `now`, `time` apart, differ by more than an idle server would.
pub fn is_active(before: Option<Activity>, now: Option<Activity>, time: Duration) -> bool {
    let (Some(before), Some(now)) = (before, now) else { return false };
    let cpu = now.cpu_ms.saturating_sub(before.cpu_ms);
    cpu * 100 >= time.as_millis() as u64 * ALIVE_CPU_PERCENT
        || now.io_bytes.saturating_sub(before.io_bytes) >= ALIVE_IO_BYTES
        || now.log_bytes > before.log_bytes
}
