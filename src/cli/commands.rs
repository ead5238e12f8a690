//! The commands: options in, a call of the room that does the work, an exit status out.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cli::logger::last_words;
use crate::cli::next_steps;
use crate::cli::options::Options;
use crate::cli::output;
use crate::cli::restore_dir;
use crate::cli::status::{self, Verdict};
use crate::error::remedy;
use crate::error::{Error, Place, Result};
use crate::os::files::is_program;
use crate::os::space::placed;
use crate::os::workers::Crew;
use crate::pass::hooks::{Hook, Hooks};
use crate::pass::plan::Plan;
use crate::pass::run;
use crate::replication::primary::Primary;
use crate::repository::directory::Repository;
use crate::repository::prune;
use crate::repository::restore;
use crate::repository::verify;
use crate::seed::adopt::Source;
use crate::seed::dump::First;
use crate::server::lifecycle::Patience;
use crate::supervisor::main_loop::Supervisor;
use crate::text::{bytes, short, system_text};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Is all there that the command needs? Changes nothing.
///
/// # Errors
/// [`Error::Configuration`], naming what is missing or wrong.
pub fn check(options: &Options) -> Result<()> {
    if options.command == "status" {
        return match ["repo", "scratch", "checkpoint"].iter().any(|o| options.switch(o)) {
            true => Ok(()),
            false => Err(Error::config("status needs --repo DIR, --scratch DIR or both")),
        };
    }
    options.required_path("repo")?;
    match options.command {
        "run" => plan(options).map(drop),
        "seed" => plan(options).map(drop),
        "restore" => options.required_path("to").map(drop),
        _ => Ok(()),
    }
}

/// Runs the command. The answer is the exit status.
pub fn dispatch(options: &Options) -> u8 {
    let result = match options.command {
        "run" => plan(options).and_then(|p| run::run(&p, &mut Supervisor::new(p.poll)?)),
        "seed" => plan(options).and_then(|p| run::seed(&p, &mut Supervisor::new(p.poll)?)),
        "restore" => restore(options),
        "list" => list(options),
        "verify" => verify(options),
        "prune" => prune(options),
        "status" => return status(options),
        other => Err(Error::config(format!("unknown command '{other}'"))),
    };
    result.unwrap_or_else(|e| {
        log::error!("{}: {}; exit status {}", e.cause(), remedy::with(&e), e.exit_status());
        e.exit_status()
    })
}

/// Writes to standard output. The answer is the exit status: a reader that has gone is fine.
pub fn print(text: &str) -> u8 {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            let text = system_text(&e);
            last_words(&format!("rollforward: cannot write to standard output: {text}"));
            1
        }
        _ => 0,
    }
}

/// `--from`: how to ask the primary for everything, or the directory to be adopted.
fn from(options: &Options) -> Result<(Option<First>, Option<Source>)> {
    let position = options.text("position");
    let first = match options.text("from") {
        None => {
            return Err(Error::config("seed needs --from dump, --from clone or --from dir:PATH"));
        }
        Some("dump") => First::Dump,
        Some("clone") => First::Clone,
        Some(other) => {
            return match other.strip_prefix("dir:") {
                Some("") => Err(Error::config("--from dir: needs a path")),
                Some(path) => Source::check(&absolute(PathBuf::from(path)), position)
                    .map(|source| (None, Some(source))),
                None => Err(Error::config(format!(
                    "malformed value '{other}' for --from: this build knows dump, clone and \
                     dir:PATH"
                ))),
            };
        }
    };
    if position.is_some() {
        let what = options.text("from").unwrap_or_default();
        return Err(Error::config(format!(
            "--position is for --from dir:PATH: a {what} knows its own"
        )));
    }
    Ok((Some(first), None))
}

