//! What the next backup is called.

use std::hash::{BuildHasher as _, RandomState};

use crate::error::Result;
use crate::os::clock::Timestamp;
use crate::repository::directory::Repository;
use crate::repository::manifest::is_backup_name;

/// The digits of the next name in the same second are at most so much more.
const STEP: u16 = 256;

impl Repository {
    /// A name that sorts after all others, even if the clock was set back. Of those of one second the digits
    /// grow: a follower that stores several would run ahead of the clock, and its parts would look as if they
    /// were of a later chain.
    pub(crate) fn new_name(&self) -> Result<String> {
        let newest = self.names()?.pop().and_then(|name| {
            let digits = u16::from_str_radix(name.get(17..)?, 16).ok()?;
            Some((Timestamp::parse_compact(name.get(..16)?)?, digits))
        });
        let now = Timestamp::now();
        let random = RandomState::new().hash_one(std::process::id()) as u16;
        let (time, digits) = match newest.filter(|(time, _)| *time >= now) {
            // At random, too, since one that was just removed may have the next ones.
            Some((time, digits)) => match digits.checked_add(1 + random % STEP) {
                Some(digits) => (time, digits),
                None => (Timestamp(time.0 + 1), random),
            },
            None => (now, random),
        };
        let name = |time: Timestamp| format!("{}-{digits:04x}", time.compact());
        // After a forged one of the last second that has a name, none could ever be stored again.
        Ok(Some(name(time)).filter(|name| is_backup_name(name)).unwrap_or_else(|| name(now)))
    }
}
