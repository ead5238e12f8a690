//! The metrics file: the pass and its repository for node_exporter's textfile collector.
//!
//! Rendered from the checkpoint's facts, from what is counted here during the pass, and from what
//! the repository holds. Times are points in time, not ages, and the outcome of the last finished
//! pass is carried over from its checkpoint, so the file stays true when it is no longer written.
//! Each sample is labelled with its repository: several databases of one machine have a file
//! each, and the collector rejects duplicate samples. The current position is no label, since each
//! value would be a series of its own; that of the newest backup is.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Cause;
use crate::os::clock::Timestamp;
use crate::os::files;
use crate::report::keys::{Facts, Phase, State};
use crate::text::system_text;

/// At most this often while only numbers change; the checkpoint is written every ten seconds.
const SELDOM: Duration = Duration::from_secs(9);

const BREAKER: [&str; 4] = ["closed", "open", "half-open", "given-up"];

/// What the repository holds.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    pub(crate) complete: u64,
    /// As far as a cheap check can tell.
    pub(crate) damaged: u64,
    pub(crate) newest: Option<Newest>,
    /// The last proof that went well.
    pub(crate) proof: Option<Proof>,
}

/// A proof, as it is on record.
#[derive(Debug)]
pub(crate) struct Proof {
    pub(crate) time: Timestamp,
    /// The names of its steps, and what each took in seconds, a decimal number.
    pub(crate) seconds: Vec<(&'static str, String)>,
}

/// The newest complete backup, as its manifest says.
#[derive(Debug)]
pub(crate) struct Newest {
    pub(crate) name: String,
    pub(crate) flavor: String,
    pub(crate) version: String,
    pub(crate) position: String,
    /// When the primary was at that position.
    pub(crate) data_as_of: Timestamp,
    pub(crate) finished: Timestamp,
    /// Bytes of all its files.
    pub(crate) size: u64,
    /// Bytes that it added to the repository.
    pub(crate) stored: u64,
}

/// The metrics of a pass, and where they are written.
#[derive(Default)]
pub struct Metrics {
    path: Option<PathBuf>,
    repo: String,
    /// The checkpoint of the last pass that ended by itself.
    last: Facts,
    /// What the repository holds, if known.
    pub(crate) holdings: Option<Holdings>,
    spent: [Duration; Phase::ALL.len()],
    current: Option<(Phase, Instant)>,
    /// The state of the breaker, one of four words; closed until it is set.
    pub breaker: Option<&'static str>,
    /// Bytes that restores have written.
    pub restored: u64,
    /// Bytes that were read to be stored.
    pub read: u64,
    /// Bytes that were new to the repository.
    pub new: u64,
    /// They are those of a follower, which has names of its own for them.
    is_follower: bool,
    /// The newest moment that can be restored, by the primary's clock, if the follower knows.
    pub recoverable_until: Option<Timestamp>,
    written: Option<Instant>,
    warned: bool,
}

impl Metrics {
    /// Those of a pass on `repo`, for the file `path`. `before` is the checkpoint of the last
    /// pass; if that was killed, there is no outcome in it.
    pub fn begin(path: &Path, repo: &Path, before: &Facts) -> Metrics {
        let ended = Some(before).filter(|b| b.contains_key("state") && !is_under_way(b));
        Metrics {
            path: Some(path.to_path_buf()),
            repo: repo.display().to_string(),
            last: ended.cloned().unwrap_or_default(),
            ..Metrics::default()
        }
    }

    /// Those of a follower on `repo`, beside `path`, which a pass writes: with `-follow` in its name.
    pub fn begin_follower(path: &Path, repo: &Path) -> Metrics {
        let stem = path.file_stem().unwrap_or_default().display();
        let ending = path.extension().map_or(String::new(), |e| format!(".{}", e.display()));
        let beside = path.with_file_name(format!("{stem}-follow{ending}"));
        Metrics { is_follower: true, ..Metrics::begin(&beside, repo, &Facts::new()) }
    }

    /// Nothing is written any more, however long a hook takes after the end.
    pub fn close(&mut self) {
        self.path = None;
    }

    /// True if there is a file to write.
    pub fn wanted(&self) -> bool {
        self.path.is_some()
    }

    /// A phase begins, or with `None` the last one ends.
    pub fn phase(&mut self, phase: Option<Phase>) {
        let now = Instant::now();
        if let Some((phase, since)) = self.current.take() {
            self.spent[phase as usize] += now - since;
        }
        self.current = phase.map(|phase| (phase, now));
    }

    /// Writes the file, `at_once` or if it is time to. A failure is one warning and does not end
    /// the pass.
    pub fn write(&mut self, facts: &Facts, at_once: bool) {
        let Some(path) = &self.path else { return };
        if !at_once && self.written.is_some_and(|w| w.elapsed() < SELDOM) {
            return;
        }
        self.written = Some(Instant::now());
        // Readable for the user of the collector: it holds no secrets.
        if let Err(e) = files::replace(path, &self.text(facts), 0o644, false)
            && !std::mem::replace(&mut self.warned, true)
        {
            log::warn!("cannot write the metrics file {}: {}", path.display(), system_text(&e));
        }
    }

