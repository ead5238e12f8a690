//! `restore` of a backup, what it would do, and the file that makes its data a replica.

use std::os::unix::fs::fchown;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cli::next_steps;
use crate::cli::print::print;
use crate::cli::restore_dir::{self, Target};
use crate::error::{Error, IoExt, Place, Result};
use crate::journal::cut::Moment;
use crate::mysql::account::{Account, TlsMode};
use crate::mysql::flavor::Flavor;
use crate::os::files;
use crate::os::space::placed;
use crate::pass::foreseen::foresee;
use crate::pass::moment::shown;
use crate::replication::primary::{Address, Primary};
use crate::replication::replica_file;
use crate::repository::directory::Repository;
use crate::repository::journals::Stores;
use crate::repository::manifest::Header;
use crate::repository::restore::difference;
use crate::repository::restore::survey::Survey;
use crate::repository::restore::{self, Destination, Kept};
use crate::supervisor::main_loop::Supervisor;
use crate::supervisor::watched::Nothing;
use crate::text::{bytes, count, harmless, short};

/// Where a backup is restored to, and how.
pub struct How {
    /// The repository.
    pub repo: PathBuf,
    /// The directory.
    pub to: PathBuf,
    /// It may hold older data.
    pub over: bool,
    /// Whose replica the data is to become.
    pub replica: Option<Primary>,
    /// Workers.
    pub jobs: usize,
}

/// Restores a backup, the newest for `None`. Returns the exit status.
///
/// # Errors
/// Those of the directory and of a restore.
pub fn restore(how: &How, backup: Option<String>) -> Result<u8> {
    let began = Instant::now();
    let repo = Repository::open(&how.repo)?;
    let mut supervisor = Supervisor::new(Duration::from_secs(1))?;
    let mut target = Target::claim(&how.to, repo.root(), how.over)?;
    let name = backup.map_or_else(|| repo.find(None), Ok)?;
    let held = repo.hold(&name)?;
    let (path, owner, into) = (target.path(), target.owner(), restore::Into::Marked);
    let to = Destination { path, owner, into, kept: Kept::Direct, known: None };
    let mut crew = supervisor.crew("restore", how.jobs);
    let restored = restore::restore(&repo, &held, to, &mut crew);
    drop(crew);
    let restored = restored.map_err(|e| {
        let e = placed(e, &[(target.path(), Place::Target)]);
        target.keep_what_helps(e)
    })?;
    let (older, owner) = (target.has_older_data(), target.owner());
    target.keep();
    log::info!(
        "restored {name} to {}: {}, {}, in {}",
        how.to.display(),
        count(restored.files, "file"),
        bytes(restored.bytes),
        short(began.elapsed())
    );
    if older {
        log::info!(
            "read {} of what was there and wrote {}",
            bytes(restored.read),
            bytes(restored.written)
        );
        tell_of(&restored.found);
    }
    conclude(how, &held.manifest.header, owner, &mut supervisor)?;
    Ok(0)
}

/// What became of the files that are not in the backup.
fn tell_of(found: &Survey) {
    if !found.surplus.is_empty() {
        log::info!("removed {}", surplus(found));
    }
    for (link, to) in &found.links {
        log::warn!(
            "{} was a symbolic link: what is in {} stays there and is no longer used",
            harmless(&link.to_string_lossy()),
            harmless(&to.to_string_lossy())
        );
    }
    if let Some(text) = foreign(found) {
        log::info!("{text}");
    }
}

fn surplus(found: &Survey) -> String {
    let dirs = found.surplus.iter().filter(|(_, is_dir)| *is_dir).count();
    let dirs = if dirs > 0 { format!(" and {}", plural(dirs)) } else { String::new() };
    format!("{}{dirs} that the backup does not have", count(found.surplus_files, "file"))
}

fn plural(dirs: usize) -> String {
    if dirs == 1 { "1 directory".into() } else { format!("{dirs} directories") }
}

fn foreign(found: &Survey) -> Option<String> {
    const MOST: usize = 5;
    let names = found.foreign.iter().filter(|name| *name != "lost+found");
    let names: Vec<String> = names.map(|name| harmless(&name.to_string_lossy())).collect();
    let more = names.len().saturating_sub(MOST);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let first = names.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| format!("left as it is what is no server's data: {first}{more}"))
}

