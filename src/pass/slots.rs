//! Slots: of all passes that name the same directory, only some run at a time.
//!
//! A slot is a lock on a file of that directory, so that of a killed pass is free at once. A pass
//! waits when it has its own two locks and knows that there is work to do, and keeps the slot as long
//! as these. Who comes first is a matter of chance.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::time::Duration;

use crate::error::{Error, IoExt, Result};
use crate::os::lock::{LockFile, lock_file};
use crate::pass::attempts::Attempts;
use crate::pass::plan::Slots;
use crate::supervisor::main_loop::{Look, Wait};
use crate::supervisor::watched::Nothing;
use crate::text::{count, short};

impl Attempts<'_> {
    /// Waits for a slot, if the plan has some.
    ///
    /// # Errors
    /// [`Error::Locked`] when none has become free in time; a stop; when one cannot be opened.
    pub(crate) fn take_slot(&mut self) -> Result<()> {
        let Some(slots) = &self.plan.slots else { return Ok(()) };
        make(slots)?;
        let mut locked = match free(slots) {
            Err(locked @ Error::Locked { .. }) => locked,
            slot => return slot.map(|slot| self.scratch.slot = Some(slot)),
        };
        let (dir, number) = (slots.dir.display(), count(slots.number, "slot"));
        log::info!("waiting for one of {number} in {dir}, for {} at most", short(slots.wait));
        self.supervisor.checkpoint.waits(true);
        let wait = Wait { every: Duration::from_secs(1), patience: Some(slots.wait) };
        let waited = self.supervisor.wait_for(&mut Nothing, wait, |_, _| match free(slots) {
            Err(again @ Error::Locked { .. }) => {
                locked = again;
                Ok(Look::Still)
            }
            slot => slot.map(Look::Done),
        })?;
        let Some(slot) = waited else { return Err(too_long(locked, slots)) };
        self.scratch.slot = Some(slot);
        self.supervisor.checkpoint.waits(false);
        log::info!("a slot is free");
        Ok(())
    }
}

/// Makes the directory. Only the last component: what is to be above may not be mounted.
fn make(slots: &Slots) -> Result<()> {
    let dir = &slots.dir;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::config(format!(
            "cannot create {} of --slots: its parent directory does not exist",
            dir.display()
        ))),
        made => made.ignoring(io::ErrorKind::AlreadyExists).doing("create", dir),
    }
}

/// A slot that nobody holds.
fn free(slots: &Slots) -> Result<LockFile> {
    let mut last = None;
    for number in 1..=slots.number {
        match lock_file(&slots.dir.join(format!("slot-{number}")), "run") {
            Err(locked @ Error::Locked { .. }) => last = Some(locked),
            slot => return slot,
        }
    }
    Err(last.unwrap_or_else(|| Error::config("--slots needs at least one")))
}

/// The error names the holder of the last slot; so long all others were held as well.
fn too_long(locked: Error, slots: &Slots) -> Error {
    let Error::Locked { path, holder } = locked else { return locked };
    let (wait, all) = (short(slots.wait), count(slots.number, "slot"));
    Error::Locked { path, holder: format!("{holder}, and within {wait} none of {all} became free") }
}
