//! The time zone of the primary's machine, which the private server must share.
//!
//! A session that sets none has SYSTEM, and so has what it logs: a literal of a TIMESTAMP, a default
//! or the bound of a partition means another moment on a server of another zone. Servers tell only an
//! abbreviation of theirs. So the primary is asked for its distance from UTC month by month, and a zone
//! of the same distances is looked for here.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::os::{files, sys};
use crate::server::mysqld::Mysqld;

const DATABASE: &str = "/usr/share/zoneinfo";
/// The lists of all zones in the database, the third word of each line.
const LISTS: [&str; 2] = ["zone1970.tab", "zone.tab"];
/// The largest file of a zone or list.
const LARGEST: u64 = 1 << 20;
/// So many months of the 800 may differ by the age of two databases of one zone, whose government has
/// changed its mind. Another zone differs in more.
const FEW: usize = 120;
const MONTH: i64 = 30 * 86_400;
/// 1971 and 2037: what a TIMESTAMP can hold.
const FIRST: i64 = 31_536_000;
const LAST: i64 = 2_143_238_400;

/// Seconds east of UTC at each of the instants that are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets(Vec<i32>);

fn instants() -> impl Iterator<Item = i64> {
    (FIRST..LAST).step_by(MONTH as usize)
}

/// Makes the session see times as the machine of the server does.
pub const AS_SYSTEM: &str = "SET SESSION time_zone = 'SYSTEM'";

/// The query for [`Offsets::parse`].
pub fn query() -> String {
    let one = |at| format!("TIMESTAMPDIFF(SECOND, '1970-01-01', FROM_UNIXTIME({at})) - {at}");
    let all: Vec<String> = instants().map(one).collect();
    format!("SELECT CONCAT_WS(',', {})", all.join(", "))
}

impl Offsets {
    /// Parses an answer of `server`.
    ///
    /// # Errors
    /// [`Error::Configuration`] for what no server says.
    pub fn parse(server: &str, text: &str) -> Result<Offsets> {
        let day = |offset: &i32| (-86_400..=86_400).contains(offset);
        let all: Option<Vec<i32>> =
            text.split(',').map(|offset| offset.parse().ok().filter(day)).collect();
        match all.filter(|all| all.len() == instants().count()) {
            Some(all) => Ok(Offsets(all)),
            None => {
                Err(Error::config(format!("{server} gives distances from UTC that no zone has")))
            }
        }
    }

    /// The value of TZ for a server that is to have these; `None` if none is known that comes nearer
    /// than ours.
    pub fn zone(&self) -> Option<String> {
        let own = self.misfits(sys::local_offset);
        if own == 0 {
            return None;
        }
        if let Some(offset) = self.constant() {
            return Some(fixed(offset));
        }
        let (misfits, name) = self.nearest(Path::new(DATABASE))?;
        (misfits < own).then_some(name)
    }

    /// The name of a zone that has these, as a value of TZ; `None` if none is known.
    pub fn name(&self) -> Option<String> {
        match self.constant() {
            Some(0) => Some("UTC".into()),
            Some(offset) => Some(fixed(offset)),
            None => self.nearest(Path::new(DATABASE)).filter(|n| n.0 <= FEW).map(|(_, name)| name),
        }
    }

    fn constant(&self) -> Option<i32> {
        self.0.first().copied().filter(|first| self.0.iter().all(|offset| offset == first))
    }

    fn misfits(&self, offset: impl Fn(i64) -> Option<i32>) -> usize {
        let misfit = |(at, wanted): &(i64, &i32)| offset(*at).is_some_and(|o| o != **wanted);
        instants().zip(&self.0).filter(misfit).count()
    }

    fn differences(&self, other: &Offsets) -> usize {
        self.0.iter().zip(&other.0).filter(|(a, b)| a != b).count()
    }

