//! The first backup out of a data directory: of a server that was shut down cleanly, or prepared
//! by mariadb-backup or XtraBackup. The way in for servers too large to dump.
//!
//! The directory is only read. Its files are copied into the scratch directory, a private server
//! is started on the copy, which proves it, told its position if it does not know it, and shut
//! down. No primary is needed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Place, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::{BinlogState, Position};
use crate::os::clock::Timestamp;
use crate::os::files;
use crate::os::space::check_room;
use crate::os::sys::{self, open_below};
use crate::os::workers::Gauge;
use crate::replication::primary::SETTINGS;
use crate::replication::replica;
use crate::repository::data_dir::{self, Tree};
use crate::scratch::working_directory::Scratch;
use crate::server::lifecycle::{CleanShutdown, Patience, explain, shut_down, wait_until_ready};
use crate::server::mysqld::{Mysqld, forget_replication};
use crate::server::setup::Setup;
use crate::supervisor::main_loop::Supervisor;

/// Copied between two looks at the stop flag.
const CHUNK: u64 = 16 << 20;

/// What mariadb-backup and XtraBackup leave: how it went, by its old and its new name.
const BACKUP_STATES: [&str; 2] = ["xtrabackup_checkpoints", "mariadb_backup_checkpoints"];
/// And the position, the third word of its line.
const BACKUP_POSITIONS: [&str; 2] = ["xtrabackup_binlog_info", "mariadb_backup_binlog_info"];

/// A directory that may be adopted.
pub struct Source {
    path: PathBuf,
    flavor: Flavor,
    tree: Tree,
    size: u64,
    position: Option<Position>,
    data_as_of: Timestamp,
}

/// What was adopted.
pub struct Adopted {
    /// Its position.
    pub position: Position,
    /// The version of the server that ran on it.
    pub version: String,
    /// The settings it ran with.
    pub settings: Vec<(String, String)>,
    /// When it was written last.
    pub data_as_of: Timestamp,
}

