//! Dates and durations as text: RFC 3339 in UTC, backup names, `1m30s`. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The difference of clocks, seconds, that is tolerated without a warning.
const CLOCKS_DIFFER: i64 = 300;

/// Seconds since 1970 in UTC, which is precise enough for a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The current time.
    pub fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(since.as_secs() as i64)
    }

    /// `2026-11-22T15:30:00Z`.
    pub fn rfc3339(self) -> String {
        let (y, mo, d, h, mi, s) = self.parts();
        format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}Z")
    }

    /// `20261122T153000Z`, the first part of a backup name.
    pub fn compact(self) -> String {
        let (y, mo, d, h, mi, s) = self.parts();
        format!("{y:04}{mo:02}{d:02}T{h:02}{mi:02}{s:02}Z")
    }

    /// Parses the output of [`Timestamp::rfc3339`].
    pub fn parse(text: &str) -> Option<Timestamp> {
        let b = text.as_bytes();
        let shape = b"0000-00-00T00:00:00Z";
        let fits = b.len() == shape.len()
            && b.iter().zip(shape).all(
                |(c, s)| {
                    if *s == b'0' { c.is_ascii_digit() } else { c == s }
                },
            );
        if !fits {
            return None;
        }
        let n = |from: usize, to: usize| text[from..to].parse::<i64>().ok();
        Timestamp::from_parts(n(0, 4)?, n(5, 7)?, n(8, 10)?, n(11, 13)?, n(14, 16)?, n(17, 19)?)
    }

    /// Parses the output of [`Timestamp::compact`].
    pub fn parse_compact(text: &str) -> Option<Timestamp> {
        if text.len() != 16 || !text.is_ascii() {
            return None;
        }
        let (date, time) = (&text[..9], &text[9..]);
        let spread = format!(
            "{}-{}-{}{}:{}:{}",
            &date[..4],
            &date[4..6],
            &date[6..],
            &time[..2],
            &time[2..4],
            &time[4..]
        );
        Timestamp::parse(&spread)
    }

    /// The age at `now`; zero for a time in the future.
    pub fn age(self, now: Timestamp) -> Duration {
        Duration::from_secs(now.0.saturating_sub(self.0).max(0) as u64)
    }

    /// True if it is so far in the future that a clock was or is wrong.
    pub fn is_future(self, now: Timestamp) -> bool {
        self.0 > now.0.saturating_add(CLOCKS_DIFFER)
    }

    /// The number of its month in UTC, counted from January of the year 0.
    pub fn month(self) -> i64 {
        let (year, month, ..) = self.parts();
        year * 12 + month - 1
    }

    /// The moment at its beginning.
    pub fn precise(self) -> Micros {
        Micros(self.0.saturating_mul(1_000_000))
    }

    /// Seconds since 1970 of a date and time of day; `None` where a part is out of its range.
    pub fn from_parts(y: i64, mo: i64, d: i64, h: i64, mi: i64, s: i64) -> Option<Timestamp> {
        if !(1..=12).contains(&mo) || !(1..=31).contains(&d) || h > 23 || mi > 59 || s > 60 {
            return None;
        }
        // Howard Hinnant's days_from_civil (proleptic Gregorian calendar).
        let year = if mo <= 2 { y - 1 } else { y };
        let era = year.div_euclid(400);
        let yoe = year - era * 400;
        let doy = (153 * (if mo > 2 { mo - 3 } else { mo + 9 }) + 2) / 5 + d - 1;
        let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
        let days = era * 146_097 + doe - 719_468;
        Some(Timestamp(days * 86_400 + h * 3600 + mi * 60 + s))
    }

    fn parts(self) -> (i64, i64, i64, i64, i64, i64) {
        let (days, secs) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z - era * 146_097;
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + i64::from(month <= 2);
        (year, month, day, secs / 3600, secs % 3600 / 60, secs % 60)
    }
}

/// Microseconds since 1970 in UTC: when a transaction was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

impl Micros {
    /// `2026-11-22T15:30:00Z`, and a fraction of six digits where there is one.
    pub fn rfc3339(self) -> String {
        let seconds = Timestamp(self.0.div_euclid(1_000_000)).rfc3339();
        match self.0.rem_euclid(1_000_000) {
            0 => seconds,
            fraction => seconds.replace('Z', &format!(".{fraction:06}Z")),
        }
    }

    /// Parses the output of [`Micros::rfc3339`].
    pub fn parse(text: &str) -> Option<Micros> {
        let Some((seconds, fraction)) = text.split_once('.') else {
            return Timestamp::parse(text).map(Timestamp::precise);
        };
        let fraction = fraction.strip_suffix('Z').filter(|f| f.len() == 6)?;
        let digits = fraction.bytes().all(|b| b.is_ascii_digit());
        let fraction: i64 = digits.then(|| fraction.parse().ok()).flatten()?;
        let seconds = Timestamp::parse(&format!("{seconds}Z"))?.precise();
        Some(Micros(seconds.0 + fraction))
    }

    /// The whole seconds.
    pub fn seconds(self) -> Timestamp {
        Timestamp(self.0.div_euclid(1_000_000))
    }
}

/// The longest duration, a hundred years, in seconds.
const LONGEST: f64 = 36_600.0 * 86_400.0;
/// The same as it is written.
pub const LONGEST_TEXT: &str = "36600d";

/// Parses a duration of the command line: a number with `ms`, `s`, `m`, `h` or `d`. `0` alone is
/// zero, and fractions are allowed (`1.5h`). `None` for anything else or more than 100 years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    seconds(text).filter(|seconds| *seconds <= LONGEST).map(Duration::from_secs_f64)
}

/// True for a well-formed duration that is longer than [`LONGEST_TEXT`].
pub fn is_too_long(text: &str) -> bool {
    seconds(text).is_some_and(|seconds| seconds > LONGEST)
}

fn seconds(text: &str) -> Option<f64> {
    if text == "0" {
        return Some(0.0);
    }
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "w" => 7.0 * 86_400.0,
        _ => return None,
    };
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return None;
    }
    Some(number.parse::<f64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_system_date_command() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_361_400, "2026-11-22T15:30:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp(secs).rfc3339(), text);
            assert_eq!(Timestamp::parse(text), Some(Timestamp(secs)));
            let compact = Timestamp(secs).compact();
            assert_eq!(Timestamp::parse_compact(&compact), Some(Timestamp(secs)), "{compact}");
        }
        for bad in [
            "",
            "2026-11-22",
            "2026-13-22T15:30:00Z",
            "2026-11-22T15:30:00+",
            "é026-11-22T15:30:0Z",
        ] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
        for text in ["2026-11-22T15:30:00Z", "2026-11-22T15:30:00.000001Z"] {
            let parsed = Micros::parse(text).unwrap();
            assert_eq!((parsed.rfc3339().as_str(), parsed.seconds().0), (text, 1_795_361_400));
        }
        for bad in ["2026-11-22T15:30:00.1Z", "2026-11-22T15:30:00.+00001Z", "x.000000Z"] {
            assert_eq!(Micros::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_stay_in_bounds() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5h"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("0"), Some(Duration::ZERO));
        assert!(parse_duration(LONGEST_TEXT).is_some() && is_too_long("36600.1d"));
        assert_eq!(parse_duration("2d"), Some(Duration::from_secs(172_800)));
        for bad in
            ["", "5", "s", "-1s", "1 s", "1y", "1..5s", ".5s", "5.s", "1e3s", "inf", "99999999999d"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
            assert_eq!(is_too_long(bad), bad.starts_with('9'), "{bad}");
        }
    }
}
