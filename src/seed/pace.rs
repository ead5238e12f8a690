//! What the parts of a long step cost, learned from those that are done, and how sure that is.
//!
//! A table is loaded at a pace that depends on what it is made of: bytes, rows, indexes. What each
//! of these costs depends on server, disk and processor, and is not known beforehand, only about
//! how they compare. So it is fitted to the tables that were loaded so far, by least squares,
//! with that guess as one more observation: it decides while little is known, and no coefficient
//! goes astray for which nothing was seen yet. What is guessed comes with its variance: of the
//! coefficients, of each part by itself, and both larger or smaller as earlier guesses turned out.

/// Of how many things a part is made.
pub const THINGS: usize = 5;

/// How much there is of each thing in a part.
pub type Made = [f64; THINGS];

type Matrix = [Made; THINGS];

/// The relative error of what one thing costs compared with another.
const GUESS_ERROR: f64 = 0.25;
/// By how much a part differs from what its things cost; the least, in seconds.
const PART_ERROR: f64 = 0.15;
const LEAST_ERROR: f64 = 0.5;
/// These errors count as much as so many parts that were seen.
const TRUST: f64 = 5.0;
/// A part of so many seconds shows whether a guess was good.
const TELLING: f64 = 5.0;
/// One part alone proves all guesses wrong by at most so much (its error squared, in variances).
const STRANGEST: f64 = 9.0;

/// Seconds, and their variance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Guess {
    pub seconds: f64,
    pub variance: f64,
}

impl Guess {
    /// One after the other.
    pub fn plus(self, other: Guess) -> Guess {
        let seconds = self.seconds + other.seconds;
        Guess { seconds, variance: self.variance + other.variance }
    }

    /// A share of it.
    pub fn times(self, share: f64) -> Guess {
        Guess { seconds: self.seconds * share, variance: self.variance * share * share }
    }

    /// What two guesses of the same thing say together.
    pub fn and(self, other: Guess) -> Guess {
        let (a, b) = (self.variance.max(1e-9), other.variance.max(1e-9));
        let seconds = (self.seconds * b + other.seconds * a) / (a + b);
        Guess { seconds, variance: a * b / (a + b) }
    }
}

/// Parts that are done, and how long each took.
#[derive(Debug)]
pub struct Pace {
    costs: Made,
    done: Sums,
    /// The last ones, until they are long enough to be measured.
    open: (Made, f64),
    /// Squared errors of earlier guesses in their variances, and how many.
    strange: (f64, f64),
}

impl Pace {
    /// One of each thing costs about so much, in any unit.
    pub fn new(costs: Made) -> Pace {
        Pace { costs, done: Sums::default(), open: Default::default(), strange: (0.0, 0.0) }
    }

    /// A part took so many seconds.
    pub fn took(&mut self, made: Made, seconds: f64) {
        self.open.0 = plus(self.open.0, self.weigh(made));
        self.open.1 += seconds;
        if self.open.1 < LEAST_ERROR {
            return;
        }
        let (part, time) = std::mem::take(&mut self.open);
        if let Some(fit) = self.done.fit() {
            let guess = fit.guess([part].into_iter());
            let error = (time - guess.seconds).powi(2) / (guess.variance + LEAST_ERROR.powi(2));
            // Nor does a short time foretell a long one.
            let weight = (time / TELLING).min(self.done.time / time).min(1.0);
            self.strange.0 += weight * error.min(STRANGEST);
            self.strange.1 += weight;
        }
        self.done.add(part, time);
    }

    /// How long `parts` will take, where `now` is the part in work with what is done of it.
    /// Nothing before anything was measured.
    pub fn guess(&self, now: (Made, f64), parts: impl Iterator<Item = Made>) -> Option<Guess> {
        let mut sums = self.done;
        for (part, time) in [self.open, (self.weigh(now.0), now.1)] {
            sums.add(part, time);
        }
        let guess = sums.fit()?.guess(parts.map(|made| self.weigh(made)));
        let strange = (TRUST + self.strange.0) / (TRUST + self.strange.1);
        Some(Guess { variance: guess.variance * strange, ..guess })
    }

    fn weigh(&self, made: Made) -> Made {
        std::array::from_fn(|n| self.costs[n] * made[n])
    }
}

/// The sums that a fit needs.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    matrix: Matrix,
    right: Made,
    cost: f64,
    time: f64,
}

impl Sums {
    fn add(&mut self, part: Made, time: f64) {
        if time <= 0.0 {
            return;
        }
        let weight = (PART_ERROR * time).max(LEAST_ERROR).powi(-2);
        for (row, line) in self.matrix.iter_mut().enumerate() {
            for (cell, other) in line.iter_mut().zip(part) {
                *cell += weight * part[row] * other;
            }
            self.right[row] += weight * part[row] * time;
        }
        self.cost += part.iter().sum::<f64>();
        self.time += time;
    }

    fn fit(&self) -> Option<Fit> {
        if self.cost <= 0.0 || self.time < LEAST_ERROR {
            return None;
        }
        // Scaled to the time so far: each coefficient is about one.
        let unit = self.time / self.cost;
        let sure = GUESS_ERROR.powi(-2);
        let mut matrix = self.matrix.map(|line| line.map(|cell| cell * unit * unit));
        (0..THINGS).for_each(|n| matrix[n][n] += sure);
        let covariance = inverse(matrix);
        let right = self.right.map(|n| n * unit + sure);
        // Nothing costs next to nothing, or ten times what was guessed.
        let costs = covariance.map(|line| dot(line, right).clamp(0.1, 10.0));
        Some(Fit { unit, costs, covariance })
    }
}

