//! The checkpoint file: where the pass is, for people, monitors and the next pass.
//!
//! Lines of `key=value`, replaced whole by rename. It is written with fsync at each change of
//! phase and at the end, and without fsync in between: at most once a second when something moved,
//! at least every ten seconds. A failure to write it is one warning and does not end the pass.
//! rollforward-format(5) has the keys and their meaning.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::mysql::position::Position;
use crate::os::clock::Timestamp;
use crate::os::files;
use crate::os::terminal;
pub use crate::report::keys::Facts;
use crate::report::keys::{Key, Phase, State};
use crate::report::meter::{Meter, Unit};
use crate::report::metrics::Metrics;
use crate::report::progress::Progress;
use crate::text::{harmless, system_text};

/// At most this often while something moves.
const OFTEN: Duration = Duration::from_secs(1);
/// At least this often.
const SELDOM: Duration = Duration::from_secs(10);
/// The largest file that is read as a checkpoint.
const LARGEST: u64 = 1 << 20;
/// The longest `message`, bytes.
const MESSAGE_BYTES: usize = 500;

/// The checkpoint of a running pass.
pub struct Checkpoint {
    path: Option<PathBuf>,
    facts: Facts,
    written: Instant,
    moved: bool,
    warned: bool,
    meter: Option<Meter>,
    progress: Progress,
    /// The same for monitoring; written along with the checkpoint, but less often.
    pub metrics: Metrics,
}

impl Checkpoint {
    /// The checkpoint of a command that keeps none.
    pub fn none() -> Checkpoint {
        Checkpoint {
            path: None,
            facts: Facts::new(),
            written: Instant::now(),
            moved: false,
            warned: false,
            meter: None,
            progress: Progress::default(),
            metrics: Metrics::default(),
        }
    }

    /// A new one at `path`, first written at the first phase. Requires both locks.
    pub fn begin(path: &Path) -> Checkpoint {
        let mut checkpoint = Checkpoint { path: Some(path.to_path_buf()), ..Checkpoint::none() };
        let now = Timestamp::now().rfc3339();
        checkpoint.set(Key::State, State::Running);
        checkpoint.set(Key::Failures, 0);
        checkpoint.set(Key::Pid, std::process::id());
        checkpoint.set(Key::Started, &now);
        checkpoint.set(Key::Progressed, &now);
        checkpoint
    }

    /// How far the current step is: shown to people, and kept as facts if bytes are counted.
    pub fn measure(&mut self, step: &str, unit: Unit, done: u64, total: Option<u64>) {
        let now = Instant::now();
        if self.meter.as_ref().is_none_or(|m| m.step() != step) {
            self.meter = Some(Meter::new(step, unit, now));
        }
        if let Some(meter) = &mut self.meter {
            meter.set(done, total, now);
        }
        if unit == Unit::Bytes && self.get(Key::BytesDone) != Some(&done.to_string()) {
            self.set(Key::BytesDone, done);
            if let Some(total) = total {
                self.set(Key::BytesTotal, total);
            }
            self.progressed();
        }
    }

    /// Where the pass is, in one line for people: the current step, or else the phase.
    pub fn headline(&self) -> String {
        match &self.meter {
            Some(meter) => meter.line(Instant::now()),
            None if self.get(Key::State) == Some(State::Waiting.name()) => {
                "waiting for a slot".into()
            }
            None => self.get(Key::Phase).unwrap_or("starting").to_string(),
        }
    }

    /// How far the data has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The position to show until that of the private server is known.
    pub fn expect_at(&mut self, at: &Position) {
        self.set(Key::Position, at);
    }

    /// The data begins at `at`, which is no progress.
    pub fn start_at(&mut self, at: Position) {
        self.set(Key::Position, &at);
        self.progress.start_at(at);
    }

    /// The executed position is `at`. Returns whether it contains anything new in this pass.
    pub fn reach(&mut self, at: Position) -> bool {
        self.set(Key::Position, &at);
        self.progress.reach(at)
    }

    /// The data is gone, and its position with it.
    pub fn restart(&mut self) {
        self.progress.restart();
    }

    /// A failure was overcome: removes its cause and message.
    pub fn forget_failures(&mut self) {
        self.set(Key::Failures, 0);
        self.clear(Key::Cause);
        self.clear(Key::Message);
    }

    /// The current step is over.
    pub fn measured(&mut self) {
        self.meter = None;
        terminal::clear();
    }

    /// The pass waits, or runs again. Written at once, with fsync.
    pub fn waits(&mut self, waits: bool) {
        self.set(Key::State, if waits { State::Waiting } else { State::Running });
        self.progressed();
        self.write(true);
    }

    /// A new phase begins. Written at once, with fsync.
    pub fn phase(&mut self, phase: Phase) {
        self.measured();
        log::debug!("phase {phase}");
        self.set(Key::Phase, phase);
        self.metrics.phase(Some(phase));
        self.clear(Key::BytesDone);
        self.clear(Key::BytesTotal);
        self.progressed();
        self.write(true);
    }

    /// Sets a fact, to be written at the next tick.
    pub fn set(&mut self, key: Key, value: impl ToString) {
        let value = value.to_string();
        let value = if key == Key::Message { message(&value) } else { value };
        if self.facts.get(key.name()) != Some(&value) {
            self.facts.insert(key.name().into(), value);
            self.moved = true;
        }
    }