fn plan(options: &Options) -> Result<Plan> {
    let scratch = absolute(options.required_path("scratch")?);
    let repo = absolute(options.required_path("repo")?);
    let checkpoint = match options.path("checkpoint") {
        Some(path) => absolute(path),
        None => scratch.join("checkpoint"),
    };
    let log_file = options.path("log-file").map(absolute);
    let metrics = options.path("metrics-file").map(absolute);
    if metrics.as_ref() == Some(&checkpoint) {
        return Err(Error::config(
            "--metrics-file names the checkpoint: it needs a file of its own",
        ));
    }
    let (first, source) = match options.command {
        "seed" => from(options)?,
        _ => (options.first_backup()?, None),
    };
    // What is adopted needs no primary.
    let primary = if source.is_some() { options.primary()? } else { primary(options)? };
    let stall = options.duration("stall-timeout", MINUTE * 10)?;
    let hooks = Hooks {
        hooks: options.hooks()?.into_iter().map(|(n, w)| Hook::new(n, w)).collect::<Result<_>>()?,
        timeout: options.duration("hook-timeout", MINUTE * 10)?,
        variables: vec![
            ("command", options.command.into()),
            ("repo", repo.clone().into()),
            ("scratch", scratch.clone().into()),
            ("checkpoint", checkpoint.clone().into()),
        ],
    };
    Ok(Plan {
        repo,
        scratch,
        others: log_file.into_iter().chain(metrics.clone()).chain([checkpoint.clone()]).collect(),
        checkpoint,
        metrics,
        primary,
        source,
        program: server_program(options.path("mysqld"))?,
        mysqld_user: options.text("mysqld-user").map(String::from),
        mysqld_options: options.mysqld_options().to_vec(),
        first,
        max_failures: options.max_failures()?,
        backoff: (
            options.duration("backoff-base", SECOND)?,
            options.duration("backoff-cap", MINUTE)?,
        ),
        poll: options.duration("poll-interval", SECOND)?,
        ping_timeout: options.duration("ping-timeout", SECOND * 30)?,
        patience: Patience {
            start: options.duration("start-timeout", MINUTE * 10)?,
            shutdown: options.duration("shutdown-timeout", MINUTE * 5)?,
            stall: (!stall.is_zero()).then_some(stall),
        },
        min_interval: options.duration("min-interval", Duration::ZERO)?,
        policy: options.retention()?,
        jobs: options.jobs()?,
        level: options.compression_level()?,
        keep_scratch: options.switch("keep-scratch"),
        allow_upgrade: options.switch("allow-upgrade"),
        hooks,
    })
}

fn primary(options: &Options) -> Result<Primary> {
    let primary = options.primary()?;
    if primary.candidates.is_empty() {
        return Err(Error::config("no primary given: use --primary, or host in [client]"));
    }
    if primary.account.user.is_empty() {
        return Err(Error::config(
            "no account given: use --defaults-file with user in its [client]",
        ));
    }
    Ok(primary)
}

