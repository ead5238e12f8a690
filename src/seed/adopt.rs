//! The first backup from a data directory: of a server that was shut down cleanly, or prepared by
//! mariadb-backup or XtraBackup. For servers that are too large to dump.
//!
//! The directory is only read. Its files are copied into the scratch directory, a private server
//! is started on the copy, which proves it, given its position if it has none, and shut down. No
//! primary is needed.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, IoExt, Place, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::{BinlogState, Position};
use crate::mysql::settings::{self, Values};
use crate::os::clock::Timestamp;
use crate::os::files;
use crate::os::space::check_room;
use crate::os::sys::{self, mkdir_below, open_below};
use crate::os::workers::Gauge;
use crate::replication::kept_logs::NoLogs;
use crate::replication::replica;
use crate::repository::data_dir::{self, Tree};
use crate::repository::restore::gate;
use crate::seed::layout;
use crate::seed::seeding::Seeding;
use crate::server::lifecycle::CleanShutdown;
use crate::server::mysqld::{Mysqld, forget_replication};
use crate::server::reserved_options::is_given;

/// Bytes copied between two looks at the stop flag.
const CHUNK: u64 = 16 << 20;

/// The setting for upper and lower case in names.
const CASE: &str = "lower_case_table_names";
/// What servers log about data that was not shut down: MariaDB and MySQL.
const RECOVERS: [&str; 2] = ["Starting crash recovery", "Database was not shutdown normally"];
/// With which MySQL does.
const VERBOSE: &str = "--log-error-verbosity=3";
/// As much of the private server's log as is looked at, bytes.
const LARGEST_LOG: u64 = 16 << 20;

/// Where mariadb-backup and XtraBackup record the state of a copy: the old and the new name.
const BACKUP_STATES: [&str; 2] = ["xtrabackup_checkpoints", "mariadb_backup_checkpoints"];
/// Where they record its position, the third word of the line.
const BACKUP_POSITIONS: [&str; 2] = ["xtrabackup_binlog_info", "mariadb_backup_binlog_info"];

/// A directory that may be adopted.
pub struct Source {
    path: PathBuf,
    /// As the user named it.
    name: String,
    flavor: Flavor,
    position: Option<Position>,
    /// What a file beside the data says, where the user has given the position.
    overruled: Option<Position>,
    is_given: bool,
}

/// What is known of a directory that was adopted.
pub struct Adopted {
    /// Its position.
    pub position: Position,
    /// The version of the server that ran on it.
    pub version: String,
    /// The settings it ran with.
    pub settings: Values,
    /// When it was last written.
    pub data_as_of: Timestamp,
}

impl Source {
    /// Checks the directory `path`, but not yet its files, of which there may be very many.
    /// `given` is `--position`.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it is no data directory, in use, or not prepared.
    pub fn check(path: &Path, given: Option<&str>) -> Result<Source> {
        Source::check_as(path, format!("dir:{}", path.display()), given)
    }

    /// The same for a directory that the user named as `name`.
    ///
    /// # Errors
    /// As [`Source::check`].
    pub fn check_as(path: &Path, name: String, given: Option<&str>) -> Result<Source> {
        let wrong = |what: &str| Error::config(format!("--from {name} {what}"));
        if !path.is_dir() {
            return Err(wrong(&files::no_directory(path)));
        }
        if layout::first_file(path).is_none() {
            return Err(wrong("is not a data directory: it has no ibdata1 that can be read"));
        }
        if let Some(user) = layout::user(path) {
            return Err(wrong(&format!("is in use by {user}: shut that down first")));
        }
        if files::open_dir(path).is_ok_and(|dir| gate::is_unfinished(&dir).unwrap_or(false)) {
            return Err(wrong("holds a restore that has not ended: run that again first"));
        }
        let read = |names: [&str; 2]| names.iter().find_map(|n| small_text(&path.join(n)));
        // MySQL has had its data dictionary in a file since 8.0.
        let flavor = if path.join("mysql.ibd").exists() { Flavor::MySql } else { Flavor::MariaDb };
        let prepared = ["backup_type = log-applied", "backup_type = full-prepared"];
        if let Some(state) = read(BACKUP_STATES)
            && !state.lines().any(|l| prepared.contains(&l.trim()))
        {
            let tool = match flavor {
                Flavor::MariaDb => "mariadb-backup",
                Flavor::MySql => "xtrabackup",
            };
            return Err(wrong(&format!("is not prepared: run {tool} --prepare on it first")));
        }
        let known = known_position(path, flavor, read(BACKUP_POSITIONS));
        let (position, overruled) = match given {
            Some(text) => (Some(given_position(flavor, text)?), known.ok().flatten()),
            None => (known.map_err(|e| wrong(&e))?, None),
        };
        let is_given = given.is_some();
        Ok(Source { path: path.to_path_buf(), name, flavor, position, overruled, is_given })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As the user named it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind of server it belongs to.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(|e| Error::io("open", &self.path, e))
    }

