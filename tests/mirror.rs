//! The mirror in `dist`: to a real S3 server and back, killed in the middle, and what it refuses.

/// Returns from the test where there is no server to mirror to.
macro_rules! need_s3 {
    () => {
        match $crate::mirror::s3::S3::start() {
            Some(s3) => s3,
            None => return,
        }
    };
}

mod refusals;
mod restores;
pub mod s3;
mod steps;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use memchr::memmem;

use crate::support::repository::{self, all_packs, flip_bit, pack_path, packs_of};
use crate::support::{
    PATIENCE, Rollforward, Scene, Server, TempDir, assert_same, kill, run_helper, snapshot,
    wait_until,
};
use s3::{S3, SECRET, files};

/// What belongs to a repository and is mirrored.
pub fn contents(repo: &Path) -> std::collections::BTreeMap<String, String> {
    let mut all = files(repo);
    all.retain(|name, _| name != "lock" && name != "proofs/lock" && !name.starts_with("tmp/"));
    all
}

pub fn word(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

pub fn rollforward(command: &str, repo: &Path) -> Rollforward {
    Rollforward::new([command]).arg("--repo").arg(repo)
}

#[track_caller]
pub fn assert_verified(repo: &Path) {
    rollforward("verify", repo).run_to_end(PATIENCE).expect(0);
}

pub fn size_of_packs(repo: &Path) -> u64 {
    let size = |pack: &String| fs::metadata(pack_path(repo, pack)).unwrap().len();
    all_packs(repo).iter().map(size).sum()
}

/// Bytes that the S3 server has on its disk.
pub fn stored(s3: &S3) -> u64 {
    let said = run_helper(Command::new("du").arg("-sb").arg(s3.path("data")), "");
    said.split_whitespace().next().unwrap().parse().unwrap()
}

/// A repository of four backups with some packs of its own each; copied for each test.
pub struct Sample {
    _dir: TempDir,
    repo: PathBuf,
    pub names: Vec<String>,
}

impl Sample {
    pub fn get() -> &'static Sample {
        static SAMPLE: OnceLock<Sample> = OnceLock::new();
        SAMPLE.get_or_init(|| {
            let scene = Scene::seeded("mirrored");
            for pass in 0..3 {
                scene.primary.sql(&format!(
                    "CREATE TABLE shop.noise{pass} (a LONGBLOB); INSERT INTO shop.noise{pass} \
                     SELECT RANDOM_BYTES(1024) FROM shop.t0 LIMIT 700"
                ));
                scene.run().expect(0);
            }
            let dir = TempDir::new("sample");
            let repo = dir.path().join("repo");
            repository::copy(&scene.repo, &repo);
            assert!(all_packs(&repo).len() >= 4, "{:?}", all_packs(&repo));
            Sample { _dir: dir, repo, names: scene.backups() }
        })
    }

    pub fn copy(&self, s3: &S3) -> PathBuf {
        let repo = s3.path("repo");
        repository::copy(&self.repo, &repo);
        repo
    }
}

