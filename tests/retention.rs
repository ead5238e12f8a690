//! What is kept of many nights, and why; pins; and clocks that jump.

use std::fs;
use std::path::Path;

use crate::support::repository::{
    Json, copy, edit_manifest, manifest, pack_path, packs_of, rfc3339, set_age, tree,
};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Outcome, Rollforward, Scene, wait_until};

const DAY: u64 = 86_400;

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// Copies the newest backup to one of that age, with a name that fits. Returns the name.
fn older(scene: &Scene, age: u64, digits: &str) -> String {
    let newest = scene.backups().pop().unwrap();
    let compact = rfc3339(now() - age).replace(['-', ':'], "");
    let name = format!("{compact}-{digits}");
    let backups = scene.repo.join("backups");
    fs::copy(backups.join(newest), backups.join(&name)).unwrap();
    set_age(&scene.repo, &name, age);
    name
}

fn ended(command: Rollforward) -> Outcome {
    command.run_to_end(COMMAND_PATIENCE)
}

fn list(scene: &Scene, options: &[&str]) -> Vec<Json> {
    let list = ended(scene.command("list").arg("--json").args(options)).expect(0);
    Json::parse(&list.stdout).list().to_vec()
}

/// Why each backup is kept, oldest first.
fn kept_by(scene: &Scene, options: &[&str]) -> Vec<String> {
    let words =
        |b: &Json| b.get("kept_by").list().iter().map(Json::str).collect::<Vec<_>>().join(" ");
    list(scene, options).iter().map(words).collect()
}

