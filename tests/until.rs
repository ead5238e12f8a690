//! `restore --until`: the data of any moment, and nothing else.

use std::collections::HashMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::journal::load;
use crate::support::repository::{self, Json, edit_manifest};
use crate::support::{
    Outcome, PATIENCE, Primary, Replica, Scene, Server, assert_same, flavor, kill, processes_under,
    snapshot, wait_for,
};

/// The patience with one restore to a moment.
const LONG: Duration = Duration::from_secs(60);

/// The GTIDs in the primary's binary logs, in order, as its own statement shows them.
pub(crate) fn gtids(primary: &Primary) -> Vec<String> {
    let mut found = Vec::new();
    for log in primary.sql("SHOW BINARY LOGS") {
        for event in primary.sql(&format!("SHOW BINLOG EVENTS IN '{}'", log[0])) {
            let (kind, info) = (&event[2], &event[5]);
            if kind.starts_with("Gtid") && !kind.contains("list") {
                let text = info.replace('\'', "");
                let gtid = text.split(' ').find(|w| w.contains('-') && w.len() > 4).unwrap();
                found.push(gtid.to_string());
            }
        }
    }
    found
}

/// `restore --until`, however it ends, and where to.
pub(crate) fn until(scene: &Scene, when: &str) -> (Outcome, PathBuf) {
    let to = (0..).map(|n| scene.path(&format!("until-{n}"))).find(|p| !p.exists()).unwrap();
    let mut command = scene.command("restore").args(["--until", when]).arg("--to").arg(&to);
    command = command.args(scene.mysqld()).args(["--jobs=2", "--backoff-base=50ms"]);
    if crate::support::is_root() {
        command = command.arg("--mysqld-user=root");
    }
    (command.run_to_end(LONG), to)
}

/// What is there is what a plain restore would leave.
#[track_caller]
fn assert_clean(to: &Path) {
    for entry in fs::read_dir(to).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        for prefix in ["relay.", "relay-log", "master", "rollforward", "auto.cnf"] {
            assert!(!name.starts_with(prefix), "{name} is left");
        }
    }
}

/// The times of all transactions, as `log` has them.
fn times(scene: &Scene) -> HashMap<String, String> {
    let ended = scene.command("log").arg("--json").run_to_end(LONG).expect(0);
    let objects = ended.stdout.lines().map(Json::parse);
    let text = |object: &Json, key| object.get(key).str().to_string();
    objects.map(|object| (text(&object, "gtid"), text(&object, "time"))).collect()
}

#[test]
fn every_transaction_boundary_equals_a_replica_stopped_there() {
    need_server!();
    let scene = Scene::seeded("boundaries");
    let before = gtids(&scene.primary).len();
    // More than one is a matter of hours: BOUNDARIES=19 makes over 500 transactions.
    let loads = std::env::var("BOUNDARIES").map_or(1, |n| n.parse().expect("a number"));
    scene.primary.sql("CREATE TABLE shop.ticks (n INT PRIMARY KEY)");
    for number in 0..loads {
        load(&scene.primary, number);
        // The times of MariaDB are whole seconds.
        for tick in 0..if loads > 1 { 50_u32.div_ceil(loads) } else { 0 } {
            std::thread::sleep(Duration::from_millis(1100));
            scene.primary.sql(&format!("INSERT INTO shop.ticks VALUES ({number} * 50 + {tick})"));
        }
    }
    scene.run().expect(0);
    scene.primary.sql("DROP TABLE shop.t0");
    scene.run().expect(0);
    let all = gtids(&scene.primary).split_off(before);
    assert!(all.len() > 20, "{all:?}");
    // The last one of its time, and of all before it, can be had by the time as well.
    let times = times(&scene);
    let is_last_of_its_time = |at: usize| {
        let time = &times[&all[at]];
        all[..at].iter().all(|gtid| times[gtid] <= *time)
            && all.get(at + 1).is_some_and(|next| times[next] > *time)
    };
    let mut replica = Replica::start(&scene.primary);
    let (mut compared, mut replayed, mut by_time) = (0, 0, 0);
    for (at, gtid) in all.iter().enumerate() {
        let (ended, to) = until(&scene, gtid);
        let ended = ended.expect(0);
        assert_clean(&to);
        let restored = Server::start_on(&to);
        let position = restored.value("SELECT @@global.gtid_slave_pos");
        // After some 170 stops, SHOW REPLICA STATUS of MySQL 9.7 was seen to answer no more. A new replica has
        // to come to the same position, then.
        let stopped = catch_unwind(AssertUnwindSafe(|| replica.advance(&position)));
        let stopped = stopped.unwrap_or_else(|_| {
            replica = Replica::start(&scene.primary);
            replica.advance(&position)
        });
        // A replica of MySQL may go on by one where the last transaction has a tag.
        if stopped == position {
            assert_same("the restored copy", &snapshot(&restored), gtid, &snapshot(&replica));
            compared += 1;
            if by_time < 50 && is_last_of_its_time(at) {
                let (ended, to) = until(&scene, &times[gtid]);
                ended.expect(0);
                let restored = Server::start_on(&to);
                assert_eq!(restored.value("SELECT @@global.gtid_slave_pos"), position);
                assert_same("as of its time", &snapshot(&restored), gtid, &snapshot(&replica));
                by_time += 1;
                drop(restored);
                fs::remove_dir_all(&to).unwrap();
            }
        }
        if let (Some(next), true) = (all.get(at + 1), ended.stderr.contains("applied ")) {
            let says = [format!("is in: {gtid} of "), format!("is not: {next} of ")];
            assert!(says.iter().all(|line| ended.stderr.contains(line)), "{ended}");
            replayed += 1;
        }
        drop(restored);
        fs::remove_dir_all(&to).unwrap();
    }
    println!("{} transactions, {compared} compared, {by_time} of them by time", all.len());
    assert!(by_time > 0);
    // But for the two that are backups.
    assert_eq!(replayed, all.len() - 2);
    let passed_over = flavor::either(0, 4 * loads as usize);
    assert!(compared >= all.len() - passed_over, "{compared} of {}", all.len());
    // Just before the accident.
    let (ended, to) = until(&scene, &format!("before:{}", all.last().unwrap()));
    ended.expect(0);
    assert!(Server::start_on(&to).sql("SHOW TABLES FROM shop LIKE 't0'").len() == 1);
}

