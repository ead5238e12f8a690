//! `rollforward-mirror restore`: a backup out of the bucket, with room for a few packs only.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::s3::S3;
use super::{PATIENCE, Sample, kill, repository, rollforward, wait_until, word};
use crate::support::Server;
use crate::support::repository::{all_packs, edit_manifest, flip_bit, pack_path, seal};
use crate::support::small_disk::{SmallDisk, space};

/// The packs that the data of a backup needs: not those of its journal.
fn needed(repo: &Path, name: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(repo.join("backups").join(name)).unwrap();
    let data = text.split("\njournal ").next().unwrap();
    let words = |kind: &'static str| {
        let lines = data.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.filter(move |words| words[0] == kind)
    };
    let packs: Vec<String> = words("pack").map(|w| w[1].to_string()).collect();
    let frames = words("block").chain(words("xor"));
    frames.map(|w| packs[w[2].parse::<usize>().unwrap()].clone()).collect()
}

/// What a plain restore makes of it.
pub(super) fn plain(repo: &Path, name: &str, to: &Path) {
    let restore = rollforward("restore", repo).arg(name).arg("--to").arg(to);
    restore.run_to_end(PATIENCE).expect(0);
}

/// The same files with the same modes, and nothing else.
#[track_caller]
pub(super) fn assert_restored(to: &Path, like: &Path) {
    let below = |dir: &Path| -> Vec<(PathBuf, String)> {
        let all = repository::tree(dir).into_iter();
        all.map(|(path, what)| (path.strip_prefix(dir).unwrap().to_path_buf(), what)).collect()
    };
    assert_eq!(below(to), below(like));
}

/// A mirror without a server in between, at `here:NAME`.
pub(super) fn plain_mirror(s3: &S3, name: &str) -> PathBuf {
    let at = s3.path("here").join(name);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    repository::copy(&Sample::get().copy(s3), &at);
    fs::remove_dir_all(s3.path("repo")).unwrap();
    at
}

fn packs_in(to: &Path) -> u64 {
    let work = to.join("rollforward.tmp");
    space(&work.join("repo/packs")) + space(&work.join("next"))
}

#[test]
fn a_backup_comes_out_of_the_bucket_through_a_window() {
    need_server!();
    let s3 = need_s3!();
    let sample = Sample::get();
    let repo = sample.copy(&s3);
    s3.mirror_well(["push", &word(&repo), "mirror:db1"]);
    let newest = sample.names.last().unwrap();
    let like = s3.path("like");
    plain(&repo, newest, &like);
    let wanted = needed(&repo, newest);
    assert!(wanted.len() < all_packs(&repo).len(), "{wanted:?}");
    let text = fs::read_to_string(repo.join("backups").join(newest)).unwrap();
    assert!(text.contains("\nxor "), "no differences");
    let mut sizes: Vec<u64> =
        wanted.iter().map(|pack| fs::metadata(pack_path(&repo, pack)).unwrap().len()).collect();
    sizes.sort_unstable();

    // Whatever else was there is gone.
    for pack in all_packs(&repo).iter().filter(|pack| !wanted.contains(*pack)) {
        let object = format!("packs/{}/{pack}._S3rver_object", &pack[..2]);
        fs::remove_file(s3.store("db1").join(object)).unwrap();
    }
    let to = s3.path("to");
    let args = ["restore", "--to", &word(&to), "--window=1K", "mirror:db1"];
    let mut restore = s3.spawn_mirror(args, &[("RCLONE_BWLIMIT", "8M")]);
    let mut most = 0;
    wait_until("the end of the restore", 2 * PATIENCE, || {
        most = most.max(packs_in(&to));
        restore.has_ended()
    });
    let (status, said) = restore.finish();
    assert_eq!(status, 0, "{said}");
    let all = sizes.iter().sum::<u64>() as f64 / f64::from(1 << 20);
    let all = format!("fetched {0} of {0} packs, {all:.1} MiB", wanted.len());
    assert!(said.contains(&all), "{said}");
    assert!(said.contains(&format!("restored {newest} to {}", to.display())), "{said}");
    assert_restored(&to, &like);
    // One lot is taken out while the next one arrives.
    let bound: u64 = sizes.iter().rev().take(2).map(|size| size + (64 << 10)).sum();
    assert!(most > 0 && most <= bound, "{most} of {bound}; {sizes:?}");

    // All of them at once, into a directory that is there; and an older one, by the beginning of its name.
    let (name, into) = (&sample.names[1], s3.path("into"));
    fs::create_dir(&into).unwrap();
    s3.mirror_well(["push", &word(&repo), "mirror:db2"]);
    let prefix = &name[..name.len() - 2];
    let said = s3.mirror_well(["restore", "-q", "--to", &word(&into), "mirror:db2", prefix]);
    assert_eq!(said, "");
    plain(&repo, name, &s3.path("older"));
    assert_restored(&into, &s3.path("older"));
}

