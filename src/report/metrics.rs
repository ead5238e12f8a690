//! The metrics file: the pass and its repository for node_exporter's textfile collector.
//!
//! Rendered from the checkpoint's facts, from what is counted here while the pass runs, and from
//! what the repository holds. Times are points in time and not ages, and the outcome of the last
//! pass that ended is carried over from its checkpoint, so that the file stays true when nobody
//! writes it any more. Each sample is labelled with its repository: several databases of one
//! machine have a file each, and the collector takes no sample twice. The position in work is no
//! label, since each would be a series of its own: the newest backup's is.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Cause;
use crate::os::clock::Timestamp;
use crate::os::files;
use crate::report::keys::Phase;

/// At most this often while nothing changes but numbers; the checkpoint's beat is ten seconds.
const SELDOM: Duration = Duration::from_secs(9);

const BREAKER: [&str; 4] = ["closed", "open", "half-open", "given-up"];

/// What the repository holds.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Backups that are complete.
    pub complete: u64,
    /// Backups that are damaged, as far as a cheap look tells.
    pub damaged: u64,
    /// The newest one that is complete.
    pub newest: Option<Newest>,
}

/// The newest complete backup, as its manifest says.
#[derive(Debug)]
pub struct Newest {
    /// Its name.
    pub name: String,
    /// `mariadb` or `mysql`.
    pub flavor: String,
    /// The server's version.
    pub version: String,
    /// Up to where the data goes.
    pub position: String,
    /// When the primary was there.
    pub data_as_of: Timestamp,
    /// When it was stored.
    pub finished: Timestamp,
    /// Bytes of all its files.
    pub size: u64,
    /// Bytes that it added to the repository.
    pub stored: u64,
}

/// The metrics of a pass, and where they are written.
pub struct Metrics {
    path: Option<PathBuf>,
    repo: String,
    /// The last word of the pass before.
    last: BTreeMap<String, String>,
    /// What the repository holds, where that is known.
    pub holdings: Option<Holdings>,
    spent: [Duration; Phase::ALL.len()],
    current: Option<(Phase, Instant)>,
    breaker: &'static str,
    /// Bytes that restores have written.
    pub restored: u64,
    /// Bytes that were read to be stored.
    pub read: u64,
    /// Bytes that were new to the repository.
    pub new: u64,
    written: Option<Instant>,
    warned: bool,
}

impl Metrics {
    /// Those of a command that keeps none.
    pub fn none() -> Metrics {
        Metrics {
            path: None,
            repo: String::new(),
            last: BTreeMap::new(),
            holdings: None,
            spent: [Duration::ZERO; Phase::ALL.len()],
            current: None,
            breaker: BREAKER[0],
            restored: 0,
            read: 0,
            new: 0,
            written: None,
            warned: false,
        }
    }

    /// Begins those of a pass on `repo`, for the file `path`. `before` is the checkpoint of the
    /// pass before: one that was killed left no outcome in it.
    pub fn begin(path: &Path, repo: &Path, before: Option<&BTreeMap<String, String>>) -> Metrics {
        let ended = before.filter(|b| b.get("state").is_some_and(|s| s != "running"));
        Metrics {
            path: Some(path.to_path_buf()),
            repo: repo.display().to_string(),
            last: ended.cloned().unwrap_or_default(),
            ..Metrics::none()
        }
    }

    /// Is there a file to be written?
    pub fn wanted(&self) -> bool {
        self.path.is_some()
    }

    /// Where the breaker stands now, one of its four words.
    pub fn breaker(&mut self, state: &'static str) {
        self.breaker = state;
    }

    /// A phase begins; `None`: the last one is over.
    pub fn phase(&mut self, phase: Option<Phase>) {
        let now = Instant::now();
        if let Some((phase, since)) = self.current.take() {
            self.spent[phase as usize] += now - since;
        }
        self.current = phase.map(|phase| (phase, now));
    }

