//! Servers, data and primaries that do not go together are refused before a byte is written.
//!
//! The private server is a script that says it is another one, so that every machine can tell;
//! where that other one is unpacked as well, it is used.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{NIGHTLY, Outcome, Scene, find_program, flavor};

/// A program that says it has `version`, and leaves a trace when it is started in earnest.
fn impostor(scene: &Scene, name: &str, version: &str) -> PathBuf {
    let body = format!(
        "case \" $* \" in *' --version '*) echo '/x/{name}  Ver {version} for Linux on x86_64'; \
         exit 0 ;; esac\necho started >>{}; exit 1",
        scene.path("started").display()
    );
    let path = scene.path(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// `run`, or `seed` where there is no backup, with another private server.
fn with(scene: &Scene, command: &str, program: &Path) -> Outcome {
    let how = if command == "seed" { vec!["--from", "dump"] } else { vec![] };
    let command = scene.command(command).args(how).arg("--mysqld").arg(program);
    command.run_to_end(COMMAND_PATIENCE)
}

/// It is wrong configuration, said in one line, and nothing was done.
#[track_caller]
fn assert_refused(scene: &Scene, ended: Outcome, words: &[&str]) {
    let ended = ended.expect(2).says("error: configuration: ");
    for word in words {
        assert!(ended.log().last().unwrap().contains(word), "no '{word}'; {ended}");
    }
    assert!(!scene.has_scratch_data(), "something was written; {ended}");
    assert!(!scene.scratch.join("mysqld.log").exists(), "a server was started; {ended}");
    assert!(!scene.path("started").exists(), "it was started; {ended}");
    assert_eq!(scene.checkpoint().get("cause"), Some("configuration"));
    scene.assert_nothing_left();
}

/// The version of the server in use, and its series with a number added to the last part.
fn version_and_series(scene: &Scene, add: i32) -> (String, String) {
    // A primary with a binary log may say that, too.
    let version = scene.primary.value("SELECT VERSION()").trim_end_matches("-log").to_string();
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    let major: i32 = numbers.next().unwrap().parse().unwrap();
    let minor: i32 = numbers.next().unwrap().parse().unwrap();
    (version, format!("{major}.{}", minor + add))
}

#[test]
fn a_private_server_of_the_other_flavor_is_refused() {
    need_server!();
    let scene = Scene::new("flavor");
    scene.primary.fill("shop", 1, 10);
    let (name, version) = flavor::either(("mysqld", "9.7.4-2"), ("mariadbd", "11.8.6-MariaDB-x"));
    let other = impostor(&scene, name, version);
    let words = [version, "set one of the same kind with --mysqld", &other.display().to_string()];
    assert_refused(&scene, with(&scene, "seed", &other), &words);
    let _ = fs::remove_dir_all(&scene.scratch);
    scene.seed();
    let _ = fs::remove_file(scene.scratch.join("mysqld.log"));
    assert_refused(&scene, with(&scene, "run", &other), &words);
    assert_eq!(scene.backups().len(), 1);
    scene.run().expect(0);
}

#[test]
fn a_private_server_of_another_series_is_refused() {
    need_server!();
    let scene = Scene::seeded("series");
    let _ = fs::remove_file(scene.scratch.join("mysqld.log"));
    let (version, own) = version_and_series(&scene, 0);
    let suffix = flavor::either("-MariaDB-x", "-x");
    for (add, what) in [(-1, "of an older series"), (1, "of a newer series")] {
        let series = version_and_series(&scene, add).1;
        let other = impostor(&scene, "other", &format!("{series}.3{suffix}"));
        let ended = with(&scene, "run", &other);
        let words = ["backup ", &version, what, &format!("{own} server")];
        assert_refused(&scene, ended, &words);
    }
    // Another one of the same series will do.
    let real = find_program("mariadbd").unwrap();
    let body = format!(
        "#!/bin/sh\ncase \" $* \" in *' --version '*) echo 'x Ver {own}.250{suffix} for'; exit ;; \
         esac\nexec {} \"$@\"\n",
        real.display()
    );
    let same = impostor(&scene, "same", "");
    fs::write(&same, body).unwrap();
    with(&scene, "run", &same).expect(0);
}

#[test]
fn a_primary_of_the_other_flavor_is_refused() {
    need_server!();
    let scene = Scene::seeded("base");
    let _ = fs::remove_file(scene.scratch.join("mysqld.log"));
    // The base says that it is of the other one.
    let backup = scene.backups().remove(0);
    let position = flavor::either("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9", "0-1-9");
    crate::support::repository::edit_manifest(&scene.repo, &backup, |lines| {
        for line in lines {
            if line.starts_with("flavor ") {
                *line = format!("flavor {}", flavor::either("mysql", "mariadb"));
            } else if line.starts_with("position ") {
                *line = format!("position {position}");
            }
        }
    });
    let ended = scene.run();
    let primary = format!("127.0.0.1:{} is {}", scene.primary.port(), flavor::name());
    assert_refused(&scene, ended, &["the base at ", &primary]);
}

#[test]
fn settings_that_data_keeps_for_life_must_be_the_primarys() {
    need_server!();
    for (name, value) in [("lower_case_table_names", "1"), ("innodb_page_size", "8192")] {
        let scene = Scene::seeded("settings");
        let _ = fs::remove_file(scene.scratch.join("mysqld.log"));
        let backup = scene.backups().remove(0);
        let key = format!("setting {name} ");
        let mut found = false;
        crate::support::repository::edit_manifest(&scene.repo, &backup, |lines| {
            for line in lines {
                if line.starts_with(&key) {
                    *line = format!("{key}{value}");
                    found = true;
                }
            }
        });
        assert!(found, "no {key} in the manifest");
        let ended = scene.run();
        let words = [&format!("{name}={value}"), "rollforward seed", backup.as_str()];
        assert_refused(&scene, ended, &words);
        // What it says helps.
        scene.seed();
        scene.run().expect(0);
    }
}

#[test]
fn a_data_directory_of_the_other_flavor_is_not_adopted() {
    need_server!();
    let mut scene = Scene::new("adopt");
    scene
        .primary
        .create_account(crate::support::Account { user: "another", grants: NIGHTLY.grants });
    scene.primary.stop();
    let (name, version) = flavor::either(("mysqld", "8.4.3"), ("mariadbd", "10.11.2-MariaDB"));
    let other = impostor(&scene, name, version);
    let from = format!("dir:{}", scene.primary.datadir().display());
    let command = scene.command("seed").args(["--from", &from]).arg("--mysqld").arg(&other);
    let ended = command.run_to_end(COMMAND_PATIENCE);
    let data = format!("contains data of {}", flavor::name());
    assert_refused(&scene, ended, &[&data, version, "--mysqld"]);
}
