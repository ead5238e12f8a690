//! Proofs: out of the packs alone, beside what a pass left, and what is wrong is named.

mod unrecorded;

use std::fs;

use crate::support::repository::{Json, flip_bit, pack_path, packs_of, rot_journal};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::small_disk::SmallDisk;
use crate::support::{NIGHTLY, Outcome, PASSWORD, Rollforward, Scene, flavor, kill};
use crate::until::{Accident, gtids};

const LONG: std::time::Duration = COMMAND_PATIENCE;

fn prove(scene: &Scene) -> Outcome {
    scene.command("prove").run_to_end(LONG)
}

/// The proofs of a backup that are on record, without what a pass puts there.
fn record(scene: &Scene, backup: &str) -> String {
    let all = fs::read_to_string(scene.repo.join("proofs").join(backup)).unwrap_or_default();
    all.lines().filter(|l| l.starts_with("proof ")).map(|l| format!("{l}\n")).collect()
}

/// A value of the newest backup in `list --json`, as it is written.
fn listed(scene: &Scene, key: &str) -> String {
    let json = scene.command("list").arg("--json").run_to_end(LONG).expect(0).stdout;
    let line = json.lines().rfind(|l| l.contains("\"name\"")).expect("a backup").to_string();
    let (_, value) = line.split_once(&format!("\"{key}\": ")).expect("the key");
    value.split([',', '}']).next().unwrap().trim_matches('"').to_string()
}

#[test]
fn a_proof_leaves_an_interrupted_pass_and_names_rot() {
    need_server!();
    let scene = Scene::seeded("prove");
    let backup = scene.backups().pop().unwrap();
    scene.primary.slow_backlog("shop", 100, 0.1);
    let mut pass = scene.command("run").spawn();
    pass.wait_for_phase("catch-up", LONG);
    prove(&scene).expect(75).says("locked: ");
    pass.kill(libc::SIGTERM);
    pass.finish(LONG).expect(128 + libc::SIGTERM);
    let interrupted = fs::read(scene.scratch.join("checkpoint")).unwrap();
    assert_eq!(listed(&scene, "proven"), "null");

    // A proof that is stopped, one that is killed, and one whose server is.
    let mut stopped = scene.command("prove").spawn();
    stopped.wait_for_phase("restore", LONG);
    stopped.kill(libc::SIGTERM);
    stopped.finish(LONG).expect(128 + libc::SIGTERM);
    assert_eq!(scene.checkpoint().get("cause"), Some("interrupted"));
    let mut killed = scene.command("prove").spawn();
    killed.wait_for_phase("start", LONG);
    killed.kill(libc::SIGKILL);
    killed.finish(LONG);
    let mut last = scene.command("prove").spawn();
    kill(last.wait_for_mysqld(LONG), libc::SIGKILL);
    last.finish(LONG).expect(0).says("mysqld-died: ").says("failure 1 of 11").says("proved ");
    assert_eq!(fs::read(scene.scratch.join("checkpoint")).unwrap(), interrupted);
    let on_record = record(&scene, &backup);
    assert_eq!(on_record.lines().count(), 1, "{on_record}");
    for part in ["proof time=", " result=ok", " restore_seconds=", " start_seconds=", " tables="] {
        assert!(on_record.contains(part), "{part}: {on_record}");
    }
    assert!(on_record.contains(&format!("time={} ", listed(&scene, "proven"))), "{on_record}");
    assert!(!scene.scratch.join("proof").exists());
    let resumed = scene.run().expect(0).says("resuming the interrupted pass");
    assert!(!resumed.stderr.contains("restored "), "{resumed}");

    let newest = scene.backups().pop().unwrap();
    let pack = packs_of(&scene.repo, &newest).into_iter().next().unwrap();
    let path = pack_path(&scene.repo, &pack);
    flip_bit(&path, fs::metadata(&path).unwrap().len() as usize / 2);
    let damaged = prove(&scene).expect(1).says("backup-damaged: ").says(&newest).says(&pack);
    assert!(!damaged.stderr.contains("proved "), "{damaged}");
    assert_eq!(scene.checkpoint().get("cause"), Some("backup-damaged"));
    assert!(record(&scene, &newest).contains(" result=backup-damaged "));
    assert_eq!(
        (listed(&scene, "proven"), listed(&scene, "state")),
        ("null".into(), "damaged".into())
    );
    assert!(scene.leftover_processes().is_empty());
}

