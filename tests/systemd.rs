//! The units of `dist`, as `make install` puts them, under a systemd that runs as PID 1 in
//! namespaces of its own: their sandbox, what they make of each exit status, the watchdog.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::repository::{pack_path, packs_of};
use crate::support::{
    Checkpoint, NIGHTLY, PASSWORD, Replica, Scene, alive, die_with_us, end, find_program, flavor,
    is_root, kill, run_helper, skipped, try_helper, wait_for, wait_until,
};

const PATIENCE: Duration = Duration::from_secs(120);
const UNIT: &str = "rollforward@db1.service";
const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// Why there can be none on this machine.
fn obstacle() -> Option<&'static str> {
    let namespaces =
        ["--mount", "--pid", "--cgroup", "--fork", "mount", "-t", "tmpfs", "x", "/mnt"];
    if !Path::new(SYSTEMD).exists() {
        Some("systemd is not installed ('make deps')")
    } else if !is_root() {
        Some("only root may start a systemd of its own")
    } else if !try_helper(Command::new("unshare").args(namespaces), "", PATIENCE).0 {
        Some("new namespaces are refused")
    } else {
        cgroup().is_none().then_some("there is no cgroup2 to make a group in")
    }
}

/// Says loudly that a test is skipped, and panics in CI.
fn impossible() -> bool {
    let Some(why) = obstacle() else { return false };
    assert!(std::env::var_os("CI").is_none(), "{why}");
    skipped(&format!("{why}: systemd"));
    true
}

/// The control group that we are in, as a directory.
fn cgroup() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|l| l.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    let ours = fs::read_to_string("/proc/self/cgroup").ok()?;
    let ours = ours.lines().find_map(|l| l.strip_prefix("0::/"))?;
    let path = Path::new(mount).join(ours);
    // A root of it that is mounted read-only, as in many a container, is of no use.
    File::options().write(true).open(path.join("cgroup.procs")).ok().map(|_| path)
}

/// Removes a control group and those below it, if nobody is in them.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// Those that a test left behind that was killed.
fn remove_stale_cgroups() {
    for entry in fs::read_dir(cgroup().unwrap()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("rf-test-").and_then(|n| n.split('-').next()?.parse().ok());
        if pid.is_some_and(|pid: i32| !alive(pid)) {
            remove_cgroup(&entry.path());
        }
    }
}

/// A machine with systemd, the units, and a scene on it.
struct Machine {
    scene: Scene,
    work: PathBuf,
    unshare: Child,
    init: i32,
    cgroup: PathBuf,
}

impl Machine {
    fn boot(name: &str) -> Machine {
        let mut scene = Scene::new(name);
        let work = scene.path("machine");
        for dir in ["backup/db2", "lib/rollforward/db2", "etc/rollforward"] {
            fs::create_dir_all(work.join(dir)).unwrap();
        }
        fs::write(work.join("etc/rollforward/db2.cnf"), "[client]\npassword=other\n").unwrap();
        scene.repo = work.join("backup/db1");
        scene.primary.fill("shop", 2, 2000);
        scene.seed();
        scene.scratch = work.join("lib/rollforward/db1");

        let mut make = Command::new("make");
        make.arg("-C").arg(env!("CARGO_MANIFEST_DIR")).arg("install").env_remove("MAKEFLAGS");
        make.arg(format!("DESTDIR={}", work.join("installed").display()));
        make.arg(format!("BIN={}", env!("CARGO_BIN_EXE_rollforward")));
        run_helper(&mut make, "");
        fs::rename(work.join("installed/usr/local"), work.join("local")).unwrap();
        for (name, text) in [
            ("machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("os-release", "ID=test\n"),
            ("passwd", "root:x:0:0::/root:/bin/sh\n"),
            ("group", "root:x:0:\n"),
        ] {
            fs::write(work.join("etc").join(name), text).unwrap();
        }

        remove_stale_cgroups();
        let cgroup = cgroup().unwrap().join(format!("rf-test-{}-{name}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        let script = "set -e; echo $$ >\"$0\"; shift; exec unshare --mount --pid --ipc --uts \
                      --cgroup --fork --kill-child sh \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(cgroup.join("cgroup.procs")).arg("sh");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/systemd.sh"));
        command.arg(&work).arg(
            flavor::chosen()
                .bin
                .as_ref()
                .map_or_else(PathBuf::new, |bin| bin.parent().expect("above bin").to_path_buf()),
        );
        let said = work.join("said");
        let log = File::create(&said).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        die_with_us(&mut command);
        let unshare = command.spawn().unwrap();
        let mut machine = Machine { scene, work, unshare, init: 0, cgroup };
        machine.options(machine.scene.primary.port(), PASSWORD, "");
        machine.init = wait_for("systemd", PATIENCE, || {
            let text = fs::read_to_string(&said).unwrap_or_default();
            assert!(machine.unshare.try_wait().unwrap().is_none(), "it did not boot: {text}");
            let of = machine.unshare.id();
            let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).ok()?;
            let pid = children.split_whitespace().next()?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (name.trim() == "systemd").then(|| pid.parse().unwrap())
        });
        wait_until("it to have booted", PATIENCE, || {
            let mut asked = machine.inside("systemctl");
            try_helper(asked.args(["is-active", "default.target"]), "", PATIENCE).1 == "active\n"
        });
        machine
    }

