//! Reads a log event by event, in bounded memory and trusting nothing: checksums are verified, lengths
//! are checked, and the log ends for us where it is torn or damaged.

use std::io::{self, BufRead, Read};
use std::ops::Range;

use crate::journal::body::{Body, PIECE, fill};
use crate::journal::checksum::Crc32;
use crate::journal::event::{self, CHECKSUM, Event, FORMAT, HEADER, Header, MOST};
use crate::journal::group::{Group, Place, Transaction};

/// The first bytes of a log.
pub const MAGIC: &[u8; 4] = b"\xfebin";
/// What is wrong with a log that ends within an event.
pub const CUT_SHORT: &str = "it is cut short";
/// The value that says that events have a checksum.
const CRC32: u8 = 1;
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

/// How far a log was read that may still grow, and what came before its transactions.
#[derive(Clone, Debug, Default)]
pub struct Mark {
    /// Bytes that were read, all of whole events.
    pub offset: u64,
    /// Where the first transaction in it begins: what is before describes the log.
    pub head: Option<u64>,
    /// A later description of its format, which holds from there on.
    pub format: Option<Range<u64>>,
    /// Whether events have a checksum; unknown before the description of the format.
    summed: Option<bool>,
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
    scan_on(log, &mut Mark::default(), from, group, take)
}

/// The same from `mark` on, where `from` stands. What is read is marked.
///
/// # Errors
/// As of [`scan`].
pub fn scan_on(
    log: usize,
    mark: &mut Mark,
    from: impl Read,
    group: &mut Group,
    take: &mut impl FnMut(Transaction) -> bool,
) -> io::Result<End> {
    read(log, mark, from, group, &mut (), &mut |transaction, ()| take(transaction))
}

/// The same with a look into each event. What has looked is handed to `take` with the transaction.
///
/// # Errors
/// As of [`scan`].
pub fn scan_with<L: Look>(
    log: usize,
    from: impl Read,
    group: &mut Group,
    look: &mut L,
    take: &mut impl FnMut(Transaction, &mut L) -> bool,
) -> io::Result<End> {
    read(log, &mut Mark::default(), from, group, look, take)
}

fn read<L: Look>(
    log: usize,
    mark: &mut Mark,
    mut from: impl Read,
    group: &mut Group,
    look: &mut L,
    take: &mut impl FnMut(Transaction, &mut L) -> bool,
) -> io::Result<End> {
    let torn = |at, why| Ok(End::Torn { at, why });
    if mark.offset == 0 {
        let mut magic = [0; MAGIC.len()];
        if fill(&mut from, &mut magic)? < magic.len() {
            return torn(0, CUT_SHORT);
        }
        if magic != *MAGIC {
            return torn(0, "it is no log, or encrypted");
        }
        mark.offset = MAGIC.len() as u64;
    }
    let (body, piece) = (Vec::with_capacity(1 << 10), vec![0; PIECE]);
    let mut events = Events { from, summed: mark.summed, body, piece };
    loop {
        let offset = mark.offset;
        let (event, header) = match events.next(look)? {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(End::Whole),
            Err(why) => return torn(offset, why),
        };
        let begin = Place { log, offset };
        let end = Place { log, offset: offset + u64::from(header.length) };
        if matches!(event, Event::Begin { .. }) {
            mark.head.get_or_insert(offset);
        } else if header.kind == FORMAT && mark.head.is_some() {
            mark.format = Some(offset..end.offset);
        }
        let taken = match group.take(event, begin, end) {
            Ok(taken) => taken,
            Err(why) => return torn(offset, why),
        };
        (mark.offset, mark.summed) = (end.offset, events.summed);
        if taken.is_some_and(|transaction| !take(transaction, look)) {
            return Ok(End::Enough);
        }
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
    /// The next event and its header, `None` at the end, or what is wrong.
    fn next<L: Look>(
        &mut self,
        look: &mut L,
    ) -> io::Result<Result<Option<(Event, Header)>, &'static str>> {
        let mut bytes = [0; HEADER];
        match fill(&mut self.from, &mut bytes)? {
            0 => return Ok(Ok(None)),
            HEADER => {}
            _ => return Ok(Err(CUT_SHORT)),
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
            return Ok(Err(CUT_SHORT));
        }
        let mut sum = [0; CHECKSUM];
        if fill(&mut self.from, &mut sum[..tail])? < tail {
            return Ok(Err(CUT_SHORT));
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
        Ok(event.map(|event| Some((event, header))))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An event with its checksum.
    pub fn event(kind: u8, server: u32, body: &[u8]) -> Vec<u8> {
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