/// A page and an index that are wrong in the data, whose packs are right.
#[test]
fn damage_below_right_checksums_is_named_by_table() {
    need_server!();
    let mut scene = Scene::new("unsound");
    scene.primary.fill("shop", 2, 2000);
    scene.primary.sql(
        "CREATE TABLE shop.broken (a INT PRIMARY KEY, b INT, KEY (b)) ENGINE=MyISAM; \
         INSERT INTO shop.broken VALUES (1, 1), (2, 2); FLUSH TABLES; \
         CREATE TABLE shop.whole (a INT PRIMARY KEY, b INT, KEY (b)) ENGINE=MyISAM; \
         INSERT INTO shop.whole VALUES (1, 1); \
         CREATE TABLE shop.`odd ``name\u{e4}` (a INT); \
         CREATE VIEW shop.v AS SELECT b FROM shop.whole; ALTER TABLE shop.whole DROP COLUMN b",
    );
    let source = scene.primary.datadir().to_path_buf();
    let index = source.join("shop/broken.MYI");
    let old = fs::read(&index).unwrap();
    scene.primary.sql("INSERT INTO shop.broken VALUES (3, 3), (4, 4)");
    scene.primary.stop();
    let adopt = |name: &str| {
        let from = format!("--from=dir:{}", source.display());
        let seed = Rollforward::new(["seed", &from]).arg("--repo").arg(&scene.repo);
        let seed = seed.arg("--scratch").arg(scene.path(name)).args(scene.mysqld());
        seed.run_to_end(LONG).expect(0);
        scene.backups().pop().unwrap()
    };
    let sound = adopt("one");
    let (good, page) = (fs::read(&index).unwrap(), source.join("shop/t1.ibd"));
    fs::write(&index, &old).unwrap();
    flip_bit(&page, 4 * 16384 + 5000);
    let both = adopt("two");
    flip_bit(&page, 4 * 16384 + 5000);
    let first = adopt("three");
    fs::write(&index, &good).unwrap();

    scene.command("prove").arg(&sound).run_to_end(LONG).expect(0);
    let two = scene.command("prove").arg(&both).run_to_end(LONG).expect(1);
    let two = two.says("unequal: ").says("shop.broken").says("shop.t1");
    assert!(!two.stderr.contains("shop.v") && !two.stderr.contains("shop.t0"), "{two}");
    assert!(record(&scene, &both).contains(" result=unequal "), "{}", record(&scene, &both));
    let one = prove(&scene).expect(1).says("unequal: ").says("shop.broken").says(&first);
    assert!(!one.stderr.contains("shop.t1"), "{one}");
    assert_eq!(scene.checkpoint().get("cause"), Some("unequal"));

    // What is stored is kept, and so is what was good before.
    scene.primary.restart();
    let run = scene.command("run").args(["--prove", "--keep-count=1"]);
    run.run_to_end(LONG).expect(3).says("unequal: ").says("shop.broken");
    assert_eq!(scene.backups().len(), 4);
    assert_eq!(scene.checkpoint().get("base_backup"), Some(&*first));
    assert_eq!(listed(&scene, "proven"), "null");
    let shown = scene.command("report").run_to_end(LONG).expect(0);
    assert_eq!(shown.stdout.matches("proof at ").count(), 3, "{shown}");
}

