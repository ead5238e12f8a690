//! Pins beside a prune.

use super::support::Space;
use crate::error::Error;
use crate::os::clock::Timestamp;
use crate::repository::pins::Pin;
use crate::repository::prune::Removal;

#[test]
fn a_pin_set_after_the_judgement_keeps_the_backup() {
    let s = Space::new();
    s.file("a", 1, 10);
    let name = s.store().name;
    let lock = s.lock();
    let pin = Pin { reason: "a = \\b\n".into(), until: None };
    s.repo.pin(&name, &pin).unwrap();
    assert_eq!(s.repo.pin_of(&name), Some(pin));
    assert_eq!(s.repo.remove(&lock, &name).unwrap(), Removal::Pinned);
    // Its time may be over by then.
    let over = Pin { until: Some(Timestamp(Timestamp::now().0 - 1)), ..Pin::default() };
    s.repo.pin(&name, &over).unwrap();
    assert_eq!(s.repo.remove(&lock, &name).unwrap(), Removal::Removed);
    assert!(matches!(s.repo.pin(&name, &over), Err(Error::NoBackup { .. })));
    assert!(s.repo.unpin(&name).unwrap(), "what is left of it can be removed");
    assert!(matches!(s.repo.unpin(&name), Err(Error::NoBackup { .. })));
}

#[test]
fn one_who_puts_on_record_makes_others_wait() {
    let s = Space::new();
    s.file("a", 1, 10);
    let name = s.store().name;
    let held = std::fs::File::create(s.repo.root().join("proofs/lock")).unwrap();
    held.lock().unwrap();
    let pinned = s.repo.pin(&name, &Pin::default());
    assert!(matches!(pinned, Err(Error::Locked { .. })), "{pinned:?}");
    assert_eq!(s.repo.pin_of(&name), None);
}
