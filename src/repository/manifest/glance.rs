//! What a manifest says before its files, which may be a million lines: the packs it names.
//!
//! For a quick look at many backups. It shows packs that are gone and a manifest that is not whole;
//! whether the rest is true, only reading all of it can tell.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};

use crate::text::system_text;

use super::PackRef;
use super::words::pack_line;

/// The length of the last line: `end `, the SHA-256 in digits, a line feed.
const LAST: i64 = 4 + 64 + 1;
/// More than the packs of 60 TB take.
const MOST: u64 = 64 << 20;
/// More than the words and settings that a manifest may have: each costs more memory than its text.
const MOST_LINES: usize = 3000;

/// The keys and values with which a manifest begins.
///
/// # Errors
/// Why it cannot be read.
pub fn header(mut file: &File) -> std::io::Result<Vec<(String, String)>> {
    file.seek(SeekFrom::Start(0))?;
    let mut pairs = Vec::new();
    for line in BufReader::new(file).take(MOST).lines().take(MOST_LINES) {
        let line = line?;
        match line.split_once(' ') {
            Some(("pack" | "dir" | "file" | "journal" | "end", _)) | None => break,
            Some((key, value)) => pairs.push((key.into(), value.into())),
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(pairs)
}

/// The packs that a manifest names.
///
/// # Errors
/// Says what is wrong with it, or why it cannot be read.
pub fn packs(mut file: &File) -> Result<Vec<PackRef>, String> {
    let mut packs = Vec::new();
    let mut head = BufReader::new(file).take(MOST);
    let mut line = Vec::new();
    loop {
        line.clear();
        match head.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) => return Err(format!("its manifest cannot be read: {}", system_text(&e))),
        }
        let text = str::from_utf8(&line).unwrap_or_default().trim_end();
        match text.split_once(' ') {
            Some(("pack", rest)) => {
                let pack = pack_line(rest).map_err(|e| format!("its manifest does not parse: {e}"));
                packs.push(pack?);
            }
            Some(("dir" | "file" | "end", _)) => break,
            _ => {}
        }
    }
    let mut last = Vec::new();
    let read = file.seek(SeekFrom::End(-LAST)).and_then(|_| file.read_to_end(&mut last));
    if read.is_err() || !last.starts_with(b"end ") || !last.ends_with(b"\n") {
        return Err("its manifest is truncated: the last line is missing".into());
    }
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn millions_of_words_are_not_taken_into_memory() {
        let path = std::env::temp_dir().join(format!("rf-unit-glance-{}", std::process::id()));
        let words: String = (0..100_000).map(|n| format!("w{n} 1\n")).collect();
        std::fs::write(&path, format!("format 1\nbase b\n{words}")).unwrap();
        let pairs = header(&File::open(&path).unwrap()).unwrap();
        assert_eq!((pairs.len(), pairs[1].1.as_str()), (MOST_LINES, "b"));
        std::fs::remove_file(&path).unwrap();
    }
}
