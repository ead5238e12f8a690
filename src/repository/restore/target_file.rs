//! One file that is being restored.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use sha2::{Digest as _, Sha256};

use crate::os::sys;
use crate::repository::manifest::{Hash, Piece};

/// An open file of the target and its size.
pub struct TargetFile {
    pub(super) file: File,
    /// Created by this restore, so unwritten parts are zeros.
    pub new: bool,
    /// It is to be on the disk at the end.
    pub(super) durable: bool,
    /// Written past the page cache.
    pub(super) direct: bool,
}

/// Some file systems refuse direct writes, such as tmpfs before Linux 6.6, and those that want them aligned to
/// more than a page.
pub(super) fn is_refusal(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

impl TargetFile {
    /// True if this place already has the content with this `hash`.
    pub fn has(&self, piece: &Piece, hash: &Hash, buffer: &mut Vec<u8>) -> io::Result<bool> {
        if self.new {
            return Ok(false);
        }
        buffer.resize(piece.length as usize, 0);
        self.file.read_exact_at(buffer, piece.offset)?;
        Ok(Hash::from(Sha256::digest(&buffer[..])) == *hash)
    }

    /// Reads what is in the place of a block.
    pub fn read(&self, piece: &Piece, content: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(content, piece.offset)
    }

    /// Writes a block. What goes past the page cache is aligned: see [`crate::repository::packs::buffer`].
    pub fn write(&self, piece: &Piece, content: &[u8]) -> io::Result<()> {
        self.file.write_all_at(content, piece.offset)?;
        if self.durable && !self.direct {
            sys::start_writeback(&self.file, piece.offset, piece.length);
        }
        Ok(())
    }

    /// Zeros a run of blocks, unless they already are.
    pub fn zero(&self, piece: &Piece) -> io::Result<()> {
        let end = piece.offset + piece.length;
        if self.new || sys::next_data(&self.file, piece.offset)?.is_none_or(|at| at >= end) {
            return Ok(());
        }
        match sys::punch_hole(&self.file, piece.offset, piece.length) {
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                let zeros = vec![0; 1 << 20];
                let mut at = piece.offset;
                while at < end {
                    let n = (end - at).min(1 << 20);
                    self.file.write_all_at(&zeros[..n as usize], at)?;
                    at += n;
                }
                Ok(())
            }
            other => other,
        }
    }
}
