//! Whose turn it is: tables are looked at in turn, as many as the time of a pass allows. Pure.
//!
//! First comes a table whose turn was cut off at the end of the last pass: now it has all of the time.
//! If that is too short as well, it has had its turn, and is left out until it may have changed.
//! Then those in which something was found, since that is said by each pass until it is mended; then
//! those whose last turn is the longest ago.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::compare::names::TableName;
use crate::os::clock::Timestamp;

/// After so long a table that took too long is tried again: it may have become smaller.
const AGAIN: Duration = Duration::from_secs(30 * 86_400);

/// The last turn of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When it was.
    pub last: Timestamp,
    /// How it ended.
    pub ended: Ended,
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All is well.
    Right,
    /// Something was found.
    Wrong(String),
    /// The time was up: it is the first one of the next pass. `last` is that of the turn before.
    Cut,
    /// The time was up, and this is where it goes on, so that it need not fit into one pass. `last`
    /// as above.
    Part(String),
    /// It takes longer than this, which was all of the time of a pass.
    TooLong(Duration),
}

/// The last turns of all tables that had one.
pub type Turns = BTreeMap<TableName, Turn>;

/// The `tables` in the order of their turns, for a pass that has `time`. The second list has those
/// that would take longer.
pub fn order(
    tables: Vec<TableName>,
    turns: &Turns,
    now: Timestamp,
    time: Duration,
) -> (Vec<TableName>, Vec<TableName>) {
    let hopeless = |table: &TableName| match turns.get(table) {
        Some(Turn { last, ended: Ended::TooLong(took) }) => time <= *took && last.age(now) < AGAIN,
        _ => false,
    };
    let (left_out, mut order): (Vec<_>, Vec<_>) = tables.into_iter().partition(hopeless);
    order.sort_by_key(|table| match turns.get(table) {
        Some(Turn { ended: Ended::Cut | Ended::Part(_), .. }) => (0, 0),
        Some(Turn { ended: Ended::Wrong(_), .. }) => (1, 0),
        Some(Turn { last, .. }) => (2, last.0),
        None => (2, i64::MIN),
    });
    (order, left_out)
}

/// Notes that the turn of `table` was cut off at the end of a pass that had `time`. `first`: it had
/// all of it.
pub fn cut_off(turns: &mut Turns, table: &TableName, first: bool, now: Timestamp, time: Duration) {
    let last = turns.get(table).map_or(Timestamp(0), |turn| turn.last);
    let turn = match first {
        true => Turn { last: now, ended: Ended::TooLong(time) },
        false => Turn { last, ended: Ended::Cut },
    };
    // What was found is not forgotten because there is no time to look again.
    match turns.get_mut(table) {
        Some(Turn { ended: Ended::Wrong(_), .. }) => {}
        _ => drop(turns.insert(table.clone(), turn)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn table(name: &str) -> TableName {
        TableName::new("shop", name)
    }

    fn names(tables: &[TableName]) -> String {
        tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_longest_ago_comes_first_and_failures_before() {
        let now = Timestamp(1_000_000);
        let turn = |last, ended| Turn { last: Timestamp(last), ended };
        let turns = Turns::from([
            (table("a"), turn(200, Ended::Right)),
            (table("b"), turn(100, Ended::Right)),
            (table("c"), turn(900, Ended::Wrong("corrupt".into()))),
            (table("d"), turn(300, Ended::Cut)),
            (table("e"), turn(100, Ended::TooLong(MINUTE))),
            (table("gone"), turn(1, Ended::Right)),
        ]);
        let all = || ["a", "b", "c", "d", "e", "new"].map(table).to_vec();
        let (first, left_out) = order(all(), &turns, now, MINUTE);
        assert_eq!((names(&first), names(&left_out)), ("d c new b a".into(), "e".into()));
        let (first, left_out) = order(all(), &turns, now, MINUTE * 2);
        assert_eq!((names(&first), names(&left_out)), ("d c new b e a".into(), String::new()));
        let later = Timestamp(100 + 31 * 86_400);
        assert!(order(all(), &turns, later, MINUTE).1.is_empty());
    }

    #[test]
    fn a_table_too_large_for_a_pass_blocks_no_other() {
        let mut turns = Turns::new();
        let mut seen = Vec::new();
        // `a` never fits, and of the others one fits into each pass.
        for pass in 1..8 {
            let now = Timestamp(pass * 86_400);
            let (order, _) = order(["a", "b", "c"].map(table).to_vec(), &turns, now, MINUTE);
            let mut left = 2;
            for (n, table) in order.iter().enumerate() {
                let takes = if table.name == "a" { 3 } else { 2 };
                if takes > left {
                    cut_off(&mut turns, table, n == 0, now, MINUTE);
                    break;
                }
                left -= takes;
                turns.insert(table.clone(), Turn { last: now, ended: Ended::Right });
                seen.push(table.name.clone());
            }
        }
        assert_eq!(seen.join(" "), "b c b c b c");
    }
}
