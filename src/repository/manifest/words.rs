//! The words of a manifest's lines.

use super::{PackRef, from_hex};

/// What follows `pack` on a line.
pub(in crate::repository) fn pack_line(rest: &str) -> Result<PackRef, String> {
    let [name, size] = words(rest)?;
    let hash = from_hex(name).ok_or("the pack's name is not a SHA-256")?;
    Ok(PackRef { hash, size: number(size)? })
}

/// So many words, separated by single spaces.
pub(super) fn words<const N: usize>(rest: &str) -> Result<[&str; N], String> {
    let mut words = rest.split(' ');
    let mut out = [""; N];
    for slot in &mut out {
        *slot = words.next().filter(|w| !w.is_empty()).ok_or("missing word")?;
    }
    if words.next().is_some() { Err("extra word".into()) } else { Ok(out) }
}

/// Plain decimal digits; `parse` alone would accept a sign.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = if digits { text.parse().ok() } else { None };
    value.ok_or_else(|| format!("{text:?} is not a number"))
}

/// A mode.
pub(super) fn octal(text: &str) -> Result<u32, String> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..b'8').contains(&b));
    let value = if digits { u32::from_str_radix(text, 8).ok() } else { None };
    value.filter(|&m| m <= 0o777).ok_or_else(|| format!("{text:?} is not a mode"))
}

/// The bytes of an escaped word.
pub(in crate::repository) fn unescape(word: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let digits = rest.strip_prefix(b"x")?.get(..2)?;
        let digits = str::from_utf8(digits).ok().filter(|d| !d.starts_with('+'))?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[3..];
    }
    Some(out)
}
