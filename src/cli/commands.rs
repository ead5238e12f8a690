//! The commands: what each needs is checked before the log is started, then it is run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::keep;
use crate::cli::opening::opening;
use crate::cli::options::Options;
use crate::cli::output;
use crate::cli::own_files;
use crate::cli::pass_options::{absolute, means, named_primary, plan, primary};
use crate::cli::print::print;
use crate::cli::question::Question;
use crate::cli::report::Report;
use crate::cli::restore::{self, How};
use crate::cli::status_command::{All, Asked};
use crate::cli::transactions;
use crate::cli::unpack;
use crate::cli::until;
use crate::cli::windows;
use crate::error::remedy;
use crate::error::{Error, Result};
use crate::follow::run as follow;
use crate::journal::cut::Moment;
use crate::journal::history::History;
use crate::journal::when;
use crate::pass::means::Means;
use crate::pass::plan::Plan;
use crate::pass::throwaway::{Opening, Which};
use crate::pass::{prove, run};
use crate::replication::primary::Primary;
use crate::repository::directory::Repository;
use crate::repository::pins::Pin;
use crate::repository::retention::Policy;
use crate::repository::verify;
use crate::supervisor::main_loop::Supervisor;
use crate::text::{bytes, count, harmless, harmless_lines, shell, short};

const SECOND: Duration = Duration::from_secs(1);

/// A command with all it needs.
#[allow(missing_docs)]
pub enum Command {
    Run(Box<Plan>),
    Seed(Box<Plan>),
    Follow {
        plan: Box<Plan>,
        every: Duration,
    },
    Prove {
        plan: Box<Plan>,
        which: Which,
    },
    Restore {
        how: Box<How>,
        backup: Option<String>,
        dry_run: bool,
    },
    Unpack {
        repo: PathBuf,
        backup: Option<String>,
        to: PathBuf,
        jobs: usize,
    },
    RestoreUntil {
        how: Box<How>,
        moment: Moment,
        /// `None`: a dry run.
        means: Option<Box<Means>>,
        /// For what no journal has.
        primary: Box<Option<Result<Primary>>>,
    },
    Open(Box<Opening>),
    List {
        repo: PathBuf,
        policy: Policy,
        windows: bool,
        json: bool,
    },
    Verify {
        repo: PathBuf,
        backup: Option<String>,
        jobs: usize,
        json: bool,
    },
    Prune {
        repo: PathBuf,
        policy: Policy,
        dry_run: bool,
        quiet: bool,
    },
    Pin {
        repo: PathBuf,
        backup: String,
        /// `None`: unpin.
        pin: Option<Pin>,
    },
    Report {
        repo: PathBuf,
        since: Duration,
        json: bool,
    },
    Log {
        repo: PathBuf,
        question: Question,
    },
    Status {
        asked: Asked,
        json: bool,
    },
    StatusOfAll {
        all: All,
        json: bool,
    },
}

impl Command {
    /// Makes a command of the options. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Configuration`], naming what is missing or wrong.
    pub fn new(options: &Options) -> Result<Command> {
        let json = options.switch("json");
        let backup = options.backup.clone();
        if options.command == "status" {
            return Ok(match All::of(options)? {
                Some(all) => Command::StatusOfAll { all, json },
                None => Command::Status { asked: Asked::of(options)?, json },
            });
        }
        let repo = options.required_path("repo")?;
        own_files::check(options)?;
        Ok(match options.command {
            "run" => Command::Run(Box::new(plan(options)?)),
            "seed" => Command::Seed(Box::new(plan(options)?)),
            "follow" => {
                let every = options.duration("every", SECOND * 10)?;
                Command::Follow { plan: Box::new(plan(options)?), every }
            }
            "prove" => {
                let which = moment(options)?.map_or(Which::Backup(backup), Which::At);
                Command::Prove { plan: Box::new(plan(options)?), which }
            }
            "restore" => {
                let to = absolute(options.required_path("to")?);
                let (over, dry_run) = (options.switch("over"), options.switch("dry-run"));
                let replica = options.switch("replica").then(|| primary(options)).transpose()?;
                let jobs = options.jobs()?;
                let how = Box::new(How { repo, to, over, replica, jobs });
                if let Some(moment) = moment(options)? {
                    let means = (!dry_run).then(|| means(options).map(Box::new)).transpose()?;
                    let primary = Box::new(named_primary(options));
                    return Ok(Command::RestoreUntil { how, moment, means, primary });
                }
                Command::Restore { how, backup, dry_run }
            }
            "unpack" => {
                let to = absolute(options.required_path("to")?);
                Command::Unpack { repo, backup, to, jobs: options.jobs()? }
            }
            "open" => Command::Open(Box::new(opening(options, moment(options)?)?)),
            "list" => {
                let (policy, windows) = (options.retention()?, options.switch("windows"));
                Command::List { repo, policy, windows, json }
            }
            "verify" => Command::Verify { repo, backup, jobs: options.jobs()?, json },
            "prune" => {
                let (policy, dry_run) = (options.retention()?, options.switch("dry-run"));
                let quiet = options.switch("quiet");
                Command::Prune { repo, policy, dry_run, quiet }
            }
            "pin" | "unpin" => {
                let missing = || Error::config(format!("{} needs a BACKUP", options.command));
                let backup = backup.ok_or_else(missing)?;
                let pin = (options.command == "pin").then(|| options.pin()).transpose()?;
                Command::Pin { repo, backup, pin }
            }
            "report" => {
                let since = options.duration("since", SECOND * 86_400 * 90)?;
                Command::Report { repo, since, json }
            }
            "log" => {
                let text = |name| options.text(name);
                let question = Question::new(text("since"), text("until"), text("table"))?;
                let word = |name| Some(format!("--{name} {}", shell(&harmless(text(name)?))));
                let means = ["mysqld", "mysqld-user"].into_iter().filter_map(word).collect();
                let question = Question { ddl: options.switch("ddl"), json, means, ..question };
                Command::Log { repo, question }
            }
            other => return Err(Error::config(format!("unknown command '{other}'"))),
        })
    }

