//! Where a command may write its own files: nothing else may depend on what is there.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::cli::options::Options;
use crate::error::{Error, Result};
use crate::pass::plan::real;
use crate::scratch::foreign;

/// Options that name a file to be written.
const WRITTEN: [&str; 3] = ["checkpoint", "metrics-file", "log-file"];
/// Options that name a file to be read.
const READ: [&str; 2] = ["defaults-file", "password-file"];

/// Refuses files in the repository, files of the scratch directory's own, and such as another option names;
/// and locks of `--slots` in either directory. Changes nothing.
///
/// # Errors
/// [`Error::Configuration`], naming the option.
pub fn check(options: &Options) -> Result<()> {
    let places = |path: &Path| {
        let path = real(path);
        let within = |name| {
            let dir = real(&options.path(name)?);
            path.strip_prefix(dir).ok().map(Path::to_path_buf)
        };
        (within("repo"), within("scratch"))
    };
    for (at, name) in WRITTEN.iter().enumerate() {
        let Some(path) = options.path(name) else { continue };
        let wrong = |why: &str| Err(Error::config(format!("--{name} {} {why}", path.display())));
        if *name != "log-file" && is_special(&path) {
            return wrong("is no regular file, and would be replaced by one");
        }
        let (in_repo, in_scratch) = places(&path);
        if in_repo.is_some() {
            return wrong("is inside the repository");
        }
        let is_usual = |within: &Path| *name == "checkpoint" && within == Path::new("checkpoint");
        if let Some(within) = in_scratch
            && !is_usual(&within)
            && within.iter().next().is_none_or(foreign::is_ours)
        {
            return wrong("is what the scratch directory has for another purpose");
        }
        for other in READ.iter().chain(&WRITTEN[..at]) {
            if options.path(other).is_some_and(|other| is_same(&path, &other)) {
                return wrong(&format!("is the file of --{other}: it needs one of its own"));
            }
        }
    }
    let Some(slots) = options.slots()? else { return Ok(()) };
    let wrong = |why| Err(Error::config(format!("--slots {} {why}", slots.dir.display())));
    if let (Some(_), _) | (_, Some(_)) = places(&slots.dir) {
        return wrong("is inside the repository or the scratch directory");
    }
    if slots.dir.exists() && !slots.dir.is_dir() {
        return wrong("is not a directory");
    }
    Ok(())
}

/// True for a device, a pipe or a socket, and for a name of the system's: `/dev/null` would be a file of
/// text afterwards, and so would `/dev/stdout`, which is a link.
fn is_special(path: &Path) -> bool {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let parent = path.parent().map(real).unwrap_or_default();
    let is_systems = parent == Path::new("/dev") || parent.starts_with("/proc");
    is_systems || fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
}

/// True if both are one file, also by two names.
fn is_same(a: &Path, b: &Path) -> bool {
    let id = |path: &Path| {
        fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|m| (m.dev(), m.ino()))
    };
    real(a) == real(b) || id(a).is_some_and(|a| id(b) == Some(a))
}
