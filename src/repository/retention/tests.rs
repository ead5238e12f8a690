//! Policies on made-up repositories and clocks.

use super::*;

const NOW: Timestamp = Timestamp(100 * DAY);
/// Until when the pinned ones are.
const PINNED: Timestamp = Timestamp(102 * DAY);

/// Backups named by their age in days; `!` marks a damaged one, `?` one with temporary tables open,
/// `*` a pinned one, `<N` its base.
fn backups(text: &str) -> Vec<Candidate> {
    let one = |word: &str| {
        let (word, base) = word.split_once('<').map_or((word, None), |(w, b)| (w, Some(b)));
        let age = word.trim_end_matches(['!', '?', '*']);
        Candidate {
            name: age.into(),
            data_as_of: Timestamp(NOW.0 - age.parse::<i64>().unwrap() * DAY),
            base: base.map(Into::into),
            open_tables: word.contains('?'),
            complete: !word.contains('!'),
            pinned_until: word.contains('*').then_some(PINNED),
        }
    };
    text.split_whitespace().map(one).collect()
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * DAY as u64)
}

/// The names of those that go.
fn expired(policy: &Policy, now: Timestamp, backups: &[Candidate]) -> String {
    let fates = judge(policy, now, backups);
    let gone = backups.iter().zip(fates).filter(|(_, fate)| fate.expires());
    gone.map(|(b, _)| b.name.clone()).collect::<Vec<_>>().join(" ")
}

fn gone(count: Option<usize>, within: Option<u64>, text: &str) -> String {
    let policy = Policy { keep_count: count, keep_within: within.map(days), ..Policy::ALL };
    expired(&policy, NOW, &backups(text))
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// A backup named by the time it is of.
fn of(time: Timestamp) -> Candidate {
    Candidate {
        name: time.rfc3339(),
        data_as_of: time,
        base: None,
        open_tables: false,
        complete: true,
        pinned_until: None,
    }
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
        // Pinned ones stay, damaged or not, and count like others.
        (Some(1), None, "9* 8 7", "8"),
        (Some(2), None, "9 8*! 7 6", "9"),
        (Some(2), None, "9 8 7*", "9"),
    ] {
        let expected = expected.replace('!', "");
        assert_eq!(gone(count, days, have), expected, "{count:?} {days:?} of {have}");
    }
}

#[test]
fn each_backup_that_is_kept_has_its_reasons() {
    let why = |policy: Policy, have: &str| {
        let fates = judge(&policy, NOW, &backups(have));
        fates.iter().map(|f| f.kept_by.join("+")).collect::<Vec<_>>().join(" ")
    };
    let count = |n| Policy { keep_count: Some(n), ..Policy::ALL };
    assert_eq!(why(Policy::ALL, "9 8"), "all all+newest");
    assert_eq!(why(count(1), "9 8 7<9"), "base  count+newest");
    let both = Policy { keep_within: Some(days(9)), ..count(2) };
    assert_eq!(why(both, "9 8 7"), " count+within count+within+newest");
    assert_eq!(why(count(1), "9! 8 7!"), " count+newest damaged");
    assert_eq!(why(count(1), "9! 8! 7<8"), " base count+newest");
    assert_eq!(why(count(1), "9* 8 7"), "pin  count+newest");
    let tiers = Policy { tiers: [None, Some(2), None, Some(1), Some(2)], ..Policy::ALL };
    // The day 100 is in April, and day 90 is the first one of it.
    assert_eq!(why(tiers, "20 1 0"), " daily daily+monthly+yearly+newest");
    // What is dated in the future stays, and takes nobody's place.
    assert_eq!(why(count(1), "-3 1 0"), "future  count+newest");
    assert_eq!(why(count(1), "-9 -8"), "future future+newest");
}

