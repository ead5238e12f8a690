//! Commands, options and values, right and wrong.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{Place, SOON, program, refused};

const COMMANDS: [&str; 6] = ["run", "seed", "restore", "list", "verify", "prune"];

#[test]
fn help_and_version_go_to_standard_output_with_status_0() {
    let version = concat!("rollforward ", env!("CARGO_PKG_VERSION"), "\n");
    for args in [["--version", ""], ["-V", ""], ["list", "--version"], ["--version", "list"]] {
        let args = args.into_iter().filter(|a| !a.is_empty());
        let outcome = program(args).run_to_end(SOON).expect(0);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), (version, ""));
    }
    let all = program(["--help"]).run_to_end(SOON).expect(0);
    assert_eq!(all.stderr, "");
    assert_eq!(program(["-h"]).run_to_end(SOON).expect(0).stdout, all.stdout);
    for command in COMMANDS {
        assert!(all.stdout.contains(&format!("\n  {command} ")), "{command} in {all}");
        let help = program([command, "--help"]).run_to_end(SOON).expect(0);
        assert!(help.stdout.contains(&format!("usage: rollforward {command}")), "{help}");
        assert_eq!(help.stderr, "", "{help}");
    }
}

#[test]
fn help_of_a_command_shows_its_options_only() {
    let help = |c: &str| program([c, "--help"]).run_to_end(SOON).expect(0).stdout;
    assert!(help("restore").contains("--to DIR") && !help("list").contains("--to DIR"));
    assert!(help("seed").contains("--from SOURCE") && !help("run").contains("--from SOURCE"));
    assert!(help("prune").contains("--dry-run") && !help("run").contains("--dry-run"));
}

#[test]
fn no_command_and_unknown_commands_are_named() {
    refused(&program(["--"]), &["no command", "--help"]);
    refused(&program::<&str>([]), &["no command", "--help"]);
    refused(&program(["--repo=x"]), &["no command", "--help"]);
    for word in ["frobnicate", "clone", "Run", ""] {
        refused(&program([word]), &[&format!("unknown command '{word}'"), "--help"]);
    }
}

#[test]
fn unknown_options_are_named() {
    for command in COMMANDS {
        refused(&program([command, "--bogus"]), &["unknown option --bogus"]);
        refused(&program([command, "--bogus=3"]), &["unknown option --bogus"]);
        refused(&program([command, "-x"]), &["unknown option -x"]);
    }
    refused(&program(["--bogus", "list"]), &["unknown option --bogus"]);
    refused(&program(["list", "--rex=x"]), &["unknown option --rex"]);
    for one in ["--\u{e9}", "--\u{e9}=x", "-\u{e9}", "--x"] {
        let named = one.split('=').next().unwrap();
        refused(&program(["list", "-r", "r", one]), &[&format!("unknown option {named}")]);
    }
}

#[test]
fn options_of_another_command_are_refused_by_name() {
    refused(&program(["list", "--to=x"]), &["--to", "not for list"]);
    refused(&program(["run", "--json"]), &["--json", "not for run"]);
    refused(&program(["run", "--from=dump"]), &["--from", "not for run"]);
    refused(&program(["verify", "--dry-run"]), &["--dry-run", "not for verify"]);
}

#[test]
fn a_missing_or_empty_value_names_its_option() {
    for option in [
        "repo",
        "scratch",
        "primary",
        "defaults-file",
        "password-file",
        "mysqld",
        "mysqld-user",
        "first-backup",
        "max-failures",
        "poll-interval",
        "keep-count",
        "jobs",
        "checkpoint",
        "log-file",
    ] {
        let wanted = format!("--{option} needs a value");
        refused(&program(["run", &format!("--{option}")]), &[&wanted]);
        if option != "defaults-file" {
            refused(&program(["run", &format!("--{option}=")]), &[&wanted]);
        }
    }
    refused(&program(["list", "-r"]), &["-r needs a value"]);
    refused(&program(["list", "-r", ""]), &["--repo needs a value"]);
    refused(&program(["run", "--defaults-file="]), &["--defaults-file needs a value"]);
}

#[test]
fn a_switch_takes_no_value() {
    for (command, switch) in [
        ("run", "keep-scratch"),
        ("run", "allow-upgrade"),
        ("run", "no-journal"),
        ("list", "json"),
        ("prune", "dry-run"),
        ("run", "verbose"),
        ("run", "quiet"),
        ("run", "help"),
    ] {
        let args = [command.to_string(), format!("--{switch}=1")];
        refused(&program(args), &[&format!("--{switch} takes no value")]);
    }
}

