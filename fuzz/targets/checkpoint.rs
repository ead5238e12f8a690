//! A checkpoint, also the state of a scratch directory: what parses is written and read again
//! as the same, and a message of anybody's fits in its line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollforward::report::checkpoint::{Checkpoint, parse};
use rollforward::report::keys::Key;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(facts) = parse(text) {
        // As the scratch directory's state is written.
        let mut again = String::from("format=1\n");
        for (key, value) in &facts {
            again += &format!("{key}={value}\n");
        }
        assert_eq!(parse(&again).expect("what was written is read"), facts);
    }
    let mut checkpoint = Checkpoint::none();
    checkpoint.set(Key::Message, text);
    let facts = parse(&checkpoint.text()).expect("what was written is read");
    let message = &facts["message"];
    assert!(message.len() <= 500 && message.matches('\'').count() == 2, "{message}");
    assert!(message.starts_with('\'') && message.ends_with('\''), "{message}");
});
