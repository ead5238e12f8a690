//! Directories: missing, in each other, of somebody else, of a later format.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::{Place, SOON, program};
use crate::support::{Scene, Server, run_helper};

#[test]
fn a_missing_repository_is_named_and_not_made_by_readers() {
    let place = Place::new("missing");
    let repo = place.arg("repo", "none");
    for command in ["list", "verify", "prune"] {
        place.refuses(&program([command, &repo]), &["no repository", "none"]);
    }
    place.refuses(&program(["restore", &repo, &place.arg("to", "to")]), &["no repository"]);
}

/// A file system that is not mounted looks like this.
#[test]
fn run_makes_no_repository_unless_for_a_first_backup() {
    let place = Place::new("unmounted");
    place.mkdir("empty");
    for (repo, word) in [("absent", "no repository at"), ("empty", "no file 'format'")] {
        let run = place.run().arg(place.arg("repo", repo));
        place.refuses(&run, &[word, repo, "mounted?", "rollforward seed"]);
    }
    // Where it may, as any seed: but not beside data that says that there was one.
    place.mkdir("scratch/data");
    place.write("scratch/state", "format=1\nbase=20261122T153000Z-8f3a\nstage=ready\n");
    let seed = program(["seed", "--from=dump", &place.arg("defaults-file", "db.cnf")])
        .arg(place.arg("scratch", "scratch"));
    for command in [place.run().arg("--first-backup=dump"), seed] {
        for repo in ["absent", "empty"] {
            let command = command.clone().arg(place.arg("repo", repo));
            place.refuses(&command, &["20261122T153000Z-8f3a", "mount the repository"]);
        }
    }
    fs::remove_dir_all(place.at("scratch")).unwrap();
    for repo in ["absent", "empty"] {
        let run = place.run().arg("--first-backup=dump").arg(place.arg("repo", repo));
        run.run_to_end(SOON).expect(75).says("primary-unreachable");
        let mode = fs::metadata(place.at(repo)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode, place.at(repo).join("format").exists()), (0o700, true), "{repo}");
    }
}

#[test]
fn a_directory_whose_parent_is_missing_is_not_made() {
    let place = Place::new("parents");
    let run = place.run();
    let first = run.clone().args(["--first-backup=dump", &place.arg("repo", "no/such/repo")]);
    place.refuses(&first, &["no/such/repo", "does not exist"]);
    let first = run.clone().args(["--first-backup=dump", &place.arg("repo", "db.cnf/repo")]);
    place.refuses(&first, &["db.cnf/repo", "is not a directory"]);
    place.refuses(
        &run.clone().arg(place.arg("scratch", "no/scratch")),
        &["no/scratch", "does not exist"],
    );
    // Neither is one whose link leads nowhere, and nothing else is made then.
    symlink("nowhere", place.at("link")).unwrap();
    let first = run.arg("--first-backup=dump");
    for option in ["repo", "scratch"] {
        let other = if option == "repo" { "scratch" } else { "repo" };
        let link = first.clone().args([place.arg(option, "link"), place.arg(other, "new")]);
        place.refuses(&link, &["link", "is a symbolic link to nowhere"]);
    }
    place.make_repo("repo");
    let restore = program(["restore", &place.arg("repo", "repo"), &place.arg("to", "no/to")]);
    place.refuses(&restore, &["--to", "no/to", "no such file"]);
    let log = program(["list", &place.arg("repo", "repo"), &place.arg("log-file", "no/log")]);
    place.refuses(&log, &["--log-file", "no/log", "no such file"]);
}

#[test]
fn repository_and_scratch_may_not_lie_in_each_other() {
    let place = Place::new("nested");
    place.mkdir("other");
    symlink(place.at("other"), place.at("link")).unwrap();
    for (repo, scratch) in [
        ("x", "x"),
        ("x", "x/scratch"),
        ("x/repo", "x"),
        ("x", "x/../x/y"),
        ("x", "./x/"),
        ("other", "link"),
        ("link/repo", "other"),
        ("other", "link/scratch"),
    ] {
        let run = place.run().args([place.arg("repo", repo), place.arg("scratch", scratch)]);
        place.refuses(&run, &["repository", "scratch", "one another"]);
        let seed = program(["seed", "--from=dump", &place.arg("defaults-file", "db.cnf")])
            .args([place.arg("repo", repo), place.arg("scratch", scratch)]);
        place.refuses(&seed, &["one another"]);
    }
    // The source of an adoption is named as such.
    place.mkdir("data");
    place.write("data/ibdata1", "");
    let data = format!("data directory {}", place.at("data").display());
    for (repo, scratch, other) in [
        ("data/repo", "x", format!("repository {}", place.at("data/repo").display())),
        ("x", "data/x", format!("scratch directory {}", place.at("data/x").display())),
    ] {
        let seed = program(["seed", &place.arg("from", "data").replace('=', "=dir:")])
            .args([place.arg("repo", repo), place.arg("scratch", scratch)]);
        place.refuses(&seed, &[&format!("{data} and {other} must not contain one another")]);
    }
    // A common beginning of the name is no nesting.
    place.make_repo("x");
    let run = place.run().args([place.arg("repo", "x"), place.arg("scratch", "x1")]);
    run.run_to_end(SOON).expect(1).says("no-backup");
}

