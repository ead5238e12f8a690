//! The options that came with a streamed backup, for the program that prepares it.
//!
//! Without them that program takes the data for one of the usual page size, in the usual file, and without
//! keys. But whoever made the stream wrote them: only those of the data's layout and of its keys are passed
//! on, none that leads elsewhere, and those of the keys are overridden by the user's.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::fs::fchown;
use std::path::Path;

use crate::error::{IoExt as _, Result};
use crate::os::{files, sys};
use crate::server::setup::Setup;

/// In the names of plugins with keys, and of their options.
const KEYS: &str = "-key-management";
/// Written by the program that made the backup.
const CAME: &str = "backup-my.cnf";
/// What is passed on, in the directory for temporary files.
const PASSED: &str = "prepare.cnf";
/// The longest that is read, bytes.
const LONGEST: u64 = 1 << 20;
/// What the layout of the data is made of.
const LAYOUT: [&str; 11] = [
    "innodb-checksum-algorithm",
    "innodb-compression-level",
    "innodb-data-file-path",
    "innodb-encrypt-log",
    "innodb-encrypt-tables",
    "innodb-log-checksums",
    "innodb-log-file-size",
    "innodb-log-files-in-group",
    "innodb-page-size",
    "innodb-undo-directory",
    "innodb-undo-tablespaces",
];

/// Fails if the options of the backup, some of which the program looks up by itself, lead out of it.
pub fn check(data: &Path, scratch: &Path) -> Result<(), String> {
    for (key, value) in options(data) {
        // A library that is loaded must not have come with the stream.
        let in_scratch = || match Path::new(&value).canonicalize() {
            Ok(path) => path.starts_with(scratch) || Path::new(&value).is_relative(),
            Err(_) => true,
        };
        let leads_out = key.starts_with('!')
            || (key.ends_with("plugin-dir") && in_scratch())
            || (key.contains("plugin-load") && value.contains('/'))
            || (key.contains("innodb")
                && (value.contains("..") || value.contains('/') && value != "./"));
        if leads_out {
            return Err(format!("has a backup-my.cnf that leads elsewhere with {key}"));
        }
    }
    Ok(())
}

/// Writes the file of what is passed on, and returns the option that names it.
///
/// # Errors
/// What keeps it from being written.
pub fn pass_on(setup: &Setup) -> Result<OsString> {
    let tmp = setup.scratch.join("tmp");
    let path = tmp.join(PASSED);
    let text = passed(&options(&setup.data()), &setup.options);
    let write = || -> io::Result<()> {
        let dir = files::open_dir(&tmp)?;
        // Through its descriptor: the user that the programs run as could put a link in its place.
        match files::remove(&dir, Path::new(PASSED), false) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let mut file = sys::open_below(&dir, Path::new(PASSED), flags, 0o600)?;
        if let Some((uid, gid)) = setup.user {
            fchown(&file, Some(uid), Some(gid))?;
        }
        file.write_all(text.as_bytes())
    };
    write().doing("write", &path)?;
    let mut option = OsString::from("--defaults-file=");
    option.push(path);
    Ok(option)
}

/// The options that came, with their values.
fn options(data: &Path) -> Vec<(String, String)> {
    let text = files::read(&data.join(CAME), LONGEST).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(str::trim).map(split).collect()
}

/// `plugin_dir="/x"` as `plugin-dir` and `/x`.
fn split(option: &str) -> (String, String) {
    let (key, value) = option.split_once('=').unwrap_or((option, ""));
    (key.trim().replace('_', "-"), value.trim().trim_matches(['"', '\'']).to_string())
}

/// The text of what is passed on: what came, then the user's own, which count.
fn passed(came: &[(String, String)], own: &[String]) -> String {
    let own = own.iter().map(|option| split(option.trim_start_matches('-')));
    let own = own.filter(|(key, _)| key == "plugin-dir" || is_of_keys(key));
    let came = came.iter().filter(|(key, _)| LAYOUT.contains(&key.as_str()) || is_of_keys(key));
    // A stream names no directory of libraries, and none of them but for keys.
    let came = came.map(|(key, value)| match key.as_str() {
        "plugin-load" => (key.clone(), key_plugins(value)),
        _ => (key.clone(), value.clone()),
    });
    let mut text = String::from("[mysqld]\n");
    for (key, value) in came.chain(own) {
        if !value.contains(char::is_control) {
            text += &format!("{key}=\"{}\"\n", value.replace('\\', "\\\\").replace('"', "\\\""));
        }
    }
    text
}

/// True for what leads to the keys of encrypted data.
fn is_of_keys(key: &str) -> bool {
    key == "plugin-load" || key.contains(KEYS)
}

/// The plugins with keys in a list.
fn key_plugins(list: &str) -> String {
    let plugins: Vec<&str> =
        list.split(';').filter(|p| p.replace('_', "-").contains(KEYS)).collect();
    plugins.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_layout_and_keys_are_passed_on() {
        let came = "# x\n[mariadb-backup]\nbackup\ntmpdir=/etc\ninnodb_page_size=8192\n\
                    aria_log_dir_path=/etc\nplugin_dir=/tmp\nfile_key_management_filename=/theirs\n\
                    plugin_load=a=a.so;file_key_management=file_key_management.so"
            .lines()
            .map(split)
            .collect::<Vec<_>>();
        let own =
            ["--plugin-dir=/p", "--file_key_management_filename=/o u\\rs", "--skip-x", "--y=1"];
        assert_eq!(
            passed(&came, &own.map(String::from)),
            "[mysqld]\ninnodb-page-size=\"8192\"\nfile-key-management-filename=\"/theirs\"\n\
             plugin-load=\"file_key_management=file_key_management.so\"\nplugin-dir=\"/p\"\nfile-key-management-filename=\"/o u\\\\rs\"\n"
        );
    }
}
