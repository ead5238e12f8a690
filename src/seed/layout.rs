//! What a server must be told to start on a data directory that it did not make: read from the files.
//!
//! The first page of InnoDB's system tablespace says how large its pages are and how many there are of
//! them, in one file or several: `FSP_SIZE` and `FSP_SPACE_FLAGS` in the servers' `fsp0types.h`. A file
//! may have any name, and so the numbers of pages say which come next. MySQL keeps the setting for
//! upper and lower case in its dictionary, and names it when it is started with another. MariaDB keeps
//! it nowhere: names with capitals tell.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::mysql::settings::Values;
use crate::os::files;
use crate::os::in_use;
use crate::repository::data_dir::{Tree, is_tablespace};
use crate::server::reserved_options::is_given;

/// The usual name of the first file of the system tablespace.
const USUAL: &str = "ibdata1";
/// How large it is at least, bytes, for servers that are told nothing.
const LEAST: u64 = 12 << 20;
/// The sizes in `innodb_data_file_path` are multiples of this, bytes.
const UNIT: u64 = 1 << 20;
/// The type of the first page of a tablespace: `FIL_PAGE_TYPE_FSP_HDR`.
const FIRST_PAGE: u32 = 8;
/// More files than anybody has in a system tablespace.
const MOST: usize = 1000;

/// The beginning of the system tablespace.
pub struct System {
    name: String,
    page: u64,
    pages: u64,
}

/// The first bytes of a page in a file.
struct Page([u8; 58]);

impl Page {
    /// The page at the beginning of a file.
    fn first(file: &File) -> Option<Page> {
        let mut bytes = [0; 58];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Some(Page(bytes))
    }

    fn number(&self, at: usize) -> u32 {
        self.0[at..at + 4].iter().fold(0, |n, byte| n << 8 | u32::from(*byte))
    }

    /// Bytes of a page, out of the flags of the tablespace.
    fn size(&self) -> Option<u64> {
        let flags = self.number(54);
        // Bit 4 marks MariaDB's format full_crc32, whose size is in the lowest bits.
        let exponent = if flags & 0x10 == 0 { flags >> 6 & 0xf } else { flags & 0xf };
        match exponent {
            0 => Some(16 << 10),
            3..=7 => Some(512 << exponent),
            _ => None,
        }
    }

    /// The system tablespace that begins with it.
    fn system(&self, name: &str) -> Option<System> {
        let kind = self.number(24) >> 16;
        let begins = kind == FIRST_PAGE && [4, 34, 38].iter().all(|at| self.number(*at) == 0);
        let (page, pages) = (self.size()?, u64::from(self.number(46)));
        begins.then(|| System { name: name.into(), page, pages })
    }

    /// True if it has number `number` in the system tablespace, or was never written.
    fn may_be(&self, number: u64) -> bool {
        let unused = self.0.iter().all(|byte| *byte == 0);
        unused || (u64::from(self.number(4)) == number && self.number(34) == 0)
    }
}

/// The first file of the system tablespace in the directory `path`.
pub fn first_file(path: &Path) -> Option<(File, PathBuf)> {
    let usual = path.join(USUAL);
    if let Ok(file) = files::open(&usual) {
        return Some((file, usual));
    }
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(path).ok()?.flatten().map(|e| e.path()).collect();
    names.sort();
    names.into_iter().find_map(|path| {
        let is_file = path.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() >= UNIT);
        if !is_file || is_tablespace(&path) {
            return None;
        }
        let file = files::open(&path).ok()?;
        Page::first(&file)?.system(USUAL)?;
        Some((file, path))
    })
}

/// Who uses the data directory `path`, in words: see [`in_use::user`].
pub fn user(path: &Path) -> Option<String> {
    const OTHERS: [&str; 3] = ["aria_log_control", "mysql.ibd", "ib_logfile0"];
    let first = first_file(path).map(|(file, _)| file);
    let others = OTHERS.iter().filter_map(|name| files::open(&path.join(name)).ok());
    in_use::user(&File::open(path).ok()?, &first.into_iter().chain(others).collect::<Vec<_>>())
}

