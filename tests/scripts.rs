//! What scripts rely on: the shape of what `--json` writes, silence with `-q`, and the examples in
//! `dist/examples`, which are run as they are.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::support::repository::{Json, copy, flip_bit, pack_path};
use crate::support::{
    Outcome, Rollforward, Scene, TempDir, find_program, is_root, kill, wait_until,
};

const SOON: Duration = Duration::from_secs(30);
const BACKUP: &str = "20261122T153000Z-8f3a";
const PACK: &str = "483fd440bf4ce05b5266aa50d213c5be7c74db1fa800c6ba8720cec074de8ff8";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A copy of the frozen repository.
fn sample() -> (TempDir, PathBuf) {
    let dir = TempDir::new("scripts");
    let repo = dir.path().join("repo");
    copy(&root().join("tests/samples/repository-1"), &repo);
    // Git knows no empty directories.
    fs::create_dir(repo.join("tmp")).unwrap();
    (dir, repo)
}

fn on(repo: &Path, command: &str) -> Rollforward {
    Rollforward::new([command, "--repo"]).arg(repo)
}

#[track_caller]
fn json(command: Rollforward, status: i32) -> Json {
    Json::parse(&command.arg("--json").run_to_end(SOON).expect(status).stdout)
}

fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.map(|(k, v)| (k.to_string(), v)).into())
}

fn text(text: &str) -> Json {
    Json::Text(text.into())
}

fn number(n: u64) -> Json {
    Json::Number(n.to_string())
}

pub(crate) fn keys(json: &Json) -> BTreeSet<String> {
    let Json::Object(members) = json else { panic!("no object: {json:?}") };
    members.keys().cloned().collect()
}

/// The members that the page names under a heading of its section JSON.
#[track_caller]
pub(crate) fn page(heading: &str) -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("man/rollforward-format.5")).unwrap();
    let (_, section) = page.split_once("\n.Sh JSON\n").expect("the section");
    let (section, _) = section.split_once("\n.Sh ").unwrap();
    let (_, part) = section.split_once(&format!("\n.Ss {heading}\n")).expect(heading);
    let part = part.split("\n.Ss ").next().unwrap();
    part.lines().filter_map(|l| l.strip_prefix(".It Va ")).map(Into::into).collect()
}

