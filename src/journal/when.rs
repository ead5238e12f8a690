//! `--until WHEN`: a time, a GTID, or `before:` a GTID. Pure but for the local time zone.

use crate::journal::cut::Moment;
use crate::mysql::gtid::Gtid;
use crate::os::clock::{Micros, Timestamp};
use crate::os::sys;

/// No zone differs from UTC by more.
const DAY: i64 = 86_400;
/// What a moment may look like.
const FORMS: &str = "a time such as 2026-11-28T10:13:59Z or (local) 2026-11-28T10:13:59, a GTID, or \
    before:GTID";

/// Parses a moment. A time without a zone is local.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse(text: &str) -> Result<Moment, String> {
    parse_in(text, sys::local_offset)
}

/// The same, where `offset` are the seconds that local time is east of UTC at an instant.
fn parse_in(text: &str, offset: impl Fn(i64) -> Option<i32>) -> Result<Moment, String> {
    let malformed = || format!("malformed moment '{text}': {FORMS}");
    if let Some(gtid) = text.strip_prefix("before:") {
        return Gtid::parse(gtid).map(Moment::Before).ok_or_else(malformed);
    }
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    if shape.starts_with("0000-00-00") {
        if shape.len() == 10 {
            return Err(format!("'{text}' is a day: say the time, too, as in {text}T00:00:00"));
        }
        return time(text, offset).ok_or_else(malformed)?.map(Moment::Time);
    }
    Gtid::parse(text).map(Moment::After).ok_or_else(malformed)
}

/// `None` if it is none.
fn time(text: &str, offset: impl Fn(i64) -> Option<i32>) -> Option<Result<Micros, String>> {
    let (day, rest) = (text.get(..10)?, text.get(10..)?);
    let clock = rest.strip_prefix(['T', 't', ' '])?;
    let seconds = clock.get(..8)?;
    // One second more than a minute has is that of a leap; nobody commits in it.
    let whole = Timestamp::parse(&format!("{day}T{seconds}Z"))?.0;
    let is_real = Timestamp(whole).rfc3339() == format!("{day}T{seconds}Z");
    let mut rest = clock.get(8..)?;
    let mut fraction = 0;
    if let Some(digits) = rest.strip_prefix('.') {
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, after) = digits.split_at(length);
        // What is finer than a microsecond is cut off.
        let six: String = digits.chars().chain("000000".chars()).take(6).collect();
        fraction = (length > 0).then(|| six.parse::<i64>().ok()).flatten()?;
        rest = after;
    }
    if !is_real {
        return None;
    }
    let utc = match rest {
        "" => match local(whole, offset).as_slice() {
            [one] => *one,
            [] => return Some(Err(format!("there is no {text} here: clocks were put forward"))),
            _ => {
                return Some(Err(format!(
                    "{text} occurs twice here, since clocks were put back: give it with a zone"
                )));
            }
        },
        "Z" | "z" => whole,
        zone => whole - distance(zone)?,
    };
    Some(Ok(Micros(Timestamp(utc).precise().0 + fraction)))
}

/// The instants at which a local clock shows `whole`.
fn local(whole: i64, offset: impl Fn(i64) -> Option<i32>) -> Vec<i64> {
    let around = [whole - DAY, whole + DAY].map(|at| offset(at).map(i64::from));
    let mut found: Vec<i64> = around
        .into_iter()
        .flatten()
        .map(|east| whole - east)
        .filter(|at| offset(*at).is_some_and(|east| at + i64::from(east) == whole))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Seconds east of UTC: `+02:00`.
fn distance(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, zone.strip_prefix('-')?),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str, most: i64| -> Option<i64> {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten().filter(|n| *n <= most)
    };
    Some(sign * (number(hours, 23)? * 3600 + number(minutes, 59)? * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One hour east of UTC in winter, two in summer, as in Berlin in 2026.
    fn berlin(at: i64) -> Option<i32> {
        let summer = 1_774_746_000..1_792_890_000;
        Some(if summer.contains(&at) { 7200 } else { 3600 })
    }

    fn at(text: &str) -> String {
        match parse_in(text, berlin) {
            Ok(Moment::Time(time)) => time.rfc3339(),
            Ok(moment) => format!("{moment:?}"),
            Err(what) => what,
        }
    }

    #[test]
    fn times_have_a_zone_or_are_local() {
        for (text, utc) in [
            ("2026-11-28T10:13:59Z", "2026-11-28T10:13:59Z"),
            ("2026-11-28 10:13:59z", "2026-11-28T10:13:59Z"),
            ("2026-11-28T10:13:59+02:00", "2026-11-28T08:13:59Z"),
            ("2026-11-28T23:13:59.25-01:30", "2026-11-29T00:43:59.250000Z"),
            ("2026-11-28T10:13:59.1234567Z", "2026-11-28T10:13:59.123456Z"),
            ("2026-11-28T10:13:59", "2026-11-28T09:13:59Z"),
            ("2026-07-28T10:13:59", "2026-07-28T08:13:59Z"),
        ] {
            assert_eq!(at(text), utc, "{text}");
        }
        assert!(at("2026-03-29T02:30:00").contains("put forward"));
        assert!(at("2026-10-25T02:30:00").contains("twice"));
        assert_eq!(at("2026-10-25T02:30:00+02:00"), "2026-10-25T00:30:00Z");
    }

    #[test]
    fn gtids_of_both_flavors_are_moments() {
        let gtid = |text: &str| Gtid::parse(text).unwrap();
        let my = "3e11fa47-71ca-11e1-9e33-c80aa9429562:tag:7";
        assert_eq!(parse("0-1-42"), Ok(Moment::After(gtid("0-1-42"))));
        assert_eq!(parse(my), Ok(Moment::After(gtid(my))));
        assert_eq!(parse(&format!("before:{my}")), Ok(Moment::Before(gtid(my))));
    }

    #[test]
    fn what_is_no_moment_is_refused_with_examples() {
        for text in [
            "",
            "now",
            "yesterday",
            "10:13:59",
            "2026-11-28T10:13",
            "2026-11-28T25:13:59Z",
            "2026-02-30T10:13:59Z",
            "2026-11-28T10:13:59CET",
            "2026-11-28T10:13:59+2:00",
            "2026-11-28T10:13:59.Z",
            "2026-11-28T10:13:59+24:00",
            "2026-11-28T10:13:59é",
            "before:",
            "before:2026-11-28T10:13:59Z",
            "before:0-1-2,1-1-1",
            "0-1",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7",
        ] {
            let said = parse_in(text, berlin).unwrap_err();
            assert!(said.contains("malformed moment") && said.contains("GTID"), "{text}: {said}");
        }
        assert!(at("2026-11-28").contains("2026-11-28T00:00:00"));
    }
}
