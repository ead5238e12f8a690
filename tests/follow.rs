//! `follow`: what is committed between two passes outlives the primary.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::repository::Json;
use crate::support::{
    Outcome, PATIENCE, Primary, Replica, Rollforward, Running, Scene, Server, Writer, assert_same,
    flavor, kill, snapshot, wait_for, wait_until,
};
use crate::until::{gtids, until};

const LONG: Duration = Duration::from_secs(60);
/// `--every` of most tests.
const EVERY: Duration = Duration::from_secs(1);

/// A follower of the scene's primary.
pub(crate) fn follower(scene: &Scene) -> Rollforward {
    let scratch = scene.path("following");
    let mut program = Rollforward::new(["follow", "--every=1s"]).arg("--repo").arg(&scene.repo);
    program = program.arg("--scratch").arg(&scratch).arg("--defaults-file").arg(&scene.nightly);
    program = program.args(scene.mysqld()).args(["--backoff-base=50ms", "--backoff-cap=500ms"]);
    if crate::support::is_root() {
        program = program.arg("--mysqld-user=root");
    }
    program.scratch(&scratch)
}

#[track_caller]
pub(crate) fn start(scene: &Scene) -> Running {
    let mut run = follower(scene).spawn();
    run.wait_for_log("following ", LONG);
    run
}

/// The texts of its parts.
pub(crate) fn parts(scene: &Scene) -> Vec<PathBuf> {
    let dir = fs::read_dir(scene.repo.join("journals/backups"));
    let mut parts: Vec<PathBuf> = dir.into_iter().flatten().flatten().map(|e| e.path()).collect();
    parts.sort();
    parts
}

/// The end of the last window.
pub(crate) fn end(scene: &Scene) -> String {
    let list = scene.command("list").args(["--windows", "--json"]).run_to_end(LONG).expect(0);
    let windows = Json::parse(&list.stdout);
    windows.list().last().map_or(String::new(), |window| window.get("to").str().to_string())
}

#[track_caller]
pub(crate) fn wait_for_end(scene: &Scene, position: &str) {
    wait_until("what was committed", LONG, || end(scene) == position);
}

/// The server of the follower.
pub(crate) fn server(scene: &Scene) -> i32 {
    let state = scene.path("following/state");
    wait_for("its server", PATIENCE, || {
        let text = fs::read_to_string(&state).ok()?;
        text.lines().find_map(|l| l.strip_prefix("mysqld_pid=")?.parse().ok())
    })
}

/// What a server answers to this in what is restored up to this GTID.
#[track_caller]
pub(crate) fn value(scene: &Scene, gtid: &str, query: &str) -> (String, Outcome) {
    let (ended, to) = until(scene, gtid);
    let ended = ended.expect(0);
    let restored = Server::start_on(&to);
    let value = restored.value(query);
    drop(restored);
    fs::remove_dir_all(&to).unwrap();
    (value, ended)
}

/// Asks for all that a writer has written.
pub(crate) fn written() -> String {
    let of = |table| format!("(SELECT CONCAT(COUNT(*), '-', SUM(n + id)) FROM busy.w{table})");
    format!("SELECT CONCAT_WS('/', {})", [0, 1, 2, 3].map(of).join(", "))
}

/// Panics unless all that the writer has written is there without the primary.
#[track_caller]
pub(crate) fn assert_all_is_kept(scene: &Scene) {
    let last = gtids(&scene.primary).pop().unwrap();
    wait_for_end(scene, &scene.primary.gtid_pos());
    let (kept, ended) = value(scene, &last, &written());
    assert_eq!(kept, scene.primary.value(&written()), "{ended}");
}

