//! Decides which backups expire. Pure.
//!
//! Only complete backups count: a damaged one neither fills the count nor keeps others. The newest
//! complete backup and its base are kept under any policy, and without a policy nothing expires. If
//! temporary tables were open in the newest, so is the newest without any: the next pass starts there.

use std::collections::HashSet;
use std::time::Duration;

use crate::os::clock::Timestamp;

/// What to keep. With both set, the union.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    /// The newest N.
    pub keep_count: Option<usize>,
    /// Those younger than this.
    pub keep_within: Option<Duration>,
}

/// A backup whose manifest could be read.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its age counts from this time.
    pub data_as_of: Timestamp,
    /// The backup it grew from.
    pub base: Option<String>,
    /// True if temporary tables were open in it.
    pub open_tables: bool,
    /// True if all its packs exist.
    pub complete: bool,
}

/// The names of the expired `backups`, oldest first, which must be given oldest first.
pub fn expired(policy: Policy, now: Timestamp, backups: &[Candidate]) -> Vec<String> {
    if policy.keep_count.is_none() && policy.keep_within.is_none() {
        return Vec::new();
    }
    let complete: Vec<&Candidate> = backups.iter().filter(|b| b.complete).collect();
    let Some(newest) = complete.last() else { return Vec::new() };
    let mut kept: HashSet<&str> = complete
        .iter()
        .rev()
        .take(policy.keep_count.unwrap_or(0))
        .chain(
            complete
                .iter()
                .filter(|b| policy.keep_within.is_some_and(|limit| b.data_as_of.age(now) < limit)),
        )
        .map(|b| b.name.as_str())
        .collect();
    kept.insert(&newest.name);
    kept.extend(newest.base.as_deref());
    let leads_on = complete.iter().rev().find(|b| !b.open_tables);
    kept.extend(leads_on.map(|b| b.name.as_str()));
    // A damaged backup documents a loss until everything older than it has expired.
    let oldest_kept = backups.iter().position(|b| b.complete && kept.contains(b.name.as_str()));
    let gone = backups.iter().enumerate().filter(|(at, b)| {
        !kept.contains(b.name.as_str()) && (b.complete || oldest_kept.is_some_and(|o| *at < o))
    });
    gone.map(|(_, b)| b.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const NOW: Timestamp = Timestamp(100 * DAY);

    /// Backups named by their age in days; `!` marks a damaged one, `?` one with temporary tables
    /// open, `<N` its base.
    fn backups(text: &str) -> Vec<Candidate> {
        let one = |word: &str| {
            let (word, base) = word.split_once('<').map_or((word, None), |(w, b)| (w, Some(b)));
            let age = word.trim_end_matches(['!', '?']);
            Candidate {
                name: age.into(),
                data_as_of: Timestamp(NOW.0 - age.parse::<i64>().unwrap() * DAY),
                base: base.map(Into::into),
                open_tables: word.ends_with('?'),
                complete: !word.ends_with('!'),
            }
        };
        text.split_whitespace().map(one).collect()
    }

    fn gone(count: Option<usize>, days: Option<u64>, text: &str) -> String {
        let keep_within = days.map(|d| Duration::from_secs(d * DAY as u64));
        let policy = Policy { keep_count: count, keep_within };
        expired(policy, NOW, &backups(text)).join(" ")
    }

    #[test]
    fn a_table_of_policies() {
        for (count, days, have, expected) in [
            (None, None, "9 8 7", ""),
            (Some(2), None, "9 8 7", "9"),
            (Some(5), None, "9 8 7", ""),
            (None, Some(8), "9 8 7", "9 8"),
            // The union of both.
            (Some(3), Some(8), "9 8 7", ""),
            (Some(1), Some(9), "9 8 7", "9"),
            // The newest is kept at any age and with any count.
            (Some(0), None, "9 8 7", "9 8"),
            (None, Some(1), "9 8 7", "9 8"),
            // So is its base.
            (Some(1), None, "9 8 7<9", "8"),
            // So is the newest one that surely leads on, and no other for that.
            (Some(1), None, "9 8 7? 6?<7", "9"),
            (Some(1), None, "9? 8?", "9"),
            (Some(1), None, "9 8! 7?<8", ""),
            (Some(1), None, "9? 8 7", "9 8"),
            // Damaged ones do not count, and expire once nothing older is kept.
            (Some(2), None, "9 8 7! 6", "9"),
            (Some(2), None, "9! 8 7! 6", "9!"),
            (Some(1), None, "9 8 7!", "9"),
            (Some(1), None, "9! 8!", ""),
            (Some(1), None, "", ""),
        ] {
            let expected = expected.replace('!', "");
            assert_eq!(gone(count, days, have), expected, "{count:?} {days:?} of {have}");
        }
    }
}
