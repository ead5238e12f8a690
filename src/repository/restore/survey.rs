//! What is in a directory before a backup is restored over it: what may stay and what has to go.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::gate::{ASIDE, Gate, is_mark};
use crate::error::{Error, IoExt as _, Result};
use crate::os::files;
use crate::os::stamp::Stamp;
use crate::os::sys::open_below;
use crate::repository::data_dir::is_left_out;
use crate::repository::manifest::Manifest;

/// What was found.
#[derive(Debug, Default)]
pub struct Survey {
    /// Bytes on disk of the files that stay, each at most as large as it is in the backup.
    pub kept: u64,
    /// Bytes on disk that are free once the surplus is gone; counted of a marked directory only.
    pub freed: u64,
    /// What the backup lacks or has as another kind, below the directory; true for a directory.
    pub surplus: Vec<(PathBuf, bool)>,
    /// How many files that are, with those in its directories; counted of a marked directory only.
    pub surplus_files: u64,
    /// Symbolic links to directories in it, and where they lead.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// What is no data, and stays.
    pub foreign: Vec<OsString>,
    /// The files that have their content already, by the order of the manifest.
    pub unchanged: Vec<bool>,
}

impl Survey {
    /// Surveys the open directory `root`, called `shown`. `stamps` are those that files of the backup
    /// have while they are known to be unchanged. With a `gate` it is a server's directory, and only what
    /// servers have is surplus.
    ///
    /// # Errors
    /// Those of the system.
    pub fn of(
        root: &File,
        shown: &Path,
        manifest: &Manifest,
        stamps: &[Option<Stamp>],
        gate: Option<&Gate>,
    ) -> Result<Survey> {
        let dirs: HashSet<&Path> = manifest.dirs.iter().map(|d| d.path.as_path()).collect();
        let files: HashMap<&Path, usize> =
            manifest.files.iter().zip(0..).map(|(f, n)| (f.path.as_path(), n)).collect();
        let marked = gate.filter(|gate| gate.is_marked(root));
        let unchanged = vec![false; manifest.files.len()];
        let mut survey = Survey { unchanged, ..Survey::default() };
        let mut todo = vec![PathBuf::new()];
        while let Some(dir) = todo.pop() {
            let fail = |e| Error::io("clear", &shown.join(&dir), e);
            let open = open_dir(root, &dir).map_err(fail)?;
            let is_root = dir.as_os_str().is_empty();
            for entry in files::list(&open).map_err(fail)? {
                let entry = entry.map_err(fail)?;
                let name = entry.file_name();
                let path = dir.join(&name);
                let m = entry.metadata().map_err(fail)?;
                let is_dir = m.is_dir();
                let of_backup = match marked {
                    Some(gate) if path == gate.name() => continue,
                    Some(gate) if path == Path::new(ASIDE) => gate.name(),
                    _ => &path,
                };
                let stays = match is_dir {
                    true => dirs.contains(path.as_path()) || (is_root && name == "lost+found"),
                    false => m.is_file() && m.nlink() == 1 && files.contains_key(of_backup),
                };
                if !stays {
                    let is_foreign = gate.is_some()
                        && is_root
                        && !files.contains_key(path.as_path())
                        && !dirs.contains(path.as_path())
                        && is_foreign(&open, &path, &m);
                    match is_foreign {
                        true => survey.foreign.push(name),
                        false => {
                            survey.add_surplus(&open, path, &m, gate.is_some()).map_err(fail)?
                        }
                    }
                } else if !is_dir {
                    let index = files[of_backup];
                    survey.kept += (m.blocks() * 512).min(manifest.files[index].size);
                    let stamp = stamps.get(index).copied().flatten();
                    survey.unchanged[index] = stamp == Some(Stamp::of(&m));
                } else if dirs.contains(path.as_path()) {
                    todo.push(path);
                }
            }
        }
        Ok(survey)
    }

    fn add_surplus(
        &mut self,
        dir: &File,
        path: PathBuf,
        m: &Metadata,
        counted: bool,
    ) -> io::Result<()> {
        let name = Path::new(path.file_name().unwrap_or_default());
        if m.is_symlink() {
            let link = files::path_of(dir).join(name);
            if fs::metadata(&link).is_ok_and(|m| m.is_dir()) {
                self.links.push((path.clone(), fs::read_link(&link)?));
            }
        }
        if counted {
            self.count(dir, name, m)?;
        }
        self.surplus.push((path, m.is_dir()));
        Ok(())
    }