    /// The option file of the instance, with what is usual in `dist/rollforward.cnf`.
    fn options(&self, port: u16, password: &str, more: &str) {
        let text = format!(
            "[client]\nhost=127.0.0.1\nport={port}\nuser={}\npassword={password}\n{}\
             [rollforward]\nrepo=/backup/db1\nscratch=/var/lib/rollforward/db1\n\
             backoff-base=50ms\nbackoff-cap=500ms\npoll-interval=200ms\n{}{more}",
            NIGHTLY.user,
            flavor::either("", "get-server-public-key\n"),
            flavor::chosen().bin.as_ref().map_or_else(String::new, |_| format!(
                "mysqld={}\n",
                find_program("mariadbd").unwrap().display()
            )),
        );
        if self.init == 0 {
            let path = self.work.join("etc/rollforward/db1.cnf");
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        } else {
            // In place: it keeps its group.
            fs::write(format!("/proc/{}/root/etc/rollforward/db1.cnf", self.init), text).unwrap();
        }
    }

    /// A program of the machine.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-m", "-p", program]).env("LC_ALL", "C");
        command
    }

    #[track_caller]
    fn systemctl(&self, args: &[&str]) -> String {
        run_helper(self.inside("systemctl").args(args), "")
    }

    fn show(&self, property: &str) -> String {
        self.systemctl(&["show", "--value", "-p", property, UNIT]).trim().to_string()
    }

    #[track_caller]
    fn wait_for_state(&self, what: &str, state: &str) {
        wait_until(what, PATIENCE, || {
            let now = self.show("SubState");
            // Who waits for a good end need not wait after a bad one.
            let wrong = state == "dead" && ["failed", "auto-restart"].contains(&&*now);
            assert!(!wrong, "{now}, not {state}\n{}", self.journal(UNIT, "debug"));
            now == state
        });
    }

    /// What the program said there, in one priority or a range.
    fn journal(&self, unit: &str, priority: &str) -> String {
        let mut command = self.inside("journalctl");
        command.args(["-q", "--no-pager", "-o", "cat", "-p", priority]);
        command.arg(format!("_SYSTEMD_UNIT={unit}"));
        run_helper(&mut command, "")
    }

    /// What systemd said of a unit.
    fn said_of(&self, unit: &str) -> String {
        let mut command = self.inside("journalctl");
        command.args(["-q", "--no-pager", "-o", "cat", "_PID=1"]).arg(format!("UNIT={unit}"));
        run_helper(&mut command, "")
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint::read(&self.scene.scratch.join("checkpoint")).unwrap_or_default()
    }

    /// Waits for the catch-up to be told to systemd; the program's process, as we see it.
    #[track_caller]
    fn wait_for_catch_up(&self) -> i32 {
        wait_until("the catch-up in the status", PATIENCE, || {
            let state = self.show("SubState");
            assert!(!["dead", "failed"].contains(&&*state), "{}", self.journal(UNIT, "debug"));
            self.show("StatusText").starts_with("catch-up: ")
        });
        let procs = self.cgroup.join("system.slice/system-rollforward.slice").join(UNIT);
        let procs = fs::read_to_string(procs.join("cgroup.procs")).unwrap();
        let comm = |pid: &&str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        procs.lines().find(|pid| comm(pid) == "rollforward\n").expect(&procs).parse().unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With PID 1 everything in its namespace goes, and then who waits for it.
        if self.init > 1 && crate::support::try_kill(self.init, libc::SIGKILL) {
            wait_until("its end", PATIENCE, || self.unshare.try_wait().is_ok_and(|s| s.is_some()));
        }
        end(&mut self.unshare);
        remove_cgroup(&self.cgroup);
    }
}

