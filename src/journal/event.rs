//! The events of binary and relay logs, as far as it takes to tell transactions apart. Pure.
//!
//! See "Binary Log Event" in the servers' internals documentation. The bytes come from outside: every
//! read is checked against the length.

use crate::mysql::gtid::Gtid;
use crate::mysql::position;
use crate::os::clock::{Micros, Timestamp};

/// The bytes of the header that all events have.
pub const HEADER: usize = 19;
/// The bytes of a checksum after an event.
pub const CHECKSUM: usize = 4;
/// The flag of a log that a server writes, which is not in the checksum.
const IN_USE: u8 = 1;

/// MariaDB: a transaction of one statement, without an event for its end.
const STANDALONE: u8 = 1;

/// The header of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970.
    pub time: u32,
    /// What it is.
    pub kind: u8,
    /// The server it was first written on.
    pub server: u32,
    /// Bytes, with header and checksum.
    pub length: u32,
    /// Where it ends in the log that it was first in.
    pub end: u32,
}

impl Header {
    /// Out of its bytes.
    pub fn parse(bytes: &[u8; HEADER]) -> Header {
        let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let [time, server, length, end] = [0, 5, 9, 13].map(number);
        Header { time, kind: bytes[4], server, length, end }
    }

    /// True of an event with which a transaction begins.
    pub fn begins(&self) -> bool {
        matches!(self.kind, GTID | ANONYMOUS | TAGGED | MARIADB_GTID)
    }
}

/// The header bytes as they are in the checksum.
pub fn summed(mut header: [u8; HEADER]) -> [u8; HEADER] {
    if header[4] == FORMAT {
        header[17] &= !IN_USE;
    }
    header
}

const QUERY: u8 = 2;
const LOAD: u8 = 18;
/// The description of the format, with which each log begins.
pub const FORMAT: u8 = 15;
/// The way to another log.
pub const ROTATE: u8 = 4;
const XID: u8 = 16;
const INCIDENT: u8 = 26;
const GTID: u8 = 33;
const ANONYMOUS: u8 = 34;
const XA_PREPARE: u8 = 38;
const PAYLOAD: u8 = 40;
const TAGGED: u8 = 42;
const MARIADB_GTID: u8 = 162;
const ENCRYPTION: u8 = 164;
const MARIADB_QUERY: u8 = 165;

/// So many bytes of a body are enough for [`Event::read`], whatever the kind: a query comes after
/// status variables and the name of a database.
pub const MOST: usize = 13 + (64 << 10) + 256 + 32;

/// An event, as far as it matters for where transactions begin and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A transaction begins.
    Begin {
        /// Its GTID.
        gtid: Gtid,
        /// When it was committed, or of MariaDB when its statement began.
        time: Micros,
        /// MariaDB: one statement is all of it.
        standalone: bool,
    },
    /// A transaction without GTID begins.
    Anonymous,
    /// A statement.
    Query(Words),
    /// The end of a transaction.
    End,
    /// A whole transaction or statement in one event.
    Whole,
    /// The rest of the log is encrypted.
    Encrypted,
    /// Anything else.
    Other,
}

/// What a statement means for the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// `BEGIN`, `XA START`.
    Begin,
    /// `COMMIT`, `ROLLBACK`, but not `ROLLBACK TO`.
    End,
    /// Any other.
    Other,
}

