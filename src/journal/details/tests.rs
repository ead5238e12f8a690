//! Transactions made up event by event, whole and malformed.

use std::io::Write as _;

use super::*;

const ROW: &[u8] = &[0b00, 7, 0, 0, 0, 2, b'a', b'b'];

/// A table of an INT and a VARCHAR(20).
fn map(number: u8, name: &str) -> Vec<u8> {
    let names = [&[4][..], b"shop\0", &[name.len() as u8], name.as_bytes(), b"\0"].concat();
    [&[number, 0, 0, 0, 0, 0, 1, 0][..], &names, &[2, 3, 15, 2, 20, 0, 0b10]].concat()
}

/// Rows of both columns of a table; `end` ends the statement.
fn rows(kind: u8, number: u8, end: bool, content: &[u8]) -> Vec<u8> {
    let more: &[u8] = if kind >= 30 { &[2, 0] } else { &[] };
    let images: &[u8] = if matches!(kind, 24 | 31 | 39) { &[3, 3] } else { &[3] };
    [&[number, 0, 0, 0, 0, 0, u8::from(end), 0][..], more, &[2], images, content].concat()
}

fn query(text: &str) -> Vec<u8> {
    [&[0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 3, 0, 9, 9, 9][..], b"shop\0", text.as_bytes()].concat()
}

fn read(events: &[(u8, Vec<u8>)]) -> Result<Details, Malformed> {
    let mut details = Details::default();
    for (kind, body) in events {
        let header =
            Header { time: 1, kind: *kind, server: 1, length: body.len() as u32 + 23, end: 0 };
        details.look(&header, &mut body.as_slice(), body.len())?;
    }
    Ok(details)
}

fn line(events: &[(u8, Vec<u8>)]) -> String {
    read(events).unwrap().line()
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(content).unwrap();
    [&[0x82, 0, content.len() as u8][..], &packed.finish().unwrap()].concat()
}

fn payload(events: &[(u8, Vec<u8>)], how: u8) -> Vec<u8> {
    let mut plain = Vec::new();
    for (kind, body) in events {
        plain.extend([0, 0, 0, 0, *kind, 1, 0, 0, 0]);
        plain.extend((body.len() as u32 + 19).to_le_bytes());
        plain.extend([0; 6]);
        plain.extend(body);
    }
    let size = (plain.len() as u16).to_le_bytes();
    let packed = if how == 0 { zstd::encode_all(plain.as_slice(), 1).unwrap() } else { plain };
    let how: &[u8] = if how == 255 { &[2, 3, 252, 255, 0] } else { &[2, 1, how] };
    [how, &[3, 3, 252, size[0], size[1], 0], &packed].concat()
}

#[test]
fn rows_are_counted_by_table_in_every_version() {
    let two = [ROW, ROW].concat();
    for kind in [23, 24, 25, 30, 31, 32] {
        let rows = [(19, map(1, "a")), (kind, rows(kind, 1, true, &two))];
        let count = if matches!(kind, 24 | 31) { 1 } else { 2 };
        assert_eq!(line(&rows), format!("shop.a {count}"), "{kind}");
    }
    let null = [0b11];
    let both = [
        (19, map(1, "b")),
        (19, map(2, "a")),
        (30, rows(30, 1, false, &null)),
        (30, rows(30, 2, true, &two)),
        (19, map(3, "b")),
        (32, rows(32, 3, true, ROW)),
    ];
    assert_eq!(line(&both), "shop.a 2, shop.b 2");
}

#[test]
fn updates_of_parts_of_json_are_counted() {
    let names = [&[4][..], b"shop\0", &[1], b"j\0"].concat();
    let map = [&[1, 0, 0, 0, 0, 0, 1, 0][..], &names, &[2, 3, 245, 1, 4, 0]].concat();
    // Which columns are logged as differences; and none.
    let before = [0, 7, 0, 0, 0, 1, 0, 0, 0, b'x'];
    let part = [&before[..], &[1, 1, 0, 7, 0, 0, 0, 2, 0, 0, 0, b'd', b'e']].concat();
    let whole = [&before[..], &[0, 0b10, 7, 0, 0, 0]].concat();
    let content = [part, whole].concat();
    assert_eq!(line(&[(19, map), (39, rows(39, 1, true, &content))]), "shop.j 2");
}