#[test]
fn a_damaged_manifest_is_listed_with_null_members() {
    let (_dir, repo) = sample();
    let [good] = json(on(&repo, "list"), 0).list().to_vec().try_into().unwrap();
    assert_eq!(keys(&good), page("list"));
    let [span] = json(on(&repo, "list").arg("--windows"), 0).list().to_vec().try_into().unwrap();
    assert_eq!(keys(&span), page("list --windows"));
    let path = repo.join("backups").join(BACKUP);
    let manifest = fs::read_to_string(&path).unwrap();
    fs::write(&path, &manifest[..200]).unwrap();
    let [bad] = json(on(&repo, "list"), 0).list().to_vec().try_into().unwrap();
    assert_eq!(keys(&bad), keys(&good));
    for key in keys(&bad) {
        let expected = match key.as_str() {
            "name" => text(BACKUP),
            "state" => text("damaged"),
            "pinned" => Json::Bool(false),
            "kept_by" => Json::List(vec![text("unreadable")]),
            _ => Json::Null,
        };
        assert_eq!(bad.get(&key), &expected, "{key}");
    }
    // Without a base there is null, and with a pack too few all is told but for the state.
    let first: String =
        manifest.lines().filter(|l| !l.starts_with("base ")).map(|l| format!("{l}\n")).collect();
    fs::write(&path, crate::support::repository::seal(first.rsplit_once("end ").unwrap().0))
        .unwrap();
    fs::remove_file(pack_path(&repo, PACK)).unwrap();
    let [first] = json(on(&repo, "list"), 0).list().to_vec().try_into().unwrap();
    for key in keys(&good) {
        let expected = match key.as_str() {
            "base" => &Json::Null,
            "state" => &text("damaged"),
            "kept_by" => &Json::List(vec![text("all"), text("damaged")]),
            _ => good.get(&key),
        };
        assert_eq!(first.get(&key), expected, "{key}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(json(on(&repo, "list"), 0), Json::List(vec![]));
}

#[test]
fn verify_output_of_good_and_damaged_backups_is_frozen() {
    let (_dir, repo) = sample();
    let backup = |ok, what: &str| {
        object([("name", text(BACKUP)), ("ok", Json::Bool(ok)), ("what", text(what))])
    };
    let good = json(on(&repo, "verify"), 0);
    let expected = object([
        ("ok", Json::Bool(true)),
        ("packs", number(2)),
        ("bytes", number(1071)),
        ("backups", Json::List(vec![backup(true, "")])),
        ("damaged", Json::List(vec![])),
    ]);
    assert_eq!(good, expected);
    assert_eq!(keys(&good), page("verify"));
    // In the frame of a file of its own.
    flip_bit(&pack_path(&repo, PACK), 620);
    let bad = json(on(&repo, "verify"), 1);
    let [damage] = bad.get("damaged").list() else { panic!("{bad:?}") };
    let what = damage.get("what").str();
    assert!(!what.is_empty() && bad.get("backups").list()[0].get("what").str().contains(PACK));
    let expected = object([
        ("pack", text(PACK)),
        ("what", text(what)),
        ("backups", Json::List(vec![text(BACKUP)])),
        ("files", Json::List(vec![text("shop/db.opt")])),
    ]);
    assert_eq!(damage, &expected);
    let said = bad.get("backups").list()[0].get("what").str();
    assert_eq!(bad.get("backups"), &Json::List(vec![backup(false, said)]));
    assert_eq!(bad.get("ok"), &Json::Bool(false));
    assert_eq!(keys(&bad), keys(&good));
}

#[test]
fn what_status_writes_of_a_checkpoint_is_frozen() {
    let (dir, repo) = sample();
    let scratch = dir.path().join("scratch");
    let status = |repo: Option<&Path>| {
        let status = Rollforward::new(["status", "--scratch"]).arg(&scratch);
        match repo {
            Some(repo) => status.arg("--repo").arg(repo),
            None => status,
        }
    };
    let always = page("status");
    let absent = json(status(None), 3);
    assert_eq!(keys(&absent), always);
    for key in ["alive", "answers", "newest", "newest_age_seconds"] {
        assert_eq!(absent.get(key), &Json::Null, "{key}");
    }
    fs::create_dir(&scratch).unwrap();
    let checkpoint = "format=1\nstate=stopped\nphase=catch-up\ncause=interrupted\n\
         message='stopped by \"signal\" 15'\nposition=0-1-42\ngoal=0-1-99\n\
         primary=127.0.0.1:3306\nbase_backup=20261122T153000Z-8f3a\nfailures=2\n\
         exit_status=143\npid=4711\nmysqld_pid=4712\nsocket=/x/mysqld.sock\nbytes_done=12\n\
         bytes_total=34\nstarted=2026-11-22T15:29:00Z\nupdated=2026-11-22T15:30:00Z\n\
         progressed=2026-11-22T15:29:59Z\n";
    fs::write(scratch.join("checkpoint"), checkpoint).unwrap();
    let found = json(status(Some(&repo)), 1);
    let Json::Object(mut found) = found else { panic!("{found:?}") };
    // These two tell of now.
    let age = found.remove("newest_age_seconds").unwrap();
    assert!(matches!(age, Json::Number(_)), "{age:?}");
    let until = found.remove("recoverable_until").unwrap();
    assert!(until.str().starts_with("2026-11-22T15:"), "{until:?}");
    let said = found.remove("text").unwrap();
    assert!(
        said.str().starts_with("the last pass ended with status 143 at 2026-11-22T15:30:00Z: "),
        "{said:?}"
    );
    let expected = object([
        ("state", text("stopped")),
        ("phase", text("catch-up")),
        ("cause", text("interrupted")),
        ("message", text("stopped by \"signal\" 15")),
        ("position", text("0-1-42")),
        ("goal", text("0-1-99")),
        ("primary", text("127.0.0.1:3306")),
        ("base_backup", text(BACKUP)),
        ("failures", number(2)),
        ("exit_status", number(143)),
        ("pid", number(4711)),
        ("mysqld_pid", number(4712)),
        ("socket", text("/x/mysqld.sock")),
        ("bytes_done", number(12)),
        ("bytes_total", number(34)),
        ("started", text("2026-11-22T15:29:00Z")),
        ("updated", text("2026-11-22T15:30:00Z")),
        ("progressed", text("2026-11-22T15:29:59Z")),
        ("alive", Json::Bool(false)),
        ("answers", Json::Bool(false)),
        ("newest", text(BACKUP)),
        ("newest_proven", Json::Null),
        ("newest_proven_age_seconds", Json::Null),
        ("verdict", text("warning")),
    ]);
    assert_eq!(Json::Object(found), expected);
    fs::write(scratch.join("checkpoint"), "format=1\nnonsense\n").unwrap();
    assert_eq!(keys(&json(status(Some(&repo)), 3)), always);
}

#[test]
fn quiet_commands_say_nothing_when_all_is_well() {
    let (dir, repo) = sample();
    let to = dir.path().join("to");
    for command in [
        on(&repo, "verify"),
        on(&repo, "prune").arg("--keep-count=1"),
        on(&repo, "prune").args(["--keep-count=1", "--dry-run"]),
        on(&repo, "restore").arg("--to").arg(&to),
    ] {
        let ended = command.arg("-q").run_to_end(SOON).expect(0);
        assert_eq!((ended.stderr.as_str(), ended.stdout.as_str()), ("", ""), "{ended}");
    }
    for command in ["list", "status"] {
        let ended = on(&repo, command).arg("-q").run_to_end(SOON).expect(0);
        assert!(ended.stderr.is_empty() && !ended.stdout.is_empty(), "{ended}");
    }
}

/// Runs `nightly.sh` with `programs` found first in PATH; the real one comes after them.
fn nightly(options: &Path, programs: &Path, args: &str) -> Rollforward {
    let script = root().join("dist/examples/nightly.sh");
    let line = format!(
        "PATH={}:$(dirname \"$1\"):$PATH; export PATH; exec {} \"$2\" {args}",
        programs.display(),
        script.display()
    );
    Rollforward::new([options]).under(["sh", "-c", &line, "sh"])
}

fn program(dir: &Path, name: &str, body: &str) {
    fs::write(dir.join(name), format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_wrapper_acts_by_the_exit_status() {
    let dir = TempDir::new("wrapper");
    let calls = dir.path().join("calls");
    let body = format!(
        "echo \"$*\" >>'{}'; [ -z \"$SAYS\" ] || echo \"$SAYS\" >&2; exit $STATUS",
        calls.display()
    );
    program(dir.path(), "rollforward", &body);
    let mail = format!("echo \"$*\"; cat >'{}'", dir.path().join("sent").display());
    program(dir.path(), "mail", &mail);
    let options = dir.path().join("db1.cnf");
    let run = |status: i32, says: &str, args: &str| -> Outcome {
        let _ = fs::remove_file(&calls);
        let script = nightly(&options, dir.path(), args).env("PAUSE", "0").env("SAYS", says);
        script.env("STATUS", status.to_string()).run_to_end(SOON).expect(status)
    };
    let silent = run(0, "", "");
    assert_eq!((silent.stdout.as_str(), silent.stderr.as_str()), ("", ""));
    let called = format!("run -q --defaults-file {}\n", options.display());
    assert_eq!(fs::read_to_string(&calls).unwrap(), called);
    for (status, says, passes) in [
        (0, "there were warnings", 1),
        (1, "failed permanently", 1),
        (2, "wrong usage or configuration", 1),
        (3, "a backup is stored, but needs attention", 1),
        (75, "temporary failure", 3),
        (127, "could not be run: status 127", 1),
        (143, "stopped by signal 15", 1),
    ] {
        let ended = run(status, "its words", "");
        let first = ended.stdout.lines().next().unwrap_or_default();
        assert!(first.starts_with("rollforward db1: ") && first.contains(says), "{ended}");
        assert_eq!(ended.stdout.matches("its words\n").count(), passes, "{ended}");
        assert_eq!(fs::read_to_string(&calls).unwrap(), called.repeat(passes));
        let ended = run(status, "its words", "dba@example.org");
        let subject = format!("-s {first} dba@example.org\n");
        assert_eq!(ended.stdout, subject);
        let sent = fs::read_to_string(dir.path().join("sent")).unwrap();
        assert_eq!(sent, "its words\n".repeat(passes));
    }
}

#[test]
fn the_wrapper_runs_real_passes_and_passes_a_stop_on() {
    need_server!();
    let scene = Scene::seeded("nightly");
    let options = scene.path("nightly.cnf");
    let at = |name: &Path| name.display().to_string();
    let mut text = fs::read_to_string(&options).unwrap();
    text += &format!("[rollforward]\nrepo={}\nscratch={}\n", at(&scene.repo), at(&scene.scratch));
    text += if is_root() { "mysqld-user=root\n" } else { "" };
    if let [_, mysqld] = scene.mysqld().as_slice() {
        text += &format!("mysqld={}\n", mysqld.display());
    }
    fs::write(&options, &text).unwrap();
    let none = scene.path("");
    let ended = nightly(&options, &none, "").run_to_end(4 * SOON).expect(0);
    let said = ended.stdout.lines().skip(1).count();
    assert_eq!(said, 0, "{ended}");
    assert_eq!(scene.backups().len(), 2);

    let marker = scene.path("marker");
    text += &format!("before=sh -c 'echo >{}; exec sleep 600'\n", marker.display());
    fs::write(&options, &text).unwrap();
    let pass = nightly(&options, &none, "").spawn();
    wait_until("the pass", SOON, || marker.exists());
    kill(pass.pid(), libc::SIGTERM);
    let ended = pass.finish(SOON).expect(143);
    assert!(ended.stdout.starts_with("rollforward nightly: stopped by signal 15"), "{ended}");
    assert!(ended.stdout.contains("error: interrupted: "), "{ended}");
    scene.assert_nothing_left();
}

/// Answers one request with `status` and gives it back.
fn answer(listener: TcpListener, status: &'static str) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(SOON)).unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        // To the end of the object, which is the end of the request.
        while !request.ends_with(b"}") {
            let n = peer.read(&mut buffer).unwrap();
            assert!(n > 0, "half a request");
            request.extend_from_slice(&buffer[..n]);
        }
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        peer.write_all(head.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    })
}

#[test]
fn the_web_hook_is_told_how_the_pass_ended() {
    if find_program("curl").is_none() {
        assert!(std::env::var_os("CI").is_none(), "curl is not installed: 'make deps'");
        let _ = std::io::stderr().write_all(b"\n*** SKIPPED, curl is not installed ***\n");
        return;
    }
    let dir = TempDir::new("webhook");
    let at = |name: &str| dir.path().join(name).display().to_string();
    fs::write(dir.path().join("db.cnf"), "[client]\nhost=127.0.0.1\nport=1\nuser=u\n").unwrap();
    let repo = dir.path().join("re\"p\\o");
    let script = root().join("dist/examples/after-webhook.sh");
    let hook = format!("--after={} {}", script.display(), at("url"));
    let run = Rollforward::new(["run", "--first-backup=dump", "--max-failures=0", &hook])
        .args(["--mysqld=/bin/true", "--scratch", &at("scratch")])
        .args(["--defaults-file", &at("db.cnf"), "--repo"])
        .arg(&repo);
    for (status, says) in [("204 No Content", "ran --after "), ("500 Broken", "last line was: ")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        fs::write(dir.path().join("url"), format!("http://127.0.0.1:{port}/s3cret")).unwrap();
        let heard = answer(listener, status);
        let ended = run.run_to_end(SOON).expect(75).says(says);
        assert!(!ended.stderr.contains("s3cret"), "{ended}");
        let request = heard.join().unwrap();
        assert!(request.starts_with("POST /s3cret HTTP/1.1\r\n"), "{request}");
        let said = Json::parse(request.split_once("\r\n\r\n").unwrap().1);
        let Json::Text(message) = said.get("message").clone() else { panic!("{said:?}") };
        assert!(message.starts_with("primary 127.0.0.1:1 does not answer"), "{message}");
        let expected = object([
            ("exit_status", number(75)),
            ("command", text("run")),
            ("state", text("failed")),
            ("cause", text("primary-unreachable")),
            ("message", text(&message)),
            ("repo", text(&repo.display().to_string())),
            ("new_backup", Json::Null),
            ("position", Json::Null),
        ]);
        assert_eq!(said, expected);
    }
}