impl Event {
    /// The meaning of an event whose body, without checksum, begins with `body`: [`MOST`] bytes of it
    /// or all. `length` is that of the whole body.
    ///
    /// # Errors
    /// Says what is malformed.
    pub fn read(header: &Header, body: &[u8], length: usize) -> Result<Event, &'static str> {
        Ok(match header.kind {
            MARIADB_GTID => mariadb_gtid(header, body).ok_or("a GTID event is too short")?,
            GTID => mysql_gtid(body).ok_or("a GTID event is too short")?,
            TAGGED => tagged_gtid(body).ok_or("a tagged GTID event is malformed")?,
            ANONYMOUS => Event::Anonymous,
            QUERY => Event::Query(words(body, length).ok_or("a query event is too short")?),
            XID | XA_PREPARE => Event::End,
            LOAD | INCIDENT | PAYLOAD | MARIADB_QUERY => Event::Whole,
            ENCRYPTION => Event::Encrypted,
            _ => Event::Other,
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn mariadb_gtid(header: &Header, body: &[u8]) -> Option<Event> {
    let sequence = u64::from_le_bytes(array(body, 0)?);
    let domain = u32::from_le_bytes(array(body, 8)?);
    let standalone = body.get(12)? & STANDALONE != 0;
    let gtid = Gtid::MariaDb(position::Gtid { domain, server: header.server, sequence });
    let time = Timestamp(i64::from(header.time)).precise();
    Some(Event::Begin { gtid, time, standalone })
}

fn mysql_gtid(body: &[u8]) -> Option<Event> {
    let source = uuid(array(body, 1)?);
    let number = u64::from_le_bytes(array(body, 17)?);
    // Flags, uuid, number, kind of clock, two numbers of a logical clock.
    let at = 1 + 16 + 8 + 1 + 8 + 8;
    let [low @ .., high] = array::<7>(body, at)?;
    // The highest bit says that the time on the server of its origin is another one, and follows.
    let time = match high & 0x80 {
        0 => seven(low, high),
        _ => {
            let [low @ .., high] = array::<7>(body, at + 7)?;
            seven(low, high)
        }
    };
    mysql(source, number, time)
}

fn seven(low: [u8; 6], high: u8) -> u64 {
    let [a, b, c, d, e, f] = low;
    u64::from_le_bytes([a, b, c, d, e, f, high, 0])
}

fn mysql(source: String, number: u64, time: u64) -> Option<Event> {
    let time = Micros(i64::try_from(time).ok()?);
    let number = Some(number).filter(|n| (1..i64::MAX as u64).contains(n))?;
    Some(Event::Begin { gtid: Gtid::MySql { source, number }, time, standalone: false })
}

fn uuid(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}

/// In MySQL's format for messages: a version, the size, the last field that must be known, then fields,
/// each after its number and those at their usual value left out.
fn tagged_gtid(body: &[u8]) -> Option<Event> {
    let mut rest = body;
    for _ in ["version", "size", "last needed field"] {
        number(&mut rest)?;
    }
    let (mut source, mut gno, mut tag) = (None, None, String::new());
    let (mut committed, mut first_committed) = (None, None);
    while !rest.is_empty() {
        match number(&mut rest)? {
            0 => drop(number(&mut rest)?),
            1 => {
                let mut bytes = [0; 16];
                for byte in &mut bytes {
                    *byte = u8::try_from(number(&mut rest)?).ok()?;
                }
                source = Some(uuid(bytes));
            }
            2 => gno = Some(signed(number(&mut rest)?)),
            3 => {
                let length = usize::try_from(number(&mut rest)?).ok()?;
                let text = rest.get(..length)?;
                rest = &rest[length..];
                let fits = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_');
                (length <= 32 && text.iter().all(fits)).then_some(())?;
                tag = String::from_utf8_lossy(text).into_owned();
            }
            // A logical clock.
            4 | 5 => drop(number(&mut rest)?),
            6 => committed = Some(number(&mut rest)?),
            7 => first_committed = Some(number(&mut rest)?),
            // What follows does not matter.
            _ => break,
        }
    }
    let mut source = source?;
    if !tag.is_empty() {
        source = format!("{source}:{tag}");
    }
    let number = u64::try_from(gno?).ok()?;
    mysql(source, number, first_committed.or(committed)?)
}

/// A number of one to nine bytes: as many as the lowest bits of the first one that are set, and one.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let more = rest.first()?.trailing_ones() as usize;
    let taken = rest.get(..=more)?;
    let mut bytes = [0; 8];
    let value = match more {
        8 => {
            bytes.copy_from_slice(&taken[1..]);
            u64::from_le_bytes(bytes)
        }
        7 => {
            bytes[..7].copy_from_slice(&taken[1..]);
            u64::from_le_bytes(bytes)
        }
        _ => {
            bytes[..=more].copy_from_slice(taken);
            u64::from_le_bytes(bytes) >> (more + 1)
        }
    };
    *rest = &rest[more + 1..];
    Some(value)
}

/// The sign is in the lowest bit.
fn signed(value: u64) -> i64 {
    let half = (value >> 1) as i64;
    if value & 1 == 0 { half } else { -half - 1 }
}

/// The first words of a query event's statement.
fn words(body: &[u8], length: usize) -> Option<Words> {
    let database = usize::from(*body.get(8)?);
    let status = usize::from(u16::from_le_bytes(array(body, 11)?));
    let at = 13 + status + database + 1;
    let text = body.get(at..)?;
    let is_all = body.len() == length;
    let begins = |word: &str| {
        text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    let is = |word: &str| is_all && text.eq_ignore_ascii_case(word.as_bytes());
    Some(if is("BEGIN") || begins("XA START") {
        Words::Begin
    } else if is("COMMIT") || (begins("ROLLBACK") && !begins("ROLLBACK TO")) {
        Words::End
    } else {
        Words::Other
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u8) -> Header {
        Header { time: 1_795_361_400, kind, server: 9, length: 0, end: 0 }
    }

    fn read(kind: u8, body: &[u8]) -> Result<Event, &'static str> {
        Event::read(&header(kind), body, body.len())
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn a_cut_gtid_event_of_any_kind_is_refused() {
        let whole = |kind: u8| match kind {
            MARIADB_GTID => vec![7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1],
            GTID => [vec![1], vec![0x3e; 16], vec![7; 1], vec![0; 24], vec![1; 7]].concat(),
            _ => hex("02 7e 00 00 00 02 02020202020202020202020202020202 04 08 0c 02"),
        };
        for kind in [MARIADB_GTID, GTID, TAGGED] {
            let whole = whole(kind);
            if kind != TAGGED {
                assert!(matches!(read(kind, &whole), Ok(Event::Begin { .. })), "{kind}");
            }
            for length in 0..whole.len() {
                assert!(read(kind, &whole[..length]).is_err(), "{kind} cut at {length}");
            }
        }
    }

    #[test]
    fn the_time_at_the_origin_counts() {
        let head = [vec![1], vec![0x3e; 16], vec![7, 0, 0, 0, 0, 0, 0, 0], vec![2; 17]].concat();
        let here = [1, 0, 0, 0, 0, 0, 0];
        let relayed = [[1, 0, 0, 0, 0, 0, 0x80], [2, 0, 0, 0, 0, 0, 0]].concat();
        for (times, expected) in [(here.to_vec(), 1), (relayed, 2)] {
            match read(GTID, &[head.clone(), times].concat()) {
                Ok(Event::Begin { gtid, time: Micros(time), .. }) => {
                    assert_eq!(time, expected);
                    assert_eq!(gtid.to_string(), "3e3e3e3e-3e3e-3e3e-3e3e-3e3e3e3e3e3e:7");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn numbers_of_one_to_nine_bytes_are_read() {
        for (bytes, value) in [
            ("00", 0),
            ("02", 1),
            ("fe", 127),
            ("01 02", 128),
            ("7f ff ff ff ff ff ff ff", (1 << 56) - 1),
            ("ff 00 00 00 00 00 00 00 80", 1 << 63),
        ] {
            let bytes = hex(bytes);
            let mut rest = bytes.as_slice();
            assert_eq!((number(&mut rest), rest.len()), (Some(value), 0), "{bytes:x?}");
            assert_eq!(number(&mut &bytes[..bytes.len() - 1]), None, "{bytes:x?}");
        }
        assert_eq!([0, 1, 2, 3].map(signed), [0, -1, 1, -2]);
    }

    #[test]
    fn the_words_of_a_query_decide() {
        let query = |text: &str| {
            let mut body = vec![0; 13];
            (body[8], body[11]) = (4, 3);
            [body, vec![9; 3], b"shop\0".to_vec(), text.as_bytes().to_vec()].concat()
        };
        for (text, words) in [
            ("BEGIN", Words::Begin),
            ("XA START X'01',X'',1", Words::Begin),
            ("COMMIT", Words::End),
            ("ROLLBACK", Words::End),
            ("ROLLBACK TO `a`", Words::Other),
            ("COMMITTED", Words::Other),
            ("XA COMMIT X'01',X'',1", Words::Other),
            ("CREATE TABLE t (a INT)", Words::Other),
            ("", Words::Other),
        ] {
            assert_eq!(read(QUERY, &query(text)), Ok(Event::Query(words)), "{text}");
        }
        assert!(read(QUERY, &query("")[..20]).is_err());
        // The beginning of a long one that only looks like the end of a transaction.
        let body = query("COMMIT");
        let long = Event::read(&header(QUERY), &body, body.len() + 1);
        assert_eq!(long, Ok(Event::Query(Words::Other)));
    }
}
