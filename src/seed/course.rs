//! The table in work: how many of its rows are to come, and how long they take by its own pace.
//!
//! Later on nothing tells more of a table than that. It is not believed where the pace changes,
//! as where rows grow longer along the table, nor where the rows so far were much shorter than
//! what the table holds: the long ones are still to come then. How many rows there are is itself
//! an estimate of the primary, so the last of them are the least sure.

use std::collections::VecDeque;

use crate::seed::pace::Guess;
use crate::seed::tables::Table;

/// A page of InnoDB, unless somebody chose otherwise.
const PAGE: f64 = (16 << 10) as f64;
/// A table of fewer pages is counted; a larger one is estimated from some of its pages.
const COUNTED: f64 = 64.0;
/// Longer rows are partly kept in pages of their own, which the estimate leaves out.
const LONG: f64 = PAGE / 4.0;
/// The least error of the primary's estimate: the table may have grown since.
const ROWS_ERROR: f64 = 0.02;
/// The error of a pace that was measured for long; what is seen comes so many seconds late.
const PACE_ERROR: f64 = 0.03;
const LATE: f64 = 1.0;
/// The pace of late is that of the last third, and of so many seconds at least.
const LATELY: f64 = 10.0;
/// What a row takes in a page beside its content, and how much of a page is filled.
const OVERHEAD: f64 = 20.0;
const FILLED: f64 = 0.93;
/// Rows that are shorter than they should be by this factor are not like the rest.
const TOO_SHORT: f64 = 1.7;

/// How many rows the table has, and the relative error of that. InnoDB's estimate is of one row
/// too few in each page.
pub fn rows_of(table: &Table) -> (f64, f64) {
    let (rows, bytes) = (table.rows as f64, table.bytes as f64);
    let pages = bytes / PAGE;
    if pages <= COUNTED || rows <= 0.0 || !table.changed.is_empty() {
        (rows, ROWS_ERROR)
    } else if bytes / rows < LONG {
        (rows + pages, ROWS_ERROR.hypot(pages / rows / 4.0))
    } else {
        (rows, 0.1)
    }
}

/// The course of one table.
#[derive(Debug)]
pub struct Course {
    rows: f64,
    error: f64,
    /// What the dump should take, where that can be told.
    content: f64,
    /// Seconds and rows loaded; the first is where the pace of late begins.
    points: VecDeque<(f64, f64)>,
    loaded: f64,
    seconds: f64,
    bytes: f64,
}

impl Course {
    /// It has just begun.
    pub fn of(table: &Table) -> Course {
        let (rows, error) = rows_of(table);
        let bytes = table.bytes as f64;
        let content = if bytes > COUNTED * PAGE { FILLED * bytes - OVERHEAD * rows } else { 0.0 };
        let points = VecDeque::from([(0.0, 0.0)]);
        Course { rows, error, content, points, loaded: 0.0, seconds: 0.0, bytes: 0.0 }
    }

    /// So many rows were loaded, and bytes of the dump written, in so many seconds.
    pub fn at(&mut self, seconds: f64, loaded: f64, bytes: f64) {
        (self.seconds, self.loaded, self.bytes) = (seconds, loaded, bytes);
        self.points.push_back((seconds, loaded));
        let since = seconds - (seconds / 3.0).max(LATELY);
        while self.points.get(1).is_some_and(|(then, _)| *then <= since) {
            self.points.pop_front();
        }
    }

    /// The share that is loaded.
    pub fn share(&self) -> f64 {
        if self.rows > 0.0 { (self.loaded / self.rows).min(1.0) } else { 0.0 }
    }

    /// Rows that are to come, and the error. Where all are there that were expected, some more
    /// are: there is an end only when it is seen. The more there were too many, the more may come.
    fn rows_left(&self) -> (f64, f64) {
        let missing = self.rows - self.loaded;
        let error = (self.rows * self.error).max(-1.5 * missing);
        let left = f64::midpoint(missing, missing.hypot(1.6 * error));
        (left, left.min(error))
    }

    /// The time it still takes, where the `whole` was guessed to take so long.
    pub fn left(&self, whole: Option<Guess>) -> Option<Guess> {
        if self.rows <= 0.0 {
            return whole;
        }
        let (left, error) = self.rows_left();
        let guessed = whole.map(|whole| whole.times(left / self.rows));
        let own = self.by_own_pace(left);
        let time = match (own, guessed) {
            (Some(own), Some(guessed)) => own.and(guessed),
            (own, guessed) => own.or(guessed)?,
        };
        let each = own.map_or(time.seconds / left, |_| self.seconds / self.loaded);
        let variance = time.variance + (each * error).powi(2) + self.still_due().powi(2);
        Some(Guess { variance, ..time })
    }

