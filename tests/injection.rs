//! Faults at every step of storing and pruning, put there by strace: a kill at each rename,
//! fsync and unlink in turn, and each of them failing. After each, only complete backups are
//! listed, the newest restores, and a rerun ends 0.
//!
//! strace counts calls by thread, so it is told of a few paths at a time: what the workers do
//! to the packs and what the main thread does afterwards are counted apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::repository::{Json, all_packs, copy, pack_path, packs_of};
use crate::support::{
    Outcome, Rollforward, Scene, Server, processes_under, strace_missing, wait_until,
};

const LONG: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(30);
const RENAME: &str = "?rename,?renameat,?renameat2";
const SYNC: &str = "?fsync,?fdatasync";
const UNLINK: &str = "?unlink,?unlinkat";
const WRITE: &str = "?write,?pwrite64";
/// How the program asks whether the kernel could write what nobody has synced.
const WRITTEN_BACK: &str = "sync_file_range";

/// A repository to break: its own copy, its own scratch directory.
struct Case<'a> {
    scene: &'a Scene,
    name: String,
    at: Place,
    args: &'static [&'static str],
}

/// Where it is.
struct Place {
    repo: PathBuf,
    scratch: PathBuf,
}

impl<'a> Case<'a> {
    fn new(scene: &'a Scene, name: String, args: &'static [&'static str]) -> Case<'a> {
        let at = |what: &str| scene.path(&format!("{what}-{}", name.replace([' ', ','], "-")));
        let (repo, scratch) = (at("r"), at("s"));
        copy(&scene.repo, &repo);
        Case { scene, name, at: Place { repo, scratch }, args }
    }

    fn run(&self) -> Rollforward {
        let run = self.scene.command("run").args(self.args).arg("--repo").arg(&self.at.repo);
        run.arg("--scratch").arg(&self.at.scratch).scratch(&self.at.scratch)
    }

    /// A pass with `fault` injected into `calls` on `paths`.
    fn run_with(&self, calls: &str, paths: &[PathBuf], fault: &str) -> Outcome {
        self.with(&self.run(), calls, paths, fault)
    }

    /// The same with another command.
    fn with(&self, command: &Rollforward, calls: &str, paths: &[PathBuf], fault: &str) -> Outcome {
        let log = self.scene.path("strace.log");
        let mut line = vec!["strace".into(), "-f".into(), "-qq".into()];
        // Each call that is stopped at costs more than most calls do. A signal comes only where
        // all are: there the server at least is let go.
        line.push(if fault.starts_with("signal") { "-bexecve" } else { "--seccomp-bpf" }.into());
        line.extend(["-o".into(), log.into_os_string()]);
        line.extend(["-e".into(), format!("trace={calls}").into()]);
        line.extend(["-e".into(), format!("inject={calls}:{fault}").into()]);
        for path in paths {
            line.extend(["-P".into(), path.into()]);
        }
        command.clone().under(line).run_to_end(LONG)
    }

    fn on(&self, command: &str) -> Rollforward {
        self.scene.command(command).arg("--repo").arg(&self.at.repo)
    }

    /// The names of all backups, which must all be complete.
    #[track_caller]
    fn complete(&self) -> Vec<String> {
        let json =
            Json::parse(&self.on("list").arg("--json").run_to_end(PATIENCE).expect(0).stdout);
        let name = |e: &Json| {
            assert_eq!(e.get("state").str(), "complete", "{}: {e:?}", self.name);
            e.get("name").str().to_string()
        };
        json.list().iter().map(name).collect()
    }

    /// What holds after any fault: nothing runs, nothing half is there, and it goes on.
    #[track_caller]
    fn recovers(&self, start_a_server: bool) {
        wait_until("its mysqld to be gone", Duration::from_secs(2), || {
            processes_under(&self.at.scratch).is_empty()
        });
        let before = self.complete();
        assert!(!before.is_empty(), "{}: no backup is left", self.name);
        let to = self.scene.path("to");
        let _ = fs::remove_dir_all(&to);
        self.on("restore").arg("--to").arg(&to).run_to_end(PATIENCE).expect(0);
        if start_a_server {
            Server::start_on(&to).sql("CHECK TABLE shop.t0, shop.t1, shop.backlog");
        }
        self.run().run_to_end(LONG).expect(0);
        let after = self.complete();
        assert!(after.last() > before.last(), "{}: {before:?} {after:?}", self.name);
        self.on("verify").run_to_end(PATIENCE).expect(0);
        let tmp = fs::read_dir(self.at.repo.join("tmp")).unwrap().count();
        assert_eq!(tmp, 0, "{}: the rerun left something in tmp", self.name);
        assert!(!self.at.scratch.join("data").exists(), "{}", self.name);
        let _ = fs::remove_dir_all(&self.at.repo);
        let _ = fs::remove_dir_all(&self.at.scratch);
    }
}

impl Place {
    /// Packs while they are written.
    fn drafts(&self) -> Vec<PathBuf> {
        (0..40).map(|n| self.repo.join(format!("tmp/pack-{n}"))).collect()
    }

    /// The directories that packs get their names in.
    fn pack_dirs(&self) -> Vec<PathBuf> {
        let packs = self.repo.join("packs");
        let mut all: Vec<PathBuf> = (0..256).map(|n| packs.join(format!("{n:02x}"))).collect();
        all.push(packs);
        all
    }

    /// Files that a pass changes.
    fn data(&self) -> Vec<PathBuf> {
        let data = self.scratch.join("data");
        ["shop/backlog.ibd", "ibdata1"].iter().map(|file| data.join(file)).collect()
    }

    fn manifest(&self) -> Vec<PathBuf> {
        vec![self.repo.join("tmp/manifest")]
    }

    fn format(&self) -> Vec<PathBuf> {
        vec![self.repo.join("format.new")]
    }

    fn backups(&self) -> Vec<PathBuf> {
        vec![self.repo.join("backups")]
    }

    /// The files that a prune may remove.
    fn old(&self) -> Vec<PathBuf> {
        let mut old: Vec<PathBuf> = self.backups();
        let manifests = fs::read_dir(&old[0]).unwrap().flatten();
        old.extend(manifests.map(|m| m.path()));
        old.extend(all_packs(&self.repo).iter().map(|p| pack_path(&self.repo, p)));
        old
    }

    fn checkpoint(&self) -> Vec<PathBuf> {
        vec![self.scratch.join("checkpoint.new")]
    }
}

type Paths = fn(&Place) -> Vec<PathBuf>;

fn scene() -> Scene {
    let scene = Scene::seeded("faults");
    scene.primary.backlog("shop", 300);
    scene
}

/// Kills the program at the first, second, ... of `calls` on `paths` until there is none more.
/// Says how many there were.
#[track_caller]
fn kill_at_each(
    scene: &Scene,
    what: &str,
    args: &'static [&'static str],
    calls: &str,
    paths: Paths,
) -> usize {
    for n in 1..=8 {
        let case = Case::new(scene, format!("{what} {n}"), args);
        let outcome = case.run_with(calls, &paths(&case.at), &format!("signal=KILL:when={n}"));
        if outcome.status == 0 {
            return n - 1;
        }
        assert_eq!(outcome.status, 256 + libc::SIGKILL, "{}: {outcome}", case.name);
        case.recovers(n == 1);
    }
    8
}

#[test]
fn killed_at_each_step_of_storing_packs() {
    need_server!();
    if strace_missing() {
        return;
    }
    let scene = scene();
    // Whichever worker comes first.
    assert_eq!(kill_at_each(&scene, "pack fsync", &[], SYNC, Place::drafts), 1);
    assert_eq!(kill_at_each(&scene, "pack rename", &[], RENAME, Place::drafts), 1);
    assert!(kill_at_each(&scene, "pack dir fsync", &[], SYNC, Place::pack_dirs) >= 2);
}

#[test]
fn killed_at_each_step_of_naming_the_backup() {
    need_server!();
    if strace_missing() {
        return;
    }
    let scene = scene();
    assert_eq!(kill_at_each(&scene, "manifest fsync", &[], SYNC, Place::manifest), 1);
    assert_eq!(kill_at_each(&scene, "manifest rename", &[], RENAME, Place::manifest), 1);
    assert_eq!(kill_at_each(&scene, "backups fsync", &[], SYNC, Place::backups), 1);
}

#[test]
fn killed_at_each_step_of_raising_the_format() {
    need_server!();
    if strace_missing() {
        return;
    }
    let scene = scene();
    fs::write(scene.repo.join("format"), "rollforward repository 1\n").unwrap();
    assert_eq!(kill_at_each(&scene, "format fsync", &[], SYNC, Place::format), 1);
    assert_eq!(kill_at_each(&scene, "format rename", &[], RENAME, Place::format), 1);
}

#[test]
fn killed_at_each_step_of_pruning() {
    need_server!();
    if strace_missing() {
        return;
    }
    let scene = scene();
    for name in ["one", "two"] {
        scene.primary.fill(name, 1, 500);
        scene.run().expect(0);
        scene.primary.sql(&format!("DROP DATABASE {name}"));
    }
    let keep: &[&str] = &["--keep-count=1"];
    // Differences may keep all packs of a backup that goes, so there is one that nobody names.
    let dir = scene.repo.join("packs/ee");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(format!("ee{:062}", 0)), "stray").unwrap();
    // Two backups go, and a pack with them.
    assert!(kill_at_each(&scene, "prune unlink", keep, UNLINK, Place::old) >= 3);
    // The new manifest's name is of one thread, two removals of another one: first the name, then
    // the second removal.
    assert_eq!(kill_at_each(&scene, "prune fsync", keep, SYNC, Place::backups), 2);
    // And a first removal.
    let case = Case::new(&scene, "prune alone".into(), keep);
    let prune = case.on("prune").args(keep);
    let outcome = case.with(&prune, SYNC, &case.at.backups(), "signal=KILL:when=1");
    assert_eq!(outcome.status, 256 + libc::SIGKILL, "{outcome}");
    case.recovers(false);
    let case = Case::new(&scene, "pruned".into(), keep);
    case.run().run_to_end(LONG).expect(0);
    let mut named: Vec<String> =
        case.complete().iter().flat_map(|n| packs_of(&case.at.repo, n)).collect();
    named.sort();
    named.dedup();
    assert_eq!(all_packs(&case.at.repo), named);
}

