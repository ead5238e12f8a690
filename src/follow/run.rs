//! `follow`, from the locks to the outcome.
//!
//! It receives with a private server that applies nothing, and every few seconds stores what is whole. It
//! never takes the lock of the repository, which a pass holds for hours. Whatever fails on the way, it
//! goes on from what it has stored; only what needs a person ends it.

use std::time::{Duration, Instant};

use crate::error::{Error, Place, Result, remedy};
use crate::follow::parts::Parts;
use crate::mysql::position::Position;
use crate::os::clock::Timestamp;
use crate::os::space::placed;
use crate::pass::plan::Plan;
use crate::receive::logs::Logs;
use crate::receive::receiver::{Means, Receiver};
use crate::replication::primary::{Facts, Primary};
use crate::replication::privileges;
use crate::replication::received::Newest;
use crate::report::checkpoint::Checkpoint;
use crate::report::keys::{Key, Phase, State};
use crate::report::meter::Unit;
use crate::report::metrics::Metrics;
use crate::repository::directory::Repository;
use crate::repository::journals::Seen;
use crate::repository::journals::redundant::Part;
use crate::scratch::working_directory::Scratch;
use crate::supervisor::breaker::Breaker;
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::Nothing;
use crate::text::{count, short};

/// The longest time between two looks at what has come.
const LOOK: Duration = Duration::from_millis(500);
/// So much is not kept waiting for the end of the interval. Bytes.
const MUCH: u64 = 64 << 20;
/// MySQL's number for a primary that refuses to send. To one that was reset meanwhile, the next connection
/// tells why.
const REFUSED: u16 = 13114;
/// A failure that lasts is told again after this time.
const AGAIN: Duration = Duration::from_secs(3600);

/// `rollforward follow`: keeps what the primary commits, until a signal ends it. Returns the exit status.
///
/// # Errors
/// Usage and locks: these leave the checkpoint alone. Any other failure is recorded in the checkpoint and
/// the log here, and returned as its exit status.
pub fn follow(plan: &Plan, every: Duration, supervisor: &mut Supervisor) -> Result<u8> {
    let places = &plan.places;
    let user = plan.server.user.as_deref();
    supervisor.end_on_hangup()?;
    plan.check_places()?;
    let repo = Repository::open(&places.repo)?;
    let journals = repo.make_journals()?;
    let lock = journals.lock("follow")?;
    let mut scratch = Scratch::open(&places.scratch, &places.others, user, "follow")?;
    supervisor.checkpoint = Checkpoint::begin(&places.checkpoint);
    if let Some(path) = &places.metrics {
        supervisor.checkpoint.metrics = Metrics::begin_follower(path, repo.root());
    }
    let dir = scratch.root().join("journal");
    let result = Error::contain(|| {
        scratch.sweep(supervisor)?;
        scratch.discard(supervisor)?;
        let parts = Parts::open(&journals, &lock, dir, plan.storage.level)?;
        let scratch = &mut scratch;
        let (pending, moved, told, logs) = (None, Instant::now(), None, Logs::default());
        let (backups, received) = (Vec::new(), 0);
        let retries = &plan.retries;
        let (base, cap) = retries.backoff;
        // It never gives up on a primary that is away.
        let breaker = Breaker::new(u32::MAX, base, cap);
        let (repo, journals) = (&repo, &journals);
        let mut follower = Follower {
            plan,
            every,
            repo,
            journals,
            scratch,
            supervisor,
            parts,
            breaker,
            pending,
            was_at: None,
            moved,
            told,
            logs,
            refused: false,
            backups,
            received,
        };
        follower.run()
    });
    let known = [(scratch.root(), Place::Scratch), (repo.root(), Place::Repository)];
    let error = result.map_err(|e| placed(e, &known)).err();
    supervisor.begin_ending();
    if let Err(e) = scratch.discard(supervisor) {
        log::warn!("{}: {e}", e.cause());
    }
    scratch.tidy();
    Ok(conclude(supervisor, error))
}

