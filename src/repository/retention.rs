//! Decides which backups expire, and why the others are kept. Pure.
//!
//! Only complete backups count: a damaged one neither fills a count nor keeps others. The newest
//! complete backup and its base are kept under any policy, and without one that keeps something nothing
//! expires. If temporary tables were open in the newest, so is the newest without any: the next pass
//! starts there. What is dated in the future counts for nothing, and stays until that time has come:
//! when it was made is not known.

use std::collections::HashSet;
use std::time::Duration;

use crate::os::clock::Timestamp;

/// Seconds.
const DAY: i64 = 86_400;

/// The periods of which the newest backup is kept, in the order of [`Policy::tiers`].
pub const TIERS: [&str; 5] = ["hourly", "daily", "weekly", "monthly", "yearly"];

/// What to keep: the union of all that is set, but for what is too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest N.
    pub keep_count: Option<usize>,
    /// Those younger than this.
    pub keep_within: Option<Duration>,
    /// The newest of each of the last so many periods, of [`TIERS`], that have one. In UTC; weeks begin
    /// on Monday, as in ISO 8601.
    pub tiers: [Option<usize>; TIERS.len()],
    /// None that is as old as this, or older.
    pub drop_after: Option<Duration>,
}

impl Policy {
    /// The policy by which nothing expires.
    pub const ALL: Policy =
        Policy { keep_count: None, keep_within: None, tiers: [None; 5], drop_after: None };

    /// True if nothing is said of what to keep, so that all is.
    fn keeps_all(&self) -> bool {
        self.keep_count.is_none()
            && self.keep_within.is_none()
            && self.tiers.iter().all(Option::is_none)
    }

    /// True if time alone lets backups expire.
    fn asks_the_clock(&self) -> bool {
        self.keep_within.is_some() || self.drop_after.is_some()
    }
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
    /// It is pinned until then.
    pub pinned_until: Option<Timestamp>,
}

/// What becomes of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Why it is kept, in words; none if it expires. `all`: nothing is said of what to keep; `count`,
    /// `within`, `hourly` and so on: the option; `newest`; `base`: the newest grew from it, or the next
    /// pass starts from it; `pin`; `future`: it is dated there; `damaged`: it documents a loss until
    /// everything older than it has expired.
    pub kept_by: Vec<&'static str>,
    /// True if it is older than the policy keeps any.
    pub too_old: bool,
}

impl Fate {
    /// True if it expires.
    pub fn expires(&self) -> bool {
        self.kept_by.is_empty()
    }
}

/// What becomes of each of the `backups`, which must be given oldest first.
pub fn judge(policy: &Policy, now: Timestamp, backups: &[Candidate]) -> Vec<Fate> {
    let is_future = |b: &Candidate| b.data_as_of.0 > now.0.saturating_add(DAY);
    let complete: Vec<&Candidate> = backups.iter().filter(|b| b.complete).collect();
    let counting: Vec<&Candidate> = complete.iter().filter(|b| !is_future(b)).copied().collect();
    // Where all are of the future it is the clock that is behind.
    let newest = counting.last().or(complete.last());
    let next = counting.iter().rev().find(|b| !b.open_tables).map(|b| b.name.as_str());
    let next = next.filter(|name| newest.is_some_and(|n| n.name != *name));
    let bases = [newest.and_then(|n| n.base.as_deref()), next];
    let by_count: HashSet<&str> = counting
        .iter()
        .rev()
        .take(policy.keep_count.unwrap_or(0))
        .map(|b| b.name.as_str())
        .collect();
    let by_tier: Vec<(&str, HashSet<&str>)> = TIERS
        .into_iter()
        .enumerate()
        .map(|(tier, word)| (word, newest_of_each(tier, policy.tiers[tier], &counting)))
        .collect();
    let mut older_is_kept = newest.is_none();
    let mut fates = Vec::with_capacity(backups.len());
    for backup in backups {
        let name = backup.name.as_str();
        let age = backup.data_as_of.age(now);
        let too_old = policy.drop_after.is_some_and(|limit| age >= limit);
        let mut kept_by = Vec::new();
        let mut because = |word, holds| {
            if holds {
                kept_by.push(word)
            }
        };
        if !too_old {
            because("all", policy.keeps_all());
            if backup.complete {
                because("count", by_count.contains(name));
                because("within", policy.keep_within.is_some_and(|limit| age < limit));
                by_tier.iter().for_each(|(word, names)| because(word, names.contains(name)));
                because("future", is_future(backup));
            }
            because("pin", backup.pinned_until.is_some_and(|end| end > now));
        }
        because("newest", newest.is_some_and(|n| n.name == name));
        because("base", bases.contains(&Some(name)));
        if backup.complete {
            older_is_kept |= !kept_by.is_empty();
        } else if older_is_kept && !too_old {
            kept_by.push("damaged");
        }
        fates.push(Fate { kept_by, too_old });
    }
    fates
}

