//! What the repository holds, in numbers, for the metrics file.
//!
//! A manifest never changes, so each is read once per pass, on a thread of its own: one of a
//! million files takes seconds. The presence of its packs is checked each time.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::os::workers::Gauge;
use crate::report::metrics::{Holdings, Newest, Proof};
use crate::repository::directory::Repository;
use crate::repository::manifest::Summary;
use crate::repository::proofs::{Record, proven};
use crate::supervisor::main_loop::Supervisor;

/// The manifests read so far.
pub struct Inventory<'a> {
    repo: &'a Repository,
    known: BTreeMap<String, Summary>,
}

impl<'a> Inventory<'a> {
    /// An empty inventory.
    pub fn new(repo: &'a Repository) -> Inventory<'a> {
        Inventory { repo, known: BTreeMap::new() }
    }

    /// Takes inventory, if a metrics file is wanted. Fails only at a stop; what cannot be read is a
    /// warning, since the pass itself will report it.
    pub fn take(&mut self, supervisor: &mut Supervisor) -> Result<()> {
        if !supervisor.checkpoint.metrics.wanted() {
            return Ok(());
        }
        let mut crew = supervisor.crew("look", 1);
        let gauge = crew.gauge();
        let found = crew.alone(|| self.read(&gauge));
        drop(crew);
        supervisor.checkpoint.metrics.holdings = match found {
            Ok(holdings) => Some(holdings),
            Err(stop @ Error::Interrupted { .. }) => return Err(stop),
            Err(e) => {
                log::warn!("the metrics file omits the repository: {e}");
                None
            }
        };
        Ok(())
    }

    fn read(&mut self, gauge: &Gauge) -> Result<Holdings> {
        let mut holdings = Holdings::default();
        let names = self.repo.names()?;
        self.known.retain(|name, _| names.contains(name));
        // The newest first: it matters most if a stop arrives.
        for name in names.into_iter().rev() {
            if gauge.stopped() {
                break;
            }
            if !self.known.contains_key(&name) {
                match self.repo.summary(&name) {
                    Ok(summary) => {
                        self.known.insert(name.clone(), summary);
                    }
                    Err(Error::BackupDamaged { .. }) => {}
                    // Pruned since the listing.
                    Err(Error::NoBackup { .. }) => continue,
                    Err(e) => return Err(e),
                }
            }
            if let Some(proof) = proof(&self.repo.records(&name))
                && holdings.proof.as_ref().is_none_or(|last| last.time < proof.time)
            {
                holdings.proof = Some(proof);
            }
            match self.known.get(&name).filter(|m| self.repo.state(&m.packs).is_none()) {
                Some(summary) => {
                    holdings.complete += 1;
                    holdings.newest.get_or_insert_with(|| Newest {
                        name,
                        flavor: summary.header.flavor.clone(),
                        version: summary.header.version.clone(),
                        position: summary.header.position.clone(),
                        data_as_of: summary.header.data_as_of,
                        finished: summary.finished,
                        size: summary.size,
                        stored: summary.stored,
                    });
                }
                None => holdings.damaged += 1,
            }
        }
        Ok(holdings)
    }
}

/// The last of the proofs on record, if it went well.
fn proof(records: &[Record]) -> Option<Proof> {
    let record = proven(records)?;
    let steps = ["restore", "start", "check"].into_iter().filter_map(|step| {
        let seconds = record.get(&format!("{step}_seconds"))?.parse::<f64>().ok()?;
        seconds.is_finite().then(|| (step, format!("{seconds:.3}")))
    });
    Some(Proof { time: record.time()?, seconds: steps.collect() })
}