/// What a server must be told for the directory `path`, named `shown`, with these files. `given` are the user's options.
///
/// # Errors
/// [`Error::Configuration`] if the files of the system tablespace cannot be told from others.
pub fn settings(path: &Path, shown: &str, tree: &Tree, given: &[String]) -> Result<Values> {
    let mut values = Values::new();
    let unknown = |what: String| {
        Error::config(format!(
            "{what} in {shown}: name the files as the option file of its server does, with \
             --mysqld-option=--innodb-data-file-path=..."
        ))
    };
    let first = first_file(path);
    let name = first.as_ref().and_then(|(_, path)| path.file_name()?.to_str());
    let found =
        first.as_ref().zip(name).and_then(|((file, _), name)| Page::first(file)?.system(name));
    let told = is_given(given, "innodb-data-file-path");
    let Some(system) = found else {
        return if told {
            Ok(values)
        } else {
            Err(unknown("no system tablespace is found".into()))
        };
    };
    values.push(("innodb_page_size".into(), system.page.to_string()));
    if !told {
        let files = system.files(path, tree).ok_or_else(|| {
            unknown(format!("not all files of the system tablespace of {} are found", system.name))
        })?;
        values.extend(files.map(|files| ("innodb_data_file_path".to_string(), files)));
    }
    Ok(values)
}

impl System {
    /// Its files as `innodb_data_file_path` has them; nothing if they are as usual. `None` if they
    /// cannot be told.
    fn files(&self, path: &Path, tree: &Tree) -> Option<Option<String>> {
        let mut left: Vec<(&str, u64)> = tree
            .files
            .iter()
            .filter(|f| f.path.components().count() == 1 && !is_tablespace(&f.path))
            .filter(|f| f.size >= UNIT && f.size % UNIT == 0)
            .filter_map(|f| Some((f.path.to_str()?, f.size)))
            .filter(|(name, _)| !is_other(name))
            .collect();
        let take = |left: &mut Vec<(&str, u64)>, at: usize| {
            let (name, size) = left.remove(at);
            (name.to_string(), size)
        };
        let at = left.iter().position(|(name, _)| *name == self.name)?;
        let mut files = vec![take(&mut left, at)];
        let needed = self.pages * self.page;
        let mut have = files[0].1;
        while have < needed && files.len() < MOST {
            let number = have / self.page;
            let may = |(name, _): &&(&str, u64)| {
                let page = files::open(&path.join(name)).ok().and_then(|f| Page::first(&f));
                page.is_some_and(|page| page.may_be(number))
            };
            let next: Vec<_> = left.iter().filter(may).copied().collect();
            // Of several, those that are called like the first one come in the order of their names.
            let stem = self.name.trim_end_matches(|c: char| c.is_ascii_digit());
            let alike = next.iter().filter(|(name, _)| name.starts_with(stem));
            let chosen = match next.as_slice() {
                [only] => *only,
                _ => *alike.min_by_key(|(name, _)| (name.len(), *name))?,
            };
            let at = left.iter().position(|file| *file == chosen)?;
            files.push(take(&mut left, at));
            have += chosen.1;
        }
        if have < needed {
            return None;
        }
        if let [(name, size)] = files.as_slice()
            && name == USUAL
            && *size >= LEAST
        {
            return Some(None);
        }
        let all = files.iter().map(|(name, size)| format!("{name}:{}M", size / UNIT));
        Some(Some(all.collect::<Vec<_>>().join(";") + ":autoextend"))
    }
}

/// True for what is no part of the system tablespace.
fn is_other(name: &str) -> bool {
    let prefixes =
        ["ib_logfile", "ibtmp", "undo", "aria_log", "#", "ib_buffer_pool", "xtrabackup_"];
    prefixes.iter().any(|p| name.starts_with(p)) || name == "tc.log"
}

/// True if a name in MariaDB's directory has capitals, so that they count: a database, or a table in one.
pub fn has_capitals(tree: &Tree) -> bool {
    let tables = tree.files.iter().filter(|f| f.path.extension().is_some_and(|e| e == "frm"));
    let tables = tables.filter_map(|f| f.path.file_stem());
    let dirs = tree.dirs.iter().filter_map(|d| d.path.file_name());
    dirs.chain(tables).any(|name| {
        let mut bytes = name.as_bytes().iter();
        while let Some(byte) = bytes.next() {
            match byte {
                // What follows is the code of a letter, or the name of a partition or temporary table.
                b'@' => drop(bytes.nth(1)),
                b'#' => return false,
                byte if byte.is_ascii_uppercase() => return true,
                _ => {}
            }
        }
        false
    })
}

/// The value that a MySQL server that was started with another for upper and lower case names, in what
/// it said in its log.
pub fn case_of_dictionary(log: &str) -> Option<&'static str> {
    let said = "Different lower_case_table_names settings for server (";
    let (_, rest) = log.rsplit_once(said)?;
    let (_, rest) = rest.split_once("data dictionary ('")?;
    ["0", "1", "2"].into_iter().find(|value| rest.starts_with(*value))
}
