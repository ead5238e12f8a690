//! Reads a log event by event, in bounded memory and trusting nothing: checksums are verified, lengths
//! are checked, and the log ends for us where it is torn or damaged.

use std::io::{self, BufRead, Read};
use std::ops::Range;

use crate::journal::checksum::Crc32;
use crate::journal::event::{self, CHECKSUM, Event, FORMAT, HEADER, Header, MOST};
use crate::journal::group::{Group, Place, Transaction};

/// The first bytes of a log.
pub const MAGIC: &[u8; 4] = b"\xfebin";
/// The value that says that events have a checksum.
const CRC32: u8 = 1;
/// So many bytes are read at a time.
const PIECE: usize = 64 << 10;
/// The length of the fixed part of a description of the format: a version, the server's version, a
/// time, the length of headers. The lengths of all kinds of events follow.
const FORMAT_FIXED: usize = 2 + 50 + 4 + 1;

/// How a log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// After a whole event.
    Whole,
    /// Within an event, or at one that is damaged.
    Torn {
        /// Where that event begins.
        at: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Whoever takes the transactions wants no more.
    Enough,
}

/// Looks into the events of a log as they are read.
pub trait Look {
    /// Looks at an event. Of its body, of `length` bytes without the checksum, it reads what it likes.
    ///
    /// # Errors
    /// Says what is malformed, which ends the log before the event.
    fn look(
        &mut self,
        header: &Header,
        body: &mut dyn BufRead,
        length: usize,
    ) -> Result<(), &'static str>;
}

/// Does not.
impl Look for () {
    fn look(&mut self, _: &Header, _: &mut dyn BufRead, _: usize) -> Result<(), &'static str> {
        Ok(())
    }
}

/// Reads log number `log` of a sequence, whose events continue those that `group` has seen. Each
/// transaction that is completed goes to `take`, until that returns false.
///
/// # Errors
/// Those of reading. Damage is none: the log ends there.
pub fn scan(
    log: usize,
    from: impl Read,
    group: &mut Group,
    take: &mut impl FnMut(Transaction) -> bool,
) -> io::Result<End> {
    scan_with(log, from, group, &mut (), &mut |transaction, ()| take(transaction))
}

/// The same with a look into each event. What has looked is handed to `take` with the transaction.
///
/// # Errors
/// As of [`scan`].
pub fn scan_with<L: Look>(
    log: usize,
    mut from: impl Read,
    group: &mut Group,
    look: &mut L,
    take: &mut impl FnMut(Transaction, &mut L) -> bool,
) -> io::Result<End> {
    let torn = |at, why| Ok(End::Torn { at, why });
    let mut magic = [0; MAGIC.len()];
    if fill(&mut from, &mut magic)? < magic.len() {
        return torn(0, "it is cut short");
    }
    if magic != *MAGIC {
        return torn(0, "it is no log, or encrypted");
    }
    let (body, piece) = (Vec::with_capacity(1 << 10), vec![0; PIECE]);
    let mut events = Events { from, summed: None, body, piece };
    let mut offset = MAGIC.len() as u64;
    loop {
        let (event, length) = match events.next(look)? {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(End::Whole),
            Err(why) => return torn(offset, why),
        };
        let begin = Place { log, offset };
        let end = Place { log, offset: offset + u64::from(length) };
        match group.take(event, begin, end) {
            Ok(None) => {}
            Ok(Some(transaction)) => {
                if !take(transaction, look) {
                    return Ok(End::Enough);
                }
            }
            Err(why) => return torn(offset, why),
        }
        offset = end.offset;
    }
}

struct Events<R> {
    from: R,
    /// Whether events have a checksum; unknown before the description of the format.
    summed: Option<bool>,
    /// The body of an event, or its beginning.
    body: Vec<u8>,
    piece: Vec<u8>,
}

impl<R: Read> Events<R> {
    /// The next event and its length, `None` at the end, or what is wrong.
    fn next<L: Look>(
        &mut self,
        look: &mut L,
    ) -> io::Result<Result<Option<(Event, u32)>, &'static str>> {
        let mut bytes = [0; HEADER];
        match fill(&mut self.from, &mut bytes)? {
            0 => return Ok(Ok(None)),
            HEADER => {}
            _ => return Ok(Err("it is cut short")),
        }
        let header = Header::parse(&bytes);
        let mut crc = Crc32::new();
        crc.add(&event::summed(bytes));
        // A description of the format always has room for a checksum, and says itself whether it is one.
        let describes = header.kind == FORMAT;
        let tail = match self.summed {
            _ if describes => CHECKSUM,
            Some(summed) => usize::from(summed) * CHECKSUM,
            None => return Ok(Err("it does not begin with the description of its format")),
        };
        let Some(length) = (header.length as usize).checked_sub(HEADER + tail) else {
            return Ok(Err("an event is shorter than its header"));
        };
        self.body.clear();
        let (from, kept, piece) = (&mut self.from, &mut self.body, &mut self.piece);
        let (unread, failed) = (0..0, None);
        let mut body = Body { from, crc: &mut crc, left: length, kept, piece, unread, failed };
        let looked = look.look(&header, &mut body, length);
        if !body.finish()? {
            return Ok(Err("it is cut short"));
        }
        let mut sum = [0; CHECKSUM];
        if fill(&mut self.from, &mut sum[..tail])? < tail {
            return Ok(Err("it is cut short"));
        }
        if describes {
            // The last byte before the checksum.
            let kind = self.body.last().filter(|_| length > FORMAT_FIXED && length < MOST);
            match kind {
                Some(kind) if self.body[..2] == [4, 0] && *kind <= CRC32 => {
                    self.summed = Some(*kind == CRC32);
                }
                _ => return Ok(Err("the description of its format is unknown")),
            }
        }
        if self.summed == Some(true) && crc.value() != u32::from_le_bytes(sum) {
            return Ok(Err("the checksum of an event is wrong"));
        }
        if let Err(why) = looked {
            return Ok(Err(why));
        }
        let event = Event::read(&header, &self.body, length);
        Ok(event.map(|event| Some((event, header.length))))
    }
}