/// A line of `/proc/PID/status`.
fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).trim().to_string()
}

#[test]
fn the_service_runs_sandboxed_stops_and_resumes() {
    need_server!();
    if impossible() {
        return;
    }
    let machine = Machine::boot("service");
    let replica = Replica::start(&machine.scene.primary);
    machine.scene.primary.slow_backlog("shop", 60, 0.1);
    machine.systemctl(&["start", UNIT]);
    let pid = machine.wait_for_catch_up();
    assert_eq!(machine.show("ActiveState"), "active");
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "Seccomp"), "2");
    assert_eq!(status(pid, "CapBnd"), "0000000000000000");
    assert_ne!(status(pid, "Uid").split_whitespace().next(), Some("0"));
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let writable = |at: &str| {
        let line = mounts.lines().rfind(|l| l.split(' ').nth(4) == Some(at));
        line.unwrap_or_else(|| panic!("no {at} in {mounts}"))
            .split(' ')
            .nth(5)
            .unwrap()
            .contains("rw")
    };
    assert!(!writable("/") && !writable("/usr") && !writable("/backup"));
    assert!(writable("/backup/db1") && writable("/var/lib/rollforward/db1"));
    // Of another database there is nothing to be seen, and nothing there can be executed.
    let seen = |dir: &str| -> Vec<_> {
        let names = fs::read_dir(format!("/proc/{pid}/root{dir}")).unwrap();
        names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(seen("/backup"), ["db1"]);
    assert_eq!(seen("/var/lib/rollforward"), ["db1"]);
    assert_eq!(seen("/etc/rollforward"), ["db1.cnf"]);
    let refused =
        |at: &str| mounts.lines().any(|l| l.split(' ').nth(4) == Some(at) && l.contains("noexec"));
    assert!(refused("/backup/db1") && refused("/var/lib/rollforward/db1"), "{mounts}");

    machine.systemctl(&["stop", UNIT]);
    let checkpoint = machine.checkpoint();
    assert_eq!(checkpoint.get("state"), Some("stopped"), "{checkpoint:?}");
    assert_eq!(checkpoint.get("exit_status"), Some("143"), "{checkpoint:?}");
    // A unit that has ended well is forgotten: only the journal knows.
    let said = machine.said_of(UNIT);
    assert!(said.contains("Deactivated successfully") && !said.contains("Failed"), "{said}");

    machine.systemctl(&["start", UNIT]);
    machine.wait_for_state("the end", "dead");
    let said = machine.said_of(UNIT);
    assert_eq!(said.matches("Deactivated successfully").count(), 2, "{said}");
    assert!(!said.contains("Failed") && !said.contains("restart"), "{said}");
    assert_eq!(machine.scene.backups().len(), 2);
    machine.scene.assert_newest_equals(&replica);
    // The journal has the level, and its own time.
    let info = machine.journal(UNIT, "info..info");
    assert!(info.contains("stored ") && info.contains("caught up with "), "{info}");
    assert!(info.lines().all(|l| !l.starts_with("20") && !l.starts_with('<')), "{info}");
    let errors = machine.journal(UNIT, "err");
    assert!(errors.starts_with("error: interrupted: ") && errors.lines().count() == 1, "{errors}");
}