#[test]
fn what_is_too_old_goes_for_whatever_it_was_kept() {
    let drop = Policy { drop_after: Some(days(8)), ..Policy::ALL };
    for (policy, have, expected) in [
        (drop, "9 8 7", "9 8"),
        (drop, "9* 8! 7", "9 8"),
        (Policy { keep_count: Some(3), ..drop }, "9 8 7", "9 8"),
        (Policy { keep_count: Some(1), ..drop }, "7 6 5", "7 6"),
        (Policy { tiers: [Some(9); 5], ..drop }, "90 9 8 7", "90 9 8"),
        // But what the next pass starts from.
        (drop, "12 11 10 9<11", "12 10"),
        (drop, "12 11 10? 9?<10", "12"),
    ] {
        assert_eq!(expired(&policy, NOW, &backups(have)), expected, "{policy:?} of {have}");
    }
    let fates = judge(&drop, NOW, &backups("9 8"));
    assert!(fates.iter().all(|fate| fate.too_old), "{fates:?}");
    assert_eq!(fates[1].kept_by, ["newest"]);
}

#[test]
fn a_pin_ends_when_its_time_is_over() {
    let policy = Policy { keep_count: Some(1), ..Policy::ALL };
    let have = backups("9* 8 7");
    assert_eq!(expired(&policy, Timestamp(PINNED.0 - 1), &have), "8");
    assert_eq!(expired(&policy, PINNED, &have), "9 8");
}

