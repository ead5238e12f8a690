//! Decides which backups expire, and why the others are kept. Pure.
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
    let reasons = reasons(policy, now, backups);
    let gone = backups.iter().zip(reasons).filter(|(_, reasons)| reasons.is_empty());
    gone.map(|(backup, _)| backup.name.clone()).collect()
}

/// Why each of the `backups`, given oldest first, is kept, in words; one that is expired has none.
/// `all`: there is no policy; `count`, `within`: the option; `newest`; `base`: the newest grew from
/// it, or the next pass starts from it; `damaged`: it documents a loss until everything older than it has expired.
pub fn reasons(policy: Policy, now: Timestamp, backups: &[Candidate]) -> Vec<Vec<&'static str>> {
    let complete: Vec<&Candidate> = backups.iter().filter(|b| b.complete).collect();
    let by_count: HashSet<&str> = complete
        .iter()
        .rev()
        .take(policy.keep_count.unwrap_or(0))
        .map(|b| b.name.as_str())
        .collect();
    let newest = complete.last();
    let next = complete.iter().rev().find(|b| !b.open_tables).map(|b| b.name.as_str());
    let next = next.filter(|name| newest.is_some_and(|n| n.name != *name));
    let bases = [newest.and_then(|n| n.base.as_deref()), next];
    let keeps_all = policy.keep_count.is_none() && policy.keep_within.is_none();
    let mut older_is_kept = newest.is_none();
    let mut reasons = Vec::with_capacity(backups.len());
    for backup in backups {
        let name = backup.name.as_str();
        let mut why = Vec::new();
        let mut because = |word, holds| {
            if holds {
                why.push(word)
            }
        };
        because("all", keeps_all);
        if backup.complete {
            let within = policy.keep_within.is_some_and(|limit| backup.data_as_of.age(now) < limit);
            because("count", by_count.contains(name));
            because("within", within);
            because("newest", newest.is_some_and(|n| n.name == name));
        }
        because("base", bases.contains(&Some(name)));
        if backup.complete {
            older_is_kept |= !why.is_empty();
        } else if older_is_kept {
            why.push("damaged");
        }
        reasons.push(why);
    }
    reasons
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

    #[test]
    fn each_backup_that_is_kept_has_its_reasons() {
        let why = |count, days: Option<u64>, have: &str| {
            let keep_within = days.map(|d| Duration::from_secs(d * DAY as u64));
            let reasons = reasons(Policy { keep_count: count, keep_within }, NOW, &backups(have));
            reasons.iter().map(|r| r.join("+")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(why(None, None, "9 8"), "all all+newest");
        assert_eq!(why(Some(1), None, "9 8 7<9"), "base  count+newest");
        assert_eq!(why(Some(2), Some(9), "9 8 7"), " count+within count+within+newest");
        assert_eq!(why(Some(1), None, "9! 8 7!"), " count+newest damaged");
        assert_eq!(why(Some(1), None, "9! 8! 7<8"), " base count+newest");
    }
}
