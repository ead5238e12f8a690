//! What servers compress within events: MariaDB statements and rows, MySQL whole transactions.

use std::io::BufReader;

use flate2::bufread::ZlibDecoder;

use crate::journal::bytes::{Bytes, Malformed};

/// So much is decompressed at a time.
const PIECE: usize = 32 << 10;
/// The largest window of a frame that is decompressed, as a power of two: that of the highest level.
const WINDOW: u32 = 27;

const WRONG: Malformed = "what is compressed in an event is malformed";

/// Reads what MariaDB compressed: a byte that says how, the length, a stream of zlib.
pub fn mariadb<T>(
    mut event: Bytes<'_>,
    read: impl FnOnce(Bytes<'_>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let how = event.byte()?;
    let width = usize::from(how & 7);
    if how & 0xf0 != 0x80 || !(1..=4).contains(&width) {
        return Err(WRONG);
    }
    let mut length = [0; 4];
    event.fill(&mut length[4 - width..])?;
    let length = u64::from(u32::from_be_bytes(length));
    let mut plain = BufReader::with_capacity(PIECE, ZlibDecoder::new(event));
    read(Bytes::new(&mut plain, length))
}

/// Reads the events that MySQL compressed to one: fields that say how, then a frame of zstd.
pub fn mysql<T>(
    mut event: Bytes<'_>,
    read: impl FnOnce(Bytes<'_>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    const ZSTD: u64 = 0;
    const NONE: u64 = 255;
    let (mut kind, mut size) = (None, None);
    loop {
        let field = event.packed()?;
        if field == 0 {
            break;
        }
        let length = event.packed()?;
        if length > event.left() {
            return Err(WRONG);
        }
        let before = event.left();
        match field {
            2 => kind = Some(event.packed()?),
            3 => size = Some(event.packed()?),
            _ => event.skip(length)?,
        }
        if before - event.left() != length {
            return Err(WRONG);
        }
    }
    let left = event.left();
    match kind {
        Some(NONE) => read(Bytes::new(&mut event, left)),
        Some(ZSTD) => {
            let mut zstd = zstd::Decoder::with_buffer(event).map_err(|_| WRONG)?;
            zstd.window_log_max(WINDOW).map_err(|_| WRONG)?;
            let mut plain = BufReader::with_capacity(PIECE, zstd);
            read(Bytes::new(&mut plain, size.ok_or(WRONG)?))
        }
        _ => Err("a transaction is compressed in an unknown way"),
    }
}
