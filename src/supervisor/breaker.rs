//! The circuit breaker: how long to wait before the next attempt, and when to give up. Pure.
//!
//! Closed is healthy. Failure number k opens it for `base * 2^(k-1)`, at most `cap`; after that
//! time it is half-open, and the next attempt is the probe. Only progress closes it and resets the
//! count. The caller passes `now`.

use std::time::{Duration, Instant};

/// The state of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No failure since the last progress.
    Closed,
    /// Waiting until this time.
    Open(Instant),
    /// The probe is under way.
    HalfOpen,
    /// Too many failures; nothing leaves this state.
    GivenUp,
}

impl State {
    /// The word for it in metrics.
    pub fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open(_) => "open",
            State::HalfOpen => "half-open",
            State::GivenUp => "given-up",
        }
    }
}

/// Counts consecutive failures.
#[derive(Debug)]
pub struct Breaker {
    max_failures: u32,
    base: Duration,
    cap: Duration,
    failures: u32,
    state: State,
}

impl Breaker {
    /// Gives up at consecutive failure number `max_failures + 1`. Waits `base` after the first one,
    /// twice as long after each further one, and `cap` at most.
    pub fn new(max_failures: u32, base: Duration, cap: Duration) -> Breaker {
        Breaker { max_failures, base, cap, failures: 0, state: State::Closed }
    }

    /// Consecutive failures so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The number of attempts without progress.
    pub fn attempts(&self) -> u32 {
        self.max_failures.saturating_add(1)
    }

    /// True if another failure would be the last.
    pub fn is_exhausted(&self) -> bool {
        self.failures >= self.max_failures
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Counts a failure. Returns the wait before the next attempt, or `None` to give up.
    /// `shorten` between 0 and 1 takes up to a quarter off the wait, so that many passes that
    /// lost the same primary do not reconnect at once. The announced maximum still holds.
    pub fn failed(&mut self, now: Instant, shorten: f64) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if self.failures > self.max_failures {
            self.state = State::GivenUp;
            return None;
        }
        let wait = self.wait_after(self.failures).mul_f64(1.0 - shorten.clamp(0.0, 1.0) / 4.0);
        self.state = State::Open(now + wait);
        Some(wait)
    }

    /// The wait is over: the next attempt is the probe. Returns whether it may be made.
    pub fn probe(&mut self, now: Instant) -> bool {
        match self.state {
            State::Open(until) if now >= until => {
                self.state = State::HalfOpen;
                true
            }
            State::Closed | State::HalfOpen => true,
            State::Open(_) | State::GivenUp => false,
        }
    }

    /// Something new was executed: resets the count, and returns it.
    pub fn progress(&mut self) -> u32 {
        if self.state == State::GivenUp {
            return 0;
        }
        self.state = State::Closed;
        std::mem::take(&mut self.failures)
    }

    /// The longest possible sum of all waits until giving up.
    pub fn longest_wait(&self) -> Duration {
        // Beyond 64 failures each wait is the cap (or the base is zero).
        let counted = self.max_failures.min(64);
        let first: Duration = (1..=counted).map(|k| self.wait_after(k)).sum();
        first + self.wait_after(64).saturating_mul(self.max_failures - counted)
    }

    fn wait_after(&self, failures: u32) -> Duration {
        let factor = 2u32.saturating_pow(failures.saturating_sub(1));
        self.base.saturating_mul(factor).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_cap_before_giving_up() {
        let mut b = Breaker::new(5, S, S * 6);
        let now = Instant::now();
        let waits: Vec<_> = (0..6).map(|_| b.failed(now, 0.0)).collect();
        assert_eq!(waits, [Some(S), Some(S * 2), Some(S * 4), Some(S * 6), Some(S * 6), None]);
        assert_eq!(b.state(), State::GivenUp);
        assert_eq!(b.longest_wait(), S * 19);
        assert_eq!(b.progress(), 0);
        assert!(!b.probe(now + S * 100));
    }

    #[test]
    fn zero_allowed_failures_give_up_at_the_first() {
        assert_eq!(Breaker::new(0, S, S).failed(Instant::now(), 0.0), None);
        assert_eq!(Breaker::new(0, S, S).longest_wait(), Duration::ZERO);
    }

    #[test]
    fn only_progress_closes_the_breaker() {
        let mut b = Breaker::new(2, S, S * 60);
        let now = Instant::now();
        b.failed(now, 0.0);
        assert_eq!(b.state(), State::Open(now + S));
        assert!(!b.probe(now));
        assert!(b.probe(now + S));
        assert_eq!(b.state(), State::HalfOpen);
        assert_eq!(b.failed(now + S, 0.0), Some(S * 2));
        assert_eq!(b.progress(), 2);
        assert_eq!(b.state(), State::Closed);
        assert_eq!(b.failed(now, 0.0), Some(S));
    }

    #[test]
    fn jitter_only_shortens() {
        for shorten in [0.0, 0.3, 1.0, 7.0] {
            let wait = Breaker::new(1, S, S).failed(Instant::now(), shorten).unwrap();
            assert!(wait <= S && wait >= S * 3 / 4, "{wait:?}");
        }
    }

    #[test]
    fn a_thousand_failures_neither_overflow_nor_end() {
        let mut b = Breaker::new(u32::MAX, S, S * 60);
        let now = Instant::now();
        for _ in 0..1000 {
            assert!(b.failed(now, 0.0).unwrap() <= S * 60);
        }
        assert!(b.longest_wait() > S * 60 * 1000);
    }
}