    /// Writes the file, `at_once` or if it is time to. Failing to is a warning once: it is a
    /// witness, not the work.
    pub fn write(&mut self, facts: &BTreeMap<String, String>, at_once: bool) {
        let Some(path) = &self.path else { return };
        if !at_once && self.written.is_some_and(|w| w.elapsed() < SELDOM) {
            return;
        }
        self.written = Some(Instant::now());
        // For the user of the collector to read: it holds no secrets.
        if let Err(e) = files::replace(path, &self.text(facts), 0o644, false)
            && !std::mem::replace(&mut self.warned, true)
        {
            log::warn!("cannot write the metrics file {}: {e}", path.display());
        }
    }

    /// What is written.
    fn text(&self, facts: &BTreeMap<String, String>) -> String {
        let mut page = Page { text: String::new(), repo: escape(&self.repo) };
        page.info(
            "build_info",
            "The version of rollforward",
            &[("version", env!("CARGO_PKG_VERSION"))],
        );
        self.pass(facts, &mut page);
        self.work(facts, &mut page);
        if let Some(holdings) = &self.holdings {
            repository(holdings, &mut page);
        }
        page.text
    }

    /// Does it run, and how did the last one end that did not.
    fn pass(&self, facts: &BTreeMap<String, String>, page: &mut Page) {
        let time = |facts: &BTreeMap<String, String>, key: &str| {
            facts.get(key).and_then(|t| Timestamp::parse(t)).map(|t| t.0)
        };
        let running = facts.get("state").is_some_and(|s| s == "running");
        let ended = if running { &self.last } else { facts };
        page.one("pass_running", "1 while a pass runs", Some(u8::from(running)));
        page.one(
            "pass_started_timestamp_seconds",
            "When the pass began, the running one or else the last",
            time(facts, "started"),
        );
        page.one(
            "pass_progressed_timestamp_seconds",
            "When something moved last in the pass",
            time(facts, "progressed"),
        );
        page.one("pass_updated_timestamp_seconds", "When this was written", time(facts, "updated"));
        page.one(
            "pass_finished_timestamp_seconds",
            "When the last pass ended that came to an end by itself",
            time(ended, "updated"),
        );
        page.one(
            "pass_exit_status",
            "The exit status of the last pass that came to an end by itself",
            ended.get("exit_status").and_then(|s| s.parse::<u8>().ok()),
        );
        // Until a pass has something to complain of itself, what the last one had stands.
        let cause = facts.get("cause").or_else(|| ended.get("cause")).map(String::as_str);
        page.states(
            "cause",
            "1 for the cause of the last failure: of this pass, or until it has one of the last",
            &Cause::ALL.iter().map(|c| c.name()).collect::<Vec<_>>(),
            cause,
        );
    }

    /// What the pass does and has done.
    fn work(&self, facts: &BTreeMap<String, String>, page: &mut Page) {
        let number = |key: &str| facts.get(key).and_then(|n| n.parse::<u64>().ok());
        let well = facts.get("exit_status").is_some_and(|s| s == "0");
        let phase = self.current.map(|(phase, _)| phase.name());
        let phases: Vec<&str> = Phase::ALL.iter().map(|p| p.name()).collect();
        page.states("phase", "1 for the phase that the pass is in", &phases, phase);
        let spent = Phase::ALL.iter().map(|phase| {
            let since = self.current.filter(|(p, _)| p == phase).map(|(_, since)| since.elapsed());
            let all = self.spent[*phase as usize] + since.unwrap_or_default();
            (vec![("phase", phase.name())], format!("{:.3}", all.as_secs_f64()))
        });
        page.gauge("phase_seconds", "How long the pass was in each phase", spent.collect());
        let here = |key: &str| phase.and_then(|_| number(key));
        page.one("phase_done_bytes", "How far the phase is, if bytes tell", here("bytes_done"));
        page.one("phase_expected_bytes", "What that will come to", here("bytes_total"));
        let failures = if well { Some(0) } else { number("failures") };
        page.one("pass_failures", "Failures in a row without progress", failures);
        let breaker = if well { BREAKER[0] } else { self.breaker };
        page.states("breaker_state", "1 for the state of the breaker", &BREAKER, Some(breaker));
        page.one("pass_restored_bytes", "Bytes that restoring has written", Some(self.restored));
        let storing = facts.get("phase").is_some_and(|p| p == "backup");
        let read = number("bytes_done").filter(|_| storing).unwrap_or(0).max(self.read);
        page.one("pass_read_bytes", "Bytes of data that were read to be stored", Some(read));
        page.one("pass_new_bytes", "Bytes that were new to the repository", Some(self.new));
    }
}

