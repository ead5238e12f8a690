//! The hashes of two contents at once.
//!
//! Processors have instructions for SHA-256, each of which waits for the result of the one before, and so
//! use half of what they have on one content. Two contents, one block of each in turn, fill the gaps: by a
//! third faster on one core, where the library is given a whole content at a time.

use std::slice;

use sha2::digest::core_api::{Block, Buffer, CoreProxy, FixedOutputCore as _, UpdateCore as _};
use sha2::{Digest as _, Sha256};

use crate::repository::manifest::Hash;

/// What the library makes [`Sha256`] of: it takes whole blocks.
type Core = <Sha256 as CoreProxy>::Core;

/// The bytes of a block of SHA-256.
const BLOCK: usize = 64;

/// So many files need much memory for their list.
const MANY: usize = 50_000;

/// Two contents at once take memory for another one: whether that is there beside a list of so many files.
pub fn in_pairs(files: usize) -> bool {
    files < MANY
}

/// The hashes of one or two contents; those of none are of any value.
pub fn of(contents: &[&[u8]]) -> [Hash; 2] {
    match contents {
        [first, second] => both([first, second]),
        [first] => [Sha256::digest(first).into(), Hash::default()],
        _ => Default::default(),
    }
}

fn both(contents: [&[u8]; 2]) -> [Hash; 2] {
    let [mut first, mut second] = [Core::default(), Core::default()];
    let (blocks, _) = contents[0].as_chunks::<BLOCK>();
    let (others, _) = contents[1].as_chunks::<BLOCK>();
    for (block, other) in blocks.iter().zip(others) {
        first.update_blocks(slice::from_ref(Block::<Core>::from_slice(block)));
        second.update_blocks(slice::from_ref(Block::<Core>::from_slice(other)));
    }
    let common = blocks.len().min(others.len()) * BLOCK;
    [finish(first, &contents[0][common..]), finish(second, &contents[1][common..])]
}

fn finish(mut core: Core, rest: &[u8]) -> Hash {
    let mut buffer = Buffer::<Core>::default();
    buffer.digest_blocks(rest, |blocks| core.update_blocks(blocks));
    let mut hash = Default::default();
    core.finalize_fixed_core(&mut buffer, &mut hash);
    hash.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_what_each_is_alone() {
        let content: Vec<u8> = (0..1000_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        let lengths = [0, 1, 55, 56, 63, 64, 65, 127, 128, 1000, 4000];
        for first in lengths {
            for second in lengths {
                let contents = [&content[..first], &content[4000 - second..]];
                let alone = contents.map(|content| Hash::from(Sha256::digest(content)));
                assert_eq!(both(contents), alone, "{first} {second}");
            }
        }
    }
}