#[test]
fn a_scratch_directory_with_foreign_files_is_refused() {
    let place = Place::new("foreign");
    place.mkdir("scratch/photos");
    place.write("scratch/photos/me.jpg", "me");
    place.refuses(&place.run(), &["scratch", "'photos'", "not ours"]);
    // Data of which nothing is known is somebody's too.
    fs::remove_dir_all(place.at("scratch")).unwrap();
    place.mkdir("scratch/data/shop");
    place.refuses(&place.run(), &["scratch", "'data'", "not ours"]);
    fs::remove_dir_all(place.at("scratch")).unwrap();
    place.write("scratch", "a file");
    place.refuses(&place.run(), &["scratch", "not a directory"]);
    place.make_repo("other");
    let run = place.run().arg(place.arg("scratch", "other"));
    place.refuses(&run, &["other", "not ours"]);
}

#[test]
fn a_lack_of_descriptors_makes_no_directory_foreign() {
    let place = Place::new("descriptors");
    place.run().run_to_end(SOON).expect(1).says("no-backup");
    place.mkdir("scratch/data");
    for limit in 12..40 {
        let script = format!("ulimit -n {limit}; exec \"$@\"");
        let outcome = place.run().under(["sh", "-c", &script, "sh"]).run_to_end(SOON).expect(1);
        assert!(!outcome.stderr.contains("not ours"), "{limit}: {outcome}");
    }
}

#[test]
fn the_data_directory_of_a_live_server_is_refused() {
    need_server!();
    let place = Place::new("live");
    let server = Server::start("live", false, &[]);
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (a INT) SELECT 1 AS a");
    let mode = || fs::metadata(server.datadir()).unwrap().permissions().mode();
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(server.datadir()).unwrap().flatten().map(|e| e.file_name()).collect();
        names.sort();
        names
    };
    let before = (names(), mode());
    let data = server.datadir().display();
    let scratch = place.run().arg(format!("--scratch={data}"));
    place.refuses(&scratch, &["scratch", "data directory of a server"]);
    let repo = place.run().arg(format!("--repo={data}"));
    place.refuses(&repo, &["not a repository"]);
    place.make_repo("repo");
    let restore = program(["restore", &place.arg("repo", "repo"), &format!("--to={data}")]);
    place.refuses(&restore, &["--to", "not empty"]);
    assert_eq!((names(), mode()), before);
    assert_eq!(server.value("SELECT a FROM shop.t"), "1");
}

#[test]
fn a_directory_with_foreign_files_does_not_become_a_repository() {
    let place = Place::new("strangers");
    place.mkdir("repo");
    place.write("repo/thesis.txt", "work of years");
    place.refuses(&place.run(), &["repo", "not a repository", "no file 'format'"]);
    let first = place.run().arg("--first-backup=dump");
    place.refuses(&first, &["repo", "not a repository", "thesis.txt"]);
    for command in ["list", "verify", "prune"] {
        place.refuses(&program([command, &place.arg("repo", "repo")]), &["not a repository"]);
    }
    place.refuses(&place.run().arg(place.arg("repo", "db.cnf")), &["db.cnf", "not a directory"]);
    place.refuses(&program(["list", &place.arg("repo", "db.cnf")]), &["not a directory"]);
}

#[test]
fn a_repository_of_a_later_format_is_left_alone() {
    let place = Place::new("later");
    let repo = place.make_repo("repo");
    fs::write(repo.join("format"), "rollforward repository 3\n").unwrap();
    fs::write(repo.join("tmp/half"), "what a later version was writing").unwrap();
    place.refuses(&place.run(), &["later format 3"]);
    for command in ["list", "verify", "prune"] {
        place.refuses(&program([command, &place.arg("repo", "repo")]), &["later format 3"]);
    }
    let restore = program(["restore", &place.arg("repo", "repo"), &place.arg("to", "to")]);
    place.refuses(&restore, &["later format 3"]);
    fs::write(repo.join("format"), [0xff, 0xfe]).unwrap();
    place.refuses(&place.run(), &["not a repository", "format"]);
}

#[test]
fn restore_wants_an_empty_directory_outside_of_the_repository() {
    let place = Place::new("target");
    place.make_repo("repo");
    place.mkdir("full");
    place.write("full/mine", "x");
    symlink(place.at("full"), place.at("link")).unwrap();
    let restore = |to: &str| program(["restore", &place.arg("repo", "repo"), &place.arg("to", to)]);
    place.refuses(&restore("full"), &["--to", "full", "not empty"]);
    place.refuses(&restore("db.cnf"), &["--to", "db.cnf", "not a directory"]);
    place.refuses(&restore("repo/to"), &["--to", "inside the repository"]);
    place.refuses(&restore("repo/tmp"), &["--to", "inside the repository"]);
    let led = format!("link is a symbolic link to {}: name the dir", place.at("full").display());
    place.refuses(&restore("link"), &["--to", &led]);
    symlink("/nowhere", place.at("dangling")).unwrap();
    place.refuses(&restore("dangling"), &["dangling is a symbolic link to /nowhere"]);
    let first = place.run().arg("--first-backup=dump").arg(place.arg("repo", "dangling"));
    place.refuses(&first, &["dangling: it is a symbolic link to /nowhere"]);
}

