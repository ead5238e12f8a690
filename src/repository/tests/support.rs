//! A temporary workspace, data to store, and short calls with the usual arguments.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Result;
use crate::os::clock::Timestamp;
use crate::os::workers::Crew;
use crate::repository::directory::{RepoLock, Repository};
use crate::repository::manifest::{Manifest, PackRef};
use crate::repository::packs::pack_path;
use crate::repository::restore::{Destination, Into, Kept, Restored, restore};
use crate::repository::store::{Data, Header, Stored, store};
use crate::repository::verify::{Report, verify};

pub struct Space {
    pub dir: PathBuf,
    pub data: PathBuf,
    pub repo: Repository,
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Space {
    pub fn new() -> Space {
        Space::below(&std::env::temp_dir())
    }

    pub fn below(place: &Path) -> Space {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("rollforward-test-{}-{number}", std::process::id());
        let dir = place.join(name);
        let data = dir.join("data");
        fs::create_dir_all(&data).unwrap();
        let repo = Repository::open_or_create(&dir.join("repo")).unwrap();
        Space { dir, data, repo }
    }

    pub fn lock(&self) -> RepoLock {
        self.repo.lock("test").unwrap()
    }

    /// Writes `length` incompressible bytes, always the same for a `seed`.
    pub fn file(&self, name: &str, seed: u64, length: usize) {
        let path = self.data.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, noise(seed, length)).unwrap();
    }

    pub fn try_store(&self, jobs: usize) -> Result<Stored> {
        let lock = self.lock();
        store(
            &self.repo,
            &lock,
            Data { path: &self.data, known: None, journal: &Default::default() },
            header(),
            1,
            &mut Crew::unwatched(jobs),
        )
    }

    pub fn store(&self) -> Stored {
        self.try_store(2).unwrap()
    }

    pub fn restore(&self, name: &str, to: &Path, into: Into) -> Result<Restored> {
        let held = self.repo.hold(name)?;
        let to = Destination { path: to, owner: None, into, kept: Kept::Direct, known: None };
        restore(&self.repo, &held, to, &mut Crew::unwatched(2))
    }

    pub fn verify(&self) -> Report {
        let names = self.repo.names().unwrap();
        verify(&self.repo, &names, true, &mut Crew::unwatched(2)).unwrap()
    }

    /// Restores into a new directory and compares.
    pub fn check(&self, name: &str) {
        let to = self.dir.join("check");
        self.restore(name, &to, Into::Empty).unwrap();
        assert_eq!(snapshot(&to), snapshot(&self.data));
        fs::remove_dir_all(&to).unwrap();
    }

    pub fn pack(&self, pack: &PackRef) -> PathBuf {
        pack_path(self.repo.root(), &pack.hash)
    }

    /// Replaces a manifest by a changed one with a valid checksum.
    pub fn falsify(&self, name: &str, change: impl FnOnce(&mut Manifest)) {
        let mut manifest = self.repo.load(name).unwrap();
        change(&mut manifest);
        fs::write(self.repo.backups().join(name), manifest.to_text()).unwrap();
    }

    /// Every file of the packs directory.
    pub fn packs(&self) -> Vec<PathBuf> {
        let mut out: Vec<PathBuf> = fs::read_dir(self.repo.root().join("packs"))
            .unwrap()
            .flat_map(|d| fs::read_dir(d.unwrap().path()).unwrap())
            .map(|e| e.unwrap().path())
            .collect();
        out.sort();
        out
    }

    pub fn tmp_is_empty(&self) -> bool {
        fs::read_dir(self.repo.tmp()).unwrap().next().is_none()
    }
}

pub fn header() -> Header {
    Header {
        flavor: "mysql".into(),
        version: "9.7.4".into(),
        position: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".into(),
        data_as_of: Timestamp::now(),
        started: Timestamp::now(),
        base: None,
        open_tables: 0,
        primary_log: None,
        settings: vec![("lower_case_table_names".into(), "0".into())],
    }
}

pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend(state.to_le_bytes());
    }
    out.truncate(length);
    out
}

/// Paths with modes and contents; a directory has none.
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, (u32, Option<Vec<u8>>)> {
    let mut out = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let m = path.symlink_metadata().unwrap();
            let content = m.is_file().then(|| fs::read(&path).unwrap());
            if m.is_dir() {
                todo.push(path.clone());
            }
            let key = path.strip_prefix(dir).unwrap().to_path_buf();
            out.insert(key, (m.permissions().mode(), content));
        }
    }
    out
}

/// Flips one bit of a file.
pub fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}