#[test]
fn killed_in_each_phase_it_takes_its_mysqld_along() {
    need_server!();
    if strace_missing() {
        return;
    }
    let scene = scene();
    // One rename for each phase at least: restore, start, catch-up, stop, backup, prune.
    assert!(kill_at_each(&scene, "checkpoint", &[], RENAME, Place::checkpoint) >= 6);
}

/// What fails, by which calls on which paths, with which error, and the cause that is said.
const FAILURES: &[(&str, &str, Paths, &str, &str)] = &[
    ("pack write", WRITE, Place::drafts, "ENOSPC", "disk-full"),
    ("pack write", WRITE, Place::drafts, "EDQUOT", "disk-full"),
    ("pack write", WRITE, Place::drafts, "EIO", "io-error"),
    ("pack write", WRITE, Place::drafts, "EFBIG", "io-error"),
    ("data writeback", WRITTEN_BACK, Place::data, "EIO", "io-error"),
    ("data writeback", WRITTEN_BACK, Place::data, "ENOSPC", "disk-full"),
    ("pack fsync", SYNC, Place::drafts, "EIO", "io-error"),
    ("pack rename", RENAME, Place::drafts, "ENOSPC", "disk-full"),
    ("pack dir fsync", SYNC, Place::pack_dirs, "EIO", "io-error"),
    ("manifest write", WRITE, Place::manifest, "ENOSPC", "disk-full"),
    ("manifest fsync", SYNC, Place::manifest, "EIO", "io-error"),
    ("manifest rename", RENAME, Place::manifest, "EROFS", "io-error"),
    ("backups fsync", SYNC, Place::backups, "EIO", "io-error"),
];

