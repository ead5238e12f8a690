//! When hooks run, in which order, and what they are told.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{NOTE, Place, SOON, noted, shell};
use crate::support::repository::make_empty;
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{PASSWORD, Rollforward, Scene, wait_until};

/// All four, each of which notes itself.
fn with_all(command: Rollforward, place: &std::path::Path) -> Rollforward {
    let note = shell(place, "note", NOTE);
    let options = ["before", "after", "after-success", "after-failure"];
    command.args(options.map(|option| format!("--{option}={note}")))
}

/// What [`NOTE`] must have seen, by the checkpoint as it is now.
fn expected(
    scene: &Scene,
    hook: &str,
    command: &str,
    checkpoint: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let path = |p: &std::path::Path| p.display().to_string();
    let mut all: BTreeMap<String, String> = [
        ("HOOK", hook.to_string()),
        ("COMMAND", command.to_string()),
        ("REPO", path(&scene.repo)),
        ("SCRATCH", path(&scene.scratch)),
        ("CHECKPOINT", path(&scene.scratch.join("checkpoint"))),
    ]
    .map(|(k, v)| (k.to_string(), v))
    .into();
    let plain = |v: &str| v.trim_matches('\'').to_string();
    all.extend(
        checkpoint
            .iter()
            .filter(|(k, _)| *k != "format")
            .map(|(k, v)| (k.to_ascii_uppercase(), plain(v))),
    );
    all
}

