//! Which difference a changed block is stored as.
//!
//! The backup that a new one grows from has the block as a chain: whole, then up to three differences,
//! each to the content before. The new content can follow any of these, as long as the chain is short
//! enough. The difference to the newest one is the smallest, but leaves all in the chain that lies
//! between it and the whole block, and the chain is soon as long as it may be. One to an older content
//! has what changed since then once more, and makes those of the following nights smaller.

use super::xor::{PIECE, add, count_set};
use super::{Fault, Fetcher};
use crate::repository::manifest::{BLOCK_SIZE, Link, MOST_FRAMES, PackRef};

/// How many nights are expected to profit from an older base. doc/performance.md has what 30 nights
/// add up to; with 1 or 3 it is nearly the same, with 0 or 10 more.
const NIGHTS: usize = 2;

/// Of a block of more pieces than this, not all tell which base is best.
const ALL: usize = 256;
/// Every so many of its pieces do: not a divisor of a page's, so that beginning and end of pages count.
const EVERY: usize = 17;

/// Finds the best base of one block after the other. Keeps its buffers.
#[derive(Debug, Default)]
pub struct Chooser {
    /// Some pieces of a difference.
    sample: Vec<u8>,
    /// The same pieces of those that the chain consists of.
    samples: [Vec<u8>; MOST_FRAMES],
}

impl Chooser {
    /// Leaves in `content` its difference to the best base among `links`, the chain of the earlier block,
    /// and returns the links of that base. `None` if there is no base that can be used; `content` may be
    /// anything then, as after an error. It is overwritten, since there is not the memory for both.
    ///
    /// # Errors
    /// A fault, with the pack that it is in.
    pub fn choose<'a>(
        &mut self,
        fetcher: &mut Fetcher<'_>,
        packs: &[PackRef],
        links: &'a [Link],
        content: &mut [u8],
    ) -> Result<Option<&'a [Link]>, (PackRef, Fault)> {
        let step = if content.len().div_ceil(PIECE) > ALL { EVERY } else { 1 };
        let mut lengths = [0; MOST_FRAMES];
        let mut checked = true;
        // The newest one last: it is the first that may be left out again.
        for (at, link) in links.iter().enumerate().rev() {
            lengths[at] = fetcher.decode(packs, &link.frame, BLOCK_SIZE as usize)?;
            checked &= fetcher.checked;
            add(content, &fetcher.part);
            if at + 1 < links.len() {
                take_sample(&mut self.samples[at], &fetcher.part, step);
            }
        }
        // Reading a base costs no more than reading the block.
        if lengths[0] > content.len() || !lengths.is_sorted_by(|a, b| a >= b) {
            return Ok(None);
        }
        take_sample(&mut self.sample, content, step);
        let (at, set) = self.best(links.len());
        // Not smaller than the whole then.
        if set * step > links[links.len() - 1].frame.length as usize {
            return Ok(None);
        }
        for (number, link) in links[..at].iter().enumerate() {
            // That of the newest one is still there.
            if number > 0 {
                fetcher.decode(packs, &link.frame, content.len())?;
            }
            add(content, &fetcher.part);
        }
        // The base may be in a pack that was not read in this pass, and earlier versions wrote frames
        // without a checksum.
        if !checked {
            fetcher.fetch(packs, &links[at..], lengths[at])?;
        }
        Ok(Some(&links[at..]))
    }

    /// The best base of a chain of so many frames, and the bytes that are set in the sample of the
    /// difference to it: what a difference takes compressed grows with them. Afterwards `sample` is that
    /// of any difference.
    fn best(&mut self, frames: usize) -> (usize, usize) {
        let newest = count_set(&self.sample);
        let (mut at, mut here) = (0, newest);
        while at + 1 < frames {
            // Without the frame at `at`, it is the difference to the next base.
            add(&mut self.sample, &self.samples[at]);
            let there = count_set(&self.sample);
            let too_long = frames - at == MOST_FRAMES;
            let saved = here.saturating_sub(newest) * NIGHTS;
            if !too_long && saved < there.saturating_sub(here) {
                break;
            }
            (at, here) = (at + 1, there);
        }
        (at, here)
    }
}

/// Leaves one of `step` pieces of `content` in `sample`.
fn take_sample(sample: &mut Vec<u8>, content: &[u8], step: usize) {
    sample.clear();
    content.chunks(PIECE).step_by(step).for_each(|piece| sample.extend_from_slice(piece));
}
