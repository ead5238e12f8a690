//! What `dist/monitoring` ships: rules and dashboard ask for metrics that there are, every alert
//! fires when it should, and each pattern for the log meets the lines of the faults it is meant for,
//! as the real binary writes them, and none of a pass that goes well.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::support::monitoring::{dist, names, page_names, promtool, promtool_missing, root};
use crate::support::repository::{Json, all_packs, edit_manifest, make_empty, pack_path};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::small_disk::SmallDisk;
use crate::support::{Outcome, PATIENCE, Proxy, Rollforward, Scene, TempDir, run_helper};

#[test]
fn rules_and_dashboard_ask_for_metrics_that_there_are() {
    let known = page_names();
    assert!(known.len() > 20, "{known:?}");
    for file in ["rules.yml", "rules.test.yml", "dashboard.json"] {
        let asked = names(&dist(file));
        let unknown: Vec<_> = asked.difference(&known).collect();
        assert!(asked.len() > 5 && unknown.is_empty(), "{file}: {unknown:?}");
    }
    // The dashboard draws all that there is.
    assert_eq!(names(&dist("dashboard.json")), known);
}

#[test]
fn every_alert_fires_when_due_and_never_on_good_nights() {
    let (rules, test) = (dist("rules.yml"), dist("rules.test.yml"));
    let alerts: BTreeSet<&str> =
        rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")).collect();
    for alert in &alerts {
        let fires = format!("alertname=\"{alert}\", alertstate=\"firing\"");
        assert!(test.contains(&fires), "{alert} fires in no test");
    }
    let explained = rules.matches("Next: ").count();
    assert_eq!((explained, rules.matches("summary: ").count()), (alerts.len(), alerts.len()));
    let page = fs::read_to_string(root().join("man/rollforward-monitoring.7")).unwrap();
    let listed = page.lines().filter_map(|l| l.strip_prefix(".It Sy Rollforward"));
    let listed: BTreeSet<&str> = listed.flat_map(|l| l.split(" , Rollforward")).collect();
    let short: BTreeSet<&str> = alerts.iter().map(|a| &a["Rollforward".len()..]).collect();
    assert_eq!(listed, short, "the alerts of the page");
    if promtool_missing() {
        return;
    }
    let at = |file: &str| root().join("dist/monitoring").join(file).display().to_string();
    promtool(&["check", "rules", &at("rollforward.rules.yml")], "");
    promtool(&["test", "rules", &at("rollforward.rules.test.yml")], "");
}

#[test]
fn the_dashboard_is_json_and_its_questions_are_promql() {
    let text = dist("dashboard.json");
    let dashboard = Json::parse(&text);
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    let mut count = 0;
    for panel in dashboard.get("panels").list() {
        assert!(!panel.get("title").str().is_empty());
        for target in panel.get("targets").list() {
            count += 1;
            let expr = target.get("expr").str().replace("$repo", ".+");
            rules += &format!("  - record: question:{count}\n    expr: '{expr}'\n");
        }
    }
    assert!(count > 15, "{count}");
    if promtool_missing() {
        return;
    }
    let dir = TempDir::new("dashboard");
    let file = dir.path().join("rules.yml");
    fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", &file.display().to_string()], "");
}

/// The alerts on the log, each with its pattern, in their order.
fn patterns() -> Vec<(String, String)> {
    let rules = dist("loki.yml");
    let mut found = Vec::new();
    for rule in rules.split("- alert: RollforwardLog").skip(1) {
        let name = rule.lines().next().unwrap().to_string();
        let words: Vec<&str> = rule.split('`').collect();
        assert_eq!(words.len(), 3, "one pattern: {rule}");
        assert!(rule.contains("|~ `") && rule.contains("summary: "), "{rule}");
        found.push((name, words[1].to_string()));
    }
    found
}

