//! What is around a follower: disks that fill up, its state for monitors, its memory, mirrors, prunes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::follow::{assert_all_is_kept, end, follower, parts, start, value, wait_for_end};
use crate::support::repository::Json;
use crate::support::small_disk::SmallDisk;
use crate::support::{
    PATIENCE, Scene, Server, Writer, flavor, processes_under, run_helper, template, try_helper,
    wait_until,
};
use crate::until::{gtids, until};

const LONG: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// Statements of a MiB each, which nothing makes smaller.
fn noise(scene: &Scene, mib: u32) {
    let blob = "SELECT GROUP_CONCAT(SHA2(RAND(), 512) SEPARATOR '') \
                FROM (SELECT 1 FROM shop.t0, shop.t1 LIMIT 8190) AS all_rows";
    scene.primary.sql("CREATE TABLE IF NOT EXISTS shop.noise (text LONGTEXT)");
    for _ in 0..mib {
        scene.primary.sql(&format!(
            "SET SESSION group_concat_max_len = 2097152; SET SESSION binlog_format = 'ROW'; \
             INSERT INTO shop.noise {blob}"
        ));
    }
}

/// Bytes on the disk, below a directory.
fn size_of(dir: &Path) -> u64 {
    let mut du = Command::new("du");
    // Files may go meanwhile, which it complains of.
    let (_, out, _) = try_helper(du.args(["--summarize", "--block-size=1"]).arg(dir), "", LONG);
    out.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_full_disk_ends_the_follower_and_not_the_primary() {
    need_server!();
    let mut scene = Scene::seeded("full");
    let disk = SmallDisk::new("repo", crate::support::small_disk::space(&scene.repo) + 4 * MIB);
    let at = disk.path("repo");
    template::copy(&scene.repo, &at);
    scene.repo = at;
    let run = follower(&scene).under(disk.wrapper()).spawn();
    noise(&scene, 24);
    let ended = run.finish(LONG).expect(1).says("error: disk-full: ");
    assert!(processes_under(&scene.path("following")).is_empty(), "{ended}");
    // Where there is room again, it goes on.
    scene.primary.sql("CREATE DATABASE after");
    let roomy = scene.path("roomy");
    template::copy(&scene.repo, &roomy);
    scene.repo = roomy;
    let run = start(&scene);
    wait_for_end(&scene, &scene.primary.gtid_pos());
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(143);
    let (ended, to) = until(&scene, &gtids(&scene.primary).pop().unwrap());
    ended.expect(0);
    assert_eq!(Server::start_on(&to).value("SELECT COUNT(*) FROM shop.noise"), "24");
}

#[test]
fn a_full_scratch_disk_ends_it_and_nothing_is_lost() {
    need_server!();
    let scene = Scene::seeded("narrow");
    let disk = SmallDisk::new("scratch", 600 * MIB);
    let there = || {
        let follower = follower(&scene).arg("--scratch").arg(disk.path("scratch"));
        follower.args(disk.server_options()).under(disk.wrapper())
    };
    let mut run = there().spawn();
    run.wait_for_log("following ", LONG);
    disk.leave(MIB / 2);
    noise(&scene, 6);
    let ended = run.finish(LONG).expect(1).says("error: disk-full: ");
    assert!(processes_under(&disk.path("scratch")).is_empty(), "{ended}");
    // The primary was not held up, and has what is missing.
    disk.make_room();
    scene.primary.sql("CREATE DATABASE after");
    let run = there().spawn();
    wait_for_end(&scene, &scene.primary.gtid_pos());
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(143);
    let (ended, to) = until(&scene, &gtids(&scene.primary).pop().unwrap());
    ended.expect(0);
    assert_eq!(Server::start_on(&to).value("SELECT COUNT(*) FROM shop.noise"), "6");
}

/// Several servers write in one domain of MariaDB, as in a ring: the last number is not the highest.
#[test]
fn numbers_out_of_order_lose_nothing_that_was_received() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let mut scene = Scene::seeded_with("ring", &["--gtid-strict-mode=OFF"]);
    let write = |scene: &Scene, session: &str, name: &str| {
        scene.primary.sql(&format!("SET SESSION {session}; CREATE DATABASE {name}"));
    };
    let names = "SELECT GROUP_CONCAT(schema_name ORDER BY 1) FROM information_schema.schemata \
                 WHERE schema_name LIKE 'ring%'";
    write(&scene, "gtid_seq_no = 5000", "ring1");
    scene.run().expect(0);
    // In the journal of the next pass, and ahead of nothing by its number.
    write(&scene, "server_id = 7, gtid_seq_no = 4900", "ring2");
    write(&scene, "server_id = DEFAULT, gtid_seq_no = 5001", "ring3");
    scene.run().expect(0);
    let run = start(&scene);
    for number in [4901, 4902] {
        let session = format!("server_id = 7, gtid_seq_no = {number}");
        write(&scene, &session, &format!("ring{number}"));
        wait_for_end(&scene, &scene.primary.gtid_pos());
    }
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(143);
    let received = parts(&scene);
    scene
        .command("prune")
        .arg("--keep-count=1")
        .run_to_end(LONG)
        .expect(0)
        .says("removed 1 backup");
    assert_eq!(parts(&scene), received);
    let mut run = start(&scene);
    run.wait_for_log("from 0-7-4902", LONG);
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(143);
    scene.primary.kill9();
    for (gtid, expected) in [
        ("0-7-4900", "ring1,ring2"),
        ("before:0-7-4901", "ring1,ring2,ring3"),
        ("0-7-4901", "ring1,ring2,ring3,ring4901"),
        ("0-7-4902", "ring1,ring2,ring3,ring4901,ring4902"),
    ] {
        let (found, ended) = value(&scene, gtid, names);
        assert_eq!(found, expected, "{gtid}: {ended}");
    }
    // It ends the list, and is no other transaction of its name.
    let log = |args: &[&str]| scene.command("log").args(args).run_to_end(LONG).expect(0);
    let listed = log(&["--until", "0-7-4900"]);
    assert!(listed.stdout.lines().last().unwrap().contains("  0-7-4900  "), "{listed}");
    // By its number it might have been there.
    let log = scene.command("log").args(["--until", "0-8-5000"]);
    log.run_to_end(LONG).expect(1).says("out-of-reach: no journal has 0-8-5000");
    until(&scene, "0-8-4900").0.expect(1).says("out-of-reach: ").says("is before the first backup");
}

