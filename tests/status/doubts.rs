//! What `status` cannot read or cannot believe, beside what it can.

use std::fs;
use std::path::{Path, PathBuf};

use super::{json, keys, says, status};
use crate::support::TempDir;
use crate::support::repository::{Json, copy};

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
