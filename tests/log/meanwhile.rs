//! `log` beside a pass and a follower.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::follow::{follower, parts, start, wait_for_end};
use crate::log::{log, objects};
use crate::support::repository::Json;
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Scene, wait_until};
use crate::until::gtids;

/// A part of what a follower received leads to a backup without a journal, and beyond.
#[test]
fn what_was_received_over_a_backup_is_listed() {
    need_server!();
    let scene = Scene::seeded("over");
    let before = gtids(&scene.primary).len();
    let mut run = follower(&scene).arg("--every=1h").spawn();
    run.wait_for_log("following ", COMMAND_PATIENCE);
    scene.primary.sql("CREATE DATABASE before_it");
    scene.command("run").arg("--no-journal").run_to_end(COMMAND_PATIENCE).expect(0);
    scene.primary.sql("CREATE DATABASE after_it");
    let data = scene.path("following/data");
    let has_it = |log: &Path| fs::read(log).is_ok_and(|l| l.windows(8).any(|w| w == b"after_it"));
    wait_until("its arrival", COMMAND_PATIENCE, || {
        fs::read_dir(&data).is_ok_and(|dir| dir.flatten().any(|entry| has_it(&entry.path())))
    });
    run.kill(libc::SIGTERM);
    run.finish(COMMAND_PATIENCE).expect(128 + libc::SIGTERM);
    let all = gtids(&scene.primary).split_off(before);
    for count in 1..=all.len() {
        let ended = log(&scene, &["--json", "--until", &all[count - 1]]);
        let lines = objects(&ended);
        let listed = lines.iter().map(|line| line.get("gtid").str().to_string());
        assert_eq!(listed.collect::<Vec<_>>(), all[..count], "{ended}");
    }
}

/// A pass stores what a follower has received, and the parts of that go while they are listed.
#[test]
fn what_takes_the_place_of_parts_is_listed_instead() {
    need_server!();
    let scene = Scene::seeded("instead");
    let before = gtids(&scene.primary).len();
    let run = start(&scene);
    // More than a pipe holds.
    scene.primary.backlog("shop", 4000);
    for number in 0..3 {
        wait_for_end(&scene, &scene.primary.gtid_pos());
        scene.primary.sql(&format!("CREATE DATABASE part{number}"));
    }
    wait_for_end(&scene, &scene.primary.gtid_pos());
    run.kill(libc::SIGTERM);
    run.finish(COMMAND_PATIENCE).expect(128 + libc::SIGTERM);
    let all = gtids(&scene.primary).split_off(before);
    let there = parts(&scene);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollforward"));
    command.args(["log", "--json", "--repo"]).arg(&scene.repo);
    let mut log = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::with_capacity(64, log.stdout.take().unwrap());
    let mut text = String::new();
    out.read_line(&mut text).unwrap();
    scene.run().expect(0);
    scene.command("prune").arg("--keep-count=9").run_to_end(COMMAND_PATIENCE).expect(0);
    let left = parts(&scene).len();
    assert!(left > 0 && left < there.len(), "{left} of {there:?}");
    out.read_to_string(&mut text).unwrap();
    let ended = log.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let listed = text.lines().map(|line| Json::parse(line).get("gtid").str().to_string());
    assert_eq!(listed.collect::<Vec<_>>(), all);
}