/// What there is to have back.
fn repository(holdings: &Holdings, page: &mut Page) {
    let counts = [("complete", holdings.complete), ("damaged", holdings.damaged)];
    let counts = counts.map(|(state, n)| (vec![("state", state)], n.to_string()));
    page.gauge("backups", "Backups in the repository", counts.into());
    let newest = holdings.newest.as_ref();
    page.one(
        "last_success_timestamp_seconds",
        "When the newest complete backup was stored",
        newest.map(|n| n.finished.0),
    );
    page.one(
        "newest_backup_data_timestamp_seconds",
        "As of when the data of the newest complete backup is",
        newest.map(|n| n.data_as_of.0),
    );
    let size = newest.map(|n| n.size);
    page.one("newest_backup_size_bytes", "Bytes of all files of the newest complete backup", size);
    page.one(
        "newest_backup_stored_bytes",
        "Bytes that the newest complete backup added to the repository",
        newest.map(|n| n.stored),
    );
    if let Some(newest) = newest {
        let labels = [
            ("backup", newest.name.as_str()),
            ("flavor", &newest.flavor),
            ("server_version", &newest.version),
            ("position", &newest.position),
        ];
        page.info("newest_backup_info", "The newest complete backup and its position", &labels);
    }
}

/// A label's value, as the format wants it.
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
    /// A metric with its samples; all are gauges. Without a sample it is left out.
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

    /// All the states there are, with 1 for the one that it is in. The label is the metric's first
    /// word.
    fn states(&mut self, name: &str, help: &str, all: &[&str], now: Option<&str>) {
        let label = name.split('_').next().unwrap_or(name);
        let label = if label == "breaker" { "state" } else { label };
        let samples = all.iter().map(|state| {
            let is = u8::from(now == Some(*state));
            (vec![(label, *state)], is.to_string())
        });
        self.gauge(name, help, samples.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn labels_are_escaped_and_metrics_have_help_and_type() {
        let repo = Path::new("/b/\"a\\b\n");
        let metrics = Metrics::begin(Path::new("x"), repo, None);
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
        let metrics = Metrics::begin(Path::new("x"), Path::new("/r"), Some(&ended));
        let running = metrics.text(&facts(&[("state", "running")]));
        assert!(running.contains("rollforward_pass_exit_status{repo=\"/r\"} 1\n"), "{running}");
        assert!(running.contains("cause=\"purged\"} 1\n"), "{running}");
        let done = metrics.text(&facts(&[("state", "done"), ("exit_status", "0")]));
        assert!(done.contains("rollforward_pass_exit_status{repo=\"/r\"} 0\n"), "{done}");
        assert!(done.contains("cause=\"purged\"} 0\n"), "{done}");
        let killed = facts(&[("state", "running"), ("cause", "purged")]);
        let metrics = Metrics::begin(Path::new("x"), Path::new("/r"), Some(&killed));
        let running = metrics.text(&facts(&[("state", "running")]));
        assert!(!running.contains("_exit_status"), "{running}");
        assert!(running.contains("cause=\"purged\"} 0\n"), "{running}");
    }
}
