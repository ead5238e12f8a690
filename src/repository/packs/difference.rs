//! Which difference a changed block is stored as.
//!
//! The backup that a new one grows from has the block as a chain: whole, then up to three differences,
//! each to the content before. The new content can follow any of these, as long as the chain is short
//! enough. The difference to the newest one is the smallest, but leaves all in the chain that lies
//! between it and the whole block, and the chain is soon as long as it may be. One to an older content
//! has what changed since then once more, and makes those of the following nights smaller.

use sha2::{Digest as _, Sha256};

use super::{Fault, Fetcher, add, bad_block, count_set};
use crate::repository::manifest::{BLOCK_SIZE, Hash, Link, MOST_FRAMES, PackRef};

/// How many nights are expected to profit from an older base. doc/performance.md has what 30 nights
/// add up to; with 1 or 3 it is nearly the same, with 0 or 10 more.
const NIGHTS: usize = 2;

/// Leaves in `difference` that of `content` to the best base among `links`, the chain of the earlier
/// block, and returns the links of that base. `None` if there is no base that can be used.
///
/// # Errors
/// A fault, with the pack that it is in.
pub fn choose<'a>(
    fetcher: &mut Fetcher<'_>,
    packs: &[PackRef],
    links: &'a [Link],
    content: &[u8],
    difference: &mut Vec<u8>,
) -> Result<Option<&'a [Link]>, (PackRef, Fault)> {
    difference.clear();
    difference.extend_from_slice(content);
    let mut lengths = [0; MOST_FRAMES];
    let mut checked = true;
    // The newest one last: it is the first that may be left out again.
    for (link, length) in links.iter().zip(&mut lengths).rev() {
        *length = fetcher.decode(packs, &link.frame, BLOCK_SIZE as usize)?;
        checked &= fetcher.checked;
        add(difference, &fetcher.part);
    }
    // Reading a base costs no more than reading the block.
    if lengths[0] > content.len() || !lengths.is_sorted_by(|a, b| a >= b) {
        return Ok(None);
    }
    // What a difference takes compressed grows with the bytes that are set in it.
    let newest = count_set(difference);
    let (mut at, mut here) = (0, newest);
    while at + 1 < links.len() {
        // Without the frame at `at`, it is the difference to the next base.
        if at > 0 {
            fetcher.decode(packs, &links[at].frame, content.len())?;
        }
        add(difference, &fetcher.part);
        let there = count_set(difference);
        let too_long = links.len() - at == MOST_FRAMES;
        let saved = here.saturating_sub(newest) * NIGHTS;
        if !too_long && saved < there.saturating_sub(here) {
            add(difference, &fetcher.part);
            break;
        }
        (at, here) = (at + 1, there);
    }
    // Not smaller than the whole then.
    if here > links[links.len() - 1].frame.length as usize {
        return Ok(None);
    }
    if checked {
        return Ok(Some(&links[at..]));
    }
    // The base may be in a pack that was not read in this pass, and earlier versions wrote frames
    // without a checksum.
    let base = &mut fetcher.part;
    base.clear();
    base.extend_from_slice(content);
    add(base, difference);
    if Hash::from(Sha256::digest(&base[..lengths[at]])) != links[at].hash {
        let frame = fetcher.culprit(packs, &links[at..], lengths[at])?;
        return Err(bad_block(packs, &frame));
    }
    Ok(Some(&links[at..]))
}
