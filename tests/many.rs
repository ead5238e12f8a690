//! Many databases on one machine: all of them at a look, and not all of them at once.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::repository::{Json, copy, set_age};
use crate::support::{Outcome, Rollforward, Scene, TempDir};

const SOON: Duration = Duration::from_secs(30);
const HOUR: u64 = 3600;

fn all(dir: &Path, options: &[&str]) -> Outcome {
    Rollforward::new(["status", "--all"]).arg(dir).args(options).run_to_end(SOON)
}

/// An option file for a repository.
fn option_file(dir: &Path, name: &str, repo: &Path, more: &str) {
    let text = format!("[client]\nuser = x\n[rollforward]\nrepo = {}\n{more}\n", repo.display());
    fs::write(dir.join(name), text).unwrap();
}

/// The lines, each as `name verdict`.
fn verdicts(ended: &Outcome) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    ended.stdout.lines().map(words).collect()
}

#[test]
fn one_look_has_a_line_for_each_option_file() {
    need_server!();
    let scene = Scene::seeded("all");
    let dir = scene.path("etc");
    fs::create_dir(&dir).unwrap();
    let nothing = all(&dir, &[]).expect(3);
    assert!(nothing.stdout.starts_with("unknown: no option file *.cnf in "), "{nothing}");
    assert_eq!(all(&dir, &["--json"]).expect(3).stdout, "[]\n");
    all(&scene.path("absent"), &[]).expect(3);

    option_file(&dir, "db1.cnf", &scene.repo, "");
    fs::write(dir.join("dump.cnf"), "[client]\nuser = dump\n[mariadb-dump]\nquick\n").unwrap();
    fs::write(dir.join("notes.txt"), "nonsense").unwrap();
    let ended = all(&dir, &[]).expect(0);
    assert_eq!(verdicts(&ended), ["db1 ok", "dump ok"]);
    // An old backup, with a limit of its own and one of the command line.
    let old = scene.path("old");
    copy(&scene.repo, &old);
    set_age(&old, &scene.backups()[0], 50 * HOUR);
    option_file(&dir, "db2.cnf", &old, "max-age = 3d");
    let ended = all(&dir, &[]).expect(0);
    let line = ended.stdout.lines().nth(1).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..3], ["db2", "ok", "2d2h"], "{ended}");
    assert!(line.ends_with("is 2d2h old"), "{ended}");
    let ended = all(&dir, &["--max-age=2d"]).expect(2);
    assert_eq!(verdicts(&ended), ["db1 ok", "db2 critical", "dump ok"]);

    // What cannot be read or makes no sense hides nothing.
    option_file(&dir, "a.cnf", &scene.path("nowhere"), "");
    option_file(&dir, "b.cnf", &scene.repo, "no-such-key = 1");
    fs::write(dir.join("c.cnf"), b"\xff\xfe").unwrap();
    fs::write(dir.join("d.cnf"), "[client]\nuser = x\n[rolforward]\nrepo = x\n").unwrap();
    fs::create_dir(dir.join("e.cnf")).unwrap();
    std::os::unix::fs::symlink("absent", dir.join("f.cnf")).unwrap();
    option_file(&dir, "g.cnf", &scene.repo, "all = x");
    fs::write(dir.join("h.cnf"), "[rollforward]\nkeep-count = 3\n").unwrap();
    let expected = [
        "a unknown",
        "b unknown",
        "c unknown",
        "d unknown",
        "db1 ok",
        "db2 ok",
        "dump ok",
        "e unknown",
        "f unknown",
        "g unknown",
        "h unknown",
    ];
    let ended = all(&dir, &[]).expect(3);
    assert_eq!(verdicts(&ended), expected, "{ended}");
    assert!(ended.stdout.contains("unknown key 'no-such-key'"), "{ended}");
    assert_eq!(ended.stderr, "");
    let json = Json::parse(&all(&dir, &["--json", "--max-age=2d"]).expect(2).stdout);
    let found: Vec<String> = json
        .list()
        .iter()
        .map(|status| format!("{} {}", status.get("name").str(), status.get("verdict").str()))
        .collect();
    assert_eq!(found[..4], expected[..4]);
    assert_eq!(found[4..6], ["db1 ok", "db2 critical"]);
    let file = dir.join("db1.cnf");
    assert_eq!(json.list()[4].get("file").str(), file.to_str().unwrap());
    assert_eq!(json.list()[4].get("newest").str(), scene.backups()[0]);
    assert_eq!(json.list()[0].get("newest"), &Json::Null);

    for option in ["--repo=x", "--scratch=x", "--checkpoint=x"] {
        let refused = all(&dir, &[option]).expect(3);
        assert!(refused.stderr.contains("--all or --"), "{refused}");
    }
    Rollforward::new(["list", "--all=x"]).run_to_end(SOON).expect(2);
}

#[test]
fn forty_repositories_are_looked_at_within_a_second() {
    need_server!();
    let scene = Scene::seeded("forty");
    for _ in 0..2 {
        scene.run().expect(0);
    }
    let dir = TempDir::new("etc");
    for number in 0..40 {
        let place = scene.path(&format!("db{number:02}"));
        fs::create_dir(&place).unwrap();
        copy(&scene.repo, &place.join("repo"));
        copy(&scene.scratch, &place.join("scratch"));
        let scratch = format!("scratch = {}", place.join("scratch").display());
        option_file(dir.path(), &format!("db{number:02}.cnf"), &place.join("repo"), &scratch);
    }
    let best = (0..3).map(|_| {
        let ended = all(dir.path(), &["--max-age=1d"]).expect(0);
        assert_eq!(ended.stdout.lines().filter(|l| l.contains(" ok ")).count(), 40, "{ended}");
        ended.wall
    });
    let best = best.min().unwrap();
    eprintln!("40 repositories in {best:?}");
    assert!(best < Duration::from_secs(1), "{best:?}");
}
