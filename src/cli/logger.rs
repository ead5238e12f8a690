//! The log: one fact a line, one write a line, and never a reason to die.
//!
//! Lines go to standard error or to `--log-file`, with the time in front unless the journal
//! reads them: then with the priority that it understands. simplelog writes in pieces; the
//! [`Lines`] behind it puts them together. A closed pipe or a full disk does not stop a pass.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use log::LevelFilter;
use simplelog::{ConfigBuilder, WriteLogger};

use crate::cli::options::Options;
use crate::error::{Error, Result};
use crate::os::clock::Timestamp;
use crate::os::terminal;
use crate::text::system_text;

/// Starts the log as `-v`, `-q` and `--log-file` say.
///
/// # Errors
/// When the log file cannot be opened.
pub fn start(options: &Options) -> Result<()> {
    let level = match (options.switch("quiet"), options.count("verbose")) {
        (true, _) => LevelFilter::Warn,
        (false, 0) => LevelFilter::Info,
        (false, 1) => LevelFilter::Debug,
        (false, _) => LevelFilter::Trace,
    };
    let to: Box<dyn Write + Send> = match options.path("log-file") {
        Some(path) => {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
            Box::new(file.map_err(|e| {
                let text = system_text(&e);
                Error::config(format!("cannot open --log-file {}: {text}", path.display()))
            })?)
        }
        None => Box::new(io::stderr()),
    };
    if !options.switch("quiet") {
        terminal::draw_if_terminal();
    }
    let journal = options.path("log-file").is_none() && is_the_journals();
    let off = LevelFilter::Off;
    let config = ConfigBuilder::new()
        .set_time_level(off)
        .set_thread_level(off)
        .set_target_level(off)
        .set_location_level(off)
        // Only our own words: the crates' debug lines name hosts and packets.
        .add_filter_allow_str("rollforward")
        .build();
    let lines = Lines { to, journal, line: Vec::new() };
    // Fails only when a logger was set before.
    let _ = WriteLogger::init(level, config, lines);
    Ok(())
}

/// A line on standard error where there is no log yet.
pub fn last_words(text: &str) {
    let line: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let _ = writeln!(io::stderr(), "{line}");
}

/// Does the journal read our standard error? It says so by device and inode; systemd.exec(5).
fn is_the_journals() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(meta) = File::open("/proc/self/fd/2").and_then(|f| f.metadata()) else {
        // A socket cannot be opened by that path, but it can be looked at.
        return std::fs::metadata("/proc/self/fd/2")
            .is_ok_and(|m| stream == format!("{}:{}", m.dev(), m.ino()));
    };
    stream == format!("{}:{}", meta.dev(), meta.ino())
}

/// Puts the pieces of a line together and writes it at once.
struct Lines {
    to: Box<dyn Write + Send>,
    journal: bool,
    line: Vec<u8>,
}

impl Lines {
    fn finish(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        let (level, text) =
            line.strip_prefix('[').and_then(|l| l.split_once("] ")).unwrap_or(("INFO", &line));
        let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let (word, priority) = match level {
            "ERROR" => ("error", 3),
            "WARN" => ("warning", 4),
            "INFO" => ("info", 6),
            _ => ("debug", 7),
        };
        let whole = if self.journal {
            format!("<{priority}>{word}: {text}\n")
        } else {
            format!("{} {word}: {text}\n", Timestamp::now().rfc3339())
        };
        terminal::clear();
        let _ = self.to.write_all(whole.as_bytes());
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            if *byte == b'\n' {
                self.finish();
            } else {
                self.line.push(*byte);
            }
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
