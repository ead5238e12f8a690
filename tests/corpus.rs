//! The seeds of the fuzz targets, and a few thousand mutations of each, always the same ones,
//! through the code that reads them: what fuzzing found once is not found again by users.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use rollforward::cli::option_file::OptionFile;
use rollforward::journal::group::Group;
use rollforward::journal::scan::{End, scan};
use rollforward::mysql::flavor::Flavor;
use rollforward::mysql::position::Position;
use rollforward::report::checkpoint;
use rollforward::repository::manifest::{Hash, hex, parse};

/// Mutations of each seed.
const MUTATIONS: u64 = 1500;

/// The seeds of a target. There are some.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let seeds: Vec<_> = files
        .map(|f| f.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    assert!(!seeds.is_empty(), "{}", dir.display());
    seeds
}

/// The same numbers for the same start.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end.max(1)
    }
}

/// What numbers and words are often wrong by.
const WORDS: &[&str] = &[
    "0",
    "1",
    "4096",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "-1",
    "\n",
    "\r\n",
    " ",
    "",
    "..",
    "/",
    "\\x00",
    "'",
    "\"",
    "\\",
    "=",
    "\u{e4}",
];

/// A few changes to a text: bytes, words, lines; taken away, doubled, exchanged.
fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut text = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len());
        let word = WORDS[random.below(WORDS.len())];
        let lines: Vec<Vec<u8>> = text.split_inclusive(|&b| b == b'\n').map(Vec::from).collect();
        match random.below(7) {
            0 if !text.is_empty() => text[at] = random.below(256) as u8,
            1 => text.truncate(at),
            2 => drop(text.splice(at..at, word.bytes())),
            3 if !text.is_empty() => {
                let breaks = |b: &u8| b.is_ascii_whitespace() || b",:-=".contains(b);
                let start = text[..at].iter().rposition(breaks).map_or(0, |n| n + 1);
                let end = text[at..].iter().position(breaks).map_or(text.len(), |n| at + n);
                text.splice(start..end.max(start), word.bytes());
            }
            change @ (4..=6) if !lines.is_empty() => {
                let mut lines = lines;
                let (a, b) = (random.below(lines.len()), random.below(lines.len()));
                match change {
                    4 => drop(lines.remove(a)),
                    5 => lines.insert(b, lines[a].clone()),
                    _ => lines.swap(a, b),
                }
                text = lines.concat();
            }
            _ => {}
        }
    }
    text
}

/// Every seed and its mutations; how many of them `is_good` found to be.
fn replay(target: &str, is_good: impl Fn(&[u8]) -> bool) -> usize {
    let mut good = 0;
    for (number, (path, seed)) in seeds(target).iter().enumerate() {
        let refused = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("refused-"));
        assert_eq!(is_good(seed), !refused, "{}", path.display());
        let mut random = Random(0x9e37_79b9_7f4a_7c15 + number as u64);
        good += (0..MUTATIONS).filter(|_| is_good(&mutate(seed, &mut random))).count();
    }
    good
}

#[test]
fn manifests_that_parse_are_written_and_read_as_the_same() {
    let good = replay("manifest", |text| {
        let _ = parse::parse(text);
        let end = text.windows(5).rposition(|w| w == b"\nend ");
        let mut sealed = end.map_or(text, |at| &text[..=at]).to_vec();
        let sum: Hash = Sha256::digest(&sealed).into();
        sealed.extend_from_slice(format!("end {}\n", hex(&sum)).as_bytes());
        let Ok(read) = parse::parse(&sealed) else { return false };
        assert_eq!(parse::parse(read.to_text().as_bytes()).as_ref(), Ok(&read));
        true
    });
    assert!(good > 100, "{good}");
}

#[test]
fn checkpoints_that_parse_are_written_and_read_as_the_same() {
    let good = replay("checkpoint", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(facts) = checkpoint::parse(&text) else { return false };
        let lines: String = facts.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
        assert_eq!(checkpoint::parse(&format!("format=1\n{lines}")).as_ref(), Ok(&facts));
        true
    });
    assert!(good > 100, "{good}");
}

#[test]
fn option_files_are_read_or_refused() {
    let good = replay("option_file", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let mut file = OptionFile::default();
        let read = file.add_text(Path::new("seed.cnf"), &text, 0);
        let primary = file.primary(None, None);
        read.is_ok() && primary.is_ok() || text.contains("!include")
    });
    assert!(good > 100, "{good}");
}

#[test]
fn positions_that_parse_are_printed_and_read_as_the_same() {
    let good = replay("position", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let (one, two) = text.split_once('\n').unwrap_or((&text, ""));
        let mut good = false;
        for flavor in [Flavor::MariaDb, Flavor::MySql] {
            let Ok(a) = Position::parse(flavor, one) else { continue };
            assert_eq!(Position::parse(flavor, &a.to_string()).as_ref(), Ok(&a));
            assert!(a.contains(&a) && a.minus(&a).is_empty());
            let Ok(b) = Position::parse(flavor, two) else { continue };
            assert_eq!(a.minus(&b).is_empty(), b.contains(&a));
            good = true;
        }
        good
    });
    assert!(good > 100, "{good}");
}

#[test]
fn logs_give_whole_transactions_in_order() {
    let good = replay("log", |log| {
        let (mut before, mut count) = (0, 0);
        let ended = scan(0, log, &mut Group::default(), &mut |transaction| {
            let (begin, end) = (transaction.begin.offset, transaction.end.offset);
            assert!(before <= begin && begin < end && end <= log.len() as u64);
            (before, count) = (end, count + 1);
            true
        });
        if let End::Torn { at, .. } = ended.unwrap() {
            assert!(before <= at && at <= log.len() as u64);
        }
        count > 0
    });
    assert!(good > 100, "{good}");
}

#[test]
fn a_set_of_many_runs_is_compared_in_time() {
    let runs: String = (0..200_000).map(|n| format!(":{}", 2 * n + 1)).collect();
    let text = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562{runs}");
    let set = Position::parse(Flavor::MySql, &text).unwrap();
    let began = std::time::Instant::now();
    assert!(set.contains(&set) && set.distance_to(&set) == 0);
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn a_header_of_many_words_is_refused_cheaply() {
    let mut random = Random(1);
    for word in ["setting ", ""] {
        let words = (0..200_000).map(|n| format!("{word}w{n}_{} x\n", random.below(9)));
        let mut text: String = std::iter::once("format 1\n".to_string()).chain(words).collect();
        let sum: Hash = Sha256::digest(&text).into();
        text += &format!("end {}\n", hex(&sum));
        let began = std::time::Instant::now();
        let said = parse::parse(text.as_bytes()).unwrap_err();
        assert!(said.contains("more than 1000"), "{said}");
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    }
}
