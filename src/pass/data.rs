//! How data comes into the scratch directory, out of the base, a dump or a clone, and what is
//! said of it when it is stored again.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::version::Version;
use crate::os::random::random_server_id;
use crate::pass::attempts::{Attempts, Data};
use crate::replication::primary::Facts;
use crate::report::checkpoint::Facts as Checkpointed;
use crate::repository::pending::Header;
use crate::repository::restore::{self, Destination, Into};
use crate::scratch::working_directory::Stage;
use crate::seed::adopt::{self, Source};
use crate::seed::clone;
use crate::seed::dump::{self, First};
use crate::server::setup::Setup;
use crate::text::{bytes, short};

impl Attempts<'_> {
    /// Looks for the newest backup that is not damaged.
    pub(crate) fn pick_base(&mut self) -> Result<()> {
        self.bases.pick()?;
        if let Some(base) = self.bases.current() {
            self.supervisor.checkpoint.set("base_backup", &base.name);
            self.supervisor.checkpoint.set("position", &base.position);
            if self.goal.is_none() {
                self.data_as_of = base.manifest.data_as_of;
            }
        }
        Ok(())
    }

    /// Goes on with the data of an interrupted pass if that is safe.
    pub(crate) fn resume(&mut self, before: &Checkpointed) {
        let resumable = self.bases.resumable(self.scratch, before);
        let flavor = resumable.as_ref().ok().and_then(|at| at.as_ref()).map(Position::flavor);
        let doubt = flavor.map_or(Ok(None), |f| self.scratch.doubt(f));
        match resumable.and_then(|at| Ok((at, doubt?))) {
            Ok((Some(at), doubt)) => {
                log::info!("going on with the data of an interrupted pass, at {at}");
                self.supervisor.checkpoint.set("position", &at);
                self.progress.start_at(at);
                self.data = Data::Suspect;
                self.doubt = doubt;
            }
            Ok(_) => {}
            Err(why) => log::info!("the scratch data is not gone on with: {why}"),
        }
    }

    /// Brings data into the scratch directory: of the base, or of the primary when there is none.
    pub(crate) fn fill(&mut self, facts: &Facts) -> Result<()> {
        loop {
            let Some(base) = self.bases.current() else { return self.copy_from(facts) };
            let name = base.name.clone();
            match self.restore(&name) {
                Err(e @ Error::BackupDamaged { .. }) => {
                    log::warn!("backup-damaged: passing over a backup: {e}");
                    self.bases.pass_over(name);
                    self.pick_base()?;
                    self.check_base()?;
                    let base = self.bases.current().map(|b| &b.position);
                    base.map_or(Ok(()), |b| facts.judge(b))?;
                }
                result => return result,
            }
        }
    }

    /// The base just restored is not what its manifest says: the next older one, then.
    pub(crate) fn pass_over_base(&mut self, error: &Error) -> Result<()> {
        let Some(name) = self.bases.current().map(|b| b.name.clone()) else { return Ok(()) };
        log::warn!("backup-damaged: passing over {name}: {error}");
        self.end_mysqld();
        self.bases.pass_over(name);
        self.pick_base()?;
        self.check_base()?;
        self.progress.restart();
        Ok(())
    }

    fn restore(&mut self, name: &str) -> Result<()> {
        let began = Instant::now();
        self.supervisor.checkpoint.phase("restore");
        let held = self.repo.hold(name)?;
        let into = if self.scratch.has_data() { Into::Existing } else { Into::Empty };
        self.scratch.set_stage(Stage::Partial, Some(name))?;
        self.scratch.make_data()?;
        let (data, user) = (self.scratch.data(), self.scratch.user());
        let mut crew = self.supervisor.crew("restore", self.plan.jobs);
        let to = Destination { path: &data, owner: user, into, durable: false };
        let restored = restore::restore(self.repo, &held, to, &mut crew)?;
        drop(crew);
        self.scratch.set_clean()?;
        self.scratch.set_stage(Stage::Ready, Some(name))?;
        self.data = Data::Fresh;
        self.progress.restart();
        self.supervisor.checkpoint.metrics.restored += restored.written;
        log::info!(
            "restored {name}: {} files, {}, {} written, in {}",
            restored.files,
            bytes(restored.bytes),
            bytes(restored.written),
            short(began.elapsed())
        );
        Ok(())
    }

    /// Brings all that the primary has, by a dump or a clone.
    fn copy_from(&mut self, facts: &Facts) -> Result<()> {
        let began = Instant::now();
        facts.check_position()?;
        self.supervisor.checkpoint.phase("seed");
        self.facts = Some(facts.clone());
        let setup = self.setup(facts.flavor, &facts.settings, facts.server_id);
        let (supervisor, scratch) = (&mut *self.supervisor, &mut *self.scratch);
        let (primary, patience) = (&self.plan.primary, self.plan.patience);
        let (seeded, did) = match self.plan.first {
            Some(First::Clone) => {
                (clone::clone(supervisor, &setup, scratch, primary, facts, patience)?, "cloned")
            }
            _ => {
                let dumped = dump::dump(supervisor, &setup, scratch, primary, facts, patience)?;
                self.dumps += 1;
                (dumped, "dumped and loaded")
            }
        };
        self.scratch.set_stage(Stage::Ready, None)?;
        self.data = Data::Fresh;
        // A dump is whole only at the primary's position of after it, whatever was before.
        self.goal = None;
        self.data_as_of = facts.asked;
        self.version = seeded.version;
        self.supervisor.checkpoint.set("position", &seeded.position);
        log::info!("{did} {} at {} in {}", facts.address, seeded.position, short(began.elapsed()));
        self.progress.restart();
        self.progress.start_at(seeded.position);
        Ok(())
    }

    /// Brings a copy of somebody else's data directory into the scratch directory.
    ///
    /// # Errors
    /// What ends the pass.
    pub fn adopt(&mut self, source: &Source) -> Result<()> {
        let began = Instant::now();
        self.supervisor.checkpoint.phase("seed");
        self.check_kind(source)?;
        self.flavor = source.flavor();
        let setup = self.setup(self.flavor, &[], 0);
        let (supervisor, scratch) = (&mut *self.supervisor, &mut *self.scratch);
        let (patience, jobs) = (self.plan.patience, self.plan.jobs);
        let adopted = adopt::adopt(supervisor, &setup, scratch, source, patience, jobs)?;
        self.supervisor.checkpoint.set("position", &adopted.position);
        log::info!(
            "adopted {} at {} in {}",
            source.path().display(),
            adopted.position,
            short(began.elapsed())
        );
        self.scratch.set_stage(Stage::Ready, None)?;
        self.version = adopted.version;
        self.settings = adopted.settings;
        self.data_as_of = adopted.data_as_of;
        self.progress.start_at(adopted.position);
        Ok(())
    }

    /// The private mysqld for data that is to follow a primary like this.
    pub(crate) fn setup(
        &self,
        flavor: Flavor,
        settings: &[(String, String)],
        primary_id: u32,
    ) -> Setup {
        Setup {
            program: self.plan.program.clone(),
            flavor,
            scratch: self.scratch.root().to_path_buf(),
            user: self.scratch.user(),
            options: self.plan.mysqld_options.clone(),
            settings: settings.to_vec(),
            server_id: random_server_id(primary_id),
            call_timeout: self.plan.ping_timeout,
            needs_grant_tables: self.its_version.as_ref().is_some_and(Version::needs_grant_tables),
            data_size: self.bases.current().map(|base| base.manifest.size),
        }
    }

    /// What the manifest of the backup to be stored says.
    ///
    /// # Errors
    /// When there is no position, which cannot be.
    pub fn header(&self) -> Result<Header> {
        let Some(at) = self.progress.at() else {
            return Err(Error::config("there is nothing to store"));
        };
        Ok(Header {
            flavor: self.flavor.name().into(),
            version: self.version.clone(),
            position: at.to_string(),
            data_as_of: self.data_as_of,
            started: self.started,
            base: self.bases.current().map(|b| b.name.clone()),
            settings: self.settings.clone(),
        })
    }
}
