//! `make install`, and the bash completion that comes with it: driven in bash, and compared
//! with what `--help` says.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Rollforward, TempDir, find_program, run_helper};

const SOON: Duration = Duration::from_secs(30);
const BACKUPS: [&str; 2] = ["20261121T020000Z-8f3a", "20261122T020000Z-00ff"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Says loudly that a test is skipped; panics where `CI` is set.
fn missing(program: &str) -> bool {
    if find_program(program).is_some() || Path::new("/bin").join(program).exists() {
        return false;
    }
    assert!(std::env::var_os("CI").is_none(), "{program} is not installed");
    eprintln!("*** SKIPPED, {program} is not installed ***");
    true
}

fn completion() -> PathBuf {
    root().join("completions/rollforward.bash")
}

/// What is offered for the last of `words`, which may be split at `=` as bash does it.
#[track_caller]
fn offered(script: &Path, words: &[&str]) -> BTreeSet<String> {
    let driver = r#"
        . "$1"; shift
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        COMP_LINE=$*
        COMP_POINT=${#COMP_LINE}
        _rollforward rollforward "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-uc", driver, "bash"]).arg(script).arg("rollforward");
    let out = run_helper(bash.args(words).current_dir(root()), "");
    out.lines().filter(|l| !l.is_empty()).map(String::from).collect()
}

fn set<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> BTreeSet<String> {
    words.into_iter().map(|w| w.as_ref().to_string()).collect()
}

fn help(args: &[&str]) -> String {
    Rollforward::new(args).run_to_end(SOON).expect(0).stdout
}

/// The long options of a help text.
fn options(help: &str) -> BTreeSet<String> {
    let lines = help.lines().filter(|l| l.trim_start().starts_with('-'));
    set(lines.map(|l| l.split_whitespace().find(|w| w.starts_with("--")).unwrap()))
}