#[test]
fn a_good_pass_gives_its_hooks_facts_and_no_secrets() {
    need_server!();
    let scene = Scene::seeded("facts");
    scene.primary.backlog("shop", 50);
    let dir = scene.path("hooks");
    fs::create_dir(&dir).unwrap();
    // What an after hook wants of the repository works while the pass holds its locks.
    let more = format!(
        "{NOTE}
tr '\\0' '\\n' </proc/self/environ >\"$at/$ROLLFORWARD_HOOK.all\"
readlink /proc/self/fd/0 >\"$at/stdin\"
pwd >\"$at/pwd\"
umask >\"$at/umask\"
[ \"$(cut -d ' ' -f 5 /proc/$$/stat)\" = $$ ] || exit 1
[ \"$ROLLFORWARD_HOOK\" = after-success ] || exit 0
cp \"$ROLLFORWARD_CHECKPOINT\" \"$at/checkpoint\" || exit 1
\"$RF\" list -q --repo \"$ROLLFORWARD_REPO\" >\"$at/list\" || exit 2
\"$RF\" status -q --repo \"$ROLLFORWARD_REPO\" --scratch \"$ROLLFORWARD_SCRATCH\" >\"$at/status\" ||
    exit 3
\"$RF\" restore -q --repo \"$ROLLFORWARD_REPO\" --to \"$at/restored\" \"$ROLLFORWARD_NEW_BACKUP\"
"
    );
    let more = more.replace("$RF", env!("CARGO_BIN_EXE_rollforward"));
    let hook = shell(&dir, "hook", &more);
    let options = ["before", "after", "after-success", "after-failure"];
    let command = scene.command("run").arg("-q").args(options.map(|o| format!("--{o}={hook}")));
    let command = command
        .env("MYSQL_PWD", PASSWORD)
        .env("NOTIFY_SOCKET", scene.path("nobody"))
        // Of an outer pass: not true of this one.
        .env("ROLLFORWARD_CAUSE", "stalled")
        .env("ROLLFORWARD_NEW_BACKUP", "none");
    let ended = command.run_to_end(COMMAND_PATIENCE).expect(0);
    // Quiet is quiet, whatever was run.
    assert_eq!(ended.log().len(), 0, "{ended}");
    assert_eq!(ended.stdout, "");
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(read("order"), "before\nafter-success\nafter\n");
    let checkpoint = scene.checkpoint();
    assert_eq!(checkpoint.get("state"), Some("done"));
    assert_eq!(checkpoint.get("new_backup"), scene.backups().last().map(String::as_str));
    for hook in ["after-success", "after"] {
        assert_eq!(noted(&dir, hook), expected(&scene, hook, "run", &checkpoint.0), "{hook}");
    }
    // It was written before they ran, and not again.
    assert_eq!(read("checkpoint"), fs::read_to_string(scene.scratch.join("checkpoint")).unwrap());
    let before = noted(&dir, "before");
    assert_eq!(before.get("STATE").map(String::as_str), Some("running"));
    assert_eq!(before.get("BASE_BACKUP"), checkpoint.0.get("base_backup"));
    for key in ["CAUSE", "NEW_BACKUP", "EXIT_STATUS", "PHASE"] {
        assert_eq!(before.get(key), None, "{key}");
    }
    for hook in ["before", "after", "after-success"] {
        let all = read(&format!("{hook}.all"));
        assert!(all.contains("PATH=") && !all.contains(PASSWORD), "{all}");
        assert!(!all.contains("NOTIFY_SOCKET"), "{all}");
    }
    assert_eq!(read("stdin"), "/dev/null\n");
    assert_eq!(read("pwd"), format!("{}\n", std::env::current_dir().unwrap().display()));
    assert_eq!(read("umask"), "0077\n");
    assert_eq!(read("list").lines().count(), 3, "{}", read("list"));
    assert!(read("status").starts_with("ok: the last pass succeeded"), "{}", read("status"));
    assert!(dir.join("restored/ibdata1").exists());
    scene.assert_nothing_left();
}

#[test]
fn a_seed_has_hooks_and_nothing_due_has_none() {
    need_server!();
    let scene = Scene::new("seed");
    scene.primary.fill("shop", 1, 100);
    let dir = scene.path("hooks");
    fs::create_dir(&dir).unwrap();
    let seed = with_all(scene.command("seed"), &dir).args(["--from", "dump"]);
    let ended = seed.run_to_end(COMMAND_PATIENCE).expect(0);
    ended.says("info: ran --before /bin/sh in ").says("info: ran --after-success /bin/sh in ");
    let order = || fs::read_to_string(dir.join("order")).unwrap();
    assert_eq!(order(), "before\nafter-success\nafter\n");
    let checkpoint = scene.checkpoint().0;
    assert_eq!(noted(&dir, "after"), expected(&scene, "after", "seed", &checkpoint));
    let run = with_all(scene.command("run"), &dir).arg("--min-interval=1h");
    run.run_to_end(COMMAND_PATIENCE).expect(0).says("nothing is due");
    assert_eq!(order(), "before\nafter-success\nafter\n");
}

#[test]
fn a_failed_pass_runs_after_failure_then_after() {
    let place = Place::new("failure");
    let ended = with_all(place.run(), place.dir.path()).run_to_end(SOON).expect(75);
    assert_eq!(place.read("order"), "before\nafter-failure\nafter\n");
    let last = ended.log().pop().unwrap().to_string();
    assert!(last.contains("error: primary-unreachable: ") && last.contains("status 75"), "{ended}");
    for hook in ["after-failure", "after"] {
        let seen = noted(place.dir.path(), hook);
        let value = |key: &str| seen.get(key).map_or("", String::as_str);
        assert_eq!((value("EXIT_STATUS"), value("STATE")), ("75", "failed"));
        assert_eq!((value("CAUSE"), value("FAILURES")), ("primary-unreachable", "1"));
        assert!(value("MESSAGE").starts_with("primary 127.0.0.1:1 does not answer"), "{seen:?}");
        assert_eq!(seen.get("NEW_BACKUP"), None);
    }
    let all = ended.stderr + &place.read("after.env");
    assert!(!all.contains("hushhush"), "{all}");
}

#[test]
fn early_refusals_skip_before_and_a_lock_skips_all_hooks() {
    let place = Place::new("never");
    make_empty(&place.at("repo"));
    // No backup: for good, and somebody wants to know.
    let run = with_all(place.run(), place.dir.path()).arg("--first-backup=refuse");
    run.run_to_end(SOON).expect(1).says("error: no-backup: ");
    assert_eq!(place.read("order"), "after-failure\nafter\n");
    fs::remove_file(place.at("order")).unwrap();

    let holds = shell(place.dir.path(), "holds", "echo >\"$at/held\"; exec sleep 60");
    let holder = place.run().arg(format!("--before={holds}")).spawn();
    place.wait_for("held");
    let locked = with_all(place.run(), place.dir.path()).run_to_end(SOON).expect(75);
    locked.says("error: locked: ");
    assert_eq!(place.read("order"), "");
    // Its checkpoint is there within a second.
    let status = Rollforward::new(["status", "--scratch"]).arg(place.at("scratch"));
    wait_until("a running pass", SOON, || {
        let said = status.run_to_end(SOON).stdout;
        said.starts_with("ok: a pass (pid ") && said.contains("is running, phase starting, ")
    });
    holder.kill(libc::SIGTERM);
    holder.finish(SOON).expect(143);
}

#[test]
fn hook_words_are_split_without_a_shell() {
    let place = Place::new("words");
    let at = place.dir.path();
    fs::write(at.join("args.sh"), format!("printf '<%s>' \"$@\" >'{}/args'", at.display()))
        .unwrap();
    let hook = |rest: &str| format!("sh {}/args.sh {rest}", at.display());
    let run = place.run().arg("--before").arg(hook(r#"a  'b  "c' "d \"e\" \f" g\ h '' $HOME ;*|"#));
    run.run_to_end(SOON).expect(75);
    assert_eq!(place.read("args"), r#"<a><b  "c><d "e" \f><g h><><$HOME><;*|>"#);
    // By its name it is looked for in PATH, and `sh` is not a file here.
    assert!(!std::path::Path::new("sh").exists());

    let mut text = place.read("db.cnf");
    text += &format!("[rollforward]\nbefore = {}\nhook_timeout = 20s\n", hook("'x # y' z # w"));
    fs::write(at.join("db.cnf"), text).unwrap();
    place.run().run_to_end(SOON).expect(75);
    assert_eq!(place.read("args"), "<x # y><z>");
    // The command line beats the file.
    place.run().arg("--before").arg(hook("over")).run_to_end(SOON).expect(75);
    assert_eq!(place.read("args"), "<over>");
}

#[test]
fn an_impossible_hook_is_refused_by_name_and_leaves_nothing() {
    let place = Place::new("refused");
    let at = |name: &str| place.at(name).display().to_string();
    fs::write(place.at("plain"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(place.at("plain"), fs::Permissions::from_mode(0o644)).unwrap();
    let (absent, plain) = (at("absent"), at("plain"));
    for option in ["before", "after", "after-success", "after-failure"] {
        for (value, says) in [
            ("", "needs a value"),
            (" ", "it names no program"),
            ("'' x", "it names no program"),
            ("/bin/true 'tok3n", "unclosed single quote"),
            ("/bin/true \"tok3n", "unclosed double quote"),
            ("/bin/true tok3n\\", "trailing backslash"),
            (&absent, "absent does not exist"),
            (&plain, "plain is not an executable file"),
            ("/bin", "/bin is not an executable file"),
            ("no-such-program-here x", "no-such-program-here is not in PATH"),
        ] {
            let ended = place.run().arg(format!("--{option}={value}")).run_to_end(SOON).expect(2);
            assert_eq!(ended.log().len(), 1, "{ended}");
            let named = ended.stderr.contains(&format!("--{option}"));
            let secret = ended.stderr.contains("tok3n");
            assert!(named && !secret && ended.stderr.contains(says), "{ended}");
        }
    }
    for value in ["0", "soon", "-1s"] {
        let ended = place.run().arg(format!("--hook-timeout={value}")).run_to_end(SOON).expect(2);
        ended.says("--hook-timeout");
    }
    assert!(!place.at("repo").exists() && !place.at("scratch").exists());
    // Where it means nothing a well-formed one is no error, as with any setting.
    let list = Rollforward::new(["list", "--before", &absent, "--repo"]).arg(place.at("repo"));
    assert!(!list.run_to_end(SOON).stderr.contains("--before"));
}