/// A line of what `prune --dry-run` prints, by the name of the backup: its other columns.
fn row(ended: &Outcome, name: &str) -> String {
    let line =
        ended.stdout.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{ended}"));
    line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn tiers_thin_out_and_each_backup_tells_why_it_stays() {
    need_server!();
    let scene = Scene::seeded("tiers");
    // Noon of a Wednesday, so that no period ends while this runs.
    let wednesday = 1_795_608_000;
    assert_eq!(rfc3339(wednesday), "2026-11-25T12:00:00Z");
    let ago = |days: u64| now() - (wednesday - days * DAY);
    let ages = [800, 400, 60, 35, 34, 9, 8, 2, 1, 0];
    let names = ages.map(|days| older(&scene, ago(days), "0000"));
    let seed = scene.backups().pop().unwrap();
    fs::remove_file(scene.repo.join("backups").join(&seed)).unwrap();
    assert_eq!(scene.backups(), names);
    let options = [
        "--keep-daily=3",
        "--keep-weekly=2",
        "--keep-monthly=3",
        "--keep-yearly=2",
        "--keep-hourly=1",
    ];
    let expected = [
        "",        // 2024-09-16
        "yearly",  // 2025-10-21
        "monthly", // 2026-09-26
        "",        // 2026-10-21
        "monthly", // 2026-10-22
        "",        // 2026-11-16, a Monday
        "weekly",  // 2026-11-17
        "daily",   // the Monday after
        "daily",
        "hourly daily weekly monthly yearly newest",
    ];
    assert_eq!(kept_by(&scene, &options), expected);
    // The same from the option file, and as a column.
    let file = scene.path("keep.cnf");
    let keys = options.map(|o| o.trim_start_matches('-').to_string()).join("\n");
    fs::write(&file, format!("[rollforward]\n{keys}\n")).unwrap();
    let table = ended(scene.command("list").arg("--defaults-file").arg(&file)).expect(0).stdout;
    let title = table.lines().next().unwrap();
    assert!(title.contains("  KEPT BY "), "{table}");
    assert!(table.lines().nth(2).unwrap().contains("  yearly "), "{table}");
    assert!(table.lines().last().unwrap().contains(" hourly,daily,weekly,"), "{table}");

    let dry = ended(scene.command("prune").arg("--dry-run").args(options)).expect(0);
    dry.clone().says("would remove 3 backups");
    assert_eq!(row(&dry, &names[3]), "0 B remove nothing keeps it");
    assert_eq!(row(&dry, &names[6]), "0 B keep weekly");
    assert_eq!(scene.backups(), names);
    ended(scene.command("prune").arg("--defaults-file").arg(&file)).expect(0);
    let left: Vec<String> = [1, 2, 4, 6, 7, 8, 9].map(|n: usize| names[n].clone()).into();
    assert_eq!(scene.backups(), left);
    // What is left is kept for the same reasons: nothing more goes.
    let again = ended(scene.command("prune").arg("--dry-run").args(options)).expect(0);
    again.says("nothing to remove");
    for wrong in ["--keep-daily=0", "--keep-yearly=x", "--drop-after=0"] {
        let name = wrong.split('=').next().unwrap();
        ended(scene.command("prune").arg(wrong)).expect(2).says(name);
    }
}

#[test]
fn what_is_older_than_drop_after_goes_but_the_newest() {
    need_server!();
    let scene = Scene::seeded("drop");
    let [old, middle] = [30, 10].map(|days| older(&scene, days * DAY, "0000"));
    let seed = scene.backups().pop().unwrap();
    ended(scene.command("pin").arg(&old).arg("--reason=for ever")).expect(0);
    let options = ["--keep-daily=9", "--drop-after=20d"];
    assert_eq!(kept_by(&scene, &options), ["", "daily", "daily newest"]);
    let dry = ended(scene.command("prune").arg("--dry-run").args(options)).expect(0);
    assert_eq!(row(&dry, &old), "0 B remove older than drop-after");
    ended(scene.command("prune").args(options)).expect(0).says(&old);
    assert_eq!(scene.backups(), [middle, seed.clone()]);
    assert!(!scene.repo.join("pins").join(&old).exists());
    // The newest stays, and that is said.
    set_age(&scene.repo, &seed, DAY);
    let warned = ended(scene.command("prune").arg("--drop-after=1h")).expect(0);
    warned.says(&format!("warning: backup {seed} is older than drop-after allows, and stays: "));
    assert_eq!(scene.backups(), [seed]);
}

#[test]
fn a_pin_keeps_a_backup_until_it_ends() {
    need_server!();
    let scene = Scene::seeded("pins");
    let [first, second] = [3, 2].map(|days| older(&scene, days * DAY, "0000"));
    let newest = scene.backups().pop().unwrap();
    let pin =
        |backup: &str, options: &[&str]| ended(scene.command("pin").arg(backup).args(options));
    fs::write(scene.repo.join("format"), "rollforward repository 1\n").unwrap();
    let reason = "--reason=audit\n2026 \x1b[31m\u{e4}";
    pin(&first, &[reason, "--for=52w"]).expect(0).says(": audit?2026 ?[31m\u{e4}");
    let format = fs::read_to_string(scene.repo.join("format")).unwrap();
    assert_eq!(format, "rollforward repository 2\n");
    let text = fs::read_to_string(scene.repo.join("pins").join(&first)).unwrap();
    assert!(text.starts_with("pin time=2"), "{text}");
    assert!(text.contains(" reason=audit\\x0a2026\\x20\\x1b[31m\\xc3\\xa4 until=2"), "{text}");
    assert!(text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\n')), "{text}");

    assert_eq!(kept_by(&scene, &["--keep-count=1"]), ["pin", "", "count newest"]);
    let [pinned, other, _] = list(&scene, &[]).try_into().unwrap();
    assert_eq!(pinned.get("pinned"), &Json::Bool(true));
    assert_eq!(pinned.get("pin_reason").str(), "audit\n2026 \x1b[31m\u{e4}");
    let until = rfc3339(now() + 364 * DAY);
    assert_eq!(pinned.get("pinned_until").str()[..13], until[..13]);
    for (key, value) in
        [("pinned", Json::Bool(false)), ("pin_reason", Json::Null), ("pinned_until", Json::Null)]
    {
        assert_eq!(other.get(key), &value);
    }
    let table = ended(scene.command("list")).expect(0).stdout;
    let shown = format!("{first}: pinned until {}", &until[..13]);
    assert!(table.contains(&shown) && table.contains(": audit?2026 ?[31m\u{e4}\n"), "{table}");

    ended(scene.command("prune").arg("--keep-count=1")).expect(0);
    assert_eq!(scene.backups(), [first.clone(), newest.clone()]);
    // Pinned again: without an end. Then its time is over.
    pin(&first, &["--reason=still"]).expect(0).says(&format!("{first} is pinned: still"));
    assert_eq!(list(&scene, &[])[0].get("pinned_until"), &Json::Null);
    pin(&first, &["--for=1s"]).expect(0);
    wait_until("the end of the pin", COMMAND_PATIENCE, || {
        list(&scene, &[])[0].get("pinned") == &Json::Bool(false)
    });
    ended(scene.command("prune").arg("--keep-count=1")).expect(0);
    assert_eq!(scene.backups(), std::slice::from_ref(&newest));
    assert_eq!(fs::read_dir(scene.repo.join("pins")).unwrap().count(), 0);

    // What is not there cannot be pinned.
    for command in ["pin", "unpin"] {
        ended(scene.command(command).arg(&second)).expect(1).says("error: no-backup: ");
        ended(scene.command(command).arg("../format")).expect(1).says("error: no-backup: ");
        ended(scene.command(command)).expect(2).says(&format!("{command} needs a BACKUP"));
    }
    pin(&newest, &["--for=0"]).expect(2).says("--for");
    pin(&newest, &["--for=soon"]).expect(2).says("--for");
    pin(&newest, &[&format!("--reason={}", "x".repeat(1001))]).expect(2).says("--reason");
    assert!(!scene.repo.join("pins").join(&newest).exists());
    pin(&newest, &[]).expect(0);
    ended(scene.command("unpin").arg(&newest)).expect(0).says("is no longer pinned");
    ended(scene.command("unpin").arg(&newest)).expect(0).says("was not pinned");
}

#[test]
fn a_pin_that_makes_no_sense_keeps_its_backup() {
    need_server!();
    let scene = Scene::seeded("odd-pins");
    let names = [3, 2].map(|days| older(&scene, days * DAY, "0000"));
    let pins = scene.repo.join("pins");
    fs::create_dir(&pins).unwrap();
    fs::write(pins.join(&names[0]), "pin until=yesterday\\\n").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", pins.join(&names[1])).unwrap();
    let kept = ended(scene.command("prune").arg("--keep-count=1")).expect(0);
    kept.says(&names[0]).says(&names[1]).says("; the backup stays");
    assert_eq!(scene.backups().len(), 3);
    // Nothing is written behind a link.
    fs::remove_dir_all(&pins).unwrap();
    fs::create_dir(scene.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(scene.path("elsewhere"), &pins).unwrap();
    ended(scene.command("prune").arg("--keep-count=1"))
        .expect(2)
        .says("pins is a symbolic link to");
    assert_ne!(ended(scene.command("pin").arg(&names[0])).status, 0);
    assert_eq!(fs::read_dir(scene.path("elsewhere")).unwrap().count(), 0);
}

#[test]
fn a_backup_is_pinned_while_a_pass_runs() {
    need_server!();
    let scene = Scene::seeded("pin-beside");
    let seed = scene.backups().pop().unwrap();
    scene.run().expect(0);
    let hook = scene.path("hook");
    let wait = format!("sh -c 'touch {0}; while [ -e {0} ]; do sleep 0.05; done'", hook.display());
    let pass = scene.command("run").arg("--keep-count=1").arg("--before").arg(wait).spawn();
    wait_until("the pass", COMMAND_PATIENCE, || hook.exists());
    ended(scene.command("pin").arg(&seed)).expect(0);
    fs::remove_file(&hook).unwrap();
    pass.finish(COMMAND_PATIENCE).expect(0);
    assert_eq!(scene.backups().len(), 3);
    ended(scene.command("unpin").arg(&seed)).expect(0);
    ended(scene.command("prune").arg("--keep-count=1")).expect(0);
    assert!(!scene.backups().contains(&seed));
}

#[test]
fn the_bytes_that_a_backup_holds_alone_are_exact() {
    need_server!();
    let scene = Scene::seeded("alone");
    scene.primary.sql("CREATE TABLE shop.big (a LONGBLOB)");
    for size in [300_000, 200_000] {
        let blob =
            format!("INSERT INTO shop.big VALUES (RANDOM_BYTES(1024)), (REPEAT('x', {size}))");
        scene.primary.sql(&blob);
        scene.run().expect(0);
    }
    let names = scene.backups();
    let dry = ended(scene.command("prune").arg("--dry-run")).expect(0);
    for name in &names {
        // By removing it alone from a copy.
        let repo = scene.path(&format!("without-{name}"));
        copy(&scene.repo, &repo);
        let bytes = |repo: &Path| -> u64 {
            let packs = tree(&repo.join("packs")).into_keys().filter(|p| p.is_file());
            packs.map(|p| fs::metadata(p).unwrap().len()).sum()
        };
        let before = bytes(&repo);
        fs::remove_file(repo.join("backups").join(name)).unwrap();
        ended(Rollforward::new(["prune", "--repo"]).arg(&repo)).expect(0);
        let freed = before - bytes(&repo);
        assert!(
            row(&dry, name).starts_with(&format!("{} ", rollforward::text::bytes(freed))),
            "{dry}"
        );
        let own = packs_of(&scene.repo, name).into_iter().filter(|pack| {
            names.iter().filter(|n| packs_of(&scene.repo, n).contains(pack)).count() == 1
        });
        let own: u64 = own.map(|p| fs::metadata(pack_path(&scene.repo, &p)).unwrap().len()).sum();
        assert_eq!(own, freed);
    }
    // It cannot be told while a manifest cannot be read.
    fs::write(scene.repo.join("backups").join(&names[0]), "format 1\n").unwrap();
    let dry = ended(scene.command("prune").arg("--dry-run")).expect(1);
    assert!(row(&dry, &names[1]).starts_with("- keep all"), "{dry}");
}

/// Has the primary tell a time so many seconds from now, to accounts like ours.
fn set_primary_clock(scene: &Scene, ahead: i64) {
    let set = format!("SET GLOBAL init_connect = 'SET timestamp = {}'", now() as i64 + ahead);
    scene.primary.sql(&set);
}

#[test]
fn a_clock_that_jumped_prunes_nothing_and_says_so() {
    need_server!();
    let scene = Scene::seeded("jumped");
    for days in [40, 35, 5] {
        older(&scene, days * DAY, "0000");
    }
    let seed = scene.backups().pop().unwrap();
    // As if the seed was now, and by our clock it was now when it was 60 days earlier for the primary.
    let within = |command: &str| ended(scene.command(command).arg("--keep-within=30d"));
    set_primary_clock(&scene, -60 * DAY as i64);
    let pass = within("run").expect(3);
    let pass =
        pass.says("warning: configuration: the clock shows ").says(": 2 of 5 backups would expire");
    pass.says("the primary's clock");
    assert_eq!(scene.backups().len(), 5);
    let checkpoint = scene.checkpoint();
    assert_eq!(checkpoint.get("cause"), Some("configuration"), "{checkpoint:?}");
    assert!(checkpoint.get("message").is_some_and(|m| m.contains("nothing is pruned")));
    // By hand it is the same, and a dry run says so.
    for dry in [&[][..], &["--dry-run"]] {
        let prune = scene.command("prune").arg("--keep-within=30d").args(dry);
        let prune = ended(prune).expect(2).says("error: configuration: the clock shows ");
        assert_eq!(prune.stdout.matches("if the clock is right").count(), 2 * dry.len(), "{prune}");
    }
    assert_eq!(scene.backups().len(), 5);
    // A count asks no clock.
    let dry = ended(scene.command("prune").args(["--keep-count=9", "--keep-daily=9", "--dry-run"]));
    dry.expect(0).says("nothing to remove");
    // The clocks agree again: what is too old goes.
    set_primary_clock(&scene, 0);
    let pass = within("run").expect(0);
    assert!(!pass.stderr.contains("clock"), "{pass}");
    let backups = scene.backups();
    assert!(backups.len() == 4 && backups.contains(&seed), "{backups:?}");
}

#[test]
fn the_time_since_the_last_pass_explains_what_goes() {
    need_server!();
    let scene = Scene::seeded("explained");
    let shown = |days: u64, name: &str| {
        edit_manifest(&scene.repo, name, |lines| {
            for line in lines.iter_mut() {
                let key = line.split(' ').next().unwrap().to_string();
                if ["data_as_of", "started", "finished", "primary_as_of"].contains(&key.as_str()) {
                    *line = format!("{key} {}", rfc3339(now() - days * DAY));
                }
            }
        });
    };
    let [old, young] = [80, 70].map(|days| older(&scene, days * DAY, "0000"));
    let seed = scene.backups().pop().unwrap();
    shown(60, &seed);
    assert!(manifest(&scene.repo, &seed).contains("\nprimary_as_of "));
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: u64 = uptime.split('.').next().unwrap().parse().unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let pass = |boot: &str, uptime: u64| {
        let time = rfc3339(now() - 60 * DAY);
        let line = format!("pass time={time} command=run pid=1 boot={boot} uptime={uptime}\n");
        fs::write(scene.repo.join("proofs/passes"), line).unwrap();
    };
    let prune = |dry: &[&str]| ended(scene.command("prune").arg("--keep-within=30d").args(dry));
    // The last pass was a minute ago by a clock that nobody sets, and 60 days by the other.
    pass(boot.trim(), uptime.saturating_sub(60));
    let said = prune(&[]).expect(2).says("by the time since the last pass it is ");
    said.says(": 2 of 3 backups would expire");
    // After a restart nobody knows.
    pass("another", uptime.saturating_sub(60));
    prune(&[]).expect(2).says("by the last pass, before a restart it is ");
    assert_eq!(scene.backups(), [old.clone(), young.clone(), seed.clone()]);
    // A pass of the future tells nothing, and without any record there is no doubt.
    fs::write(scene.repo.join("proofs/passes"), "").unwrap();
    prune(&["--dry-run"]).expect(0).says("would remove 2 backups");
    // A pass knows by the primary.
    pass("another", 1);
    ended(scene.command("run").arg("--keep-within=30d")).expect(0).says("removed 2 backups");
    let left = scene.backups();
    assert!(left.len() == 2 && left[0] == seed, "{left:?}");
}
