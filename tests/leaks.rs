//! Nothing leaks: neither from one pass to the next, nor in a pass that polls for long.
//!
//! `ROLLFORWARD_PASSES` says how many passes; `make leaks` asks for 200.
#![allow(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::repository::{all_packs, packs_of};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{PATIENCE, Running, Scene, processes_under, try_helper, wait_until};

/// Each looks at all children of its process: so it has one of its own, whoever runs it. Says
/// whether this is that; if not, it was run there.
fn is_by_itself(test: &str) -> bool {
    if std::env::var_os(BY_ITSELF).is_none() {
        let mut itself = Command::new(std::env::current_exe().unwrap());
        itself.args(["--exact", "--nocapture", &format!("leaks::{test}")]).env(BY_ITSELF, "1");
        let (good, out, err) = try_helper(&mut itself, "", Duration::from_secs(3600));
        // What it measured, too, for those who run it with --nocapture.
        print!("{out}");
        assert!(good && out.contains("1 passed"), "{err}");
        return false;
    }
    // Whatever a pass leaves behind becomes our child instead of init's.
    // SAFETY: prctl takes plain numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
    true
}

/// Set for a process of one test.
const BY_ITSELF: &str = "ROLLFORWARD_TEST_BY_ITSELF";

fn lines(path: &str) -> BTreeSet<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(String::from).collect()
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// The pids of our children with their programs, zombies too.
fn children() -> BTreeSet<(i32, String)> {
    let parent = std::process::id().to_string();
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|e| e.file_name().to_string_lossy().parse::<i32>().ok())
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (name, rest) = stat.rsplit_once(") ")?;
            (rest.split(' ').nth(1)? == parent).then(|| (pid, name.to_string()))
        })
        .collect()
}

/// All that a pass could leave beyond its repository.
#[derive(Debug, PartialEq)]
struct Traces {
    children: BTreeSet<(i32, String)>,
    working: BTreeSet<i32>,
    mounts: BTreeSet<String>,
    sockets: BTreeSet<String>,
    shared_memory: BTreeSet<String>,
    semaphores: BTreeSet<String>,
    messages: BTreeSet<String>,
    scratch: BTreeSet<String>,
    scratch_tmp: BTreeSet<String>,
    repo: BTreeSet<String>,
    repo_tmp: BTreeSet<String>,
    temporary: BTreeSet<String>,
    of_our_name: BTreeSet<String>,
}

impl Traces {
    fn of(scene: &Scene, temporary: &Path) -> Traces {
        let dir = scene.path("").to_string_lossy().into_owned();
        let below = |text: BTreeSet<String>| -> BTreeSet<String> {
            text.into_iter().filter(|l| l.contains(&dir)).collect()
        };
        // By name: other programs of this machine may use these places at the same time.
        let of_our_name = |at: &str| {
            let others = ["rollforward-test-", "rollforward-demo."];
            let ours =
                |n: &String| n.contains("rollforward") && !others.iter().any(|o| n.contains(o));
            names(Path::new(at)).into_iter().filter(ours).collect::<Vec<_>>()
        };
        Traces {
            children: children(),
            working: processes_under(Path::new(&dir)).into_iter().collect(),
            mounts: below(lines("/proc/self/mounts")),
            sockets: below(lines("/proc/net/unix")),
            shared_memory: lines("/proc/sysvipc/shm"),
            semaphores: lines("/proc/sysvipc/sem"),
            messages: lines("/proc/sysvipc/msg"),
            scratch: names(&scene.scratch),
            scratch_tmp: names(&scene.scratch.join("tmp")),
            repo: names(&scene.repo),
            repo_tmp: names(&scene.repo.join("tmp")),
            temporary: names(temporary),
            of_our_name: ["/tmp", "/var/tmp", "/dev/shm", "/run"]
                .into_iter()
                .flat_map(of_our_name)
                .collect(),
        }
    }
}

