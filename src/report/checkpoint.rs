//! The checkpoint file: where the pass is, for people, monitors and the next pass.
//!
//! Lines of `key=value`, replaced whole by rename. It is written with fsync at each change of
//! phase and at the end, and without while running: at most once a second when something moved,
//! at least every ten seconds. Failing to write it is a warning once, never the end of a pass:
//! it is a witness, not the work. Keys and their meaning: the contract.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::os::clock::Timestamp;
use crate::os::files;
use crate::os::terminal;
use crate::report::metrics::Metrics;
use crate::report::progress::{Meter, Unit};

/// At most this often while something moves.
const OFTEN: Duration = Duration::from_secs(1);
/// At least this often.
const SELDOM: Duration = Duration::from_secs(10);
/// A longer file is no checkpoint.
const LARGEST: u64 = 1 << 20;
/// Longest `message`, bytes.
const MESSAGE_BYTES: usize = 500;

/// What a checkpoint says: its keys and values in the order of the contract.
pub type Facts = BTreeMap<String, String>;

/// The keys that a pass writes, after `format`.
pub const KEYS: [&str; 19] = [
    "state",
    "phase",
    "cause",
    "message",
    "position",
    "goal",
    "primary",
    "base_backup",
    "new_backup",
    "failures",
    "exit_status",
    "pid",
    "mysqld_pid",
    "socket",
    "bytes_done",
    "bytes_total",
    "started",
    "updated",
    "progressed",
];

/// The checkpoint of a running pass.
pub struct Checkpoint {
    path: Option<PathBuf>,
    facts: Facts,
    written: Instant,
    moved: bool,
    warned: bool,
    meter: Option<Meter>,
    /// The same for a monitor; written when the checkpoint is, but not as often.
    pub metrics: Metrics,
}

impl Checkpoint {
    /// The checkpoint of a command that keeps none.
    pub fn none() -> Checkpoint {
        let written = Instant::now();
        Checkpoint {
            path: None,
            facts: Facts::new(),
            written,
            moved: false,
            warned: false,
            meter: None,
            metrics: Metrics::none(),
        }
    }

    /// Begins one at `path`; nothing is written before the first phase. Needs both locks.
    pub fn begin(path: &Path) -> Checkpoint {
        let mut checkpoint = Checkpoint { path: Some(path.to_path_buf()), ..Checkpoint::none() };
        let now = Timestamp::now().rfc3339();
        for (key, value) in [
            ("state", "running"),
            ("failures", "0"),
            ("pid", &std::process::id().to_string()),
            ("started", &now),
            ("progressed", &now),
        ] {
            checkpoint.facts.insert(key.into(), value.into());
        }
        checkpoint
    }

    /// How far the step in work is: shown to people, and bytes kept as facts.
    pub fn measure(&mut self, step: &str, unit: Unit, done: u64, total: Option<u64>) {
        let now = Instant::now();
        if self.meter.as_ref().is_none_or(|m| m.step() != step) {
            self.meter = Some(Meter::new(step, unit, now));
        }
        if let Some(meter) = &mut self.meter {
            meter.set(done, total, now);
        }
        if unit == Unit::Bytes && self.get("bytes_done") != Some(&done.to_string()) {
            self.set("bytes_done", done);
            if let Some(total) = total {
                self.set("bytes_total", total);
            }
            self.progressed();
        }
    }

    /// The time left of the step in work, where done and total tell nothing of it; `None` if it is
    /// not known.
    pub fn expect(&mut self, left: Option<Duration>) {
        if let Some(meter) = &mut self.meter {
            meter.expect(left, Instant::now());
        }
    }

    /// Where the pass is, in a line for people: the step in work, or else the phase.
    pub fn headline(&self) -> String {
        match &self.meter {
            Some(meter) => meter.line(Instant::now()),
            None => self.get("phase").unwrap_or("starting").to_string(),
        }
    }

    /// The step in work is over.
    pub fn measured(&mut self) {
        self.meter = None;
        terminal::clear();
    }

    /// A new phase begins: written at once and durably.
    pub fn phase(&mut self, phase: &str) {
        self.measured();
        log::debug!("phase {phase}");
        self.set("phase", phase);
        self.metrics.phase(Some(phase));
        self.clear("bytes_done");
        self.clear("bytes_total");
        self.progressed();
        self.write(true);
    }

    /// Sets a fact; it is written with the next beat.
    pub fn set(&mut self, key: &str, value: impl ToString) {
        let value = if key == "message" { message(&value.to_string()) } else { value.to_string() };
        if self.facts.get(key) != Some(&value) {
            self.facts.insert(key.into(), value);
            self.moved = true;
        }
    }

