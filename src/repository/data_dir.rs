//! What a data directory consists of, and which parts of it are backed up.
//!
//! Left out are files that a server recreates or that must not be shared: its identity, its logs,
//! and its replication settings with their password. Names decide, at the top level only, because
//! below it are databases, which can have any name. What a copy could not hold, such as a link out
//! of the directory, is refused by name rather than lost.

use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, IoExt, Result};
use crate::os::files;
use crate::os::stamp::Stamp;
use crate::os::sys::open_below;
use crate::os::workers::Gauge;
use crate::repository::manifest::DirEntry;

/// The longest path a manifest allows, in bytes, and the most parts of one: removing a tree takes open
/// files for each level.
pub const LONGEST_PATH: usize = 4095;
/// See [`LONGEST_PATH`].
pub const MOST_PARTS: usize = 100;

/// A file found in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Relative to the data directory.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// True if it occupies less space than its size, so it may have holes.
    pub sparse: bool,
    /// Bytes it occupies on disk.
    pub space: u64,
    /// What shows that it was not written since.
    pub stamp: Stamp,
}

impl Found {
    /// What `m` says of the file `path`.
    pub fn new(path: PathBuf, m: &Metadata) -> Found {
        Found {
            path,
            mode: m.mode() & 0o777,
            size: m.len(),
            sparse: m.blocks() * 512 < m.len(),
            space: (m.blocks() * 512).min(m.len()),
            stamp: Stamp::of(m),
        }
    }

    /// True if `m` shows the same file, unchanged.
    pub fn is_unchanged(&self, m: &Metadata) -> bool {
        m.is_file() && m.len() == self.size && Stamp::of(m).mtime == self.stamp.mtime
    }
}

/// Everything in a data directory that is backed up.
#[derive(Debug, Default)]
pub struct Tree {
    /// Directories, parents first.
    pub dirs: Vec<DirEntry>,
    /// Files.
    pub files: Vec<Found>,
}