    /// Removes a fact that no longer holds.
    pub fn clear(&mut self, key: Key) {
        self.facts.remove(key.name());
    }

    /// The private mysqld is gone.
    pub fn forget_mysqld(&mut self) {
        self.clear(Key::MysqldPid);
        self.clear(Key::Socket);
    }

    /// The value of a fact.
    pub fn get(&self, key: Key) -> Option<&str> {
        self.facts.get(key.name()).map(String::as_str)
    }

    /// Something moved just now.
    pub fn progressed(&mut self) {
        self.set(Key::Progressed, Timestamp::now().rfc3339());
        self.moved = true;
    }

    /// Called at every turn of the loop: writes if it is time to.
    pub fn tick(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.show(Instant::now());
        }
        let age = self.written.elapsed();
        if age >= SELDOM || (self.moved && age >= OFTEN) {
            self.write(false);
        }
    }

    /// When [`Checkpoint::tick`] must be called at the latest.
    pub fn due(&self) -> Instant {
        self.written + if self.moved { OFTEN } else { SELDOM }
    }

    /// Writes the outcome with fsync; nothing is written afterwards.
    pub fn end(&mut self, state: State, exit_status: u8) {
        self.measured();
        self.set(Key::State, state);
        self.set(Key::ExitStatus, exit_status);
        self.forget_mysqld();
        self.metrics.phase(None);
        self.write(true);
        self.close();
    }

    /// Ends with the facts of the pass `before` this one, as it left them; nothing is written
    /// afterwards.
    pub fn leave_as(&mut self, before: &Facts) {
        self.measured();
        self.facts.clone_from(before);
        self.metrics.phase(None);
        self.save(true);
        self.close();
    }

    fn close(&mut self) {
        self.path = None;
        self.metrics.close();
    }

    fn write(&mut self, durably: bool) {
        self.set(Key::Updated, Timestamp::now().rfc3339());
        self.save(durably);
    }

    fn save(&mut self, durably: bool) {
        self.written = Instant::now();
        self.moved = false;
        self.metrics.write(&self.facts, durably);
        let Some(path) = &self.path else { return };
        if let Err(e) = files::replace(path, &self.text(), 0o600, durably)
            && !std::mem::replace(&mut self.warned, true)
        {
            log::warn!("cannot write the checkpoint {}: {}", path.display(), system_text(&e));
        }
    }

    /// The content of the file.
    pub fn text(&self) -> String {
        let mut text = String::from("format=1\n");
        for key in Key::ALL {
            if let Some(value) = self.get(*key) {
                text.push_str(&format!("{key}={value}\n"));
            }
        }
        text
    }
}

/// Reads the checkpoint at `path`; an absent one is `None`. An error says why it cannot be used.
pub fn read(path: &Path) -> Result<Option<Facts>, String> {
    match files::read(path, LARGEST) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_string())?;
            parse(&text).map(Some)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge) => {
            Err("it is not a checkpoint".into())
        }
        Err(e) => Err(e.to_string()),
    }
}

/// Reads the text of a checkpoint. An error says which line is wrong.
pub fn parse(text: &str) -> Result<Facts, String> {
    // An editor may have left CRLF, also on a last line without LF.
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
    let clean = harmless(text).replace('\'', "?");
    let mut end = clean.len().min(MESSAGE_BYTES - 2);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    format!("'{}'", &clean[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::flavor::Flavor;
    use std::fs;

    #[test]
    fn what_is_written_can_be_read() {
        let path = std::env::temp_dir().join(format!("rf-unit-cp-{}", std::process::id()));
        let mut checkpoint = Checkpoint::begin(&path);
        checkpoint.expect_at(&Position::parse(Flavor::MariaDb, "0-1-5").unwrap());
        checkpoint.set(Key::Message, "it's\na 'test'");
        checkpoint.phase(Phase::CatchUp);
        checkpoint.end(State::Stopped, 143);
        let text = fs::read_to_string(&path).unwrap();
        let facts = read(&path).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(text.starts_with("format=1\nstate=stopped\nphase=catch-up\n"), "{text}");
        assert_eq!(facts["position"], "0-1-5");
        assert_eq!(facts["exit_status"], "143");
        assert_eq!(facts["message"], "'it?s?a ?test?'");
    }

    #[test]
    fn nothing_is_written_after_the_end() {
        let at = |name| std::env::temp_dir().join(format!("rf-unit-{name}-{}", std::process::id()));
        let files = [at("ended"), at("ended-metrics")];
        let ends: [fn(&mut Checkpoint); 2] =
            [|c| c.end(State::Done, 0), |c| c.leave_as(&Facts::new())];
        for end in ends {
            let mut checkpoint = Checkpoint::begin(&files[0]);
            checkpoint.metrics = Metrics::begin(&files[1], Path::new("/r"), &Facts::new());
            end(&mut checkpoint);
            files.iter().for_each(|file| fs::remove_file(file).unwrap());
            // As while a hook runs.
            checkpoint.phase(Phase::Prune);
            assert!(files.iter().all(|file| !file.exists()));
        }
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