/// Kills the private mysqld of a pass, if it is there in time.
fn kill_its_mysqld(pass: &mut Running) {
    wait_until("a mysqld or the end", PATIENCE, || {
        let pid = pass.checkpoint().number("mysqld_pid");
        if let Some(pid) = pid.filter(|pid| *pid > 1) {
            // SAFETY: kill takes plain numbers. It is the pass's own: the checkpoint is of now.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
        pid.is_some() || pass.has_ended()
    });
}

#[test]
fn many_passes_leave_no_process_mount_socket_or_file() {
    need_server!();
    if !is_by_itself("many_passes_leave_no_process_mount_socket_or_file") {
        return;
    }
    let passes: u32 =
        std::env::var("ROLLFORWARD_PASSES").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let scene = Scene::seeded("leaks");
    let temporary = scene.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let mut before = None;
    let (began, mut killed) = (Instant::now(), 0);
    for pass in 0..passes + 2 {
        scene.primary.backlog("shop", 20);
        let program = scene.command("run").arg("--keep-count=3").env("TMPDIR", &temporary);
        let mut running = program.spawn();
        if pass % 5 == 4 {
            kill_its_mysqld(&mut running);
            killed += 1;
        }
        running.finish(COMMAND_PATIENCE).expect(0);
        let after = Traces::of(&scene, &temporary);
        // The first passes make what stays: the lock and the checkpoint.
        if pass >= 2 {
            assert_eq!(before.get_or_insert_with(|| Traces::of(&scene, &temporary)), &after);
        }
        assert!(after.working.is_empty() && after.sockets.is_empty(), "{after:?}");
        assert!(after.scratch_tmp.is_empty() && after.repo_tmp.is_empty(), "{after:?}");
        assert!(after.temporary.is_empty() && after.of_our_name.is_empty(), "{after:?}");
        assert!(after.mounts.is_empty(), "{after:?}");
        let backups = scene.backups();
        assert!(backups.len() <= 3, "{backups:?}");
        let named: BTreeSet<String> =
            backups.iter().flat_map(|b| packs_of(&scene.repo, b)).collect();
        assert_eq!(all_packs(&scene.repo).into_iter().collect::<BTreeSet<_>>(), named);
    }
    wait_until("the primary to be rid of our sessions", PATIENCE, || {
        scene.primary.sql("SHOW PROCESSLIST").iter().all(|row| row[1] != "rf_nightly")
    });
    println!("{passes} passes, {killed} with a killed mysqld, in {:?}", began.elapsed());
}

/// What a process holds: KiB of memory, descriptors, threads.
fn held(pid: i32) -> (u64, usize, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| -> u64 {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    (value("VmRSS:"), names(Path::new(&format!("/proc/{pid}/fd"))).len(), value("Threads:"))
}

/// How many descriptors a process has of each file, and of all sockets.
fn open_files(pid: i32) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        // One that was closed a moment ago has no name.
        let Ok(file) = fs::read_link(entry.path()) else { continue };
        let file = file.to_string_lossy().into_owned();
        let kind = if file.starts_with("socket:") { "socket".to_string() } else { file };
        *all.entry(kind).or_insert(0) += 1;
    }
    all
}

/// What each sample has of a file, at least; nothing of one that a sample has not.
fn always_open(samples: &[Sample]) -> BTreeMap<String, usize> {
    let mut least = samples[0].mysqld.clone();
    for sample in samples {
        least.retain(|file, n| {
            *n = (*n).min(sample.mysqld.get(file).copied().unwrap_or(0));
            *n > 0
        });
    }
    least
}

/// What was held at one moment.
#[derive(Debug)]
struct Sample {
    pass: (u64, usize, u64),
    mysqld: BTreeMap<String, usize>,
}

/// How often a process has read so far.
fn reads(pid: i32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    io.lines().find_map(|l| l.strip_prefix("syscr: ")).unwrap().trim().parse().unwrap()
}

#[test]
fn an_hour_of_polls_holds_no_more_than_a_minute() {
    need_server!();
    if !is_by_itself("an_hour_of_polls_holds_no_more_than_a_minute") {
        return;
    }
    let scene = Scene::seeded("polls");
    // Moves all the while, so that positions are read, compared and written down as in real life.
    scene.primary.slow_backlog("shop", 4000, 0.05);
    let mut pass = scene.command("run").args(["--poll-interval=1ms", "--max-failures=0"]).spawn();
    pass.wait_for_phase("catch-up", PATIENCE);
    let (pid, mysqld) = (pass.pid(), pass.wait_for_mysqld(PATIENCE));
    // A look reads /proc 14 times, to see whether mysqld is at work.
    let (first, hour) = (reads(pid), 3600 * 14);
    // Each session of the library has a buffer of 4 MiB, which it touches bit by bit from one
    // end to the other before it begins anew: the busy one must have come around. That of the
    // pings, of 57 bytes each, has not.
    let (warm, mut samples) = (1700 * 14, Vec::new());
    wait_until("an hour's polls", PATIENCE * 3, || {
        let done = reads(pid) - first;
        if done >= warm {
            samples.push(Sample { pass: held(pid), mysqld: open_files(mysqld) });
        }
        done >= warm + hour
    });
    assert_eq!(pass.checkpoint().get("phase"), Some("catch-up"), "{}", pass.dump());
    let memory = samples[0].pass.0;
    let most = samples.iter().map(|s| s.pass.0).max().unwrap();
    println!("{} samples: {memory} to {most} KiB, {:?}", samples.len(), samples[0]);
    assert!(samples.len() > 100, "{}", samples.len());
    assert!(most <= memory + 400, "{memory} KiB have become {most}");
    let (first, last) = samples.split_at(samples.len() / 2);
    let least = |samples: &[Sample]| samples.iter().map(|s| s.pass.1).min().unwrap();
    assert!(least(last) <= least(first), "{} descriptors, then {}", least(first), least(last));
    // One more is the file that it reads just now.
    assert!(samples.iter().all(|s| s.pass.1 <= least(first) + 2 && s.pass.2 == 1), "{samples:?}");
    // MySQL opens a table's file when it needs it first, at any time, and then has it once.
    let then = always_open(first);
    for (file, now) in always_open(last) {
        let before = then.get(&file).copied().unwrap_or(0);
        let may = if file.starts_with('/') { before.max(1) } else { before };
        assert!(now <= may, "mysqld has {file} {before} times, then {now} times");
    }
    pass.kill(libc::SIGTERM);
    pass.finish(Duration::from_secs(60)).expect(128 + libc::SIGTERM);
}
