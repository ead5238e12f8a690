//! `status`: what is asked of one repository, or of all whose option files are in a directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::cli::options::{self, Options, Request};
use crate::cli::output::{self, columns};
use crate::cli::pass_options::stall_timeout;
use crate::cli::print::print;
use crate::cli::status::{self, Status};
use crate::cli::verdict::Verdict;
use crate::error::{Error, Result};
use crate::report::checkpoint::Facts;
use crate::text::{harmless, harmless_lines, short, system_text};

/// So many repositories are looked at at once: a server that hangs takes some seconds to be told.
const AT_ONCE: usize = 16;
/// The options that may stand beside `--all`: they win over those of the files.
const LIMITS: [&str; 4] = ["max-age", "max-proof-age", "max-lag", "stall-timeout"];
/// Those of them that only a repository can be judged by.
const OF_REPO: [&str; 3] = ["max-age", "max-proof-age", "max-lag"];
/// The options that name what only one repository can have.
const PLACES: [&str; 4] = ["repo", "scratch", "checkpoint", "defaults-file"];

impl Status {
    /// Nothing was checked, and that is right.
    pub fn nothing(text: String) -> Status {
        let facts = Facts::new();
        let (alive, answers, newest, proven, recoverable_until) = Default::default();
        let verdict = Verdict::Ok;
        Status { facts, alive, answers, newest, proven, recoverable_until, verdict, text }
    }

    /// Nothing can be told, for this reason.
    pub fn unknown(text: String) -> Status {
        Status { verdict: Verdict::Unknown, ..Status::nothing(text) }
    }
}

/// What is asked of one repository.
pub struct Asked {
    repo: Option<PathBuf>,
    checkpoint: Option<PathBuf>,
    max_age: Option<Duration>,
    max_proof_age: Option<Duration>,
    max_lag: Option<Duration>,
    stall: Option<Duration>,
}

impl Asked {
    /// What the options ask.
    ///
    /// # Errors
    /// [`Error::Configuration`], naming what is missing or wrong.
    pub fn of(options: &Options) -> Result<Asked> {
        let repo = options.path("repo");
        let scratch = options.path("scratch").map(|s| s.join("checkpoint"));
        let checkpoint = options.path("checkpoint").or(scratch);
        if repo.is_none() && checkpoint.is_none() {
            return Err(Error::config("status needs --repo DIR, --scratch DIR or both"));
        }
        // It would be ok for ever, whatever becomes of the backups.
        let vain = OF_REPO.iter().find(|name| repo.is_none() && options.switch(name));
        if let Some(name) = vain {
            return Err(Error::config(format!("status --{name} needs --repo DIR to judge")));
        }
        let limit = |name| {
            let given = options.switch(name).then(|| options.duration(name, Duration::ZERO));
            given.transpose()
        };
        let (max_age, max_proof_age) = (limit("max-age")?, limit("max-proof-age")?);
        let (max_lag, stall) = (limit("max-lag")?, stall_timeout(options)?);
        Ok(Asked { repo, checkpoint, max_age, max_proof_age, max_lag, stall })
    }

    /// What is found; what cannot be told is unknown.
    fn look(&self) -> Status {
        let question = status::Question {
            repo: self.repo.as_deref(),
            checkpoint: self.checkpoint.as_deref(),
            max_age: self.max_age,
            max_proof_age: self.max_proof_age,
            max_lag: self.max_lag,
            stall: self.stall,
        };
        let found = Error::contain(|| Ok(status::look(&question)));
        found.unwrap_or_else(|e| Status::unknown(e.to_string()))
    }

    /// Prints the answer. Returns the exit status, that of a monitoring plugin.
    pub fn answer(&self, json: bool) -> u8 {
        let found = self.look();
        let text = match json {
            true => output::status_json(&found) + "\n",
            false => format!("{}: {}\n", found.verdict.name(), harmless(&found.text)),
        };
        tell(found.verdict, &text)
    }
}

/// `--all`: what is asked of the repositories of all option files in a directory.
pub struct All {
    dir: PathBuf,
    /// Options of the command line, for each of them.
    limits: Vec<String>,
}

impl All {
    /// What the options ask, if they do.
    ///
    /// # Errors
    /// [`Error::Configuration`] for an option that cannot be meant for all.
    pub fn of(options: &Options) -> Result<Option<All>> {
        let Some(dir) = options.path("all") else { return Ok(None) };
        if let Some(place) = PLACES.into_iter().find(|name| options.switch(name)) {
            let text = format!("status takes --all or --{place}, and not both");
            return Err(Error::config(text));
        }
        let given =
            LIMITS.iter().filter_map(|name| Some(format!("--{name}={}", options.text(name)?)));
        Ok(Some(All { dir, limits: given.collect() }))
    }