    fn copy(&self, seeding: &mut Seeding, tree: &Tree, jobs: usize) -> Result<()> {
        let (user, data) = (seeding.scratch.user(), seeding.scratch.data());
        let needed = tree.files.iter().map(|f| f.space).sum();
        check_room(&data, needed, Place::Scratch)?;
        // All of it below this descriptor: the directory is the private mysqld's user's, who could put
        // a link in the place of what was just made.
        let below = files::open_dir(&data).doing("open", &data)?;
        for dir in &tree.dirs {
            let made = mkdir_below(&below, &dir.path, 0o700)
                .and_then(|()| open_below(&below, &dir.path, libc::O_RDONLY | libc::O_DIRECTORY, 0))
                .and_then(|made| own(&made, user));
            made.doing("create", &data.join(&dir.path))?;
        }
        let root = self.open()?;
        let mut crew = seeding.supervisor.crew("copy", jobs);
        let gauge = crew.gauge();
        gauge.set_total(tree.files.iter().map(|f| f.size).sum());
        let next = AtomicUsize::new(0);
        crew.work(|| {
            while let Some(file) = tree.files.get(next.fetch_add(1, Ordering::Relaxed)) {
                if gauge.stopped() {
                    break;
                }
                let (from, to) = (self.path.join(&file.path), data.join(&file.path));
                let copied = open_below(&root, &file.path, libc::O_RDONLY | libc::O_NONBLOCK, 0)
                    .and_then(|source| {
                        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
                        let copy = open_below(&below, &file.path, flags, 0o600)?;
                        own(&copy, user)?;
                        copy_file(&source, copy, &gauge)?;
                        source.metadata()
                    });
                let after = copied.doing(&format!("copy {} to", from.display()), &to)?;
                if !gauge.stopped() && !file.is_unchanged(&after) {
                    let text = format!("{} changed while it was copied", from.display());
                    return Err(Error::config(format!("{text}: is a server running on it?")));
                }
            }
            Ok(())
        })
        .map(drop)
    }
}

/// The value of `--position`.
///
/// # Errors
/// [`Error::Configuration`] when it is none.
pub fn given_position(flavor: Flavor, text: &str) -> Result<Position> {
    let position = Position::parse(flavor, text)
        .map_err(|e| Error::config(format!("malformed value for --position: {e}")))?;
    if position.is_empty() {
        return Err(Error::config("--position needs a value"));
    }
    Ok(position)
}

fn own(file: &File, user: Option<(u32, u32)>) -> io::Result<()> {
    user.map_or(Ok(()), |(uid, gid)| fchown(file, Some(uid), Some(gid)))
}

/// Copies a file. Its holes stay holes.
fn copy_file(mut from: &File, mut to: File, gauge: &Gauge) -> io::Result<()> {
    let size = from.metadata()?.len();
    let mut at = 0;
    while at < size && !gauge.stopped() {
        let data = sys::next_data(from, at)?.unwrap_or(size).min(size);
        gauge.add(data - at);
        from.seek(SeekFrom::Start(data))?;
        to.seek(SeekFrom::Start(data))?;
        let copied = io::copy(&mut io::Read::take(from, CHUNK), &mut to)?;
        gauge.add(copied);
        if copied == 0 {
            break;
        }
        at = data + copied;
    }
    to.set_len(size)
}

/// The content of a small file beside the data.
fn small_text(path: &Path) -> Option<String> {
    String::from_utf8(files::read(path, 1 << 20).ok()?).ok()
}

/// The position in the files beside the data: the one that mariadb-backup recorded, or that of the
/// binary log's state, which a primary writes when it is shut down.
fn known_position(
    path: &Path,
    flavor: Flavor,
    backup: Option<String>,
) -> Result<Option<Position>, String> {
    // A set of several sources is spread over lines.
    let gtids: String = backup.iter().flat_map(|t| t.split_whitespace().skip(2)).collect();
    if !gtids.is_empty() {
        return Position::parse(flavor, &gtids).map(Some);
    }
    if flavor == Flavor::MySql {
        // It is in a table.
        return Ok(None);
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|e| e == "state")
            && let Some(text) = small_text(&entry.path())
        {
            let text = text.lines().collect::<Vec<_>>().join(",");
            return BinlogState::parse(&text).map(|state| Some(state.last()));
        }
    }
    Ok(None)
}

/// Adopts `source`: afterwards the scratch directory holds its data, shut down cleanly.
///
/// # Errors
/// What keeps it from being copied or started; [`Error::Configuration`] when it holds what a
/// backup cannot, or its position is unknown.
pub fn adopt(
    seeding: &mut Seeding,
    source: &Source,
    jobs: usize,
) -> Result<(Adopted, CleanShutdown)> {
    let root = source.open()?;
    let mut crew = seeding.supervisor.crew("copy", 1);
    let gauge = crew.gauge();
    let tree = crew.alone(|| data_dir::walk(&root, &source.path, &gauge))?;
    drop(crew);
    seeding.scratch.discard(seeding.supervisor)?;
    seeding.scratch.make_data()?;
    source.copy(seeding, &tree, jobs)?;
    run(seeding, source, &tree, last_written(&tree), false)
}