/// The names of the newest backup in each of the last `number` periods of a tier that have one.
fn newest_of_each<'a>(
    tier: usize,
    number: Option<usize>,
    backups: &[&'a Candidate],
) -> HashSet<&'a str> {
    let mut newest_first = backups.to_vec();
    // Their order is that of names, and a clock that was set back leaves them in another one.
    newest_first.sort_by_key(|b| b.data_as_of);
    newest_first.reverse();
    newest_first.dedup_by_key(|b| period(tier, b.data_as_of));
    newest_first.iter().take(number.unwrap_or(0)).map(|b| b.name.as_str()).collect()
}

/// The number of the period, of a tier, that a time is in.
fn period(tier: usize, time: Timestamp) -> i64 {
    let days = time.0.div_euclid(DAY);
    match TIERS[tier] {
        "hourly" => time.0.div_euclid(3600),
        "daily" => days,
        // 1970 began on a Thursday. A week that begins in one year and ends in the next is one.
        "weekly" => (days + 3).div_euclid(7),
        "monthly" => time.month(),
        _ => time.month().div_euclid(12),
    }
}

/// What speaks for the time that the clock shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
    /// The primary's clock, and ours at the same moment, when the newest backup was made.
    pub primary: Option<(Timestamp, Timestamp)>,
    /// When the last pass before was, by our clock then, and how many seconds ago by a clock that nobody
    /// sets; `None` if the machine was restarted since.
    pub last_pass: Option<(Timestamp, Option<i64>)>,
}

/// Without a pass or a clock that tells, a machine may have been off for so long. Seconds.
const OFF: i64 = 7 * DAY;

impl Evidence {
    /// The latest time that it is by all of this, if the clock shows `now`; and why, if that is earlier.
    fn latest(&self, now: Timestamp) -> (Timestamp, &'static str) {
        let mut latest = (now, "");
        let mut at_most = |time: i64, why| {
            if time < latest.0.0 {
                latest = (Timestamp(time), why);
            }
        };
        if let Some((primary, ours)) = self.primary {
            at_most(
                now.0 - ours.0 + primary.0,
                "the primary's clock, when it made the newest backup",
            );
            // A jump after that, within a day, would be a strange chance.
            if (0..=DAY).contains(&(now.0 - ours.0)) {
                return latest;
            }
        }
        match self.last_pass {
            Some((then, Some(ago))) => {
                at_most(then.0.saturating_add(ago), "the time since the last pass")
            }
            Some((then, None)) => at_most(then.0 + OFF, "the last pass, before a restart"),
            None => {}
        }
        latest
    }

    /// Why nothing shall go, although the policy says so at this time: more would go than at the latest
    /// time that can be explained, by more than a day. The text names that time.
    pub fn doubt(&self, policy: &Policy, now: Timestamp, backups: &[Candidate]) -> Option<String> {
        let pin_ends = |b: &Candidate| b.pinned_until.is_some_and(|end| end <= now);
        if !policy.asks_the_clock() && !backups.iter().any(pin_ends) {
            return None;
        }
        let (latest, why) = self.latest(now);
        let explained = Timestamp(latest.0.saturating_add(DAY));
        if now <= explained {
            return None;
        }
        let then = judge(policy, explained, backups);
        let fates = judge(policy, now, backups);
        let surplus = fates.iter().zip(then).filter(|(now, then)| now.expires() && !then.expires());
        let surplus = surplus.count();
        (surplus > 0).then(|| {
            format!(
                "the clock shows {}, and by {why} it is {}: {surplus} of {} backups would expire by \
                 that alone, so nothing is pruned",
                now.rfc3339(),
                latest.rfc3339(),
                backups.len()
            )
        })
    }
}

#[cfg(test)]
mod tests;
