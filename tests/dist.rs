//! What `dist` ships for service managers and clusters: clean under systemd's own tools, and in
//! step with the options, exit statuses and patience of the program.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Rollforward, TempDir, find_program, run_helper, try_helper};

const SOON: Duration = Duration::from_secs(30);
const SERVICE: &str = "dist/systemd/rollforward@.service";
const FAILED: &str = "dist/systemd/rollforward-failed@.service";
const PROVE: &str = "dist/systemd/rollforward-prove@.service";
const CRONJOB: &str = "dist/kubernetes/cronjob.yaml";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The lines of a file that are no comments.
fn lines(file: &str) -> Vec<String> {
    let text = read(file);
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(String::from).collect()
}

/// What follows `key` in the one line that begins with it.
#[track_caller]
fn value(file: &str, key: &str) -> String {
    let lines = lines(file);
    let found: Vec<&str> = lines.iter().filter_map(|l| l.strip_prefix(key)).collect();
    assert_eq!(found.len(), 1, "{key} in {file}: {found:?}");
    found[0].trim().to_string()
}

fn help(command: &str) -> String {
    Rollforward::new([command, "--help"]).run_to_end(SOON).expect(0).stdout
}

/// The default that the help of `run` has in brackets behind an option, in seconds.
#[track_caller]
fn default_of(option: &str) -> u64 {
    let help = help("run");
    let line = help.lines().find(|l| l.trim_start().starts_with(option)).expect(option);
    let (_, text) = line.rsplit_once('[').expect(line);
    seconds(text.trim_end_matches(']'))
}

/// `7min`, `5m`, `30s` or `420`.
#[track_caller]
fn seconds(text: &str) -> u64 {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text[..text.len() - unit.len()].parse().expect(text);
    match unit {
        "" | "s" => number,
        "m" | "min" => number * 60,
        _ => panic!("unknown unit in {text}"),
    }
}

/// The `--options` in a text.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
    words.filter(|w| w.starts_with("--") && !w.ends_with('-')).map(String::from).collect()
}

/// The keys of the group `[rollforward]` in a text, as options.
fn keys(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim).skip_while(|l| *l != "[rollforward]").skip(1);
    let group = lines.take_while(|l| !l.starts_with(['[', '.']) && *l != "---");
    let entries = group.filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once('='));
    entries.map(|(key, _)| format!("--{}", key.trim())).collect()
}

#[track_caller]
fn assert_known(file: &str, command: &str, used: &BTreeSet<String>) {
    let known = options(&help(command));
    assert!(!used.is_empty(), "no options in {file}");
    let unknown: Vec<_> = used.difference(&known).collect();
    assert!(unknown.is_empty(), "{file}: '{command}' does not know {unknown:?}");
}

