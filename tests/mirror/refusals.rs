//! What the mirror refuses in one line, with both sides as they were.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

use super::{PATIENCE, s3::S3};
use super::{Sample, contents, rollforward, word};
use crate::support::repository::{copy, edit_manifest, flip_bit};

/// The script must end with `status` and one line that holds `text`; the remote stays the same.
#[track_caller]
fn refused(s3: &S3, args: &[&str], status: i32, text: &str) {
    let before = s3.everything();
    let (ended, said) = s3.mirror(args);
    assert_eq!(ended, status, "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    assert!(said.starts_with("error: ") && said.contains(text), "{args:?}: {said}");
    assert_eq!(s3.everything(), before, "{args:?}");
}

fn remove_manifests(repo: &Path, which: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(repo.join("backups")).unwrap().flatten() {
        if which(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn empty_older_damaged_and_foreign_sides_are_refused_unchanged() {
    need_server!();
    let s3 = need_s3!();
    let sample = Sample::get();
    let repo = sample.copy(&s3);
    let newest = sample.names.last().unwrap().as_str();
    let remote = "mirror:there";
    s3.mirror_well(["push", &word(&repo), remote]);
    let variant = |name: &str, change: &dyn Fn(&Path)| {
        let to = s3.path(name);
        copy(&repo, &to);
        change(&to);
        word(&to)
    };
    let empty = variant("empty", &|r| remove_manifests(r, |_| true));
    refused(&s3, &["push", &empty, remote], 1, "no-backup");
    refused(&s3, &["push", "--force", &empty, remote], 1, "no-backup");
    let older = variant("older", &|r| remove_manifests(r, |n| n == newest));
    refused(&s3, &["push", &older, remote], 1, "older");
    let other = variant("other", &|r| {
        let newer = r.join("backups/29991122T020000Z-00ff");
        fs::rename(r.join("backups").join(newest), newer).unwrap();
        remove_manifests(r, |n| !n.starts_with("2999"));
    });
    refused(&s3, &["push", &other, remote], 1, "unrelated");
    refused(&s3, &["pull", remote, &other], 1, "older");
    let cut = variant("cut", &|r| {
        let path = r.join("backups").join(newest);
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 10]).unwrap();
    });
    refused(&s3, &["push", &cut, remote], 1, "backup-damaged");
    let bit = variant("bit", &|r| flip_bit(&r.join("backups").join(&sample.names[0]), 20));
    refused(&s3, &["push", &bit, remote], 1, "backup-damaged");
    let pack = variant("pack", &|r| {
        edit_manifest(r, newest, |lines| {
            let pack = lines.iter_mut().find(|l| l.starts_with("pack ")).unwrap();
            *pack = "pack ../../lock 62".into();
        });
    });
    refused(&s3, &["push", &pack, remote], 1, "names no pack");
    let link = variant("link", &|r| {
        let path = r.join("backups").join(&sample.names[0]);
        fs::rename(&path, r.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(r.join("elsewhere"), path).unwrap();
    });
    refused(&s3, &["push", &link, remote], 1, "is not a file");
    let none = variant("none", &|r| fs::remove_file(r.join("format")).unwrap());
    refused(&s3, &["push", &none, remote], 2, "not a repository");
    let later =
        variant("later", &|r| fs::write(r.join("format"), "rollforward repository 3\n").unwrap());
    refused(&s3, &["push", &later, remote], 2, "format 1");
    refused(&s3, &["pull", remote, &later], 2, "format 1");

    // The other direction, and places that are something else.
    refused(&s3, &["pull", "mirror:nothing", &word(&s3.path("bare"))], 1, "no-backup");
    assert!(!s3.path("bare").exists());
    let stranger = s3.path("stranger");
    fs::create_dir(&stranger).unwrap();
    fs::write(stranger.join("letters"), "dear").unwrap();
    refused(&s3, &["pull", remote, &word(&stranger)], 2, "'letters'");
    assert_eq!(fs::read_dir(&stranger).unwrap().count(), 1);
    fs::create_dir_all(s3.store("strange")).unwrap();
    fs::write(s3.store("strange").join("letters._S3rver_object"), "dear").unwrap();
    refused(&s3, &["push", &word(&repo), "mirror:strange"], 2, "'letters'");

    // With --force the given side counts: that is what it is for.
    s3.mirror_well(["push", "--force", &older, remote]);
    assert_eq!(s3.objects("there").len(), {
        rollforward("prune", Path::new(&older)).run_to_end(PATIENCE).expect(0);
        contents(Path::new(&older)).len()
    });
    let (status, said) = s3.mirror(["pull", remote, &word(&repo)]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("older"), "{said}");
}

#[test]
fn a_held_lock_ends_75_and_wait_is_patient() {
    need_server!();
    let s3 = need_s3!();
    let repo = Sample::get().copy(&s3);
    let lock = File::options().read(true).write(true).open(repo.join("lock")).unwrap();
    lock.try_lock().unwrap();
    fs::write(repo.join("lock"), "pid 7 (rollforward run since today)\n").unwrap();
    refused(&s3, &["push", &word(&repo), "mirror:held"], 75, "pid 7 (rollforward run");
    refused(&s3, &["pull", "mirror:held", &word(&repo)], 1, "no-backup");
    let began = Instant::now();
    refused(&s3, &["push", "--wait=1", &word(&repo), "mirror:held"], 75, "locked");
    assert!(began.elapsed().as_millis() >= 1000);
    let args = ["push", "--wait", "60", &word(&repo), "mirror:held"];
    let push = s3.spawn_mirror(args, &[]);
    super::wait_until("flock", PATIENCE, || push.group().len() == 2);
    drop(lock);
    let (status, said) = push.finish();
    assert_eq!(status, 0, "{said}");
    assert_eq!(s3.objects("held"), contents(&repo));
}

#[test]
fn wrong_words_and_credentials_in_words_end_2() {
    let s3 = need_s3!();
    let key = ":s3,access_key_id=a,secret_access_key=b:bucket";
    for (args, text) in [
        (vec![], "no command"),
        (vec!["sync"], "unknown command sync"),
        (vec!["push", "repo"], "wrong arguments"),
        (vec!["push", "repo", "mirror:db1", "more"], "unexpected argument"),
        (vec!["check", "mirror:db1", "repo"], "wrong arguments"),
        (vec!["push", "mirror:db1", "/repo"], "'/repo' is no remote"),
        (vec!["push", "--dry", "repo", "mirror:db1"], "unknown option --dry"),
        (vec!["push", "--wait=soon", "repo", "mirror:db1"], "soon"),
        (vec!["push", "repo", key], "credentials"),
        (vec!["push", "repo", "s3,secret_access_key=b:bucket"], "credentials"),
        (vec!["push", "/no/such/repo", "mirror:db1"], "no repository"),
    ] {
        refused(&s3, &args, 2, text);
    }
    assert_eq!(s3.calls(), Vec::<String>::new());
}

#[test]
fn page_and_help_agree_on_options_and_causes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let (page, script) = (read("man/rollforward-mirror.8"), read("dist/mirror/rollforward-mirror"));
    let (_, usage) = script.split_once("usage='").unwrap();
    let (usage, _) = usage.split_once("'\n").unwrap();
    let known = usage.split_whitespace().filter_map(|w| w.strip_prefix("--"));
    let known: BTreeSet<&str> = known.collect();
    let told = page.split(" Fl Fl ").skip(1).map(|rest| rest.split_whitespace().next().unwrap());
    assert_eq!(known, told.collect());
    assert!(known.len() > 5, "{known:?}");
    // Each cause that the script ends with, as in `fail 1 "older: ..."`.
    let words = script.split("fail ").skip(1).filter_map(|rest| rest.split_once(['"', '\'']));
    let causes = words.filter_map(|(_, said)| said.split_once(": ")).map(|(cause, _)| cause);
    let causes: BTreeSet<&str> = causes.filter(|c| c.len() < 20 && !c.contains(' ')).collect();
    assert!(causes.contains("older") && causes.contains("remote"), "{causes:?}");
    for cause in causes.difference(&BTreeSet::from(["configuration", "interrupted"])) {
        assert!(page.contains(&format!("Sy {cause} ")), "{cause} is not in the page");
    }
}

#[test]
fn journals_behind_a_link_are_pulled_nowhere() {
    need_server!();
    let s3 = need_s3!();
    let sample = Sample::get();
    let repo = sample.copy(&s3);
    copy(&sample.repo, &repo.join("journals"));
    let remote = "mirror:journals";
    s3.mirror_well(["push", &word(&repo), remote]);
    let (to, other) = (s3.path("pulled"), s3.path("another"));
    s3.mirror_well(["pull", remote, &word(&to)]);
    copy(&sample.repo, &other);
    remove_manifests(&other, |name| name != sample.names[0]);
    fs::remove_dir_all(to.join("journals")).unwrap();
    std::os::unix::fs::symlink(&other, to.join("journals")).unwrap();
    let before = contents(&other);
    refused(&s3, &["pull", "-q", remote, &word(&to)], 2, "pulled/journals is a symbolic link");
    assert_eq!(contents(&other), before);
}

/// A push from elsewhere removes what has expired.
#[test]
fn what_vanishes_from_the_remote_is_not_called_damaged() {
    need_server!();
    let s3 = need_s3!();
    let sample = Sample::get();
    let repo = sample.copy(&s3);
    s3.mirror_well(["push", &word(&repo), "here:db1"]);
    let (oldest, newest) = (&sample.names[0], sample.names.last().unwrap());
    let run = |args: &[&str], name: &str, copies: &str| {
        s3.forget_calls();
        let manifest = s3.path("here/db1/backups").join(name);
        let vanish = format!("case $* in {copies}) mv {0} kept;; esac", manifest.display());
        let ended = s3.spawn_mirror(args, &[("DO", &vanish)]).finish();
        fs::rename(s3.path("kept"), manifest).unwrap();
        ended
    };
    let to = s3.path("pulled");
    let manifests = "copy*--files-from-raw*here:db1/backups*";
    let (status, said) = run(&["pull", "here:db1", &word(&to)], oldest, manifests);
    assert!(
        status == 0 && said.contains(&format!("{oldest} was not pulled: it was removed")),
        "{said}"
    );
    assert!(said.contains("holds the 3 backups"), "{said}");
    // Another one is the newest now.
    let other = s3.path("other");
    let (status, said) = run(&["check", "here:db1"], newest, manifests);
    assert!(status == 0 && said.contains(&format!("{newest} was removed")), "{said}");
    let (status, said) = run(&["restore", "--to", &word(&other), "here:db1"], newest, manifests);
    assert!(status == 1 && said.contains(&format!("no-backup: {newest} was removed")), "{said}");
    assert!(!said.contains("damaged"), "{said}");
}

/// A follower puts parts together at any time.
#[test]
fn parts_put_together_during_a_push_are_all_pushed() {
    need_server!();
    let s3 = need_s3!();
    let sample = Sample::get();
    let repo = sample.copy(&s3);
    copy(&sample.repo, &repo.join("journals"));
    let parts = repo.join("journals/backups");
    let (one, later) = (parts.join(&sample.names[2]), parts.join("29991122T153000Z-0000"));
    // When the parts are listed, and before they are linked.
    let shim = format!(
        "#!/bin/sh\n[ -e {later} ] || mv {one} {later}\nPATH=${{PATH#*:}} exec ln \"$@\"\n",
        later = later.display(),
        one = one.display()
    );
    let at = s3.path("bin/ln");
    fs::write(&at, shim).unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
    s3.mirror_well(["push", &word(&repo), "here:db1"]);
    let names = |dir: &Path| {
        let all = fs::read_dir(dir).unwrap().flatten().map(|entry| entry.file_name());
        all.collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&s3.path("here/db1/journals/backups")), names(&parts));
}
