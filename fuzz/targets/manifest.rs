//! A manifest: what parses is written and read again as the same, and keeps its promises.
//!
//! Random bytes would all end at the sum in the last line, so that line, and the numbers in the
//! header, are made right first; the bytes as they are must not do harm either.
#![no_main]

use std::path::Component;

use libfuzzer_sys::fuzz_target;
use rollforward::repository::manifest::parse::parse;
use rollforward::repository::manifest::{Block, Hash, MOST_FRAMES, Manifest, hex};
use sha2::{Digest, Sha256};

fuzz_target!(|data: &[u8]| {
    let _ = parse(data);
    let mut body = data;
    if let Some(at) = body.windows(5).rposition(|w| w == b"\nend ") {
        body = &body[..at];
    }
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    for text in [body.to_vec(), with_true_numbers(body)] {
        let Ok(manifest) = parse(&sealed(text)) else { continue };
        keeps_its_promises(&manifest);
        let again = parse(manifest.to_text().as_bytes()).expect("what was written is read");
        assert_eq!(again, manifest);
    }
});

fn sealed(mut text: Vec<u8>) -> Vec<u8> {
    text.push(b'\n');
    let sum: Hash = Sha256::digest(&text).into();
    text.extend_from_slice(format!("end {}\n", hex(&sum)).as_bytes());
    text
}

/// The sums in the header made right, too: no mutation keeps them right by chance.
fn with_true_numbers(body: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = body.split(|&b| b == b'\n').collect();
    let sizes: Vec<u64> = lines
        .iter()
        .filter_map(|l| l.strip_prefix(b"file "))
        .map(|l| {
            let last = str::from_utf8(l.rsplit(|&b| b == b' ').next().unwrap_or_default());
            last.ok().and_then(|n| n.parse().ok()).unwrap_or(0)
        })
        .collect();
    let files = format!("files {}", sizes.len());
    let size = format!("size {}", sizes.iter().fold(0, |a: u64, b| a.saturating_add(*b)));
    let lines: Vec<&[u8]> = lines
        .into_iter()
        .map(|l| match l {
            l if l.starts_with(b"files ") => files.as_bytes(),
            l if l.starts_with(b"size ") => size.as_bytes(),
            l => l,
        })
        .collect();
    lines.join(&b'\n')
}

fn keeps_its_promises(manifest: &Manifest) {
    let dirs = manifest.dirs.iter().map(|d| &d.path);
    for path in dirs.chain(manifest.files.iter().map(|f| &f.path)) {
        assert!(path.components().all(|c| matches!(c, Component::Normal(_))), "{path:?}");
    }
    let mut size = 0;
    for file in &manifest.files {
        size += file.size;
        let mut end = 0;
        for piece in file.pieces(manifest.block_size) {
            assert_eq!(piece.offset, end);
            assert!(piece.length > 0);
            end += piece.length;
            if let Block::Stored(chain) = piece.block {
                let links = chain.of(&manifest.links);
                assert!((1..=MOST_FRAMES).contains(&links.len()));
                for frame in links.iter().map(|link| link.frame) {
                    let pack = &manifest.packs[frame.pack as usize];
                    assert!(frame.offset + u64::from(frame.length) <= pack.size);
                }
                assert!(piece.length <= manifest.block_size);
            }
        }
        assert_eq!(end, file.size, "{:?}", file.path);
    }
    assert_eq!(size, manifest.size);
}