fn commands() -> BTreeSet<String> {
    let help = help(&["--help"]);
    let (_, list) = help.split_once("\ncommands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    set(list.lines().map(|l| l.split_whitespace().next().unwrap()))
}

#[test]
fn make_install_puts_program_pages_and_completion_below_destdir() {
    if missing("make") {
        return;
    }
    let dir = TempDir::new("install");
    let make = |target: &str| {
        let mut make = Command::new("make");
        make.arg("-C").arg(root()).args([target, "PREFIX=/usr"]);
        make.arg(format!("DESTDIR={}", dir.path().display()));
        make.arg(format!("BIN={}", env!("CARGO_BIN_EXE_rollforward")));
        run_helper(make.env_remove("MAKEFLAGS"), "");
    };
    make("install");
    let completion = "usr/share/bash-completion/completions/rollforward";
    let expected = [
        ("usr/bin/rollforward", 0o755),
        ("usr/share/man/man8/rollforward.8", 0o644),
        ("usr/share/man/man5/rollforward-format.5", 0o644),
        ("usr/share/man/man7/rollforward-monitoring.7", 0o644),
        ("usr/share/man/man7/rollforward-recovery.7", 0o644),
        ("usr/bin/rollforward-mirror", 0o755),
        ("usr/share/man/man8/rollforward-mirror.8", 0o644),
        ("usr/lib/systemd/system/rollforward-mirror@.service", 0o644),
        (completion, 0o644),
        ("usr/lib/systemd/system/rollforward@.service", 0o644),
        ("usr/lib/systemd/system/rollforward@.timer", 0o644),
        ("usr/lib/systemd/system/rollforward-failed@.service", 0o644),
        ("usr/lib/systemd/system/rollforward-follow@.service", 0o644),
        ("usr/lib/systemd/system/rollforward-prove@.service", 0o644),
        ("usr/lib/systemd/system/rollforward-prove@.timer", 0o644),
        ("usr/lib/sysusers.d/rollforward.conf", 0o644),
        ("usr/share/rollforward/rollforward.rules.yml", 0o644),
        ("usr/share/rollforward/rollforward.rules.test.yml", 0o644),
        ("usr/share/rollforward/rollforward.patterns", 0o644),
        ("usr/share/rollforward/rollforward.loki.yml", 0o644),
        ("usr/share/rollforward/rollforward.dashboard.json", 0o644),
        ("usr/share/doc/rollforward/examples/rollforward.cnf", 0o644),
    ];
    for (name, mode) in expected {
        let meta = fs::metadata(dir.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{name}");
    }
    let found = || {
        let mut find = Command::new("find");
        run_helper(find.arg(dir.path()).args(["-type", "f"]), "")
    };
    assert_eq!(found().lines().count(), expected.len(), "{}", found());
    let mut version = Command::new(dir.path().join("usr/bin/rollforward"));
    assert!(run_helper(version.arg("--version"), "").starts_with("rollforward "));
    if !missing("bash") {
        assert_eq!(offered(&dir.path().join(completion), &[""]), commands());
    }
    make("uninstall");
    assert_eq!(found(), "");
}

#[test]
fn exactly_the_commands_and_options_of_help_are_completed() {
    if missing("bash") {
        return;
    }
    let script = completion();
    let commands = commands();
    assert_eq!(offered(&script, &[""]), commands);
    assert_eq!(offered(&script, &["--"]), options(&help(&["--help"])));
    for command in &commands {
        let own = options(&help(&[command, "--help"]));
        assert!(own.len() > 20, "{own:?}");
        assert_eq!(offered(&script, &[command, "--"]), own, "{command}");
        // Options may stand before the command, and their values are not taken for one.
        assert_eq!(offered(&script, &["--repo", "run", command, "--"]), own, "{command}");
        assert_eq!(offered(&script, &["--repo=run", "-s", "x", command, "--"]), own, "{command}");
        assert_eq!(offered(&script, &["--repo", "=", "run", command, "--"]), own, "{command}");
        assert_eq!(offered(&script, &["-v", "--quiet", command, "--"]), own, "{command}");
    }
    assert_eq!(offered(&script, &["re"]), set(["report", "restore"]));
    assert_eq!(offered(&script, &["run", "--keep-"]).len(), 8);
    assert_eq!(offered(&script, &["run", ""]), BTreeSet::new());
    assert_eq!(
        offered(&script, &["seed", "--from", ""]),
        set(["clone", "dir:", "dump", "stream:"])
    );
    assert_eq!(offered(&script, &["run", "--first-backup", "="]), set(["clone", "dump", "refuse"]));
    assert_eq!(offered(&script, &["run", "--first-backup", "=", "r"]), set(["refuse"]));
    assert_eq!(offered(&script, &["run", "--max-failures", ""]), BTreeSet::new());
}

#[test]
fn every_option_with_a_value_is_completed_as_such() {
    if missing("bash") {
        return;
    }
    // A word after it that looks like a command is its value, so commands are offered again.
    for line in help(&["--help"]).lines().filter(|l| l.trim_start().starts_with('-')) {
        let mut words = line.split_whitespace().skip_while(|w| !w.starts_with("--"));
        let option = words.next().unwrap();
        let has_value = words.next().unwrap().chars().all(|c| !c.is_ascii_lowercase());
        let offered = offered(&completion(), &[option, "list", "ver"]);
        assert_eq!(offered == set(["verify"]), has_value, "{option}: {offered:?}");
    }
}

#[test]
fn paths_and_names_of_backups_are_completed() {
    if missing("bash") {
        return;
    }
    let script = completion();
    let dir = TempDir::new("my repos");
    let at = |name: &str| dir.path().join(name).display().to_string();
    fs::create_dir_all(dir.path().join("repo/backups")).unwrap();
    for name in BACKUPS.iter().chain(&["notes", "20261122T020000Z.bad"]) {
        fs::write(dir.path().join("repo/backups").join(name), "").unwrap();
    }
    fs::write(dir.path().join("rest.cnf"), "").unwrap();
    let repo = at("repo");
    let glued = format!("--repo={repo}");
    let escaped = repo.replace(' ', "\\ ");
    let short = format!("-r{repo}");
    for words in [
        vec!["restore", "--repo", &repo, ""],
        vec!["restore", "--repo", "=", &repo, ""],
        vec!["restore", &glued, ""],
        vec!["restore", &short, ""],
        vec!["pin", &short, ""],
        vec!["unpin", "--repo", &repo, ""],
        vec!["-r", &escaped, "verify", ""],
        vec!["--json", "-r", &format!("'{repo}'"), "verify", "2026"],
    ] {
        assert_eq!(offered(&script, &words), set(BACKUPS), "{words:?}");
    }
    assert_eq!(offered(&script, &["verify", "-r", &repo, "20261121"]), set([BACKUPS[0]]));
    assert_eq!(offered(&script, &["list", "-r", &repo, ""]), BTreeSet::new());
    assert_eq!(offered(&script, &["restore", ""]), BTreeSet::new());
    let nowhere = at("nowhere");
    assert_eq!(offered(&script, &["restore", "-r", &nowhere, ""]), BTreeSet::new());
    // Directories for directories, files for files.
    let re = at("re");
    for option in ["--repo", "-r", "--scratch", "-s", "--to"] {
        assert_eq!(offered(&script, &["restore", option, &re]), set([&repo]), "{option}");
    }
    let files = set([repo.clone(), at("rest.cnf")]);
    for option in ["--defaults-file", "--password-file", "--mysqld", "--checkpoint", "--log-file"] {
        assert_eq!(offered(&script, &["run", option, &re]), files, "{option}");
        assert_eq!(offered(&script, &["run", option, "=", &re]), files, "{option}");
    }
    let one_word = offered(&script, &["run", &format!("--repo={re}")]);
    assert_eq!(one_word, set([format!("--repo={repo}")]));
}

#[test]
fn completion_runs_nothing_that_a_name_says() {
    if missing("bash") {
        return;
    }
    let dir = TempDir::new("hostile");
    let backups = dir.path().join("repo/backups");
    fs::create_dir_all(&backups).unwrap();
    let ran = dir.path().join("ran");
    // A slash cannot be in a name, so the command finds its file by a variable.
    let name = "20261122T010000Z-$(echo>$RAN)";
    fs::write(backups.join(name), "").unwrap();
    fs::write(backups.join("20261122T010000Z-8f3a"), "").unwrap();
    let driver = r#". "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE=$*
        _rollforward rollforward '' ''; printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-uc", driver, "bash"]).arg(completion());
    bash.args(["rollforward", "restore", "--repo"]).arg(dir.path().join("repo")).arg("");
    let out = run_helper(bash.env("RAN", &ran), "");
    assert_eq!(out, "20261122T010000Z-8f3a\n");
    assert!(!ran.exists());
}