/// A scene with a table that is dropped between two backups, and the GTIDs around that.
pub(crate) struct Accident {
    pub(crate) scene: Scene,
    /// The GTID of the DROP TABLE, and of the transactions before and after it.
    pub(crate) dropped: String,
    pub(crate) before: String,
    after: String,
}

impl Accident {
    pub(crate) fn new(name: &str) -> Accident {
        let scene = Scene::seeded(name);
        let primary = &scene.primary;
        primary.backlog("shop", 300);
        primary.sql("DROP TABLE shop.t0");
        primary.sql("INSERT INTO shop.backlog (text) VALUES ('after')");
        primary.sql("INSERT INTO shop.backlog (text) VALUES ('later')");
        scene.run().expect(0);
        let mut all = gtids(primary);
        let mut take = || all.pop().unwrap();
        let (_, after, dropped, before) = (take(), take(), take(), take());
        Accident { scene, dropped, before, after }
    }

    fn windows(&self) -> Json {
        let list = self.scene.command("list").args(["--windows", "--json"]);
        Json::parse(&list.run_to_end(LONG).expect(0).stdout)
    }

    /// Panics unless it holds what was there just before the accident.
    #[track_caller]
    fn assert_saved(&self, to: &Path) {
        assert_clean(to);
        let restored = Server::start_on(to);
        assert_eq!(restored.value("SELECT COUNT(*) FROM shop.t0"), "2000");
        assert_eq!(restored.value("SELECT COUNT(*) FROM shop.backlog"), "300");
    }
}

#[test]
fn a_dropped_table_is_there_just_before() {
    need_server!();
    let accident = Accident::new("dropped");
    let scene = &accident.scene;
    let (ended, to) = until(scene, &format!("before:{}", accident.dropped));
    let ended = ended.expect(0).says("applied ");
    let ends = [&accident.before, &accident.dropped];
    for (what, gtid) in ["that is in: ", "that is not: "].iter().zip(ends) {
        assert!(ended.stderr.contains(&format!("{what}{gtid} of ")), "{ended}");
    }
    accident.assert_saved(&to);
    let (ended, to) = until(scene, &accident.after);
    ended.expect(0);
    let restored = Server::start_on(&to);
    assert_eq!(restored.value("SELECT COUNT(*) FROM shop.backlog"), "301");
    assert!(restored.try_sql("SELECT 1 FROM shop.t0").is_err());
    // The files are those of a plain restore, and so are their modes.
    let plain = scene.restore(None);
    let modes = |dir: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        ["ibdata1", "shop", "shop/t1.ibd"].map(mode)
    };
    assert_eq!(modes(&to), modes(&plain));
}