/// A mirror, and in `like` what its newest backup holds. Returns where to restore that.
fn begin(s3: &S3) -> PathBuf {
    let repo = plain_mirror(s3, "db1");
    plain(&repo, Sample::get().names.last().unwrap(), &s3.path("like"));
    s3.path("to")
}

#[test]
fn a_restore_killed_before_any_step_is_completed_later() {
    need_server!();
    let s3 = need_s3!();
    let to = begin(&s3);
    let args = ["restore", "--to", &word(&to), "--window=1K", "here:db1"];
    let mut killed = 0;
    loop {
        s3.forget_calls();
        let at = (killed + 1).to_string();
        let (status, said) = s3.spawn_mirror(args, &[("KILL_AT", &at)]).finish();
        if status == 0 {
            break;
        }
        assert_eq!(status, 256 + libc::SIGKILL, "{said}");
        let left: Vec<_> = fs::read_dir(&to).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["rollforward.tmp"]);
        killed += 1;
        // What the last one has fetched is not fetched again, so there are fewer calls each time.
        assert!(killed < 50);
    }
    assert!(killed >= 3, "{killed}");
    assert_restored(&to, &s3.path("like"));

    // Killed while the complete data was given its names.
    let work = to.join("rollforward.tmp");
    fs::create_dir_all(work.join("data")).unwrap();
    fs::rename(to.join("mysql"), work.join("data/mysql")).unwrap();
    fs::write(work.join("mirror.lock"), "").unwrap();
    let (status, said) = s3.mirror(args);
    assert_eq!(status, 2, "{said}");
    fs::write(work.join("handover"), "").unwrap();
    s3.forget_calls();
    s3.mirror_well(args);
    let copies = s3.calls().iter().filter(|call| call.contains("/packs ")).count();
    assert_eq!(copies, 0, "{:?}", s3.calls());
    assert_restored(&to, &s3.path("like"));

    // Killed after that, and a server was started on what is there: it keeps its files.
    fs::create_dir(&work).unwrap();
    fs::write(work.join("mirror.lock"), "").unwrap();
    fs::write(work.join("handover"), "").unwrap();
    let server = Server::start_on(&to);
    let (status, said) = s3.mirror(args);
    assert!(status == 2 && said.contains(" is in use by "), "{status}: {said}");
    assert!(to.join("ibdata1").is_file() && to.join("mysql").is_dir());
    server.sql("CHECK TABLE mysql.user");
}

#[test]
fn a_stopped_restore_goes_on_and_a_killed_one_locks() {
    need_server!();
    let s3 = need_s3!();
    let to = begin(&s3);
    let args = ["restore", "--to", &word(&to), "--window=1K", "here:db1"];
    let slow = [("RCLONE_BWLIMIT", "100k")];
    let data = to.join("rollforward.tmp/data");
    let copying = || data.exists() && s3.calls().iter().any(|call| call.contains("/packs "));
    let restore = s3.spawn_mirror(args, &slow);
    wait_until("packs to be fetched", PATIENCE, copying);
    let group = restore.group();
    kill(restore.pid(), libc::SIGTERM);
    let (status, said) = restore.finish();
    assert_eq!(status, 143, "{said}");
    assert!(said.ends_with("error: interrupted: by signal 15; run again to resume\n"), "{said}");
    assert!(group.iter().all(|pid| !crate::support::alive(*pid)), "{group:?}");
    assert_eq!(packs_in(&to), 0);

    s3.forget_calls();
    let mut restore = s3.spawn_mirror(args, &slow);
    wait_until("packs to be fetched", PATIENCE, copying);
    kill(restore.pid(), libc::SIGKILL);
    wait_until("the end of the script", PATIENCE, || restore.has_ended());
    let (status, said) = s3.mirror(args);
    assert_eq!(status, 75, "{said}");
    assert!(said.starts_with("error: locked: "), "{said}");
    restore.kill_all();
    s3.mirror_well(args);
    assert_restored(&to, &s3.path("like"));
}

