//! The relay logs of a pass, kept beside the data until they are stored with the backup.
//!
//! Servers throw their relay logs away when replication is set up again, and a new server begins new
//! ones. So each receiver has a directory of its own, `journal/NUMBER`, with the position at which it
//! began, and before anything removes relay logs they are linked into it: a link costs no room and shows
//! what the receiver writes later, too. All of this outlives servers and passes, as the data does.
//!
//! No failure here ends a pass: the journal is lost then, and the backup says why.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::error::{IoExt, Result};
use crate::journal::join::Segment;
use crate::journal::relay_logs::logs_in;
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::os::files;
use crate::os::sys;
use crate::replication::kept_logs::KeepLogs;
use crate::scratch::working_directory::{JOURNAL, Scratch};
use crate::text::system_text;

mod room;

/// Why a journal was given up.
pub const NO_ROOM: &str = "no room in the scratch directory";
/// The file that holds the position at which a receiver began.
const FROM: &str = "from";
/// The file that shows that a receiver is no more: MySQL makes empty relay logs without one, and at its
/// start if it was killed.
const ENDED: &str = "ended";
/// The file that holds the reason why the journal is lost.
const LOST: &str = "lost";
/// The longest position that is read.
const LONGEST: u64 = 64 << 20;

/// Keeps the relay logs of one scratch directory.
#[derive(Clone, Debug)]
pub struct LogKeeper {
    data: PathBuf,
    dir: PathBuf,
    /// False if nothing is to be kept.
    wanted: bool,
}

impl Scratch {
    /// What keeps the relay logs of the server on the data here, if they are `wanted`.
    pub fn log_keeper(&self, wanted: bool) -> LogKeeper {
        let dir = self.root().join(JOURNAL);
        LogKeeper { data: self.data(), dir, wanted }
    }
}