/// Passes on record with their ends, one that was killed, and backups with their proofs.
#[test]
fn a_report_has_passes_with_ends_and_backups_with_proofs() {
    need_server!();
    let scene = Scene::seeded("report");
    fs::write(scene.repo.join("format"), "rollforward repository 1\n").unwrap();
    fs::remove_dir_all(scene.repo.join("proofs")).unwrap();
    let run = |more: &[&str]| scene.command("run").args(more).run_to_end(LONG);
    run(&["--prove"]).expect(0).says("format 2").says("proved ");
    run(&["--min-interval=1h"]).expect(0).says("nothing is due");
    run(&["--primary=127.0.0.1:1", "--max-failures=0"]).expect(75);
    scene.primary.sql(&format!("ALTER USER {} IDENTIFIED BY 'other'", NIGHTLY.user));
    run(&[]).expect(1);
    scene.primary.sql(&format!("ALTER USER {} IDENTIFIED BY '{PASSWORD}'", NIGHTLY.user));
    scene.primary.backlog("shop", 20_000);
    let mut killed = scene.command("run").spawn();
    killed.wait_for_phase("catch-up", LONG);
    killed.kill(libc::SIGKILL);
    killed.finish(LONG);
    run(&[]).expect(0);

    let report = scene.command("report");
    let text = report.run_to_end(LONG).expect(0).stdout;
    assert!(text.contains("5 passes, 2 with status 0; nothing was due at 1 other run"), "{text}");
    assert!(text.contains("3 backups, 1 proven, 0 damaged"), "{text}");
    for word in ["no end: killed", "access-denied", "primary-unreachable"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let json = report.clone().arg("--json").run_to_end(LONG).expect(0).stdout;
    let json = Json::parse(&json);
    let due = |pass: &&Json| *pass.get("due") == Json::Bool(true);
    let passes = json.get("passes").list();
    let ends: Vec<(Json, Json)> = passes
        .iter()
        .filter(due)
        .map(|p| (p.get("status").clone(), p.get("cause").clone()))
        .collect();
    let status = |n: u32| Json::Number(n.to_string());
    let text = |t: &str| Json::Text(t.into());
    let expected = [
        (status(0), Json::Null),
        (status(75), text("primary-unreachable")),
        (status(1), text("access-denied")),
        (Json::Null, Json::Null),
        (status(0), Json::Null),
    ];
    assert_eq!(ends, expected);
    assert_eq!(passes.len(), 6);
    let backups = scene.backups();
    let proven = backups[1].as_str();
    assert_eq!(passes[0].get("backup").str(), proven);
    let backup = &json.get("backups").list()[1];
    let proof = &backup.get("proofs").list()[0];
    for key in ["restore_seconds", "start_seconds", "tables"] {
        assert!(matches!(proof.get(key), Json::Number(_)), "{key}: {proof:?}");
    }
    assert_eq!((backup.get("name").str(), proof.get("result").str()), (proven, "ok"));
    let later = report.arg("--since=0").run_to_end(LONG).expect(0).stdout;
    assert!(later.contains("0 backups") && later.contains("0 passes"), "{later}");

    // The newest proven backup, beside one that is not.
    let status = scene.command("status").arg("--max-proof-age=1h").run_to_end(LONG).expect(0);
    assert!(status.stdout.contains(&format!("newest proven backup {proven}")), "{status}");
    let status = scene.command("status").args(["--max-proof-age=1s", "--json"]);
    let status = Json::parse(&status.run_to_end(LONG).expect(2).stdout);
    assert_eq!(status.get("newest_proven").str(), proven);
    assert!(matches!(status.get("newest_proven_age_seconds"), Json::Number(n) if n != "0"));
    let list = scene.command("list").args(["--keep-count=1", "--json"]).run_to_end(LONG).expect(0);
    let list = Json::parse(&list.stdout);
    let why: Vec<&Json> = list.list().iter().map(|backup| backup.get("kept_by")).collect();
    let newest = Json::List(vec![text("count"), text("newest")]);
    assert_eq!(why, [&Json::List(vec![]), &Json::List(vec![text("base")]), &newest]);
    assert_eq!(*list.list()[2].get("pinned"), Json::Bool(false));
    assert_eq!(*list.list()[2].get("proven"), Json::Null);

    // What is on record goes with its backup. A second proof is another line.
    scene.command("prove").arg(proven).run_to_end(LONG).expect(0);
    assert_eq!(record(&scene, proven).lines().count(), 2);
    scene.run().expect(0);
    scene.command("prune").arg("--keep-count=1").run_to_end(LONG).expect(0);
    assert!(!scene.backups().contains(&proven.to_string()));
    assert!(!scene.repo.join("proofs").join(proven).exists());
}

/// Ten passes; one of them was refused, and one found its base rotten.
#[test]
fn ten_passes_with_two_faults_are_reported_to_the_line() {
    need_server!();
    let scene = Scene::seeded("ten");
    fs::remove_file(scene.repo.join("proofs/passes")).unwrap();
    let mut rotten = String::new();
    for pass in 1..=10 {
        scene.primary.sql("INSERT INTO shop.t0 (n, text) VALUES (1, 'one more')");
        let status = match pass {
            4 => {
                scene.primary.write_option_file_as(&scene.nightly, NIGHTLY.user, "other");
                1
            }
            7 => {
                let backups = scene.backups();
                let [.., base, newest] = &backups[..] else { panic!("{backups:?}") };
                let old = packs_of(&scene.repo, base);
                let packs = packs_of(&scene.repo, newest);
                let own = packs.iter().find(|pack| !old.contains(pack)).expect("a pack of its own");
                let path = pack_path(&scene.repo, own);
                flip_bit(&path, fs::metadata(&path).unwrap().len() as usize / 2);
                rotten = newest.clone();
                3
            }
            _ => 0,
        };
        scene.command("run").arg("--check-time=1m").run_to_end(LONG).expect(status);
        scene.primary.write_option_file(&scene.nightly, NIGHTLY);
    }

    let report = scene.command("report");
    let json = Json::parse(&report.clone().arg("--json").run_to_end(LONG).expect(0).stdout);
    let text = report.run_to_end(LONG).expect(0).stdout;
    let spaced = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = text.lines().map(spaced).collect();
    let mut expected = vec!["10 backups, 0 proven, 1 damaged".to_string()];
    expected.push("BACKUP STATE DATA AS OF SIZE PROOF RESTORE START TABLES RESULT".into());
    let (mut remarks, backups) = (Vec::new(), json.get("backups").list());
    let names = scene.backups();
    assert_eq!(backups.iter().map(|b| b.get("name").str()).collect::<Vec<_>>(), names);
    for backup in backups {
        let name = backup.get("name").str();
        let is_rotten = name == rotten;
        let state = if is_rotten { "damaged" } else { "complete" };
        assert_eq!(backup.get("state").str(), state, "{name}");
        let size = scene.manifest_value(name, "size").parse::<f64>().unwrap() / f64::from(1 << 20);
        let as_of = backup.get("data_as_of").str();
        expected.push(format!("{name} {state} {as_of} {size:.1} MiB - - - - -"));
        if is_rotten {
            remarks.push(format!("{name}: damaged: {}", backup.get("damage").str()));
        }
        // What was checked is told in one line, and not table by table.
        for record in backup.get("records").list() {
            let value = |key: &str| match record.get(key) {
                Json::Number(n) | Json::Text(n) => n.as_str(),
                other => panic!("{key}: {other:?}"),
            };
            let kind = value("kind");
            let keys = match kind {
                "check" => ["tables", "of", "wrong"].as_slice(),
                "definitions" => &["result", "differ"],
                other => panic!("{other} of {name}"),
            };
            let all: Vec<String> = keys.iter().map(|key| format!("{key} {}", value(key))).collect();
            remarks.push(format!("{name}: {kind} at {}: {}", value("time"), all.join(", ")));
        }
    }
    expected.append(&mut remarks);
    expected.extend(["".into(), "10 passes, 8 with status 0".into()]);
    expected.push("BEGUN ENDED COMMAND STATUS CAUSE BACKUP".into());
    let passes = json.get("passes").list();
    let mut stored = names.iter().skip(1);
    for (n, pass) in passes.iter().enumerate() {
        let (status, cause) = match n + 1 {
            4 => ("1", "access-denied"),
            7 => ("3", "backup-damaged"),
            _ => ("0", "-"),
        };
        let (begun, ended) = (pass.get("begun").str(), pass.get("ended").str());
        let backup = if status == "1" { "-" } else { stored.next().expect("a backup") };
        expected.push(format!("{begun} {ended} run {status} {cause} {backup}"));
        assert_eq!(*pass.get("status"), Json::Number(status.into()));
        if cause != "-" {
            assert_eq!(pass.get("cause").str(), cause);
            remarks.push(format!("{begun}: {cause}: {}", pass.get("message").str()));
        }
    }
    expected.append(&mut remarks);
    assert_eq!(lines[2..], expected, "{text}");
    assert_eq!(text.matches(": check at ").count(), 9, "{text}");
    let told = |line: usize, words: [&str; 2]| {
        let line = &expected[expected.len() - line];
        assert!(words.iter().all(|word| line.contains(word)), "{words:?} in {line}");
    };
    told(2, ["denies access: error 1045", "check user and password"]);
    told(1, [rotten.as_str(), "damaged"]);
}

/// `prove --until`, however it ends.
fn prove_moment(scene: &Scene, when: &str) -> Outcome {
    scene.command("prove").args(["--until", when]).run_to_end(LONG)
}

#[test]
fn a_proof_of_a_moment_applies_journals_and_goes() {
    need_server!();
    let accident = Accident::new("moment");
    let Accident { scene, dropped, before: last_in, .. } = &accident;
    let checkpoint = fs::read(scene.scratch.join("checkpoint")).unwrap();
    let backups = scene.backups();
    let records = || backups.iter().map(|name| record(scene, name)).collect::<String>();
    let before = records();

    // With a kill of the private server that applies the journal.
    let when = format!("before:{dropped}");
    let mut running = scene.command("prove").args(["--until", &when]).spawn();
    kill(running.wait_for_mysqld(LONG), libc::SIGKILL);
    let ended = running.finish(LONG).expect(0).says("mysqld-died: ");
    let ended = ended.says(&format!("proved the moment before {dropped}: restored "));
    let ended = ended.says(&format!("the last transaction that is in: {last_in} of "));
    ended.says(&format!("the first transaction that is not: {dropped} of "));
    // A backup's own moment needs no journal, and a time is as good: the last one that can be had.
    let newest = gtids(&scene.primary).pop().unwrap();
    prove_moment(scene, &newest).expect(0).says("proved the moment ");
    let json = |command: &str, option: &str| {
        let scratch = ["--scratch".into(), scene.scratch.clone().into_os_string()];
        let asked = Rollforward::new([command, option, "--json", "--repo"]).arg(&scene.repo);
        let asked = if command == "status" { asked.args(scratch) } else { asked };
        asked.run_to_end(LONG).expect(0).stdout
    };
    for (text, key) in [
        (json("status", "--max-age=1d"), "\"recoverable_until\": \""),
        (json("list", "--windows"), "\"to_time\": \""),
        (json("list", "--windows"), "\"from_time\": \""),
    ] {
        let (_, value) = text.split_once(key).expect("the key");
        let (time, _) = value.split_once('"').unwrap();
        prove_moment(scene, time).expect(0).says(&format!("proved the moment {time}"));
    }
    assert_eq!(fs::read(scene.scratch.join("checkpoint")).unwrap(), checkpoint);

    prove_moment(scene, "1999-12-31T23:59:59Z").expect(1).says("error: out-of-reach: ");
    scene.command("prove").args(["--until", &when, &backups[0]]).run_to_end(LONG).expect(2);
    let mut killed = scene.command("prove").args(["--until", &when]).spawn();
    killed.wait_for_mysqld(LONG);
    killed.kill(libc::SIGKILL);
    killed.finish(LONG);
    let mut stopped = scene.command("prove").args(["--until", &when]).spawn();
    stopped.wait_for_mysqld(LONG);
    stopped.kill(libc::SIGTERM);
    stopped.finish(LONG).expect(128 + libc::SIGTERM);
    assert!(!scene.scratch.join("proof").exists());
    assert!(scene.leftover_processes().is_empty());
    assert_eq!(records(), before);

    // No room for the data, and then none for what the replay adds to it.
    let disk = SmallDisk::new("proof", 400 << 20);
    let scratch = disk.path("scratch");
    for free in [8, 112, 128, 144].map(|mib| mib << 20) {
        disk.make_room();
        disk.leave(free);
        let proof = scene.command("prove").args(["--until", &when]).arg("--scratch").arg(&scratch);
        let log = flavor::either("innodb-log-file-size", "innodb-redo-log-capacity");
        let proof = proof.arg(format!("--mysqld-option=--{log}=512M")).scratch(&scratch);
        let full = proof.under(disk.wrapper()).run_to_end(LONG).expect(1);
        let full = full.says("error: disk-full: no space left on the file system of ");
        assert!(!scratch.join("proof").exists(), "{full}");
    }

    // A journal that is damaged is named, although the backups on both sides are good.
    rot_journal(&scene.repo, backups.last().unwrap());
    prove_moment(scene, &when).expect(1).says("backup-damaged: ").says("relay.0000");
}