#[test]
fn monitors_see_how_far_it_is_behind() {
    need_server!();
    let scene = Scene::seeded("lag");
    let metrics = scene.path("rf.prom");
    let mut run = follower(&scene).arg(format!("--metrics-file={}", metrics.display())).spawn();
    run.wait_for_log("following ", LONG);
    let status = |lag: &str| {
        let status = scene.command("status").args(["--json", &format!("--max-lag={lag}")]);
        status.arg("--scratch").arg(scene.path("following")).run_to_end(LONG)
    };
    let until = |ended: &crate::support::Outcome| {
        Json::parse(&ended.stdout).get("recoverable_until").str().to_string()
    };
    // Nothing happens on the primary, and yet it moves.
    wait_until("what was seen", LONG, || scene.repo.join("journals/seen").exists());
    let first = until(&status("1h").expect(0));
    wait_until("it moves", LONG, || until(&status("1h")) > first);
    let metric = "rollforward_recoverable_until_timestamp_seconds";
    let written = || fs::read_to_string(scene.path("rf-follow.prom")).unwrap_or_default();
    wait_until("the metrics", LONG, || written().contains(metric));
    assert!(!metrics.exists());
    // A moment in which nothing happened can be had, too.
    let (ended, to) = crate::until::until(&scene, &first);
    ended.expect(0);
    assert!(to.exists());
    crate::support::kill(scene.primary.pid(), libc::SIGKILL);
    wait_until("it is late", LONG, || status("2s").status == 2);
    let text = scene.command("status").arg("--max-lag=2s").run_to_end(LONG).expect(2);
    assert!(text.stdout.contains("can be restored, more than 2s"), "{text}");
    // It says so, and goes on.
    run.wait_for_log("primary-unreachable: ", LONG);
    assert!(!run.has_ended());
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(143);
}