#[test]
fn malformed_durations_are_named_with_their_option() {
    let options = [
        "backoff-base",
        "backoff-cap",
        "poll-interval",
        "ping-timeout",
        "stall-timeout",
        "start-timeout",
        "shutdown-timeout",
        "min-interval",
        "keep-within",
    ];
    for option in options {
        for bad in ["5", "soon", "-1s", "1 s", "1y", "s", "1e3s"] {
            // Also by a command that does not use it.
            for command in ["run", "list"] {
                let args = [command.to_string(), format!("--{option}={bad}")];
                refused(&program(args), &[&format!("--{option}"), &format!("'{bad}'"), "ms, s"]);
            }
        }
    }
    for (command, option) in [("report", "since"), ("log", "since"), ("run", "slot-wait")] {
        for long in ["500000w", "36601d", "99999999999999999999s"] {
            let args = [command.to_string(), format!("--{option}={long}"), "--repo=r".into()];
            refused(&program(args), &[&format!("--{option} {long} is too long: 36600d at most")]);
        }
    }
    let status = program(["status", "--repo=r", "--max-age=500000w"]).run_to_end(SOON);
    status.expect(3).says("--max-age 500000w is too long: 36600d at most");
    for option in ["poll-interval", "ping-timeout", "start-timeout", "shutdown-timeout"] {
        for zero in ["0", "0s", "0ms"] {
            let args = ["run".to_string(), format!("--{option}={zero}")];
            refused(&program(args), &[&format!("--{option} must be longer than 0")]);
        }
    }
}

#[test]
fn malformed_numbers_are_named_with_their_option() {
    for option in ["max-failures", "keep-count", "jobs", "compression-level"] {
        for bad in ["x", "-1", "+1", "1.5", " 1", "0x1"] {
            let args = ["run".to_string(), format!("--{option}={bad}")];
            refused(&program(args), &[&format!("--{option}"), bad, "whole number"]);
        }
    }
    for (option, value, right) in [
        ("jobs", "0", "1 to 256"),
        ("jobs", "257", "1 to 256"),
        ("compression-level", "0", "1 to 19"),
        ("compression-level", "20", "1 to 19"),
        ("keep-count", "0", "the minimum is 1"),
        ("jobs", "99999999999999999999", "1 to 256"),
        ("max-failures", "4294967296", "0 to 4294967295"),
        ("keep-daily", "99999999999999999999", "is out of range: 1 to "),
    ] {
        let args = ["run".to_string(), format!("--{option}={value}")];
        refused(&program(args), &[&format!("--{option} {value}"), right]);
    }
}

#[test]
fn malformed_choices_are_named_with_what_is_right() {
    let place = Place::new("choices");
    for bad in ["maybe", "Clone", "Dump"] {
        let args = ["run".to_string(), format!("--first-backup={bad}")];
        refused(&program(args), &["--first-backup", &format!("'{bad}'"), "refuse, dump or clone"]);
        let seed = place.run().arg(format!("--from={bad}"));
        refused(&seed, &["--from"]);
        let args = ["seed", "--repo=r", "--scratch=s", "--from", bad];
        place.refuses(&program(args), &["--from", &format!("'{bad}'"), "dump"]);
    }
}

#[test]
fn malformed_primaries_are_named() {
    for bad in [":3306", "db:", "db:x", "db:0", "db:70000", "[::1", "[::1]3", "a b", "db/x"] {
        refused(
            &program(["run", "--primary", bad]),
            &["--primary", &format!("'{bad}'"), "HOST:PORT"],
        );
    }
    refused(&program(["run", "--primary", "db1,,db2"]), &["--primary ''", "HOST:PORT"]);
    refused(&program(["run", "--primary", "db1,db2:x"]), &["--primary 'db2:x'"]);
}

#[test]
fn a_required_option_that_is_missing_is_named() {
    let place = Place::new("required");
    let repo = place.arg("repo", "repo");
    let scratch = place.arg("scratch", "scratch");
    for command in COMMANDS {
        place.refuses(&program([command]), &[&format!("{command} needs --repo")]);
    }
    place.refuses(&program(["run", &repo]), &["run needs --scratch"]);
    place.refuses(&program(["seed", "--from=dump", &repo]), &["seed needs --scratch"]);
    place.refuses(&program(["seed", &repo, &scratch]), &["seed needs --from dump"]);
    place.refuses(&program(["restore", &repo]), &["restore needs --to"]);
    place.refuses(&program(["run", &repo, &scratch]), &["no primary", "--primary"]);
    let run = ["run", &repo, &scratch, "--primary=127.0.0.1:1"];
    place.refuses(&program(run), &["no account", "--defaults-file"]);
}

#[test]
fn a_usage_error_makes_no_log_file() {
    let place = Place::new("nolog");
    let log = place.arg("log-file", "log");
    place.refuses(&program(["list", &log]), &["list needs --repo"]);
    place.refuses(&place.run().arg(&log).arg("--jobs=x"), &["--jobs"]);
    let seed = ["seed", "--repo=r", "--scratch=s", "--from=tape", &log];
    place.refuses(&program(seed), &["--from", "'tape'"]);
}