#[test]
fn a_failing_write_fsync_or_rename_ends_the_pass_clean() {
    need_server!();
    if strace_missing() {
        return;
    }
    let scene = scene();
    // One after the other on the same repository: each must leave it as it was.
    let mut case = Case::new(&scene, "failures".into(), &[]);
    let packs = all_packs(&case.at.repo);
    for (what, calls, paths, error, cause) in FAILURES {
        case.name = format!("{what} {error}");
        // And from then on, as a disk that is full stays full.
        let fault = format!("error={error}:when=1+");
        let outcome = case.run_with(calls, &paths(&case.at), &fault);
        let name = &case.name;
        assert_eq!(outcome.status, 1, "{name}: {outcome}");
        let errors = outcome.stderr.lines().filter(|l| l.contains("error: "));
        assert_eq!(errors.count(), 1, "{name}: {outcome}");
        let last = outcome.stderr.lines().last().unwrap();
        assert!(last.contains(&format!("error: {cause}: ")), "{name}: {outcome}");
        let checkpoint = fs::read_to_string(case.at.scratch.join("checkpoint")).unwrap();
        assert!(checkpoint.contains(&format!("\ncause={cause}\n")), "{checkpoint}");
        assert!(checkpoint.contains("state=failed\n"), "{checkpoint}");
        assert_eq!(case.complete(), scene.backups(), "{name}");
        // After that last fsync the manifest may come back with a power loss: its packs stay.
        if *what != "backups fsync" {
            assert_eq!(all_packs(&case.at.repo), packs, "{name}: packs of no backup stay");
        }
        assert_eq!(entries(&case.at.repo.join("tmp")), 0, "{name}: something stays in tmp");
        assert!(!case.at.scratch.join("data").exists(), "{name}: scratch data goes after 1");
        case.on("verify").run_to_end(PATIENCE).expect(0);
    }
    case.recovers(true);
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_long_prune_reports_life_and_can_be_stopped() {
    need_server!();
    if strace_missing() {
        return;
    }
    let scene = scene();
    let dir = scene.repo.join("packs/ee");
    fs::create_dir_all(&dir).unwrap();
    // Packs that nobody names; each takes four seconds to go.
    let stray: Vec<PathBuf> = (0..9).map(|n| dir.join(format!("ee{n:062}"))).collect();
    stray.iter().for_each(|path| fs::write(path, "stray").unwrap());
    let mut line =
        vec!["strace".into(), "-f".into(), "-qq".into(), "--seccomp-bpf".into(), "-o".into()];
    line.push(scene.path("strace.log").into_os_string());
    line.extend(["-e".into(), format!("trace={UNLINK}").into()]);
    line.extend(["-e".into(), format!("inject={UNLINK}:delay_enter=4000000").into()]);
    for path in &stray {
        line.extend(["-P".into(), path.into()]);
    }
    let mut pass = scene.command("run").under(line).spawn();
    pass.wait_for_phase("prune", LONG);
    let mut updated = std::collections::BTreeSet::new();
    wait_until("three words of the checkpoint", Duration::from_secs(30), || {
        let checkpoint = pass.checkpoint();
        assert_eq!(checkpoint.get("phase"), Some("prune"), "{}", pass.dump());
        updated.extend(checkpoint.get("updated").map(String::from));
        updated.len() >= 3
    });
    let left = || stray.iter().filter(|path| path.exists()).count();
    assert!(left() >= 1, "{}", left());
    pass.kill(libc::SIGTERM);
    let outcome = pass.finish(PATIENCE);
    assert!(left() >= 1, "{} are left; {outcome}", left());
    assert_eq!(outcome.status, 128 + libc::SIGTERM, "{outcome}");
    assert_eq!(scene.checkpoint().get("state"), Some("stopped"), "{outcome}");
    scene.run().expect(0);
    assert_eq!(left(), 0);
}
