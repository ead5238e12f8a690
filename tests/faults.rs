//! The list of faults, group by group: what no other file of the tests shows. The table is
//! `tests/FAULTS.md`.

mod contents;
mod damaged;
mod moves;
mod outages;
mod progress;
mod signals;
mod starts;
mod suspect;

use std::time::Duration;

use crate::support::{Outcome, PATIENCE, Running, Scene, alive};

/// The patience with one command.
const LONG: Duration = Duration::from_secs(120);

/// Waits until the pass has gone beyond its base; its mysqld.
#[track_caller]
pub(crate) fn wait_until_moving(scene: &Scene, pass: &mut Running) -> i32 {
    let base = scene.newest_position();
    pass.wait_for_checkpoint("progress in the catch-up", PATIENCE, |c| {
        let pid = c.number("mysqld_pid")? as i32;
        let moves = c.get("phase") == Some("catch-up") && c.get("position")? != base;
        (moves && alive(pid)).then_some(pid)
    })
}

/// The number of lines of the log that have `text` in them.
fn count(outcome: &Outcome, text: &str) -> usize {
    outcome.log().iter().filter(|l| l.contains(text)).count()
}
