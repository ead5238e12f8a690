//! How to respond to a failed attempt. Pure: the whole decision is one table.
//!
//! A temporary failure is counted and followed by another attempt. An error that faulty data may
//! cause is counted on data that is not fresh, and the data is restored again. On fresh data it is
//! final, but not before each way past it was tried once: the applier is started again, and an older
//! backup is restored. With no attempt left, what was reached is stored if the primary is at fault.

use crate::error::Error;
use crate::server::mandatory_roles;

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
    /// This pass has executed anything new, and the newest backup has nothing that the data lacks.
    pub progress: bool,
    /// The applier of the server stopped at a statement.
    pub applier_failed: bool,
    /// It was started again at that statement, and failed again.
    pub tried_again: bool,
    /// There is an older backup to go back to, and none was gone back to yet.
    pub older: bool,
    /// A newer backup was passed over as the base, for the temporary tables that were open in it.
    pub newer: bool,
    /// The server was started with its grant tables.
    pub grant_tables: bool,
}

/// Errors of a server that was started without its grant tables, which then loads no functions and
/// plugins of its tables: `ER_CANT_INITIALIZE_UDF`, `ER_PLUGIN_IS_NOT_LOADED`,
/// `ER_UNKNOWN_STORAGE_ENGINE`. From both servers' error references.
const NOT_LOADED: [u16; 3] = [1123, 1524, 1286];

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
    /// Start the server again with its grant tables, and with them what else its tables load.
    LoadGrantTables,
    /// Read the privileges again and start the applier again, on the same server.
    TryAgain,
    /// Restore an older backup: this one may not lead on.
    GoBack,
    /// Restore the newest backup, although temporary tables were open in it.
    TakeNewest,
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

/// True if a server that is started with its grant tables may get past `error`.
pub fn is_not_loaded(error: &Error) -> bool {
    matches!(error, Error::ReplicationError { errno, .. } if NOT_LOADED.contains(errno))
}

/// Decides. `exhausted`: the breaker allows no further attempt.
pub fn after_failure(hand: Hand, error: &Error, exhausted: bool) -> Next {
    if matches!(error, Error::BackupDamaged { .. }) && hand.left != Left::Nothing {
        return Next::SkipBase;
    }
    let applying = matches!(error, Error::ReplicationError { errno, .. } if *errno != 0);
    let at_statement = hand.left == Left::Server && hand.applier_failed && applying;
    if at_statement && is_not_loaded(error) && !hand.grant_tables {
        return Next::LoadGrantTables;
    }
    // Data without a base is dumped again instead.
    let again = !hand.tried_again && !mandatory_roles::is_counted(error);
    if at_statement && hand.base && !hand.suspect && again {
        return Next::TryAgain;
    }
    let with = if applying && hand.another_dump && hand.left == Left::Server {
        With::Dump
    } else if hand.suspect && error.may_blame_data() {
        With::Restore
    } else {
        With::InHand
    };
    if with == With::InHand && !error.is_temporary() {
        let refused = matches!(error, Error::MysqldStart { .. });
        return match error {
            Error::Purged { .. } if hand.base && hand.newer => Next::TakeNewest,
            _ if hand.base && hand.older && (at_statement || refused) => Next::GoBack,
            _ => Next::GiveUp(with),
        };
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
            ("start", Error::MysqldStart { how, log }),
            ("data", Error::Diverged { errant: text(), primary: text() }),
            ("data", Error::ReplicationError { errno: 0, text: text() }),
            ("statement", Error::ReplicationError { errno: 1062, text: text() }),
            ("loading", Error::ReplicationError { errno: 1123, text: text() }),
            ("base", Error::BackupDamaged { backup: text(), what: text() }),
            ("final", Error::AccessDenied { primary: text(), text: text() }),
            ("purged", Error::Purged { position: text(), primary: text() }),
            ("final", Error::NoBackup { what: text() }),
            ("final", Error::io("", "/".as_ref(), io::Error::from_raw_os_error(libc::ENOSPC))),
            ("final", Error::Io { doing: text(), source: io::Error::other("x") }),
            ("final", Error::Locked { path: "/".into(), holder: text() }),
            ("final", Error::Interrupted { signal: 15 }),
            ("final", Error::Configuration { text: text() }),
        ]
    }

    /// The table: the response by class, suspicion, what is left, and what was tried.
    fn expected(class: &str, hand: Hand, exhausted: bool) -> Next {
        if class == "loading" {
            let stopped = hand.left == Left::Server && hand.applier_failed;
            return match stopped && !hand.grant_tables {
                true => Next::LoadGrantTables,
                false => expected("statement", hand, exhausted),
            };
        }
        let counted = |with| if exhausted { Next::GiveUp(with) } else { Next::Retry(with) };
        let stopped = hand.left == Left::Server && hand.applier_failed;
        match (class, hand.suspect, hand.left) {
            ("base", _, Left::Doubtful | Left::Data | Left::Server) => Next::SkipBase,
            ("server", ..) => counted(With::InHand),
            ("primary", _, Left::Data | Left::Server)
                if exhausted && hand.base && hand.progress =>
            {
                Next::StoreShort
            }
            ("primary", ..) => counted(With::InHand),
            ("statement", false, _) if stopped && hand.base && !hand.tried_again => Next::TryAgain,
            ("statement", _, Left::Server) if hand.another_dump => counted(With::Dump),
            ("statement" | "start" | "data", true, _) => counted(With::Restore),
            ("statement", false, _) if stopped && hand.base && hand.older => Next::GoBack,
            ("start", false, _) if hand.base && hand.older => Next::GoBack,
            ("purged", ..) if hand.base && hand.newer => Next::TakeNewest,
            _ => Next::GiveUp(With::InHand),
        }
    }

    #[test]
    fn every_cell_of_the_table() {
        let mut cells = 0;
        for (class, error) in errors() {
            for bits in 0..1024u32 {
                let bit = |n: u32| bits & (1 << n) != 0;
                for left in LEFT {
                    let hand = Hand {
                        left,
                        suspect: bit(0),
                        base: bit(1),
                        another_dump: bit(2),
                        progress: bit(3),
                        applier_failed: bit(4),
                        tried_again: bit(5),
                        older: bit(6),
                        newer: bit(7),
                        grant_tables: bit(9),
                    };
                    let exhausted = bit(8);
                    let next = after_failure(hand, &error, exhausted);
                    let wanted = expected(class, hand, exhausted);
                    assert_eq!(next, wanted, "{error:?} with {hand:?}, exhausted: {exhausted}");
                    cells += 1;
                }
            }
        }
        assert_eq!(cells, errors().len() * 1024 * 4);
    }
}
