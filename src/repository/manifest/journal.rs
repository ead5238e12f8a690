//! The journal of a backup: the relay logs that led to it from its base, or why there are none.

use std::path::PathBuf;

use super::blocks::FileEntry;
use crate::mysql::primary_log::PrimaryLog;
use crate::os::clock::Micros;

/// The journal of a pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// Its logs in order: each leads on from where the one before has led to.
    pub logs: Vec<LogEntry>,
    /// Why there is none, although there is a base.
    pub gap: Option<String>,
    /// The clock of the primary when the goal was read: all that was committed later is in a later journal.
    pub as_of: Option<Micros>,
    /// The log of the primary that led to the position: nothing there is from a later one.
    pub last_log: Option<PrimaryLog>,
}

/// A log of a journal, and where its content is. It is no part of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The log as a file, named [`path`].
    pub file: FileEntry,
    /// From where to where it leads.
    pub span: Span,
}

/// From where to where a log leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The position before the first transaction that ends in it.
    pub from: String,
    /// The position after the last one.
    pub to: String,
    /// The earliest and the latest time of these transactions, if there are any.
    pub times: Option<(Micros, Micros)>,
}

/// What a log of a journal is called, by its number from 1.
pub fn path(number: usize) -> PathBuf {
    format!("journal/{number:06}").into()
}

impl Span {
    /// The words of a manifest's line.
    pub(super) fn words(&self) -> String {
        let position = |text: &str| if text.is_empty() { "-".into() } else { text.to_string() };
        let times = match self.times {
            Some((first, last)) => format!("{} {}", first.rfc3339(), last.rfc3339()),
            None => "- -".into(),
        };
        format!("{} {} {times}", position(&self.from), position(&self.to))
    }

    /// Parses [`Span::words`].
    pub(super) fn parse([from, to, first, last]: [&str; 4]) -> Result<Span, String> {
        let position = |word: &str| if word == "-" { String::new() } else { word.to_string() };
        let times = match (first, last) {
            ("-", "-") => None,
            _ => match (Micros::parse(first), Micros::parse(last)) {
                (Some(first), Some(last)) if first <= last => Some((first, last)),
                _ => return Err(format!("{first} and {last} are not two times in order")),
            },
        };
        Ok(Span { from: position(from), to: position(to), times })
    }
}

impl Journal {
    /// Checks that its logs lead on from each other, and to `position`.
    pub(super) fn check(&self, position: &str) -> Result<(), String> {
        let leads_on = self.logs.windows(2).all(|two| two[0].span.to == two[1].span.from);
        if !leads_on {
            return Err("a log of the journal does not begin where the one before ends".into());
        }
        match self.logs.last() {
            Some(last) if last.span.to != position => {
                Err("the journal does not lead to the position of the backup".into())
            }
            Some(_) if self.gap.is_some() => {
                Err("there is a journal, and a reason why there is none".into())
            }
            _ => Ok(()),
        }
    }

    /// Bytes of all its logs.
    pub fn size(&self) -> u64 {
        self.logs.iter().map(|log| log.file.size).sum()
    }
}
