//! Files as blocks, and where the blocks are.

use std::fmt;
use std::path::PathBuf;

/// A SHA-256.
pub type Hash = [u8; 32];

/// A file and where its content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative to the data directory.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Its blocks in order.
    pub blocks: Vec<Block>,
}

/// Where a zstd frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    /// Index into the manifest's packs.
    pub pack: u32,
    /// Its bytes.
    pub length: u32,
    /// Where it begins.
    pub offset: u64,
}

/// A content and its frame. The frame holds the content, or the difference (exclusive or) to the
/// content of the next link, its base, which counts as zeros where it is shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// SHA-256 of the content.
    pub hash: Hash,
    /// Its frame.
    pub frame: Frame,
}

/// The most frames of one block: its own and those of its bases. Each costs a restore a decompression.
pub const MOST_FRAMES: usize = 4;

/// Where a block is: one link, or up to four of which each is the base of the one before. They are next
/// to each other in a list of all, so that no chain can be longer, or a circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain(u32);

impl Chain {
    /// Appends `chain` to `links`; `None` if it has too many links, or the list does.
    pub fn push(links: &mut Vec<Link>, chain: impl IntoIterator<Item = Link>) -> Option<Chain> {
        let first = links.len();
        links.extend(chain);
        let more = (links.len() - first).checked_sub(1).filter(|more| *more < MOST_FRAMES)?;
        Some(Chain(u32::try_from(first << 2 | more).ok()?))
    }

    /// Another base for the last one, which ends the list.
    pub(super) fn lengthen(self, links: &mut Vec<Link>, base: Link) -> Option<Chain> {
        links.push(base);
        (self.0 & 3 < 3).then_some(Chain(self.0 + 1))
    }

    /// Its links in the list, the block's own first.
    pub fn of(self, links: &[Link]) -> &[Link] {
        let first = self.0 as usize >> 2;
        &links[first..=first + (self.0 as usize & 3)]
    }
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// One zstd frame in a pack, and those of its bases.
    Stored(Chain),
    /// A run of zero blocks, so that a sparse file costs one line.
    Zeros {
        /// How many blocks; the last block of a file may be short.
        count: u64,
    },
}

/// A block and its place in the file, from [`FileEntry::pieces`].
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes of content; more than one block only for zeros.
    pub length: u64,
    /// The source of the content.
    pub block: Block,
}

impl FileEntry {
    /// The blocks with their places.
    pub fn pieces(&self, block_size: u64) -> impl Iterator<Item = Piece> + '_ {
        self.pieces_from(0, 0, block_size)
    }

    /// The same, starting at the block with index `first` and offset `offset`.
    pub fn pieces_from(
        &self,
        first: usize,
        mut offset: u64,
        block_size: u64,
    ) -> impl Iterator<Item = Piece> + '_ {
        self.blocks[first..].iter().map(move |&block| {
            let blocks = match block {
                Block::Stored(_) => 1,
                Block::Zeros { count } => count,
            };
            let length = blocks.saturating_mul(block_size).min(self.size - offset);
            let piece = Piece { offset, length, block };
            offset += length;
            piece
        })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame { pack, offset, length } = self.frame;
        write!(f, "{} {pack} {offset} {length}", hex(&self.hash))
    }
}

/// A hash as 64 digits.
pub fn hex(hash: &Hash) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    hash.iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}
