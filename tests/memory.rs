//! Too little memory: the default sizing lives with it; a pool that is too large is told from
//! every other death, at the start and in the catch-up, with the limit.

use std::ffi::OsString;
use std::process::Command;

use crate::support::limits::{Cgroup, FakeCgroup, address_space};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Outcome, PATIENCE, Replica, Scene, alive, flavor, run_helper, wait_until};

const MIB: u64 = 1 << 20;

/// A table of some 170 MiB, made by one short statement that every replica executes again: whole
/// or not at all, so that a mysqld that is killed on the way made no progress.
fn much_data(scene: &Scene) {
    scene.primary.sql("CREATE DATABASE big; SET SESSION binlog_format = 'STATEMENT'");
    scene.primary.sql("CREATE TABLE big.t (id INT PRIMARY KEY, text CHAR(250)) ENGINE=InnoDB");
    scene.primary.sql(
        "INSERT INTO big.t SELECT seq, REPEAT(CHAR(65 + seq DIV 110000), 250) \
         FROM big.seq_1_to_550000",
    );
}

fn under(scene: &Scene, wrapper: &[OsString], args: &[&str]) -> Outcome {
    let run = scene.command("run").args(Scene::usual_log()).args(args);
    run.under(wrapper).run_to_end(COMMAND_PATIENCE)
}

#[track_caller]
fn assert_out_of_memory(scene: &Scene, ended: Outcome, limit: &str) -> Outcome {
    println!("out of memory: {:?}, {}", ended.wall, ended.log().last().unwrap());
    let ended = ended
        .expect(75)
        .says("error: out-of-memory: the private mysqld ran out of memory: ")
        .says(limit)
        .says("raise the limit or pass a smaller --mysqld-option=--innodb-buffer-pool-size=N");
    for other in ["mysqld-died", "mysqld-start", "mysqld-hung"] {
        assert!(!ended.stderr.contains(other), "another cause is named, too: {ended}");
    }
    let checkpoint = scene.checkpoint();
    for (key, value) in [("cause", "out-of-memory"), ("state", "failed"), ("exit_status", "75")] {
        assert_eq!(checkpoint.get(key), Some(value), "{checkpoint:?}");
    }
    scene.assert_nothing_left();
    ended
}

#[test]
fn a_cgroup_too_small_is_coped_with_or_named() {
    need_server!();
    let scene = Scene::seeded("cgroup");
    much_data(&scene);
    // MySQL takes some 200 MiB for itself.
    let (limit, named) = flavor::either((160, "160.0 MiB"), (344, "344.0 MiB"));
    let Some(small) = Cgroup::with_memory(limit * MIB) else {
        // The others do the same by another limit, and with files that are no cgroup's.
        println!("no cgroup may be made here");
        return;
    };
    let large = ["--mysqld-option=--innodb-buffer-pool-size=1G", "--max-failures=1"];
    let ended = under(&scene, &small.wrapper(), &large);
    let ended = assert_out_of_memory(&scene, ended, &format!("its cgroup limit is {named}"));
    ended.says("it was killed by signal 9 (KILL)");
    assert_eq!(scene.backups().len(), 1);
    // A pool of the right size makes it, on what is left or, a table having been made just before
    // the kills, on the base.
    under(&scene, &small.wrapper(), &[]).expect(0);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    // And from the start.
    scene.primary.sql("INSERT INTO big.t SELECT id + 1000000, text FROM big.t LIMIT 300000");
    let ended = under(&scene, &small.wrapper(), &[]).expect(0);
    assert!(!ended.stderr.contains("failure 1"), "{ended}");
}

