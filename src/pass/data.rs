//! Filling the scratch directory: from the base, a dump or a clone.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::settings::Values;
use crate::os::random::random_server_id;
use crate::pass::attempts::Attempts;
use crate::pass::in_hand::{Data, InHand};
use crate::replication::primary::Facts;
use crate::report::checkpoint::Facts as Checkpointed;
use crate::report::keys::{Key, Phase};
use crate::repository::restore::{self, Destination, Into, Kept};
use crate::scratch::known_files;
use crate::scratch::working_directory::Stage;
use crate::seed::clone;
use crate::seed::dump::{self, First};
use crate::seed::seeding::Seeding;
use crate::server::buffers::stay_unwritten;
use crate::server::setup::{RelayLogs, Setup};
use crate::text::{bytes, count, short};

impl Attempts<'_> {
    /// Makes the newest undamaged backup the base.
    pub(crate) fn pick_base(&mut self) -> Result<()> {
        let mut crew = self.supervisor.crew("look at the backups", 1);
        self.bases.pick(self.scratch, &mut crew)?;
        drop(crew);
        if let Some(base) = self.bases.current() {
            self.supervisor.checkpoint.set(Key::BaseBackup, &base.name);
            self.supervisor.checkpoint.expect_at(&base.position);
        }
        Ok(())
    }

    /// Resumes the data of an interrupted pass if that is safe.
    pub(crate) fn resume(&mut self, before: &Checkpointed) {
        let resumable = self.bases.resumable(self.scratch, before);
        let flavor = resumable.as_ref().ok().and_then(|at| at.as_ref()).map(Position::flavor);
        let doubt = flavor.map_or(Ok(None), |f| self.doubt(f));
        match resumable.and_then(|at| Ok((at, doubt?))) {
            Ok((Some(at), doubt)) => {
                log::info!("resuming the interrupted pass at {at}");
                self.supervisor.checkpoint.start_at(at);
                self.hand = InHand::Data(Data::suspect(doubt));
            }
            Ok(_) => {}
            Err(why) => log::info!("not resuming the scratch data: {why}"),
        }
    }

    /// Fills the scratch directory from the base, or from the primary if there is none.
    pub(crate) fn fill(&mut self, facts: &Facts) -> Result<()> {
        loop {
            let Some(base) = self.bases.current() else { return self.copy_from(facts) };
            let name = base.name.clone();
            match self.restore(&name, facts) {
                Err(e @ Error::BackupDamaged { .. }) => {
                    log::warn!("backup-damaged: skipping a backup: {e}");
                    self.skip(name)?;
                    let base = self.bases.current().map(|b| &b.position);
                    base.map_or(Ok(()), |b| facts.check_base(b))?;
                }
                result => return result,
            }
        }
    }

    /// The restored data contradicts the manifest of the base: makes the next older backup the base.
    pub(crate) fn skip_base(&mut self, error: &Error) -> Result<()> {
        let Some(name) = self.bases.current().map(|b| b.name.clone()) else { return Ok(()) };
        log::warn!("backup-damaged: skipping {name}: {error}");
        self.start_over()?;
        self.skip(name)
    }

    fn skip(&mut self, name: String) -> Result<()> {
        self.bases.skip(name);
        self.pick_base()?;
        self.check_base()
    }

    fn restore(&mut self, name: &str, facts: &Facts) -> Result<()> {
        let began = Instant::now();
        self.supervisor.checkpoint.phase(Phase::Restore);
        let held = self.bases.repo.hold(name)?;
        let into = if self.scratch.has_data() { Into::Existing } else { Into::Empty };
        let known = known_files::take(self.scratch.root()).filter(|_| self.scratch.is_kept());
        let over_itself = self.scratch.base() == Some(name);
        self.scratch.set_stage(Stage::Partial, Some(name))?;
        self.scratch.make_data()?;
        // What was received after older data.
        self.log_keeper().forget()?;
        let data = self.scratch.data();
        let reads_little = self.is_there(&facts.position);
        let uncached = reads_little && !stay_unwritten(held.manifest.size);
        let kept = if uncached { Kept::Uncached } else { Kept::Cached };
        let (owner, known) = (self.scratch.user(), known.as_ref());
        let to = Destination { path: &data, owner, into, kept, known };
        let mut crew = self.supervisor.crew("restore", self.plan.storage.jobs);
        let restored = match over_itself {
            true => restore::restore_over_itself(self.bases.repo, &held, to, &mut crew)?,
            false => restore::restore(self.bases.repo, &held, to, &mut crew)?,
        };
        drop(crew);
        self.scratch.set_clean()?;
        self.scratch.set_stage(Stage::Ready, Some(name))?;
        self.hand = InHand::Data(Data { known: restored.known, ..Data::fresh() });
        self.supervisor.checkpoint.restart();
        self.check_room_for_logs();
        self.supervisor.checkpoint.metrics.restored += restored.written;
        log::info!(
            "restored {name}: {}, {}, {} written, in {}",
            count(restored.files, "file"),
            bytes(restored.bytes),
            bytes(restored.written),
            short(began.elapsed())
        );
        Ok(())
    }

    /// Copies all data of the primary, by a dump or a clone.
    fn copy_from(&mut self, facts: &Facts) -> Result<()> {
        let began = Instant::now();
        facts.check_position()?;
        self.supervisor.checkpoint.phase(Phase::Seed);
        self.facts = Some(facts.clone());
        let setup = self.setup(facts.flavor, self.settings(facts)?, facts.server_id);
        let (plan, mut seeding) = (self.plan, self.seeding(setup));
        let (seeded, did) = match plan.first {
            Some(First::Clone) => (clone::clone(&mut seeding, &plan.primary, facts)?, "cloned"),
            _ => {
                let dumped = dump::dump(&mut seeding, &plan.primary, facts)?;
                self.dumps += 1;
                (dumped, "dumped and loaded")
            }
        };
        self.scratch.set_stage(Stage::Ready, None)?;
        self.hand = InHand::Data(Data { version: seeded.version, ..Data::fresh() });
        // A dump is consistent only at the position that the primary has after it.
        self.goal = None;
        log::info!("{did} {} at {} in {}", facts.address, seeded.position, short(began.elapsed()));
        self.supervisor.checkpoint.restart();
        self.supervisor.checkpoint.start_at(seeded.position);
        Ok(())
    }

    pub(super) fn seeding(&mut self, setup: Setup) -> Seeding<'_> {
        let patience = self.plan.patience;
        Seeding { supervisor: self.supervisor, scratch: self.scratch, setup, patience }
    }

    /// The set-up of a private mysqld that replicates from such a primary.
    pub(crate) fn setup(&self, flavor: Flavor, settings: Values, primary_id: u32) -> Setup {
        let needs_grant_tables = self.loads_all();
        let keeps = self.log_keeper().keeps();
        let relay_logs = if keeps { RelayLogs::Stay } else { RelayLogs::Go };
        Setup {
            program: self.plan.server.program.clone(),
            flavor,
            scratch: self.scratch.root().to_path_buf(),
            user: self.scratch.user(),
            options: self.plan.server.options.clone(),
            settings,
            zone: self.facts.as_ref().and_then(|facts| facts.zone.zone()),
            server_id: random_server_id(primary_id),
            call_timeout: self.plan.retries.ping_timeout,
            needs_grant_tables,
            relay_logs,
            data_size: self.size_to_work_on(),
        }
    }

    /// Bytes of data that a private mysqld may need in its memory: none if it only has to start and stop.
    fn size_to_work_on(&self) -> Option<u64> {
        let base = self.bases.current()?;
        let goal = self.goal.as_ref().map(|goal| goal.target.position());
        let is_there = goal.is_some_and(|goal| self.is_there(goal));
        Some(if is_there { 0 } else { base.manifest.size })
    }

    /// True if the base has all up to this position.
    fn is_there(&self, at: &Position) -> bool {
        self.bases.current().is_some_and(|base| base.position.contains(at))
    }
}