#[test]
fn damage_at_the_remote_leaves_nothing_and_says_which() {
    need_server!();
    let s3 = need_s3!();
    let names = &Sample::get().names;
    let (oldest, newest) = (&names[0], names.last().unwrap());
    let to = s3.path("to");
    let refused = |args: &[&str], status: i32, text: &str| {
        let target = word(&to);
        let mut all = vec!["restore", "--to", &target, "--window", "1K"];
        all.extend(args);
        let (ended, said) = s3.mirror(&all);
        assert_eq!(ended, status, "{args:?}: {said}");
        let last = said.lines().last().unwrap();
        assert!(last.contains("error: ") && last.contains(text), "{args:?}: {said}");
        assert!(!to.exists(), "{args:?}");
        said
    };
    let repo = plain_mirror(&s3, "db1");
    let pack = needed(&repo, newest).difference(&needed(&repo, oldest)).next().unwrap().clone();
    // Other bits: fetched once more, and then it is enough.
    flip_bit(&pack_path(&repo, &pack), 100);
    s3.forget_calls();
    let said = refused(&["here:db1"], 1, "backup-damaged: ");
    assert!(said.contains(&format!("pack {pack} is missing or damaged")), "{said}");
    assert_eq!(said.matches("fetching it again").count(), 1, "{said}");
    // Good again at the second look: all is well.
    flip_bit(&pack_path(&repo, &pack), 100);
    fs::rename(pack_path(&repo, &pack), s3.path("aside")).unwrap();
    refused(&["here:db1", newest], 1, &format!("pack {pack} is missing or has another size"));
    fs::rename(s3.path("aside"), pack_path(&repo, &pack)).unwrap();

    refused(&["here:nowhere"], 1, "no-backup: ");
    refused(&["here:db1", "20200101T000000Z-0000"], 1, "no-backup: ");
    refused(&["here:db1", "newest"], 1, "no-backup: ");
    refused(&["here:db1", "20"], 2, "several backups");
    let manifest = repo.join("backups").join(newest);
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    // Never another one silently.
    refused(&["here:db1"], 1, &format!("backup-damaged: {newest} "));
    // Forged: a path that leads elsewhere, our own name, a size that no pack has.
    let forge = |from: &str, into: &str| {
        assert!(text.contains(from), "{from}");
        let body = &text[..text.rfind("end ").unwrap()];
        fs::write(&manifest, seal(&body.replacen(from, into, 1))).unwrap();
    };
    forge("\ndir mysql ", "\ndir ../mysql ");
    refused(&["here:db1"], 1, "backup-damaged: ");
    forge("\ndir mysql ", "\ndir rollforward.tmp 700\ndir mysql ");
    refused(&["here:db1"], 1, "backup-damaged: ");
    fs::write(&manifest, &text).unwrap();
    edit_manifest(&repo, newest, |lines| {
        let pack = lines.iter_mut().find(|line| line.starts_with("pack ")).unwrap();
        pack.push_str("00000000");
    });
    refused(&["here:db1"], 1, "backup-damaged: ");
    fs::remove_file(&manifest).unwrap();
    refused(&["here:db1", newest], 1, "no-backup: ");
    fs::write(&manifest, &text).unwrap();

    fs::write(&to, "dear").unwrap();
    let (status, _) = s3.mirror(["restore", "--to", &word(&to), "here:db1"]);
    assert_eq!((status, fs::read_to_string(&to).unwrap().as_str()), (2, "dear"));
    fs::remove_file(&to).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(to.join("letters"), "dear").unwrap();
    let (status, said) = s3.mirror(["restore", "--to", &word(&to), "here:db1"]);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("it contains 'letters'"), "{said}");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    fs::remove_file(to.join("letters")).unwrap();
    s3.mirror_well(["restore", "--to", &word(&to), "here:db1"]);
    plain(&repo, newest, &s3.path("like"));
    assert_restored(&to, &s3.path("like"));
}

#[test]
fn a_full_disk_and_a_lost_server_end_well() {
    need_server!();
    let mut s3 = need_s3!();
    let repo = Sample::get().copy(&s3);
    s3.mirror_well(["push", &word(&repo), "mirror:db1"]);
    let newest = Sample::get().names.last().unwrap();
    plain(&repo, newest, &s3.path("like"));
    let data = space(&s3.path("like"));
    let disk = SmallDisk::new("small", data + (48 << 20));
    let to = disk.path("to");
    let args = ["restore", "--to", &word(&to), "--window=1K", "mirror:db1"];
    let wrapper = disk.wrapper();
    let env: Vec<(&str, &str)> =
        wrapper.iter().filter_map(|w| w.to_str().unwrap().split_once('=')).collect();
    for left in [64 << 10, 2 << 20, data / 2] {
        disk.leave(left);
        let (status, said) = s3.spawn_mirror(args, &env).finish();
        assert_eq!(status, 1, "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.contains("disk-full: ") || last.contains("io-error: "), "{said}");
        assert!(!to.exists(), "{left}");
        disk.make_room();
    }
    // Gone half way, and back.
    let slow = [&env[..], &[("RCLONE_BWLIMIT", "1M")]].concat();
    let restore = s3.spawn_mirror(args, &slow);
    wait_until("some data", PATIENCE, || space(&to.join("rollforward.tmp/next")) > 100 << 10);
    s3.kill();
    let (status, said) = restore.finish();
    assert_eq!(status, 75, "{said}");
    assert!(said.lines().last().unwrap().starts_with("error: remote: rclone could not"), "{said}");
    assert_eq!(packs_in(&to), 0);
    s3.restart();
    let (status, said) = s3.spawn_mirror(args, &env).finish();
    assert_eq!(status, 0, "{said}");
    assert_restored(&to, &s3.path("like"));
}