#[test]
fn a_lost_repository_comes_back_from_s3_and_restores() {
    need_server!();
    let s3 = need_s3!();
    let scene = Scene::seeded("mirror");
    scene.primary.sql("INSERT INTO shop.t0 (n, text) VALUES (7, 'later')");
    scene.run().expect(0);
    let before = contents(&scene.repo);
    // Killed half way, and run again.
    let args = ["push", &word(&scene.repo), "mirror:db1"];
    let mut push = s3.spawn_mirror(args, &[("RCLONE_BWLIMIT", "2M"), ("RCLONE_TRANSFERS", "2")]);
    let half = size_of_packs(&scene.repo) / 2;
    wait_until("half of the packs", PATIENCE, || push.has_ended() || stored(&s3) > half);
    assert!(!push.has_ended() && s3.objects("db1") != before, "too late");
    push.kill_all();
    s3.assert_valid("db1");
    s3.mirror_well(args);
    assert_eq!(s3.objects("db1"), before);
    s3.mirror_well(["check", "--read-data", "mirror:db1"]);
    // Nothing is copied again.
    s3.forget_calls();
    let said = s3.mirror_well(["push", &word(&scene.repo), "mirror:db1"]);
    assert!(said.contains("2 backups") && said.contains(" 0 of them new"), "{said}");
    assert!(s3.calls().iter().all(|c| !c.starts_with("copy")), "{:?}", s3.calls());

    fs::remove_dir_all(&scene.repo).unwrap();
    s3.mirror_well(["pull", "mirror:db1", &word(&scene.repo)]);
    assert_eq!(contents(&scene.repo), before);
    for (path, what) in repository::tree(&scene.repo) {
        let mode = if path.is_dir() { "700 " } else { "600 " };
        assert!(what.starts_with(mode), "{}: {what}", path.display());
    }
    assert_eq!(fs::metadata(&scene.repo).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_verified(&scene.repo);
    let restored = Server::start_on(&scene.restore(None));
    assert_same("the restored", &snapshot(&restored), "the primary", &snapshot(&scene.primary));
    // The chain goes on, and so does the mirror.
    scene.run().expect(0);
    s3.mirror_well(["push", &word(&scene.repo), "mirror:db1"]);
    assert_eq!(s3.objects("db1"), contents(&scene.repo));
}

#[test]
fn a_dying_s3_server_ends_the_push_with_75() {
    need_server!();
    let mut s3 = need_s3!();
    let repo = Sample::get().copy(&s3);
    let args = ["push", &word(&repo), "mirror:dead"];
    let push = s3.spawn_mirror(args, &[("RCLONE_BWLIMIT", "500k")]);
    wait_until("the first object", PATIENCE, || !s3.objects("dead").is_empty());
    s3.kill();
    let (status, said) = push.finish();
    assert_eq!(status, 75, "{said}");
    assert!(said.lines().last().unwrap().starts_with("error: remote: rclone could not"), "{said}");
    assert!(said.contains("run again"), "{said}");
    s3.assert_valid("dead");
    s3.restart();
    s3.mirror_well(args);
    assert_eq!(s3.objects("dead"), contents(&repo));
}

#[test]
fn a_stop_ends_rclone_and_surviving_copies_keep_the_lock() {
    need_server!();
    let s3 = need_s3!();
    let repo = Sample::get().copy(&s3);
    let args = ["push", &word(&repo), "mirror:stop"];
    let slow = [("RCLONE_BWLIMIT", "100k")];
    let copying = || s3.calls().iter().any(|c| c.starts_with("copy "));
    let push = s3.spawn_mirror(args, &slow);
    wait_until("a copy", PATIENCE, copying);
    let group = push.group();
    assert!(group.len() >= 2, "{group:?}");
    kill(push.pid(), libc::SIGTERM);
    let (status, said) = push.finish();
    assert_eq!(status, 143, "{said}");
    assert!(said.ends_with("error: interrupted: by signal 15; run again to resume\n"), "{said}");
    assert!(group.iter().all(|pid| !crate::support::alive(*pid)), "{group:?}");
    assert_eq!(fs::read_dir(repo.join("tmp")).unwrap().count(), 0);

    s3.forget_calls();
    let mut push = s3.spawn_mirror(args, &slow);
    wait_until("a copy", PATIENCE, copying);
    kill(push.pid(), libc::SIGKILL);
    wait_until("the end of the script", PATIENCE, || push.has_ended());
    assert!(!push.group().is_empty());
    let prune = rollforward("prune", &repo).arg("--keep-count=1").run_to_end(PATIENCE).expect(75);
    assert!(prune.stderr.contains("rollforward-mirror push since"), "{prune}");
    push.kill_all();
    let prune = rollforward("prune", &repo).arg("--keep-count=1");
    prune.run_to_end(PATIENCE).expect(0);
    s3.mirror_well(args);
    assert_eq!(s3.objects("stop"), contents(&repo));
}

#[test]
fn pruned_backups_are_removed_manifest_first_unless_told_otherwise() {
    need_server!();
    let s3 = need_s3!();
    let sample = Sample::get();
    let repo = sample.copy(&s3);
    s3.mirror_well(["push", &word(&repo), "mirror:prune"]);
    let before = s3.objects("prune");
    let prune = rollforward("prune", &repo).arg("--keep-count=1");
    prune.run_to_end(PATIENCE).expect(0);
    s3.mirror_well(["push", "--no-remove", &word(&repo), "mirror:prune"]);
    assert_eq!(s3.objects("prune"), before);
    s3.forget_calls();
    s3.mirror_well(["push", &word(&repo), "mirror:prune"]);
    let after = contents(&repo);
    assert!(after.len() < before.len());
    assert_eq!(s3.objects("prune"), after);
    let calls = s3.calls();
    let removals: Vec<&String> = calls.iter().filter(|c| c.starts_with("delete ")).collect();
    // What is on record of them goes in between.
    let [first, _, last] = removals[..] else { panic!("{removals:?}") };
    assert!(first.ends_with("/backups") && last.ends_with("/packs"), "{removals:?}");
    // Pulled into what has the others still, nothing is removed there.
    let old = s3.path("old");
    repository::copy(&sample.repo, &old);
    s3.mirror_well(["pull", "mirror:prune", &word(&old)]);
    assert_eq!(contents(&old), contents(&sample.repo));
}

#[test]
fn pins_go_to_the_remote_and_come_back() {
    need_server!();
    let s3 = need_s3!();
    let sample = Sample::get();
    let repo = sample.copy(&s3);
    let push = || s3.mirror_well(["push", &word(&repo), "mirror:pins"]);
    let pin = |command: &str, name: &str, options: &[&str]| {
        rollforward(command, &repo).arg(name).args(options).run_to_end(PATIENCE).expect(0);
    };
    pin("pin", &sample.names[0], &["--reason=one"]);
    pin("pin", &sample.names[1], &["--reason=two", "--for=1d"]);
    push();
    assert_eq!(s3.objects("pins"), contents(&repo));
    // One is changed to one of the same size, and one is gone.
    pin("pin", &sample.names[0], &["--reason=six"]);
    pin("unpin", &sample.names[1], &[]);
    push();
    assert_eq!(s3.objects("pins"), contents(&repo));
    let to = s3.path("pulled");
    s3.mirror_well(["pull", "mirror:pins", &word(&to)]);
    assert_eq!(contents(&to), contents(&repo));
    let kept = rollforward("prune", &to).arg("--keep-count=1").run_to_end(PATIENCE).expect(0);
    assert!(to.join("backups").join(&sample.names[0]).exists(), "{kept}");
    // With its backup.
    pin("unpin", &sample.names[0], &[]);
    pin("pin", &sample.names[1], &[]);
    push();
    rollforward("prune", &repo).arg("--drop-after=1s").run_to_end(PATIENCE).expect(0);
    push();
    assert_eq!(s3.objects("pins"), contents(&repo));
    assert!(!repo.join("pins").join(&sample.names[1]).exists());
}

#[test]
fn encrypted_by_crypt_nothing_is_readable_and_it_comes_back() {
    need_server!();
    let s3 = need_s3!();
    let repo = Sample::get().copy(&s3);
    s3.mirror_well(["push", &word(&repo), "secret:db1"]);
    let stored = files(&s3.path("data/bucket/two"));
    assert!(stored.len() > contents(&repo).len());
    let plain = contents(&repo);
    for (name, sum) in &stored {
        let last = name.rsplit('/').next().unwrap();
        let readable = plain.keys().any(|p| last.contains(p.rsplit('/').next().unwrap()));
        assert!(!readable && !plain.values().any(|s| s == sum), "{name}");
    }
    for needle in ["format 1", "shop/t0", "rollforward repository"] {
        let scanned = files(&s3.path("data/bucket/two"));
        assert!(!scanned.is_empty());
        for name in scanned.keys() {
            let content = fs::read(s3.path("data/bucket/two").join(name)).unwrap();
            assert!(memmem::find(&content, needle.as_bytes()).is_none(), "{name}");
        }
    }
    s3.mirror_well(["check", "--read-data", "secret:db1"]);
    let back = s3.path("back");
    s3.mirror_well(["pull", "secret:db1", &word(&back)]);
    assert_eq!(contents(&back), plain);
    assert_verified(&back);
    s3.mirror_well(["push", &word(&back), "secret:db1"]);
    // Nowhere in an argument: what the server knows, and what the data is encrypted with.
    let conf = fs::read_to_string(s3.path("rclone.conf")).unwrap();
    let obscured = conf.lines().find_map(|l| l.strip_prefix("password = ")).unwrap();
    for call in s3.calls() {
        let told = [SECRET, obscured, "a-Passphrase"].iter().any(|w| call.contains(w));
        assert!(!told, "{call}");
    }
}

#[test]
fn a_damaged_pack_never_spreads_and_can_be_fetched_back() {
    need_server!();
    let s3 = need_s3!();
    let sample = Sample::get();
    let repo = sample.copy(&s3);
    // Not there yet: the backups that want it stay away, and all others are pushed.
    let newest = sample.names.last().unwrap();
    let others = &sample.names[..sample.names.len() - 1];
    let of_others: Vec<String> = others.iter().flat_map(|name| packs_of(&repo, name)).collect();
    let own = packs_of(&repo, newest).into_iter().find(|pack| !of_others.contains(pack));
    let own = own.expect("a pack of the newest alone");
    flip_bit(&pack_path(&repo, &own), 100);
    let (status, said) = s3.mirror(["push", &word(&repo), "mirror:bad"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains(&format!("{newest} was not pushed: pack {own} is damaged")), "{said}");
    assert!(said.contains("error: backup-damaged: "), "{said}");
    assert_eq!(s3.assert_valid("bad"), others);

    flip_bit(&pack_path(&repo, &own), 100);
    s3.mirror_well(["push", &word(&repo), "mirror:bad"]);
    let good = s3.objects("bad");
    // There already: what is damaged here, seen or not, changes nothing there.
    flip_bit(&pack_path(&repo, &own), 100);
    s3.mirror_well(["push", &word(&repo), "mirror:bad"]);
    assert_eq!(s3.objects("bad"), good);
    rollforward("verify", &repo).run_to_end(PATIENCE).expect(1);
    assert!(all_packs(&repo).contains(&format!("{own}.damaged")));
    s3.mirror_well(["push", &word(&repo), "mirror:bad"]);
    assert_eq!(s3.objects("bad"), good);
    s3.mirror_well(["pull", "mirror:bad", &word(&repo)]);
    assert_verified(&repo);

    // The other way round: a pack cut short at the remote is replaced, loudly.
    let object = s3.store("bad").join(format!("packs/{}/{own}._S3rver_object", &own[..2]));
    fs::write(&object, "short").unwrap();
    let (status, said) = s3.mirror(["check", "mirror:bad"]);
    assert_eq!(status, 1, "{said}");
    let said = s3.mirror_well(["push", &word(&repo), "mirror:bad"]);
    assert!(said.contains(&format!("pack {own} has the wrong size, 5 bytes")), "{said}");
    assert_eq!(s3.objects("bad"), good);
    // One that was changed there has the right size: reading it back tells, and so does a pull.
    flip_bit(&object, 100);
    s3.mirror_well(["check", "mirror:bad"]);
    let (status, said) = s3.mirror(["check", "--read-data", "mirror:bad"]);
    assert_eq!(status, 1, "{said}");
    let (status, said) = s3.mirror(["pull", "mirror:bad", &word(&s3.path("half"))]);
    assert_eq!(status, 75, "{said}");
    assert!(said.contains(&format!("{newest} was not pulled: ")) && said.contains(&own), "{said}");
    let list = rollforward("list", &s3.path("half")).run_to_end(PATIENCE).expect(0).stdout;
    assert!(list.contains(&others[0]) && !list.contains(newest.as_str()), "{list}");
    rollforward("verify", &s3.path("half")).run_to_end(Duration::from_secs(60)).expect(0);
}
