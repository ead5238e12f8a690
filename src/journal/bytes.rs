//! Reads the parts of an event out of a stream, never more than belongs to it and never much at once.

use std::io::{self, BufRead, Read};

/// What is wrong with an event.
pub type Malformed = &'static str;

const SHORT: Malformed = "an event is shorter than what it should hold";

/// The rest of an event.
pub struct Bytes<'a> {
    from: &'a mut dyn BufRead,
    left: u64,
}

impl<'a> Bytes<'a> {
    /// The next `left` bytes of `from`.
    pub fn new(from: &'a mut dyn BufRead, left: u64) -> Bytes<'a> {
        Bytes { from, left }
    }

    /// Bytes that are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// A number of bytes, known when compiling.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// Two bytes as a number, the low one first.
    pub fn short(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Malformed> {
        self.read_exact(buffer).map_err(|_| SHORT)
    }

    /// The next `length` bytes, of which at most `most` are kept.
    pub fn text(&mut self, length: u64, most: usize) -> Result<Vec<u8>, Malformed> {
        if length > self.left {
            return Err(SHORT);
        }
        let kept = usize::try_from(length).unwrap_or(most).min(most);
        let mut text = Vec::new();
        // Only as large as what is really there.
        self.take(kept as u64).read_to_end(&mut text).map_err(|_| SHORT)?;
        if text.len() < kept {
            return Err(SHORT);
        }
        self.skip(length - kept as u64)?;
        Ok(text)
    }

    /// Passes over bytes.
    pub fn skip(&mut self, length: u64) -> Result<(), Malformed> {
        let mut wanted = length;
        while wanted > 0 {
            let there = self.fill_buf().map_err(|_| SHORT)?.len() as u64;
            if there == 0 {
                return Err(SHORT);
            }
            let taken = there.min(wanted);
            self.consume(taken as usize);
            wanted -= taken;
        }
        Ok(())
    }

    /// A number in one, three, four or nine bytes.
    pub fn packed(&mut self) -> Result<u64, Malformed> {
        Ok(match self.byte()? {
            byte @ ..=250 => u64::from(byte),
            252 => u64::from(self.short()?),
            253 => {
                let [a, b, c] = self.array()?;
                u64::from(u32::from_le_bytes([a, b, c, 0]))
            }
            254 => u64::from_le_bytes(self.array()?),
            251 | 255 => return Err("an event has a number that is none"),
        })
    }
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let length = from.len().min(buffer.len());
        buffer[..length].copy_from_slice(&from[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Bytes<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let there = self.from.fill_buf()?;
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(there.len());
        Ok(&there[..length])
    }

    fn consume(&mut self, amount: usize) {
        self.from.consume(amount);
        self.left = self.left.saturating_sub(amount as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_belongs_to_the_event() {
        let all = [1, 2, 3, 4, 5, 6];
        let mut from = &all[..];
        let mut bytes = Bytes::new(&mut from, 4);
        assert_eq!((bytes.byte(), bytes.short()), (Ok(1), Ok(0x302)));
        assert!(bytes.text(2, 9).is_err() && bytes.skip(2).is_err());
        assert_eq!((bytes.left(), from), (0, &all[4..]));
        let mut short = &all[..];
        let mut bytes = Bytes::new(&mut short, 9);
        assert_eq!(bytes.text(5, 2), Ok(vec![1, 2]));
        assert!(bytes.array::<2>().is_err());
    }

    #[test]
    fn packed_numbers_are_of_one_to_nine_bytes() {
        for (bytes, number) in [
            (&[250][..], Ok(250)),
            (&[252, 1, 2], Ok(0x201)),
            (&[253, 1, 2, 3], Ok(0x30201)),
            (&[254, 1, 0, 0, 0, 0, 0, 0, 1], Ok(0x100_0000_0000_0001)),
        ] {
            let packed = |mut all: &[u8]| Bytes::new(&mut all, 20).packed();
            assert_eq!(packed(bytes), number);
            assert!(packed(&bytes[..bytes.len() - 1]).is_err());
        }
        let mut none = &[251][..];
        assert!(Bytes::new(&mut none, 1).packed().is_err());
    }
}
