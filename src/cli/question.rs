//! What `log` is asked for.

use std::time::Duration;

use crate::cli::options::too_long;
use crate::error::{Error, Result};
use crate::journal::cut::Moment;
use crate::journal::names::Name;
use crate::journal::when;
use crate::os::clock::{Micros, Timestamp, is_too_long, parse_duration};
use crate::text::harmless;

/// Which transactions to show, and how.
#[derive(Debug, Default)]
pub struct Question {
    /// Not those before.
    pub since: Option<Micros>,
    /// Not those beyond.
    pub until: Option<Moment>,
    /// Only those that touch it.
    pub table: Option<Name>,
    /// Only definitions.
    pub ddl: bool,
    /// For programs.
    pub json: bool,
    /// What a restore has to be told besides: how its private server is run.
    pub means: Vec<String>,
}

impl Question {
    /// Of the values of `--since`, `--until` and `--table`.
    ///
    /// # Errors
    /// [`Error::Configuration`], naming the option and what is wrong with its value.
    pub fn new(since: Option<&str>, until: Option<&str>, table: Option<&str>) -> Result<Question> {
        let since = match since {
            None => None,
            Some(text) if is_too_long(text) => return Err(too_long("since", text)),
            Some(text) => Some(match parse_duration(text) {
                Some(back) => back_from_now(back),
                None => match when::parse(text) {
                    Ok(Moment::Time(time)) => time,
                    _ => {
                        return Err(Error::config(format!(
                            "--since: '{text}' is neither a duration such as 2h nor a time such as \
                             2026-11-28T10:13:59Z"
                        )));
                    }
                },
            }),
        };
        let wrong = |what| Error::config(format!("--until: {what}"));
        let until = until.map(when::parse).transpose().map_err(wrong)?;
        let table = match table {
            None => None,
            Some(text) => Some(Name::parse(text).ok_or_else(|| {
                Error::config(format!("--table: '{}' is not DB.TABLE", harmless(text)))
            })?),
        };
        Ok(Question { since, until, table, ..Question::default() })
    }
}

fn back_from_now(back: Duration) -> Micros {
    let back = i64::try_from(back.as_micros()).unwrap_or(i64::MAX);
    Micros(Timestamp::now().precise().0.saturating_sub(back))
}
