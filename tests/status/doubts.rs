//! What `status` cannot read or cannot believe, beside what it can.

use std::fs;
use std::path::{Path, PathBuf};

use super::{json, keys, says, status};
use crate::support::TempDir;
use crate::support::repository::{Json, copy, edit_manifest, rfc3339};

/// The backup of the repository of an earlier version.
const BACKUP: &str = "20261122T153000Z-8f3a";

/// A copy of it.
fn sample() -> (TempDir, PathBuf) {
    let dir = TempDir::new("doubts");
    let repo = dir.path().join("repo");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/repository-1"), &repo);
    (dir, repo)
}

#[test]
fn an_unreadable_checkpoint_or_repository_does_not_hide_the_other() {
    let (dir, repo) = sample();
    let scratch = dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let path = scratch.join("checkpoint");
    let of = |repo: &Path| status(["--repo"]).arg(repo).arg("--scratch").arg(&scratch);
    fs::write(&path, "garbage\n").unwrap();
    let texts = ["cannot read checkpoint", "begin with format=1", "newest backup", " old"];
    says("an unreadable checkpoint", &of(&repo), 3, &texts);
    let found = json(&of(&repo), 3);
    assert_eq!(found.get("newest").str(), BACKUP);
    assert!(matches!(found.get("newest_age_seconds"), Json::Number(_)), "{found:?}");
    assert!(matches!(found.get("recoverable_until"), Json::Text(_)), "{found:?}");
    assert_eq!(found.get("alive"), &Json::Null);
    let too_old = of(&repo).arg("--max-age=1s");
    says("the same, and too old", &too_old, 2, &["cannot read checkpoint", "more than 1s"]);
    assert_eq!(json(&too_old, 2).get("newest").str(), BACKUP);

    // The other way round.
    let ended = "state=failed\nexit_status=1\nupdated=2026-11-22T15:30:00Z\n";
    fs::write(&path, format!("format=1\n{ended}cause=purged\n")).unwrap();
    let nowhere = of(&dir.path().join("absent"));
    let texts = ["ended with status 1 at 2026-11-22T15:30:00Z: purged; ", "no repository at"];
    says("a failure, and no repository", &nowhere, 2, &texts);
    assert_eq!(json(&nowhere, 2).get("cause").str(), "purged");
    fs::write(&path, "format=1\n").unwrap();
    says("no pass yet, as a proof leaves it", &of(&repo), 0, &["no pass has run yet"]);

    let running = "state=running\npid=1\nupdated=2026-11-22T15:30:00Z\n";
    for (lines, what) in [
        ("phase=backup\n".into(), "it has no state"),
        ("state=bogus\n".into(), "its state 'bogus' is none"),
        ("state=done\n".into(), "its state is done, and it has no exit_status"),
        ("state=failed\nexit_status=1\n".into(), "it has no updated"),
        (running.into(), "its state is running, and it has no progressed"),
        (format!("{ended}failures=abc\n"), "its failures 'abc' is no number"),
        (format!("{ended}bytes_done=007\n"), "its bytes_done '007' is no number"),
        (format!("{ended}pid=-1\n"), "its pid '-1' is no number"),
        (format!("{running}progressed=today\n"), "its progressed 'today' is no time"),
    ] {
        let lines: String = lines;
        fs::write(&path, format!("format=1\n{lines}")).unwrap();
        says("a checkpoint of no pass", &of(&repo), 3, &["cannot read checkpoint", what]);
        let found = json(&of(&repo), 3);
        assert!(!keys(&found).contains("failures") && !keys(&found).contains("state"));
        assert_eq!(found.get("newest").str(), BACKUP);
    }
}

/// This time from now on, by the system's clock.
fn in_seconds(seconds: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    rfc3339(now.as_secs() + seconds)
}

