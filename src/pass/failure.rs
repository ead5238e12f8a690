//! What a failed attempt is answered with. Pure: the whole decision is one table.
//!
//! A failure that may pass is counted and tried again. An error that the data may be to blame for
//! is a verdict on fresh data only; on other data it is answered by a fresh restore, and counted.
//! When the breaker has no attempt left, what was reached is stored if the primary is to blame.

use crate::error::Error;

/// What is in hand after a failure, and what else decides.
#[derive(Clone, Copy, Debug)]
pub struct Hand {
    /// What the failure left.
    pub left: Left,
    /// The data was suspect before the failure: resumed, or its mysqld had died.
    pub suspect: bool,
    /// A backup is the base; without one the data came from a dump or a clone.
    pub base: bool,
    /// The data came from a dump, and another one may be made.
    pub another_dump: bool,
    /// This pass has executed something new.
    pub progress: bool,
}

/// What a failure left in the scratch directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing that can be used.
    Nothing,
    /// Data that its position may yet prove wrong.
    Doubtful,
    /// Data.
    Data,
    /// A private server that runs on data.
    Server,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Restore the backup before this one, without a wait: its data is not what its manifest says.
    SkipBase,
    /// Wait, then try again.
    Retry(With),
    /// End well with what was reached.
    StoreShort,
    /// End with the error, which counts as temporary unless the data stays as it is.
    GiveUp(With),
}

/// What another attempt begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// What is in hand.
    InHand,
    /// A fresh restore: the data may be to blame.
    Restore,
    /// Another dump: accounts, routines and views take no part in a dump's snapshot, so one that
    /// was made meanwhile is in it, and comes again by replication. The next dump has it before its
    /// position.
    Dump,
}

/// Decides. `exhausted` says that the breaker allows no further attempt.
pub fn after_failure(hand: Hand, error: &Error, exhausted: bool) -> Next {
    if matches!(error, Error::BackupDamaged { .. }) && hand.left != Left::Nothing {
        return Next::SkipBase;
    }
    let applying = matches!(error, Error::ReplicationError { errno, .. } if *errno != 0);
    let with = if applying && hand.another_dump && hand.left == Left::Server {
        With::Dump
    } else if hand.suspect && error.may_blame_data() {
        With::Restore
    } else {
        With::InHand
    };
    if with == With::InHand && !error.is_temporary() {
        return Next::GiveUp(with);
    }
    if !exhausted {
        return Next::Retry(with);
    }
    // A dump is whole only at its goal, and what is in doubt is no backup.
    let storable = hand.base && matches!(hand.left, Left::Data | Left::Server);
    if error.blames_primary() && hand.progress && storable {
        Next::StoreShort
    } else {
        Next::GiveUp(with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::time::Duration;

    const LEFT: [Left; 4] = [Left::Nothing, Left::Doubtful, Left::Data, Left::Server];

    /// Each error under the class that the table below names it by.
    fn errors() -> Vec<(&'static str, Error)> {
        let text = String::new;
        let (how, log) = (text(), text());
        vec![
            ("server", Error::MysqldDied { how: how.clone(), log: log.clone() }),
            ("server", Error::MysqldHung { what: text(), after: None }),
            ("server", Error::OutOfMemory { how: how.clone(), log: log.clone(), limit: None }),
            ("primary", Error::PrimaryUnreachable { primary: text(), text: text() }),
            ("primary", Error::Stalled { after: Duration::ZERO, what: text() }),
            ("data", Error::MysqldStart { how, log }),
            ("data", Error::Diverged { errant: text(), primary: text() }),
            ("data", Error::ReplicationError { errno: 0, text: text() }),
            ("statement", Error::ReplicationError { errno: 1062, text: text() }),
            ("base", Error::BackupDamaged { backup: text(), what: text() }),
            ("final", Error::AccessDenied { primary: text(), text: text() }),
            ("final", Error::Purged { position: text(), primary: text() }),
            ("final", Error::NoBackup { what: text() }),
            (
                "final",
                Error::DiskFull {
                    path: "/".into(),
                    free: None,
                    needed: None,
                    place: crate::error::Place::Other,
                },
            ),
            ("final", Error::Io { doing: text(), source: io::Error::other("x") }),
            ("final", Error::Locked { path: "/".into(), holder: text() }),
            ("final", Error::Interrupted { signal: 15 }),
            ("final", Error::Configuration { text: text() }),
        ]
    }

    /// The answer by class, in words: what is left, whether the data was suspect, whether an
    /// attempt is left; `circumstances` are base, progress, another dump.
    fn expected(class: &str, hand: Hand, exhausted: bool) -> Next {
        let counted = |with| if exhausted { Next::GiveUp(with) } else { Next::Retry(with) };
        match (class, hand.suspect, hand.left) {
            ("base", _, Left::Doubtful | Left::Data | Left::Server) => Next::SkipBase,
            ("server", ..) => counted(With::InHand),
            ("primary", _, Left::Data | Left::Server)
                if exhausted && hand.base && hand.progress =>
            {
                Next::StoreShort
            }
            ("primary", ..) => counted(With::InHand),
            ("statement", _, Left::Server) if hand.another_dump => counted(With::Dump),
            ("statement" | "data", true, _) => counted(With::Restore),
            _ => Next::GiveUp(With::InHand),
        }
    }

    #[test]
    fn every_cell_of_the_table() {
        let mut cells = 0;
        for (class, error) in errors() {
            for bits in 0..32u32 {
                let bit = |n: u32| bits & (1 << n) != 0;
                for left in LEFT {
                    let (suspect, base) = (bit(0), bit(1));
                    let (another_dump, progress) = (bit(2), bit(3));
                    let hand = Hand { left, suspect, base, another_dump, progress };
                    let exhausted = bit(4);
                    let next = after_failure(hand, &error, exhausted);
                    let wanted = expected(class, hand, exhausted);
                    assert_eq!(next, wanted, "{error:?} with {hand:?}, exhausted: {exhausted}");
                    cells += 1;
                }
            }
        }
        assert_eq!(cells, errors().len() * 32 * 4);
    }

    #[test]
    fn a_primary_that_is_away_costs_nothing_that_was_reached() {
        let hand =
            |left| Hand { left, suspect: false, base: true, another_dump: false, progress: true };
        let away = Error::PrimaryUnreachable { primary: String::new(), text: String::new() };
        assert_eq!(after_failure(hand(Left::Server), &away, true), Next::StoreShort);
        assert_eq!(after_failure(hand(Left::Data), &away, true), Next::StoreShort);
        assert_eq!(after_failure(hand(Left::Doubtful), &away, true), Next::GiveUp(With::InHand));
        assert_eq!(after_failure(hand(Left::Server), &away, false), Next::Retry(With::InHand));
    }

    #[test]
    fn a_start_that_fails_on_fresh_data_is_final() {
        let hand = |suspect| Hand {
            left: Left::Data,
            suspect,
            base: true,
            another_dump: false,
            progress: false,
        };
        let refused = Error::MysqldStart { how: String::new(), log: String::new() };
        assert_eq!(after_failure(hand(false), &refused, false), Next::GiveUp(With::InHand));
        assert_eq!(after_failure(hand(true), &refused, false), Next::Retry(With::Restore));
    }
}
