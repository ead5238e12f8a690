//! The journal of a pass: what is kept of its relay logs meanwhile, and what is stored in the end.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use crate::error::{Error, IoExt, Place, Result};
use crate::journal::join::{Part, join};
use crate::mysql::position::Position;
use crate::os::clock::{Micros, Timestamp};
use crate::os::sys;
use crate::pass::attempts::Attempts;
use crate::pass::finished::Reached;
use crate::replication::kept_logs::KeepLogs as _;
use crate::repository::store::{Journal, Span};
use crate::scratch::journal::{LogKeeper, NO_ROOM};
use crate::server::mysqld::forget_replication;
use crate::text::{bytes, count};

impl Attempts<'_> {
    /// What keeps the relay logs of this pass: a new chain has no journal.
    pub(crate) fn log_keeper(&self) -> LogKeeper {
        let has_base = self.bases.current().is_some();
        let wanted = self.plan.storage.journal && has_base && !self.no_room;
        self.scratch.log_keeper(wanted)
    }

    /// Keeps the relay logs in the scratch data, on which no server runs, and removes there all that
    /// replication left.
    pub(crate) fn forget_replication(&self) -> Result<()> {
        self.log_keeper().end();
        forget_replication(&self.scratch.data())
    }

    /// After a full disk: gives up the journal, if that makes room. True if another attempt may do, once
    /// in a pass.
    pub(crate) fn make_room(&mut self, error: &Error) -> bool {
        let full = matches!(error, Error::DiskFull { place: Place::Scratch, inodes: false, .. });
        if !full || self.no_room {
            return false;
        }
        let logs = self.log_keeper();
        // Given up in this attempt already, or only now.
        if logs.lost().is_none() && !logs.takes_much() {
            return false;
        }
        // It waits for room, for up to a minute also where there is some again, and answers nothing.
        if let Some(mysqld) = self.hand.mysqld() {
            mysqld.kill();
            self.server_died();
        }
        if logs.lost().is_none() {
            logs.give_up();
        }
        self.no_room = true;
        log::warn!("{}: {error}; trying again without a journal", error.cause());
        true
    }

    /// Warns if the relay logs of the last pass would not fit beside the restored data.
    pub(crate) fn check_room_for_logs(&self) {
        let Some(base) = self.bases.current().filter(|_| self.plan.storage.journal) else { return };
        let took = base.manifest.journal_size;
        let root = self.scratch.root();
        let free = sys::free_bytes(root).unwrap_or(u64::MAX);
        if free < took {
            log::warn!(
                "{} has {} free, and the relay logs of the last pass took {}: make room there, or use \
                 --no-journal",
                root.display(),
                bytes(free),
                bytes(took)
            );
        }
    }

    /// The journal of the data that was shut down, to be stored with it: all that led to it from the
    /// base, or the reason why there is none.
    ///
    /// # Errors
    /// A stop.
    pub(crate) fn journal(&mut self, reached: Reached) -> Result<Journal> {
        let clock = self.goal.as_ref().filter(|_| reached == Reached::Goal).map(|goal| goal.clock);
        let as_of = clock.map(complete_until);
        let Some(base) = self.bases.current().map(|base| base.position.clone()) else {
            return Ok(Journal { as_of, ..Journal::default() });
        };
        let none = |why: String| Journal { gap: Some(why), as_of, ..Journal::default() };
        if !self.plan.storage.journal {
            return Ok(none("the pass ran with --no-journal".into()));
        }
        if let Some(version) = self.scratch.upgraded() {
            return Ok(none(format!("the pass upgraded the data to {version}")));
        }
        let no_room = self.no_room.then(|| NO_ROOM.to_string());
        if let Some(why) = no_room.or_else(|| self.log_keeper().lost()) {
            return Ok(none(why));
        }
        let Some(at) = self.supervisor.checkpoint.progress().at().cloned() else {
            return Ok(none("the position is unknown".into()));
        };
        match self.join(&base, &at)? {
            Ok(parts) => {
                let all = parts.iter().map(|part| part.length).sum();
                log::info!(
                    "kept a journal from {base}: {}, {}",
                    count(parts.len(), "log"),
                    bytes(all)
                );
                let last_log = self.log_that_led(parts.last());
                let dir = self.log_keeper().dir().to_path_buf();
                let logs = parts.into_iter().map(|part| (relative(&part, &dir), span(part)));
                Ok(Journal { logs: logs.collect(), dir, gap: None, as_of, last_log })
            }
            Err(why) => {
                log::warn!("no journal leads from {base} to {at}: {why}");
                Ok(none(why))
            }
        }
    }

    /// Joins what was received, and cuts off what is beyond.
    fn join(&mut self, base: &Position, at: &Position) -> Result<Result<Vec<Part>, String>> {
        let segments = match self.log_keeper().segments(at.flavor()) {
            Ok(segments) => segments,
            Err(why) => return Ok(Err(why)),
        };
        let mut crew = self.supervisor.crew("journal", 1);
        let gauge = crew.gauge();
        // All of it is read, to see that it is whole.
        crew.alone(|| {
            let joined = join(&segments, base, at, &|| gauge.stopped());
            let Ok(parts) = joined else { return Ok(joined) };
            for part in &parts {
                cut(part)?;
            }
            Ok(Ok(parts))
        })
    }
}

/// All that a primary committed up to this time is in the position that it told when its clock was
/// `clock`: times are whole seconds, and one of the same second may have come later.
fn complete_until(clock: Timestamp) -> Micros {
    Timestamp(clock.0 - 1).precise()
}

/// Cuts a log to what counts. Nothing else has it any more.
fn cut(part: &Part) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let cut = options.open(&part.path).and_then(|log| {
        let longer = log.metadata()?.len() > part.length;
        if longer { log.set_len(part.length) } else { Ok(()) }
    });
    cut.doing("write", &part.path)
}

fn relative(part: &Part, dir: &std::path::Path) -> PathBuf {
    part.path.strip_prefix(dir).unwrap_or(&part.path).to_path_buf()
}

fn span(part: Part) -> Span {
    Span { from: part.from.to_string(), to: part.to.to_string(), times: part.times }
}
