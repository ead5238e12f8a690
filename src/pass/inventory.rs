//! What the repository holds, in numbers, for the metrics file.
//!
//! A manifest never changes, so each is read once in a pass, on a thread of its own: that of a
//! million files takes seconds. Whether its packs are there is looked at each time.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::os::workers::Gauge;
use crate::report::metrics::{Holdings, Newest};
use crate::repository::directory::Repository;
use crate::repository::manifest::Manifest;
use crate::supervisor::main_loop::Supervisor;

/// The manifests that were read, without their files.
pub struct Inventory<'a> {
    repo: &'a Repository,
    known: BTreeMap<String, Manifest>,
}

impl<'a> Inventory<'a> {
    /// Of nothing yet.
    pub fn new(repo: &'a Repository) -> Inventory<'a> {
        Inventory { repo, known: BTreeMap::new() }
    }

    /// Takes stock for the metrics, if there shall be any. What cannot be read is not known, and
    /// the pass itself will say more of it.
    ///
    /// # Errors
    /// A stop.
    pub fn take(&mut self, supervisor: &mut Supervisor) -> Result<()> {
        if !supervisor.checkpoint.metrics.wanted() {
            return Ok(());
        }
        let mut crew = supervisor.crew("look", 1);
        let gauge = crew.gauge();
        let found = crew.alone(|| self.look(&gauge));
        drop(crew);
        supervisor.checkpoint.metrics.holdings = match found {
            Ok(holdings) => Some(holdings),
            Err(stop @ Error::Interrupted { .. }) => return Err(stop),
            Err(e) => {
                log::warn!("the metrics file is without what the repository holds: {e}");
                None
            }
        };
        Ok(())
    }

    fn look(&mut self, gauge: &Gauge) -> Result<Holdings> {
        let mut holdings = Holdings::default();
        let names = self.repo.names()?;
        self.known.retain(|name, _| names.contains(name));
        // The newest first: it is what matters most, should a stop come.
        for name in names.into_iter().rev() {
            if gauge.stopped() {
                break;
            }
            if !self.known.contains_key(&name) {
                match self.repo.load(&name) {
                    Ok(mut manifest) => {
                        (manifest.files, manifest.dirs) = (Vec::new(), Vec::new());
                        self.known.insert(name.clone(), manifest);
                    }
                    Err(Error::BackupDamaged { .. }) => {}
                    // Pruned between the listing and the look.
                    Err(Error::NoBackup { .. }) => continue,
                    Err(e) => return Err(e),
                }
            }
            match self.known.get(&name).filter(|m| self.repo.state(m).is_none()) {
                Some(manifest) => {
                    holdings.complete += 1;
                    holdings.newest.get_or_insert_with(|| newest(name, manifest));
                }
                None => holdings.damaged += 1,
            }
        }
        Ok(holdings)
    }
}

fn newest(name: String, manifest: &Manifest) -> Newest {
    Newest {
        name,
        flavor: manifest.flavor.clone(),
        version: manifest.version.clone(),
        position: manifest.position.clone(),
        data_as_of: manifest.data_as_of,
        finished: manifest.finished,
        size: manifest.size,
        stored: manifest.stored,
    }
}