#[test]
fn moments_out_of_reach_name_the_nearest_and_leave_nothing() {
    need_server!();
    let accident = Accident::new("reach");
    let scene = &accident.scene;
    let windows = accident.windows();
    let [window] = windows.list() else { panic!("{windows:?}") };
    let text = |key: &str| window.get(key).str().to_string();
    let backups = scene.backups();
    assert_eq!(
        [text("from_backup"), text("to_backup")],
        [&backups[0], &backups[1]].map(String::clone)
    );
    assert_eq!(text("to"), scene.newest_position());
    let unknown = flavor::either("0-1-99999999", "3e11fa47-71ca-11e1-9e33-c80aa9429562:7");
    let foreign = flavor::either("3e11fa47-71ca-11e1-9e33-c80aa9429562:7", "0-1-7");
    let first = scene.manifest_value(&backups[0], "position");
    let of_first =
        flavor::either("0-999-1".to_string(), first.split(':').next().unwrap().to_string() + ":1");
    for (when, status, says) in [
        ("1999-12-31T23:59:59Z", 1, "before the first backup"),
        ("2099-12-31T23:59:59Z", 1, "after all that is stored"),
        (unknown, 1, "no backup and no journal has"),
        (of_first.as_str(), 1, "before the first backup"),
        (foreign, 2, "is a GTID of"),
        ("yesterday", 2, "malformed moment"),
        ("2026-11-28", 2, "is a day"),
        ("2026-11-28T10:13:99Z", 2, "malformed moment"),
    ] {
        let (ended, to) = until(scene, when);
        let ended = ended.expect(status).says(says);
        assert!(!to.exists(), "{ended}");
        if status == 1 {
            let ended = ended.says("error: out-of-reach: ").says("the nearest that can be");
            assert_eq!(ended.log().len(), 1, "{ended}");
            let named = backups.iter().any(|backup| ended.stderr.contains(backup));
            assert!(named, "{ended}");
        }
    }
    let both = scene.command("restore").args([&backups[0], "--until", unknown, "--to", "/x"]);
    both.run_to_end(LONG).expect(2).says("and not both");
}

#[test]
fn times_cut_before_the_first_later_transaction() {
    need_server!();
    let scene = Scene::seeded("times");
    let primary = &scene.primary;
    let mut moments = Vec::new();
    for number in 0..3 {
        primary.sql(&format!("CREATE DATABASE d{number}"));
        // Whole seconds, of MariaDB: nothing else is committed in the next one.
        std::thread::sleep(Duration::from_millis(1100));
        let now = primary.value("SELECT CAST(UNIX_TIMESTAMP() AS CHAR)").parse().unwrap();
        std::thread::sleep(Duration::from_millis(1100));
        moments.push(now);
    }
    primary.sql("CREATE DATABASE late");
    scene.run().expect(0);
    for (number, seconds) in moments.into_iter().enumerate() {
        let when = crate::support::repository::rfc3339(seconds);
        let (ended, to) = until(&scene, &when);
        ended.expect(0);
        let found = Server::start_on(&to).sql("SHOW DATABASES LIKE 'd_'").len();
        assert_eq!(found, number + 1, "as of {when}");
    }
    // Until now nothing more happened, which the backup knows.
    let windows = scene.command("list").arg("--windows").run_to_end(LONG).expect(0).stdout;
    assert!(windows.contains(" to ") && !windows.contains("gap"), "{windows}");
    // Nor is anything that follows a time that is ahead; MySQL's are its own clock's.
    primary.sql("SET timestamp = UNIX_TIMESTAMP() + 3600; CREATE DATABASE d7; SET timestamp = 0");
    scene.run().expect(0);
    primary.sql("CREATE DATABASE d8; DO SLEEP(2.2)");
    let now = primary.value("SELECT CAST(UNIX_TIMESTAMP() - 1 AS CHAR)").parse().unwrap();
    scene.run().expect(0);
    let (_, to) = until(&scene, &crate::support::repository::rfc3339(now));
    let found = Server::start_on(&to).sql("SHOW DATABASES LIKE 'd_'").len();
    assert_eq!(found, flavor::either(3, 5));
}

