//! The body of an event, read piece by piece and added to its checksum.

use std::io::{self, BufRead, Read};
use std::ops::Range;

use crate::journal::checksum::Crc32;
use crate::journal::event::MOST;

/// So many bytes are read at a time.
pub(super) const PIECE: usize = 64 << 10;

/// The body of an event, which adds to the checksum whatever is read of it.
pub(super) struct Body<'a, R> {
    pub(super) from: &'a mut R,
    pub(super) crc: &'a mut Crc32,
    /// Bytes that were not read yet.
    pub(super) left: usize,
    /// The beginning of it.
    pub(super) kept: &'a mut Vec<u8>,
    pub(super) piece: &'a mut [u8],
    /// What of the piece was not consumed yet.
    pub(super) unread: Range<usize>,
    pub(super) failed: Option<io::Error>,
}

impl<R: Read> Body<'_, R> {
    /// Reads what is left. False if it is cut short.
    pub(super) fn finish(mut self) -> io::Result<bool> {
        self.unread = 0..0;
        while self.left > 0 && self.failed.is_none() {
            if self.fill_buf()?.is_empty() {
                return Ok(false);
            }
            self.unread = 0..0;
        }
        match self.failed {
            Some(e) => Err(e),
            None => Ok(true),
        }
    }
}

impl<R: Read> BufRead for Body<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.unread.is_empty() && self.left > 0 && self.failed.is_none() {
            let wanted = self.left.min(PIECE);
            // The error is for the one who reads the log, whoever reads this.
            match fill(self.from, &mut self.piece[..wanted]) {
                Ok(got) => {
                    let piece = &self.piece[..got];
                    self.crc.add(piece);
                    let room = MOST - self.kept.len().min(MOST);
                    self.kept.extend_from_slice(&piece[..got.min(room)]);
                    self.left -= got;
                    self.unread = 0..got;
                }
                Err(e) => self.failed = Some(e),
            }
        }
        Ok(&self.piece[self.unread.clone()])
    }

    fn consume(&mut self, amount: usize) {
        self.unread.start = (self.unread.start + amount).min(self.unread.end);
    }
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let length = there.len().min(buffer.len());
        buffer[..length].copy_from_slice(&there[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// Fills the buffer as far as there is anything to read.
pub(super) fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