#[test]
fn file_page_and_rules_for_loki_have_the_same_patterns() {
    let of_rules: Vec<String> = patterns().into_iter().map(|(_, pattern)| pattern).collect();
    let file = dist("patterns");
    assert_eq!(file.lines().collect::<Vec<_>>(), of_rules);
    assert!(
        file.lines().all(|l| l.len() > 10 && l.trim() == l),
        "an empty one matches all: {file}"
    );
    let page = fs::read_to_string(root().join("man/rollforward-monitoring.7")).unwrap();
    let (_, list) = page.split_once(".Sh LOG PATTERNS\n").expect("the section");
    let (_, list) = list.split_once(".Bd -literal -offset indent\n").expect("the list");
    assert_eq!(list.split_once(".Ed\n").expect("its end").0, file);
}

/// The alerts whose patterns match lines of a log; no line may be met by two.
#[track_caller]
fn alerts_on(log: &str) -> BTreeSet<String> {
    let mut met = BTreeSet::new();
    let mut lines = BTreeSet::new();
    // Ends 1 where nothing matches.
    let grep = "grep -nE \"$@\" || [ $? = 1 ]";
    let matches = |args: &[&str]| {
        let found = run_helper(Command::new("sh").args(["-c", grep, "grep"]).args(args), log);
        found.lines().map(String::from).collect::<Vec<_>>()
    };
    for (name, pattern) in patterns() {
        for line in matches(&["-e", &pattern]) {
            assert!(lines.insert(line.clone()), "met by two patterns, {name} and another: {line}");
            met.insert(name.clone());
        }
    }
    let file = root().join("dist/monitoring/rollforward.patterns").display().to_string();
    assert_eq!(matches(&["-f", &file]).into_iter().collect::<BTreeSet<_>>(), lines);
    met
}

/// Panics unless these alerts, and no others, are raised by the log: as it is on standard error,
/// and as the journal has it.
#[track_caller]
fn raises(ended: &Outcome, alerts: &[&str]) {
    let expected: BTreeSet<String> = alerts.iter().map(|a| a.to_string()).collect();
    let mut journal = String::new();
    for line in ended.log() {
        let time = line.starts_with("20").then(|| line.split_once(' ')).flatten();
        journal += &format!("{}\n", time.map_or(line, |(_, rest)| rest));
    }
    for log in [&ended.stderr, &journal] {
        assert_eq!(alerts_on(log), expected, "{log}");
    }
}

#[test]
fn good_passes_and_server_faults_raise_their_patterns() {
    need_server!();
    let scene = Scene::new("servers");
    scene.primary.fill("shop", 2, 2000);
    raises(&scene.seed(), &[]);
    scene.primary.backlog("shop", 200);
    raises(&scene.command("run").arg("-v").run_to_end(COMMAND_PATIENCE).expect(0), &[]);
    let run = |name: &str, body: &str, status: i32| {
        let fake = scene.fake_mysqld(name, body);
        let run = scene.command("run").arg("--mysqld").arg(&fake).arg("--max-failures=1");
        run.arg("--start-timeout=700ms").run_to_end(COMMAND_PATIENCE).expect(status)
    };
    raises(&run("refuses", "exit 1", 1).says("mysqld-start: "), &["Failed"]);
    let given_up = ["ServerTrouble", "GaveUp"];
    raises(&run("dies", "kill -9 $$", 75).says("mysqld-died: "), &given_up);
    raises(&run("deaf", "exec tail -f /dev/null", 75).says("mysqld-hung: "), &given_up);
    let says = "echo '2026-11-22 18:00:00 0 [ERROR] InnoDB: Cannot allocate memory' >&2; exit 2";
    raises(&run("hungry", says, 75).says("out-of-memory: "), &given_up);
    // It may write into its log only.
    let once = "grep -q once mysqld.log || { echo once >&2; kill -9 $$; }; exec MYSQLD \"$@\"";
    raises(&run("dies-once", once, 0).says("mysqld-died: "), &["ServerTrouble"]);
}

