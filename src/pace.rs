//! What the parts of a long step cost, learned from those that are done.
//!
//! A table is loaded at a pace that depends on what it is made of: bytes, rows, indexes. What each
//! of these costs depends on server, disk and processor, and is not known beforehand, only about
//! how they compare. So it is fitted to the tables that were loaded so far, by least squares,
//! with that guess as one more observation: it decides while little is known, and no coefficient
//! goes astray for which nothing was seen yet.

/// Of how many things a part is made.
pub const THINGS: usize = 4;

/// How much there is of each thing in a part.
pub type Made = [f64; THINGS];

/// The relative error of the guess: what one thing costs compared with another.
const GUESS_ERROR: f64 = 0.7;
/// The relative error of a measured time, and the least, in seconds.
const TIME_ERROR: f64 = 0.1;
const LEAST_ERROR: f64 = 0.5;

/// Parts that are done, and how long each took.
#[derive(Debug, Default)]
pub struct Pace {
    done: Vec<(Made, f64)>,
}

impl Pace {
    /// A part took so many seconds.
    pub fn took(&mut self, made: Made, seconds: f64) {
        // Many small parts make one that can be measured.
        match self.done.last_mut() {
            Some((last, time)) if *time < LEAST_ERROR => {
                last.iter_mut().zip(made).for_each(|(a, b)| *a += b);
                *time += seconds;
            }
            _ => self.done.push((made, seconds)),
        }
    }

    /// Seconds that `rest` will take, where one of each thing was guessed to cost `guess` in any
    /// unit, and `now` is the part in work. Nothing before anything was measured.
    pub fn seconds(&self, guess: Made, now: (Made, f64), rest: Made) -> Option<f64> {
        let all = || self.done.iter().copied().chain([now]).filter(|(_, time)| *time > 0.0);
        let guessed: f64 = all().map(|(made, _)| dot(guess, made)).sum();
        let time: f64 = all().map(|(_, time)| time).sum();
        if guessed <= 0.0 || time < LEAST_ERROR {
            return None;
        }
        // In units of the guess, scaled to the time so far: each coefficient is about one.
        let unit = guess.map(|g| g * time / guessed);
        let mut matrix = [[0.0; THINGS]; THINGS];
        let mut right = [GUESS_ERROR.powi(-2); THINGS];
        for (row, line) in matrix.iter_mut().enumerate() {
            line[row] = GUESS_ERROR.powi(-2);
        }
        for (made, time) in all() {
            let parts: Made = std::array::from_fn(|n| unit[n] * made[n]);
            let weight = (TIME_ERROR * time).max(LEAST_ERROR).powi(-2);
            for (row, line) in matrix.iter_mut().enumerate() {
                for (cell, part) in line.iter_mut().zip(parts) {
                    *cell += weight * parts[row] * part;
                }
                right[row] += weight * parts[row] * time;
            }
        }
        // Nothing costs next to nothing, or ten times what was guessed.
        let costs = solve(matrix, right).map(|c| c.clamp(0.1, 10.0));
        Some((0..THINGS).map(|n| costs[n] * unit[n] * rest[n]).sum())
    }
}

fn dot(a: Made, b: Made) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Gauss; no pivot is sought, since the guess makes the matrix positive definite.
fn solve(mut matrix: [[f64; THINGS]; THINGS], mut right: Made) -> Made {
    for n in 0..THINGS {
        for row in n + 1..THINGS {
            let factor = matrix[row][n] / matrix[n][n];
            let above = matrix[n];
            matrix[row].iter_mut().zip(above).for_each(|(cell, up)| *cell -= factor * up);
            right[row] -= factor * right[n];
        }
    }
    for n in (0..THINGS).rev() {
        let known: f64 = (n + 1..THINGS).map(|m| matrix[n][m] * right[m]).sum();
        right[n] = (right[n] - known) / matrix[n][n];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUESS: Made = [1.0, 400.0, 5.0, 0.0];

    #[test]
    fn a_guess_that_is_right_is_kept() {
        let mut pace = Pace::default();
        assert_eq!(pace.seconds(GUESS, ([0.0; 4], 0.0), [1e6, 0.0, 0.0, 0.0]), None);
        pace.took([10e6, 0.0, 0.0, 0.0], 10.0);
        let left = pace.seconds(GUESS, ([0.0; 4], 0.0), [0.0, 25e3, 2e6, 0.0]).unwrap();
        assert!((left - 20.0).abs() < 0.1, "{left}");
    }

    #[test]
    fn a_guess_that_is_wrong_is_mended_by_what_was_seen() {
        // Rows cost a sixth of the guess: five tables of different kinds.
        let time = |made: Made| dot([1e-6, 67e-6, 4e-6, 0.0], made);
        let tables = [[146e6, 71e3, 0.0, 0.0], [36e6, 1.2e6, 0.0, 0.0], [28e6, 400e3, 45e6, 0.0]];
        let mut pace = Pace::default();
        tables.iter().for_each(|made| pace.took(*made, time(*made)));
        let rest = [69e6, 600e3, 36e6, 0.0];
        let left = pace.seconds(GUESS, ([0.0; 4], 0.0), rest).unwrap();
        assert!((left / time(rest) - 1.0).abs() < 0.15, "{left} for {}", time(rest));
        // The part in work counts with what is done of it.
        let half = rest.map(|n| n / 2.0);
        let left = pace.seconds(GUESS, (half, time(half)), half).unwrap();
        assert!((left / time(half) - 1.0).abs() < 0.1, "{left} for {}", time(half));
    }

    #[test]
    fn small_parts_are_measured_together() {
        let mut pace = Pace::default();
        for _ in 0..100_000 {
            pace.took([1e4, 10.0, 0.0, 1.0], 0.001);
        }
        assert!(pace.done.len() <= 200, "{}", pace.done.len());
    }
}
