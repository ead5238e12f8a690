//! The harness itself: servers come up, replicate, compare, and go away without a trace.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{
    Checkpoint, DUMP, NIGHTLY, Primary, Replica, Scene, Server, TempDir, Writer, alive,
    assert_same, processes_under, snapshot, wait_for, wait_until,
};

#[test]
fn a_replica_until_a_position_equals_the_primary() {
    need_server!();
    let primary = Primary::start("primary");
    primary.create_account(NIGHTLY);
    primary.create_account(DUMP);
    let replica = Replica::start(&primary);
    primary.fill("shop", 3, 1000);
    primary.sql(
        "CREATE VIEW shop.v AS SELECT COUNT(*) FROM shop.t0; \
         CREATE EVENT shop.e ON SCHEDULE EVERY 1 DAY DO DELETE FROM shop.t0",
    );
    primary.backlog("shop", 500);
    let position = primary.gtid_pos();
    replica.advance_to(&position);
    assert_same("replica", &snapshot(&replica), "primary", &snapshot(&primary));

    let writer = Writer::start_with(&primary, "live", Duration::ZERO, true);
    writer.wait_for_more(300);
    let middle = primary.gtid_pos();
    writer.wait_for_more(10);
    assert!(writer.stop() >= 310);
    replica.advance_to(&middle);
    assert_ne!(snapshot(&replica), snapshot(&primary));
    replica.advance_to(&primary.gtid_pos());
    assert_same("replica", &snapshot(&replica), "primary", &snapshot(&primary));
    primary.flush_and_purge_logs();
}

#[test]
fn a_copy_of_a_stopped_server_starts_unchanged() {
    need_server!();
    let mut primary = Primary::start("primary");
    primary.fill("shop", 1, 100);
    let before = snapshot(&primary);
    primary.kill9();
    primary.restart();
    primary.stop();
    let dir = TempDir::new("copy");
    let copy = dir.path().join("data");
    let mut cp = std::process::Command::new("cp");
    crate::support::run_helper(cp.arg("-a").arg(primary.datadir()).arg(&copy), "");
    let restored = Server::start_on(&copy);
    assert_same("the copy", &snapshot(&restored), "the original", &before);
    assert!(restored.try_sql("SELECT 1 FROM nowhere.none").is_err());
}

#[test]
#[should_panic(expected = "definition `shop`.`t0`: only in left")]
fn a_difference_is_named() {
    let left = [("definition `shop`.`t0`".to_string(), "x".to_string())].into();
    assert_same("left", &left, "right", &Default::default());
}

#[test]
fn every_test_module_has_one_tier_and_names_that_exist() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let read = |name: &str| fs::read_to_string(tests.join(name)).unwrap();
    let suite = read("suite.rs");
    let modules = suite.lines().filter_map(|l| l.strip_prefix("mod ")?.strip_suffix(';'));
    let mut modules: Vec<&str> = modules.filter(|m| *m != "support").collect();
    modules.push("rollforward");
    modules.sort_unstable();
    let table = read("TIERS");
    let lines = table.lines().filter(|l| !l.starts_with('#'));
    let lines: Vec<Vec<&str>> = lines.map(|l| l.split_whitespace().collect()).collect();
    let mut listed: Vec<&str> = lines.iter().map(|l| l[0]).collect();
    listed.sort_unstable();
    assert_eq!(listed, modules);
    for line in &lines {
        let [module, class, load, seconds, names @ ..] = line.as_slice() else {
            panic!("{line:?}")
        };
        assert!(
            ["once", "rare", "local", "dialect", "others", "long", "asked"].contains(class),
            "{line:?}"
        );
        assert!(["busy", "waiting"].contains(load) && seconds.parse::<u32>().is_ok(), "{line:?}");
        assert!(names.is_empty() || ["dialect", "others"].contains(class), "{line:?}");
        for name in names {
            let (file, function) = match name.split_once("::") {
                Some((inner, function)) => (format!("{module}/{inner}.rs"), function),
                None => (format!("{module}.rs"), *name),
            };
            assert!(read(&file).contains(&format!("\nfn {function}")), "{module}: {name}");
        }
    }
}