impl LogKeeper {
    /// Where they are kept.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn carry_out(&self, keep: impl FnOnce() -> io::Result<()>) {
        if !self.wanted || self.dir.join(LOST).exists() {
            return;
        }
        if let Err(e) = keep() {
            self.lose(&format!("the relay logs could not be kept: {}", system_text(&e)));
        }
    }

    /// There will be no journal of this pass, for the reason `why`: makes room.
    fn lose(&self, why: &str) {
        log::warn!("this pass keeps no journal: {why}");
        let noted = self.forget().and_then(|()| {
            fs::DirBuilder::new().mode(0o700).create(&self.dir).doing("create", &self.dir)?;
            let path = self.dir.join(LOST);
            files::replace(&path, why, 0o600, false).doing("write", &path)
        });
        if let Err(e) = noted {
            // Without any segment there is no journal either.
            log::warn!("{}: {e}", e.cause());
        }
    }

    /// Removes all of it: the data begins anew, or is stored.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget(&self) -> Result<()> {
        fs::remove_dir_all(&self.dir).ignoring(io::ErrorKind::NotFound).doing("remove", &self.dir)
    }

    /// Why there will be no journal, which was said when it was lost.
    pub fn lost(&self) -> Option<String> {
        let why = files::read(&self.dir.join(LOST), LONGEST).ok()?;
        Some(String::from_utf8_lossy(&why).into_owned())
    }

    /// What each receiver got, in order.
    ///
    /// # Errors
    /// Says why there is no journal.
    pub fn segments(&self, flavor: Flavor) -> Result<Vec<Segment>, String> {
        if let Some(why) = self.lost() {
            return Err(why);
        }
        let fail =
            |e: io::Error| format!("the kept relay logs cannot be read: {}", system_text(&e));
        let mut segments = Vec::new();
        let Some(root) = self.open().map_err(fail)? else { return Ok(segments) };
        for name in numbers(&root).map_err(fail)?.into_iter().map(segment) {
            let dir = files::path_of(&root).join(&name);
            let from = files::read(&dir.join(FROM), LONGEST).map_err(fail)?;
            let from = Position::parse(flavor, String::from_utf8_lossy(&from).trim_end())?;
            let logs = logs_in(&files::open_dir(&dir).map_err(fail)?).map_err(fail)?;
            let dir = self.dir.join(name);
            let logs = logs.into_iter().map(|(_, name)| dir.join(name)).collect();
            segments.push(Segment { from, logs });
        }
        Ok(segments)
    }

    /// Opens the directory, if it is there. All that is done in it goes through the descriptor: the
    /// scratch directory belongs to the server's user, who could put something else in its place.
    fn open(&self) -> io::Result<Option<File>> {
        let root = match files::open_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            root => root?,
        };
        if sys::is_root() && root.metadata()?.uid() != 0 {
            return Err(io::Error::other("their directory belongs to another user"));
        }
        Ok(Some(root))
    }

    /// Makes a segment that begins at `from`.
    fn make_segment(&self, from: &Position) -> io::Result<()> {
        let make = |path: &Path| {
            let made = fs::DirBuilder::new().mode(0o700).create(path);
            made.ignoring(io::ErrorKind::AlreadyExists)
        };
        make(&self.dir)?;
        let Some(root) = self.open()? else { return Err(io::ErrorKind::NotFound.into()) };
        let number = numbers(&root)?.last().copied().unwrap_or(0) + 1;
        let dir = files::path_of(&root).join(segment(number));
        make(&dir)?;
        files::replace(&dir.join(FROM), &format!("{from}\n"), 0o600, false)
    }

    /// Links the relay logs in the data directory into the latest segment, but those that are in an
    /// earlier one: the receiver that wrote them is no more.
    fn link_all(&self) -> io::Result<()> {
        let data = match files::open_dir(&self.data) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            data => data?,
        };
        let logs = logs_in(&data)?;
        if logs.is_empty() {
            return Ok(());
        }
        let Some(root) = self.open()? else {
            // Received by a pass that kept none.
            return Ok(());
        };
        let mut segments: Vec<PathBuf> =
            numbers(&root)?.into_iter().map(|n| files::path_of(&root).join(segment(n))).collect();
        let Some(latest) = segments.pop() else { return Ok(()) };
        if latest.join(ENDED).exists() {
            return Ok(());
        }
        let mut kept = Vec::new();
        for dir in segments {
            let dir = files::open_dir(&dir)?;
            for (_, name) in logs_in(&dir)? {
                kept.push(inode(&dir, &name)?);
            }
        }
        let dir = files::open_dir(&latest)?;
        for (_, name) in logs {
            let own = inode(&data, &name)?;
            if kept.contains(&own) {
                continue;
            }
            let linked =
                fs::hard_link(files::path_of(&data).join(&name), files::path_of(&dir).join(&name));
            match linked {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    if inode(&dir, &name)? != own {
                        return Err(io::Error::other("two relay logs have the same name"));
                    }
                }
                other => other?,
            }
        }
        Ok(())
    }
}

impl KeepLogs for LogKeeper {
    fn give_way(&self, applying: &str) -> bool {
        self.give_way_at(applying)
    }

    fn begin(&self, from: &Position) {
        self.carry_out(|| {
            self.link_all()?;
            self.make_segment(from)
        });
    }

    fn end(&self) {
        self.carry_out(|| {
            self.link_all()?;
            let Some(root) = self.open()? else { return Ok(()) };
            let latest = numbers(&root)?.last().copied().map(segment);
            latest.map_or(Ok(()), |latest| {
                let path = files::path_of(&root).join(latest).join(ENDED);
                files::replace(&path, "", 0o600, false)
            })
        });
    }
}

/// The name of a segment.
fn segment(number: u32) -> String {
    format!("{number:06}")
}