#[test]
fn a_killed_or_stopped_replay_ends_well() {
    need_server!();
    let accident = Accident::new("dies");
    let (scene, to) = (&accident.scene, accident.scene.path("until"));
    let when = format!("before:{}", accident.dropped);
    let mut command = scene.command("restore").args(["--until", &when]).arg("--to").arg(&to);
    command = command.args(scene.mysqld()).args(["--backoff-base=50ms", "--max-failures=2"]);
    if crate::support::is_root() {
        command = command.arg("--mysqld-user=root");
    }
    let server = |to: &Path| {
        wait_for("the private server", PATIENCE, || {
            let data = to.join("rollforward.tmp/data");
            processes_under(&data).into_iter().find(|pid| {
                fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| {
                    let name = exe.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    !name.contains("rollforward")
                })
            })
        })
    };
    let mut run = command.spawn();
    let first = server(&to);
    kill(first, libc::SIGKILL);
    run.wait_for_log("mysqld-died: ", PATIENCE);
    let ended = run.finish(LONG).expect(0).says("restoring again in");
    assert_eq!(ended.stderr.matches("failure 1 of 3").count(), 1, "{ended}");
    accident.assert_saved(&to);
    fs::remove_dir_all(&to).unwrap();
    // A stop leaves nothing, whatever the server does.
    let run = command.spawn();
    server(&to);
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(128 + libc::SIGTERM).says("stopped by signal");
    assert!(!to.exists() && processes_under(&to).is_empty());
    let run = command.spawn();
    let pid = server(&to);
    kill(pid, libc::SIGSTOP);
    run.kill(libc::SIGINT);
    run.finish(LONG).expect(128 + libc::SIGINT);
    assert!(!to.exists() && processes_under(&to).is_empty());
}

#[test]
fn a_damaged_or_forged_journal_is_refused_by_name() {
    need_server!();
    let accident = Accident::new("forged");
    let scene = &accident.scene;
    let newest = scene.backups().pop().unwrap();
    let when = format!("before:{}", accident.dropped);
    let kept = fs::read(scene.repo.join("backups").join(&newest)).unwrap();
    // `journal SIZE FROM TO FIRST LAST`: positions that the logs do not lead from, or to.
    let no_backup = format!(", but {newest} is damaged; ");
    for (word, says) in [(2, " is in a gap: the next journal begins at "), (3, &no_backup)] {
        edit_manifest(&scene.repo, &newest, |lines| {
            let mut journals = lines.iter_mut().filter(|line| line.starts_with("journal "));
            let line = journals.next().unwrap();
            let mut words: Vec<String> = line.split(' ').map(String::from).collect();
            let server = words[word].split(':').next().unwrap().to_string();
            words[word] = flavor::either("0-999-1".into(), server + ":1-9");
            *line = words.join(" ");
        });
        let (ended, to) = until(scene, &when);
        let ended = ended.expect(1).says("error: out-of-reach: ").says(says);
        assert!(!to.exists(), "{ended}");
        fs::write(scene.repo.join("backups").join(&newest), &kept).unwrap();
    }
    // A pack of the journal that has rotted.
    repository::rot_journal(&scene.repo, &newest);
    let (ended, to) = until(scene, &when);
    let ended = ended.expect(1).says("error: backup-damaged: ").says("relay.0000");
    assert!(!to.exists(), "{ended}");
    // The data is as good as before.
    Server::start_on(&scene.restore(None)).sql("SELECT COUNT(*) FROM shop.backlog");
}

#[test]
fn the_files_belong_to_the_owner_of_the_directory() {
    need_server!();
    if !crate::support::is_root() {
        return;
    }
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    const NOBODY: u32 = 65534;
    let accident = Accident::new("owner");
    let scene = &accident.scene;
    let to = scene.path("owned");
    fs::create_dir(&to).unwrap();
    chown(&to, Some(NOBODY), Some(NOBODY)).unwrap();
    // Its server has to get there.
    for dir in to.ancestors().skip(1).take(2) {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
    }
    let when = format!("before:{}", accident.dropped);
    let command = scene.command("restore").args(["--until", &when]).arg("--to").arg(&to);
    let ended = command.args(scene.mysqld()).run_to_end(LONG).expect(0).says("applied ");
    let mut todo = vec![to.clone()];
    while let Some(path) = todo.pop() {
        let m = fs::symlink_metadata(&path).unwrap();
        assert_eq!((m.uid(), m.gid()), (NOBODY, NOBODY), "{}: {ended}", path.display());
        if m.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
    }
    assert_clean(&to);
    // A directory of root's, and nobody named: as for a pass.
    let to = scene.path("of-root");
    let command = scene.command("restore").args(["--until", &when]).arg("--to").arg(&to);
    command.args(scene.mysqld()).run_to_end(LONG).expect(2).says("--mysqld-user");
    assert!(!to.exists());
}
