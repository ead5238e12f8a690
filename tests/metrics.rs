//! `--metrics-file`: what it says after, during and between passes, that it is replaced whole, and
//! that the page lists the metrics that the binary writes. Rules and dashboard: monitoring.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::monitoring::{page_names, promtool, promtool_missing, root};
use crate::support::repository::{pack_path, packs_of};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{
    Checkpoint, PASSWORD, PATIENCE, Proxy, Rollforward, Running, Scene, run_helper, wait_for,
};

/// Labels and value.
type Sample = (BTreeMap<String, String>, f64);

/// A metrics file as read: samples by name.
#[derive(Debug)]
struct Metrics {
    text: String,
    samples: BTreeMap<String, Vec<Sample>>,
}

impl Metrics {
    /// Panics on what is not whole: half a line, a sample without help and type.
    #[track_caller]
    fn parse(text: &str) -> Metrics {
        assert!(text.ends_with('\n'), "it does not end with a line: {text:?}");
        let mut samples: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let (name, labels) =
                series.strip_suffix('}').and_then(|s| s.split_once('{')).expect(line);
            for word in ["HELP", "TYPE"] {
                assert!(
                    text.contains(&format!("# {word} {name} ")),
                    "no {word} for {name}: {text}"
                );
            }
            let labels = labels.split("\",").map(|l| {
                let (key, value) = l.split_once("=\"").expect(line);
                (key.to_string(), value.trim_end_matches('"').to_string())
            });
            let sample = (labels.collect(), value.parse().expect(line));
            samples.entry(name.to_string()).or_default().push(sample);
        }
        Metrics { text: text.into(), samples }
    }

    #[track_caller]
    fn read(path: &Path) -> Metrics {
        Metrics::parse(&fs::read_to_string(path).unwrap_or_else(|e| panic!("{path:?}: {e}")))
    }

    /// The value of the one sample with this label, or of the only one for "".
    fn get(&self, name: &str, label: &str) -> Option<f64> {
        let samples = self.samples.get(&format!("rollforward_{name}"))?;
        let mut fit =
            samples.iter().filter(|(l, _)| label.is_empty() || l.values().any(|v| v == label));
        let found = fit.next().map(|(_, value)| *value);
        assert!(fit.next().is_none(), "several {name} {label}: {}", self.text);
        found
    }

    #[track_caller]
    fn assert(&self, name: &str, label: &str, value: f64) {
        assert_eq!(self.get(name, label), Some(value), "{name} {label}: {}", self.text);
    }

    /// The states that a metric has, and those of them that are 1.
    fn states(&self, name: &str) -> (BTreeSet<String>, Vec<String>) {
        let samples = &self.samples[&format!("rollforward_{name}")];
        let of = |l: &BTreeMap<String, String>| {
            let mut labels = l.iter().filter(|(key, _)| *key != "repo");
            labels.next().expect("a label").1.clone()
        };
        let now = samples.iter().filter(|(_, v)| *v == 1.0).map(|(l, _)| of(l)).collect();
        (samples.iter().map(|(l, _)| of(l)).collect(), now)
    }

    fn label(&self, name: &str, label: &str) -> String {
        self.samples[&format!("rollforward_{name}")][0].0[label].clone()
    }
}

/// Seconds since 1970, of a time as checkpoint and manifest have it.
fn seconds(time: &str) -> f64 {
    let out = run_helper(Command::new("date").args(["-d", time, "+%s"]), "");
    out.trim().parse().unwrap()
}

/// A command with the metrics file in a directory of its own.
fn command(scene: &Scene, name: &str) -> (Rollforward, PathBuf) {
    let dir = scene.path("collected");
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join("rollforward.prom");
    (scene.command(name).arg("--metrics-file").arg(&file), file)
}