#[test]
fn a_follower_takes_little_memory() {
    need_server!();
    let scene = Scene::seeded("little");
    let run = start(&scene);
    let writer = Writer::start(&scene.primary, "busy");
    noise(&scene, 24);
    writer.wait_for_more(100);
    writer.stop();
    wait_for_end(&scene, &scene.primary.gtid_pos());
    let status = fs::read_to_string(format!("/proc/{}/status", run.pid())).unwrap();
    let peak = |key: &str| -> u64 {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    println!("peak {} kB, anonymous {} kB", peak("VmHWM:"), peak("RssAnon:"));
    // The program without optimization has 8 MiB of code.
    assert!(peak("RssAnon:") <= 16 << 10, "{status}");
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(143);
}

/// What was stored is not kept a second time.
#[test]
fn a_follower_takes_little_room() {
    need_server!();
    let scene = Scene::seeded("roomy");
    let run = start(&scene);
    let scratch = scene.path("following");
    let begun = size_of(&scratch);
    let mut most = 0;
    for round in 0..12 {
        noise(&scene, 16);
        most = most.max(size_of(&scratch));
        println!("round {round}: {} MiB", (size_of(&scratch) - begun) / MIB);
        // However busy the machine is.
        wait_for_end(&scene, &scene.primary.gtid_pos());
    }
    // A log of 64 MiB, and what came since the last look.
    assert!(most - begun < 128 * MIB, "{} MiB", (most - begun) / MIB);
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(143);
}

#[test]
fn a_mirror_and_a_prune_leave_it_alone() {
    need_server!();
    let scene = Scene::seeded("beside");
    let writer = Writer::start(&scene.primary, "busy");
    let run = start(&scene);
    let config = scene.path("rclone.conf");
    let there = scene.path("there");
    fs::create_dir(&there).unwrap();
    fs::write(&config, format!("[mirror]\ntype = alias\nremote = {}\n", there.display())).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/mirror/rollforward-mirror");
    let mirror = |command: &str, first: &Path, second: &Path| {
        let mut sh = Command::new("sh");
        sh.arg(&script).args([command, "--quiet"]).arg(first);
        sh.args((second != Path::new("")).then_some(second)).env("RCLONE_CONFIG", &config);
        run_helper(sh.env("RCLONE_CACHE_DIR", scene.path("cache")), "");
    };
    let remote = Path::new("mirror:db1");
    for _ in 0..3 {
        writer.wait_for_more(100);
        scene.command("prune").arg("--keep-count=1").run_to_end(LONG).expect(0);
        mirror("push", &scene.repo, remote);
        scene.command("verify").run_to_end(LONG).expect(0);
    }
    writer.stop();
    assert_all_is_kept(&scene);
    mirror("push", &scene.repo, remote);
    mirror("check", remote, Path::new(""));
    assert!(!parts(&scene).is_empty());
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(143);
    let pulled = scene.path("pulled");
    mirror("pull", remote, &pulled);
    let was = end(&scene);
    let mut scene = scene;
    scene.repo = pulled;
    assert_eq!(end(&scene), was);
    scene.command("verify").run_to_end(PATIENCE).expect(0);
    // With nobody there, a prune removes what backups hold.
    scene.run().expect(0);
    scene.command("prune").arg("--keep-count=1").run_to_end(LONG).expect(0);
    assert!(parts(&scene).is_empty(), "{:?}", parts(&scene));
    let packs = run_helper(
        Command::new("find").arg(scene.repo.join("journals/packs")).args(["-type", "f"]),
        "",
    );
    assert_eq!(packs, "");
}

/// MariaDB goes on sending after a reset, and what is committed until it is where it was before would be
/// missing from what is kept.
#[test]
fn a_primary_that_is_reset_ends_the_follower() {
    need_server!();
    let scene = Scene::seeded("reset");
    scene.primary.backlog("shop", 20);
    let run = start(&scene);
    let position = scene.primary.gtid_pos();
    wait_for_end(&scene, &position);
    scene.primary.sql(flavor::either("RESET MASTER", "RESET BINARY LOGS AND GTIDS"));
    scene.primary.sql("INSERT INTO shop.t0 (id, n, text) VALUES (9001, 1, 'after')");
    let ended = run.finish(LONG).expect(1).says("error: diverged: ").says("rollforward seed");
    assert!(processes_under(&scene.path("following")).is_empty(), "{ended}");
    assert_eq!(end(&scene), position);
}

/// It goes on with names that the follower has, and its refusal of what it lacked is seen only then.
#[test]
fn a_primary_that_lost_what_it_sent_is_not_purged() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let mut scene = Scene::seeded("refused");
    let run = start(&scene);
    scene.primary.backlog("shop", 5);
    wait_for_end(&scene, &scene.primary.gtid_pos());
    let at = scene.primary.sql("SHOW MASTER STATUS").swap_remove(0);
    scene.primary.backlog("shop", 5);
    let lost = scene.primary.gtid_pos();
    wait_for_end(&scene, &lost);
    run.kill(libc::SIGSTOP);
    scene.primary.kill9();
    let log = fs::File::options().write(true).open(scene.primary.datadir().join(&at[0])).unwrap();
    log.set_len(at[1].parse().unwrap()).unwrap();
    scene.primary.restart();
    let refused = scene.path("following/mysqld.log");
    wait_until("its refusal", LONG, || {
        fs::read_to_string(&refused).is_ok_and(|log| log.contains("1236"))
    });
    scene.primary.backlog("shop", 20);
    run.kill(libc::SIGCONT);
    let says = format!("diverged: the base has {lost}, which the primary lacks");
    run.finish(LONG).expect(1).says(&says);
}