/// A program that is a shell script.
fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_test_that_passed_only_later_is_named() {
    let dir = TempDir::new("suite");
    let at = |name: &str| dir.path().join(name);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("tests/TIERS")).unwrap();
    let modules = table.lines().filter(|l| !l.starts_with('#') && !l.starts_with("rollforward"));
    let module = |line: &str| format!("{}::one: test\n", line.split_once(' ').unwrap().0);
    fs::write(at("names"), modules.map(module).collect::<String>()).unwrap();
    let binary = at("suite-0");
    script(&at("cargo"), &format!("echo '  Executable tests/suite.rs ({})'", binary.display()));
    let tests = "[ \"$*\" != --list ] || exec cat \"${0%/*}/names\"\n\
        failed='test result: FAILED. 0 passed; 1 failed;'\n\
        case $* in\n\
        *login*) exit 1 ;;\n\
        *pairs* | *gtid*=2) printf 'failures:\\n    %s\\n\\n%s\\n' \"$2\" \"$failed\"; exit 101 ;;\n\
        *) echo 'test result: ok. 1 passed; 0 failed;' ;;\n\
        esac";
    script(&binary, tests);
    let mut suite = Command::new(root.join("scripts/suite"));
    suite.arg("--tier=test").env("CARGO", at("cargo")).env("TEST_SUMMARY", at("summary"));
    suite.env("TEST_MODULES", "gtid pairs login handover").env("TEST_THREADS", "2");
    let (good, out, err) = crate::support::try_helper(&mut suite, "", Duration::from_secs(60));
    assert!(!good, "{out}{err}");
    let last: Vec<&str> = out.lines().rev().take(2).collect();
    let again = "passed only when tried again: mariadb gtid::one";
    assert_eq!(last, ["2 passed, 2 failed", again], "{out}{err}");
    assert!(
        fs::read_to_string(at("summary")).unwrap().ends_with(&format!("{again}\n{}\n", last[0]))
    );
}

#[test]
fn continuous_integration_ends_with_the_sum_and_each_status() {
    let dir = TempDir::new("ci");
    let say = "say() { printf '%s\\n' \"$@\" >>\"$TEST_SUMMARY\"; }; case $1 in\n\
        test) say 'the table' 'passed only when tried again: it' '5 passed, 0 failed' ;;\n\
        test-servers) exit 2 ;;\n\
        test-share) say '3 passed, 1 failed'; exit 1 ;;\n\
        esac";
    script(&dir.path().join("make"), say);
    let mut run = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run"));
    let path = std::env::var("PATH").unwrap();
    run.env("PATH", format!("{}:{path}", dir.path().display())).env("TMPDIR", dir.path());
    let (good, out, err) = crate::support::try_helper(&mut run, "", Duration::from_secs(60));
    assert!(!good && err.is_empty(), "{out}{err}");
    let expected = "the table\n\npassed only when tried again: it\n8 passed, 2 failed\n\
        make check: status 0\nmake test: status 0\nmake test-servers: status 2\n\
        make test-share: status 1\n";
    assert_eq!(out, expected);
}

#[test]
fn a_scene_leaves_no_process_and_no_directory() {
    need_server!();
    let scene = Scene::new("scene");
    let pid = scene.primary.pid();
    let datadir = scene.primary.datadir().to_path_buf();
    let own = scene.path("");
    assert!(alive(pid) && datadir.exists() && own.exists());
    assert_eq!(processes_under(&datadir), [pid]);
    assert_eq!(scene.checkpoint(), Checkpoint::default());
    assert!(scene.leftover_processes().is_empty());
    drop(scene);
    wait_until("the server to be gone", Duration::from_secs(5), || !alive(pid));
    assert!(!datadir.exists() && !own.exists());
}

