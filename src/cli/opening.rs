//! The options of `open`, made into a server to be opened.

use crate::cli::options::Options;
use crate::cli::pass_options::{absolute, means, named_primary};
use crate::error::{Error, Result};
use crate::journal::cut::Moment;
use crate::pass::program::Program;
use crate::pass::some_tables;
use crate::pass::throwaway::{Opening, Which};

/// Reads it; `moment` is `--until`. Changes nothing.
///
/// # Errors
/// [`Error::Configuration`], naming what is missing or wrong.
pub fn opening(options: &Options, moment: Option<Moment>) -> Result<Opening> {
    let which = match moment {
        Some(moment) => Which::At(moment),
        None => Which::Backup(options.backup.clone()),
    };
    let tables = match options.text("tables") {
        Some(text) => {
            some_tables::parse(text).map_err(|why| Error::config(format!("--tables: {why}")))?
        }
        None => Vec::new(),
    };
    if matches!(which, Which::At(_)) && !tables.is_empty() {
        // What was replayed may be about any table.
        return Err(Error::config("--tables is for a backup, and not for --until"));
    }
    let scratch = absolute(options.required_path("scratch")?);
    let others = ["log-file", "metrics-file", "checkpoint"];
    Ok(Opening {
        repo: absolute(options.required_path("repo")?),
        scratch,
        others: others.iter().filter_map(|name| options.path(name)).map(absolute).collect(),
        which,
        tables,
        writable: options.switch("writable"),
        program: options.program.clone().map(Program::new).transpose()?,
        means: means(options)?,
        primary: named_primary(options),
    })
}
