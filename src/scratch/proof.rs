//! A proof's own directory, `proof` within the scratch directory: data that an interrupted pass left,
//! or that was kept, stays beside it. And the checkpoint of the last pass, which stays on record
//! while a proof says in the checkpoint where it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{IoExt, Result};
use crate::os::files;
use crate::report::checkpoint::{self, Facts};
use crate::scratch::opened;
use crate::scratch::working_directory::Scratch;
use crate::supervisor::main_loop::Supervisor;

const NAME: &str = "proof";
const LOG: &str = "mysqld.log";
/// The checkpoint of the last pass.
const KEPT: &str = "checkpoint.pass";
/// That of no pass.
const NONE: &str = "format=1\n";

impl Scratch {
    /// The directory of a proof, empty. Ends what a killed one left running.
    ///
    /// # Errors
    /// When it cannot be made or emptied; a stop.
    pub fn begin_proof(&self, supervisor: &mut Supervisor) -> Result<Scratch> {
        let mut proof = self.within(NAME)?;
        proof.sweep(supervisor)?;
        proof.discard(supervisor)?;
        Ok(proof)
    }

    /// Removes the directory of a `proof`. Unless all went `well`, the log of its server takes the
    /// place of ours.
    ///
    /// # Errors
    /// When it cannot be removed; a stop.
    pub fn end_proof(
        &self,
        mut proof: Scratch,
        well: bool,
        supervisor: &mut Supervisor,
    ) -> Result<()> {
        proof.discard(supervisor)?;
        proof.check_gone()?;
        if !well {
            let _ = fs::rename(proof.root().join(LOG), self.root().join(LOG));
        }
        let root = proof.root();
        fs::remove_dir_all(root).ignoring(io::ErrorKind::NotFound).doing("remove", root)
    }

    /// Removes what a killed proof left, and killed throw-away servers.
    ///
    /// # Errors
    /// As [`Scratch::end_proof`].
    pub fn sweep_proof(&self, supervisor: &mut Supervisor) -> Result<()> {
        opened::sweep(self.root(), self.user(), supervisor)?;
        if self.root().join(NAME).symlink_metadata().is_err() {
            return Ok(());
        }
        let proof = self.begin_proof(supervisor)?;
        self.end_proof(proof, true, supervisor)
    }

    /// Keeps the checkpoint of the last pass aside for the time of a proof, and reads it. If a proof
    /// left one aside, that is it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_checkpoint_aside(&self, checkpoint: &Path) -> Result<Facts> {
        let kept = self.kept();
        // What fails next may leave nothing else that shows whose directory this is.
        self.claim()?;
        if kept.symlink_metadata().is_err() {
            let text = match checkpoint::read(checkpoint) {
                Ok(Some(_)) => fs::read_to_string(checkpoint).doing("read", checkpoint)?,
                Ok(None) => NONE.into(),
                Err(why) => {
                    log::warn!("ignoring the checkpoint {}: {why}", checkpoint.display());
                    NONE.into()
                }
            };
            files::replace(&kept, &text, 0o600, true).doing("write", &kept)?;
        }
        Ok(checkpoint::read(&kept).unwrap_or_default().unwrap_or_default())
    }

    /// Puts the checkpoint of the last pass back into its place, if a proof left it aside.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_checkpoint_back(&self, checkpoint: &Path) -> Result<()> {
        let kept = self.kept();
        let text = match checkpoint::read(&kept) {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => fs::read_to_string(&kept).doing("read", &kept)?,
            Err(_) => NONE.into(),
        };
        files::replace(checkpoint, &text, 0o600, true).doing("write", checkpoint)?;
        self.forget_checkpoint_aside()
    }

    /// The checkpoint in its place is that of the last pass again.
    ///
    /// # Errors
    /// When the other cannot be removed.
    pub fn forget_checkpoint_aside(&self) -> Result<()> {
        let kept = self.kept();
        fs::remove_file(&kept).ignoring(io::ErrorKind::NotFound).doing("remove", &kept)
    }

    fn kept(&self) -> PathBuf {
        self.root().join(KEPT)
    }
}
