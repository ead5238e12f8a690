//! Backups with packs that were set aside: whether their blocks are good all the same.
//!
//! A pack is set aside for one bad byte, and what a backup needs of it may be good. Often it is: up to
//! half of an old pack belongs to no newer backup any more.

use crate::error::{Error, Result};
use crate::os::workers::Gauge;
use crate::repository::directory::Repository;
use crate::repository::manifest::{Block, Manifest, PackRef};
use crate::repository::packs::{self, Fault, Fetcher};

impl Repository {
    /// The pack of the backup `name` that was set aside, if no other one lacks and all blocks that the
    /// backup needs of such packs are good; only these are read. Early and of no meaning if the gauge is
    /// stopped.
    ///
    /// # Errors
    /// Those of reading, except damage.
    pub fn good_in_spite_of(&self, name: &str, gauge: &Gauge) -> Result<Option<PackRef>> {
        let manifest = match self.load(name) {
            Err(Error::BackupDamaged { .. } | Error::NoBackup { .. }) => return Ok(None),
            manifest => manifest?,
        };
        let is_there = |pack| packs::look_for_reading(self.root(), pack).is_ok();
        if !manifest.packs.iter().all(is_there) {
            return Ok(None);
        }
        let is_aside = |pack: &PackRef| packs::look(self.root(), pack).is_err();
        let aside: Vec<bool> = manifest.packs.iter().map(is_aside).collect();
        let first = manifest.packs.iter().zip(&aside).find(|(_, aside)| **aside);
        let Some((first, _)) = first else { return Ok(None) };
        let good = self.all_good(&manifest, &aside, gauge)?;
        Ok(good.then_some(*first))
    }

    /// True if all blocks are good that need a pack of which `aside` is true.
    fn all_good(&self, manifest: &Manifest, aside: &[bool], gauge: &Gauge) -> Result<bool> {
        let mut fetcher = Fetcher::new(self.root())?;
        let pieces = manifest.stored_files().flat_map(|file| file.pieces(manifest.block_size));
        for piece in pieces {
            let Block::Stored(chain) = piece.block else { continue };
            let links = chain.of(&manifest.links);
            if !links.iter().any(|link| aside[link.frame.pack as usize]) {
                continue;
            }
            match fetcher.fetch(&manifest.packs, links, piece.length as usize) {
                Ok(_) => {}
                Err((_, Fault::Failed(e))) => return Err(e),
                Err((_, Fault::Damaged(_))) => return Ok(false),
            }
            if gauge.stopped() {
                break;
            }
        }
        Ok(true)
    }
}
