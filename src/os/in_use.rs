//! Which process has files open: servers lock theirs, and the kernel shows who has which.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::os::sys;

/// The servers and the scripts that start them, as the kernel names processes.
const SERVERS: [&str; 4] = ["mariadbd", "mysqld", "mysqld_safe", "mariadbd-safe"];

/// Another process that has locked one of `files` or has it open, or a server that has just started in
/// the directory `dir`, in words. A lock is seen whoever holds it, the other two only of processes that
/// we may look at.
pub fn user(dir: &File, files: &[File]) -> Option<String> {
    if let Some(pid) = files.iter().find_map(|f| sys::write_lock_holder(f).ok().flatten()) {
        return Some(u32::try_from(pid).ok().filter(|pid| *pid > 0).map_or_else(
            // In another container, or on another machine.
            || "another process".into(),
            named,
        ));
    }
    let identity = |m: &fs::Metadata| (m.dev(), m.ino());
    let ours: HashSet<_> = files.iter().flat_map(File::metadata).map(|m| identity(&m)).collect();
    let home = dir.metadata().ok().map(|m| identity(&m))?;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let is_at = |path: &Path| fs::metadata(path).ok().map(|m| identity(&m));
    pids.filter(|pid| *pid != std::process::id())
        .find(|pid| {
            let of = Path::new("/proc").join(pid.to_string());
            let open = fs::read_dir(of.join("fd")).into_iter().flatten().flatten();
            (is_at(&of.join("cwd")) == Some(home) && SERVERS.contains(&name(*pid).as_str()))
                || open
                    .map(|fd| fd.path())
                    .any(|fd| is_at(&fd).is_some_and(|is| ours.contains(&is)))
        })
        .map(named)
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_string()
}

fn named(pid: u32) -> String {
    match name(pid) {
        none if none.is_empty() => format!("pid {pid}"),
        name => format!("{name} (pid {pid})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_with_the_file_open_is_named() {
        let dir = std::env::temp_dir().join(format!("rf-unit-in-use-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("ibdata1");
        fs::write(&path, "x").unwrap();
        let (open, file) = (File::open(&dir).unwrap(), File::open(&path).unwrap());
        let files = [file];
        assert_eq!(user(&open, &files), None, "we ourselves do not count");
        let mut command = crate::os::process::command("sleep");
        command.arg("60").stdin(File::open(&path).unwrap());
        let mut child = crate::os::process::Child::spawn(&mut command).unwrap();
        let pid = child.pid();
        assert_eq!(user(&open, &files), Some(format!("sleep (pid {pid})")));
        child.kill();
        assert_eq!(user(&open, &files), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