/// The numbers of all segments, in order.
fn numbers(root: &File) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in files::list(root)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Device and inode of a file.
fn inode(dir: &File, name: &str) -> io::Result<(u64, u64)> {
    let m = files::path_of(dir).join(name).symlink_metadata()?;
    Ok((m.dev(), m.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) struct Place(PathBuf);

    impl Place {
        pub fn new(name: &str) -> (Place, LogKeeper) {
            let dir = std::env::temp_dir().join(format!("rf-keep-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(dir.join("data")).unwrap();
            let (data, kept) = (dir.join("data"), dir.join(JOURNAL));
            let keeper = LogKeeper { data, dir: kept, wanted: true };
            (Place(dir), keeper)
        }

        pub fn write(&self, name: &str, text: &str) {
            fs::write(self.0.join("data").join(name), text).unwrap();
        }

        pub fn remove_logs(&self) {
            fs::remove_dir_all(self.0.join("data")).unwrap();
            fs::create_dir(self.0.join("data")).unwrap();
        }

        pub fn length(&self, name: &str) -> u64 {
            fs::metadata(self.0.join("data").join(name)).unwrap().len()
        }

        /// Links a log to a place that is none of ours.
        pub fn link_outside(&self, name: &str) -> PathBuf {
            let to = self.0.join("outside");
            fs::hard_link(self.0.join("data").join(name), &to).unwrap();
            to
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    pub(super) fn position(text: &str) -> Position {
        Position::parse(Flavor::MariaDb, text).unwrap()
    }

    /// The segments: where each begins, and what its logs hold.
    fn all(keeper: &LogKeeper) -> Vec<(String, Vec<String>)> {
        let read = |log: &PathBuf| fs::read_to_string(log).unwrap();
        let text = |s: Segment| (s.from.to_string(), s.logs.iter().map(read).collect());
        keeper.segments(Flavor::MariaDb).unwrap().into_iter().map(text).collect()
    }

    #[test]
    fn each_receiver_has_its_logs_even_after_they_are_removed() {
        let (place, keeper) = Place::new("receivers");
        keeper.begin(&position("0-1-1"));
        for (name, text) in [
            ("relay.000001", "one"),
            ("relay.000002", "two"),
            ("relay.000010", "ten"),
            ("relay.index", "x"),
            ("relay.000001.ibd", "x"),
            ("relay.1", "x"),
        ] {
            place.write(name, text);
        }
        place.write("relay.000010", "ten and more");
        place.write("relay.000011", "eleven");
        let own = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
        let first = own(&["one", "two", "ten and more", "eleven"]);
        keeper.begin(&position("0-1-9"));
        // The server has not removed them yet when the pass is killed.
        keeper.end();
        assert_eq!(all(&keeper), [("0-1-1".into(), first.clone()), ("0-1-9".into(), own(&[]))]);
        place.remove_logs();
        keeper.begin(&position("0-1-9"));
        place.write("relay.000001", "new");
        keeper.begin(&position("0-1-12"));
        place.remove_logs();
        place.write("relay.000001", "12");
        keeper.end();
        place.remove_logs();
        place.write("relay.000001", "of no receiver");
        keeper.end();
        let more = [
            ("0-1-9".to_string(), own(&[])),
            ("0-1-9".into(), own(&["new"])),
            ("0-1-12".into(), own(&["12"])),
        ];
        assert_eq!(all(&keeper), [vec![("0-1-1".to_string(), first)], more.to_vec()].concat());
        keeper.forget().unwrap();
        assert_eq!(all(&keeper), []);
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let (place, keeper) = Place::new("link");
        let elsewhere = place.0.join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, place.0.join(JOURNAL)).unwrap();
        assert!(keeper.make_segment(&position("0-1-1")).is_err());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn logs_of_a_pass_that_kept_none_are_left_out() {
        let (place, keeper) = Place::new("none");
        place.write("relay.000001", "one");
        LogKeeper { wanted: false, ..keeper.clone() }.begin(&position("0-1-1"));
        keeper.end();
        assert_eq!(all(&keeper), []);
    }

    #[test]
    fn a_lost_journal_stays_lost_until_the_data_begins_anew() {
        let (place, keeper) = Place::new("lost");
        keeper.begin(&position("0-1-1"));
        place.write("relay.000001", "one");
        keeper.link_all().unwrap();
        place.remove_logs();
        place.write("relay.000001", "another");
        keeper.end();
        let again = keeper.clone();
        again.begin(&position("0-1-2"));
        let said = again.segments(Flavor::MariaDb).unwrap_err();
        assert!(said.contains("two relay logs"), "{said}");
        keeper.forget().unwrap();
        assert_eq!(all(&keeper), []);
    }
}
