//! What a proof is of: a backup, or a moment that a backup and the journals after it lead to.

use crate::error::{Error, Result};
use crate::journal::cut::Moment;
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::version::Version;
use crate::pass::means::Means;
use crate::pass::moment::{self, Sources, shown};
use crate::pass::plan::Plan;
use crate::report::keys::Key;
use crate::repository::directory::{Repository, damaged};
use crate::repository::held::Held;
use crate::repository::journals::Stores;
use crate::repository::manifest::Header;
use crate::repository::restore::{self, Destination, Into, Kept};
use crate::scratch::working_directory::{Scratch, Stage};
use crate::server::compatibility::{self, With};
use crate::supervisor::main_loop::Supervisor;

/// It, or where it is looked for.
pub(crate) enum Subject<'a> {
    Backup(&'a Repository, &'a Held),
    Moment(&'a Stores, &'a Moment),
}

impl Subject<'_> {
    /// Its name in messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Subject::Backup(_, held) => held.name.clone(),
            Subject::Moment(_, moment) => format!("the moment {}", shown(moment)),
        }
    }

    /// False for what fails again in the same way.
    pub(crate) fn may_try_again(&self, error: &Error) -> bool {
        let same = matches!((self, error), (Subject::Moment(..), Error::Stalled { .. }));
        error.is_temporary() && !same
    }
}

/// Data of it that a server can be started on.
pub(crate) struct Filled {
    /// The backup that was restored.
    pub(crate) backup: String,
    pub(crate) header: Header,
    pub(crate) flavor: Flavor,
    pub(crate) position: Position,
    /// Bytes of that backup.
    pub(crate) bytes: u64,
    /// The version of the server program.
    pub(crate) ours: Option<Version>,
    /// Where the moment is, in words.
    pub(crate) ends: Vec<String>,
}

/// What restores it.
pub(crate) struct Filling<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) supervisor: &'a mut Supervisor,
    /// The directory of the proof.
    pub(crate) proof: &'a mut Scratch,
}

impl Filling<'_> {
    /// Restores it into the directory of the proof.
    ///
    /// # Errors
    /// Another server program than it needs; those of restoring and replaying.
    pub(crate) fn fill(&mut self, subject: &Subject<'_>) -> Result<Filled> {
        match subject {
            Subject::Backup(repo, held) => {
                let header = held.manifest.header.clone();
                let filled = self.filled(&held.name, header, held.manifest.size)?;
                self.supervisor.checkpoint.expect_at(&filled.position);
                self.restore(repo, held)?;
                Ok(filled)
            }
            Subject::Moment(stores, moment) => {
                let plan = self.plan;
                let (server, retries) = (plan.server.clone(), plan.retries.clone());
                let (patience, jobs) = (plan.patience, plan.storage.jobs);
                let means = Means { server, retries, patience, jobs };
                self.proof.set_stage(Stage::Partial, None)?;
                self.proof.make_data()?;
                // Of the repository alone, as any proof.
                let sources = Sources { stores, primary: None };
                let taken = moment::fill(sources, self.supervisor, moment, &means, self.proof)?;
                let (held, header) = (&taken.held, taken.header());
                let mut filled = self.filled(&held.name, header, held.manifest.size)?;
                self.supervisor.checkpoint.set(Key::BaseBackup, &filled.backup);
                self.supervisor.checkpoint.expect_at(&filled.position);
                filled.ends = taken.ends().into_iter().flatten().collect();
                Ok(filled)
            }
        }
    }

    /// Fails unless the server program is of the data's series: a later one would change the data.
    fn filled(&mut self, backup: &str, header: Header, bytes: u64) -> Result<Filled> {
        let program = &self.plan.server.program;
        let ours = compatibility::program_version(self.supervisor, program)?;
        let theirs = Version::parse(&header.version);
        if let (Some(ours), Some(theirs)) = (&ours, theirs) {
            compatibility::check(program, ours, &With::Proof(backup), &theirs)?;
        }
        let flavor = Flavor::from_name(&header.flavor);
        let unknown = || damaged(backup, format!("unknown flavor {}", header.flavor));
        let flavor = flavor.ok_or_else(unknown)?;
        let position = Position::parse(flavor, &header.position);
        let position = position.map_err(|what| damaged(backup, what))?;
        let (backup, ends) = (backup.to_string(), Vec::new());
        Ok(Filled { backup, header, flavor, position, bytes, ours, ends })
    }

    fn restore(&mut self, repo: &Repository, held: &Held) -> Result<()> {
        let proof = &mut *self.proof;
        proof.set_stage(Stage::Partial, Some(&held.name))?;
        proof.make_data()?;
        let data = proof.data();
        let (owner, into) = (proof.user(), Into::Empty);
        let to = Destination { path: &data, owner, into, kept: Kept::Cached, known: None };
        let mut crew = self.supervisor.crew("restore", self.plan.storage.jobs);
        let restored = restore::restore(repo, held, to, &mut crew)?;
        drop(crew);
        self.supervisor.checkpoint.metrics.restored += restored.written;
        Ok(())
    }
}
