//! What transactions did: whatever is in a relay log, it ends by our own words, in little memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollforward::journal::details::Details;
use rollforward::journal::event::Header;
use rollforward::journal::scan::Look as _;

// Without checksums, which nothing that is changed at random would pass: a kind of event and a length, then
// the body.
fuzz_target!(|data: &[u8]| {
    let (mut details, mut rest) = (Details::default(), data);
    while let [kind, low, high, more @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(more.len());
        let (mut body, after) = more.split_at(length);
        let header = Header { time: 1, kind: *kind, server: 1, length: length as u32, end: 0 };
        if details.look(&header, &mut body, length).is_err() {
            break;
        }
        rest = after;
    }
    let line = details.line();
    assert!(!line.contains(|c: char| c.is_control()));
});