    fn count(&mut self, dir: &File, name: &Path, m: &Metadata) -> io::Result<()> {
        if !m.is_dir() {
            self.surplus_files += 1;
            self.freed += if m.nlink() == 1 { m.blocks() * 512 } else { 0 };
            return Ok(());
        }
        let open = open_below(dir, name, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        for entry in files::list(&open)? {
            let entry = entry?;
            self.count(&open, Path::new(&entry.file_name()), &entry.metadata()?)?;
        }
        Ok(())
    }

    /// Removes the surplus. Of a link, only the link goes.
    ///
    /// # Errors
    /// Those of the system.
    pub fn remove_surplus(&self, root: &File, shown: &Path) -> Result<()> {
        for (path, is_dir) in &self.surplus {
            let parent = path.parent().unwrap_or(Path::new(""));
            let name = Path::new(path.file_name().unwrap_or_default());
            open_dir(root, parent)
                .and_then(|dir| files::remove(&dir, name, *is_dir))
                // The text that was to become the mark has become it.
                .ignoring(io::ErrorKind::NotFound)
                .map_err(|e| Error::io("remove", &shown.join(path), e))?;
        }
        Ok(())
    }
}

/// A directory below `root`; that itself for the empty path.
pub fn open_dir(root: &File, path: &Path) -> io::Result<File> {
    if path.as_os_str().is_empty() {
        return root.try_clone();
    }
    open_below(root, path, libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

/// True if `name` in the open data directory `dir` is no part of any server's data: option files, error
/// logs, hidden directories, and what somebody else has put there.
pub fn is_foreign(dir: &File, name: &Path, m: &Metadata) -> bool {
    if m.is_dir() {
        return is_foreign_dir(name);
    }
    let is_dir = m.is_symlink()
        && fs::metadata(files::path_of(dir).join(name)).is_ok_and(|target| target.is_dir());
    !is_dir && !is_servers(name) && !is_mark(dir, name)
}

/// The same of a directory; `.rocksdb` is MyRocks'.
pub fn is_foreign_dir(name: &Path) -> bool {
    let name = name.as_os_str().as_bytes();
    name == b"lost+found" || (name.starts_with(b".") && name != b".rocksdb")
}

/// True if servers have files of that name at the top of their data directory. A binary log is one, too:
/// with it, a server would take transactions for its own that are not in the data.
fn is_servers(path: &Path) -> bool {
    const BEGIN: [&str; 15] = [
        "ibdata",
        "ib_",
        "ibtmp",
        "undo",
        "#",
        "aria_log",
        "tc.log",
        "ddl",
        "mysql_upgrade",
        "mariadb_upgrade",
        "mysqld-auto.cnf",
        "rollforward",
        // Galera's, which say what position the data has.
        "grastate.dat",
        "gvwstate.dat",
        "galera.cache",
    ];
    let name = path.as_os_str().as_bytes();
    if BEGIN.iter().any(|begin| name.starts_with(begin.as_bytes())) || name == b"auto.cnf" {
        return true;
    }
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
    is_of_table(path) || (!matches!(end, "cnf" | "err") && is_left_out(path, false))
}

/// True if servers have files of that name with the data of tables.
pub fn is_of_table(path: &Path) -> bool {
    const END: [&str; 19] = [
        "ibd", "ibu", "isl", "sym", "frm", "opt", "MYD", "MYI", "MAD", "MAI", "CSV", "CSM", "ARZ",
        "MRG", "TRG", "TRN", "par", "sdi", "dblwr",
    ];
    END.contains(&path.extension().and_then(|end| end.to_str()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_left_goes_and_other_files_stay() {
        for name in [
            "ibdata1",
            "ib_logfile0",
            "undo001",
            "aria_log_control",
            "#ib_16384_0.dblwr",
            "binlog.000017",
            "binlog.index",
            "db1-relay-bin.000002",
            "master.info",
            "auto.cnf",
            "mysqld-auto.cnf",
            "db1.pid",
            "tc.log",
            "ts1.ibd",
            "xtrabackup_info",
            "rollforward-replica.sql",
            "grastate.dat",
        ] {
            assert!(is_servers(Path::new(name)), "{name}");
        }
        for name in
            ["my.cnf", "db1.err", "db1-slow.log", "debian-10.11.flag", "dump.sql.gz", "key.pem"]
        {
            assert!(!is_servers(Path::new(name)), "{name}");
        }
        assert!(is_foreign_dir(Path::new(".snapshot")) && !is_foreign_dir(Path::new(".rocksdb")));
    }
}
