//! A ready set: a primary with its accounts, a repository, a scratch directory, option files.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memchr::memmem;

use super::program::dump_scratch;
use super::{
    Checkpoint, DUMP, NIGHTLY, Outcome, Primary, Replica, Rollforward, Server, TempDir,
    assert_same, find_program, flavor, processes_under, repository, snapshot, template,
};

/// The patience with one command of the program.
pub const COMMAND_PATIENCE: Duration = Duration::from_secs(120);

/// All that most tests need. Fields are dropped in order: servers before directories.
pub struct Scene {
    /// The primary; empty but for two accounts.
    pub primary: Primary,
    /// The repository, not made yet.
    pub repo: PathBuf,
    /// The scratch directory, not made yet.
    pub scratch: PathBuf,
    /// The option file of the nightly account.
    pub nightly: PathBuf,
    /// The option file of the account for the dump.
    pub dump: PathBuf,
    dir: TempDir,
}

impl Scene {
    /// An empty primary and nothing else yet.
    pub fn new(name: &str) -> Scene {
        Scene::with(name, &[])
    }

    /// The same with further options for the primary.
    pub fn with(name: &str, primary_args: &[&str]) -> Scene {
        let primary = Primary::start_with("primary", primary_args);
        primary.create_account(NIGHTLY);
        primary.create_account(DUMP);
        Scene::around(name, primary)
    }

    fn around(name: &str, primary: Primary) -> Scene {
        let dir = TempDir::new(name);
        let at = |name: &str| dir.path().join(name);
        let (repo, scratch) = (at("repo"), at("scratch"));
        let (nightly, dump) = (at("nightly.cnf"), at("dump.cnf"));
        primary.write_option_file(&nightly, NIGHTLY);
        primary.write_option_file(&dump, DUMP);
        Scene { primary, repo, scratch, nightly, dump, dir }
    }

    /// A scene with two small filled tables and a first backup: a copy of one that this build of
    /// the program has seeded once, as if that had been just now.
    #[track_caller]
    pub fn seeded(name: &str) -> Scene {
        Scene::seeded_with(name, &[])
    }

    /// The same with further options for the primary.
    #[track_caller]
    pub fn seeded_with(name: &str, primary_args: &[&str]) -> Scene {
        let from = template::made_once("seeded", &Rollforward::build(), |half| {
            // No other server's: a replica leaves out what it takes for its own.
            let mut scene = Scene::with("seeding", &["--server-id=999"]);
            scene.primary.fill("shop", 2, 2000);
            scene.seed();
            scene.primary.stop();
            fs::create_dir(half).unwrap();
            template::copy(scene.primary.datadir(), &half.join("primary"));
            template::copy(&scene.repo, &half.join("repo"));
            template::copy(&scene.scratch, &half.join("scratch"));
        });
        let primary = Primary::start_copy("primary", &from.join("primary"), primary_args);
        let scene = Scene::around(name, primary);
        template::copy(&from.join("repo"), &scene.repo);
        template::copy(&from.join("scratch"), &scene.scratch);
        for backup in scene.backups() {
            repository::set_age(&scene.repo, &backup, 0);
        }
        scene
    }

    /// A path of its own in the scene's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command with the options it knows: `run` and `seed` get everything, quick to fail and
    /// to look; `prove` all but an account; the others the repository only. A later option wins over one given here.
    ///
    /// MySQL makes its redo log of 100 MiB anew at each start on a restored backup, a tenth of what a
    /// pass takes; the tests give it less, but for those with [`Scene::usual_log`]. Checking its tables
    /// takes another tenth there, and is left to the tests that are about it.
    pub fn command(&self, name: &str) -> Rollforward {
        let program = Rollforward::new([name]).arg("--repo").arg(&self.repo);
        let account = match name {
            "run" => Some(&self.nightly),
            "seed" => Some(&self.dump),
            // It asks no primary.
            "prove" | "open" => None,
            _ => return program,
        };
        let account = account.map(|a| [OsString::from("--defaults-file"), a.into()]);
        program
            .arg("--scratch")
            .arg(&self.scratch)
            .args(account.into_iter().flatten())
            .args(self.mysqld())
            .args(["--backoff-base=50ms", "--backoff-cap=500ms", "--poll-interval=200ms"])
            .args(["--jobs=2", "--start-timeout=30s", "--shutdown-timeout=30s"])
            .args(flavor::is_mysql().then_some("--mysqld-option=--innodb-redo-log-capacity=16M"))
            .args(flavor::is_mysql().then_some("--check-time=0"))
            .args((name == "seed").then_some("--mysqld-option=--innodb-buffer-pool-size=256M"))
            .scratch(&self.scratch)
    }