#[test]
fn unexpected_arguments_are_named() {
    refused(&program(["run", "now"]), &["unexpected argument 'now' for run"]);
    refused(&program(["list", "all"]), &["unexpected argument 'all' for list"]);
    refused(&program(["verify", "a", "b"]), &["unexpected argument 'b' for verify"]);
    refused(&program(["list", "--", "--json"]), &["unexpected argument '--json' for list"]);
    // An unset variable of a script must not mean the newest backup.
    refused(&program(["restore", "", "--to=x", "--repo=y"]), &["restore", "empty backup name"]);
}

#[test]
fn an_argument_that_is_not_utf8_is_refused() {
    let bad = OsString::from_vec(b"--repo=/x\xff".to_vec());
    refused(&program(["list"]).arg(bad), &["--repo=/x", "UTF-8"]);
    refused(&program(["list"]).arg(OsString::from_vec(b"\xc3".to_vec())), &["UTF-8"]);
}

#[test]
fn control_characters_of_an_argument_do_not_reach_the_terminal() {
    let outcome = refused(&program(["a\x1b[2J\nb"]), &["unknown command 'a?[2J?b'"]);
    assert!(!outcome.stderr.contains('\x1b'));
}

#[test]
fn the_last_one_counts_of_an_option_given_twice() {
    let place = Place::new("last");
    place.make_repo("repo");
    let (good, bad) = (place.arg("repo", "repo"), place.arg("repo", "none"));
    program(["list", &bad, &good]).run_to_end(SOON).expect(0);
    place.refuses(&program(["list", &good, &bad]), &["none"]);
    program(["list", &good, "--jobs=x", "--jobs=1"]).run_to_end(SOON).expect(0);
    place.refuses(&program(["list", &good, "--jobs=1", "--jobs=x"]), &["--jobs", "'x'"]);
}

#[test]
fn options_may_stand_before_the_command() {
    let place = Place::new("before");
    let repo = place.make_repo("repo");
    let after = program(["list", "--json", "--repo"]).arg(&repo).run_to_end(SOON).expect(0);
    let before = program(["--repo"]).arg(&repo).args(["list", "--json"]).run_to_end(SOON);
    let short = program(["-r"]).arg(&repo).args(["-q", "list", "--json"]).run_to_end(SOON);
    assert_eq!((after.stdout.as_str(), before.stdout.as_str()), ("[]\n", "[]\n"));
    assert_eq!(short.stdout, "[]\n");
    // A value may be called like a command.
    place.refuses(&program(["--repo", "run", "list"]), &["no repository at run"]);
}

#[test]
fn mysqld_options_add_up_and_reserved_ones_are_refused() {
    for bad in [
        "--datadir=/x",
        "--innodb-data-home-dir=/x",
        "--socket=/x",
        "--user=me",
        "--skip-log-bin",
        "--log_bin=x",
        "--gtid-strict-mode=1",
        "--server-id=3",
        "--skip-networking=0",
        "--port=3306",
        "--bind-address=*",
        "--skip-grant-tables",
        "--event-scheduler=ON",
        "--replicate-do-db=a",
        "--slave-skip-errors=all",
        "--init-file=/x",
        "--general-log",
        "--loose-server-id=3",
        "--LOG-BIN",
        "--datad=/x",
        "-u",
        "max-connections=5",
    ] {
        for command in ["run", "seed"] {
            let option = format!("--mysqld-option={bad}");
            let alone = program([command, &option]);
            refused(&alone, &["--mysqld-option", &format!("'{bad}'")]);
            // The last one does not hide the first.
            let hidden = alone.arg("--mysqld-option=--max-connections=5");
            refused(&hidden, &[&format!("'{bad}'")]);
        }
    }
}

#[test]
fn help_is_a_command_and_names_may_be_cut_short() {
    let run = &["run", "--help"];
    for (words, same) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "run"], run),
        (&["help", "help"], &["--help"]),
        (&["--he"], &["--help"]),
        (&["--ver"], &["--version"]),
    ] {
        let text = program(words).run_to_end(SOON).expect(0).stdout;
        assert_eq!(text, program(same).run_to_end(SOON).expect(0).stdout);
    }
    refused(&program(["help", "now"]), &["unknown command 'now'"]);
    let place = Place::new("short");
    let repo = place.make_repo("repo");
    let list = program(["list", "--rep", repo.to_str().unwrap(), "--js"]).run_to_end(SOON);
    assert_eq!(list.expect(0).stdout, "[]\n");
    let before = program([&format!("--rep={}", repo.display()), "list", "--json"]).run_to_end(SOON);
    assert_eq!(before.expect(0).stdout, "[]\n");
    // There is --replica as well, but not for this command.
    let apart = program(["--rep", repo.to_str().unwrap(), "list", "--json"]).run_to_end(SOON);
    assert_eq!(apart.expect(0).stdout, "[]\n");
    refused(&program(["restore", "--rep=/x"]), &["--rep is ambiguous", "--replica"]);
    refused(&program(["run", "--keep=1"]), &["--keep is ambiguous", "--keep-count"]);
    let weeks = program(["prune", &place.arg("repo", "repo"), "--keep-within=4w"]).run_to_end(SOON);
    weeks.expect(0);
}