    fn text(&self, facts: &Facts) -> String {
        let mut page = Page { text: String::new(), repo: escape(&self.repo) };
        if self.is_follower {
            self.follower(facts, &mut page);
            return page.text;
        }
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.info("build_info", "The version of rollforward", &version);
        self.outcome(facts, &mut page);
        self.work(facts, &mut page);
        if let Some(holdings) = &self.holdings {
            repository(holdings, &mut page);
        }
        page.text
    }

    /// Whether a pass runs, and how the last one ended.
    fn outcome(&self, facts: &Facts, page: &mut Page) {
        let running = facts.get("state").is_some_and(|s| s == State::Running.name());
        let ended = if is_under_way(facts) { &self.last } else { facts };
        page.one("pass_running", "1 while a pass runs", Some(u8::from(running)));
        // pass_started_timestamp_seconds, ...
        for (name, help, facts, key) in [
            ("started", "When the pass began, the running one or else the last", facts, "started"),
            ("progressed", "When something moved last in the pass", facts, "progressed"),
            ("updated", "When this was written", facts, "updated"),
            ("finished", "When the last pass ended that was not killed", ended, "updated"),
        ] {
            let time = facts.get(key).and_then(|t| Timestamp::parse(t)).map(|t| t.0);
            page.one(&format!("pass_{name}_timestamp_seconds"), help, time);
        }
        let status = ended.get("exit_status").and_then(|s| s.parse::<u8>().ok());
        page.one(
            "pass_exit_status",
            "The exit status of the last pass that was not killed",
            status,
        );
        // The last outcome stands until this pass has a cause of its own.
        let cause = facts.get("cause").or_else(|| ended.get("cause")).map(String::as_str);
        let causes = Cause::ALL.iter().map(|c| c.name());
        let help = "1 for the cause of the last failure: of this pass, or else of the last";
        page.states("cause", help, "cause", causes, cause);
    }

    /// Whether a follower runs, and how far it has come.
    fn follower(&self, facts: &Facts, page: &mut Page) {
        let running = facts.get("state").is_some_and(|s| s == "running");
        page.one("follow_running", "1 while a follower runs", Some(u8::from(running)));
        let updated = facts.get("updated").and_then(|t| Timestamp::parse(t)).map(|t| t.0);
        page.one("follow_updated_timestamp_seconds", "When this was written", updated);
        let failures = facts.get("failures").and_then(|n| n.parse::<u64>().ok());
        page.one("follow_failures", "Consecutive failures without progress", failures);
        let (help, cause) = ("1 for the cause of the last failure", facts.get("cause"));
        let causes = Cause::ALL.iter().map(|c| c.name());
        page.states("follow_cause", help, "cause", causes, cause.map(String::as_str));
        let help = "The newest moment that can be restored, by the clock of the primary";
        let until = self.recoverable_until.map(|time| time.0);
        page.one("recoverable_until_timestamp_seconds", help, until);
    }