#[test]
fn each_exit_status_is_acted_on_as_the_unit_says() {
    need_server!();
    if impossible() {
        return;
    }
    let machine = Machine::boot("statuses");
    let port = machine.scene.primary.port();
    let failed = "rollforward-failed@db1.service";
    let start = |state: &str, exit: &str| {
        machine.systemctl(&["start", "--no-block", UNIT]);
        machine.wait_for_state(exit, state);
        assert_eq!(machine.show("ExecMainStatus"), exit, "{}", machine.journal(UNIT, "debug"));
        let journal = machine.journal(UNIT, "err..err");
        machine.systemctl(&["stop", UNIT]);
        machine.systemctl(&["reset-failed"]);
        journal
    };
    // 1: a person is called, who finds the verdict in the journal as critical.
    machine.options(port, "wrong", "");
    let journal = start("failed", "1");
    assert!(journal.contains("access-denied: "), "{journal}");
    wait_until("the one who is called", PATIENCE, || {
        machine.journal(failed, "crit..crit").contains("access-denied")
    });
    // 2.
    machine.options(port, PASSWORD, "no-such-key=1\n");
    start("failed", "2");
    // 75: nobody listens there; again after RestartSec.
    machine.options(1, PASSWORD, "max-failures=0\n");
    let journal = start("auto-restart", "75");
    assert!(journal.contains("primary-unreachable: "), "{journal}");
    // Killed.
    machine.options(port, PASSWORD, "");
    machine.scene.primary.slow_backlog("shop", 30, 0.1);
    machine.systemctl(&["start", UNIT]);
    kill(machine.wait_for_catch_up(), libc::SIGKILL);
    machine.wait_for_state("a restart after a kill", "auto-restart");
    assert_eq!(machine.show("Result"), "signal");
    machine.systemctl(&["stop", UNIT]);
    machine.systemctl(&["start", UNIT]);
    machine.wait_for_state("the end", "dead");
    let [older, newer] = &machine.scene.backups()[..] else { panic!("not two backups") };
    // 3: the newer one is passed over. Again, for there is no third status to stop at.
    let older = packs_of(&machine.scene.repo, older);
    let own = packs_of(&machine.scene.repo, newer).into_iter().find(|p| !older.contains(p));
    fs::remove_file(pack_path(&machine.scene.repo, &own.expect("a pack of its own"))).unwrap();
    start("auto-restart", "3");
    assert_eq!(machine.scene.backups().len(), 3);
}

#[test]
fn the_watchdog_kills_stuck_loops_and_spares_long_steps() {
    need_server!();
    if impossible() {
        return;
    }
    let machine = Machine::boot("watchdog");
    let dir = format!("/proc/{}/root/run/systemd/system/{UNIT}.d", machine.init);
    fs::create_dir_all(&dir).unwrap();
    let text = "[Service]\nWatchdogSec=2s\nRestartSec=1s\n";
    fs::write(format!("{dir}/quick.conf"), text).unwrap();
    machine.systemctl(&["daemon-reload"]);
    // Longer than some watchdogs, and then there is something left.
    machine.scene.primary.slow_backlog("shop", 120, 0.1);
    machine.systemctl(&["start", UNIT]);
    let pid = machine.wait_for_catch_up();
    let at = || machine.checkpoint().get("position").map(String::from);
    let began = std::time::Instant::now();
    let mut seen = at();
    wait_until("five seconds of the catch-up", PATIENCE, || {
        let now = at();
        if now.is_some() {
            seen = now;
        }
        began.elapsed() > Duration::from_secs(5)
    });
    assert_eq!(machine.show("NRestarts"), "0", "{}", machine.journal(UNIT, "debug"));
    kill(pid, libc::SIGSTOP);
    wait_until("the watchdog", PATIENCE, || machine.show("NRestarts") == "1");
    machine.wait_for_state("the restart", "running");
    machine.wait_for_state("the end", "dead");
    assert_eq!(machine.scene.backups().len(), 2);
    let said = machine.said_of(UNIT);
    assert!(said.contains("Watchdog timeout") && said.contains("result 'watchdog'"), "{said}");
    assert!(said.trim_end().ends_with("Deactivated successfully."), "{said}");
}