/// Walks the data directory `root`, whose path is `data`, following no symbolic link below it. Of a
/// million files that takes minutes: what it returns is not all of them if `gauge` was stopped.
pub fn walk(root: &File, data: &Path, gauge: &Gauge) -> Result<Tree> {
    let mut tree = Tree::default();
    let mut todo = vec![PathBuf::new()];
    while let Some(dir) = todo.pop() {
        let fail = |e| Error::io("read", &data.join(&dir), e);
        let open = match dir.as_os_str().is_empty() {
            true => root.try_clone(),
            false => open_below(root, &dir, libc::O_RDONLY | libc::O_DIRECTORY, 0),
        };
        let open = open.map_err(fail)?;
        let mut subdirs = Vec::new();
        for entry in files::list(&open).map_err(fail)? {
            if gauge.stopped() {
                return Ok(tree);
            }
            let entry = entry.map_err(fail)?;
            let path = dir.join(entry.file_name());
            let full = data.join(&path);
            let m = entry.metadata().doing("read", &full)?;
            if is_left_out(&path, m.is_dir()) {
                continue;
            }
            if path.as_os_str().len() > LONGEST_PATH || path.components().count() > MOST_PARTS {
                return Err(Error::config(format!("the path {} is too long", full.display())));
            }
            if m.is_dir() {
                tree.dirs.push(DirEntry { path: path.clone(), mode: m.mode() & 0o777 });
                subdirs.push(path);
            } else {
                check_kind(&full, &m)?;
                tree.files.push(Found::new(path, &m));
            }
        }
        todo.extend(subdirs);
    }
    // A parent is shorter than its children, so it sorts before them.
    tree.dirs.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    tree.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

fn check_kind(path: &Path, m: &Metadata) -> Result<()> {
    let shown = path.display();
    if m.is_symlink() {
        return Err(Error::config(format!(
            "{shown} is a symbolic link: what it points to would not be in the backup"
        )));
    }
    if !m.is_file() {
        return Err(Error::config(format!("{shown} is neither a file nor a directory")));
    }
    // What is left out at the top has gone by here.
    if misleads_server(path, false) {
        return Err(Error::config(format!(
            "{shown} leads to data elsewhere, as DATA DIRECTORY does, which would not be in the backup"
        )));
    }
    Ok(())
}

/// True if a server that finds `path`, relative to its data directory, would use files elsewhere, take
/// options from it, or follow another server; or if it is a file of a restore's own. No backup holds such
/// a file.
pub fn misleads_server(path: &Path, is_dir: bool) -> bool {
    if path.extension().is_some_and(|e| e == "isl" || e == "sym") {
        return true;
    }
    let name = path.as_os_str().as_bytes();
    if path.components().count() != 1 || is_dir || is_tablespace(path) {
        return is_dir && name == WORK;
    }
    // MySQL keeps the settings of SET PERSIST in mysqld-auto.cnf. Where MariaDB finds a log of definitions
    // that were interrupted, it removes and renames the files that this names, wherever they are; and where
    // it purges logs, those in the index.
    (name.ends_with(b".cnf") && name != b"mysqld-auto.cnf")
        || name.ends_with(b".index")
        || name.starts_with(b"ddl_recovery")
        || is_replication(name)
        || OF_RESTORES.contains(&name)
}

/// What a restore has in a data directory while it is at work, and the statements that it adds.
const OF_RESTORES: [&[u8]; 3] =
    [b"rollforward-replica.sql", b"rollforward.first", b"rollforward.mark"];
const WORK: &[u8] = b"rollforward.tmp";

/// True for a file that says which server to follow, and from where on.
fn is_replication(name: &[u8]) -> bool {
    let starts = ["master", "relay-log", "worker-relay-log"];
    name == b"multi-master.info"
        || (name.ends_with(b".info") && starts.iter().any(|s| name.starts_with(s.as_bytes())))
}

/// True if `path`, relative to the data directory, is not backed up.
pub fn is_left_out(path: &Path, is_dir: bool) -> bool {
    if path.components().count() != 1 {
        return false;
    }
    let name = path.as_os_str().as_bytes();
    if is_dir {
        // Not names of databases, whose '#' and '+' would be written as @0023 and @002b.
        return matches!(name, b"#innodb_temp" | b"#clone" | b"lost+found" | WORK);
    }
    let starts = |s: &str| name.starts_with(s.as_bytes());
    let ends = |s: &str| name.ends_with(s.as_bytes());
    if is_tablespace(path) {
        return false;
    }
    matches!(name, b"core" | b"ibtmp1")
        || OF_RESTORES.contains(&name)
        || is_replication(name)
        || (ends(".cnf") && name != b"mysqld-auto.cnf")
        || starts("ib_buffer_pool")
        || starts("ddl_recovery")
        || starts("xtrabackup_")
        || starts("mariadb_backup_")
        || starts("core.")
        || (starts("#ib_") && (ends(".dblwr") || ends(".bdblwr")))
        || [".pid", ".sock", ".sock.lock", ".err"].iter().any(|s| ends(s))
        || is_log(name)
}

/// True for a name that only a tablespace has, whatever its beginning: MySQL's CREATE TABLESPACE accepts
/// `core.ibd` and `master-1.ibd`, and CREATE UNDO TABLESPACE the like. So do the files of MariaDB's Mroonga,
/// which keeps schema `core` in `core.mrn`, `core.mrn.conf`, `core.mrn.001`, `core.mrn.0000100` and
/// `core.mrn.000010D.c`.
pub fn is_tablespace(path: &Path) -> bool {
    let of_mroonga = |name: &str| {
        let mut parts = name.split('.').skip(1);
        let number =
            |part: &str| matches!(part.len(), 3 | 7) && part.bytes().all(|b| b.is_ascii_hexdigit());
        parts.next() == Some("mrn") && parts.all(|p| matches!(p, "conf" | "c") || number(p))
    };
    path.extension().is_some_and(|e| e == "ibd" || e == "ibu")
        || path.to_str().is_some_and(of_mroonga)
}

/// Binary and relay logs and their companion files, whatever their base name: they end in a number
/// of at least six digits. So does Aria's log, which is needed.
fn is_log(name: &[u8]) -> bool {
    if [".index", ".state", ".index_crash_safe", ".~rec~"]
        .iter()
        .any(|s| name.ends_with(s.as_bytes()))
    {
        return true;
    }
    let name = name.strip_suffix(b".idx").unwrap_or(name);
    let Some(dot) = name.iter().rposition(|&b| b == b'.') else { return false };
    let digits = &name[dot + 1..];
    digits.len() >= 6 && digits.iter().all(u8::is_ascii_digit) && !name.starts_with(b"aria_log.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_a_server_recreates_are_skipped_at_top_level_only() {
        for name in [
            "auto.cnf",
            "ibtmp1",
            "ib_buffer_pool",
            "#ib_16384_0.dblwr",
            "binlog.000001",
            "binlog.index",
            "mysql-bin.000123",
            "mysql-bin.000123.idx",
            "mariadb-bin.state",
            "relay.000002",
            "relay.index",
            "db1-relay-bin.000002",
            "relay-bin-ch1.1000000",
            "binlog.mrn.000001",
            "relay-log.info",
            "relay-log-ch1.info",
            "master.info",
            "master-ch1.info",
            "multi-master.info",
            "ddl_recovery.log",
            "xtrabackup_binlog_info",
            "backup-my.cnf",
            "db1.pid",
            "mysqld.sock",
            "mysql.sock.lock",
            "db1.err",
            "core",
            "core.4711",
            "rollforward.first",
            "rollforward.mark",
        ] {
            assert!(is_left_out(Path::new(name), false), "{name}");
            assert!(!is_left_out(Path::new(name), true), "a database named {name}");
            assert!(!is_left_out(&Path::new("shop").join(name), false), "shop/{name}");
        }
        assert!(is_left_out(Path::new("#innodb_temp"), true));
        assert!(is_left_out(Path::new("#clone"), true));
    }

    #[test]
    fn what_the_data_needs_is_kept() {
        for name in [
            "ibdata1",
            "ib_logfile0",
            "undo_001",
            "mysql.ibd",
            "aria_log.00000001",
            "aria_log_control",
            "mysqld-auto.cnf",
            "mysql_upgrade_info",
            "mysql_upgrade_history",
            "private_key.pem",
            "tc.log",
            "relay",
            "shop.mrn",
            "shop.mrn.0000000",
            "shop.mrn.0000103",
            "shop.mrn.000010D.c",
            "shop.mrn.001",
            "core.mrn",
            "master.mrn.conf",
            "xtrabackup_1.mrn.0000000",
            "t.000001.ibd",
            "core.ibd",
            "master_data.ibd",
            "relay-log.info.ibd",
            "relay-archive.ibd",
            "ib_buffer_pool.ibd",
            "xtrabackup_1.ibu",
        ] {
            assert!(!is_left_out(Path::new(name), false), "{name}");
        }
        for name in ["#innodb_redo", "performance_schema", "relay", "core", "shop.000001"] {
            assert!(!is_left_out(Path::new(name), true), "{name}");
        }
    }
}