#[test]
fn a_backup_dated_in_the_future_is_never_young_enough() {
    let (dir, repo) = sample();
    let dated = |time: &str| {
        edit_manifest(&repo, BACKUP, |lines| {
            let line = lines.iter_mut().find(|l| l.starts_with("data_as_of ")).unwrap();
            *line = format!("data_as_of {time}");
        });
    };
    let plain = status(["--repo"]).arg(&repo);
    let limited = plain.clone().arg("--max-age=1d");
    // Clocks differ by some minutes.
    dated(&in_seconds(200));
    says("a minute or two ahead", &limited, 0, &["is 0s old"]);
    assert_eq!(json(&limited, 0).get("newest_age_seconds"), &Json::Number("0".into()));
    for time in [in_seconds(400), "2099-01-01T00:00:00Z".into()] {
        dated(&time);
        let text = format!("newest backup {BACKUP} is dated in the future, {time}: a clock was");
        says("ahead", &limited, 1, &[&text]);
        says("ahead, without a limit", &plain, 1, &[&text]);
    }
    let found = json(&limited, 1);
    assert_eq!(found.get("newest").str(), BACKUP);
    assert_eq!(found.get("newest_age_seconds"), &Json::Null);
    let texts = ["the newest moment that can be restored is dated in the future, 2099-01-01T"];
    says("a moment ahead", &plain.clone().arg("--max-lag=1m"), 1, &texts);
    let file = format!("[rollforward]\nrepo = {}\nmax-age = 1d\n", repo.display());
    fs::write(dir.path().join("db.cnf"), file).unwrap();
    let all = status(["--all"]).arg(dir.path()).run_to_end(super::SOON).expect(1);
    let line: Vec<&str> = all.stdout.split_whitespace().take(4).collect();
    assert_eq!(line, ["db", "warning", "-", "newest"], "{all}");

    // The same for a proof.
    dated(&in_seconds(0));
    let proofs = repo.join("proofs");
    fs::create_dir(&proofs).unwrap();
    fs::write(proofs.join(BACKUP), "proof time=2099-01-01T00:00:00Z result=ok\n").unwrap();
    let text = format!("the proof of newest proven backup {BACKUP} is dated in the future, 2099-");
    says("a proof ahead", &plain.clone().arg("--max-proof-age=1w"), 1, &[&text]);
    assert_eq!(json(&plain, 1).get("newest_proven_age_seconds"), &Json::Null);
}

/// A pass that hangs would be alive and moving until the clock gets there.
#[test]
fn a_future_checkpoint_is_no_sign_of_life() {
    let dir = TempDir::new("future");
    let scratch = dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    // As every pass does; the name of the file does not matter.
    let lock = fs::File::create(scratch.join("lock")).unwrap();
    lock.lock().unwrap();
    let of = status(["--scratch"]).arg(&scratch);
    let write = |state: &str, updated: &str, progressed: &str| {
        let pid = std::process::id();
        let lines = format!(
            "format=1\nstate={state}\nphase=backup\npid={pid}\nstarted={progressed}\n\
             updated={updated}\nprogressed={progressed}\nexit_status=0\n"
        );
        fs::write(scratch.join("checkpoint"), lines).unwrap();
    };
    let (now, later) = (in_seconds(100), in_seconds(4000));
    let text =
        format!("and its checkpoint is dated in the future, {later}: a clock was or is wrong");
    for state in ["running", "waiting"] {
        // Clocks differ by some minutes.
        write(state, &in_seconds(200), &in_seconds(200));
        says("a minute or two ahead", &of, 0, &[" 0s"]);
        for (updated, progressed) in [(&now, &later), (&later, &now), (&later, &later)] {
            write(state, updated, progressed);
            let found = says("ahead", &of, 1, &[&text]);
            let told = found.stdout.contains(" 0s");
            assert_eq!(told, progressed == &now, "{found}");
        }
    }
    // What is certain is said, too.
    write("running", "2026-11-22T15:30:00Z", &later);
    says("silent", &of, 2, &["silent for"]);
    write("running", &later, "2026-11-22T15:30:00Z");
    says("stalled", &of, 2, &["and is stalled"]);
    lock.unlock().unwrap();
    write("running", &later, &later);
    says("dead", &of, 2, &["died during backup"]);
    write("done", &later, &now);
    let text = format!("the end of the last pass is dated in the future, {later}: a clock");
    says("an end ahead", &of, 1, &["the last pass succeeded", &text]);
}