    /// Runs the command. Returns the exit status.
    pub fn run(self) -> u8 {
        let result = Error::contain(|| self.carry_out());
        result.unwrap_or_else(|e| {
            log::error!("{}: {}; exit status {}", e.cause(), remedy::with(&e), e.exit_status());
            e.exit_status()
        })
    }

    fn carry_out(self) -> Result<u8> {
        match self {
            Command::Run(plan) => {
                Supervisor::new(plan.retries.poll).and_then(|mut s| run::run(&plan, &mut s))
            }
            Command::Seed(plan) => {
                Supervisor::new(plan.retries.poll).and_then(|mut s| run::seed(&plan, &mut s))
            }
            Command::Follow { plan, every } => Supervisor::new(plan.retries.poll)
                .and_then(|mut s| follow::follow(&plan, every, &mut s)),
            Command::Prove { plan, which } => Supervisor::new(plan.retries.poll)
                .and_then(|mut s| prove::prove(&plan, &which, &mut s)),
            Command::Restore { how, backup, dry_run: true } => {
                restore::foretell(&how, backup, None)
            }
            Command::Restore { how, backup, .. } => restore::restore(&how, backup),
            Command::Unpack { repo, backup, to, jobs } => unpack::unpack(&repo, backup, &to, jobs),
            Command::RestoreUntil { how, moment, means: Some(means), primary } => {
                until::restore(&how, &moment, &means, *primary)
            }
            Command::RestoreUntil { how, moment, primary, .. } => {
                restore::foretell(&how, None, Some((&moment, primary.is_some())))
            }
            Command::Open(opening) => Supervisor::new(opening.means.retries.poll)
                .and_then(|mut supervisor| opening.open(&mut supervisor)),
            Command::List { repo, windows: true, json, .. } => {
                let history = History::read(&Repository::open(&repo)?)?;
                let (json_text, table) = (windows::json(&history), windows::table(&history));
                Ok(print(&if json { json_text } else { harmless_lines(&table) }))
            }
            Command::List { repo, policy, json, .. } => list(&repo, policy, json),
            Command::Verify { repo, backup, jobs, json } => verify(&repo, backup, jobs, json),
            Command::Prune { repo, policy, dry_run, quiet } => {
                keep::prune(&repo, policy, dry_run, quiet)
            }
            Command::Pin { repo, backup, pin } => keep::pin(&repo, &backup, pin.as_ref()),
            Command::Report { repo, since, json } => {
                let report = Report::read(&Repository::open(&repo)?, since)?;
                Ok(print(&if json { report.json() } else { harmless_lines(&report.text()) }))
            }
            Command::Log { repo, question } => transactions::print(&repo, &question),
            Command::Status { asked, json } => Ok(asked.answer(json)),
            Command::StatusOfAll { all, json } => Ok(all.answer(json)),
        }
    }
}

/// `--until`, which names the backup by itself.
fn moment(options: &Options) -> Result<Option<Moment>> {
    let Some(text) = options.text("until") else { return Ok(None) };
    if let Some(backup) = &options.backup {
        let command = options.command;
        let text = format!("{command} takes a backup or --until, and not both: {backup}");
        return Err(Error::config(text));
    }
    let wrong = |what| Error::config(format!("--until: {what}"));
    when::parse(text).map(Some).map_err(wrong)
}

fn list(repo: &Path, policy: Policy, json: bool) -> Result<u8> {
    let entries = output::entries(&Repository::open(repo)?, policy)?;
    Ok(print(&if json { output::json(&entries) } else { harmless_lines(&output::table(&entries)) }))
}

fn verify(repo: &Path, backup: Option<String>, jobs: usize, json: bool) -> Result<u8> {
    let began = Instant::now();
    let repo = Repository::open(repo)?;
    let all = backup.is_none();
    let names = backup.map_or_else(|| repo.names(), |name| Ok(vec![name]))?;
    let mut supervisor = Supervisor::new(SECOND)?;
    let mut report = verify::verify(&repo, &names, all, &mut supervisor.crew("verify", jobs))?;
    if let (true, Some(journals)) = (all, repo.journals()?) {
        let parts = journals.names()?;
        let crew = &mut supervisor.crew("verify", jobs);
        report.add_received(verify::verify(&journals, &parts, true, crew)?);
    }
    let status = output::report_verify(&report);
    let printed = if json { print(&output::verify_json(&report)) } else { 0 };
    log::info!(
        "verified {}: {}, {}, in {}",
        count(report.backups.len(), "backup"),
        count(report.packs_read, "pack"),
        bytes(report.bytes),
        short(began.elapsed())
    );
    status.map(|()| printed)
}