    /// The zone of the database that comes nearest, and how many of the instants it misses.
    fn nearest(&self, database: &Path) -> Option<(usize, String)> {
        let list = LISTS.iter().find_map(|list| files::read(&database.join(list), LARGEST).ok())?;
        let list = String::from_utf8_lossy(&list).into_owned();
        let names =
            list.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split('\t').nth(2));
        let zones = names.filter_map(|name| {
            let zone = Zone::parse(&files::read(&database.join(name), LARGEST).ok()?)?;
            Some((self.misfits(|at| zone.offset(at)), name.to_string()))
        });
        zones.min_by_key(|(misfits, _)| *misfits)
    }
}

/// True if our own machine is in the zone that TZ would name so.
pub fn is_ours(zone: &str) -> bool {
    let ours: Option<Vec<i32>> = instants().map(sys::local_offset).collect();
    let Some(ours) = ours.map(Offsets) else { return false };
    if let Some(offset) = ours.constant() {
        return zone == fixed(offset) || (offset == 0 && zone == "UTC");
    }
    let file = files::read(&Path::new(DATABASE).join(zone), LARGEST).ok();
    let zone = file.and_then(|bytes| Zone::parse(&bytes));
    zone.is_some_and(|zone| ours.misfits(|at| zone.offset(at)) == 0)
}

/// A zone without summer time, as POSIX has it: with the sign turned round.
fn fixed(offset: i32) -> String {
    let (hours, minutes, seconds) =
        (offset.abs() / 3600, offset.abs() / 60 % 60, offset.abs() % 60);
    let (name, sign) = if offset < 0 { ('-', "") } else { ('+', "-") };
    format!("<{name}{hours:02}{minutes:02}>{sign}{hours}:{minutes:02}:{seconds:02}")
}

/// What a file of the database says (RFC 8536): from when on which distance holds.
struct Zone {
    before: i32,
    changes: Vec<(i64, i32)>,
    /// Nothing changes after the last one.
    settled: bool,
}