/// The body of an event, which adds to the checksum whatever is read of it.
struct Body<'a, R> {
    from: &'a mut R,
    crc: &'a mut Crc32,
    /// Bytes that were not read yet.
    left: usize,
    /// The beginning of it.
    kept: &'a mut Vec<u8>,
    piece: &'a mut [u8],
    /// What of the piece was not consumed yet.
    unread: Range<usize>,
    failed: Option<io::Error>,
}

impl<R: Read> Body<'_, R> {
    /// Reads what is left. False if it is cut short.
    fn finish(mut self) -> io::Result<bool> {
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
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An event with its checksum.
    fn event(kind: u8, server: u32, body: &[u8]) -> Vec<u8> {
        let length = (HEADER + body.len() + CHECKSUM) as u32;
        let mut bytes = 1_795_361_400_u32.to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend(server.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend([0; 6]);
        bytes.extend(body);
        let mut crc = Crc32::new();
        crc.add(&bytes);
        bytes.extend(crc.value().to_le_bytes());
        bytes
    }

    /// The beginning of a log: a description of the format.
    pub fn begin() -> Vec<u8> {
        let body = [vec![4, 0], vec![0; 50 + 4], vec![19], vec![7; 40], vec![CRC32]].concat();
        [MAGIC.to_vec(), event(FORMAT, 1, &body)].concat()
    }

    /// A transaction of MariaDB with a statement of `size` bytes.
    pub fn transaction(domain: u32, sequence: u64, size: usize) -> Vec<u8> {
        let gtid = [&sequence.to_le_bytes()[..], &domain.to_le_bytes(), &[0; 7]].concat();
        let query = [vec![0; 13], vec![0], vec![b'x'; size]].concat();
        let xid = event(16, 1, &[0; 8]);
        [event(162, 1, &gtid), event(2, 1, &query), xid].concat()
    }

    fn read(log: &[u8]) -> (Vec<(String, u64, u64)>, End) {
        let mut found = Vec::new();
        let end = scan(0, log, &mut Group::default(), &mut |t| {
            found.push((t.gtid.to_string(), t.begin.offset, t.end.offset));
            true
        });
        (found, end.unwrap())
    }

    #[test]
    fn transactions_are_found_with_their_places() {
        let parts = [begin(), transaction(0, 7, 10), transaction(5, 1, 200_000)];
        let [a, b, c] = [0, 1, 2].map(|n| parts[..=n].concat().len() as u64);
        let found = vec![("0-1-7".into(), a, b), ("5-1-1".into(), b, c)];
        assert_eq!(read(&parts.concat()), (found, End::Whole));
    }

    #[test]
    fn a_log_cut_anywhere_gives_only_whole_transactions() {
        let first = [begin(), transaction(0, 7, 10)].concat();
        let log = [first.clone(), transaction(0, 8, 10)].concat();
        for length in 0..log.len() {
            let (found, end) = read(&log[..length]);
            assert_eq!(found.len(), usize::from(length >= first.len()), "{length}");
            if let End::Torn { at, .. } = end {
                assert!(at <= length as u64);
            }
        }
    }

    #[test]
    fn a_changed_byte_ends_the_log_before_its_event() {
        let first = [begin(), transaction(0, 7, 10)].concat();
        let log = [first.clone(), transaction(0, 8, 10)].concat();
        for at in 0..log.len() {
            let mut log = log.clone();
            log[at] ^= 0x40;
            let (found, end) = read(&log);
            let whole = usize::from(at >= first.len());
            assert_eq!(found.len(), whole, "{at}: {end:?}");
            assert!(matches!(end, End::Torn { .. }), "{at}");
        }
    }

    #[test]
    fn lengths_that_lie_end_the_log_at_once() {
        for length in [0, 1, 18, 19, 22, u32::MAX] {
            let mut log = begin();
            let mut event = event(16, 1, &[0; 8]);
            event[9..13].copy_from_slice(&length.to_le_bytes());
            log.extend(event);
            let (found, end) = read(&log);
            assert!(found.is_empty() && matches!(end, End::Torn { .. }), "{length}: {end:?}");
        }
    }

    #[test]
    fn what_takes_them_can_stop_it() {
        let log = [begin(), transaction(0, 7, 1), transaction(0, 8, 1)].concat();
        let mut count = 0;
        let end = scan(0, log.as_slice(), &mut Group::default(), &mut |_| {
            count += 1;
            false
        });
        assert_eq!((end.unwrap(), count), (End::Enough, 1));
    }

    #[test]
    fn a_log_in_use_has_the_usual_checksum() {
        let mut log = [begin(), transaction(0, 7, 1)].concat();
        log[4 + 17] |= 1;
        assert_eq!(read(&log).1, End::Whole);
    }
}
