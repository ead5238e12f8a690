//! The columns of a table as the log has them: enough to tell how long a row is, and no more.

use crate::journal::bytes::{Bytes, Malformed};

/// No table has more columns: the limit of both servers.
const MOST: u64 = 4096;

/// How long the value of a column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So many bytes.
    Fixed(u16),
    /// It begins with its length, in so many bytes.
    Prefixed(u8),
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// How long its values are.
    pub size: Size,
    /// It is MySQL's JSON, of which a part can be logged.
    pub is_json: bool,
}

/// Reads the columns of a table map, from their number on. `None` if one is of a kind that is unknown.
pub fn read(bytes: &mut Bytes) -> Result<Option<Vec<Column>>, Malformed> {
    let count = bytes.packed()?;
    if count > MOST {
        return Err("a table has too many columns");
    }
    let kinds = bytes.text(count, MOST as usize)?;
    let length = bytes.packed()?;
    if length > bytes.left() {
        return Err("the columns of a table do not fit into its event");
    }
    let mut metadata = Bytes::new(bytes, length);
    let mut columns = Vec::with_capacity(kinds.len());
    for kind in kinds {
        match column(kind, &mut metadata)? {
            Some(column) => columns.push(column),
            None => return Ok(None),
        }
    }
    Ok(Some(columns))
}

fn column(kind: u8, metadata: &mut Bytes) -> Result<Option<Column>, Malformed> {
    let fraction = |digits: u8| u16::from(digits).div_ceil(2);
    let size = match kind {
        // TINYINT, YEAR
        1 | 13 => Size::Fixed(1),
        // SMALLINT
        2 => Size::Fixed(2),
        // MEDIUMINT, DATE, TIME of old, DATE again
        9..=11 | 14 => Size::Fixed(3),
        // INT, TIMESTAMP of old
        3 | 7 => Size::Fixed(4),
        // FLOAT, DOUBLE
        4 | 5 => Size::Fixed(u16::from(metadata.byte()?)),
        // NULL
        6 => Size::Fixed(0),
        // BIGINT, DATETIME of old
        8 | 12 => Size::Fixed(8),
        // VARCHAR, and MariaDB's compressed one
        15 | 141 => Size::Prefixed(if metadata.short()? > 255 { 2 } else { 1 }),
        // BIT: of bits beyond whole bytes, and of whole bytes
        16 => {
            let [bits, whole] = metadata.array()?;
            Size::Fixed(u16::from(whole) + u16::from(bits > 0))
        }
        // TIMESTAMP, DATETIME, TIME
        17 => Size::Fixed(4 + fraction(metadata.byte()?)),
        18 => Size::Fixed(5 + fraction(metadata.byte()?)),
        19 => Size::Fixed(3 + fraction(metadata.byte()?)),
        // BLOBs and TEXTs, MariaDB's compressed ones, VECTOR, JSON, GEOMETRY
        140 | 242 | 245 | 249..=252 | 255 => match metadata.byte()? {
            width @ 1..=4 => Size::Prefixed(width),
            _ => return Err("a column has a length of no known width"),
        },
        // DECIMAL
        246 => {
            let [precision, scale] = metadata.array()?;
            Size::Fixed(decimal(precision, scale).ok_or("a DECIMAL has more digits than it has")?)
        }
        // ENUM, SET, CHAR: the real kind is in the metadata.
        247 | 248 | 254 => {
            let [first, second] = metadata.array()?;
            match first {
                247 | 248 => Size::Fixed(u16::from(second)),
                _ => {
                    let high = (u16::from(first) & 0x30) ^ 0x30;
                    let most = high << 4 | u16::from(second);
                    Size::Prefixed(if most > 255 { 2 } else { 1 })
                }
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(Column { size, is_json: kind == 245 }))
}

/// The bytes of a DECIMAL: nine digits in four of them, and fewer in fewer.
fn decimal(precision: u8, scale: u8) -> Option<u16> {
    const BYTES: [u16; 9] = [0, 1, 1, 2, 2, 3, 3, 4, 4];
    let whole = precision.checked_sub(scale)?;
    let part = |digits: u8| u16::from(digits / 9) * 4 + BYTES[usize::from(digits % 9)];
    Some(part(whole) + part(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(kinds: &[u8], metadata: &[u8]) -> Result<Option<Vec<Size>>, Malformed> {
        let event =
            [&[kinds.len() as u8][..], kinds, &[metadata.len() as u8], metadata, &[0]].concat();
        let length = event.len() as u64;
        let mut from = event.as_slice();
        let columns = read(&mut Bytes::new(&mut from, length))?;
        Ok(columns.map(|all| all.into_iter().map(|column| column.size).collect()))
    }

    #[test]
    fn the_size_of_each_kind_of_column_is_known() {
        use Size::{Fixed, Prefixed};
        for (kind, metadata, size) in [
            (3, &[][..], Fixed(4)),
            (5, &[8], Fixed(8)),
            (15, &[0xff, 0], Prefixed(1)),
            (15, &[0, 1], Prefixed(2)),
            (16, &[3, 2], Fixed(3)),
            (18, &[6], Fixed(8)),
            (17, &[3], Fixed(6)),
            (252, &[2], Prefixed(2)),
            (246, &[10, 2], Fixed(5)),
            (246, &[65, 30], Fixed(30)),
            (254, &[247, 1], Fixed(1)),
            (254, &[248, 8], Fixed(8)),
            (254, &[254, 40], Prefixed(1)),
            // CHAR(255) of four bytes each.
            (254, &[0xce, 0xfc], Prefixed(2)),
        ] {
            assert_eq!(sizes(&[kind], metadata), Ok(Some(vec![size])), "{kind} {metadata:?}");
            for length in 0..metadata.len() {
                assert!(sizes(&[kind], &metadata[..length]).is_err(), "{kind} {length}");
            }
        }
        assert_eq!(sizes(&[3, 200], &[]), Ok(None));
        assert!(sizes(&[252], &[5]).is_err() && sizes(&[246], &[1, 2]).is_err());
    }

    #[test]
    fn more_columns_than_a_table_can_have_are_refused() {
        let mut from = &[253, 0, 0, 1][..];
        assert!(read(&mut Bytes::new(&mut from, 4)).is_err());
    }
}