/// The data directory `name` is that of a server that runs, or was killed.
pub fn not_shut_down(name: &str) -> Error {
    Error::config(format!(
        "the server whose data directory {name} holds was not shut down: an archive of files that are \
         being written is no backup; shut it down first, or stream a backup of it"
    ))
}

/// When the latest of its files was written.
pub fn last_written(tree: &Tree) -> Timestamp {
    Timestamp(tree.files.iter().map(|f| f.stamp.mtime.0).max().unwrap_or_default())
}

/// Runs a private server on the data of `source`, which is in the scratch directory by now, asks it and
/// shuts it down. `was_shut_down`: the data has to have been.
///
/// # Errors
/// As [`adopt`].
pub fn run(
    seeding: &mut Seeding,
    source: &Source,
    tree: &Tree,
    data_as_of: Timestamp,
    was_shut_down: bool,
) -> Result<(Adopted, CleanShutdown)> {
    forget_replication(&seeding.scratch.data())?;
    let given = seeding.setup.options.clone();
    seeding.setup.settings = layout::settings(&source.path, &source.name, tree, &given)?;
    if was_shut_down && source.flavor == Flavor::MySql {
        seeding.setup.options.push(VERBOSE.into());
    }
    let mut mysqld = start(seeding, source.flavor)?;
    let log = if was_shut_down { log_of(seeding) } else { String::new() };
    if RECOVERS.iter().any(|text| log.contains(text)) {
        return Err(not_shut_down(&source.name));
    }
    let mut adopted =
        ask(&mut mysqld, source, data_as_of).map_err(|e| seeding.explain(&mut mysqld, e))?;
    let told = is_given(&given, CASE.replace('_', "-").as_str());
    if source.flavor == Flavor::MariaDb && !told && !layout::has_capitals(tree) {
        // It fits both kinds of names; the primary will tell.
        adopted.settings.retain(|(name, _)| name != CASE);
    }
    Ok((adopted, seeding.finish(mysqld)?))
}

/// Starts the private server, a second time if the data turns out to be of a server for which upper
/// and lower case are the same.
fn start(seeding: &mut Seeding, flavor: Flavor) -> Result<Mysqld> {
    let error = match seeding.start(false) {
        Err(e @ Error::MysqldStart { .. }) if flavor == Flavor::MySql => e,
        started => return started,
    };
    match layout::case_of_dictionary(&log_of(seeding)) {
        Some(case) => {
            seeding.setup.settings.push((CASE.into(), case.into()));
            seeding.start(false)
        }
        None => Err(error),
    }
}

/// What the private server has said so far.
fn log_of(seeding: &Seeding) -> String {
    let log = files::read(&seeding.setup.log(), LARGEST_LOG).unwrap_or_default();
    String::from_utf8_lossy(&log).into_owned()
}

/// What is wrong with data that was replicated beyond what it logged: a server without `log_slave_updates`,
/// or one whose log was reset. Which of the two its primary knows cannot be told.
fn two_positions(name: &str, logged: &Position, replicated: &Position) -> String {
    format!(
        "{name} has two positions: {logged} by its binary log, and {replicated} by its gtid_slave_pos, as \
         a replica without log_slave_updates has, or a primary that was one: give with --position the one \
         that the primary to follow knows"
    )
}

/// Reads what is known of the data that `mysqld` runs on, and sets its position.
fn ask(mysqld: &mut Mysqld, source: &Source, data_as_of: Timestamp) -> Result<Adopted> {
    mysqld.load_grant_tables(source.flavor)?;
    // A replica brings where it replicated from, and MySQL's the password there, in a table.
    replica::forget(mysqld, source.flavor, &NoLogs)?;
    let own = replica::position(mysqld, source.flavor)?;
    let position = match source.position.as_ref().filter(|p| source.is_given || !p.is_empty()) {
        Some(position) if !source.is_given && !position.contains(&own) => {
            return Err(Error::config(two_positions(&source.name, position, &own)));
        }
        Some(position) => {
            let recorded = source.overruled.as_ref().unwrap_or(&own);
            if source.is_given && !recorded.is_empty() && recorded != position {
                let name = &source.name;
                log::warn!(
                    "{name} says that it is at {recorded}; --position {position} is believed"
                );
            }
            if own != *position {
                replica::set_position(mysqld, position)?;
            }
            position.clone()
        }
        None if own.is_empty() => {
            return Err(Error::config(format!(
                "the position of {} is unknown: give it with --position",
                source.name
            )));
        }
        None => own,
    };
    let mut query = |sql: &str| {
        let answer = mysqld.control()?.query(sql);
        answer.map_err(|t| mysqld.lost("answer to a query", t))
    };
    let rows = query(&settings::query(&[]))?;
    let settings = settings::read("the data", &rows.iter().collect::<Vec<_>>())?;
    let version = query("SELECT VERSION()")?.first().to_string();
    Ok(Adopted { position, version, settings, data_as_of })
}