#[test]
fn faults_of_the_primary_raise_their_patterns() {
    need_server!();
    let scene = Scene::new("primaries");
    scene.primary.fill("shop", 2, 2000);
    scene.primary.slow_backlog("shop", 1, 0.0);
    scene.seed();
    let run = scene.command("run").arg("--max-failures=1");
    let nobody = format!("127.0.0.1:{}", crate::support::server::free_port());
    let lost = run.clone().args(["--primary", &nobody]).run_to_end(COMMAND_PATIENCE);
    raises(&lost.expect(75), &["PrimaryTrouble", "GaveUp"]);
    let wrong = scene.path("wrong");
    fs::write(&wrong, "not the password").unwrap();
    let denied = run.clone().arg("--password-file").arg(&wrong).run_to_end(COMMAND_PATIENCE);
    raises(&denied.expect(1).says("access-denied: "), &["Failed"]);

    scene.primary.slow_rows("shop", 1, 60.0);
    let impatient = run.clone().arg("--stall-timeout=1s");
    let stalled = impatient.run_to_end(COMMAND_PATIENCE).expect(75).says("stalled: ");
    raises(&stalled, &["PrimaryTrouble", "GaveUp"]);
    // The data of that pass is resumed; what the primary sends now does not fit it.
    let mut pass = run.spawn();
    pass.wait_for_phase("catch-up", PATIENCE);
    pass.kill(libc::SIGTERM);
    raises(&pass.finish(COMMAND_PATIENCE).expect(143), &["Stopped"]);
}

#[test]
fn mismatches_and_missing_data_raise_their_patterns() {
    need_server!();
    let scene = Scene::seeded("positions");
    let run = scene.command("run").arg("--max-failures=1");
    scene.primary.slow_backlog("shop", 3, 1.0);
    let mut pass = run.spawn();
    pass.wait_for_phase("catch-up", PATIENCE);
    pass.kill(libc::SIGTERM);
    raises(&pass.finish(COMMAND_PATIENCE).expect(143), &["Stopped"]);
    // The private server will not know the table; first on the data of that pass.
    scene.primary.sql(
        "SET SESSION sql_log_bin = 0; CREATE TABLE shop.unknown (n INT); \
         SET SESSION sql_log_bin = 1; INSERT INTO shop.unknown VALUES (1)",
    );
    let ended = run.run_to_end(COMMAND_PATIENCE).expect(1).says("the scratch data may be at fault");
    raises(&ended, &["DataTrouble", "Failed"]);
    raises(&run.run_to_end(COMMAND_PATIENCE).expect(1).says("replication-error: "), &["Failed"]);
    scene.primary.flush_and_purge_logs();
    raises(&run.run_to_end(COMMAND_PATIENCE).expect(1).says("purged: "), &["Failed"]);
    scene.primary.sql("RESET MASTER; CREATE DATABASE other");
    raises(&run.run_to_end(COMMAND_PATIENCE).expect(1).says("diverged: "), &["Failed"]);
}

#[test]
fn giving_up_on_a_primary_after_progress_needs_attention() {
    need_server!();
    let scene = Scene::seeded("short");
    let base = scene.newest_position();
    scene.primary.backlog("shop", 3000);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(60_000);
    let run = scene.command("run").args(["--max-failures=1", "--primary", &proxy.address()]);
    let mut pass = run.spawn();
    pass.wait_for_checkpoint("progress in the catch-up", PATIENCE, |c| {
        let moves = c.get("phase") == Some("catch-up") && c.get("position")? != base;
        moves.then_some(())
    });
    proxy.cut();
    let ended = pass.finish(COMMAND_PATIENCE).expect(3).says("before the goal");
    raises(&ended, &["PrimaryTrouble", "Look"]);
}

