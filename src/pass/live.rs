//! What no journal has yet, received from the live primary by an empty private server.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, IoExt, Result};
use crate::journal::cut::Moment;
use crate::journal::tail::{Slice, Tail};
use crate::mysql::position::Position;
use crate::mysql::target::Target;
use crate::os::clock::{Micros, Timestamp};
use crate::pass::means::Means;
use crate::pass::until_files;
use crate::receive::logs::Logs;
use crate::receive::receiver::{self, Receiver};
use crate::replication::primary::{Facts, Primary};
use crate::replication::privileges;
use crate::replication::received::Newest;
use crate::report::meter::Unit;
use crate::scratch::working_directory::Scratch;
use crate::supervisor::breaker::Breaker;
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::Nothing;
use crate::text::{bytes, count, short};

/// Where the receiver works, and where its logs are, below the directory of the replay.
const RECEIVER: &str = "receive";
const LOGS: &str = "live";
/// Between two looks at what has come.
const EVERY: Duration = Duration::from_millis(100);

/// Receives from the live primary.
pub(super) struct Live<'a> {
    pub(super) supervisor: &'a mut Supervisor,
    pub(super) means: &'a Means,
    pub(super) primary: &'a Primary,
    /// Whom the private server runs as, if not us.
    pub(super) user: Option<(u32, u32)>,
    /// The newest backup on the way.
    pub(super) newest: Newest,
}

/// What was received so far.
struct Received {
    dir: PathBuf,
    at: Position,
    logs: usize,
    bytes: u64,
    transactions: u64,
    /// The primary's logs that it came from.
    from: Logs,
    /// The transaction that the moment names, and one more, were among it.
    is_found: bool,
}

impl Live<'_> {
    /// Receives what follows `from` into a directory of the replay in `root`, until the moment is in it for
    /// certain.
    ///
    /// # Errors
    /// Those of the primary and of the receiver, when the breaker gives up; [`Error::OutOfReach`] for a
    /// moment that the primary has not come to either.
    pub(super) fn receive(&mut self, root: &Path, from: Position, moment: &Moment) -> Result<()> {
        let began = Instant::now();
        let dir = root.join(LOGS);
        until_files::make_dir(root, &dir, self.user)?;
        let work = root.join(RECEIVER);
        until_files::make_dir(root, &work, self.user)?;
        let mut scratch = Scratch::at(work.clone(), self.user, "restore")?;
        let is_found = false;
        let (at, from) = (from, Logs::default());
        let mut received = Received { dir, at, logs: 0, bytes: 0, transactions: 0, from, is_found };
        self.attempts(&mut scratch, &mut received, moment)?;
        drop(scratch);
        fs::remove_dir_all(&work).doing("remove", &work)?;
        log::info!(
            "received {}, {}, in {}",
            count(received.transactions, "transaction"),
            bytes(received.bytes),
            short(began.elapsed())
        );
        Ok(())
    }

    fn attempts(
        &mut self,
        scratch: &mut Scratch,
        received: &mut Received,
        moment: &Moment,
    ) -> Result<()> {
        let retries = &self.means.retries;
        let (base, cap) = retries.backoff;
        let mut breaker = Breaker::new(retries.max_failures, base, cap);
        let mut goal = None;
        loop {
            let before = received.transactions;
            let error = match self.attempt(scratch, received, moment, &mut goal) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            scratch.check_gone()?;
            if !error.is_temporary() {
                return Err(error);
            }
            if received.transactions > before {
                breaker.progress();
            }
            self.supervisor.back_off(&mut breaker, error, "receiving on")?;
        }
    }

    /// One attempt, which goes on from what was received. The goal is fixed once: what the primary has now.
    fn attempt(
        &mut self,
        scratch: &mut Scratch,
        received: &mut Received,
        moment: &Moment,
        goal: &mut Option<Position>,
    ) -> Result<()> {
        let facts = self.ask(received, moment)?;
        let is_first = goal.is_none();
        let goal = goal.get_or_insert_with(|| facts.position.clone()).clone();
        if is_first {
            let (at, address) = (&received.at, &facts.address);
            log::info!("receiving from {address} what followed {at}, up to {goal}");
        }
        let target = facts.target(goal.clone());
        if target.is_reached_at(&received.at) || received.is_found {
            return Ok(());
        }
        let server = &self.means.server;
        let means = receiver::Means {
            program: server.program.clone(),
            options: &server.options,
            ping_timeout: self.means.retries.ping_timeout,
            patience: self.means.patience,
            account: self.primary.account_at(&facts),
        };
        received.from.begin(&self.newest);
        let mut receiver = Receiver::start(self.supervisor, scratch, &means, &facts, &received.at)?;
        let patience = self.means.patience;
        let reached = self.get(&mut receiver, received, moment, (&goal, &target));
        let reached = reached.map_err(|e| receiver.explain(self.supervisor, e, patience.shutdown));
        self.supervisor.checkpoint.measured();
        // The next attempt goes on from it, unless it follows nothing.
        let follows = reached.is_ok() || received.from.may_be_kept(&receiver);
        let mut tail = receiver.end(scratch)?;
        if follows {
            received.take(&mut tail)?;
        } else {
            received.is_found = false;
        }
        match reached? {
            true => Ok(()),
            false => Err(Error::Stalled {
                after: patience.stall.unwrap_or_default(),
                what: format!("the receiver is at {}, short of {goal}", received.at),
            }),
        }
    }

    /// Receives until the moment or the goal is there, and the primary's logs have been checked up to
    /// there. `false` if patience ran out first.
    fn get(
        &mut self,
        receiver: &mut Receiver,
        received: &mut Received,
        moment: &Moment,
        (goal, target): (&Position, &Target),
    ) -> Result<bool> {
        let all = received.at.distance_to(goal);
        let wait = Wait { every: EVERY, patience: self.means.patience.stall };
        let mut is_next = false;
        loop {
            let Received { from, is_found, .. } = &mut *received;
            let got = self.supervisor.wait_for(receiver, wait, |receiver, checkpoint| {
                let looked = receiver.look(|transaction| {
                    // One more than that tells which is the first that is not in.
                    *is_found |= is_next;
                    is_next |= matches!(moment, Moment::After(gtid) if transaction.gtid == *gtid);
                    *is_found |=
                        matches!(moment, Moment::Before(gtid) if transaction.gtid == *gtid);
                });
                if *is_found || target.is_reached_at(receiver.tail.at()) {
                    return Ok(Look::Done(true));
                }
                if from.are_others(receiver) {
                    return Ok(Look::Done(false));
                }
                let done = all.saturating_sub(receiver.tail.at().distance_to(goal));
                checkpoint.measure("receive", Unit::Transactions, done, Some(all));
                Ok(if looked? { Look::Moving } else { Look::Still })
            })?;
            let Some(is_there) = got else { return Ok(false) };
            from.check(self.primary, self.supervisor, receiver)?;
            if is_there {
                return Ok(true);
            }
        }
    }

    /// Asks the primary until its clock is beyond the moment.
    fn ask(&mut self, received: &Received, moment: &Moment) -> Result<Facts> {
        loop {
            let at = received.at.clone();
            let choose = move |primary: &Primary| {
                let facts = primary.choose(Some(&at))?;
                primary.check_privileges(&facts, privileges::NIGHTLY)?;
                Ok(facts)
            };
            let facts = self.primary.question(self.supervisor, &mut Nothing, choose)?;
            if let Some(what) = self.primary.unencrypted(&facts) {
                log::warn!("{what}");
            }
            match is_there(&facts, moment)? {
                true => return Ok(facts),
                // Its clock tells whole seconds.
                false => self.supervisor.pause(&mut Nothing, Duration::from_secs(1))?,
            }
        }
    }
}

