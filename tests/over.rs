//! `restore --over`: only what differs is written, nothing that is in use or no data is touched, and
//! what was interrupted is gone on with. `--replica` and `--dry-run`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::repository::{copy, tree};
use crate::support::{
    Outcome, Rollforward, Scene, Server, TempDir, assert_same, flavor, is_root, snapshot, template,
    wait_for,
};

mod kills;
mod replays;
mod replica;

/// The patience with one restore.
const LONG: Duration = Duration::from_secs(60);

/// A scene with two backups, the older one restored and used by a server.
struct Older {
    scene: Scene,
    to: PathBuf,
}

impl Older {
    fn new(name: &str) -> Older {
        let scene = Scene::seeded(name);
        let to = scene.restore(None);
        scene.primary.backlog("shop", 200);
        scene.primary.sql("CREATE DATABASE new; CREATE TABLE new.t (a INT PRIMARY KEY)");
        scene.primary.sql("UPDATE shop.t0 SET n = n + 1 WHERE id < 50");
        scene.run().expect(0);
        // Changes of its own, which no backup has.
        let mut server =
            Server::start_on_with(&to, &["--skip-slave-start", "--event-scheduler=OFF"]);
        server.sql("CREATE DATABASE own; CREATE TABLE own.t (a INT) SELECT 1 AS a");
        server.sql("DELETE FROM shop.t1 WHERE id < 100");
        server.stop();
        Older { scene, to }
    }

    fn over(&self, to: &Path) -> Rollforward {
        self.scene.command("restore").args(["--over", "--jobs=1"]).arg("--to").arg(to)
    }
}

/// What is below a directory, by relative path: kind, mode and content; without the keys that MySQL makes,
/// which are no data.
fn content(dir: &Path) -> BTreeMap<PathBuf, String> {
    let relative = |path: PathBuf| path.strip_prefix(dir).unwrap().to_path_buf();
    let all = tree(dir).into_iter().filter(|(path, _)| path.extension().is_none_or(|e| e != "pem"));
    all.map(|(path, what)| (relative(path), what)).collect()
}

/// The same with all that a change would show in.
fn untouched(dir: &Path) -> BTreeMap<PathBuf, String> {
    let whole = |(path, what): (PathBuf, String)| {
        let m = fs::symlink_metadata(&path).unwrap();
        let what = format!("{what} {} {} {}", m.ino(), m.mtime_nsec(), m.ctime_nsec());
        (path, what)
    };
    let m = fs::metadata(dir).unwrap();
    let root = (dir.to_path_buf(), format!("{} {} {:o}", m.mtime(), m.mtime_nsec(), m.mode()));
    tree(dir).into_iter().map(whole).chain([root]).collect()
}

/// The number of bytes after `word` in what it said.
#[track_caller]
fn size_after(said: &str, word: &str) -> f64 {
    let (_, rest) = said.split_once(word).unwrap_or_else(|| panic!("no '{word}' in {said}"));
    let words: Vec<&str> = rest.split_whitespace().collect();
    let unit = match words[1].trim_end_matches([',', ';']) {
        "B" | "bytes" | "byte" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1048576.0,
        other => panic!("{other} in {rest}"),
    };
    words[0].parse::<f64>().unwrap() * unit
}

/// No server starts on what is not finished, and it stays what it is.
#[track_caller]
fn assert_refused_by_servers(to: &Path) {
    let text = || fs::read_to_string(to.join("ibdata1")).unwrap();
    assert!(text().starts_with("rollforward: unfinished restore\n"));
    let dir = TempDir::new("refused");
    let mut command = template::server(&template::program());
    command.arg(format!("--datadir={}", to.display()));
    command.arg(format!("--socket={}", dir.path().join("s").display()));
    command.arg(format!("--log-error={}", dir.path().join("log").display()));
    command.arg(format!("--pid-file={}", dir.path().join("pid").display()));
    command.args(["--skip-networking", "--server-id=7"]);
    command.args(template::format()).args(flavor::no_keys(false));
    let mut child = command.spawn().unwrap();
    let ended = wait_for("a server to give up", LONG, || {
        let ended = child.try_wait().unwrap();
        assert!(!dir.path().join("s").exists() || ended.is_some(), "a server listens");
        ended
    });
    assert!(!ended.success());
    assert!(text().starts_with("rollforward: unfinished restore\n"));
}

