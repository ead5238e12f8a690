//! What the pages tell a reader to type: options exist, the shell lines that take a backup out
//! without the program are run as they are printed, and so are the commands of the emergency that
//! need no server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{FORMAT, PAGES, RECOVERY, SOON, help, missing, page, page_path, root};
use crate::support::repository::{copy, edit_manifest};
use crate::support::{Rollforward, Scene, TempDir, run_helper, try_helper};

/// The literal lines of a page, continued ones joined.
fn literal_lines(name: &str) -> Vec<String> {
    let mut literal = false;
    let mut out = String::new();
    for line in page(name).lines() {
        match line.split(' ').next().unwrap() {
            ".Bd" => literal = true,
            ".Ed" => literal = false,
            ".Dl" => out += &format!("{}\n", &line[4..]),
            _ if literal => out += &format!("{line}\n"),
            _ => {}
        }
    }
    out.replace("\\e\n", " ").lines().map(Into::into).collect()
}

#[test]
fn commands_in_examples_have_options_that_exist() {
    let all = ["list", "restore", "run", "seed", "status", "verify"];
    let mut seen = BTreeSet::new();
    for line in PAGES.iter().flat_map(|name| literal_lines(name)) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(at) = words.iter().position(|w| *w == "rollforward") else { continue };
        // Otherwise it is the name of the user, as for `install -o`.
        let Some(command) = words.get(at + 1).filter(|w| all.contains(w)) else { continue };
        let known = help(&[command, "--help"]);
        for option in words[at..].iter().filter(|w| w.starts_with("--")) {
            let option = option.split('=').next().unwrap();
            assert!(known.contains(&format!("{option} ")), "{line}: no {option}");
        }
        seen.insert(command.to_string());
    }
    assert!(all.iter().all(|c| seen.contains(*c)), "{seen:?}");
}

/// The shell lines under "WITHOUT ROLLFORWARD", as a reader sees them on a terminal.
fn shell_lines() -> String {
    let mut mandoc = Command::new("mandoc");
    let text = run_helper(mandoc.args(["-Tascii", "-Owidth=120"]).arg(page_path(FORMAT)), "");
    // Bold and underlined letters come as letter, backspace, letter.
    let mut plain = String::new();
    for c in text.chars() {
        if c == '\u{8}' {
            plain.pop();
        } else {
            plain.push(c);
        }
    }
    let (_, rest) = plain.split_once("WITHOUT ROLLFORWARD\n").expect("the heading");
    let lines = rest.lines().skip_while(|l| !l.trim_start().starts_with("repo="));
    let first = lines.clone().next().expect("the first line");
    let indent = first.len() - first.trim_start().len();
    let lines =
        lines.take_while(|l| l.trim().is_empty() || l.len() - l.trim_start().len() >= indent);
    lines.map(|l| l.get(indent..).unwrap_or("").to_string() + "\n").collect()
}

/// The same with these values of the variables.
fn script(repo: &Path, backup: &str, to: &Path) -> String {
    let set = |line: &str| match line.split_once('=') {
        Some(("repo", _)) => format!("repo={}\n", repo.display()),
        Some(("manifest", _)) => format!("manifest=$repo/backups/{backup}\n"),
        Some(("to", _)) => format!("to={}\n", to.display()),
        _ => format!("{line}\n"),
    };
    shell_lines().lines().map(set).collect()
}

/// Takes a backup out by the lines of the page.
#[track_caller]
fn take_out(repo: &Path, backup: &str, to: &Path) {
    let script = script(repo, backup, to);
    let printed = run_helper(Command::new("sh").args(["-eu", "-c", &script]), "");
    // The sum of the manifest, and the same in its last line.
    let sums: Vec<&str> = printed.split_whitespace().filter(|w| w.len() == 64).collect();
    assert!(sums.len() == 2 && sums[0] == sums[1], "{printed}\n{script}");
}

/// A copy of the sample repository.
fn sample(dir: &TempDir) -> PathBuf {
    sample_of("repository-1", dir)
}

fn sample_of(name: &str, dir: &TempDir) -> PathBuf {
    let repo = dir.path().join("repo");
    copy(&root().join("tests/samples").join(name), &repo);
    // Git knows no empty directories.
    fs::create_dir(repo.join("tmp")).unwrap();
    repo
}