/// Waits until the metrics file makes `cond` true. Panics when the pass ends first.
#[track_caller]
fn wait_for_metrics(
    pass: &mut Running,
    file: &Path,
    what: &str,
    cond: impl Fn(&Metrics) -> bool,
) -> Metrics {
    wait_for(what, PATIENCE, || {
        let ended = pass.has_ended();
        let found = fs::read_to_string(file).ok().map(|text| Metrics::parse(&text));
        let found = found.filter(&cond);
        assert!(found.is_some() || !ended, "it ended before {what}: {}", pass.dump());
        found
    })
}

#[test]
fn after_a_good_pass_metrics_match_manifest_and_checkpoint() {
    need_server!();
    let scene = Scene::seeded("good");
    scene.primary.backlog("shop", 200);
    let (_, file) = command(&scene, "run");
    // By the option file, and whatever the umask is.
    let mut options = fs::read_to_string(&scene.nightly).unwrap();
    options += &format!("\n[rollforward]\nmetrics-file = {}\n", file.display());
    fs::write(&scene.nightly, options).unwrap();
    let wrapper = ["sh", "-c", "umask 077; exec \"$0\" \"$@\""];
    scene.command("run").under(wrapper).run_to_end(COMMAND_PATIENCE).expect(0);

    let metrics = Metrics::read(&file);
    let checkpoint = scene.checkpoint();
    let newest = scene.backups().pop().unwrap();
    let manifest = |key: &str| scene.manifest_value(&newest, key);
    let number = |key: &str| manifest(key).parse::<f64>().unwrap();
    let expected = [
        ("pass_running", 0.0),
        ("pass_exit_status", 0.0),
        ("pass_failures", 0.0),
        ("pass_started_timestamp_seconds", seconds(checkpoint.get("started").unwrap())),
        ("pass_progressed_timestamp_seconds", seconds(checkpoint.get("progressed").unwrap())),
        ("pass_updated_timestamp_seconds", seconds(checkpoint.get("updated").unwrap())),
        ("pass_finished_timestamp_seconds", seconds(checkpoint.get("updated").unwrap())),
        ("last_success_timestamp_seconds", seconds(&manifest("finished"))),
        ("newest_backup_data_timestamp_seconds", seconds(&manifest("data_as_of"))),
        ("newest_backup_size_bytes", number("size")),
        ("newest_backup_stored_bytes", number("stored")),
        ("pass_read_bytes", number("size")),
        ("pass_new_bytes", number("stored")),
    ];
    for (name, value) in expected {
        metrics.assert(name, "", value);
    }
    metrics.assert("backups", "complete", 2.0);
    metrics.assert("backups", "damaged", 0.0);
    assert_eq!(metrics.states("phase").1, [] as [String; 0]);
    assert_eq!(metrics.states("cause").1, [] as [String; 0]);
    assert_eq!(metrics.states("breaker_state").1, ["closed"]);
    assert!(metrics.get("pass_restored_bytes", "").unwrap() > 1e6, "{}", metrics.text);
    for (phase, long) in [("restore", true), ("start", true), ("backup", true), ("seed", false)] {
        let spent = metrics.get("phase_seconds", phase).unwrap();
        assert!((spent > 0.0) == long && spent < 120.0, "{phase}: {}", metrics.text);
    }
    for (label, value) in [("backup", newest.clone()), ("position", manifest("position"))] {
        assert_eq!(metrics.label("newest_backup_info", label), value);
    }
    let repo = scene.repo.to_string_lossy().into_owned();
    for (labels, _) in metrics.samples.values().flatten() {
        assert_eq!(labels["repo"], repo, "{}", metrics.text);
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing beside it");
    assert!(!metrics.text.contains(PASSWORD));
    if !promtool_missing() {
        assert_eq!(promtool(&["check", "metrics"], &metrics.text), "");
    }
    // A pass with nothing to do is one that ended well, and no success of its own.
    let last = metrics.get("last_success_timestamp_seconds", "");
    scene.command("run").arg("--min-interval=1h").run_to_end(COMMAND_PATIENCE).expect(0);
    let metrics = Metrics::read(&file);
    metrics.assert("pass_exit_status", "", 0.0);
    metrics.assert("pass_new_bytes", "", 0.0);
    assert_eq!(metrics.get("last_success_timestamp_seconds", ""), last);
}

#[test]
fn failing_passes_keep_the_last_success_without_the_file() {
    need_server!();
    let scene = Scene::seeded("failing");
    let (run, file) = command(&scene, "run");
    let wrong = scene.path("wrong");
    fs::write(&wrong, "not the password").unwrap();
    let success = seconds(&scene.manifest_value(&scene.backups()[0], "finished"));

    let denied = run.clone().arg("--password-file").arg(&wrong);
    denied.run_to_end(COMMAND_PATIENCE).expect(1);
    let metrics = Metrics::read(&file);
    metrics.assert("pass_exit_status", "", 1.0);
    assert_eq!(metrics.states("cause").1, ["access-denied"]);
    metrics.assert("last_success_timestamp_seconds", "", success);
    metrics.assert("backups", "complete", 1.0);

    fs::remove_file(&file).unwrap();
    let nobody = format!("127.0.0.1:{}", crate::support::server::free_port());
    let lost = run.clone().args(["--max-failures=1", "--primary", &nobody]);
    lost.run_to_end(COMMAND_PATIENCE).expect(75);
    let metrics = Metrics::read(&file);
    metrics.assert("pass_exit_status", "", 75.0);
    metrics.assert("pass_failures", "", 2.0);
    assert_eq!(metrics.states("cause").1, ["primary-unreachable"]);
    assert_eq!(metrics.states("breaker_state").1, ["given-up"]);
    metrics.assert("last_success_timestamp_seconds", "", success);

    // While the next one runs, the outcome of the last one stands; also without the file.
    fs::remove_file(&file).unwrap();
    let finished = seconds(scene.checkpoint().get("updated").unwrap());
    scene.primary.slow_backlog("shop", 1, 30.0);
    let mut pass = run.spawn();
    let metrics = wait_for_metrics(&mut pass, &file, "the catch-up in the metrics", |m| {
        m.states("phase").1 == ["catch-up"]
    });
    metrics.assert("pass_running", "", 1.0);
    metrics.assert("pass_exit_status", "", 75.0);
    metrics.assert("pass_finished_timestamp_seconds", "", finished);
    assert_eq!(metrics.states("cause").1, ["primary-unreachable"]);
    assert_eq!(metrics.states("breaker_state").1, ["closed"]);
    metrics.assert("last_success_timestamp_seconds", "", success);
    // One that waits in vain for the lock is not the one that the file is about.
    run.run_to_end(COMMAND_PATIENCE).expect(75).says("locked: ");
    Metrics::read(&file).assert("pass_running", "", 1.0);
    pass.kill(libc::SIGTERM);
    pass.finish(COMMAND_PATIENCE).expect(143);
    let metrics = Metrics::read(&file);
    metrics.assert("pass_running", "", 0.0);
    metrics.assert("pass_exit_status", "", 143.0);
    assert_eq!(metrics.states("cause").1, ["interrupted"]);
    if !promtool_missing() {
        assert_eq!(promtool(&["check", "metrics"], &metrics.text), "");
    }
}

#[test]
fn failures_show_in_the_metrics_while_the_pass_continues() {
    need_server!();
    let scene = Scene::seeded("on-the-way");
    let (run, file) = command(&scene, "run");
    // It dies at every start; a start is a change of phase, so the file shows the one before.
    let fake = scene.fake_mysqld("dies", "kill -9 $$");
    let mut pass = run.arg("--mysqld").arg(&fake).args(["--max-failures=1000"]).spawn();
    let metrics = wait_for_metrics(&mut pass, &file, "three failures", |m| {
        m.get("pass_failures", "").is_some_and(|n| n >= 3.0)
    });
    metrics.assert("pass_running", "", 1.0);
    assert_eq!(metrics.states("cause").1, ["mysqld-died"]);
    assert_eq!(metrics.states("breaker_state").1, ["half-open"]);
    pass.kill(libc::SIGTERM);
    pass.finish(COMMAND_PATIENCE).expect(143);
}

#[test]
fn a_killed_pass_appears_running_until_the_next_corrects_it() {
    need_server!();
    let scene = Scene::new("killed");
    scene.primary.fill("shop", 1, 20_000);
    let proxy = Proxy::start(&scene.primary);
    // Slow enough for the file to be written within the phase.
    proxy.slow_down(200_000);
    let (seed, file) = command(&scene, "seed");
    let seed = seed.args(["--from", "dump"]);
    let mut pass = seed.clone().args(["--primary", &proxy.address()]).spawn();
    let during = wait_for_metrics(&mut pass, &file, "bytes of the dump", |m| {
        m.get("phase_done_bytes", "").is_some_and(|n| n > 0.0)
    });
    during.assert("pass_running", "", 1.0);
    assert_eq!(during.states("phase").1, ["seed"]);
    assert!(during.get("phase_seconds", "seed").unwrap() > 5.0, "{}", during.text);
    let (done, all) = (during.get("phase_done_bytes", ""), during.get("phase_expected_bytes", ""));
    assert!(done <= all, "{}", during.text);
    during.assert("backups", "complete", 0.0);
    assert_eq!(during.get("last_success_timestamp_seconds", ""), None);
    if !promtool_missing() {
        assert_eq!(promtool(&["check", "metrics"], &during.text), "");
    }
    pass.kill(libc::SIGKILL);
    assert_eq!(pass.finish(COMMAND_PATIENCE).status, 256 + libc::SIGKILL);
    Metrics::read(&file).assert("pass_running", "", 1.0);

    seed.run_to_end(COMMAND_PATIENCE).expect(0);
    let after = Metrics::read(&file);
    after.assert("pass_running", "", 0.0);
    after.assert("pass_exit_status", "", 0.0);
    after.assert("backups", "complete", 1.0);
    let manifest = scene.manifest_value(&scene.backups()[0], "finished");
    after.assert("last_success_timestamp_seconds", "", seconds(&manifest));
    assert!(after.get("phase_seconds", "seed").unwrap() > 0.0, "{}", after.text);

    // All that there is was written now: it is what the page has, in names, phases and causes.
    command(&scene, "run").0.arg("--prove").run_to_end(COMMAND_PATIENCE).expect(0);
    let proven = Metrics::read(&file);
    let all = [&during, &after, &proven].map(|metrics| metrics.samples.keys());
    let written: BTreeSet<String> = all.into_iter().flatten().cloned().collect();
    // Those of a follower are in a file of its own.
    let of_pass = |name: &String| !name.contains("_follow_") && !name.contains("_recoverable_");
    assert_eq!(written, page_names().into_iter().filter(of_pass).collect());
    let page = fs::read_to_string(root().join("man/rollforward-monitoring.7")).unwrap();
    let (_, diagnostics) = page.split_once(".Sh CAUSES\n").unwrap();
    let (diagnostics, _) = diagnostics.split_once("\n.Sh ").unwrap();
    let causes = diagnostics.lines().filter_map(|l| l.strip_prefix(".It Sy "));
    assert_eq!(after.states("cause").0, causes.map(String::from).collect());
    let page = fs::read_to_string(root().join("man/rollforward-format.5")).unwrap();
    let (_, phases) = page.split_once(".It Va phase\n").unwrap();
    let (phases, _) = phases.split_once("\n.It ").unwrap();
    let phases = phases.lines().filter_map(|l| l.strip_prefix(".Sy "));
    let phases = phases.map(|l| l.trim_end_matches([' ', ',', '.']).to_string()).collect();
    assert_eq!(after.states("phase").0, phases);
}

#[test]
fn a_damaged_backup_is_counted() {
    need_server!();
    let scene = Scene::seeded("damaged");
    let (run, file) = command(&scene, "run");
    scene.primary.backlog("shop", 200);
    run.run_to_end(COMMAND_PATIENCE).expect(0);
    let [first, second] = &scene.backups()[..] else { panic!("{:?}", scene.backups()) };
    let old: BTreeSet<String> = packs_of(&scene.repo, first).into_iter().collect();
    let own = packs_of(&scene.repo, second).into_iter().find(|p| !old.contains(p));
    fs::remove_file(pack_path(&scene.repo, &own.expect("a pack of its own"))).unwrap();
    run.run_to_end(COMMAND_PATIENCE).expect(3);
    let metrics = Metrics::read(&file);
    metrics.assert("pass_exit_status", "", 3.0);
    metrics.assert("backups", "damaged", 1.0);
    metrics.assert("backups", "complete", 2.0);
    assert_eq!(metrics.states("cause").1, ["backup-damaged"]);
}

#[test]
fn readers_never_see_a_half_written_or_extra_file() {
    need_server!();
    let scene = Scene::seeded("whole");
    let (run, file) = command(&scene, "run");
    let over = AtomicBool::new(false);
    let (reads, versions) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, mut versions) = (0, BTreeSet::new());
            while !over.load(Ordering::Relaxed) {
                for entry in fs::read_dir(file.parent().unwrap()).unwrap().flatten() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    assert!(!name.ends_with(".prom") || name == "rollforward.prom", "{name}");
                }
                let Ok(text) = fs::read_to_string(&file) else { continue };
                let whole = Metrics::parse(&text);
                assert!(whole.samples.contains_key("rollforward_newest_backup_info"), "{text}");
                (reads, _) = (reads + 1, versions.insert(text));
            }
            (reads, versions.len())
        });
        // A fake that dies makes for many changes of phase.
        let fake = scene.fake_mysqld("dies", "kill -9 $$");
        let run = run.arg("--mysqld").arg(&fake).args(["--max-failures=40", "--backoff-cap=50ms"]);
        let ended = run.run_to_end(COMMAND_PATIENCE);
        over.store(true, Ordering::Relaxed);
        ended.expect(75);
        reader.join().expect("the reader")
    });
    println!("{reads} reads of {versions} versions, all whole");
    assert!(versions > 20 && reads > 200, "{reads} reads of {versions} versions");
}