#[test]
fn the_servers_of_a_killed_test_die_with_it() {
    need_server!();
    let (pid, dir) = std::thread::spawn(|| {
        // Forgotten, as by a thread that is killed: only the kernel can end the server.
        let server = std::mem::ManuallyDrop::new(Server::start("lost", false, &[]));
        (server.pid(), server.datadir().to_path_buf())
    })
    .join()
    .unwrap();
    wait_until("the server to be gone", Duration::from_secs(10), || !alive(pid));
    assert!(processes_under(&dir).is_empty());
}

/// Not a test: what the next one kills.
#[test]
#[ignore = "it waits to be killed"]
fn a_process_with_a_grandchild() {
    let dir = TempDir::new("grandchild");
    let sleep = dir.path().join("sleeper");
    std::os::unix::fs::symlink("/bin/sleep", &sleep).unwrap();
    let note = std::env::var_os("RF_NOTE").expect("a file for its pid");
    let mut child = std::process::Command::new("sh");
    child.args(["-c", "\"$0\" 100 & echo $! >\"$1.half\"; mv \"$1.half\" \"$1\"; wait"]);
    let _ = crate::support::try_helper(child.arg(sleep).arg(note), "", Duration::from_secs(100));
}

#[test]
fn descendants_of_a_killed_test_die_with_it() {
    let dir = TempDir::new("note");
    let note = dir.path().join("pid");
    let mut killed = std::process::Command::new(std::env::current_exe().unwrap());
    killed.args(["--exact", "harness::a_process_with_a_grandchild", "--ignored"]);
    let mut killed = killed.env("RF_NOTE", &note).env_remove("ROLLFORWARD_KEEP").spawn().unwrap();
    let pid: i32 = wait_for("a grandchild", Duration::from_secs(10), || {
        std::fs::read_to_string(&note).ok()?.trim().parse().ok()
    });
    assert!(alive(pid));
    crate::support::end(&mut killed);
    wait_until("the grandchild to be gone", Duration::from_secs(10), || !alive(pid));
}

/// Plays the program: leaves a checkpoint, says a line, and sleeps.
fn fake_pass(scratch: &TempDir) -> crate::support::Running {
    let script = "printf 'format=1\\nphase=catch-up\\npid=%s\\n' $$ >\"$0/half\"; \
                  mv \"$0/half\" \"$0/checkpoint\"; echo here >&2; exec sleep 100";
    crate::support::Rollforward::new(["run"])
        .under(["sh".as_ref(), "-c".as_ref(), script.as_ref(), scratch.path().as_os_str()])
        .scratch(scratch.path())
        .spawn()
}

#[test]
fn a_pass_is_awaited_by_phase_and_log_and_stopped() {
    let scratch = TempDir::new("scratch");
    let mut pass = fake_pass(&scratch);
    let checkpoint = pass.wait_for_phase("catch-up", Duration::from_secs(10));
    assert_eq!(checkpoint.number("pid"), Some(i64::from(pass.pid())));
    pass.wait_for_log("here", Duration::from_secs(10));
    pass.kill(15);
    let outcome = pass.finish(Duration::from_secs(10)).expect(256 + 15).says("here");
    assert_eq!(outcome.log(), ["here"]);
    assert!(outcome.wall < Duration::from_secs(10));
}

#[test]
#[should_panic(expected = "did not end within 300ms")]
fn a_pass_that_does_not_end_is_killed_and_shown() {
    let scratch = TempDir::new("scratch");
    fake_pass(&scratch).finish(Duration::from_millis(300));
}

#[test]
#[should_panic(expected = "it ended before phase catch-up")]
fn a_pass_that_ends_too_early_is_not_waited_for() {
    let scratch = TempDir::new("scratch");
    let mut pass = fake_pass(&scratch);
    pass.wait_for_log("here", Duration::from_secs(10));
    pass.kill(9);
    pass.wait_for_checkpoint::<()>("phase catch-up", Duration::from_secs(10), |_| None);
}