    /// A fact that no longer holds.
    pub fn clear(&mut self, key: &str) {
        self.facts.remove(key);
    }

    /// There is no private mysqld any more.
    pub fn forget_mysqld(&mut self) {
        self.clear("mysqld_pid");
        self.clear("socket");
    }

    /// The value of a fact.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.facts.get(key).map(String::as_str)
    }

    /// Something moved just now.
    pub fn progressed(&mut self) {
        self.set("progressed", Timestamp::now().rfc3339());
        self.moved = true;
    }

    /// Called at every look: writes if it is time to.
    pub fn beat(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.show(Instant::now());
        }
        let age = self.written.elapsed();
        if age >= SELDOM || (self.moved && age >= OFTEN) {
            self.write(false);
        }
    }

    /// When [`Checkpoint::beat`] wants to be called at the latest.
    pub fn due(&self) -> Instant {
        self.written + if self.moved { OFTEN } else { SELDOM }
    }

    /// The last word: `state` is `done`, `failed` or `stopped`. Written durably, and never again.
    pub fn end(&mut self, state: &str, exit_status: u8) {
        self.measured();
        self.set("state", state);
        self.set("exit_status", exit_status);
        self.forget_mysqld();
        self.metrics.phase(None);
        self.write(true);
        self.path = None;
    }

    fn write(&mut self, durably: bool) {
        self.set("updated", Timestamp::now().rfc3339());
        self.written = Instant::now();
        self.moved = false;
        self.metrics.write(&self.facts, durably);
        let Some(path) = &self.path else { return };
        if let Err(e) = files::replace(path, &self.text(), 0o600, durably)
            && !std::mem::replace(&mut self.warned, true)
        {
            log::warn!("cannot write the checkpoint {}: {e}", path.display());
        }
    }

    /// What is written.
    pub fn text(&self) -> String {
        let mut text = String::from("format=1\n");
        for key in KEYS {
            if let Some(value) = self.facts.get(key) {
                text.push_str(&format!("{key}={value}\n"));
            }
        }
        text
    }
}

/// Reads the checkpoint at `path`; an absent one is `None`.
///
/// # Errors
/// Says why what is there cannot be used.
pub fn read(path: &Path) -> Result<Option<Facts>, String> {
    match files::read(path, LARGEST) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_string())?;
            parse(&text).map(Some)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge) => {
            Err("it is no checkpoint".into())
        }
        Err(e) => Err(e.to_string()),
    }
}

/// Reads the text of a checkpoint.
///
/// # Errors
/// Says which line is wrong.
pub fn parse(text: &str) -> Result<Facts, String> {
    // An editor's line ends, also on a last line without an end.
    let mut lines = text.lines().map(|line| line.trim_end_matches('\r'));
    match lines.next() {
        Some("format=1") => {}
        Some(other) if other.starts_with("format=") => {
            return Err(format!("'{other}' is not a format of this version"));
        }
        _ => return Err("it does not begin with format=1".into()),
    }
    let mut facts = Facts::new();
    for (number, line) in lines.enumerate() {
        let (key, value) =
            line.split_once('=').ok_or_else(|| format!("line {} has no '='", number + 2))?;
        facts.insert(key.to_string(), value.to_string());
    }
    Ok(facts)
}

/// One line in single quotes, at most 500 bytes with them.
fn message(text: &str) -> String {
    let clean: String =
        text.chars().map(|c| if c == '\'' || c.is_control() { '?' } else { c }).collect();
    let mut end = clean.len().min(MESSAGE_BYTES - 2);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    format!("'{}'", &clean[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_written_can_be_read() {
        let path = std::env::temp_dir().join(format!("rf-unit-cp-{}", std::process::id()));
        let mut checkpoint = Checkpoint::begin(&path);
        checkpoint.set("position", "0-1-5");
        checkpoint.set("message", "it's\na 'test'");
        checkpoint.phase("catch-up");
        checkpoint.end("stopped", 143);
        let text = fs::read_to_string(&path).unwrap();
        let facts = read(&path).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(text.starts_with("format=1\nstate=stopped\nphase=catch-up\n"), "{text}");
        assert_eq!(facts["position"], "0-1-5");
        assert_eq!(facts["exit_status"], "143");
        assert_eq!(facts["message"], "'it?s?a ?test?'");
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let long = message(&"ä".repeat(600));
        assert!(long.len() <= 500 && long.len() > 496);
        assert!(long.ends_with("ä'"));
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        for bad in ["", "format=2\n", "state=running\n", "format=1\nnonsense\n"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse("format=1\nlater_key=x\n").unwrap().contains_key("later_key"));
        assert_eq!(parse("format=1\r\nstage=ready\r").unwrap()["stage"], "ready");
    }
}