impl Zone {
    fn parse(bytes: &[u8]) -> Option<Zone> {
        let number = |at: usize| -> Option<usize> {
            Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
        };
        // A header is 44 bytes: what it is, its version, and six numbers.
        let counts = |at: usize| -> Option<[usize; 6]> {
            if bytes.get(at..at + 4)? != b"TZif" {
                return None;
            }
            let mut all = [0; 6];
            for (n, count) in all.iter_mut().enumerate() {
                *count = number(at + 20 + 4 * n)?;
            }
            Some(all)
        };
        let [utc, standard, leaps, times, types, letters] = counts(0)?;
        let first = 44 + times * 5 + types * 6 + letters + leaps * 8 + standard + utc;
        let [_, _, _, times, types, _] = counts(first)?;
        let at = first + 44;
        let kinds = at + times * 9;
        let offset = |kind: usize| -> Option<i32> {
            let at = kinds + 6 * kind;
            (kind < types).then_some(())?;
            Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        let mut changes = Vec::with_capacity(times);
        for n in 0..times {
            let time = bytes.get(at + 8 * n..at + 8 * n + 8)?;
            let kind = usize::from(*bytes.get(at + 8 * times + n)?);
            changes.push((i64::from_be_bytes(time.try_into().ok()?), offset(kind)?));
        }
        let [utc, standard, leaps, _, _, letters] = counts(first)?;
        let rule = kinds + types * 6 + letters + leaps * 12 + standard + utc;
        // `JST-9`, or with the days of summer time `EST5EDT,M3.2.0,M11.1.0`.
        let settled = !bytes.get(rule..)?.contains(&b',');
        Some(Zone { before: offset(0)?, changes, settled })
    }

    /// `None` where a rule follows the last change. The private server will tell.
    fn offset(&self, at: i64) -> Option<i32> {
        let next = self.changes.partition_point(|(from, _)| *from <= at);
        match next {
            0 if !self.changes.is_empty() => Some(self.before),
            n if self.settled && n == self.changes.len() => {
                Some(self.changes.last().map_or(self.before, |last| last.1))
            }
            n if n == self.changes.len() => None,
            n => Some(self.changes[n - 1].1),
        }
    }
}

/// Checks that the private server sees times as the machine of `primary` does, which has `offsets`.
/// Says so if it does not quite.
///
/// # Errors
/// [`Error::Configuration`] if not at all; the server's error.
pub fn check(mysqld: &mut Mysqld, primary: &str, offsets: &Offsets) -> Result<Option<String>> {
    mysqld.run(AS_SYSTEM)?;
    let answer = mysqld.control()?.query(&query());
    let answer = answer.map_err(|t| mysqld.lost("answer to a query", t))?;
    let ours = Offsets::parse("the private server", answer.first())?;
    let differ = ours.differences(offsets);
    if differ == 0 {
        return Ok(None);
    }
    if differ <= FEW {
        return Ok(Some(format!(
            "the time zone of primary {primary} changes at other times than here in {differ} of the \
             months from 1971 to 2037: times in these may differ; update the databases of time zones \
             (tzdata) of both machines"
        )));
    }
    let database = match fs::exists(DATABASE) {
        Ok(true) => "",
        _ => "install the database of time zones (tzdata), or ",
    };
    Err(Error::config(format!(
        "the machine of primary {primary} has another time zone, which is not known here: {database}set TZ to \
         its name, such as TZ=Europe/Rome, in the environment of rollforward"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(offset: i32) -> Offsets {
        let text = vec![offset.to_string(); instants().count()].join(",");
        Offsets::parse("x", &text).unwrap()
    }

    #[test]
    fn a_fixed_distance_needs_no_database() {
        for (offset, zone) in
            [(32_400, "<+0900>-9:00:00"), (-12_600, "<-0330>3:30:00"), (20_700, "<+0545>-5:45:00")]
        {
            assert_eq!(fixed(offset), zone);
        }
        assert!(constant(45_000).zone().is_some_and(|zone| zone == "<+1230>-12:30:00"));
    }

    #[test]
    fn what_no_zone_has_is_refused() {
        let many = vec!["0"; instants().count()].join(",");
        assert!(Offsets::parse("x", &many).is_ok());
        for bad in ["", "0,0", &many.replacen('0', "x", 1), &many.replacen('0', "999999", 1)] {
            assert!(Offsets::parse("x", bad).is_err());
        }
    }

    #[test]
    fn a_zone_of_the_database_is_found_by_its_distances() {
        let read = |name| files::read(&Path::new(DATABASE).join(name), LARGEST).ok();
        let Some(berlin) = read("Europe/Berlin").and_then(|bytes| Zone::parse(&bytes)) else {
            return;
        };
        // July 2000 and January 2001.
        assert_eq!(
            (berlin.offset(962_409_600), berlin.offset(978_307_200)),
            (Some(7200), Some(3600))
        );
        let offsets = Offsets(instants().map(|at| berlin.offset(at).unwrap_or(3600)).collect());
        let (misfits, found) = offsets.nearest(Path::new(DATABASE)).unwrap();
        assert_eq!(misfits, 0);
        let found = Zone::parse(&read(&found).unwrap()).unwrap();
        assert!(instants().all(|at| found.offset(at).is_none_or(|o| berlin.offset(at) == Some(o))));
        assert!(Zone::parse(b"TZif").is_none() && Zone::parse(&[0; 100]).is_none());
    }

    /// A database that is some years older than the other.
    #[test]
    fn a_zone_changed_by_law_is_still_the_nearest() {
        let file = files::read(&Path::new(DATABASE).join("America/Mexico_City"), LARGEST).ok();
        let Some(zone) = file.and_then(|bytes| Zone::parse(&bytes)) else { return };
        let now = Offsets(instants().map(|at| zone.offset(at).unwrap_or(-21_600)).collect());
        let mut before = now.clone();
        before.0.iter_mut().rev().take(100).for_each(|offset| *offset += 3600);
        let (misfits, _) = before.nearest(Path::new(DATABASE)).unwrap();
        assert!((1..=FEW).contains(&misfits) && now.differences(&before) == 100, "{misfits}");
    }
}