#[test]
fn a_nonexistent_backup_is_no_backup_and_leaves_nothing() {
    let place = Place::new("nobackup");
    let repo = place.make_repo("repo");
    let repo_arg = place.arg("repo", "repo");
    let to = place.arg("to", "to");
    let before = place.tree();
    for name in ["20260101T000000Z-0000", "nonsense", "../format", "/etc/passwd"] {
        for args in [["verify", name, &repo_arg, "-q"], ["restore", name, &repo_arg, &to]] {
            let outcome = program(args).run_to_end(SOON).expect(1).says("no-backup").says(name);
            assert_eq!((outcome.log().len(), outcome.stdout.as_str()), (1, ""), "{outcome}");
        }
    }
    let newest = program(["restore", &repo_arg, &to]).run_to_end(SOON).expect(1);
    newest.says("no-backup").says(&repo.display().to_string());
    assert_eq!(place.tree(), before);
}

#[test]
fn run_on_an_empty_repository_explains_first_backups() {
    let place = Place::new("first");
    let outcome = place.run().run_to_end(SOON).expect(1);
    let outcome = outcome.says("no-backup").says("seed --from dump").says("--first-backup=dump");
    assert_eq!(outcome.stdout, "");
    let checkpoint = fs::read_to_string(place.at("scratch/checkpoint")).unwrap();
    for line in ["state=failed", "cause=no-backup", "exit_status=1"] {
        assert!(checkpoint.lines().any(|l| l == line), "{line} in {checkpoint}");
    }
    let message = checkpoint.lines().find(|l| l.starts_with("message=")).unwrap();
    assert!(!message.contains('?') && message.contains("seed --from dump"), "{message}");
    let mode = fs::metadata(place.at("scratch")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

#[test]
fn a_server_program_that_is_none_is_named() {
    let place = Place::new("program");
    place.write("text", "no program");
    for (name, what) in [("none", "does not exist"), ("text", "not an executable file")] {
        place.refuses(&place.run().arg(place.arg("mysqld", name)), &["--mysqld", name, what]);
    }
    place.refuses(&place.run().arg(place.arg("mysqld", "")), &["--mysqld", "not an executable"]);
}

#[test]
fn an_unknown_mysqld_option_ends_the_pass_and_is_named() {
    need_server!();
    let scene = Scene::seeded("option");
    let run = scene.command("run").arg("--mysqld-option=--no-such-option=1");
    let outcome = run.run_to_end(SOON).expect(1).says("mysqld-start").says("no-such-option");
    assert_eq!(outcome.stderr.matches("did not start").count(), 1, "{outcome}");
    scene.run().expect(0);
}

#[test]
fn no_file_is_written_that_others_depend_on() {
    let place = Place::new("own-files");
    let option_file = place.arg("defaults-file", "db.cnf");
    place.write("password", "secret\n");
    fs::hard_link(place.at("db.cnf"), place.at("link.cnf")).unwrap();
    for option in ["checkpoint", "metrics-file", "log-file"] {
        let at = |path: &str| place.run().arg(&option_file).arg(place.arg(option, path));
        for inside in ["repo/format", "repo/backups/x", "repo/x"] {
            place.refuses(&at(inside), &[option, inside, "inside the repository"]);
        }
        for taken in ["scratch/lock", "scratch/state", "scratch/data/x", "scratch"] {
            place.refuses(&at(taken), &[option, taken, "the scratch directory has"]);
        }
        for file in ["db.cnf", "link.cnf"] {
            place.refuses(&at(file), &[option, file, "is the file of --defaults-file"]);
        }
        let password = at("password").arg(place.arg("password-file", "password"));
        place.refuses(&password, &[option, "is the file of --password-file"]);
    }
    // What is replaced by a rename must be a file: as root, /dev/null would be gone. A pipe is as good here.
    run_helper(std::process::Command::new("mkfifo").arg(place.at("pipe")), "");
    symlink("pipe", place.at("to-pipe")).unwrap();
    for option in ["checkpoint", "metrics-file"] {
        for pipe in ["pipe", "to-pipe"] {
            let run = place.run().arg(&option_file).arg(place.arg(option, pipe));
            place.refuses(&run, &[option, pipe, "no regular file"]);
        }
    }
    let log = place.run().arg(place.arg("log-file", "log")).arg(place.arg("metrics-file", "log"));
    place.refuses(&log, &["--log-file", "is the file of --metrics-file"]);
    for dir in ["repo", "scratch", "scratch/slots"] {
        let slots = format!("{}:1", place.arg("slots", dir));
        place.refuses(&place.run().arg(slots), &["--slots", dir, "is inside"]);
    }
    let slots = format!("{}:1", place.arg("slots", "db.cnf"));
    place.refuses(&place.run().arg(slots), &["--slots", "db.cnf", "is not a directory"]);
}
