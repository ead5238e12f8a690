//! Files whose content is known: as a restore left them, or as a store read them.
//!
//! Such a file need not be read as long as its stamp is the same: in the store of the same pass, and, if
//! the data is kept, in the restore of the next one. What may not be trusted is not in the list: see
//! [`crate::os::stamp`].

use std::fs::File;

use crate::os::stamp::{self, Conditions, Stamp};
use crate::repository::manifest::is_backup_name;

/// The files of a data directory that have the content of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    backup: String,
    conditions: Conditions,
    /// By the order of the manifest.
    files: Vec<Option<Stamp>>,
}

/// The first line of the text.
const FORMAT: &str = "format 1";

impl Known {
    /// The files of the data directory `root` that have the content of `backup`, by the order of its
    /// manifest; `conditions` are those under which their stamps were taken. `None` if nothing can be known
    /// here.
    pub fn new(
        backup: &str,
        root: &File,
        conditions: Option<Conditions>,
        mut files: Vec<Option<Stamp>>,
    ) -> Option<Known> {
        let conditions = conditions.filter(|conditions| conditions.still_hold(root))?;
        let now = stamp::after(&files);
        for file in &mut files {
            file.take_if(|stamp| !stamp.is_settled(now));
        }
        Some(Known { backup: backup.into(), conditions, files })
    }

    /// The stamps that files with the content of `backup` have in the data directory `root`; none if
    /// there is any doubt about all of them.
    pub fn stamps(&self, backup: &str, root: &File) -> &[Option<Stamp>] {
        let good = self.backup == backup && self.conditions.still_hold(root);
        if good { &self.files } else { &[] }
    }

    /// As text, for a later pass.
    pub fn to_text(&self) -> String {
        let Conditions { boot, booted, device } = &self.conditions;
        let mut text = format!("{FORMAT}\n{} {boot} {booted} {device}\n", self.backup);
        for file in &self.files {
            match file {
                Some(Stamp { inode, size, mtime, ctime }) => text.push_str(&format!(
                    "{inode} {size} {} {} {} {}\n",
                    mtime.0, mtime.1, ctime.0, ctime.1
                )),
                None => text.push_str("-\n"),
            }
        }
        text
    }

    /// Parses [`Known::to_text`]; `None` for anything else.
    pub fn parse(text: &str) -> Option<Known> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next()? != FORMAT {
            return None;
        }
        let head: Vec<&str> = lines.next()?.split(' ').collect();
        let [backup, boot, booted, device] = head[..] else { return None };
        let conditions = Conditions {
            boot: boot.into(),
            booted: booted.parse().ok()?,
            device: device.parse().ok()?,
        };
        let file = |line: &str| {
            if line == "-" {
                return Some(None);
            }
            let words: Option<Vec<i64>> = line.split(' ').map(|w| w.parse().ok()).collect();
            let [inode, size, m, m_nano, c, c_nano] = words?[..] else { return None };
            let (inode, size) = (inode as u64, u64::try_from(size).ok()?);
            Some(Some(Stamp { inode, size, mtime: (m, m_nano), ctime: (c, c_nano) }))
        };
        let files = lines.map(file).collect::<Option<_>>()?;
        let known = Known { backup: backup.into(), conditions, files };
        is_backup_name(&known.backup).then_some(known)
    }
}

/// The stamps of `known`, if there is any, as [`Known::stamps`].
pub fn stamps<'a>(known: Option<&'a Known>, backup: &str, root: &File) -> &'a [Option<Stamp>] {
    known.map_or(&[], |known| known.stamps(backup, root))
}