    /// Prints a line for each file. Returns the worst exit status.
    pub fn answer(&self, json: bool) -> u8 {
        let files = match self.files() {
            Ok(files) => files,
            Err(text) => {
                let none = format!("unknown: {}\n", harmless(&text));
                print(if json { "[]\n" } else { &none });
                if json {
                    log::error!("{text}");
                }
                return Verdict::Unknown.exit_status();
            }
        };
        let found = self.look(&files);
        let text = if json { array(&files, &found) } else { table(&files, &found) };
        let worst =
            found.iter().map(|status| status.verdict).max_by_key(|verdict| verdict.gravity());
        tell(worst.unwrap_or(Verdict::Unknown), &text)
    }

    /// The option files, in the order of their names, or why there are none.
    fn files(&self) -> Result<Vec<PathBuf>, String> {
        let wrong = |e| format!("cannot read {}: {}", self.dir.display(), system_text(&e));
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(wrong)? {
            let path = entry.map_err(wrong)?.path();
            if path.extension().is_some_and(|extension| extension == "cnf") {
                files.push(path);
            }
        }
        files.sort();
        if files.is_empty() {
            return Err(format!("no option file *.cnf in {}", self.dir.display()));
        }
        Ok(files)
    }

    /// The status of each file's repository.
    fn look(&self, files: &[PathBuf]) -> Vec<Status> {
        let (todo, done) = (Mutex::new(files.iter().enumerate()), Mutex::new(Vec::new()));
        // Taken in one statement, so that no thread holds both locks, or one while it looks.
        let next = || todo.lock().ok().and_then(|mut todo| todo.next());
        let work = || {
            while let Some((number, file)) = next() {
                let status = self.look_at(file);
                if let Ok(mut done) = done.lock() {
                    done.push((number, status));
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..files.len().min(AT_ONCE) {
                // One that cannot be started leaves more to the others.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        let mut found = done.into_inner().unwrap_or_default();
        found.sort_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, status)| status).collect()
    }

    fn look_at(&self, file: &Path) -> Status {
        self.asked(file).map_or_else(
            |e| Status::unknown(e.to_string()),
            |asked| match asked {
                Some(asked) => asked.look(),
                None => {
                    Status::nothing("an account and no repository: it has no [rollforward]".into())
                }
            },
        )
    }

    /// What is asked of one file; `None` if it is for an account only.
    fn asked(&self, file: &Path) -> Result<Option<Asked>> {
        let path = file.to_str().ok_or_else(|| Error::config("its name is not UTF-8 text"))?;
        let mut args = vec!["status".to_string(), format!("--defaults-file={path}")];
        args.extend(self.limits.iter().cloned());
        let Request::Command(options) = options::parse(args)? else {
            return Err(Error::config("no command"));
        };
        if options.switch("all") {
            return Err(Error::config("its [rollforward] has the key 'all'"));
        }
        if options.is_account_only() {
            return Ok(None);
        }
        if !PLACES[..3].iter().any(|place| options.switch(place)) {
            return Err(Error::config("its [rollforward] names no repo and no scratch"));
        }
        Asked::of(&options).map(Some)
    }
}

/// Prints the answer. Returns its exit status: what cannot be read is unknown to the reader, unless
/// the worst is known already.
fn tell(verdict: Verdict, text: &str) -> u8 {
    let unread = print(text) != 0 && verdict != Verdict::Critical;
    (if unread { Verdict::Unknown } else { verdict }).exit_status()
}

/// `db1` of `/etc/rollforward/db1.cnf`.
fn name(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// For people: name, verdict, age of the newest backup, what else there is to say.
fn table(files: &[PathBuf], found: &[Status]) -> String {
    let row = |(file, status): (&PathBuf, &Status)| {
        let age = status.newest.as_ref().and_then(|newest| newest.age).map_or("-".into(), short);
        [name(file), status.verdict.name().into(), age, status.text.clone()]
            .map(|cell| harmless(&cell))
    };
    let rows: Vec<[String; 4]> = files.iter().zip(found).map(row).collect();
    harmless_lines(&columns(&rows))
}

/// For programs: an array of objects.
fn array(files: &[PathBuf], found: &[Status]) -> String {
    let one = |(file, status): (&PathBuf, &Status)| {
        let file_text = file.to_string_lossy();
        output::status_json_of(&[("name", &name(file)), ("file", &file_text)], status)
    };
    let objects: Vec<String> = files.iter().zip(found).map(one).collect();
    format!("[\n  {}\n]\n", objects.join(",\n  "))
}
