//! What a replica is to reach, and whether it has. Pure.
//!
//! A position of MariaDB is one transaction for each domain, and a server without `gtid_strict_mode`
//! logs the transactions of several servers in any order of their numbers: after `0-1-1000`, `0-2-990`
//! may be the last one. A replica at the former has the higher number and lacks the latter. So a number
//! counts only where it is the highest of its domain in the log; elsewhere the transaction itself does,
//! at which the replica is told to stop, or a number beyond all that were in the log.

use std::collections::BTreeMap;

use crate::mysql::position::{BinlogState, Position};

/// A position to be reached.
#[derive(Clone, Debug)]
pub struct Target {
    position: Position,
    /// By domain: the highest number of other servers, where that is not below the position's own.
    above: BTreeMap<u32, u64>,
}

impl Target {
    /// The position of a primary whose numbers are in order.
    pub fn ordered(position: Position) -> Target {
        Target { position, above: BTreeMap::new() }
    }

    /// The position of a MariaDB primary with this state of its binary log, read at the same time or
    /// later.
    pub fn in_log(position: Position, state: &BinlogState) -> Target {
        let mut above = BTreeMap::new();
        if let Position::MariaDb(domains) = &position {
            for (domain, (server, number)) in domains {
                let highest = state.highest_of_others(*domain, *server);
                above.extend(highest.filter(|n| n >= number).map(|n| (*domain, n)));
            }
        }
        Target { position, above }
    }

    /// The position.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// True if a replica at `at` has all transactions up to this one.
    pub fn is_reached_at(&self, at: &Position) -> bool {
        let (Position::MariaDb(at_domains), Position::MariaDb(goal)) = (at, &self.position) else {
            return at.contains(&self.position);
        };
        at.contains(&self.position)
            && self.above.iter().all(|(domain, highest)| {
                let there = at_domains.get(domain);
                there == goal.get(domain) || there.is_some_and(|(_, number)| number > highest)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::flavor::Flavor;

    fn position(text: &str) -> Position {
        Position::parse(Flavor::MariaDb, text).unwrap()
    }

    fn reached(goal: &str, state: &str, at: &str) -> bool {
        let state = BinlogState::parse(state).unwrap();
        Target::in_log(position(goal), &state).is_reached_at(&position(at))
    }

    #[test]
    fn a_higher_number_before_the_last_transaction_is_not_beyond() {
        let state = "0-1-1000,0-2-990,5-1-7";
        assert!(!reached("0-2-990,5-1-7", state, "0-1-1000,5-1-7"));
        assert!(!reached("0-2-990,5-1-7", state, "0-2-990,5-1-6"));
        assert!(reached("0-2-990,5-1-7", state, "0-2-990,5-1-7"));
        assert!(reached("0-2-990,5-1-7", state, "0-1-1001,5-1-8"));
        // The same number twice, by two writers at once.
        assert!(!reached("0-2-100", "0-1-100,0-2-100", "0-1-100"));
    }

    #[test]
    fn numbers_in_order_decide_alone() {
        assert!(reached("0-2-80", "0-1-50,0-2-80", "0-2-80"));
        // After a failover another server goes on.
        assert!(reached("0-2-80", "0-1-50,0-2-80", "0-3-81"));
        assert!(!reached("0-2-80", "0-1-50,0-2-80", "0-1-50"));
        assert!(!reached("0-2-80,1-1-1", "0-2-80,1-1-1", "0-2-80"));
        assert!(Target::ordered(position("0-1-5")).is_reached_at(&position("0-1-6")));
    }
}
