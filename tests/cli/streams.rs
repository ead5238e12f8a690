//! Standard output and error that are closed, signals, and how much is logged where.

use std::fs;

use super::{Place, SOON, program};
use crate::support::{Rollforward, run_helper};

/// Runs the program by `script`, as its `"$@"`.
fn by_shell(command: Rollforward, script: &str) -> Rollforward {
    command.under(["sh", "-c", script, "sh"])
}

#[test]
fn a_reader_that_has_gone_does_no_harm() {
    let place = Place::new("pipe");
    let list = program(["list"]).arg(place.arg("repo", "repo"));
    place.make_repo("repo");
    // The reader ends first; then the program writes into the closed pipe.
    let script = "{ sleep 0.3; \"$@\"; echo $? >&2; } | :";
    for command in [list, program(["--help"])] {
        let outcome = by_shell(command, script).run_to_end(SOON).expect(0);
        assert_eq!(outcome.stderr, "0\n", "{outcome}");
    }
}

#[test]
fn closed_streams_do_no_harm() {
    let place = Place::new("closed");
    place.make_repo("repo");
    let list = program(["list"]).arg(place.arg("repo", "repo"));
    for script in ["\"$@\" >&-", "\"$@\" 2>&-", "\"$@\" <&- >&- 2>&-"] {
        by_shell(list.clone(), script).run_to_end(SOON).expect(0);
    }
    let wrong = program(["list", "--bogus"]);
    by_shell(wrong, "\"$@\" 2>&-").run_to_end(SOON).expect(2);
    // The first file that is opened must not become standard error.
    let outcome = by_shell(place.run(), "\"$@\" <&- >&- 2>&-").run_to_end(SOON).expect(1);
    assert_eq!(outcome.stderr, "");
    for file in ["repo/lock", "repo/format", "scratch/lock", "scratch/checkpoint"] {
        let text = fs::read_to_string(place.at(file)).unwrap();
        assert!(!text.contains("no-backup:") && !text.contains("error:"), "{file}: {text}");
    }
}

#[test]
fn an_unread_log_does_not_end_a_pass() {
    let place = Place::new("deaf");
    let script = "{ sleep 0.3; \"$@\" 2>&1; echo $? >status; } | :";
    let script = format!("cd {} && {script}", place.dir.path().display());
    by_shell(place.run(), &script).run_to_end(SOON).expect(0);
    assert_eq!(fs::read_to_string(place.at("status")).unwrap(), "1\n");
    let checkpoint = fs::read_to_string(place.at("scratch/checkpoint")).unwrap();
    assert!(checkpoint.contains("\ncause=no-backup\n"), "{checkpoint}");
}

#[test]
fn a_full_standard_output_is_an_error() {
    let outcome = by_shell(program(["--help"]), "\"$@\" >/dev/full").run_to_end(SOON).expect(1);
    outcome.says("standard output").says("no space left");
    // An empty answer with status 0 is not ok to a monitor.
    let place = Place::new("full");
    place.mkdir("options");
    let scratch = place.mkdir("scratch");
    let (repo, scratch) = (place.make_repo("repo"), scratch.display().to_string());
    place.write("options/db1.cnf", &format!("[rollforward]\nscratch={scratch}\n"));
    place.write("scratch/checkpoint", "format=1\nstate=done\nexit_status=0\n");
    let one = program(["status", "--scratch", &scratch]);
    let none = one.clone().arg("--repo").arg(&repo);
    for (status, limit, ended) in [
        (one, "--json", 3),
        (program(["status", &place.arg("all", "options")]), "--json", 3),
        (none, "--max-age=1d", 2),
    ] {
        let outcome = by_shell(status.arg(limit), "\"$@\" >/dev/full").run_to_end(SOON);
        outcome.expect(ended).says("standard output");
    }
}

