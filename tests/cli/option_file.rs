//! The option file: its grammar, whose keys are whose, and who wins.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{Place, SOON, program};
use crate::support::is_root;

#[test]
fn an_option_file_that_cannot_be_read_is_named() {
    let place = Place::new("unreadable");
    let list = |name: &str| program(["list"]).arg(place.arg("defaults-file", name));
    place.refuses(&list("none.cnf"), &["none.cnf", "no such file"]);
    place.mkdir("dir.cnf");
    place.refuses(&list("dir.cnf"), &["dir.cnf", "not a text file"]);
    fs::write(place.at("binary.cnf"), b"[client]\nuser=\xff\xfe\n").unwrap();
    place.refuses(&list("binary.cnf"), &["binary.cnf", "UTF-8"]);
    if !is_root() {
        let path = place.write("secret.cnf", "[client]\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        place.refuses(&list("secret.cnf"), &["secret.cnf", "permission denied"]);
    }
}

#[test]
fn a_malformed_line_is_named_by_its_number() {
    let place = Place::new("lines");
    for (text, words) in [
        ("user=x\n", ["line 1", "group"]),
        ("# c\n\n[client\n", ["line 3", "']'"]),
        ("[client]\n!inclde x\n", ["line 2", "!inclde"]),
        ("[client]\n!includedir none\n", ["line 2", "none"]),
        ("[client]\npassword=s\0t\n", ["line 2", "the value of password contains a NUL byte"]),
        ("[rollforward]\nrepo = /r\0x\n", ["line 2", "the value of repo contains a NUL byte"]),
        ("[client]\n!include db.cnf\n!include bad.cnf\n", ["bad.cnf", "too deep"]),
    ] {
        place.write("bad.cnf", text);
        let list = program(["list"]).arg(place.arg("defaults-file", "bad.cnf"));
        place.refuses(&list, &["bad.cnf", words[0], words[1]]);
    }
    place.write("bad.cnf", "!include none.cnf\n");
    let list = program(["list"]).arg(place.arg("defaults-file", "bad.cnf"));
    place.refuses(&list, &["none.cnf", "no such file"]);
}

#[test]
fn unknown_keys_are_refused_but_ignored_in_client() {
    let place = Place::new("keys");
    place.make_repo("repo");
    let list = |text: &str| {
        place.write("my.cnf", text);
        program(["list", &place.arg("repo", "repo"), &place.arg("defaults-file", "my.cnf")])
    };
    let shared = "[client]\nuser=u\nno-such-key\nplugin_dir=/x\n[mysqld]\nfoo=1\n[other]\nbar\n";
    list(shared).run_to_end(SOON).expect(0);
    for key in ["colour", "keep", "help", "version", "defaults-file", "client"] {
        let text = format!("{shared}[rollforward]\njobs=1\n{key}=1\n");
        place.refuses(&list(&text), &[&format!("unknown key '{key}'"), "[rollforward]", "my.cnf"]);
    }
    // Whatever the spelling, and also if another command would use it.
    for key in ["keep_count=3", "keep-count=3", "keep-count = 3", "json", "to=/x", "dry-run=off"] {
        list(&format!("[rollforward]\n{key}\n")).run_to_end(SOON).expect(0);
    }
}

#[test]
fn malformed_values_in_the_file_are_refused() {
    let place = Place::new("values");
    place.make_repo("repo");
    for (line, words) in [
        ("jobs=many", ["--jobs", "'many'"]),
        ("jobs", ["'jobs'", "needs a value"]),
        ("jobs=", ["--jobs", "needs a value"]),
        ("poll-interval=5", ["--poll-interval", "'5'"]),
        ("json=maybe", ["'json'", "1 or 0"]),
        ("mysqld-option=--port=1", ["--mysqld-option", "'--port=1'"]),
    ] {
        place.write("my.cnf", &format!("[rollforward]\n{line}\n"));
        let list =
            program(["list", &place.arg("repo", "repo"), &place.arg("defaults-file", "my.cnf")]);
        place.refuses(&list, &words);
    }
    let cases = [
        ("port=x", "port 'x'"),
        ("port=0", "port '0'"),
        ("host=a b", "host in [client] 'a b'"),
        ("ssl-mode=SOMETIMES", "ssl-mode"),
        ("ssl-mode=VERIFY_CA", "VERIFY_IDENTITY"),
        ("ssl-mode=VERIFY_IDENTITY", "ssl-ca"),
        ("ssl-cert=/x", "ssl-key"),
        ("ssl-ca=/no/such/ca.pem", "/no/such/ca.pem"),
    ];
    for (line, word) in cases {
        place.write("db.cnf", &format!("[client]\nhost=h\nuser=u\n{line}\n"));
        place.refuses(&place.run(), &[word]);
    }
}

#[test]
fn the_file_supplies_options_and_the_command_line_beats_it() {
    let place = Place::new("beats");
    let (one, two) = (place.make_repo("one"), place.make_repo("two"));
    fs::write(one.join("format"), "something else\n").unwrap();
    let file = |text: String| place.write("my.cnf", &format!("[rollforward]\n{text}\n"));
    let list = program(["list"]).arg(place.arg("defaults-file", "my.cnf"));
    file(format!("repo={}\njson", two.display()));
    assert_eq!(list.run_to_end(SOON).expect(0).stdout, "[]\n");
    file(format!("repo={}", one.display()));
    place.refuses(&list, &["one", "format"]);
    list.arg(place.arg("repo", "two")).run_to_end(SOON).expect(0);
    // Of two lines the last one counts, as on the command line.
    let list = program(["list"]).arg(place.arg("defaults-file", "my.cnf"));
    file(format!("repo={}\nrepo={}", one.display(), two.display()));
    list.run_to_end(SOON).expect(0);
    // Both directories of a pass: it gets as far as to say that there is no backup.
    let client = "[client]\nhost=127.0.0.1\nport=1\nuser=u\n";
    let dirs = format!("repo={}\nscratch={}", two.display(), place.at("scratch").display());
    place.write("my.cnf", &format!("{client}[rollforward]\n{dirs}\n"));
    let run = program(["run"]).arg(place.arg("defaults-file", "my.cnf"));
    run.run_to_end(SOON).expect(1).says("no-backup");
    assert!(place.at("scratch/checkpoint").exists());
}

#[test]
fn quotes_comments_and_escapes_are_understood() {
    let place = Place::new("grammar");
    place.make_repo("a # repo");
    place.make_repo("my repo");
    place.make_repo("plain");
    let at = |name: &str| place.at(name).display().to_string();
    for line in [
        format!("repo = \"{}\"", at("a # repo")),
        format!("repo='{}'   # the main one", at("a # repo")),
        format!("repo={}", at("my repo").replace(' ', "\\s")),
        format!("repo={}", at("my repo")),
        format!("  repo   =   {}   # comment", at("plain")),
        format!("# repo=/x\n; repo=/y\nrepo={}", at("plain")),
        format!("!include {}", place.write("more.inc", "[rollforward]\njobs=1\n").display())
            + &format!("\n[rollforward]\nrepo={}", at("plain")),
    ] {
        place.write("my.cnf", &format!("[rollforward]\n{line}\n"));
        let list = program(["list"]).arg(place.arg("defaults-file", "my.cnf"));
        let outcome = list.run_to_end(SOON);
        assert_eq!(outcome.status, 0, "{line}\n{outcome}");
    }
}

#[test]
fn a_password_file_must_be_readable() {
    let place = Place::new("password");
    let run = |name: &str| place.run().arg(place.arg("password-file", name));
    place.refuses(&run("none"), &["none", "no such file"]);
    place.refuses(&run(""), &["cannot read"]);
    place.write("nul", "sec\0ret\n");
    place.refuses(&run("nul"), &["nul contains a NUL byte"]);
    place.make_repo("repo");
    place.write("password", "secret of the test\n");
    let outcome = run("password").run_to_end(SOON).expect(1).says("no-backup");
    assert!(!outcome.stderr.contains("secret"), "{outcome}");
}

#[test]
fn verbose_on_the_command_line_beats_quiet_in_the_file() {
    let place = Place::new("quiet");
    let client = "[client]\nhost=127.0.0.1\nport=1\nuser=u\n";
    place.write("db.cnf", &format!("{client}[rollforward]\nquiet\n"));
    let run = place.run().arg("--first-backup=dump");
    let quiet = run.run_to_end(SOON).expect(75);
    assert!(!quiet.stderr.contains(" info: "), "{quiet}");
    run.arg("-v").run_to_end(SOON).expect(75).says(" debug: ");
}

#[test]
fn an_option_file_that_anybody_may_write_is_refused() {
    let place = Place::new("writable");
    let included = place.write("included.cnf", "[rollforward]\nbefore=/bin/true\n");
    let text = format!("!include {}\n[client]\nhost=h\nuser=u\n", included.display());
    let file = place.write("db.cnf", &text);
    for path in [&file, &included] {
        let mode = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o666);
        place.refuses(&place.run(), &["any user can write to", path.to_str().unwrap(), "chmod"]);
        mode(0o644);
    }
    place.run().run_to_end(SOON).expect(1).says("no-backup");
}