#[test]
fn only_what_differs_is_written_over_older_data() {
    need_server!();
    let older = Older::new("differs");
    let (scene, to) = (&older.scene, &older.to);
    let plain = scene.restore(None);
    let outside = scene.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious.ibd"), "precious").unwrap();
    symlink(&outside, to.join("linked")).unwrap();
    fs::remove_file(to.join("shop/t1.ibd")).unwrap();
    symlink(outside.join("precious.ibd"), to.join("shop/t1.ibd")).unwrap();
    fs::hard_link(to.join("shop/backlog.ibd"), outside.join("hard"))
        .or_else(|_| fs::hard_link(to.join("shop/t0.ibd"), outside.join("hard")))
        .unwrap();
    let hard = fs::read(outside.join("hard")).unwrap();
    fs::write(to.join("my.cnf"), "[mysqld]\n").unwrap();
    fs::write(to.join("binlog.000017"), "old").unwrap();
    fs::write(to.join("shop/orphan.ibd"), "old").unwrap();
    fs::create_dir(to.join(".snapshot")).unwrap();
    fs::set_permissions(to.join("shop"), fs::Permissions::from_mode(0o500)).unwrap();
    let before = untouched(to);
    let outside_before = content(&outside);
    // Nothing happens, and what would is what then does.
    let told = older.over(to).arg("--dry-run").run_to_end(LONG).expect(0);
    assert_eq!(untouched(to), before, "{told}");
    let newest = scene.backups().pop().unwrap();
    assert!(told.stdout.contains(&format!("would restore {newest} to ")), "{told}");
    assert!(told.stdout.contains("would remove ") && told.stdout.contains("my.cnf"), "{told}");
    let ended = older.over(to).run_to_end(LONG).expect(0);
    let ended = ended.says("was a symbolic link").says("removed ").says("my.cnf");
    let (foretold, written) =
        (size_after(&told.stdout, "would write "), size_after(&ended.stderr, " and wrote "));
    assert_eq!(foretold, written, "{told}{ended}");
    let all: u64 = plain_size(&plain);
    assert!(written < all as f64 * 0.9, "{written} of {all}: {ended}");
    let mut is = content(to);
    assert!(
        is.remove(Path::new("my.cnf")).is_some() && is.remove(Path::new(".snapshot")).is_some()
    );
    assert_eq!(is, content(&plain));
    // The hard link was replaced rather than written through.
    assert_eq!(content(&outside), outside_before);
    assert_eq!(fs::read(outside.join("hard")).unwrap(), hard);
    fs::remove_dir(to.join(".snapshot")).unwrap();
    let (a, b) = (Server::start_on(to), Server::start_on(&plain));
    assert_same("over older data", &snapshot(&a), "a plain restore", &snapshot(&b));
    drop((a, b));
    // Over complete data of the same backup next to nothing is written.
    let again = scene.path("again");
    let empty = scene.command("restore").arg("--to").arg(&again).run_to_end(LONG).expect(0);
    assert!(!empty.stderr.contains(" and wrote "), "{empty}");
    let ended = older.over(&again).run_to_end(LONG).expect(0);
    assert_eq!(size_after(&ended.stderr, " and wrote "), 0.0, "{ended}");
    // Neither is it believed.
    let file = File::options().write(true).open(again.join("ibdata1")).unwrap();
    file.write_all_at(b"damaged", 4096).unwrap();
    drop(file);
    let ended = older.over(&again).run_to_end(LONG).expect(0);
    assert!(size_after(&ended.stderr, " and wrote ") > 0.0, "{ended}");
    assert_eq!(content(&again), content(&scene.restore(None)));
}

fn plain_size(dir: &Path) -> u64 {
    tree(dir)
        .keys()
        .map(|p| fs::symlink_metadata(p).unwrap())
        .filter(|m| m.is_file())
        .map(|m| m.len())
        .sum()
}

