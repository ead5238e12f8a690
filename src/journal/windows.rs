//! What can be restored to any moment, and the gaps between. Pure.

use std::collections::HashMap;

use crate::journal::history::History;

/// A span of time that can be restored to any moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The backup at its beginning, and the one at its end.
    pub ends: (usize, usize),
    /// Why it does not begin where the one before ends; empty for the first.
    pub gap: String,
}

impl History {
    /// What can be restored to any moment, oldest first, without overlaps.
    pub fn windows(&self) -> Vec<Window> {
        let mut windows: Vec<Window> = Vec::new();
        // In which window each backup is.
        let mut within: Vec<Option<usize>> = Vec::new();
        for (at, point) in self.points.iter().enumerate() {
            let before = point.leads_from.as_ref().ok().and_then(|from| within[*from]);
            if let Some(number) = before {
                // What leads on from within it goes on with it, over all that is between.
                windows.truncate(number + 1);
                windows[number].ends.1 = at;
                let first = windows[number].ends.0;
                within[first..].iter_mut().flatten().for_each(|within| *within = number);
                within.push(Some(number));
                continue;
            }
            if !point.is_good {
                within.push(None);
                continue;
            }
            let damaged = self.damaged.iter().find(|(_, next)| *next == at);
            let gap = match (&point.leads_from, damaged) {
                (_, Some((name, _))) => format!("the backup {name} is damaged"),
                (Err(gap), None) => gap.clone(),
                (Ok(from), None) => format!("its journal begins at {}", self.points[*from].name),
            };
            within.push(Some(windows.len()));
            windows.push(Window { ends: (at, at), gap });
        }
        windows
    }

    /// True if all that leads on from the point `at` of `before` is here as well, in whatever journals.
    pub fn has_what_follows(&self, before: &History, at: usize) -> bool {
        let windows = self.windows();
        before.points[at..].iter().all(|point| {
            let Ok(from) = point.leads_from else { return true };
            windows.iter().any(|window| {
                let ends = (&self.points[window.ends.0], &self.points[window.ends.1]);
                before.points[from].position.contains(&ends.0.position)
                    && ends.1.position.contains(&point.position)
            })
        })
    }

    /// Bytes of the journals that lead to these points. One may lead to several.
    pub fn journal_bytes(&self, points: impl Iterator<Item = usize>) -> u64 {
        let sizes = points.map(|at| &self.points[at]).map(|p| (&p.journal_of, p.journal_size));
        sizes.collect::<HashMap<_, _>>().into_values().sum()
    }
}
