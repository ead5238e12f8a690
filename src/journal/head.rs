//! The head of a relay log: which log of the primary its events are from.

use std::io::{self, BufRead, Read};

use crate::journal::event::{self, Header};
use crate::journal::group::Group;
use crate::journal::scan::{End, Look, scan_with};
use crate::os::clock::Timestamp;

/// A head is read up to here: MySQL begins a log with all the GTIDs that came before.
const MOST: u64 = 64 << 20;
/// The longest name that is read.
const LONGEST: usize = 255;
/// What ends the reading where all is known.
const ENDS: &str = "the head ends here";

/// A log of a primary, by the relay log that begins with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its name.
    pub file: String,
    /// When it was made, by the primary's clock.
    pub made: Timestamp,
    /// The id of the primary.
    pub server: u32,
    /// Where in that log the first transaction begins that was sent; `None` before it is there.
    pub begin: Option<u32>,
}

/// The head of the relay log `log`; `None` if it does not say.
///
/// # Errors
/// Those of reading.
pub fn head(log: impl Read) -> io::Result<Option<Head>> {
    let mut head = Reading::default();
    let ended = scan_with(0, log.take(MOST), &mut Group::default(), &mut head, &mut |_, _| false)?;
    let Reading { file, made, is_sure, begin } = head;
    let known = file.zip(made).filter(|_| is_sure || ended == End::Whole);
    // The same of the transaction's own.
    let begin = begin.filter(|_| matches!(ended, End::Torn { why: ENDS, .. }));
    Ok(known.map(|(file, (made, server))| Head { file, made, server, begin }))
}

/// The primary names its log in a rotation to it that is in no log, and goes on with the log's own
/// description of the format.
#[derive(Default)]
struct Reading {
    file: Option<String>,
    made: Option<(Timestamp, u32)>,
    /// What comes after it is only read if its checksum is right.
    is_sure: bool,
    begin: Option<u32>,
}

impl Look for Reading {
    fn look(
        &mut self,
        header: &Header,
        body: &mut dyn BufRead,
        length: usize,
    ) -> Result<(), &'static str> {
        if self.made.is_some() {
            self.is_sure = true;
            if header.begins() {
                self.begin = header.end.checked_sub(header.length);
            }
            let goes_on = !header.begins() && !matches!(header.kind, event::ROTATE | event::FORMAT);
            return if goes_on { Ok(()) } else { Err(ENDS) };
        }
        match (header.kind, &self.file) {
            (event::ROTATE, _) => {
                let mut bytes = Vec::new();
                // A position comes before the name.
                let most = (8 + LONGEST).min(length) as u64;
                body.take(most).read_to_end(&mut bytes).map_err(|_| "it cannot be read")?;
                self.file = bytes.get(8..).and_then(|name| String::from_utf8(name.to_vec()).ok());
                Ok(())
            }
            (event::FORMAT, Some(_)) => {
                self.made = Some((Timestamp(i64::from(header.time)), header.server));
                Ok(())
            }
            _ if header.begins() => Err("there is no head"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::checksum::Crc32;
    use crate::journal::scan::tests::{begin, event, transaction};

    #[test]
    fn a_head_names_the_log_and_its_time() {
        let ours = begin();
        let rotation = event(event::ROTATE, 1, b"\x04\0\0\0\0\0\0\0binlog.000007");
        let theirs = begin().split_off(4);
        let row = transaction(0, 7, 10);
        let read = |parts: &[&[u8]]| head(parts.concat().as_slice()).unwrap();
        let found = |begin| {
            let (file, made) = ("binlog.000007".to_string(), Timestamp(1_795_361_400));
            Some(Head { file, made, server: 1, begin })
        };
        assert_eq!(read(&[&ours, &rotation, &theirs]), found(None));
        // After kind and server, the length and where it ends in the primary's log; no checksum yet.
        let mut placed = transaction(0, 7, 10);
        let length = u32::from_le_bytes([0, 1, 2, 3].map(|i| placed[9 + i]));
        placed[13..17].copy_from_slice(&(1000 + length).to_le_bytes());
        assert_eq!(read(&[&ours, &rotation, &theirs, &placed]), found(None));
        let length = length as usize;
        let mut crc = Crc32::new();
        crc.add(&placed[..length - 4]);
        placed[length - 4..length].copy_from_slice(&crc.value().to_le_bytes());
        assert_eq!(read(&[&ours, &rotation, &theirs, &placed]), found(Some(1000)));
        // A log that a receiver began and did not fill, and one that goes on in the middle.
        assert_eq!(read(&[&ours]), None);
        assert_eq!(read(&[&ours, &rotation]), None);
        assert_eq!(read(&[&ours, &row, &rotation, &theirs]), None);
        let whole = [&ours[..], &rotation, &theirs].concat();
        for length in 0..whole.len() {
            assert_eq!(read(&[&whole[..length]]), None, "{length}");
        }
        for at in 4..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x40;
            assert_eq!(read(&[&changed]), None, "{at}");
        }
    }
}
