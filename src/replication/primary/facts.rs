//! What a primary says of itself, and whether a replica at a position can follow it.

use std::time::Duration;

use super::address::Address;
use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::gtid::Gtid;
use crate::mysql::position::{BinlogState, Position};
use crate::mysql::settings::Values;
use crate::mysql::target::Target;
use crate::os::clock::Timestamp;
use crate::replication::time_zone::Offsets;

/// What a primary reported.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The address that answered.
    pub address: Address,
    /// Its kind.
    pub flavor: Flavor,
    /// Its version string.
    pub version: String,
    /// Whether our session with it was encrypted.
    pub encrypted: bool,
    /// What it has executed: the goal, if this pass needs one now.
    pub position: Position,
    /// When the position was read.
    pub asked: Timestamp,
    /// Its own clock just before.
    pub clock: Timestamp,
    /// Its server id, which no other server may use.
    pub server_id: u32,
    /// What tells it from other servers, as a mark; `None` for a member of a cluster, whose members have
    /// logs of their own with the same transactions.
    pub server: Option<String>,
    /// Settings that the private server must share.
    pub settings: Values,
    /// How long it keeps its binary logs; `None` for forever or unknown.
    pub keeps: Option<Duration>,
    /// The time zone of its machine.
    pub zone: Offsets,
    /// How long our login took.
    pub greeted_after: Duration,
    /// False if the account may not ask whether the binary log is filtered.
    pub unfiltered: bool,
    pub(super) history: History,
}

/// What its binary log holds.
#[derive(Clone, Debug)]
pub(super) enum History {
    MariaDb {
        state: BinlogState,
        applied: Position,
        /// What it has applied and not logged, where it logs nothing that it applies.
        unlogged: Position,
    },
    MySql {
        purged: Position,
    },
}

impl Facts {
    /// Checks that there is a position at all.
    ///
    /// # Errors
    /// [`Error::Configuration`]: an empty goal would be reached at once.
    pub fn check_position(&self) -> Result<()> {
        if self.position.is_empty() {
            return Err(Error::config(format!(
                "primary {} has no position: its binary log is empty",
                self.address
            )));
        }
        Ok(())
    }

    /// Checks that a replica at `position` can follow this primary.
    ///
    /// # Errors
    /// [`Error::Configuration`] for another flavor, [`Error::Diverged`] or [`Error::Purged`].
    /// MariaDB reports the latter only once replication starts: see [`Facts::explain_refusal`].
    pub fn check_base(&self, position: &Position) -> Result<()> {
        if position.flavor() != self.flavor {
            return Err(Error::config(format!(
                "the base at {position} is of {}, and primary {} is {}",
                position.flavor().name(),
                self.address,
                self.flavor.name()
            )));
        }
        let errant = match &self.history {
            // Even a replica without a binary log of its own has applied it.
            History::MariaDb { state, applied, .. } => {
                let errant = state.lacks(position).minus(applied);
                // It has deleted a domain from its log, or never had it; but not all of them.
                let unknown = state.unknown(position, applied);
                match unknown == *position {
                    true => errant,
                    false => errant.minus(&unknown),
                }
            }
            History::MySql { .. } => position.minus(&self.position),
        };
        if !errant.is_empty() {
            return Err(Error::Diverged {
                errant: errant.to_string(),
                primary: format!("{} at {}", self.address, shown(&self.position)),
            });
        }
        match &self.history {
            History::MySql { purged } if !purged.minus(position).is_empty() => {
                let at = shown(&self.position);
                Err(self.purged(position, &format!("it is at {at} and has purged {purged}")))
            }
            History::MariaDb { state, applied, unlogged } => {
                // Nothing of a domain that it once replicated is in its log, or only what came before and
                // after: the server finds the base in its log, and sends what follows there.
                let ahead = |of: &Position| of.minus(position).of_domains(position);
                let nothing = Position::MariaDb(Default::default());
                let unlogged = state.unknown(&ahead(applied), &nothing).and(&ahead(unlogged));
                match unlogged.is_empty() {
                    true => Ok(()),
                    false => {
                        Err(self.purged(position, &format!("it has {unlogged} and no log of it")))
                    }
                }
            }
            _ => Ok(()),
        }
    }

    /// The error for a replica at `from` to which this primary first sends the transaction `first` of a
    /// domain of which its log has nothing before: what is between is nowhere. `None` if nothing is.
    pub fn gap(&self, from: &Position, file: &str, first: &Gtid) -> Option<Error> {
        let (Gtid::MariaDb(first), Position::MariaDb(from_domains)) = (first, from) else {
            return None;
        };
        let (_, last) = from_domains.get(&first.domain)?;
        let all_applied = match &self.history {
            History::MariaDb { applied: Position::MariaDb(applied), .. } => {
                applied.get(&first.domain).is_some_and(|(_, sequence)| sequence == last)
            }
            _ => false,
        };
        let gap = first.sequence > last + 1 && !all_applied;
        gap.then(|| self.purged(from, &format!("its {file} begins with {}", Gtid::MariaDb(*first))))
    }

    /// True if it may have got all of `position` from elsewhere: with a copy of the data, or as a replica.
    /// Its binary log need not have all of it then.
    pub fn may_have_received(&self, position: &Position) -> bool {
        match &self.history {
            History::MariaDb { applied, .. } => applied.contains(position),
            History::MySql { purged } => purged.contains(position),
        }
    }

    /// What of `position` it has not got from elsewhere.
    pub fn not_received(&self, position: &Position) -> Position {
        match &self.history {
            History::MariaDb { applied, .. } => position.minus(applied),
            History::MySql { purged } => position.minus(purged),
        }
    }

    /// What of `position` was committed by this primary itself, if it is true that it has all of it: MariaDB
    /// knows what it got as a replica. Nothing on MySQL, whose transactions name who committed them.
    pub fn own_of(&self, position: &Position) -> Position {
        match &self.history {
            History::MariaDb { applied, .. } => position.minus(applied),
            History::MySql { .. } => position.minus(position),
        }
    }

    /// What a replica has to reach to have all that this primary has up to `position`: its own, or one
    /// read from it shortly after.
    pub fn target(&self, position: Position) -> Target {
        match &self.history {
            History::MariaDb { state, .. } => Target::in_log(position, state),
            History::MySql { .. } => Target::ordered(position),
        }
    }

    /// The rest of `position` once the domains are gone from it that this primary has deleted from its
    /// binary log: should it use one of them again, it counts from the beginning. `None` if there are
    /// none, or if this primary is or was a replica, which may only not have got so far.
    pub fn without_deleted_domains(&self, position: &Position) -> Option<Position> {
        let History::MariaDb { state, applied, .. } = &self.history else { return None };
        let unknown = state.unknown(position, applied);
        let deleted = applied.is_empty() && !unknown.is_empty() && unknown != *position;
        deleted.then(|| position.minus(&unknown))
    }

    /// The error for `position` after the primary refused to send what follows it.
    pub fn explain_refusal(&self, position: &Position) -> Error {
        let at = format!("it is at {} and refuses to go back that far", shown(&self.position));
        self.check_base(position).err().unwrap_or_else(|| self.purged(position, &at))
    }

    fn purged(&self, position: &Position, what: &str) -> Error {
        Error::Purged {
            position: position.to_string(),
            primary: format!("{} reports that {what}", self.address),
        }
    }
}

fn shown(position: &Position) -> String {
    if position.is_empty() { "no position".into() } else { position.to_string() }
}

#[cfg(test)]
mod tests;