#[test]
fn nothing_is_lost_with_the_primary() {
    need_server!();
    let mut scene = Scene::seeded("lost");
    let run = start(&scene);
    crate::journal::load(&scene.primary, 0);
    let replica = Replica::start(&scene.primary);
    let writer = Writer::start(&scene.primary, "late");
    writer.wait_for_more(50);
    let written = writer.stop();
    let last = gtids(&scene.primary).pop().unwrap();
    let position = scene.primary.gtid_pos();
    replica.advance_to(&position);
    let expected = snapshot(&replica);
    std::thread::sleep(EVERY + Duration::from_secs(1));
    scene.primary.kill9();
    fs::remove_dir_all(scene.primary.datadir()).unwrap();
    assert_eq!(end(&scene), position);
    let (ended, to) = until(&scene, &last);
    let ended = ended.expect(0);
    let restored = Server::start_on(&to);
    assert_same("the restored copy", &snapshot(&restored), &format!("{written}"), &expected);
    drop(restored);
    assert!(ended.stderr.contains("applied "), "{ended}");
    // It is still there, and says what it misses.
    let checkpoint = run.checkpoint();
    assert_eq!(checkpoint.get("state"), Some("running"));
    wait_until("its cause", LONG, || run.checkpoint().get("cause") == Some("primary-unreachable"));
    run.kill(libc::SIGTERM);
    let ended = run.finish(LONG).expect(128 + libc::SIGTERM).says("stopped by signal");
    let warnings = ended.stderr.matches("primary-unreachable: ").count();
    assert!((1..6).contains(&warnings), "{ended}");
    let left = fs::read_dir(scene.path("following")).unwrap().flatten();
    assert!(left.into_iter().all(|e| e.file_name() != "data"), "{ended}");
}

#[test]
fn kills_of_follower_and_server_lose_nothing() {
    need_server!();
    let scene = Scene::seeded("kills");
    let writer = Writer::start(&scene.primary, "busy");
    for round in 0..4 {
        let mut run = start(&scene);
        writer.wait_for_more(10);
        kill(server(&scene), libc::SIGKILL);
        run.wait_for_log("mysqld-died: ", LONG);
        run.wait_for_log("receiving again", LONG);
        writer.wait_for_more(10);
        let signal = if round % 2 == 0 { libc::SIGKILL } else { libc::SIGTERM };
        run.kill(signal);
        let status = if signal == libc::SIGKILL { 256 + signal } else { 128 + signal };
        run.finish(LONG).expect(status);
    }
    let run = start(&scene);
    writer.wait_for_more(10);
    writer.stop();
    assert_all_is_kept(&scene);
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(128 + libc::SIGTERM);
}

#[test]
fn a_pass_meanwhile_makes_parts_redundant() {
    need_server!();
    let scene = Scene::seeded("meanwhile");
    let writer = Writer::start(&scene.primary, "busy");
    let mut run = start(&scene);
    writer.wait_for_more(10);
    wait_until("a part", LONG, || !parts(&scene).is_empty());
    let first = parts(&scene).remove(0);
    // A second one has no business here.
    let second = follower(&scene).run_to_end(LONG).expect(75);
    assert!(second.stderr.contains("locked: "), "{second}");
    // A part that goes on beyond the backup stays until the next one.
    for _ in 0..4 {
        scene.run().expect(0);
        writer.wait_for_more(10);
        std::thread::sleep(2 * EVERY);
        if run.stderr().contains("that a backup makes redundant") {
            break;
        }
    }
    run.wait_for_log("that a backup makes redundant", LONG);
    assert!(!first.exists());
    writer.wait_for_more(10);
    scene.command("prune").args(["--keep-count=1"]).run_to_end(LONG).expect(0);
    writer.stop();
    assert_all_is_kept(&scene);
    let windows = scene.command("list").arg("--windows").run_to_end(LONG).expect(0);
    assert!(!windows.stdout.contains("gap"), "{windows}");
    scene.command("verify").run_to_end(LONG).expect(0);
    // One without a journal is bridged by what was received.
    scene.primary.sql("CREATE TABLE busy.one SELECT 1 AS n");
    let one = gtids(&scene.primary).pop().unwrap();
    scene.primary.sql("CREATE TABLE busy.two SELECT 2 AS n");
    scene.command("run").arg("--no-journal").run_to_end(LONG).expect(0);
    scene.primary.sql("CREATE TABLE busy.three SELECT 3 AS n");
    let three = gtids(&scene.primary).pop().unwrap();
    wait_for_end(&scene, &scene.primary.gtid_pos());
    let tables = "SELECT GROUP_CONCAT(table_name ORDER BY 1) FROM information_schema.tables \
                  WHERE table_schema = 'busy' AND table_name NOT LIKE 'w%'";
    assert_eq!(value(&scene, &one, tables).0, "one");
    assert_eq!(value(&scene, &three, tables).0, "one,three,two");
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(128 + libc::SIGTERM);
}