#[test]
fn a_directory_that_a_server_has_open_is_refused() {
    need_server!();
    let older = Older::new("open");
    let mut server = Server::start_on(&older.to);
    for args in [&[][..], &["--dry-run"]] {
        let ended = older.over(&older.to).args(args).run_to_end(LONG).expect(2);
        ended.says("is in use by ").says(&format!(" (pid {})", server.pid()));
    }
    // Without --over it is refused as ever, and says what there is.
    let to = &older.to;
    let plain = older.scene.command("restore").arg("--to").arg(to).run_to_end(LONG).expect(2);
    plain.says("is not empty").says("--over");
    assert_eq!(server.value("SELECT a FROM own.t"), "1");
    server.stop();
    // Any other process that has its files open.
    let file = File::open(to.join("ibdata1")).unwrap();
    let mut holder = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
    older.over(to).run_to_end(LONG).expect(2).says("is in use by sleep (pid ");
    holder.kill().unwrap();
    holder.wait().unwrap();
    older.over(to).run_to_end(LONG).expect(0);
}

#[test]
fn what_is_no_data_directory_is_left_alone() {
    need_server!();
    let scene = Scene::seeded("foreign");
    let data = scene.restore(None);
    let make = |name: &str, change: &dyn Fn(&Path)| {
        let dir = scene.path(name);
        fs::create_dir(&dir).unwrap();
        change(&dir);
        dir
    };
    let of_data = |name: &str, change: &dyn Fn(&Path)| {
        let dir = scene.path(name);
        copy(&data, &dir);
        change(&dir);
        dir
    };
    let write = |path: PathBuf| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "mine").unwrap();
    };
    let cases = [
        (make("home", &|dir| write(dir.join("thesis.txt"))), "not the data directory of a server"),
        (
            make("lib", &|dir| {
                write(dir.join("mysql/mysql/ibdata1"));
                write(dir.join("dpkg/status"));
            }),
            "not the data directory of a server",
        ),
        (make("one", &|dir| write(dir.join("ibdata1"))), "not the data directory of a server"),
        (of_data("nested", &|dir| write(dir.join("photos/2026/a.jpg"))), "photos/2026 in it"),
        (
            of_data("dumps", &|dir| write(dir.join("dumps/shop.sql.gz"))),
            "dumps with shop.sql.gz in it",
        ),
        (make("tmp", &|dir| write(dir.join("rollforward.tmp/letters"))), "of something else"),
        (
            of_data("data", &|dir| fs::write(dir.with_file_name("state"), "format=1\n").unwrap()),
            "is the data of a scratch directory",
        ),
        (scene.repo.parent().unwrap().to_path_buf(), ""),
    ];
    for (dir, says) in cases {
        let before = untouched(&dir);
        let command = scene.command("restore").arg("--over").arg("--to").arg(&dir);
        let ended = command.run_to_end(LONG).expect(2).says(says);
        assert_eq!(untouched(&dir), before, "{ended}");
    }
    // By another name.
    let (scratch, link) = (scene.path("data"), scene.path("link"));
    symlink(&scratch, &link).unwrap();
    for name in ["link/", "data/mysql/.."] {
        let command = scene.command("restore").arg("--over").arg("--to").arg(scene.path(name));
        command.run_to_end(LONG).expect(2).says("is the data of a scratch directory");
    }
    fs::remove_file(&link).unwrap();
    symlink(&data, &link).unwrap();
    let command = scene.command("restore").arg("--over").arg("--to").arg(&link);
    command.run_to_end(LONG).expect(2).says("is a symbolic link to");
    let root = scene.command("restore").args(["--over", "--dry-run", "--to", "/"]);
    root.run_to_end(LONG).expect(2);
    for dry in [None, Some("--dry-run")] {
        let nowhere = scene.command("restore").args(dry).arg("--to").arg(scene.path("no/where"));
        nowhere.run_to_end(LONG).expect(2).says("cannot be created: no such file");
    }
}

#[test]
fn two_restores_into_one_directory_do_not_meet() {
    need_server!();
    let scene = Scene::seeded("two");
    let data = scene.restore(None);
    let mirror = scene.path("mirror");
    fs::create_dir_all(mirror.join("rollforward.tmp")).unwrap();
    let of_mirror = mirror.join("rollforward.tmp/mirror.lock");
    fs::write(&of_mirror, "").unwrap();
    let used =
        File::open(data.join("aria_log_control")).or_else(|_| File::open(data.join("mysql.ibd")));
    for (lock, to) in [(&data, &data), (&of_mirror, &mirror)] {
        let lock = File::open(lock).unwrap();
        lock.lock().unwrap();
        let before = untouched(to);
        for over in [None, Some("--over")] {
            let command = scene.command("restore").args(over).arg("--to").arg(to);
            command.run_to_end(LONG).expect(75).says("error: locked: ");
        }
        assert_eq!(untouched(to), before);
    }
    drop(used);
    scene.command("restore").arg("--to").arg(&mirror).run_to_end(LONG).expect(0);
    assert_eq!(content(&mirror), content(&data));
}