/// True if the primary has all up to the moment for certain; false if its clock will soon be there.
fn is_there(facts: &Facts, moment: &Moment) -> Result<bool> {
    let second = |n: i64| Timestamp(facts.clock.0 + n).precise();
    let never = |why: String| Err(Error::OutOfReach { what: why });
    match moment {
        Moment::Time(time) if *time >= second(2) => never(format!(
            "the moment {} cannot be restored: it is in the future of primary {}, whose clock says {}; \
             the nearest that can be is {}",
            Micros::rfc3339(*time),
            facts.address,
            second(0).rfc3339(),
            second(-1).rfc3339()
        )),
        Moment::Time(time) => Ok(*time <= second(-1)),
        Moment::After(gtid) | Moment::Before(gtid) if !facts.position.has(gtid) => never(format!(
            "the moment {gtid} cannot be restored: no journal has it, and primary {} has not come to it; \
             the nearest that can be is {}",
            facts.address, facts.position
        )),
        _ => Ok(true),
    }
}

impl Received {
    /// Takes over what a receiver has got, which is no more.
    fn take(&mut self, tail: &mut Tail) -> Result<()> {
        for slice in tail.take() {
            self.logs += 1;
            let to = self.dir.join(format!("{:06}", self.logs));
            self.bytes += place(&slice, &to)?;
            self.transactions += slice.count;
        }
        self.at = tail.at().clone();
        Ok(())
    }
}

/// A link costs no room, and nobody writes the log any more.
fn place(slice: &Slice, to: &Path) -> Result<u64> {
    if slice.begin > 0 {
        return slice.write(to);
    }
    fs::hard_link(&slice.path, to).doing("create", to)?;
    let mut options = fs::OpenOptions::new();
    options.write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let log = options.open(to).doing("open", to)?;
    log.set_len(slice.end).doing("write", to)?;
    Ok(slice.end)
}

/// Adds the logs that were received to those that are restored, each under the next name, for one attempt.
pub(super) fn place_again(root: &Path, logs: &mut Vec<PathBuf>) -> Result<()> {
    let (from, to) = (root.join(LOGS), root.join("logs-live"));
    match fs::create_dir(&to) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.doing("create", &to)?,
    }
    for number in 1.. {
        let log = from.join(format!("{number:06}"));
        let place = to.join(format!("relay.{:06}", logs.len() + 1));
        match fs::hard_link(&log, &place) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            // Not moved into the data in the attempt before.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            linked => linked.doing("create", &place)?,
        }
        logs.push(place);
    }
    Ok(())
}
