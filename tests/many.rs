//! Many databases on one machine: all of them at a look, and not all of them at once.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::repository::{Json, copy, set_age};
use crate::support::{Outcome, Rollforward, Running, Scene, TempDir, wait_until};

const SOON: Duration = Duration::from_secs(30);
/// With many passes.
const PATIENCE: Duration = Duration::from_secs(240);
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
    assert!(ended.stdout.contains("names no repo and no scratch"), "{ended}");
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

    // Nor does a limit pass where there is no repository to judge by it.
    let alone = scene.path("alone");
    fs::create_dir(&alone).unwrap();
    let text = format!("[rollforward]\nscratch = {}\n", scene.scratch.display());
    fs::write(alone.join("db.cnf"), text).unwrap();
    assert_eq!(verdicts(&all(&alone, &[]).expect(0)), ["db ok"]);
    let ended = all(&alone, &["--max-age=2d"]).expect(3);
    assert!(ended.stdout.contains("--max-age needs --repo"), "{ended}");

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

/// A place of its own for a pass beside others, on the same primary.
fn beside(scene: &Scene, number: usize) -> Rollforward {
    let place = scene.path(&format!("beside{number}"));
    if !place.exists() {
        fs::create_dir(&place).unwrap();
        copy(&scene.repo, &place.join("repo"));
    }
    let (repo, scratch) = (place.join("repo"), place.join("scratch"));
    let run = scene.command("run").arg("--repo").arg(repo).arg("--scratch").arg(&scratch);
    run.arg("--slots").arg(format!("{}:2", scene.path("slots").display())).scratch(&scratch)
}

/// How many of the passes have begun to work and live.
fn at_work(passes: &mut [Running]) -> usize {
    let works = |pass: &mut Running| {
        let checkpoint = pass.checkpoint();
        let running = checkpoint.get("state") == Some("running");
        // Asked last: what it wrote before it ended counts no more.
        running && checkpoint.get("phase").is_some() && !pass.has_ended()
    };
    passes.iter_mut().map(works).filter(|works| *works).count()
}

#[test]
fn ten_passes_with_two_slots_are_never_three_at_work() {
    need_server!();
    let scene = Scene::seeded("slots");
    scene.primary.backlog("shop", 20);
    let mut passes: Vec<Running> = (0..10).map(|number| beside(&scene, number).spawn()).collect();
    let (mut most, mut killed) = (0, Vec::new());
    wait_until("the end of all passes", PATIENCE, || {
        let working = at_work(&mut passes);
        assert!(working <= 2, "{working} at work");
        most = most.max(working);
        // Two that are at work, one after the other.
        if working == 2 && killed.len() < 2 {
            let at_it = |pass: &mut Running| {
                pass.checkpoint().get("state") == Some("running") && !pass.has_ended()
            };
            let number = passes.iter_mut().position(at_it);
            if let Some(number) = number.filter(|number| !killed.contains(number)) {
                passes[number].kill(libc::SIGKILL);
                wait_until("its end", SOON, || passes[number].has_ended());
                killed.push(number);
            }
        }
        passes.iter_mut().all(Running::has_ended)
    });
    assert_eq!((most, killed.len()), (2, 2));
    let mut waited = 0;
    for (number, pass) in passes.into_iter().enumerate() {
        let ended = pass.finish(SOON);
        let status = if killed.contains(&number) { 256 + libc::SIGKILL } else { 0 };
        let ended = ended.expect(status);
        waited += usize::from(ended.stderr.contains("waiting for one of 2 slots in "));
    }
    assert!(waited >= 6, "{waited}");
    for number in killed {
        beside(&scene, number).run_to_end(PATIENCE).expect(0);
    }
}

#[test]
fn a_pass_waits_for_a_slot_and_can_be_stopped() {
    need_server!();
    let scene = Scene::seeded("slot");
    let slots = scene.path("slots");
    let run = |options: &[&str]| {
        let option = format!("{}:2", slots.display());
        scene.command("run").arg("--slots").arg(option).args(options)
    };
    fs::create_dir(&slots).unwrap();
    let held = [1, 2].map(|number| {
        let slot = fs::File::create(slots.join(format!("slot-{number}"))).unwrap();
        slot.lock().unwrap();
        slot
    });
    // Nothing due is no reason to wait.
    run(&["--min-interval=1h"]).run_to_end(SOON).expect(0);
    let late = run(&["--slot-wait=300ms"]).run_to_end(SOON).expect(75);
    late.says("error: locked: ").says("slot-2 is locked by ").says("none of 2 slots became free");
    assert_eq!(scene.checkpoint().get("cause"), Some("locked"));
    run(&["--slot-wait=0"]).run_to_end(SOON).expect(75);

    let status = || {
        let status = scene.command("status").arg("--scratch").arg(&scene.scratch);
        status.arg("--stall-timeout=1ms").run_to_end(SOON)
    };
    let metrics = scene.path("slot.prom");
    let file = format!("--metrics-file={}", metrics.display());
    let pass = run(&[&file]).spawn();
    wait_until("the wait", SOON, || pass.checkpoint().get("state") == Some("waiting"));
    let said = status().expect(0);
    assert!(said.stdout.contains("has waited for a slot for "), "{said}");
    let text = fs::read_to_string(&metrics).unwrap();
    let line = text.lines().find(|l| l.starts_with("rollforward_pass_running{")).unwrap();
    assert!(line.ends_with(" 0"), "{line}");
    pass.kill(libc::SIGTERM);
    pass.finish(SOON).expect(143).says("error: interrupted: ");
    assert_eq!(scene.checkpoint().get("state"), Some("stopped"));
    // One that is killed while it waits.
    let pass = run(&[]).spawn();
    wait_until("the wait", SOON, || pass.checkpoint().get("state") == Some("waiting"));
    pass.kill(libc::SIGKILL);
    pass.finish(SOON).expect(256 + libc::SIGKILL);
    let said = status().expect(2);
    assert!(said.stdout.contains("died while it waited for a slot"), "{said}");
    // A slot becomes free.
    let pass = run(&[]).spawn();
    wait_until("the wait", SOON, || pass.checkpoint().get("state") == Some("waiting"));
    drop(held);
    pass.finish(PATIENCE).expect(0).says("a slot is free");

    for wrong in ["--slots=x", "--slots=x:0", "--slots=:3", "--slots=x:many", "--slot-wait=x"] {
        let name = wrong.split('=').next().unwrap();
        scene.command("run").arg(wrong).run_to_end(SOON).expect(2).says(name);
    }
    let nowhere = scene.path("no/where").display().to_string();
    let refused = scene.command("run").arg(format!("--slots={nowhere}:1")).run_to_end(SOON);
    refused.expect(2).says("its parent directory does not exist");
}