    /// What the pass does and has done.
    fn work(&self, facts: &Facts, page: &mut Page) {
        let number = |key: &str| facts.get(key).and_then(|n| n.parse::<u64>().ok());
        let well = facts.get("exit_status").is_some_and(|s| s == "0");
        let phase = self.current.map(|(phase, _)| phase.name());
        let phases = Phase::ALL.iter().map(|p| p.name());
        page.states("phase", "1 for the phase that the pass is in", "phase", phases, phase);
        let spent = Phase::ALL.iter().map(|phase| {
            let since = self.current.filter(|(p, _)| p == phase).map(|(_, since)| since.elapsed());
            let all = self.spent[*phase as usize] + since.unwrap_or_default();
            (vec![("phase", phase.name())], format!("{:.3}", all.as_secs_f64()))
        });
        page.gauge("phase_seconds", "How long the pass was in each phase", spent.collect());
        let here = |key: &str| phase.and_then(|_| number(key));
        page.one(
            "phase_done_bytes",
            "Bytes of the phase done, if it counts any",
            here("bytes_done"),
        );
        page.one("phase_expected_bytes", "Bytes of the phase in all", here("bytes_total"));
        let failures = if well { Some(0) } else { number("failures") };
        page.one("pass_failures", "Consecutive failures without progress", failures);
        let breaker = self.breaker.filter(|_| !well).unwrap_or(BREAKER[0]);
        let help = "1 for the state of the breaker";
        page.states("breaker_state", help, "state", BREAKER.into_iter(), Some(breaker));
        page.one("pass_restored_bytes", "Bytes that restores have written", Some(self.restored));
        let storing = facts.get("phase").is_some_and(|p| p == "backup");
        let read = number("bytes_done").filter(|_| storing).unwrap_or(0).max(self.read);
        page.one("pass_read_bytes", "Bytes of data that were read to be stored", Some(read));
        page.one("pass_new_bytes", "Bytes that were new to the repository", Some(self.new));
    }
}

fn repository(holdings: &Holdings, page: &mut Page) {
    let counts = [("complete", holdings.complete), ("damaged", holdings.damaged)];
    let counts = counts.map(|(state, n)| (vec![("state", state)], n.to_string()));
    page.gauge("backups", "Backups in the repository", counts.into());
    if let Some(proof) = &holdings.proof {
        let help = "When a backup was last proven";
        page.one("last_proof_timestamp_seconds", help, Some(proof.time.0));
        let steps = proof.seconds.iter().map(|(step, s)| (vec![("step", *step)], s.clone()));
        page.gauge("last_proof_seconds", "What that proof took", steps.collect());
    }
    let Some(newest) = &holdings.newest else { return };
    let help = "When the newest complete backup was stored";
    page.one("last_success_timestamp_seconds", help, Some(newest.finished.0));
    let help = "When the primary had the data of the newest complete backup";
    page.one("newest_backup_data_timestamp_seconds", help, Some(newest.data_as_of.0));
    let help = "Bytes of all files of the newest complete backup";
    page.one("newest_backup_size_bytes", help, Some(newest.size));
    let help = "Bytes that the newest complete backup added to the repository";
    page.one("newest_backup_stored_bytes", help, Some(newest.stored));
    let labels = [
        ("backup", newest.name.as_str()),
        ("flavor", &newest.flavor),
        ("server_version", &newest.version),
        ("position", &newest.position),
    ];
    page.info("newest_backup_info", "The newest complete backup and its position", &labels);
}

/// The value of a label in the format's syntax.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

struct Page {
    text: String,
    /// Escaped.
    repo: String,
}

impl Page {
    /// A metric with its samples; all are gauges. Without samples it is left out.
    fn gauge(&mut self, name: &str, help: &str, samples: Vec<(Labels, String)>) {
        if samples.is_empty() {
            return;
        }
        let name = format!("rollforward_{name}");
        self.text += &format!("# HELP {name} {help}.\n# TYPE {name} gauge\n");
        for (labels, value) in samples {
            self.text += &format!("{name}{{repo=\"{}\"", self.repo);
            for (label, is) in labels {
                self.text += &format!(",{label}=\"{}\"", escape(is));
            }
            self.text += &format!("}} {value}\n");
        }
    }

    fn one(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        let samples = value.map(|v| (Labels::new(), v.to_string()));
        self.gauge(name, help, samples.into_iter().collect());
    }

    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.gauge(name, help, vec![(labels.to_vec(), "1".into())]);
    }

    /// All states as values of `label`, with 1 for the current one.
    fn states<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &'a str,
        all: impl Iterator<Item = &'a str>,
        now: Option<&str>,
    ) {
        let sample = |state| (vec![(label, state)], u8::from(now == Some(state)).to_string());
        self.gauge(name, help, all.map(sample).collect());
    }
}

/// True for a pass that runs or waits, or was killed then.
fn is_under_way(facts: &Facts) -> bool {
    let words = [State::Running.name(), State::Waiting.name()];
    facts.get("state").is_some_and(|state| words.contains(&state.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(pairs: &[(&str, &str)]) -> Facts {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn labels_are_escaped_and_metrics_have_help_and_type() {
        let repo = Path::new("/b/\"a\\b\n");
        let metrics = Metrics::begin(Path::new("x"), repo, &Facts::new());
        let text = metrics.text(&facts(&[("state", "running"), ("failures", "2")]));
        assert!(text.contains("_running{repo=\"/b/\\\"a\\\\b\\n\"} 1\n"), "{text}");
        assert!(text.contains("# TYPE rollforward_pass_failures gauge\n"), "{text}");
        assert!(!text.contains("_exit_status"), "{text}");
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let name = line.split('{').next().unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        }
    }

    #[test]
    fn the_last_outcome_stands_until_this_pass_has_one() {
        let ended = facts(&[("state", "failed"), ("exit_status", "1"), ("cause", "purged")]);
        let metrics = Metrics::begin(Path::new("x"), Path::new("/r"), &ended);
        let running = metrics.text(&facts(&[("state", "running")]));
        assert!(running.contains("rollforward_pass_exit_status{repo=\"/r\"} 1\n"), "{running}");
        assert!(running.contains("cause=\"purged\"} 1\n"), "{running}");
        let done = metrics.text(&facts(&[("state", "done"), ("exit_status", "0")]));
        assert!(done.contains("rollforward_pass_exit_status{repo=\"/r\"} 0\n"), "{done}");
        assert!(done.contains("cause=\"purged\"} 0\n"), "{done}");
        let killed = facts(&[("state", "running"), ("cause", "purged")]);
        let metrics = Metrics::begin(Path::new("x"), Path::new("/r"), &killed);
        let running = metrics.text(&facts(&[("state", "running")]));
        assert!(!running.contains("_exit_status"), "{running}");
        assert!(running.contains("cause=\"purged\"} 0\n"), "{running}");
    }
}