    /// Seconds for bytes that should have come with the rows by now, at the pace of those that did.
    fn still_due(&self) -> f64 {
        let due = self.content * self.share() / self.bytes.max(1.0);
        if due > TOO_SHORT { due * self.seconds } else { 0.0 }
    }

    fn by_own_pace(&self, left: f64) -> Option<Guess> {
        if self.loaded <= 0.0 || self.seconds <= 2.0 * LATE {
            return None;
        }
        let average = self.seconds / self.loaded;
        let (then, before) = *self.points.front()?;
        let lately = (self.loaded - before).max(0.0) / (self.seconds - then);
        let lately = if then > 0.0 { 1.0 / lately } else { average };
        // Nothing came for long: it may be at its end, or anything.
        let lately = lately.min(average * 10.0);
        let seconds = f64::midpoint(average, lately) * left;
        let change = (average - lately) / 2.0 * left;
        let error = [PACE_ERROR * seconds, LATE * seconds / self.seconds, change];
        Some(Guess { seconds, variance: error.iter().map(|e| e * e).sum() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: u64, bytes: u64) -> Table {
        Table { rows, bytes, ..Table::default() }
    }

    fn error(guess: Guess) -> f64 {
        guess.variance.sqrt() / guess.seconds
    }

    #[test]
    fn a_row_is_added_for_each_page() {
        // As a server said of 80,000 rows of text, and of 1,200,000 short ones.
        let (rows, error) = rows_of(&table(70_007, 164_265_984));
        assert!((rows / 80_000.0 - 1.0).abs() < 0.005 && error < 0.05, "{rows} {error}");
        assert!((rows_of(&table(1_197_585, 48_824_320)).0 / 1.2e6 - 1.0).abs() < 0.001);
        assert_eq!(rows_of(&table(300, 900_000)).0, 300.0, "few pages are counted");
        assert_eq!(rows_of(&table(300, 90_000_000)).0, 300.0, "long rows have their own pages");
        let exact = Table { changed: "MyISAM 10:00".into(), ..table(70_007, 164_265_984) };
        assert_eq!(rows_of(&exact).0, 70_007.0);
    }

    #[test]
    fn a_steady_table_is_estimated_by_its_own_pace() {
        let mut course = Course::of(&table(100_000, 10_000_000));
        let rows = course.rows;
        for second in 1..=100 {
            course.at(f64::from(second), rows * f64::from(second) / 100.0, f64::from(second) * 1e5);
            let left = course.left(None);
            if (20..85).contains(&second) {
                let left = left.unwrap();
                assert!((left.seconds - f64::from(100 - second)).abs() < 1.0, "{second}: {left:?}");
                assert!(error(left) < 0.15, "{second}: {left:?}");
            }
        }
        let left = course.left(None).unwrap();
        assert!((0.5..4.0).contains(&left.seconds) && error(left) > 0.5, "{left:?}");
        assert!(course.points.len() < 40);
    }

    #[test]
    fn a_pace_that_changes_is_not_believed() {
        let mut course = Course::of(&table(100_000, 10_000_000));
        for second in 1..=60 {
            let time = f64::from(second);
            course.at(time, 10_000.0 * time.sqrt(), time * 1e5);
        }
        let left = course.left(None).unwrap();
        assert!(error(left) > 0.2, "{left:?}");
    }

    #[test]
    fn short_rows_first_mean_that_long_ones_are_to_come() {
        let mut course = Course::of(&table(100_000, 100_000_000));
        for second in 1..=60 {
            course.at(f64::from(second), f64::from(second) * 1e3, f64::from(second) * 1e5);
        }
        assert!(error(course.left(None).unwrap()) > 1.0);
        // What was guessed of it does not know that.
        let whole = Guess { seconds: 80.0, variance: 100.0 };
        assert!(error(course.left(Some(whole)).unwrap()) > 1.0);
    }

    #[test]
    fn the_overall_guess_counts_until_the_table_is_known() {
        let whole = Guess { seconds: 50.0, variance: 900.0 };
        let mut course = Course::of(&table(100_000, 10_000_000));
        assert!((course.left(Some(whole)).unwrap().seconds - 50.0).abs() < 0.2);
        for second in 1..=40 {
            course.at(f64::from(second), f64::from(second) * 1e3, f64::from(second) * 1e5);
        }
        let left = course.left(Some(whole)).unwrap();
        assert!((55.0..62.0).contains(&left.seconds), "{left:?}");
        assert_eq!(Course::of(&table(0, 0)).left(Some(whole)), Some(whole));
    }
}
