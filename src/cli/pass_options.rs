//! The options of `run`, `seed` and `prove`, made into the plan of a pass.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::options::Options;
use crate::error::{Error, Result};
use crate::os::files::is_program;
use crate::pass::hooks::{Hook, Hooks};
use crate::pass::means::Means;
use crate::pass::plan::{Examination, Places, Plan, Retries, Server, Storage};
use crate::replication::primary::Primary;
use crate::seed::adopt::Source;
use crate::seed::dump::First;
use crate::seed::stream::{Origin, Stream};
use crate::server::lifecycle::Patience;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A path that stays the same when the working directory changes.
pub fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// `--stall-timeout`, unless it is off.
///
/// # Errors
/// When it is malformed.
pub fn stall_timeout(options: &Options) -> Result<Option<Duration>> {
    let stall = options.duration("stall-timeout", MINUTE * 10)?;
    Ok((!stall.is_zero()).then_some(stall))
}

/// `--from`: how to copy the primary, or what to adopt.
fn from(options: &Options) -> Result<(Option<First>, Option<Origin>)> {
    let position = options.text("position");
    let missing = || {
        Error::config("seed needs --from dump, --from clone, --from dir:PATH or --from stream:FILE")
    };
    let from = options.text("from").ok_or_else(missing)?;
    if let Some(file) = from.strip_prefix("stream:") {
        if file.is_empty() {
            return Err(Error::config("--from stream: needs a file, or - for standard input"));
        }
        return Ok((None, Some(Origin::Stream(Stream::check(file, position)?))));
    }
    let first = match (from, from.strip_prefix("dir:")) {
        ("dump", _) => First::Dump,
        ("clone", _) => First::Clone,
        (_, Some("")) => return Err(Error::config("--from dir: needs a path")),
        (_, Some(path)) => {
            let source = Source::check(&absolute(path.into()), position)?;
            return Ok((None, Some(Origin::Directory(source))));
        }
        _ => {
            return Err(Error::config(format!(
                "malformed value '{from}' for --from: this build knows dump, clone, dir:PATH and \
                 stream:FILE"
            )));
        }
    };
    if position.is_some() {
        return Err(Error::config(format!(
            "--position is for --from dir:PATH or stream:FILE: a {from} knows its own"
        )));
    }
    Ok((Some(first), None))
}

/// Reads the plan of `run`, `seed` or `prove`. Changes nothing.
///
/// # Errors
/// [`Error::Configuration`], naming what is missing or wrong.
pub fn plan(options: &Options) -> Result<Plan> {
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
        "prove" => (None, None),
        _ => (options.first_backup()?, None),
    };
    // Adoption and proof need no primary.
    let alone = source.is_some() || options.command == "prove";
    let primary = if alone { options.primary()? } else { primary(options)? };
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
    let Means { server, retries, patience, jobs } = means(options)?;
    // A first backup has nothing yet that could be older than the server it came from.
    let of_run = |name: &str, usual| match options.command {
        "run" => options.duration(name, usual),
        _ => Ok(Duration::ZERO),
    };
    Ok(Plan {
        places: Places {
            repo,
            scratch,
            others: log_file
                .into_iter()
                .chain(metrics.clone())
                .chain([checkpoint.clone()])
                .collect(),
            checkpoint,
            metrics,
        },
        primary,
        server,
        first,
        source,
        retries,
        patience,
        storage: Storage {
            policy: options.retention()?,
            jobs,
            level: options.compression_level()?,
            keep_scratch: options.switch("keep-scratch"),
            prove: options.switch("prove"),
            journal: !options.switch("no-journal"),
        },
        examination: Examination {
            check: of_run("check-time", MINUTE)?,
            compare: of_run("compare-time", Duration::ZERO)?,
        },
        slots: options.slots()?,
        min_interval: options.duration("min-interval", Duration::ZERO)?,
        hooks,
    })
}

/// How a private server is run, by a pass or a replay.
///
/// # Errors
/// [`Error::Configuration`], naming what is missing or wrong.
pub fn means(options: &Options) -> Result<Means> {
    Ok(Means {
        server: Server {
            program: server_program(options.path("mysqld"))?,
            user: options.text("mysqld-user").map(String::from),
            options: options.mysqld_options().to_vec(),
            allow_upgrade: options.switch("allow-upgrade"),
        },
        retries: Retries {
            max_failures: options.max_failures()?,
            backoff: (
                options.duration("backoff-base", SECOND)?,
                options.duration("backoff-cap", MINUTE)?,
            ),
            poll: options.duration("poll-interval", SECOND)?,
            ping_timeout: options.duration("ping-timeout", SECOND * 30)?,
        },
        patience: Patience {
            start: options.duration("start-timeout", MINUTE * 10)?,
            shutdown: options.duration("shutdown-timeout", MINUTE * 5)?,
            stall: stall_timeout(options)?,
        },
        jobs: options.jobs()?,
    })
}

/// The primary, if one is named, or what is wrong with that.
pub fn named_primary(options: &Options) -> Option<Result<Primary>> {
    match options.primary() {
        Ok(none) if none.candidates.is_empty() => None,
        _ => Some(primary(options)),
    }
}

/// The primary and the account on it, both of which must be named.
///
/// # Errors
/// [`Error::Configuration`], naming what is missing or wrong.
pub fn primary(options: &Options) -> Result<Primary> {
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

/// The server to run privately: the one named, or the first one found.
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
