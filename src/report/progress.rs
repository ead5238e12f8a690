//! How far the data has come: the executed position, and whether it contains anything new.

use crate::mysql::position::Position;

/// The one owner of the position; the checkpoint shows it.
///
/// Transactions applied again after a crash are no progress: only those beyond the furthest
/// position of the pass are.
#[derive(Default)]
pub struct Progress {
    at: Option<Position>,
    furthest: Option<Position>,
    first: Option<Position>,
    made: bool,
}

impl Progress {
    /// The executed position as last read.
    pub fn at(&self) -> Option<&Position> {
        self.at.as_ref()
    }

    /// True if this pass has executed anything new.
    pub fn was_made(&self) -> bool {
        self.made
    }

    /// Transactions executed in this pass.
    pub fn transactions(&self) -> u64 {
        match (&self.first, &self.at) {
            // Numbers out of order of MariaDB count for nothing.
            (Some(first), Some(at)) => first.distance_to(at).max(u64::from(first != at)),
            _ => 0,
        }
    }

    /// The data begins at `at`, which is no progress.
    pub(super) fn start_at(&mut self, at: Position) {
        self.first.get_or_insert_with(|| at.clone());
        self.furthest.get_or_insert_with(|| at.clone());
        self.at = Some(at);
    }

    /// The data is gone: forgets its position, but not how far the pass has come.
    pub(super) fn restart(&mut self) {
        self.at = None;
    }

    /// The executed position is `at`. Returns whether it contains anything new.
    pub(super) fn reach(&mut self, at: Position) -> bool {
        let new = self.furthest.as_ref().is_none_or(|f| !f.contains(&at));
        if new {
            // Of several domains, one may be back where it was before a crash while another is ahead.
            self.furthest = Some(self.furthest.as_ref().map_or_else(|| at.clone(), |f| f.and(&at)));
            self.made = true;
        }
        self.at = Some(at);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::flavor::Flavor;

    #[test]
    fn what_is_applied_again_is_no_progress() {
        let position = |text| Position::parse(Flavor::MariaDb, text).unwrap();
        let mut progress = Progress::default();
        progress.start_at(position("0-1-100"));
        assert!(!progress.reach(position("0-1-100")));
        assert!(progress.reach(position("0-1-150")));
        // mysqld was killed and lost the last second.
        progress.start_at(position("0-1-120"));
        assert!(!progress.reach(position("0-1-149")));
        assert!(progress.reach(position("0-1-151")));
        assert_eq!(progress.transactions(), 51);
    }

    #[test]
    fn what_one_domain_applies_again_is_no_progress_of_another() {
        let position = |text| Position::parse(Flavor::MariaDb, text).unwrap();
        let mut progress = Progress::default();
        progress.start_at(position("0-1-100,1-1-100"));
        assert!(progress.reach(position("0-1-200,1-1-100")));
        progress.start_at(position("0-1-100,1-1-100"));
        assert!(progress.reach(position("0-1-100,1-1-101")));
        // Domain 0 was there before the crash.
        assert!(!progress.reach(position("0-1-150,1-1-101")));
        assert!(!progress.reach(position("0-1-200,1-1-101")));
        assert!(progress.reach(position("0-1-201,1-1-101")));
    }
}