#[test]
fn periods_are_those_of_the_calendar_in_utc() {
    for (tier, a, b, same) in [
        ("hourly", "2026-03-29T00:59:59Z", "2026-03-29T00:00:00Z", true),
        ("hourly", "2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z", false),
        // Clocks on the wall go back here, and ours does not.
        ("hourly", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", false),
        ("daily", "2028-02-28T23:59:59Z", "2028-02-29T00:00:00Z", false),
        ("daily", "2028-02-29T00:00:00Z", "2028-02-29T23:59:59Z", true),
        ("daily", "2028-02-29T23:59:59Z", "2028-03-01T00:00:00Z", false),
        // Sunday and Monday; the first one is in week 53 of 2026, the other in week 1 of 2027.
        ("weekly", "2027-01-03T23:59:59Z", "2027-01-04T00:00:00Z", false),
        ("weekly", "2026-12-28T00:00:00Z", "2027-01-03T23:59:59Z", true),
        ("weekly", "2024-12-30T00:00:00Z", "2025-01-05T12:00:00Z", true),
        ("weekly", "2024-12-29T23:59:59Z", "2024-12-30T00:00:00Z", false),
        ("monthly", "2028-02-29T23:59:59Z", "2028-02-01T00:00:00Z", true),
        ("monthly", "2027-12-31T23:59:59Z", "2028-01-01T00:00:00Z", false),
        ("monthly", "2027-05-01T00:00:00Z", "2028-05-01T00:00:00Z", false),
        ("yearly", "2028-01-01T00:00:00Z", "2028-12-31T23:59:59Z", true),
        ("yearly", "2027-12-31T23:59:59Z", "2028-01-01T00:00:00Z", false),
    ] {
        let tier = TIERS.iter().position(|t| *t == tier).unwrap();
        assert_eq!(period(tier, at(a)) == period(tier, at(b)), same, "{a} {b} {}", TIERS[tier]);
    }
}

#[test]
fn a_period_without_a_backup_costs_no_place() {
    let policy = Policy { tiers: [None, Some(3), None, None, None], ..Policy::ALL };
    assert_eq!(expired(&policy, NOW, &backups("90 60 30 20 0")), "90 60");
}

/// A repository with a pass each night, pruned each time.
struct Nights {
    policy: Policy,
    have: Vec<Candidate>,
    evidence: Evidence,
}

impl Nights {
    /// A night at which our clock shows `shown`, and the primary's `true_time`.
    fn pass(&mut self, shown: Timestamp, true_time: Timestamp) -> Option<String> {
        let base = self.newest(shown).map(|b| b.name.clone());
        self.have.push(Candidate { base, ..of(shown) });
        // As in a repository: what is dated in the future comes first.
        self.have.sort_by_key(|b| (b.data_as_of.0 <= shown.0 + DAY, b.data_as_of));
        self.evidence.primary = Some((true_time, shown));
        let doubt = self.prune(shown);
        self.evidence.last_pass = Some((shown, None));
        doubt
    }

    fn newest(&self, now: Timestamp) -> Option<&Candidate> {
        self.have.iter().rfind(|b| b.data_as_of.0 <= now.0 + DAY)
    }

    fn prune(&mut self, now: Timestamp) -> Option<String> {
        let doubt = self.evidence.doubt(&self.policy, now, &self.have);
        if doubt.is_none() {
            let mut fates = judge(&self.policy, now, &self.have).into_iter();
            self.have.retain(|_| fates.next().is_some_and(|fate| !fate.expires()));
        }
        doubt
    }

    /// What is there, and why.
    fn table(&self, now: Timestamp) -> Vec<String> {
        let fates = judge(&self.policy, now, &self.have);
        let rows = self.have.iter().zip(fates);
        rows.map(|(b, f)| format!("{} {}", &b.name[..10], f.kept_by.join(" "))).collect()
    }
}

const TEN_YEARS: Policy = Policy {
    keep_count: None,
    keep_within: None,
    tiers: [None, Some(7), Some(5), Some(12), Some(10)],
    drop_after: None,
};

/// Nights at half past three from the first of January of 2020 on, for so many days.
fn nights(policy: Policy, number: i64) -> (Nights, Timestamp) {
    let mut nights = Nights { policy, have: Vec::new(), evidence: Evidence::default() };
    let mut now = at("2020-01-01T03:30:00Z");
    for _ in 0..number {
        assert_eq!(nights.pass(now, now), None);
        now.0 += DAY;
    }
    now.0 -= DAY;
    (nights, now)
}

#[test]
fn ten_years_of_nights_leave_what_the_policy_names() {
    // Until the 31st of December of 2029, a Monday: three leap days are among them.
    let (nights, now) = nights(TEN_YEARS, 3653);
    assert_eq!(now, at("2029-12-31T03:30:00Z"));
    assert_eq!(
        nights.table(now),
        [
            "2020-12-31 yearly",
            "2021-12-31 yearly",
            "2022-12-31 yearly",
            "2023-12-31 yearly",
            "2024-12-31 yearly",
            "2025-12-31 yearly",
            "2026-12-31 yearly",
            "2027-12-31 yearly",
            "2028-12-31 yearly",
            "2029-01-31 monthly",
            "2029-02-28 monthly",
            "2029-03-31 monthly",
            "2029-04-30 monthly",
            "2029-05-31 monthly",
            "2029-06-30 monthly",
            "2029-07-31 monthly",
            "2029-08-31 monthly",
            "2029-09-30 monthly",
            "2029-10-31 monthly",
            "2029-11-30 monthly",
            "2029-12-09 weekly",
            "2029-12-16 weekly",
            "2029-12-23 weekly",
            "2029-12-25 daily",
            "2029-12-26 daily",
            "2029-12-27 daily",
            "2029-12-28 daily",
            "2029-12-29 daily",
            "2029-12-30 daily weekly base",
            "2029-12-31 daily weekly monthly yearly newest",
        ]
    );
}

#[test]
fn a_clock_sixty_days_ahead_loses_nothing() {
    let within = Policy { keep_within: Some(days(30)), ..Policy::ALL };
    for policy in [within, Policy { drop_after: Some(days(30)), ..within }] {
        let (mut nights, mut now) = nights(policy, 40);
        let before: Vec<String> = nights.have.iter().map(|b| b.name.clone()).collect();
        assert_eq!(before.len(), 30);
        // The clock is ahead for three nights; somebody prunes by hand, too.
        for _ in 0..3 {
            now.0 += DAY;
            let shown = Timestamp(now.0 + 60 * DAY);
            assert!(nights.pass(shown, now).is_some_and(|doubt| doubt.contains("the primary's")));
            assert!(nights.prune(Timestamp(shown.0 + 3600)).is_some());
        }
        let all: Vec<String> = nights.have.iter().map(|b| b.name.clone()).collect();
        assert!(all.len() == 33 && before.iter().all(|name| all.contains(name)), "{all:?}");
        // It is right again: what is within the 30 days is there, and what was dated in the future.
        now.0 += DAY;
        assert_eq!(nights.pass(now, now), None);
        let young: Vec<&String> =
            before.iter().filter(|name| at(name).age(now) < days(30)).collect();
        assert_eq!(young.len(), 26);
        let left: Vec<&String> = nights.have.iter().map(|b| &b.name).collect();
        assert!(young.iter().all(|name| left.contains(name)), "{left:?}");
        let table = nights.table(now);
        assert_eq!(table.iter().filter(|row| row.ends_with(" future")).count(), 3, "{table:?}");
        // They are of that time once it has come, and go when they are old.
        for _ in 0..100 {
            now.0 += DAY;
            assert_eq!(nights.pass(now, now), None);
        }
        assert_eq!(nights.have.len(), 30);
    }
}

#[test]
fn a_long_rest_the_primary_confirms_is_no_jump() {
    let (mut nights, mut now) = nights(Policy { keep_within: Some(days(30)), ..Policy::ALL }, 40);
    now.0 += 60 * DAY;
    // By hand, after a restart, nobody knows.
    let doubt = nights.prune(now).unwrap();
    assert!(doubt.contains("20 of 30 backups") && doubt.contains("a restart"), "{doubt}");
    // The time since is known; then it is explained.
    let since = nights.evidence.last_pass.map(|(then, _)| (then, Some(60 * DAY)));
    let known = Evidence { last_pass: since, ..nights.evidence };
    assert_eq!(known.doubt(&nights.policy, now, &nights.have), None);
    let moved = Evidence { last_pass: since.map(|(then, _)| (then, Some(3600))), ..known };
    assert!(moved.doubt(&nights.policy, now, &nights.have).is_some());
    assert_eq!(nights.pass(now, now), None);
    assert_eq!(nights.have.len(), 2);
}

#[test]
fn only_what_the_clock_takes_is_doubted() {
    let jump = Evidence { last_pass: Some((NOW, Some(0))), primary: None };
    let later = Timestamp(NOW.0 + 60 * DAY);
    let count = Policy { keep_count: Some(1), ..Policy::ALL };
    assert_eq!(jump.doubt(&count, later, &backups("9 8 7")), None);
    assert_eq!(jump.doubt(&TEN_YEARS, later, &backups("9 8 7")), None);
    // The end of a pin is a time.
    assert!(jump.doubt(&count, later, &backups("9* 8 7")).is_some());
    let within = Policy { keep_within: Some(days(70)), ..Policy::ALL };
    assert!(jump.doubt(&within, later, &backups("9 8 7")).is_none());
    assert!(jump.doubt(&within, later, &backups("19 8 7")).is_some());
    // It goes at the time that is explained as well.
    assert!(jump.doubt(&within, later, &backups("80 8 7")).is_none());
    assert!(Evidence::default().doubt(&within, later, &backups("19 8 7")).is_none());
}

#[test]
fn a_clock_that_is_behind_loses_nothing() {
    let (mut nights, now) = nights(Policy { keep_count: Some(7), ..Policy::ALL }, 10);
    assert_eq!(nights.have.len(), 7);
    let behind = Timestamp(now.0 - 60 * DAY);
    assert_eq!(nights.pass(behind, now), None);
    assert_eq!(nights.have.len(), 8);
}
