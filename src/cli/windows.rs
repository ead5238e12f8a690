//! `list --windows`: what can be restored to any moment, and the gaps between.

use crate::cli::output::{columns, object, quote};
use crate::journal::history::History;
use crate::journal::windows::Window;
use crate::os::clock::Micros;
use crate::text::bytes;

/// What both forms show of a window.
struct Shown<'a> {
    window: &'a Window,
    from: &'a crate::journal::history::Point,
    to: &'a crate::journal::history::Point,
    /// Bytes of the journals within it.
    size: u64,
}

fn shown<'a>(history: &'a History, windows: &'a [Window]) -> Vec<Shown<'a>> {
    let one = |window: &'a Window| {
        let (from, to) = window.ends;
        let size = history.journal_bytes(from + 1..=to);
        Shown { window, from: &history.points[from], to: &history.points[to], size }
    };
    windows.iter().map(one).collect()
}

/// What is between two windows.
pub struct Gap {
    /// The end of the one before.
    pub from: Micros,
    /// The beginning of the next one.
    pub to: Micros,
    /// Why no journal leads on.
    pub why: String,
}

/// The first and the last moment of it that can be had by its time.
fn times(history: &History, window: &Window) -> (Micros, Micros) {
    let first = history.points[window.ends.0].began();
    (first, history.points[window.ends.1].until().max(first))
}

/// The gaps between all windows, oldest first.
pub fn gaps(history: &History) -> Vec<Gap> {
    let windows = history.windows();
    let between = windows.iter().zip(windows.iter().skip(1));
    let gap = |(before, next): (&Window, &Window)| Gap {
        from: times(history, before).1,
        to: times(history, next).0,
        why: next.gap.clone(),
    };
    between.map(gap).collect()
}

/// For people: a line for each window, and one for each gap.
pub fn table(history: &History) -> String {
    let windows = history.windows();
    let mut rows = vec![["FROM", "TO", "JOURNAL", "BACKUPS", "POSITION"].map(String::from)];
    for Shown { window, from, to, size } in shown(history, &windows) {
        let within = &history.points[window.ends.0..=window.ends.1];
        let (first, last) = times(history, window);
        let count = within.iter().filter(|point| point.is_good).count();
        rows.push([
            first.rfc3339(),
            last.rfc3339(),
            bytes(size),
            count.to_string(),
            format!("{} to {}", from.position, to.position),
        ]);
    }
    let gap = |Gap { from, to, why }: Gap| {
        format!("gap from {} to {}: {why}\n", from.rfc3339(), to.rfc3339())
    };
    let mut gaps: Vec<String> = gaps(history).into_iter().map(gap).collect();
    let after = history.damaged.iter().filter(|(_, next)| *next == history.points.len());
    gaps.extend(after.map(|(name, _)| format!("{name}: damaged\n")));
    columns(&rows) + &gaps.concat()
}

/// For programs: an array of objects.
pub fn json(history: &History) -> String {
    let windows = history.windows();
    let objects: Vec<String> = shown(history, &windows)
        .into_iter()
        .map(|Shown { window, from, to, .. }| {
            let (first, last) = times(history, window);
            object(&[
                ("from", quote(&from.position.to_string())),
                ("to", quote(&to.position.to_string())),
                ("from_time", quote(&first.rfc3339())),
                ("to_time", quote(&last.rfc3339())),
                ("from_backup", quote(&from.name)),
                ("to_backup", quote(&to.name)),
                ("gap", quote(&window.gap)),
            ])
        })
        .collect();
    if objects.is_empty() { "[]\n".into() } else { format!("[\n  {}\n]\n", objects.join(",\n  ")) }
}