impl Source {
    /// Looks at the directory `path`. `given` is `--position`.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it is no data directory, in use, not prepared, or holds
    /// what a backup cannot.
    pub fn look_at(path: &Path, given: Option<&str>) -> Result<Source> {
        let wrong = |what: &str| Error::config(format!("--from dir:{} {what}", path.display()));
        if !path.is_dir() {
            return Err(wrong("is not a directory"));
        }
        let system = files::open(&path.join("ibdata1"))
            .map_err(|_| wrong("is not a data directory: it has no ibdata1 that can be read"))?;
        if sys::is_write_locked(&system).unwrap_or(false) {
            return Err(wrong("is in use by a running server: shut that down first"));
        }
        let read = |names: [&str; 2]| names.iter().find_map(|n| small_text(&path.join(n)));
        // The tables that say what there is, which MySQL has had in a file since 8.0.
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
        let root = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let tree = data_dir::walk(&root, path)?;
        let size = tree.files.iter().map(|f| f.size).sum();
        let position = match given {
            Some(text) => {
                let position = Position::parse(flavor, text)
                    .map_err(|e| Error::config(format!("malformed value for --position: {e}")))?;
                if position.is_empty() {
                    return Err(Error::config("--position needs a value"));
                }
                Some(position)
            }
            None => known_position(path, flavor, read(BACKUP_POSITIONS)).map_err(|e| wrong(&e))?,
        };
        let newest = tree.files.iter().filter_map(|f| fs::metadata(path.join(&f.path)).ok());
        let data_as_of = Timestamp(newest.map(|m| m.mtime()).max().unwrap_or_default());
        Ok(Source { path: path.to_path_buf(), flavor, tree, size, position, data_as_of })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose data it is.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    fn copy(&self, supervisor: &mut Supervisor, scratch: &Scratch, jobs: usize) -> Result<()> {
        let data = scratch.data();
        let needed = self.tree.files.iter().map(|f| f.space).sum();
        check_room(&data, needed, Place::Scratch)?;
        for dir in &self.tree.dirs {
            let to = data.join(&dir.path);
            let made = fs::DirBuilder::new().mode(0o700).create(&to);
            made.and_then(|()| own(&to, scratch)).map_err(|e| Error::io("make", &to, e))?;
        }
        let root = File::open(&self.path).map_err(|e| Error::io("open", &self.path, e))?;
        let mut crew = supervisor.crew("copy", jobs);
        let gauge = crew.gauge();
        gauge.set_total(self.size);
        let next = AtomicUsize::new(0);
        crew.work(|| {
            while let Some(file) = self.tree.files.get(next.fetch_add(1, Ordering::Relaxed)) {
                if gauge.stopped() {
                    break;
                }
                let (from, to) = (self.path.join(&file.path), data.join(&file.path));
                let source = open_below(&root, &file.path, libc::O_RDONLY | libc::O_NONBLOCK, 0);
                source
                    .and_then(|source| copy_file(source, &to, &gauge))
                    .map_err(|e| Error::io(&format!("copy {} to", from.display()), &to, e))?;
                own(&to, scratch).map_err(|e| Error::io("chown", &to, e))?;
                let after = fs::metadata(&from).map_err(|e| Error::io("read", &from, e))?;
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

fn own(path: &Path, scratch: &Scratch) -> io::Result<()> {
    scratch.user().map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
}

/// Copies the bytes of a file; its holes stay holes.
fn copy_file(mut from: File, to: &Path, gauge: &Gauge) -> io::Result<()> {
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let size = from.metadata()?.len();
    let mut at = 0;
    while at < size && !gauge.stopped() {
        let data = sys::next_data(&from, at)?.unwrap_or(size).min(size);
        gauge.add(data - at);
        from.seek(SeekFrom::Start(data))?;
        to.seek(SeekFrom::Start(data))?;
        let copied = io::copy(&mut io::Read::take(&from, CHUNK), &mut to)?;
        gauge.add(copied);
        if copied == 0 {
            break;
        }
        at = data + copied;
    }
    to.set_len(size)
}

/// What a small file beside the data says.
fn small_text(path: &Path) -> Option<String> {
    String::from_utf8(files::read(path, 1 << 20).ok()?).ok()
}

/// The position that the files beside the data tell: mariadb-backup's, or that of the binary
/// log's state, which a primary writes when it is shut down.
fn known_position(
    path: &Path,
    flavor: Flavor,
    backup: Option<String>,
) -> Result<Option<Position>, String> {
    // A set of several sources goes over lines.
    let gtids: String = backup.iter().flat_map(|t| t.split_whitespace().skip(2)).collect();
    if !gtids.is_empty() {
        return Position::parse(flavor, &gtids).map(Some);
    }
    if flavor == Flavor::MySql {
        // Its tables tell.
        return Ok(None);
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|e| e == "state")
            && let Some(text) = small_text(&entry.path())
        {
            let text = text.lines().collect::<Vec<_>>().join(",");
            return BinlogState::parse(&text).map(|state| Some(state.newest()));
        }
    }
    Ok(None)
}

/// Adopts `source`: afterwards the scratch directory holds it, shut down cleanly.
///
/// # Errors
/// What keeps it from being copied or started; [`Error::Configuration`] when nobody knows its
/// position.
pub fn adopt(
    supervisor: &mut Supervisor,
    setup: &Setup,
    scratch: &mut Scratch,
    source: &Source,
    patience: Patience,
    jobs: usize,
) -> Result<(Adopted, CleanShutdown)> {
    scratch.discard(supervisor)?;
    scratch.make_data()?;
    source.copy(supervisor, scratch, jobs)?;
    forget_replication(&scratch.data())?;
    let mut mysqld = Mysqld::spawn(setup, false)?;
    scratch.set_running(&mysqld, false)?;
    wait_until_ready(supervisor, &mut mysqld, patience.start)?;
    let adopted = ask(&mut mysqld, source)
        .map_err(|e| explain(supervisor, &mut mysqld, e, patience.shutdown))?;
    let clean = shut_down(supervisor, &mut mysqld, patience.shutdown)?;
    scratch.set_clean()?;
    forget_replication(&scratch.data())?;
    Ok((adopted, clean))
}

fn ask(mysqld: &mut Mysqld, source: &Source) -> Result<Adopted> {
    mysqld.close_the_door(source.flavor)?;
    let own = replica::position(mysqld, source.flavor)?;
    let position = match &source.position {
        Some(position) => {
            if own != *position {
                replica::set_position(mysqld, position)?;
            }
            position.clone()
        }
        None if own.is_empty() => {
            return Err(Error::config(format!(
                "--from dir:{} does not know its position: give it with --position",
                source.path.display()
            )));
        }
        None => own,
    };
    let columns: Vec<String> = SETTINGS.iter().map(|s| format!("@@global.{s} AS {s}")).collect();
    let sql = format!("SELECT VERSION() AS version, {}", columns.join(", "));
    let answer = mysqld.control()?.query(&sql);
    let row = answer.map_err(|t| mysqld.lost("answer to a query", t))?;
    let settings = SETTINGS.iter().map(|s| (s.to_string(), row.get(s).to_string())).collect();
    let version = row.get("version").to_string();
    Ok(Adopted { position, version, settings, data_as_of: source.data_as_of })
}