struct Fit {
    unit: f64,
    costs: Made,
    covariance: Matrix,
}

impl Fit {
    fn guess(&self, parts: impl Iterator<Item = Made>) -> Guess {
        let (mut all, mut each) = (Made::default(), 0.0);
        for part in parts {
            let part = part.map(|n| n * self.unit);
            each += (PART_ERROR * dot(self.costs, part)).powi(2);
            all = plus(all, part);
        }
        let common = dot(all, self.covariance.map(|line| dot(line, all)));
        Guess { seconds: dot(self.costs, all), variance: common + each }
    }
}

/// Both together.
pub fn plus(a: Made, b: Made) -> Made {
    std::array::from_fn(|n| a[n] + b[n])
}

fn dot(a: Made, b: Made) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Gauss and Jordan; no pivot is sought, since the guess makes the matrix positive definite.
fn inverse(mut matrix: Matrix) -> Matrix {
    let mut inverse = Matrix::default();
    (0..THINGS).for_each(|n| inverse[n][n] = 1.0);
    for n in 0..THINGS {
        let pivot = matrix[n][n];
        for side in [&mut matrix, &mut inverse] {
            side[n] = side[n].map(|cell| cell / pivot);
        }
        for row in (0..THINGS).filter(|row| *row != n) {
            let factor = matrix[row][n];
            for side in [&mut matrix, &mut inverse] {
                let line = side[n];
                side[row].iter_mut().zip(line).for_each(|(cell, up)| *cell -= factor * up);
            }
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Made = [1.0, 65.0, 3.0, 0.0, 1.0];
    const NOTHING: (Made, f64) = ([0.0; THINGS], 0.0);

    fn guess(pace: &Pace, now: (Made, f64), part: Made) -> Guess {
        pace.guess(now, [part].into_iter()).unwrap()
    }

    #[test]
    fn a_guess_that_is_right_is_kept() {
        let mut pace = Pace::new(COSTS);
        assert_eq!(pace.guess(NOTHING, [[1e6; THINGS]].into_iter()), None);
        pace.took([10e6, 0.0, 0.0, 0.0, 0.0], 10.0);
        let left = guess(&pace, NOTHING, [0.0, 2e6 / 13.0, 10e6 / 3.0, 0.0, 0.0]);
        assert!((left.seconds - 20.0).abs() < 0.1, "{left:?}");
        // Rows and indexes were not seen yet.
        let error = left.variance.sqrt() / left.seconds;
        assert!((0.2..0.35).contains(&error), "{error}");
    }

    #[test]
    fn a_wrong_guess_is_corrected_by_measurement() {
        // Rows cost twice the guess, indexes half of it: five tables of different kinds.
        let time = |made: Made| dot([1e-6, 130e-6, 1.5e-6, 0.0, 1e-6], made);
        let tables = [
            [146e6, 71e3, 0.0, 0.0, 0.0],
            [36e6, 1.2e6, 0.0, 0.0, 0.0],
            [28e6, 400e3, 45e6, 0.0, 0.0],
        ];
        let mut pace = Pace::new(COSTS);
        tables.iter().for_each(|made| pace.took(*made, time(*made)));
        let rest = [69e6, 600e3, 36e6, 0.0, 0.0];
        let left = guess(&pace, NOTHING, rest);
        assert!((left.seconds / time(rest) - 1.0).abs() < 0.15, "{left:?} for {}", time(rest));
        // The part in work counts with what is done of it.
        let half = rest.map(|n| n / 2.0);
        let sure = guess(&pace, (half, time(half)), half);
        assert!((sure.seconds / time(half) - 1.0).abs() < 0.1, "{sure:?} for {}", time(half));
        assert!(sure.variance.sqrt() / sure.seconds < left.variance.sqrt() / left.seconds);
    }

    #[test]
    fn parts_that_went_as_guessed_make_sure_and_others_unsure() {
        let error = |times: &[f64]| {
            let mut pace = Pace::new(COSTS);
            times.iter().for_each(|time| pace.took([1e7, 1e5, 0.0, 0.0, 0.0], *time));
            let left = guess(&pace, NOTHING, [1e7, 1e5, 0.0, 0.0, 0.0]);
            left.variance.sqrt() / left.seconds
        };
        let (first, alike, strange) =
            (error(&[20.0]), error(&[20.0; 8]), error(&[20.0, 60.0, 7.0, 20.0, 80.0]));
        assert!(alike < 0.7 * first, "{alike} after {first}");
        assert!(strange > 1.2 * first, "{strange} after {first}");
    }

    #[test]
    fn small_parts_are_measured_together_and_their_errors_averaged() {
        let mut pace = Pace::new(COSTS);
        for _ in 0..20_000 {
            pace.took([1e4, 10.0, 0.0, 1.0, 0.0], 0.001);
        }
        let rest = || std::iter::repeat_n([1e4, 10.0, 0.0, 1.0, 0.0], 20_000);
        let left = pace.guess(NOTHING, rest()).unwrap();
        assert!((left.seconds - 20.0).abs() < 0.2, "{left:?}");
        assert!(left.variance.sqrt() < 2.0, "{left:?}");
    }

    #[test]
    fn of_two_guesses_the_surer_one_counts_more() {
        let (a, b) =
            (Guess { seconds: 10.0, variance: 1.0 }, Guess { seconds: 20.0, variance: 9.0 });
        assert_eq!(a.and(b), Guess { seconds: 11.0, variance: 0.9 });
        assert_eq!(a.plus(b), Guess { seconds: 30.0, variance: 10.0 });
        assert_eq!(b.times(0.5), Guess { seconds: 10.0, variance: 2.25 });
    }
}