#[test]
fn a_moment_is_restored_over_older_data() {
    need_server!();
    let older = Older::new("moment");
    let (scene, to) = (&older.scene, &older.to);
    let last = crate::until::gtids(&scene.primary).pop().unwrap();
    let when = format!("before:{last}");
    let until = |to: &Path, args: &[&str]| {
        let command =
            scene.command("restore").args(["--until", &when]).args(args).arg("--to").arg(to);
        let command = command.args(scene.mysqld()).arg("--backoff-base=50ms");
        command.args(is_root().then_some("--mysqld-user=root")).run_to_end(LONG).expect(0)
    };
    let before = untouched(to);
    let told = until(to, &["--over", "--dry-run"]);
    assert!(told.stdout.contains("would apply 1 journal"), "{told}");
    assert_eq!(untouched(to), before, "{told}");
    fs::write(to.join("my.cnf"), "").unwrap();
    until(to, &["--over"]);
    let plain = scene.path("plain-until");
    until(&plain, &[]);
    assert!(to.join("my.cnf").exists() && !to.join("own").exists());
    let (a, b) = (Server::start_on(to), Server::start_on(&plain));
    assert_same("over older data", &snapshot(&a), "a plain restore", &snapshot(&b));
}

#[test]
fn a_killed_replay_over_older_data_is_gone_on_with() {
    need_server!();
    let older = Older::new("replay");
    let (scene, to) = (&older.scene, &older.to);
    let last = crate::until::gtids(&scene.primary).pop().unwrap();
    let command = older.over(to).args(["--until", &format!("before:{last}")]);
    let command = command.args(scene.mysqld()).args(is_root().then_some("--mysqld-user=root"));
    for plain in [false, true] {
        let run = command.spawn();
        wait_for("the older data to be worked on", LONG, || {
            (run.stderr().contains("rror") || to.join("rollforward.tmp/data/relay.index").exists())
                .then_some(())
        });
        run.kill(libc::SIGKILL);
        run.finish(LONG).expect(256 + libc::SIGKILL);
        assert_refused_by_servers(to);
        let again = if plain { older.over(to) } else { command.clone() };
        let ended = expect_going_on(again.run_to_end(LONG));
        assert!(!to.join("rollforward.tmp").exists(), "{ended}");
        if plain {
            assert_eq!(content(to), content(&scene.restore(None)), "{ended}");
        }
        Server::start_on(to).sql("CHECK TABLE shop.t0, shop.t1");
    }
}

/// Shows what it ended with.
#[track_caller]
fn expect_going_on(ended: Outcome) -> Outcome {
    ended.expect(0).says("holds a restore that has not ended: going on with it")
}

/// A restore that is killed at its very first file has left nothing but the beginning of a text.
#[test]
fn a_text_that_was_only_begun_is_gone_on_with() {
    need_server!();
    let scene = Scene::seeded("begun");
    for (number, text) in ["", "rollforward: unfin"].into_iter().enumerate() {
        for work in [false, true] {
            let to = scene.path(&format!("begun-{number}-{work}"));
            fs::create_dir(&to).unwrap();
            fs::write(to.join("rollforward.mark"), text).unwrap();
            if work {
                fs::create_dir_all(to.join("rollforward.tmp/data")).unwrap();
            }
            let restore = scene.command("restore").arg("--to").arg(&to);
            restore.run_to_end(LONG).expect(0).says("going on with it");
            assert!(!to.join("rollforward.mark").exists() && to.join("ibdata1").exists());
        }
    }
    // It is none of ours where something else is there.
    let to = scene.path("else");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("rollforward.mark"), "").unwrap();
    fs::write(to.join("letter.txt"), "dear").unwrap();
    let restore = scene.command("restore").arg("--to").arg(&to);
    restore.run_to_end(LONG).expect(2).says("is not empty");
    assert_eq!(fs::read_to_string(to.join("letter.txt")).unwrap(), "dear");
}
