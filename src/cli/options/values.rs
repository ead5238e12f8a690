//! The options with a value of their own kind: numbers, and what they say together.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::cli::options::Options;
use crate::error::{Error, Result};
use crate::os::clock::Timestamp;
use crate::pass::plan::Slots;
use crate::repository::pins::{LONGEST_REASON, Pin};
use crate::repository::retention::{Policy, TIERS};

/// More slots than any machine has passes.
const MOST_SLOTS: u32 = 1000;

impl Options {
    /// `--max-failures`.
    ///
    /// # Errors
    /// Names a malformed value; so do the next ones.
    pub fn max_failures(&self) -> Result<u32> {
        let number = self.number("max-failures", 0..=u32::MAX.into())?;
        Ok(number.and_then(|n| n.try_into().ok()).unwrap_or(10))
    }

    /// `--jobs`: 1 to 256.
    #[allow(missing_docs)]
    pub fn jobs(&self) -> Result<usize> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(self.number("jobs", 1..=256)?.map_or(cores.min(256), |n| n as usize))
    }

    /// `--compression-level`: 1 to 19.
    #[allow(missing_docs)]
    pub fn compression_level(&self) -> Result<i32> {
        Ok(self.number("compression-level", 1..=19)?.map_or(1, |n| n as i32))
    }

    /// What to keep: `--keep-count` and the others, `--drop-after`.
    #[allow(missing_docs)]
    pub fn retention(&self) -> Result<Policy> {
        let limit = |name| {
            let given = self.switch(name).then(|| self.duration(name, Duration::ZERO));
            given.transpose()
        };
        let mut tiers = [None; TIERS.len()];
        for (tier, word) in tiers.iter_mut().zip(TIERS) {
            *tier = self.keep_number(&format!("keep-{word}"))?;
        }
        let drop_after = limit("drop-after")?;
        if drop_after.is_some_and(|d| d.is_zero()) {
            return Err(Error::config("--drop-after must be longer than 0"));
        }
        Ok(Policy {
            keep_count: self.keep_number("keep-count")?,
            keep_within: limit("keep-within")?,
            tiers,
            drop_after,
        })
    }

    fn keep_number(&self, name: &str) -> Result<Option<usize>> {
        if self.text(name).is_some_and(|text| text.parse() == Ok(0)) {
            let text = format!("--{name} 0 would keep nothing; the minimum is 1");
            return Err(Error::config(text));
        }
        Ok(self.number(name, 1..=usize::MAX as u64)?.map(|n| n as usize))
    }

    fn number(&self, long: &str, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(text) = self.text(long) else { return Ok(None) };
        let all = format!("{} to {}", range.start(), range.end());
        Err(Error::config(match text.bytes().all(|b| b.is_ascii_digit()) {
            false => format!("malformed value '{text}' for --{long}: a whole number from {all}"),
            true => match text.parse().ok().filter(|n| range.contains(n)) {
                None => format!("--{long} {text} is out of range: {all}"),
                number => return Ok(number),
            },
        }))
    }

    /// `--slots` and `--slot-wait`.
    #[allow(missing_docs)]
    pub fn slots(&self) -> Result<Option<Slots>> {
        let Some(text) = self.text("slots") else { return Ok(None) };
        let parts = text.rsplit_once(':').filter(|(dir, _)| !dir.is_empty());
        let number =
            parts.and_then(|(_, n)| n.parse().ok()).filter(|n| (1..=MOST_SLOTS).contains(n));
        let Some(((dir, _), number)) = parts.zip(number) else {
            return Err(Error::config(format!(
                "malformed value '{text}' for --slots: DIR:N, with N from 1 to {MOST_SLOTS}"
            )));
        };
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.into());
        let wait = self.duration("slot-wait", Duration::from_secs(6 * 3600))?;
        Ok(Some(Slots { dir, number, wait }))
    }

    /// `--reason` and `--for`.
    #[allow(missing_docs)]
    pub fn pin(&self) -> Result<Pin> {
        let reason = self.text("reason").unwrap_or_default();
        if reason.len() > LONGEST_REASON {
            let text = format!("--reason is longer than {LONGEST_REASON} bytes");
            return Err(Error::config(text));
        }
        let until = match self.text("for") {
            None => None,
            Some(_) => {
                let time = self.duration("for", Duration::ZERO)?;
                if time.is_zero() {
                    return Err(Error::config("--for must be longer than 0"));
                }
                Some(Timestamp(Timestamp::now().0 + time.as_secs_f64().ceil() as i64))
            }
        };
        Ok(Pin { reason: reason.into(), until })
    }
}
