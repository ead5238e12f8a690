//! How to respond to a failed attempt. Pure: the whole decision is one table.
//!
//! A temporary failure is counted and followed by another attempt. An error that faulty data may
//! cause is final on fresh data; on other data it is counted, and the data is restored again. With
//! no attempt left, what was reached is stored if the primary is at fault.

use crate::error::Error;

/// What is in hand after a failure, and what else the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Hand {
    /// What the failure left.
    pub left: Left,
    /// The data was suspect before the failure: resumed, or its mysqld had died.
    pub suspect: bool,
    /// There is a base; otherwise the data came from a dump or a clone.
    pub base: bool,
    /// The data came from a dump, and another dump may be made.
    pub another_dump: bool,
    /// This pass has executed anything new.
    pub progress: bool,
}

/// What is left in the scratch directory after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing that can be used.
    Nothing,
    /// Data that may turn out wrong once its position is known.
    Doubtful,
    /// Data.
    Data,
    /// A private server running on data.
    Server,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Restore an older backup at once: the data contradicts the manifest of the base.
    SkipBase,
    /// Wait, then try again.
    Retry(With),
    /// Store what was reached.
    StoreShort,
    /// End with the error, which counts as temporary unless it is [`With::InHand`].
    GiveUp(With),
}

/// What another attempt starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// What is in hand.
    InHand,
    /// A fresh restore: the data may be at fault.
    Restore,
    /// Another dump: accounts, routines and views are not part of a dump's snapshot, so one that
    /// was created meanwhile is dumped and replicated as well. The position of the next dump is
    /// after it.
    Dump,
}

/// Decides. `exhausted`: the breaker allows no further attempt.
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
    // A dump is consistent only at its goal, and doubtful data is no backup.
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

    /// Each error with its class in the table below.
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
            ("final", Error::io("", "/".as_ref(), io::Error::from_raw_os_error(libc::ENOSPC))),
            ("final", Error::Io { doing: text(), source: io::Error::other("x") }),
            ("final", Error::Locked { path: "/".into(), holder: text() }),
            ("final", Error::Interrupted { signal: 15 }),
            ("final", Error::Configuration { text: text() }),
        ]
    }

    /// The table: the response by class, suspicion, and what is left.
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
}