/// Records the outcome. It never ends well by itself.
fn conclude(supervisor: &mut Supervisor, error: Option<Error>) -> u8 {
    let error = error.unwrap_or(Error::Interrupted { signal: libc::SIGTERM });
    let status = error.exit_status();
    let checkpoint = &mut supervisor.checkpoint;
    checkpoint.forget_mysqld();
    checkpoint.set(Key::Cause, error.cause());
    checkpoint.set(Key::Message, remedy::with(&error));
    let stopped = matches!(error, Error::Interrupted { .. });
    checkpoint.end(if stopped { State::Stopped } else { State::Failed }, status);
    log::error!("{}: {}; exit status {status}", error.cause(), remedy::with(&error));
    status
}

struct Follower<'a> {
    plan: &'a Plan,
    every: Duration,
    repo: &'a Repository,
    journals: &'a Repository,
    scratch: &'a mut Scratch,
    supervisor: &'a mut Supervisor,
    parts: Parts<'a>,
    breaker: Breaker,
    /// What the primary was at when it was last asked, until that has arrived.
    pending: Option<(Position, Timestamp)>,
    /// Where the primary was when it was last asked.
    was_at: Option<Position>,
    /// When anything arrived last.
    moved: Instant,
    /// The failure that was told last, and when.
    told: Option<(String, Instant)>,
    /// The primary's logs, and whether it refused to send the last time.
    logs: Logs,
    refused: bool,
    /// The backups at the last look.
    backups: Vec<String>,
    /// Transactions.
    received: u64,
}