#[test]
fn a_file_that_cannot_be_written_is_one_warning() {
    need_server!();
    let scene = Scene::seeded("unwritable");
    let is_a_directory = scene.path("directory");
    fs::create_dir(&is_a_directory).unwrap();
    for place in [scene.path("absent").join("x.prom"), is_a_directory] {
        let run = scene.command("run").arg("--metrics-file").arg(&place);
        let ended = run.run_to_end(COMMAND_PATIENCE).expect(0);
        let said = format!("warning: cannot write the metrics file {}: ", place.display());
        let lines = ended.log().iter().filter(|l| l.contains("metrics file")).count();
        assert_eq!((lines, ended.stderr.contains(&said)), (1, true), "{ended}");
        assert!(!scene.path("directory.new").exists(), "half a file is left");
    }
    assert_eq!(scene.backups().len(), 3);
    // It would overwrite the checkpoint, and be overwritten by it.
    let checkpoint = scene.scratch.join("checkpoint");
    let run = scene.command("run").arg("--metrics-file").arg(&checkpoint);
    run.run_to_end(COMMAND_PATIENCE).expect(2).says("--metrics-file");
    assert!(Checkpoint::read(&checkpoint).is_some());
    // In the scratch directory it is no stranger.
    let inside = scene.scratch.join("rollforward.prom");
    for _ in 0..2 {
        let run = scene.command("run").arg("--metrics-file").arg(&inside);
        run.run_to_end(COMMAND_PATIENCE).expect(0);
    }
}
