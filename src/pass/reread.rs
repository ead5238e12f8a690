//! With `--keep-scratch`, packs are read back in turn before the data is stored: what is damaged is
//! stored again, out of data that was compared with its hashes and has been replicated to since.

use crate::error::{Cause, Result};
use crate::pass::attempts::Attempts;
use crate::pass::run::Look;
use crate::report::keys::Phase;
use crate::repository::directory::RepoLock;
use crate::repository::reread::reread;
use crate::repository::store::Stored;
use crate::scratch::known_files;
use crate::scratch::packs_read;
use crate::text::{bytes, count};

impl Attempts<'_> {
    /// Reads back a share of the packs that the base needs. Returns what somebody should look at.
    ///
    /// # Errors
    /// Those of reading, except damage; a stop.
    pub(crate) fn reread_packs(&mut self, lock: &RepoLock) -> Result<Option<Look>> {
        let Some(base) = self.bases.current().filter(|_| self.plan.storage.keep_scratch) else {
            return Ok(None);
        };
        self.supervisor.checkpoint.phase(Phase::Backup);
        let root = self.scratch.root();
        let mut last = packs_read::read(root);
        let mut crew = self.supervisor.crew("read back", self.plan.storage.jobs);
        let read = reread(self.bases.repo, lock, &base.manifest.packs, &mut last, &mut crew)?;
        drop(crew);
        packs_read::write(root, &last);
        let (packs, size) = (count(read.packs, "pack"), bytes(read.bytes));
        log::info!("read back {packs} of {}, {size}", base.manifest.packs.len());
        Ok(self.mended(&read.damaged))
    }

    /// Notes what is known of the data, if that is kept, and warns of packs that were found damaged.
    pub(crate) fn after_store(&self, stored: &Stored) -> Option<Look> {
        if let Some(known) = stored.known.as_ref().filter(|_| self.plan.storage.keep_scratch) {
            known_files::write(self.scratch.root(), known);
        }
        self.mended(&stored.damaged)
    }

    /// Warns of packs that were found damaged before what they hold is stored again from the data.
    fn mended(&self, damaged: &[String]) -> Option<Look> {
        for what in damaged {
            log::warn!("backup-damaged: {what}; its content is stored again from the data");
        }
        let base = self.bases.current().map_or("the base", |base| base.name.as_str());
        let first = damaged.first()?;
        let what = format!("{first}, of which {base} was made; its content was stored again");
        Some(Look::At(Cause::BackupDamaged, what))
    }

    /// Sets the packs aside that were found damaged, now that what they held is stored again.
    pub(crate) fn set_aside_rotten(&mut self) -> Result<()> {
        let repo = self.bases.repo;
        self.supervisor.crew("set aside", 1).alone(|| {
            repo.set_aside_distrusted();
            Ok(())
        })
    }
}