/// Says loudly that a test is skipped; panics where `CI` is set.
fn missing(program: &str) -> bool {
    if find_program(program).is_some() || Path::new("/bin").join(program).exists() {
        return false;
    }
    assert!(std::env::var_os("CI").is_none(), "{program} is not installed: 'make deps'");
    let line = format!("\n*** SKIPPED, {program} is not installed ('make deps'): dist ***\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    true
}

#[test]
fn installed_units_pass_systemd_analyze_and_run_sandboxed() {
    if missing("systemd-analyze") || missing("make") {
        return;
    }
    // The units name the program where it is installed, and verify looks for it there.
    let dir = TempDir::new("units");
    let mut make = Command::new("make");
    make.arg("-C").arg(root()).args(["install", "DESTDIR="]);
    make.arg(format!("PREFIX={}", dir.path().display()));
    make.arg(format!("BIN={}", env!("CARGO_BIN_EXE_rollforward")));
    run_helper(make.env_remove("MAKEFLAGS"), "");
    let units = dir.path().join("lib/systemd/system");
    let at = |name: &str| units.join(name);
    let mut verify = Command::new("systemd-analyze");
    // Ends 0 only if there is nothing to say about these; the page is not installed for `man`.
    verify.args(["verify", "--recursive-errors=no", "--man=no"]).args([
        at("rollforward@.service"),
        at("rollforward@.timer"),
        at("rollforward-failed@.service"),
        at("rollforward-follow@.service"),
        at("rollforward-mirror@.service"),
        at("rollforward-prove@.service"),
        at("rollforward-prove@.timer"),
    ]);
    run_helper(&mut verify, "");
    for name in ["@", "-failed@", "-follow@", "-mirror@", "-prove@"] {
        let name = format!("rollforward{name}");
        let name = &format!("{name}.service");
        // The exposure must be under 3.0, of 10.
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--no-pager", "--offline=true", "--threshold=29"]).arg(at(name));
        let said = run_helper(&mut security, "");
        assert!(said.contains("Overall exposure level"), "{said}");
    }
}

#[test]
fn options_named_in_dist_and_examples_exist() {
    for (file, command) in [(SERVICE, "run"), (FAILED, "status"), (PROVE, "prove")] {
        let start = value(file, "ExecStart=");
        assert!(start.contains(&format!("/rollforward {command} ")), "{start}");
        assert_known(file, command, &options(&start));
    }
    assert_known(CRONJOB, "run", &options(&lines(CRONJOB).join("\n")));
    let image = "dist/container/Containerfile";
    assert_known(image, "run", &options(&value(image, "CMD ")));
    for file in [CRONJOB, "man/rollforward.8"] {
        assert_known(file, "run", &keys(&read(file)));
    }
}

#[test]
fn the_template_option_file_is_right_also_uncommented() {
    let dir = TempDir::new("template");
    let path = dir.path().join("db1.cnf");
    let text = read("dist/rollforward.cnf");
    // Only a line that is a key with a value behind its `# `.
    let uncommented = |line: &str| {
        let key = line.strip_prefix("# ").and_then(|l| l.split_once(" = ").map(|(key, _)| key));
        let is_key = key.is_some_and(|k| k.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        if is_key { line[2..].to_string() } else { line.to_string() }
    };
    let all = text.lines().map(|l| uncommented(l) + "\n").collect::<String>();
    assert!(all.matches("\n#").count() < text.matches("\n#").count() - 10, "{all}");
    for text in [text, all] {
        fs::write(&path, text).unwrap();
        // Every key and value is checked before the repository is looked for.
        let list = Rollforward::new(["list", "--defaults-file"]).arg(&path).run_to_end(SOON);
        list.expect(2).says("no repository at /backup/db1");
    }
}

#[test]
fn the_image_is_built_from_existing_files() {
    let image = lines("dist/container/Containerfile");
    let sent = lines("dist/container/Containerfile.dockerignore");
    let from = image.iter().filter_map(|l| l.strip_prefix("COPY ")).filter(|l| !l.starts_with('-'));
    let mut names: Vec<&str> =
        from.flat_map(|l| l.rsplit_once(' ').unwrap().0.split(' ')).collect();
    assert!(names.len() > 3, "{names:?}");
    for name in &names {
        assert!(root().join(name).exists(), "{name} is not there");
        assert!(sent.contains(&format!("!{name}")), "{name} is not sent to the engine");
    }
    names.push("*");
    assert_eq!(sent.len(), names.len(), "{sent:?} and {names:?}");
    // What the first stage calls is what `make` knows, and what it takes is where that puts it.
    assert!(read("Makefile").contains("\nSTATIC = target/static/release/rollforward\nstatic:\n"));
    let made = "./collect /image target/static/release/rollforward /usr/sbin/mariadbd";
    assert!(image.iter().any(|l| l == "RUN make static") && image.contains(&format!("RUN {made}")));
}

#[test]
fn unit_and_cronjob_give_up_on_the_same_statuses() {
    let numbers = |text: &str| -> BTreeSet<u8> {
        let words = text.split(|c: char| !c.is_ascii_digit()).filter(|w| !w.is_empty());
        words.map(|w| w.parse().unwrap()).collect()
    };
    let unit = numbers(&value(SERVICE, "RestartPreventExitStatus="));
    let cronjob = lines(CRONJOB).join("\n");
    let (_, rest) = cronjob.split_once("action: FailJob\n").expect("a rule that fails the job");
    let (_, rest) = rest.split_once("values:").expect("its statuses");
    assert_eq!(numbers(rest.lines().next().unwrap()), unit);
    assert_eq!(unit, BTreeSet::from([1, 2]));
}

#[test]
fn the_cron_job_is_what_clusters_old_and_new_understand() {
    // The tool is fetched from PyPI at the first time.
    if missing("python3") {
        return;
    }
    let check = |file: &Path| {
        let mut script = Command::new(root().join("scripts/kubernetes"));
        let (good, out, err) = try_helper(script.arg(file), "", Duration::from_secs(300));
        (good, out + &err)
    };
    let (good, said) = check(&root().join(CRONJOB));
    assert!(good && said.contains("passed for resource cronjob/"), "{said}");
    // It would tell.
    let dir = TempDir::new("cronjob");
    for (right, wrong, why) in [
        ("concurrencyPolicy: Forbid", "concurencyPolicy: Forbid", "was unexpected"),
        ("backoffLimit: 3", "backoffLimit: three", "is not of type"),
        ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: 1", "is not of type"),
    ] {
        let text = read(CRONJOB);
        assert!(text.contains(right), "no {right}");
        let path = dir.path().join("wrong.yaml");
        fs::write(&path, text.replace(right, wrong)).unwrap();
        let (good, said) = check(&path);
        assert!(!good && said.contains(why), "{said}");
    }
}

#[test]
fn the_cron_job_keeps_what_a_pass_relies_on() {
    let lines = lines(CRONJOB);
    for line in [
        // No two at a time; what is stored outlives the pod; nothing is unbounded.
        "concurrencyPolicy: Forbid",
        "restartPolicy: Never",
        "claimName: rollforward-db1",
        "memory: 4Gi",
        "readOnlyRootFilesystem: true",
        "runAsNonRoot: true",
        "allowPrivilegeEscalation: false",
        "drop: [ALL]",
    ] {
        assert!(lines.iter().any(|l| l == line), "no {line}");
    }
}

#[test]
fn service_managers_have_more_patience_than_the_program() {
    // A stop: the server's shutdown, one query, and the 30 seconds that a killed one may take.
    let stop = default_of("--shutdown-timeout") + default_of("--ping-timeout") + 30;
    for service in [SERVICE, PROVE] {
        assert!(seconds(&value(service, "TimeoutStopSec=")) > stop);
        assert!(seconds(&value(service, "WatchdogSec=")) > 2 * default_of("--ping-timeout"));
    }
    assert!(seconds(&value(CRONJOB, "terminationGracePeriodSeconds:")) > stop);
}