impl Follower<'_> {
    /// Attempts, until a signal or a failure that no other attempt gets over.
    fn run(&mut self) -> Result<()> {
        self.supervisor.checkpoint.phase(Phase::Follow);
        loop {
            let Err(error) = self.attempt() else { continue };
            self.supervisor.checkpoint.forget_mysqld();
            self.scratch.check_gone()?;
            let refused = matches!(error, Error::ReplicationError { errno: REFUSED, .. });
            let was_refused = std::mem::replace(&mut self.refused, refused);
            if !error.is_temporary() && (!refused || was_refused) {
                return Err(error);
            }
            let Some(wait) = self.breaker.failed(Instant::now(), 0.0) else { return Err(error) };
            self.tell(&error, wait);
            self.supervisor.pause(&mut Nothing, wait)?;
            self.breaker.probe(Instant::now());
        }
    }

    /// A failure that lasts is told once, and then from time to time.
    fn tell(&mut self, error: &Error, wait: Duration) {
        let failures = self.breaker.failures();
        let checkpoint = &mut self.supervisor.checkpoint;
        checkpoint.set(Key::Cause, error.cause());
        checkpoint.set(Key::Message, error);
        checkpoint.set(Key::Failures, failures);
        checkpoint.metrics.breaker = Some(self.breaker.state().name());
        let text = error.to_string();
        let is_new = |told: &(String, Instant)| told.0 != text || told.1.elapsed() >= AGAIN;
        if self.told.as_ref().is_none_or(is_new) {
            log::warn!(
                "{}: {text}; failure {failures}, going on in {}",
                error.cause(),
                short(wait)
            );
            self.told = Some((text, Instant::now()));
        }
    }

    /// Where to go on: at the end of the parts, unless a backup is beyond.
    fn begin(&mut self) -> Result<Position> {
        self.look_at_backups()?;
        let stored = self.repo.stored()?;
        let Some(newest) = stored.last() else {
            let what = format!(
                "repository {} has no backup that what is received could follow: take one with \
                 rollforward run or seed",
                self.repo.root().display()
            );
            return Err(Error::NoBackup { what });
        };
        let begun = self.repo.chain_begun(&newest.name)?;
        let is_beyond = |part: &&Part| part.leads_beyond(&newest.position, newest.started);
        let end_of = |begun| self.parts.last(begun).filter(is_beyond);
        let end = end_of(begun);
        let led = end.map(|part| (&part.to, &part.log));
        let led = led.or(Some((&newest.position, &newest.last_log)));
        self.logs.begin(&Newest {
            position: newest.position.clone(),
            log: newest.primary_log.clone(),
            as_of: newest.as_of,
            led: led.and_then(|(to, log)| Some((to.clone(), log.clone()?))),
        });
        if let (None, Some(Part { to: other, .. })) = (end, end_of(None)) {
            log::warn!(
                "what was received before the chain of {} began leads to {other}, which its primary \
                 did not have: receiving from {} on",
                newest.name,
                newest.position
            );
        }
        Ok(end.map_or(&newest.position, |part| &part.to).clone())
    }

    /// After a pass has stored a backup or removed one.
    fn look_at_backups(&mut self) -> Result<()> {
        let names = self.repo.names()?;
        if names != self.backups {
            self.parts.remove_redundant(self.repo)?;
            self.backups = names;
        }
        Ok(())
    }

    /// Receives until something fails.
    fn attempt(&mut self) -> Result<()> {
        let plan = self.plan;
        let from = self.begin()?;
        let at = from.clone();
        let choose = move |primary: &Primary| {
            let facts = primary.choose(Some(&at))?;
            primary.check_privileges(&facts, privileges::NIGHTLY)?;
            Ok(facts)
        };
        let facts = plan.primary.question(self.supervisor, &mut Nothing, choose)?;
        if let (Some(what), true) = (plan.primary.unencrypted(&facts), self.received == 0) {
            log::warn!("{what}");
        }
        self.supervisor.checkpoint.set(Key::Primary, &facts.address);
        self.supervisor.checkpoint.start_at(from.clone());
        let means = Means {
            program: plan.server.program.clone(),
            options: &plan.server.options,
            ping_timeout: plan.retries.ping_timeout,
            patience: plan.patience,
            account: plan.primary.account_at(&facts),
        };
        let mut receiver = Receiver::start(self.supervisor, self.scratch, &means, &facts, &from)?;
        log::info!("following {} from {from} on", facts.address);
        (self.pending, self.was_at, self.moved) = (None, None, Instant::now());
        let ended = self.receive(&mut receiver, &facts);
        let shutdown = plan.patience.shutdown;
        let ended = ended.map_err(|e| receiver.explain(self.supervisor, e, shutdown));
        // What has arrived is worth keeping, whatever it was that failed, unless it follows nothing.
        if matches!(ended, Err(Error::Interrupted { .. })) {
            self.supervisor.begin_ending();
            let _ = receiver.look(|_| {});
        }
        let follows = self.logs.may_be_kept(&receiver);
        if follows && !matches!(ended, Err(Error::DiskFull { .. })) {
            self.keep(&mut receiver, &facts)?;
        }
        let at = receiver.tail.at().clone();
        receiver.end(self.scratch)?;
        // What the logs say is the last word.
        ended.map_err(|e| if self.logs.have_failed() { e } else { self.judge(e, at) })
    }

    /// What `error` means, now that there is what is received up to `at`: a primary that was reset says
    /// little of it to a replica, and another candidate may go on.
    fn judge(&mut self, error: Error, at: Position) -> Error {
        match error {
            Error::ReplicationError { .. } | Error::Diverged { .. } | Error::Purged { .. } => {}
            error => return error,
        }
        let choose = move |primary: &Primary| primary.choose(Some(&at));
        match (self.plan.primary.question(self.supervisor, &mut Nothing, choose), error) {
            (Err(error @ (Error::Diverged { .. } | Error::Purged { .. })), _) => error,
            (Ok(_), Error::Diverged { errant, primary }) => {
                let text =
                    format!("it lacks {errant}, which came from it, and another one does not");
                Error::PrimaryUnreachable { primary, text }
            }
            (_, error) => error,
        }
    }

    fn receive(&mut self, receiver: &mut Receiver, facts: &Facts) -> Result<()> {
        loop {
            let due = Instant::now() + self.every;
            let every = self.plan.retries.poll.min(LOOK).min(self.every);
            let wait = Wait { every, patience: None };
            let mut moved = self.moved;
            let waited = self.supervisor.wait_for(receiver, wait, |receiver, _| {
                let has_moved = receiver.look(|_| {})?;
                if has_moved {
                    moved = Instant::now();
                }
                if Instant::now() >= due || receiver.tail.waiting() >= MUCH {
                    return Ok(Look::Done(()));
                }
                Ok(if has_moved { Look::Moving } else { Look::Still })
            });
            self.moved = moved;
            waited?;
            self.logs.check(&self.plan.primary, self.supervisor, receiver)?;
            self.keep(receiver, facts)?;
            // What a backup holds need not be put together.
            self.look_at_backups()?;
            self.parts.combine(self.supervisor)?;
            self.ask(receiver, facts)?;
        }
    }

    /// Stores what has arrived.
    fn keep(&mut self, receiver: &mut Receiver, facts: &Facts) -> Result<()> {
        let slices = receiver.tail.take();
        let mut stopped = Ok(());
        if !slices.is_empty() {
            let mut added = self.parts.add(self.supervisor, &slices, facts, &self.logs);
            if let Err(Error::Interrupted { .. }) = &added {
                // It ends with this stored.
                self.supervisor.begin_ending();
                added = self.parts.add(self.supervisor, &slices, facts, &self.logs).and(added);
            }
            stopped = added;
            if !matches!(stopped, Ok(()) | Err(Error::Interrupted { .. })) {
                return stopped;
            }
            self.received += slices.iter().map(|slice| slice.count).sum::<u64>();
            receiver.tail.empty_taken()?;
        }
        let at = receiver.tail.at();
        let seen = self.pending.take_if(|(position, _)| at.contains(position));
        // Where numbers do not tell whether it has arrived, the primary is asked again.
        if let Some((_, clock)) = seen.filter(|(position, _)| at.tells(position)) {
            // Its clock tells whole seconds.
            let as_of = Timestamp(clock.0 - 1).precise();
            self.journals.set_seen(&Seen { position: at.to_string(), as_of })?;
            self.supervisor.checkpoint.metrics.recoverable_until = Some(as_of.seconds());
            self.supervisor.checkpoint.progressed();
            self.overcome();
        }
        let checkpoint = &mut self.supervisor.checkpoint;
        checkpoint.measure("follow", Unit::Transactions, self.received, None);
        if !slices.is_empty() {
            checkpoint.reach(at.clone());
            checkpoint.progressed();
            self.overcome();
        }
        stopped
    }

    /// Something has arrived: what failed before is over.
    fn overcome(&mut self) {
        let failures = self.breaker.progress();
        self.refused = false;
        if failures > 0 {
            log::info!("receiving again after {}", count(failures, "failure"));
            self.told = None;
            self.supervisor.checkpoint.forget_failures();
            self.supervisor.checkpoint.metrics.breaker = Some(self.breaker.state().name());
        }
    }

    /// Asks the primary where it is, unless what it said last has not arrived yet.
    fn ask(&mut self, receiver: &mut Receiver, facts: &Facts) -> Result<()> {
        if let Some((position, _)) = &self.pending {
            let stall = self.plan.patience.stall;
            return match stall.filter(|stall| self.moved.elapsed() >= *stall) {
                Some(after) => {
                    let at = receiver.tail.at();
                    let what = format!("the receiver is at {at}, short of {position}");
                    Err(Error::Stalled { after, what })
                }
                None => Ok(()),
            };
        }
        let (facts, at) = (facts.clone(), receiver.tail.at().clone());
        let before = self.was_at.clone().unwrap_or_else(|| facts.position.clone());
        let now = move |primary: &Primary| {
            let now = primary.now(&facts)?;
            primary.check_still_has(&facts, &at, &before, &now.0)?;
            Ok(now)
        };
        match self.plan.primary.question(self.supervisor, receiver, now) {
            Ok(now) => {
                self.was_at = Some(now.0.clone());
                self.pending = Some(now);
            }
            Err(e) if e.blames_primary() => log::debug!("{e}"),
            Err(e) => return Err(e),
        }
        Ok(())
    }
}