#[test]
fn an_address_space_limit_is_coped_with_or_named() {
    need_server!();
    let scene = Scene::seeded("space");
    much_data(&scene);
    // Not enough for the pool that was asked for; not enough for any; enough. MySQL reserves some
    // 600 MiB for itself.
    let (large, small, enough) = flavor::either((800, 150, 500), (1000, 400, 2000));
    let pool = "--mysqld-option=--innodb-buffer-pool-size=700M";
    for (limit, args) in [(large, &[pool] as &[_]), (small, &[])] {
        let named = format!("{limit}.0 MiB");
        let limit = limit * MIB;
        let wrapper = address_space(limit);
        let args: Vec<&str> = args.iter().copied().chain(["--max-failures=1"]).collect();
        let ended = under(&scene, &wrapper, &args);
        assert_out_of_memory(&scene, ended, &format!("its address space limit is {named}"));
    }
    assert_eq!(scene.backups().len(), 1);
    let ended = under(&scene, &address_space(enough * MIB), &[]).expect(0);
    assert!(!ended.stderr.contains("failure 1"), "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

#[test]
fn memory_refused_during_catch_up_is_named_and_retried() {
    need_server!();
    let scene = Scene::seeded("refused");
    // Each takes a while and some memory for its sort.
    scene.primary.slow_backlog("shop", 100, 0.02);
    let mut pass = scene.command("run").spawn();
    let pid = pass.wait_for_checkpoint("a mysqld in the catch-up", PATIENCE, |c| {
        let pid = c.number("mysqld_pid")? as i32;
        (c.get("phase") == Some("catch-up") && alive(pid)).then_some(pid)
    });
    let pid = pid.to_string();
    run_helper(Command::new("prlimit").args(["--pid", &pid, "--as=104857600"]), "");
    // Larger than anything it may have kept by.
    scene.primary.sql(
        "CREATE TABLE shop.large (id INT PRIMARY KEY, text LONGTEXT) ENGINE=InnoDB; \
         INSERT INTO shop.large VALUES (1, REPEAT('x', 8 << 20))",
    );
    let ended = pass.finish(COMMAND_PATIENCE);
    println!("refused in the catch-up: {:?}, {}", ended.wall, ended.stderr);
    let ended =
        ended.expect(0).says("warning: out-of-memory: the private mysqld ran out of memory: ");
    ended.says("its address space limit is 100.0 MiB");
    scene.assert_nothing_left();
}

#[test]
fn kills_by_the_kernel_and_by_hand_are_told_apart() {
    need_server!();
    let scene = Scene::seeded("versions");
    let own = "proc/self/cgroup";
    let cases = [
        (
            FakeCgroup::new(&[
                (own, "3:cpu:/\n4:memory:/job\n"),
                ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "230686720\n"),
                ("sys/fs/cgroup/memory/job/memory.oom_control", "under_oom 0\noom_kill 3\n"),
            ]),
            "sys/fs/cgroup/memory/job/memory.oom_control",
        ),
        (
            FakeCgroup::new(&[
                (own, "0::/job\n"),
                ("sys/fs/cgroup/job/memory.max", "230686720\n"),
                ("sys/fs/cgroup/job/memory.events", "low 0\noom 0\noom_kill 3\n"),
            ]),
            "sys/fs/cgroup/job/memory.events",
        ),
    ];
    for (cgroup, counter) in &cases {
        // It may write into its log only.
        let log = scene.scratch.join("mysqld.log");
        let killed = scene.fake_mysqld("killed", "echo \"$@\" >&2; kill -9 $$");
        let counted = cgroup.path(counter);
        let script = format!(
            "echo starved >&2; until grep -q 'oom_kill 4' {}; do sleep 0.01; done; kill -9 $$",
            counted.display()
        );
        let starved = scene.fake_mysqld("starved", &script);
        let run = |fake: &std::path::Path| {
            let run = scene.command("run").arg("--mysqld").arg(fake).arg("--max-failures=0");
            run.under(cgroup.wrapper()).run_to_end(COMMAND_PATIENCE)
        };
        let ended = run(&killed).expect(75);
        ended.says("error: mysqld-died: the private mysqld died: it was killed by signal 9 (KILL)");
        let args = std::fs::read_to_string(&log).unwrap();
        assert!(args.contains("--innodb-buffer-pool-size=57671680 "), "a quarter of it: {args}");
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_until("a start", COMMAND_PATIENCE, || {
                    std::fs::read_to_string(&log).is_ok_and(|text| text.contains("starved"))
                });
                std::fs::write(&counted, "oom_kill 4\n").unwrap();
            });
            run(&starved)
        });
        assert_out_of_memory(&scene, ended, "its cgroup limit is 220.0 MiB");
    }
}
