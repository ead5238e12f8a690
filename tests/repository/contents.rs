//! What is in a backup, how much it adds, and who may read it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::{LONG, PATIENCE};
use crate::support::repository::{flip_bit, manifest, pack_path, packs_of, tree};
use crate::support::{PASSWORD, Replica, Scene, Server};

/// The program with a umask that would let everybody in.
const OPEN: [&str; 4] = ["sh", "-c", "umask 0; exec \"$@\"", "sh"];

#[track_caller]
fn is_private(dir: &Path) {
    let mode = fs::metadata(dir).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o700, "{}: {mode:o}", dir.display());
    let found = tree(dir);
    assert!(!found.is_empty(), "{} is empty", dir.display());
    for (path, what) in found {
        let expected = if what.ends_with("directory") { "700 " } else { "600 " };
        assert!(what.starts_with(expected), "{}: {what}", path.display());
    }
}

#[test]
fn everything_is_private_whatever_the_umask() {
    need_server!();
    let scene = Scene::new("private");
    scene.primary.fill("shop", 1, 1000);
    let seed = scene.command("seed").args(["--from", "dump"]).under(OPEN);
    seed.run_to_end(LONG).expect(0);
    scene.primary.backlog("shop", 100);
    scene.command("run").arg("--keep-scratch").under(OPEN).run_to_end(LONG).expect(0);
    is_private(&scene.repo);
    is_private(&scene.scratch);
    let to = scene.path("restored");
    let restore = scene.command("restore").arg("--to").arg(&to).under(OPEN);
    restore.run_to_end(PATIENCE).expect(0);
    is_private(&to);
}

#[test]
fn identity_logs_and_secrets_stay_out_of_a_backup() {
    need_server!();
    let scene = Scene::seeded("contents");
    scene.primary.sql("CREATE DATABASE `empty`");
    scene.primary.backlog("shop", 100);
    scene.run().expect(0);
    for backup in scene.backups() {
        let text = manifest(&scene.repo, &backup);
        let files: Vec<&str> = text
            .lines()
            .filter_map(|l| l.strip_prefix("file ")?.split(' ').next())
            .filter(|path| !path.contains('/'))
            .collect();
        assert!(files.contains(&"ibdata1"), "{files:?}");
        for word in [
            "relay",
            "master",
            "auto.cnf",
            "binlog",
            "-bin.",
            ".pid",
            ".sock",
            ".err",
            "ibtmp",
            "buffer_pool",
            "core",
            ".index",
            ".log.",
            "my.cnf",
        ] {
            assert!(!files.iter().any(|f| f.contains(word)), "{word} in {files:?}");
        }
    }
    let newest = scene.backups().pop().unwrap();
    assert!(manifest(&scene.repo, &newest).contains("\ndir empty 700\n"));
    let restored = scene.restore(None);
    assert!(restored.join("empty").is_dir());
    let with_password: Vec<_> = [&restored, &scene.repo, &scene.scratch]
        .into_iter()
        .flat_map(|dir| scene.files_with(dir, PASSWORD))
        .collect();
    assert!(with_password.is_empty(), "{with_password:?}");
    let server = Server::start_on(&restored);
    assert!(server.record("SHOW SLAVE STATUS").is_none(), "it knows a primary");
}

#[test]
fn unchanged_data_adds_little_and_kept_scratch_is_reused() {
    need_server!();
    let scene = Scene::new("little");
    scene.primary.fill("shop", 2, 2000);
    // A start changes up to some MiB of the server's own: there must be more than those.
    scene.primary.sql("CREATE TABLE shop.noise (id INT PRIMARY KEY, t TEXT) ENGINE=InnoDB");
    let noise =
        "INSERT INTO shop.noise SELECT seq, HEX(RANDOM_BYTES(600)) FROM shop.seq_1_to_16000";
    scene.primary.sql(noise);
    scene.seed();
    let number = |backup: &str, key| scene.manifest_value(backup, key).parse::<u64>().unwrap();
    let first = scene.backups().pop().unwrap();
    scene.command("run").arg("--keep-scratch").run_to_end(LONG).expect(0);
    let second = scene.backups().pop().unwrap();
    assert_eq!(scene.newest_position(), scene.manifest_value(&first, "position"));
    let outcome = scene.command("run").arg("--keep-scratch").run_to_end(LONG).expect(0);
    let third = scene.backups().pop().unwrap();
    assert!(number(&third, "stored") * 3 < number(&first, "stored"), "{outcome}");
    let line = outcome.stderr.lines().find(|l| l.contains(&format!("restored {second}")));
    let line = line.unwrap_or_else(|| panic!("no restore; {outcome}"));
    assert!(line.contains(" 0 B written"), "{line}");

    let nothing = scene.command("run").args(["--keep-scratch", "--min-interval=1h"]);
    let nothing = nothing.run_to_end(PATIENCE).expect(0).says("nothing is due");
    assert!(nothing.wall < Duration::from_secs(1), "{nothing}");
    assert_eq!(scene.backups().pop(), Some(third));
    assert_eq!(scene.checkpoint().get("state"), Some("done"));
    scene.command("run").arg("--min-interval=0").run_to_end(LONG).expect(0);
    assert_eq!(scene.backups().len(), 4);
}

/// Kept data is not read from the packs, so rot in them would be inherited for ever.
#[test]
fn rot_below_kept_data_is_found_and_mended() {
    need_server!();
    let scene = Scene::seeded("rot");
    let run = scene.command("run").arg("--keep-scratch");
    let kept = run.run_to_end(LONG).expect(0).says("read back ");
    let newest = scene.backups().pop().unwrap();
    for pack in packs_of(&scene.repo, &newest) {
        let path = pack_path(&scene.repo, &pack);
        let middle = std::fs::metadata(&path).unwrap().len() as usize / 2;
        flip_bit(&path, middle);
    }
    // At the latest in the seventh pass; there are few packs.
    let mut found = None;
    for _ in 0..7 {
        scene.primary.backlog("shop", 2);
        let ended = run.run_to_end(LONG);
        if ended.status != 0 {
            found = Some(ended);
            break;
        }
    }
    let found = found.unwrap_or_else(|| panic!("not found in seven passes; {kept}")).expect(3);
    let found = found.says("backup-damaged: pack ").says("is stored again from the data");
    found.says("backup stored, but it needs attention");
    assert_eq!(scene.checkpoint().get("cause"), Some("backup-damaged"));
    // All of it was found with the first, and all is well.
    let newest = scene.backups().pop().unwrap();
    scene.command("verify").arg(&newest).run_to_end(PATIENCE).expect(0);
    run.run_to_end(LONG).expect(0);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}