/// The file for a replica, if it is wanted, and the last lines of a restore.
///
/// # Errors
/// Those of writing the file; a stop.
pub fn conclude(
    how: &How,
    header: &Header,
    owner: Option<(u32, u32)>,
    supervisor: &mut Supervisor,
) -> Result<()> {
    for line in next_steps::lines(header, &how.to, next_steps::owner(&how.to)) {
        log::info!("{line}");
    }
    if how.replica.is_none() {
        log::info!("{}", next_steps::replica(header));
    }
    let Some(primary) = &how.replica else { return Ok(()) };
    let flavor = Flavor::from_name(&header.flavor);
    let flavor = flavor.ok_or_else(|| Error::config("the backup is of an unknown flavor"))?;
    let (address, account) = found(primary, supervisor)?;
    let path = how.to.join(replica_file::NAME);
    let about =
        format!("It is as of {}, at position {}.", header.data_as_of.rfc3339(), header.position);
    let shown = path.display().to_string();
    let text = replica_file::text(flavor, &address, &account, &about, &shown);
    files::replace(&path, &text, 0o600, true)
        .and_then(|()| match owner {
            Some((uid, gid)) => fchown(files::open_no_link(&path)?, Some(uid), Some(gid)),
            None => Ok(()),
        })
        .doing("write", &path)?;
    log::info!(
        "to make it a replica of {address}: start the server with a server_id of its own, log in, give \
         the password with SET @password = '...', and source {shown}"
    );
    Ok(())
}

/// The candidate that answers, and the account with what it offers of TLS; else as they are given.
fn found(primary: &Primary, supervisor: &mut Supervisor) -> Result<(Address, Account)> {
    let given = primary.account.clone();
    let settled = given.tls.mode != TlsMode::Preferred;
    if settled && primary.candidates.len() == 1 {
        return Ok((primary.candidates[0].clone(), given));
    }
    match primary.question(supervisor, &mut Nothing, |primary| primary.choose(None)) {
        Ok(facts) => Ok((facts.address.clone(), primary.account_at(&facts))),
        Err(e @ Error::Interrupted { .. }) => Err(e),
        Err(e) => {
            let address = primary.candidates[0].clone();
            let wants = if settled { "" } else { ", with TLS" };
            log::warn!("{}: {e}: the file for a replica names {address}{wants}", e.cause());
            let tls = given.tls.settled(true);
            Ok((address, Account { tls, ..given }))
        }
    }
}

/// Says what a restore of a backup, or of a moment, would do. Returns the exit status.
///
/// # Errors
/// Those that a restore would find before it changes anything.
pub fn foretell(how: &How, backup: Option<String>, moment: Option<(&Moment, bool)>) -> Result<u8> {
    let stores = Stores::new(Repository::open(&how.repo)?)?;
    let repo = &stores.backups;
    let mut supervisor = Supervisor::new(Duration::from_secs(1))?;
    let was = restore_dir::look(&how.to, repo.root(), how.over)?;
    let way = moment.map(|(moment, has_primary)| {
        foresee(&stores, &mut supervisor, moment, has_primary).map(|way| (moment, way))
    });
    let way = way.transpose()?;
    let name = match (&way, backup) {
        (Some((_, way)), _) => way.backup.clone(),
        (None, Some(name)) => name,
        (None, None) => repo.find(None)?,
    };
    let held = repo.hold(&name)?;
    let mut crew = supervisor.crew("compare", how.jobs);
    let difference = difference::of(repo, &held, &how.to, &mut crew)
        .map_err(|e| placed(e, &[(&how.to, Place::Target)]))?;
    let manifest = &held.manifest;
    let mut lines = vec![format!(
        "would restore {name} to {}: {}, {}, data as of {}, position {}",
        how.to.display(),
        count(manifest.files.len(), "file"),
        bytes(manifest.size),
        manifest.header.data_as_of.rfc3339(),
        manifest.header.position
    )];
    if matches!(was, restore_dir::Was::Unfinished) {
        lines.push("would go on with a restore that has not ended there".into());
    }
    lines.push(format!("would write {} of that", bytes(difference.written)));
    if matches!(was, restore_dir::Was::Unfinished | restore_dir::Was::Older) {
        if !difference.found.surplus.is_empty() {
            lines.push(format!("would remove {}", surplus(&difference.found)));
        }
        lines
            .extend(foreign(&difference.found).map(|text| text.replacen("left", "would leave", 1)));
    }
    if let Some((moment, way)) = &way {
        if !way.journals.is_empty() {
            lines.push(format!(
                "would apply {}, {} of journals, up to the moment {}: {}",
                count(way.journals.len(), "journal"),
                bytes(way.journal_bytes),
                shown(moment),
                way.journals.join(", ")
            ));
        }
        if way.beyond {
            lines.push("would fetch from the primary what follows all that is stored".into());
        }
    }
    if how.replica.is_some() {
        lines.push(format!("would write {}", how.to.join(replica_file::NAME).display()));
    }
    Ok(print(&lines.iter().map(|line| harmless(line) + "\n").collect::<String>()))
}
