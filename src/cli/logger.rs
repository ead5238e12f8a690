//! The log: one fact a line, one write a line, and never a reason to fail.
//!
//! Lines go to standard error or to `--log-file`, with the time in front, or with the priority that
//! the journal understands if it reads them. simplelog filters and writes; [`Logger`] hands it each
//! line complete. A closed pipe or a full disk does not stop a pass.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use log::{Level, LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};

use crate::cli::options::Options;
use crate::error::{Error, Result};
use crate::os::clock::Timestamp;
use crate::os::terminal;
use crate::text::{harmless, system_text};

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
    let log_file = options.path("log-file");
    let journal = log_file.is_none() && is_read_by_journal();
    let to: Box<dyn Write + Send> = match log_file {
        Some(path) => Box::new(open(&path).map_err(|e| {
            let text = system_text(&e);
            Error::config(format!("cannot open --log-file {}: {text}", path.display()))
        })?),
        None => Box::new(io::stderr()),
    };
    if !options.switch("quiet") {
        terminal::draw_if_terminal();
    }
    let off = LevelFilter::Off;
    let config = ConfigBuilder::new()
        .set_max_level(off)
        .set_time_level(off)
        .set_thread_level(off)
        .set_target_level(off)
        .set_location_level(off)
        // Debug lines of other crates name hosts and packets.
        .add_filter_allow_str("rollforward")
        .build();
    let lines = Lines { to, line: Vec::new() };
    let logger = Logger { writer: WriteLogger::new(level, config, lines), journal };
    log::set_max_level(level);
    // Fails only if a logger was set before.
    let _ = log::set_boxed_logger(Box::new(logger));
    Ok(())
}

/// Opens the log file, to append to it.
fn open(path: &Path) -> io::Result<File> {
    // To open a pipe that nobody reads would take for ever.
    let is_pipe = fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
    let mut probe = OpenOptions::new();
    probe.write(true).custom_flags(libc::O_NONBLOCK);
    let unread = |e: io::Error| match e.raw_os_error() {
        Some(libc::ENXIO) => io::Error::other("it is a pipe that nobody reads"),
        _ => e,
    };
    let _probe = if is_pipe { Some(probe.open(path).map_err(unread)?) } else { None };
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Prints an error where there is no log.
pub fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "{}", harmless(text));
}

/// True if standard error is a stream of the journal, which names it by device and inode; see
/// systemd.exec(5).
fn is_read_by_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|m| stream == format!("{}:{}", m.dev(), m.ino()))
}

/// Turns each record into a line, which simplelog prints as it is.
struct Logger {
    writer: Box<WriteLogger<Lines>>,
    journal: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.writer.enabled(metadata)
    }
    fn log(&self, record: &Record<'_>) {
        let (word, priority) = match record.level() {
            Level::Error => ("error", 3),
            Level::Warn => ("warning", 4),
            Level::Info => ("info", 6),
            Level::Debug | Level::Trace => ("debug", 7),
        };
        let start = match self.journal {
            true => format!("<{priority}>"),
            false => format!("{} ", Timestamp::now().rfc3339()),
        };
        let line = format!("{start}{word}: {}", harmless(&record.args().to_string()));
        let metadata = record.metadata().clone();
        self.writer.log(&Record::builder().metadata(metadata).args(format_args!("{line}")).build());
    }
    fn flush(&self) {
        self.writer.flush();
    }
}

/// Collects the pieces that formatting writes, and passes on whole lines.
struct Lines {
    to: Box<dyn Write + Send>,
    line: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if bytes.ends_with(b"\n") {
            terminal::clear();
            let _ = self.to.write_all(&self.line);
            self.line.clear();
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