#[test]
fn a_primary_that_fails_over_is_followed() {
    need_server!();
    let mut scene = Scene::seeded("failover");
    let replica = Replica::with_log(&scene.primary);
    let candidates = format!("127.0.0.1:{},{}", scene.primary.port(), replica.address());
    let mut run = follower(&scene).arg(format!("--primary={candidates}")).spawn();
    run.wait_for_log("following ", LONG);
    scene.primary.backlog("shop", 100);
    let position = scene.primary.gtid_pos();
    replica.advance_to(&position);
    wait_for_end(&scene, &position);
    scene.primary.kill9();
    run.wait_for_log(&format!("following {}", replica.address()), LONG);
    // As when its terminal is closed.
    run.kill(libc::SIGHUP);
    let ended = run.finish(LONG).expect(128 + libc::SIGHUP);
    assert!(ended.stderr.contains("primary-unreachable: "), "{ended}");
}

/// What many small parts become is a few.
#[test]
fn many_parts_become_few() {
    need_server!();
    let scene = Scene::seeded("many");
    let mut run = follower(&scene).arg("--every=100ms").spawn();
    run.wait_for_log("following ", LONG);
    let primary: &Primary = &scene.primary;
    primary.sql("CREATE TABLE shop.many (n INT PRIMARY KEY)");
    for n in 0..60 {
        primary.sql(&format!("INSERT INTO shop.many VALUES ({n})"));
        std::thread::sleep(Duration::from_millis(150));
    }
    wait_for_end(&scene, &primary.gtid_pos());
    let found = parts(&scene).len();
    assert!(found < 25, "{found}");
    // Named when they were stored, or a seed after a reset would not be later than they are.
    let last = parts(&scene).pop().unwrap();
    let now = rollforward::os::clock::Timestamp::now().compact();
    assert!(last.file_name().unwrap().to_str().unwrap()[..16] <= now[..], "{last:?}, {now}");
    let last = gtids(primary).pop().unwrap();
    let (count, ended) = value(&scene, &last, "SELECT COUNT(*) FROM shop.many");
    assert_eq!(count, "60", "{ended}");
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(128 + libc::SIGTERM);
}

/// Its positions come again, with other transactions.
#[test]
fn a_primary_that_was_reset_is_followed_from_its_seed() {
    need_server!();
    let scene = Scene::seeded("reset");
    let primary = &scene.primary;
    let insert = |n: u32| drop(primary.sql(&format!("INSERT INTO shop.history VALUES ({n})")));
    let all = "SELECT GROUP_CONCAT(n ORDER BY n) FROM shop.history";
    primary.sql("CREATE TABLE shop.history (n INT PRIMARY KEY)");
    let run = start(&scene);
    (1..9).for_each(insert);
    let before = primary.gtid_pos();
    wait_for_end(&scene, &before);
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(143);
    let old = parts(&scene);
    primary.sql(flavor::either("RESET MASTER", "RESET BINARY LOGS AND GTIDS"));
    primary.sql("DELETE FROM shop.history WHERE n > 3");
    // Names of parts have whole seconds.
    std::thread::sleep(EVERY + Duration::from_secs(1));
    scene.command("seed").arg("--from=dump").run_to_end(LONG).expect(0);
    // Beyond what was received before.
    (21..60).for_each(insert);
    let run = start(&scene);
    let last = gtids(primary).pop().unwrap();
    wait_for_end(&scene, &primary.gtid_pos());
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(143).says("which its primary did not have");
    let (kept, ended) = value(&scene, &last, all);
    assert_eq!(kept, primary.value(all), "{ended}");
    // Nothing else has what followed the older chain.
    scene.run().expect(0);
    assert_eq!(parts(&scene), old);
    let list = scene.command("list").args(["--windows", "--json"]).run_to_end(LONG).expect(0);
    let windows = Json::parse(&list.stdout);
    assert_eq!(windows.list()[0].get("to").str(), before, "{list}");
}
