//! How far a long step is: amount done, total, rate and time left.
//!
//! On a terminal this is one line that is redrawn, elsewhere at most one log line a minute. The
//! rate is that of the last 30 to 60 seconds, so that a change of pace shows soon. The caller
//! passes `now`.

use std::time::{Duration, Instant};

use crate::os::terminal;
use crate::text::{bytes, short};

/// The rate is measured over at least this long, and at most twice as long.
const MEMORY: Duration = Duration::from_secs(30);
/// Between two log lines.
const LOG: Duration = Duration::from_secs(60);
/// Between two drawings.
const DRAW: Duration = Duration::from_millis(250);

/// Less time left than this is not said in numbers: what comes last (the last parcel of a slow
/// worker, the last table's indexes) is no longer like the average.
const SOON: Duration = Duration::from_secs(10);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Transactions.
    Transactions,
}

/// One step's meter.
#[derive(Debug)]
pub struct Meter {
    step: String,
    unit: Unit,
    done: u64,
    total: Option<u64>,
    began: Instant,
    /// Two past points; the rate is measured from the older one.
    older: (Instant, u64),
    newer: (Instant, u64),
    logged: Instant,
    drawn: Option<Instant>,
}

impl Meter {
    /// Begins at `now`.
    pub fn new(step: &str, unit: Unit, now: Instant) -> Meter {
        Meter {
            step: step.to_string(),
            unit,
            done: 0,
            total: None,
            began: now,
            older: (now, 0),
            newer: (now, 0),
            logged: now,
            drawn: None,
        }
    }

    /// The step that it measures.
    pub fn step(&self) -> &str {
        &self.step
    }

    /// Sets the amount done, and the total if it is known.
    pub fn set(&mut self, done: u64, total: Option<u64>, now: Instant) {
        self.done = done;
        self.total = total;
        if now.duration_since(self.newer.0) >= MEMORY {
            self.older = self.newer;
            self.newer = (now, done);
        }
    }

    /// Units per second; `None` before anything is done.
    fn rate(&self, now: Instant) -> Option<f64> {
        let seconds = now.duration_since(self.older.0).as_secs_f64();
        let done = self.done.saturating_sub(self.older.1);
        (done > 0 && seconds > 0.1).then(|| done as f64 / seconds)
    }

    /// The estimated time left.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let missing = self.total?.saturating_sub(self.done) as f64;
        let (lately, seconds) = (self.rate(now)?, now.duration_since(self.began).as_secs_f64());
        // Files are dealt out so that each stretch is a sample of all, and a disk that was slow for
        // a while will be slow again: the whole counts twice as much as the last minute.
        // Transactions follow no such order.
        let pace = match self.unit {
            Unit::Bytes => (lately + 2.0 * self.done as f64 / seconds) / 3.0,
            Unit::Transactions => lately,
        };
        Duration::try_from_secs_f64(missing / pace).ok()
    }

    /// `restore: 45 %, 1.2 GiB of 2.7 GiB, 120.0 MiB/s, 12s left`.
    pub fn line(&self, now: Instant) -> String {
        let amount = |n: u64| match self.unit {
            Unit::Bytes => bytes(n),
            Unit::Transactions => n.to_string(),
        };
        let mut line = format!("{}:", self.step);
        match self.total {
            Some(total) => {
                let percent = self.done as f64 * 100.0 / total.max(1) as f64;
                let (done, total) = (amount(self.done), amount(total));
                line += &format!(" {:.0} %, {done} of {total}", percent.min(100.0));
            }
            None => line += &format!(" {}", amount(self.done)),
        }
        if self.unit == Unit::Transactions {
            line += " transactions";
        }
        if let Some(rate) = self.rate(now) {
            line += &format!(", {}/s", amount(rate as u64));
        }
        if let Some(left) = self.left(now) {
            line += &match left {
                left if left < SOON => ", a few seconds left".to_string(),
                left => format!(", {} left", short(left)),
            };
        }
        line
    }

    /// Draws it on a terminal or else logs it, if it is time to.
    pub fn show(&mut self, now: Instant) {
        if terminal::is_enabled() {
            if self.drawn.is_none_or(|d| now.duration_since(d) >= DRAW) {
                self.drawn = Some(now);
                terminal::draw(&self.line(now));
            }
        } else if now.duration_since(self.logged) >= LOG {
            self.logged = now;
            log::info!("{}", self.line(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_estimate_holds_over_the_second_half() {
        // A step of two minutes that doubles its pace after 40 s.
        let start = Instant::now();
        let mut meter = Meter::new("restore", Unit::Bytes, start);
        let done = |t: u64| if t < 40 { t * 100 } else { 4000 + (t - 40) * 200 };
        for t in 1..=120 {
            let now = start + S * t as u32;
            meter.set(done(t), Some(done(120)), now);
            if (61..118).contains(&t) {
                let (said, true_left) = (meter.left(now).unwrap().as_secs_f64(), (120 - t) as f64);
                assert!((said / true_left - 1.0).abs() < 0.4, "at {t}: {said} for {true_left}");
            }
        }
    }

    #[test]
    fn a_steady_step_is_estimated_well() {
        let start = Instant::now();
        let mut meter = Meter::new("store", Unit::Bytes, start);
        for t in 1..60 {
            let now = start + S * t;
            meter.set(u64::from(t) * 1000, Some(60_000), now);
            let said = meter.left(now).unwrap().as_secs_f64();
            assert!((said - f64::from(60 - t)).abs() < 0.5, "at {t}: {said}");
        }
    }

    #[test]
    fn a_line_says_what_is_known() {
        let start = Instant::now();
        let mut meter = Meter::new("catch-up", Unit::Transactions, start);
        assert_eq!(meter.line(start), "catch-up: 0 transactions");
        meter.set(500, Some(2000), start + S * 10);
        assert_eq!(
            meter.line(start + S * 10),
            "catch-up: 25 %, 500 of 2000 transactions, 50/s, 30s left"
        );
        meter.set(1900, Some(2000), start + S * 20);
        assert!(meter.line(start + S * 20).ends_with(", 95/s, a few seconds left"));
        let mut meter = Meter::new("dump", Unit::Bytes, start);
        meter.set(10 << 20, None, start + S * 5);
        assert_eq!(meter.line(start + S * 5), "dump: 10.0 MiB, 2.0 MiB/s");
    }
}
