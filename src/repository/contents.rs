//! Reads a file of a backup out of the packs, block by block, without a place to restore it to.

use std::io::{self, Read};

use crate::error::{Error, Result};
use crate::repository::directory::{Repository, damaged};
use crate::repository::held::Held;
use crate::repository::manifest::{Block, FileEntry, Piece};
use crate::repository::packs::{Fault, Fetcher};

/// A file of a backup from its beginning on.
pub struct Contents<'a> {
    held: &'a Held,
    entry: &'a FileEntry,
    fetcher: Fetcher<'a>,
    pieces: Box<dyn Iterator<Item = Piece> + 'a>,
    /// The block that is being read, and how far.
    block: Vec<u8>,
    at: usize,
    /// Zeros that come before the next block.
    zeros: u64,
    failed: Option<Error>,
}

impl<'a> Contents<'a> {
    /// Opens a file of `held`.
    ///
    /// # Errors
    /// When memory is short.
    pub fn open(
        repo: &'a Repository,
        held: &'a Held,
        entry: &'a FileEntry,
    ) -> Result<Contents<'a>> {
        let fetcher = Fetcher::new(repo.root())?;
        let pieces = Box::new(entry.pieces(held.manifest.block_size));
        let (block, at, zeros, failed) = (Vec::new(), 0, 0, None);
        Ok(Contents { held, entry, fetcher, pieces, block, at, zeros, failed })
    }

    /// Why a read has failed.
    pub fn failure(&mut self) -> Option<Error> {
        self.failed.take()
    }

    /// The next block. False at the end.
    fn advance(&mut self) -> Result<bool> {
        let Some(piece) = self.pieces.next() else { return Ok(false) };
        self.block.clear();
        self.at = 0;
        match piece.block {
            Block::Zeros { .. } => self.zeros = piece.length,
            Block::Stored(chain) => {
                let manifest = &self.held.manifest;
                let links = chain.of(&manifest.links);
                let size = piece.length as usize;
                match self.fetcher.fetch(&manifest.packs, links, size) {
                    Ok(content) => self.block.extend_from_slice(content),
                    Err((_, Fault::Failed(e))) => return Err(e),
                    Err((_, Fault::Damaged(what))) => {
                        let path = self.entry.path.display();
                        let what = format!("{what}, and {path} needs it");
                        return Err(damaged(&self.held.name, what));
                    }
                }
            }
        }
        Ok(true)
    }
}

impl Read for Contents<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.zeros > 0 {
                let length = usize::try_from(self.zeros).unwrap_or(usize::MAX).min(buffer.len());
                buffer[..length].fill(0);
                self.zeros -= length as u64;
                return Ok(length);
            }
            let left = &self.block[self.at..];
            if !left.is_empty() || buffer.is_empty() {
                let length = left.len().min(buffer.len());
                buffer[..length].copy_from_slice(&left[..length]);
                self.at += length;
                return Ok(length);
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(e) => {
                    self.failed = Some(e);
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
    }
}