/// The server to run privately: what was named, or the first one found.
fn server_program(named: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = named {
        let path = absolute(path);
        if is_program(&path) {
            return Ok(path);
        }
        let what = if path.exists() { "is not an executable file" } else { "does not exist" };
        return Err(Error::config(format!("--mysqld {} {what}", path.display())));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/usr/local/mysql/bin", "/usr/libexec"];
    let places: Vec<PathBuf> =
        std::env::split_paths(&path).chain(usual.into_iter().map(PathBuf::from)).collect();
    ["mariadbd", "mysqld"]
        .iter()
        .flat_map(|name| places.iter().map(move |p| p.join(name)))
        .find(|p| is_program(p))
        .ok_or_else(|| Error::config("no mariadbd or mysqld found: install one or use --mysqld"))
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn restore(options: &Options) -> Result<u8> {
    let began = Instant::now();
    let to = absolute(options.required_path("to")?);
    let repo = Repository::open(&options.required_path("repo")?)?;
    let mut supervisor = Supervisor::new(SECOND)?;
    let target = restore_dir::Target::claim(&to, repo.root())?;
    let name = match &options.backup {
        Some(name) => name.clone(),
        None => newest(&repo)?,
    };
    let held = repo.hold(&name)?;
    let destination = restore::Destination {
        path: target.path(),
        owner: target.owner(),
        into: restore::Into::Empty,
        durable: true,
    };
    let mut crew = supervisor.crew("restore", options.jobs()?);
    let restored = restore::restore(&repo, &held, destination, &mut crew)
        .map_err(|e| placed(e, &[(target.path(), Place::Target)]))?;
    target.keep();
    let manifest = &held.manifest;
    log::info!(
        "restored {name} to {}: {} files, {}, in {}",
        to.display(),
        restored.files,
        bytes(restored.bytes),
        short(began.elapsed())
    );
    for line in next_steps::lines(manifest, &to, next_steps::owner(&to)) {
        log::info!("{line}");
    }
    Ok(0)
}

fn newest(repo: &Repository) -> Result<String> {
    let none =
        || Error::NoBackup { what: format!("repository {} has no backup", repo.root().display()) };
    repo.names()?.pop().ok_or_else(none)
}

fn list(options: &Options) -> Result<u8> {
    let repo = Repository::open(&options.required_path("repo")?)?;
    let entries = output::entries(&repo)?;
    let json = options.switch("json");
    Ok(print(&if json { output::json(&entries) } else { output::table(&entries) }))
}

fn verify(options: &Options) -> Result<u8> {
    let began = Instant::now();
    let repo = Repository::open(&options.required_path("repo")?)?;
    let names = match &options.backup {
        Some(name) => vec![name.clone()],
        None => repo.names()?,
    };
    let mut supervisor = Supervisor::new(SECOND)?;
    let report = verify::verify(&repo, &names, &mut supervisor.crew("verify", options.jobs()?))?;
    let status = output::report_verify(&report, &names);
    if options.switch("json") {
        print(&output::verify_json(&report));
    }
    log::info!(
        "verified {} backups: {} packs, {}, in {}",
        names.len(),
        report.packs_read,
        bytes(report.bytes),
        short(began.elapsed())
    );
    status.map(|()| 0)
}

/// A monitoring plugin: what it cannot tell is 3, unknown.
fn status(options: &Options) -> u8 {
    let looked = (|| {
        let repo = options.path("repo");
        let scratch = options.path("scratch").map(|s| s.join("checkpoint"));
        let stall = options.duration("stall-timeout", MINUTE * 10)?;
        let max_age = match options.switch("max-age") {
            true => Some(options.duration("max-age", Duration::ZERO)?),
            false => None,
        };
        status::look(&status::Question {
            repo: repo.as_deref(),
            checkpoint: options.path("checkpoint").or(scratch).as_deref(),
            max_age,
            stall: (!stall.is_zero()).then_some(stall),
        })
    })();
    let json = options.switch("json");
    let (verdict, text, json_text) = match looked {
        Ok(found) => {
            let json_text = json.then(|| output::status_json(&found));
            (found.verdict, found.text, json_text)
        }
        Err(e) => {
            let (verdict, text) = (Verdict::Unknown, e.to_string());
            let json_text = json.then(|| output::unknown_json(&text));
            (verdict, text, json_text)
        }
    };
    let line = || format!("{}: {text}\n", verdict.name());
    print(&json_text.unwrap_or_else(line));
    verdict.exit_status()
}

fn prune(options: &Options) -> Result<u8> {
    let repo = Repository::open(&options.required_path("repo")?)?;
    let lock = repo.lock("prune")?;
    let dry_run = options.switch("dry-run");
    if !dry_run {
        repo.sweep_tmp(&lock)?;
    }
    let pruned =
        prune::prune(&repo, &lock, options.retention()?, dry_run, &mut Crew::unwatched(1))?;
    prune::report(&pruned, dry_run);
    match pruned.unreadable.first() {
        Some(name) => Err(Error::BackupDamaged {
            backup: name.clone(),
            what: "its manifest cannot be read, so no pack was removed".into(),
        }),
        None => Ok(0),
    }
}