#[test]
fn hangup_is_ignored_and_term_ends_a_waiting_pass() {
    let place = Place::new("hangup");
    let mut running = place
        .run()
        .args(["--first-backup=dump", "--max-failures=100", "--backoff-base=30s"])
        .scratch(&place.at("scratch"))
        .spawn();
    running.wait_for_log("retrying in", SOON);
    running.kill(libc::SIGHUP);
    // A signal that is sent later is handled later: what TERM does is after HUP.
    running.kill(libc::SIGTERM);
    let outcome = running.finish(SOON).expect(143).says("interrupted").says("primary-unreachable");
    assert!(outcome.stderr.contains("signal 15"), "{outcome}");
    let checkpoint = fs::read_to_string(place.at("scratch/checkpoint")).unwrap();
    assert!(checkpoint.contains("\nstate=stopped\n"), "{checkpoint}");
}

#[test]
fn a_signal_that_would_kill_ends_a_pass_cleanly() {
    for signal in [libc::SIGQUIT, libc::SIGUSR1, libc::SIGXCPU] {
        let place = Place::new("ending");
        let run =
            place.run().args(["--first-backup=dump", "--max-failures=9", "--backoff-base=30s"]);
        let mut running = run.scratch(&place.at("scratch")).spawn();
        running.wait_for_log("retrying in", SOON);
        running.kill(signal);
        running.finish(SOON).expect(128 + signal).says(&format!("stopped by signal {signal}"));
        let checkpoint = fs::read_to_string(place.at("scratch/checkpoint")).unwrap();
        for line in ["state=stopped", "cause=interrupted", &format!("exit_status={}", 128 + signal)]
        {
            assert!(checkpoint.lines().any(|l| l == line), "{line}: {checkpoint}");
        }
    }
}

#[test]
fn giving_up_on_an_absent_primary_ends_75() {
    let place = Place::new("giveup");
    let run = place.run().args(["--first-backup=dump", "--max-failures=2", "--backoff-base=10ms"]);
    let outcome = run.run_to_end(SOON).expect(75).says("primary-unreachable").says("127.0.0.1:1");
    assert!(outcome.log().len() < 10, "{outcome}");
    assert_eq!(outcome.stdout, "");
}

#[test]
fn quiet_logs_failures_only_and_verbose_more() {
    let place = Place::new("levels");
    let run = place.run().arg("--first-backup=dump");
    let lines = |outcome: &crate::support::Outcome, level: &str| {
        outcome.log().iter().filter(|l| l.contains(&format!(" {level}: "))).count()
    };
    let usual = run.run_to_end(SOON).expect(75);
    let quiet = run.clone().arg("-q").run_to_end(SOON).expect(75);
    let verbose = run.clone().arg("--verbose").run_to_end(SOON).expect(75);
    assert!(lines(&usual, "info") > 0 && lines(&usual, "debug") == 0, "{usual}");
    assert!(lines(&quiet, "info") == 0 && lines(&quiet, "error") == 1, "{quiet}");
    assert!(lines(&verbose, "debug") > 0, "{verbose}");
}

#[test]
fn a_log_file_takes_the_log_and_is_appended_to() {
    let place = Place::new("logfile");
    let run = place.run().arg(place.arg("log-file", "log"));
    for passes in 1..=2 {
        let outcome = run.run_to_end(SOON).expect(1);
        assert_eq!((outcome.stderr.as_str(), outcome.stdout.as_str()), ("", ""));
        let log = fs::read_to_string(place.at("log")).unwrap();
        assert_eq!(log.matches("error: no-backup: ").count(), passes, "{log}");
    }
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(place.at("log")).unwrap().permissions().mode() & 0o777, 0o600);
    // In the scratch directory it is no foreign file.
    let run = place.run().arg(place.arg("log-file", "scratch/log"));
    run.run_to_end(SOON).expect(1);
    run.run_to_end(SOON).expect(1);
}

#[test]
fn a_log_file_that_is_a_pipe_needs_a_reader() {
    let place = Place::new("logpipe");
    let pipe = place.at("log");
    run_helper(std::process::Command::new("mkfifo").arg(&pipe), "");
    let run = place.run().arg(place.arg("log-file", "log"));
    run.run_to_end(SOON).expect(2).says("--log-file").says("a pipe that nobody reads");
    assert!(!place.at("scratch").exists());
    let script = format!("cat {} >&2 & \"$@\"; status=$?; wait; exit $status", pipe.display());
    by_shell(run, &script).run_to_end(SOON).expect(1).says("error: no-backup: ");
}
