//! Positions of both flavors: what parses is printed and read again as the same, and containing
//! and subtracting agree with each other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollforward::mysql::flavor::Flavor;
use rollforward::mysql::position::{BinlogState, Position};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let (one, two) = text.split_once('\n').unwrap_or((text, ""));
    for flavor in [Flavor::MariaDb, Flavor::MySql] {
        let Ok(a) = Position::parse(flavor, one) else { continue };
        assert_eq!(Position::parse(flavor, &a.to_string()).as_ref(), Ok(&a));
        assert!(a.contains(&a) && a.minus(&a).is_empty() && a.distance_to(&a) == 0);
        let Ok(b) = Position::parse(flavor, two) else { continue };
        let left = a.minus(&b);
        assert!(a.contains(&left));
        assert_eq!(left.is_empty(), b.contains(&a));
        if flavor == Flavor::MySql {
            // What is cut away and what is left are the whole, and share nothing.
            assert_eq!(left.minus(&b), left);
            assert_eq!(a.minus(&left).minus(&b), a.minus(&a));
            assert!(b.distance_to(&a) > 0 || left.is_empty());
        }
    }
    if let Ok(state) = BinlogState::parse(one) {
        let last = state.last();
        assert!(state.lacks(&last).is_empty(), "{last}");
    }
});
