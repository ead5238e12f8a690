//! A buffer that begins at a page, so that what is in it can go to the disk past the page cache.

use std::ops::{Deref, DerefMut};

/// What addresses, offsets and lengths of such writes are multiples of: what disks and file systems ask
/// for is a divisor of it. Bytes.
pub const ALIGNMENT: usize = 4096;

/// Bytes, the first of them at a multiple of [`ALIGNMENT`].
#[derive(Debug, Default)]
pub struct Buffer {
    /// With room for an aligned beginning; it never shrinks.
    room: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// Sets the length. What is new in it may be anything.
    pub fn resize(&mut self, length: usize) {
        if self.room.len() < self.start + length {
            self.room = vec![0; length + ALIGNMENT];
            self.start = self.room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        }
        self.length = length;
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.room[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_page_whatever_its_length() {
        let mut buffer = Buffer::default();
        assert!(buffer.is_empty());
        for length in [1, 100, 5000, 0, 70_000, 4096, 4 << 20, 3] {
            buffer.resize(length);
            buffer.fill(7);
            assert_eq!(buffer.len(), length);
            assert!(length == 0 || buffer.as_ptr().addr() % ALIGNMENT == 0);
        }
    }
}
