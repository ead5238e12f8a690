//! Proofs: out of the packs alone, beside what a pass left, and what is wrong is named.

use std::fs;

use crate::support::repository::{flip_bit, pack_path, packs_of};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Outcome, Rollforward, Scene, flavor};

const LONG: std::time::Duration = COMMAND_PATIENCE;

fn prove(scene: &Scene) -> Outcome {
    scene.command("prove").run_to_end(LONG)
}

/// What is on record of a backup.
fn record(scene: &Scene, backup: &str) -> String {
    fs::read_to_string(scene.repo.join("proofs").join(backup)).unwrap_or_default()
}

/// The value of a key of the newest backup in `list --json`.
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
    scene.primary.backlog("shop", 30_000);
    let mut pass = scene.command("run").spawn();
    pass.wait_for_phase("catch-up", LONG);
    pass.kill(libc::SIGTERM);
    pass.finish(LONG).expect(128 + libc::SIGTERM);
    let interrupted = fs::read(scene.scratch.join("checkpoint")).unwrap();
    assert_eq!(listed(&scene, "proven"), "null");

    // A proof that is stopped, one that is killed, and one that ends.
    let mut stopped = scene.command("prove").spawn();
    stopped.wait_for_phase("restore", LONG);
    stopped.kill(libc::SIGTERM);
    stopped.finish(LONG).expect(128 + libc::SIGTERM);
    assert_eq!(scene.checkpoint().get("cause"), Some("interrupted"));
    let mut killed = scene.command("prove").spawn();
    killed.wait_for_phase("start", LONG);
    killed.kill(libc::SIGKILL);
    killed.finish(LONG);
    prove(&scene).expect(0).says("proved ");
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
    fs::write(&index, &old).unwrap();
    let first = adopt("two");
    let page = source.join("shop/t1.ibd");
    flip_bit(&page, 4 * 16384 + 5000);
    let both = adopt("three");

    scene.command("prove").arg(&sound).run_to_end(LONG).expect(0);
    let one = scene.command("prove").arg(&first).run_to_end(LONG).expect(1);
    let one = one.says("unequal: ").says("shop.broken");
    assert!(!one.stderr.contains("shop.t1"), "{one}");
    let two = prove(&scene).expect(1).says("unequal: ").says("shop.broken").says("shop.t1");
    assert!(!two.stderr.contains("shop.v"), "{two}");
    assert!(!two.stderr.contains("shop.t0"), "{two}");
    assert_eq!(scene.checkpoint().get("cause"), Some("unequal"));
    assert!(record(&scene, &both).contains(" result=unequal "), "{}", record(&scene, &both));
    println!("{}", record(&scene, &both));
    println!("{}", record(&scene, &sound));
    let _ = flavor::is_mysql();
}