#[test]
fn compressed_rows_and_statements_are_read() {
    let plain = rows(23, 1, true, &[]);
    let packed = [plain, zlib(&[ROW, ROW, ROW].concat())].concat();
    assert_eq!(line(&[(19, map(1, "a")), (166, packed)]), "shop.a 3");
    let packed = [query(""), zlib(b"DROP TABLE a")].concat();
    assert_eq!(line(&[(165, packed)]), "DROP TABLE shop.a");
    let events =
        [(2, query("BEGIN")), (19, map(1, "a")), (30, rows(30, 1, true, ROW)), (16, vec![0; 8])];
    for how in [0, 255] {
        assert_eq!(line(&[(40, payload(&events, how))]), "shop.a 1");
    }
    let twice = payload(&[(40, payload(&events, 0))], 255);
    assert!(read(&[(40, twice)]).is_err());
    assert!(read(&[(40, payload(&events, 7))]).is_err());
}

#[test]
fn statements_and_definitions_have_their_line() {
    for (events, says) in [
        (vec![(2, query("BEGIN")), (2, query("INSERT INTO a VALUES (1)"))], "shop.a ?"),
        (
            vec![(
                18,
                [&query("")[..13], &[0; 13], &query("LOAD DATA INTO TABLE a")[13..]].concat(),
            )],
            "shop.a ?",
        ),
        (
            vec![
                (2, query("CREATE TABLE a (b INT)")),
                (19, map(1, "a")),
                (30, rows(30, 1, true, ROW)),
            ],
            "CREATE TABLE shop.a; shop.a 1",
        ),
        (vec![(2, query("SELECT f()"))], "SELECT"),
        (vec![(2, query("BEGIN"))], "-"),
    ] {
        assert_eq!(line(&events), says);
    }
}

#[test]
fn a_table_of_an_unknown_kind_has_no_number() {
    let mut odd = map(1, "a");
    let at = odd.len() - 5;
    odd[at - 1] = 200;
    let events = [(19, odd), (30, rows(30, 1, true, &[1, 2, 3]))];
    assert_eq!(line(&events), "shop.a ?");
}

#[test]
fn rows_without_columns_are_one() {
    let mut none = rows(30, 1, true, &[]);
    *none.last_mut().unwrap() = 0;
    assert_eq!(line(&[(19, map(1, "a")), (30, none.clone())]), "shop.a 1");
    none.push(0);
    assert!(read(&[(19, map(1, "a")), (30, none)]).is_err());
}

#[test]
fn lengths_that_lie_are_refused() {
    let whole = [(19, map(1, "a")), (30, rows(30, 1, true, &[ROW, ROW].concat()))];
    for cut in 0..whole[1].1.len() {
        let mut events = whole.clone();
        events[1].1.truncate(cut);
        // But between two rows.
        let rows = 12;
        let is_whole = cut == rows || cut == rows + ROW.len();
        assert_eq!(read(&events).is_ok(), is_whole, "{cut}");
    }
    for cut in 0..whole[0].1.len() - 1 {
        let mut events = whole.clone();
        events[0].1.truncate(cut);
        assert!(read(&events).is_err(), "{cut}");
    }
    let other = [(19, map(2, "a")), (30, rows(30, 1, false, ROW))];
    assert!(read(&other).is_err());
    for (kind, body) in
        [(2, vec![0; 12]), (40, vec![2, 9, 0]), (40, vec![2, 1, 0, 0, 1]), (165, query("x"))]
    {
        assert!(read(&[(kind, body)]).is_err(), "{kind}");
    }
    // More than there is, or much more than anybody has.
    let mut packed = [query(""), zlib(b"DROP TABLE a")].concat();
    packed[query("").len() + 1] = 0xff;
    assert!(read(&[(165, packed)]).is_err());
}

#[test]
fn any_changed_byte_is_survived() {
    let events = [(19, map(1, "a")), (30, rows(30, 1, false, ROW)), (30, rows(30, 1, true, ROW))];
    let whole = payload(&events, 255);
    let packed = payload(&events, 0);
    for content in [whole, packed] {
        for at in 0..content.len() {
            for bit in 0..8 {
                let mut content = content.clone();
                content[at] ^= 1 << bit;
                let _ = read(&[(40, content)]);
            }
        }
    }
}

#[test]
fn no_transaction_takes_much_memory() {
    let mut details = Details::default();
    let header = Header { time: 1, kind: 19, server: 1, length: 50, end: 0 };
    let mut refused = false;
    for number in 0..=MAPPED as u32 {
        let mut body = map(0, "a");
        body[..4].copy_from_slice(&number.to_le_bytes());
        refused |= details.look(&header, &mut body.as_slice(), body.len()).is_err();
    }
    assert!(refused);
}