/// A manifest is not trusted by them either.
#[test]
fn the_shell_lines_write_nothing_elsewhere() {
    if missing("mandoc") || missing("zstd") {
        return;
    }
    let dir = TempDir::new("elsewhere");
    let repo = sample(&dir);
    let name = "20261122T153000Z-8f3a";
    edit_manifest(&repo, name, |lines| {
        let at = lines.iter().position(|l| l.starts_with("file ")).unwrap();
        lines.insert(at, "file ../planted 600 0".into());
    });
    let taken = dir.path().join("taken-out");
    let script = script(&repo, name, &taken);
    let (_, said, _) = try_helper(Command::new("sh").args(["-euc", &script]), "", SOON);
    assert!(!dir.path().join("planted").exists(), "{said}");
    assert!(taken.exists(), "{said}");
}

#[test]
fn the_shell_lines_take_the_samples_out() {
    if missing("mandoc") || missing("zstd") {
        return;
    }
    for (sample, backup) in
        [("repository-1", "20261122T153000Z-8f3a"), ("repository-2", "20261129T153000Z-5d1f")]
    {
        let dir = TempDir::new("taken");
        let repo = sample_of(sample, &dir);
        let taken = dir.path().join("taken-out");
        take_out(&repo, backup, &taken);
        let restored = dir.path().join("restored");
        let restore = Rollforward::new(["restore", "--repo"]).arg(&repo).arg("--to").arg(&restored);
        restore.run_to_end(SOON).expect(0);
        // An odd name is written as it is escaped.
        let odd = taken.join("shop/\\xc3\\xa4\\x20b\\x5cc.frm");
        if odd.exists() {
            fs::rename(odd, taken.join("shop/\u{e4} b\\c.frm")).unwrap();
        }
        run_helper(Command::new("diff").arg("-r").arg(&restored).arg(&taken), "");
    }
}

#[test]
fn the_commands_of_the_emergency_page_run_on_the_sample() {
    let dir = TempDir::new("emergency");
    let repo = sample(&dir).display().to_string();
    let to = dir.path().join("mysql").display().to_string();
    let mut ran = BTreeSet::new();
    for line in literal_lines(RECOVERY) {
        let line = line.replace("/backup/db1", &repo).replace("/var/lib/mysql", &to);
        let line = line.replace("20261121T153000Z-00ff", "20261122T153000Z-8f3a");
        let words: Vec<&str> = line.split_whitespace().collect();
        // It needs a server and a journal: see the tests of `until`.
        if words.contains(&"--until") {
            continue;
        }
        if let ["rollforward", command @ ("list" | "restore" | "verify"), ..] = words[..] {
            let _ = fs::remove_dir_all(&to);
            Rollforward::new(&words[1..]).run_to_end(SOON).expect(0);
            ran.insert(command.to_string());
        }
    }
    assert_eq!(ran.len(), 3, "{ran:?}");
}

#[test]
fn the_shell_lines_take_a_real_backup_out() {
    if missing("mandoc") || missing("zstd") {
        return;
    }
    need_server!();
    let scene = Scene::new("shell");
    scene.primary.fill("shop", 3, 3000);
    // More than a block, and a file with blocks of zeros between others.
    scene.primary.fill("wide", 1, 40_000);
    scene.primary.sql("CREATE DATABASE `odd name`; CREATE TABLE `odd name`.`t \u{e9}` (a INT)");
    scene.seed();
    scene.primary.backlog("shop", 200);
    scene.run().expect(0);
    let backup = scene.backups().pop().unwrap();
    let manifest = fs::read_to_string(scene.repo.join("backups").join(&backup)).unwrap();
    assert!(manifest.contains("\nzeros "), "no zeros in the backup");
    assert!(manifest.contains("\nxor "), "no difference in the backup");

    let taken = scene.path("taken-out");
    take_out(&scene.repo, &backup, &taken);
    let restored = scene.restore(None);
    run_helper(Command::new("diff").arg("-r").arg(&restored).arg(&taken), "");

    // A block that does not match is said, in the name of its sum.
    let pack = manifest.lines().find_map(|l| l.strip_prefix("pack ")).unwrap();
    let name = pack.split(' ').next().unwrap();
    let path = scene.repo.join("packs").join(&name[..2]).join(name);
    fs::write(&path, vec![0; fs::metadata(&path).unwrap().len() as usize]).unwrap();
    fs::remove_dir_all(&taken).unwrap();
    let bad = format!("{{ {} }} 2>&1 || :", script(&scene.repo, &backup, &taken));
    let printed = run_helper(Command::new("sh").args(["-c", &bad]), "");
    assert!(printed.contains("FAILED") || printed.contains("WARNING"), "{printed}");
}