    /// A redo log of the size that MySQL makes by itself, where what it takes of a disk or what it
    /// keeps from the disk is the point.
    pub fn usual_log() -> Option<&'static str> {
        flavor::is_mysql().then_some("--mysqld-option=--innodb-redo-log-capacity=100M")
    }

    /// Which server program to use, unless it is the system's.
    pub fn mysqld(&self) -> Vec<OsString> {
        let other = flavor::chosen().bin.is_some();
        let program = find_program("mariadbd").filter(|_| other);
        program.into_iter().flat_map(|p| ["--mysqld".into(), p.into_os_string()]).collect()
    }

    /// `seed --from dump`, which must end 0.
    #[track_caller]
    pub fn seed(&self) -> Outcome {
        self.command("seed").args(["--from", "dump"]).run_to_end(COMMAND_PATIENCE).expect(0)
    }

    /// Makes what the primary holds now the one backup there is, by a pass: half of a dump's work.
    #[track_caller]
    pub fn settle(&self) {
        self.run().expect(0);
        let mut earlier = self.backups();
        earlier.pop();
        for backup in earlier {
            fs::remove_file(self.repo.join("backups").join(backup)).unwrap();
        }
    }

    /// `run`, to its end, however it ends.
    #[track_caller]
    pub fn run(&self) -> Outcome {
        self.command("run").run_to_end(COMMAND_PATIENCE)
    }

    /// The checkpoint in the scratch directory.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::read(&self.scratch.join("checkpoint")).unwrap_or_default()
    }

    /// The names of the backups in the repository, oldest first, as the files tell it.
    pub fn backups(&self) -> Vec<String> {
        let entries = fs::read_dir(self.repo.join("backups")).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A key of a manifest's header, as `position`.
    #[track_caller]
    pub fn manifest_value(&self, backup: &str, key: &str) -> String {
        let text = fs::read(self.repo.join("backups").join(backup)).unwrap();
        let text = String::from_utf8_lossy(&text);
        let found = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {key} in manifest {backup}")).to_string()
    }

    /// The position of the newest backup.
    #[track_caller]
    pub fn newest_position(&self) -> String {
        let newest = self.backups().pop().expect("a backup in the repository");
        self.manifest_value(&newest, "position")
    }

    /// Restores a backup (the newest for `None`) into a new directory and gives that back.
    #[track_caller]
    pub fn restore(&self, backup: Option<&str>) -> PathBuf {
        let to = (0..).map(|n| self.path(&format!("restored-{n}"))).find(|p| !p.exists());
        let to = to.expect("a free name");
        let mut command = self.command("restore");
        if let Some(backup) = backup {
            command = command.arg(backup);
        }
        command.arg("--to").arg(&to).run_to_end(COMMAND_PATIENCE).expect(0);
        to
    }

    /// Restores the newest backup, starts a server on it, and panics unless it holds just what
    /// `replica` holds at the manifest's position, accounts included. Gives back the position.
    #[track_caller]
    pub fn assert_newest_equals(&self, replica: &Replica) -> String {
        let position = self.newest_position();
        let restored = Server::start_on(&self.restore(None));
        assert_eq!(
            restored.value("SELECT @@global.gtid_slave_pos"),
            position,
            "the position of the restored server and of its manifest"
        );
        replica.advance_to(&position);
        assert_same("the restored copy", &snapshot(&restored), "the replica", &snapshot(replica));
        position
    }

    /// Files below `dir` that hold `needle`, for what must not be left anywhere.
    pub fn files_with(&self, dir: &Path, needle: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                found.extend(self.files_with(&path, needle));
            } else if let Ok(content) = fs::read(&path) {
                let hit = memmem::find(&content, needle.as_bytes());
                found.extend(hit.map(|_| path));
            }
        }
        found
    }

    /// Processes that still work in the repository or the scratch directory.
    pub fn leftover_processes(&self) -> Vec<i32> {
        let mut all = processes_under(&self.repo);
        all.extend(processes_under(&self.scratch));
        all
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- backups: {:?}{}", self.backups(), dump_scratch(&self.scratch));
        }
    }
}

/// Restores the newest backup and starts a server on it with the options that `restore` names; these,
/// too.
#[track_caller]
pub fn as_told(scene: &Scene) -> (Server, Vec<String>) {
    let to = (0..).map(|n| scene.path(&format!("told-{n}"))).find(|p| !p.exists());
    let to = to.expect("a free name");
    let restore = scene.command("restore").arg("--to").arg(&to);
    let told = restore.run_to_end(COMMAND_PATIENCE).expect(0);
    let line = told.log().into_iter().find(|l| l.contains("the data needs a")).expect("a line");
    let options = line.split_once(" with ").map_or("", |(_, options)| options);
    let options = options.split(' ').filter(|o| !o.is_empty()).map(|o| o.replace('\'', ""));
    let options: Vec<String> = options.collect();
    let mut all = vec!["--skip-slave-start", "--read-only", "--event-scheduler=OFF"];
    all.extend(options.iter().map(String::as_str));
    (Server::start_on_with(&to, &all), options)
}
