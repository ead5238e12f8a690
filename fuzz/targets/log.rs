//! Relay logs: whatever is in them, transactions are whole, in order and within the log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollforward::journal::group::Group;
use rollforward::journal::scan::{End, scan};

fuzz_target!(|data: &[u8]| {
    let mut before = 0;
    let ended = scan(0, data, &mut Group::default(), &mut |transaction| {
        let (begin, end) = (transaction.begin.offset, transaction.end.offset);
        assert!(before <= begin && begin < end && end <= data.len() as u64);
        before = end;
        true
    });
    if let Ok(End::Torn { at, .. }) = ended {
        assert!(before <= at && at <= data.len() as u64);
    }
});
