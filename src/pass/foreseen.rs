//! What the way to a moment would take. Changes nothing.

use crate::error::Result;
use crate::journal::cut::Moment;
use crate::journal::history::{History, Route};
use crate::pass::moment::{ambiguity, check_flavor, find};
use crate::repository::journals::Stores;
use crate::supervisor::main_loop::Supervisor;

/// It.
#[derive(Debug)]
pub struct Foreseen {
    /// The backup that would be restored.
    pub backup: String,
    /// Those whose journals would be applied to it, up to the moment.
    pub journals: Vec<String>,
    /// Bytes of these journals.
    pub journal_bytes: u64,
    /// What follows them would be fetched from the primary.
    pub beyond: bool,
}

/// Finds the way to `moment`; `has_primary` if there is one to fetch from what is not stored.
///
/// # Errors
/// [`crate::error::Error::OutOfReach`]; those of reading the repository.
pub fn foresee(
    stores: &Stores,
    supervisor: &mut Supervisor,
    moment: &Moment,
    has_primary: bool,
) -> Result<Foreseen> {
    let mut crew = supervisor.crew("list", 1);
    let history = crew.alone(|| History::read(&stores.backups))?;
    check_flavor(&history, moment)?;
    let route = find(&history, moment, has_primary)?;
    if let Some(what) = ambiguity(&history, moment, &route) {
        log::warn!("{what}");
    }
    let (from, along, beyond) = match route {
        Route::Exactly(at) => (at, Vec::new(), false),
        Route::Along(from, along) => (from, along, false),
        Route::Beyond(from, along) => (from, along, true),
    };
    let steps = along.iter().map(|at| &history.points[*at]);
    let mut journals: Vec<String> = steps.filter_map(|p| p.journal_of.clone()).collect();
    journals.dedup();
    let journal_bytes = history.journal_bytes(along.iter().copied());
    Ok(Foreseen { backup: history.points[from].name.clone(), journals, journal_bytes, beyond })
}
