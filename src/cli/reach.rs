//! What `log` can answer: of which time there are journals.

use crate::error::{Error, Result};
use crate::journal::cut::Moment;
use crate::journal::history::History;
use crate::mysql::gtid::Gtid;
use crate::os::clock::Micros;

/// The journals that there are, for people.
pub(super) fn spans(history: &History) -> String {
    let windows = history.windows();
    let spans: Vec<String> = windows
        .iter()
        .filter(|window| window.ends.0 != window.ends.1)
        .map(|window| {
            let at = |at: usize| history.points[at].began().rfc3339();
            format!("from {} to {}", at(window.ends.0), at(window.ends.1))
        })
        .collect();
    match spans.as_slice() {
        [] => "there is no journal yet: the next pass keeps one".into(),
        spans => format!("there are journals {}", spans.join(", and ")),
    }
}

/// Fails if no journal has anything of what is asked for.
pub(super) fn check_reach(
    history: &History,
    since: Option<Micros>,
    until: Option<&Moment>,
) -> Result<()> {
    let out = |what: String| {
        let what = format!("{what}; {}", spans(history));
        Err(Error::OutOfReach { what })
    };
    if let Some(Moment::After(gtid) | Moment::Before(gtid)) = until {
        let mut all = history.candidates(gtid).into_iter();
        if !all.any(|at| history.points[at].journal_size > 0) {
            return out(format!("no journal has {gtid}"));
        }
    }
    let until = match until {
        Some(Moment::Time(time)) => Some(*time),
        _ => None,
    };
    let windows = history.windows();
    let covers = windows.iter().any(|window| {
        let (first, last) = window.ends;
        first != last
            && until.is_none_or(|until| history.points[first].began() <= until)
            && since.is_none_or(|since| history.points[last].began() >= since)
    });
    if covers {
        return Ok(());
    }
    let asked = match (since, until) {
        (Some(since), Some(until)) => {
            format!("no journal has anything from {} to {}", since.rfc3339(), until.rfc3339())
        }
        (Some(since), None) => format!("no journal has anything since {}", since.rfc3339()),
        (None, Some(until)) => format!("no journal has anything until {}", until.rfc3339()),
        (None, None) => "no transaction is known".into(),
    };
    out(asked)
}

/// Fails for a transaction that did not come, if only its number did not rule it out.
pub(super) fn check_found(history: &History, gtid: &Gtid) -> Result<()> {
    if !history.having(gtid).newest.is_empty() {
        return Ok(());
    }
    let what = format!("no journal has {gtid}; {}", spans(history));
    Err(Error::OutOfReach { what })
}