#[test]
fn faults_of_repository_and_disk_raise_their_patterns() {
    need_server!();
    // The primary keeps its binary logs for ten days.
    let scene = Scene::with("repositories", &["--binlog-expire-logs-seconds=864000"]);
    scene.primary.fill("shop", 2, 2000);
    scene.seed();
    let run = || scene.command("run");
    let at = |name: &str| scene.path(name);
    let [first] = &scene.backups()[..] else { panic!("one backup") };
    let dated = |date: &str| {
        edit_manifest(&scene.repo, first, |lines| {
            let line = lines.iter_mut().find(|l| l.starts_with("data_as_of ")).unwrap();
            *line = format!("data_as_of {date}");
        });
    };
    let now = scene.manifest_value(first, "data_as_of");
    let shift = |by: &str| {
        let mut date = Command::new("date");
        let out =
            run_helper(date.args(["-u", "-d", &format!("{now} {by}"), "+%Y-%m-%dT%H:%M:%SZ"]), "");
        out.trim().to_string()
    };
    dated(&shift("6 days ago"));
    raises(&run().run_to_end(COMMAND_PATIENCE).expect(0), &["SeedSoon"]);
    fs::remove_file(scene.repo.join("backups").join(scene.backups().pop().unwrap())).unwrap();
    dated(&shift("2 days"));
    raises(&run().run_to_end(COMMAND_PATIENCE).expect(0), &["Clock"]);
    dated(&now);

    // Its packs are those of the first one, and some of its own.
    let second = scene.backups().pop().unwrap();
    edit_manifest(&scene.repo, &second, |lines| {
        let line = lines.iter_mut().find(|l| l.starts_with("stored ")).unwrap();
        *line = format!("stored {}", 1u64 << 60);
    });
    raises(&run().run_to_end(COMMAND_PATIENCE).expect(0), &["RoomSoon"]);
    let unwritable = at("absent").join("x.prom");
    let blind = run().arg("--metrics-file").arg(&unwritable);
    raises(&blind.run_to_end(COMMAND_PATIENCE).expect(0), &["NoWitness"]);

    let disk = SmallDisk::new("small", 4 << 20);
    let scratch = disk.path("scratch");
    let full = run().arg("--scratch").arg(&scratch).scratch(&scratch).under(disk.wrapper());
    raises(&full.run_to_end(COMMAND_PATIENCE).expect(1).says("disk-full: "), &["DiskFull"]);
    make_empty(&scene.path("empty"));
    let elsewhere = run().arg("--repo").arg(at("empty"));
    raises(&elsewhere.run_to_end(COMMAND_PATIENCE).expect(1).says("no-backup: "), &["Failed"]);
    let inside = run().arg("--scratch").arg(scene.repo.join("scratch"));
    raises(&inside.run_to_end(COMMAND_PATIENCE).expect(2), &["Configuration"]);
    let unknown = Rollforward::new(["run", "--no-such-option"]).run_to_end(COMMAND_PATIENCE);
    raises(&unknown.expect(2), &["Configuration"]);

    scene.primary.slow_backlog("shop", 1, 60.0);
    let mut pass = run().spawn();
    pass.wait_for_phase("catch-up", PATIENCE);
    raises(&run().run_to_end(COMMAND_PATIENCE).expect(75).says("locked: "), &["Locked"]);
    pass.kill(libc::SIGTERM);
    raises(&pass.finish(COMMAND_PATIENCE).expect(143), &["Stopped"]);

    for pack in all_packs(&scene.repo) {
        fs::write(pack_path(&scene.repo, &pack), "spoilt").unwrap();
    }
    let ended = run().run_to_end(COMMAND_PATIENCE).expect(1).says("backup-damaged: ");
    raises(&ended, &["Damaged"]);
    let verify = scene.command("verify").run_to_end(COMMAND_PATIENCE).expect(1);
    raises(&verify, &["Damaged"]);
    fs::remove_dir_all(scene.repo.join("backups")).unwrap();
    raises(&run().run_to_end(COMMAND_PATIENCE).expect(1).says("io-error: "), &["Failed"]);
}
