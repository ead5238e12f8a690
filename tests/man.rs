//! The manual page says what the program has, all of it and nothing else.
//!
//! Options and commands are asked of the real binary; causes, checkpoint keys and phases are
//! read off the source, which has them in one place each. The shell lines of the page that take
//! a backup out of the repository without the program are run as they are printed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Rollforward, Scene, find_program, run_helper};

const SOON: Duration = Duration::from_secs(30);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page_path() -> PathBuf {
    root().join("man/rollforward.8")
}

/// The page's source.
fn page() -> String {
    fs::read_to_string(page_path()).unwrap()
}

fn source(file: &str) -> String {
    fs::read_to_string(root().join("src").join(file)).unwrap()
}

/// The lines of a section `.Sh NAME`.
fn section(name: &str) -> Vec<String> {
    let page = page();
    let heading = format!(".Sh {name}");
    let lines = page.lines().skip_while(|l| *l != heading).skip(1);
    let lines: Vec<String> = lines.take_while(|l| !l.starts_with(".Sh ")).map(Into::into).collect();
    assert!(!lines.is_empty(), "the page has no section {name}");
    lines
}

/// The words after `.It MACRO` in a section: `a` and `b` of `.It Va a , b`.
fn items(name: &str, of: &str) -> BTreeSet<String> {
    let lines = section(name);
    let items = lines.iter().filter_map(|l| l.strip_prefix(&format!(".It {of} ")));
    items.flat_map(str::split_whitespace).filter(|w| *w != ",").map(Into::into).collect()
}

/// All `"words"` between two texts of a source file.
fn quoted_between(text: &str, from: &str, to: &str) -> BTreeSet<String> {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("no {from} in the source"));
    let (part, _) = rest.split_once(to).unwrap_or_else(|| panic!("no {to} after {from}"));
    part.split('"').skip(1).step_by(2).map(Into::into).collect()
}

fn help(args: &[&str]) -> String {
    Rollforward::new(args).run_to_end(SOON).expect(0).stdout
}

#[track_caller]
fn assert_equal(what: &str, page: &BTreeSet<String>, program: &BTreeSet<String>) {
    assert!(program.len() > 3, "hardly any {what} in the program: {program:?}");
    let missing: Vec<_> = program.difference(page).collect();
    let superfluous: Vec<_> = page.difference(program).collect();
    assert!(missing.is_empty(), "{what} that the page lacks: {missing:?}");
    assert!(superfluous.is_empty(), "{what} that only the page has: {superfluous:?}");
}

#[test]
fn the_page_has_exactly_the_options_of_the_program() {
    // `-r, --repo DIR`: the long name, the short one, what its value is called.
    let program: BTreeSet<String> = help(&["--help"])
        .lines()
        .filter(|l| l.starts_with("  -") || l.starts_with("      --"))
        .map(|l| {
            let mut words = l.split_whitespace();
            let mut name = words.next().unwrap().to_string();
            if !name.starts_with("--") {
                name += &format!(" {}", words.next().unwrap());
            }
            let value = words.next().unwrap();
            let has_value = value.chars().all(|c| !c.is_ascii_lowercase());
            let value = value.split(['[', ':']).next().unwrap();
            if has_value { format!("{name} {value}") } else { name }
        })
        .collect();
    let page: BTreeSet<String> = section("OPTIONS")
        .iter()
        .filter_map(|l| l.strip_prefix(".It Fl "))
        .map(|l| {
            let (flags, value) = l.split_once(" Ar ").unwrap_or((l, ""));
            let flags = flags.replace("Fl ", "-").replace(" ,", ",");
            let value = value.split_whitespace().next().unwrap_or_default();
            format!("-{flags} {value}").trim().to_string()
        })
        .collect();
    assert_equal("options", &page, &program);
}

#[test]
fn the_page_has_exactly_the_commands_of_the_program() {
    let help = help(&["--help"]);
    let (_, list) = help.split_once("\ncommands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let program: BTreeSet<String> =
        list.lines().map(|l| l.split_whitespace().next().unwrap().into()).collect();
    assert_equal("commands", &items("DESCRIPTION", "Cm"), &program);
    let synopsis = section("SYNOPSIS");
    for command in &program {
        let line = format!(".Cm {command}");
        assert!(synopsis.contains(&line), "{command} is not in the synopsis");
    }
}

#[test]
fn defaults_of_the_help_are_those_of_the_page() {
    let page = section("OPTIONS").join("\n");
    for line in help(&["--help"]).lines().filter(|l| l.contains("--") && l.ends_with("]")) {
        if line.contains("--defaults-file") {
            continue; // Its brackets are those of groups.
        }
        let (_, default) = line.rsplit_once('[').unwrap();
        let default = default.trim_end_matches(']');
        let option = line.split("--").nth(1).and_then(|l| l.split_whitespace().next()).unwrap();
        let item = format!("Fl Fl {option} ");
        let (_, text) = page.split_once(&item).unwrap_or_else(|| panic!("no {item}"));
        let text = text.split("\n.It ").next().unwrap();
        let said = match default {
            "cores" => "number of processors",
            "refuse" => ".Cm refuse",
            "SCRATCH/checkpoint" => ".Pa checkpoint",
            other => &format!("default is {other}"),
        };
        assert!(text.contains(said), "--{option}: '{said}' is not in {text}");
    }
}

#[test]
fn every_exit_status_is_in_the_page_and_help() {
    let text = source("error.rs");
    let (_, body) = text.split_once("pub fn exit_status").unwrap();
    let (body, _) = body.split_once("\n    }\n").unwrap();
    let numbers = body.split(|c: char| !c.is_ascii_digit()).filter(|w| w.len() < 3);
    let mut program: BTreeSet<String> =
        numbers.filter(|w| !w.is_empty() && *w != "8").map(Into::into).collect();
    program.extend(["0".into(), "3".into(), "128+".into()]);
    let status = section("EXIT STATUS");
    let page: BTreeSet<String> = status
        .iter()
        .filter_map(|l| l.strip_prefix(".It "))
        .map(|l| l.split_whitespace().next().unwrap().into())
        .collect();
    assert_equal("exit statuses", &page, &program);
    let help = help(&["--help"]);
    let (_, line) = help.split_once("exit status: ").unwrap();
    for status in program {
        assert!(line.split([' ', '\n', 'n']).any(|w| w == status), "{status} in the help: {line}");
    }
}

#[test]
fn the_page_has_exactly_the_causes_of_the_program() {
    let program = quoted_between(&source("error.rs"), "pub fn cause", "\n    }\n");
    assert_equal("causes", &items("DIAGNOSTICS", "Sy"), &program);
}

#[test]
fn the_page_has_exactly_the_checkpoint_keys() {
    let mut program = quoted_between(&source("checkpoint.rs"), "const KEYS", "];");
    program.insert("format".into());
    assert_equal("checkpoint keys", &items("CHECKPOINT", "Va"), &program);
}

#[test]
fn the_page_has_exactly_the_phases_of_the_program() {
    let mut program = BTreeSet::new();
    for entry in fs::read_dir(root().join("src")).unwrap().flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let text = text.split("#[cfg(test)]").next().unwrap();
        let calls = text.split("checkpoint.phase(\"").skip(1);
        program.extend(calls.map(|c| c.split('"').next().unwrap().to_string()));
    }
    let text = section("CHECKPOINT").join("\n");
    let (_, text) = text.split_once(".It Va phase\n").unwrap();
    let (text, _) = text.split_once("\n.It ").unwrap();
    let page = text.lines().filter_map(|l| l.strip_prefix(".Sy "));
    let page = page.map(|l| l.trim_end_matches([' ', ',', '.']).to_string()).collect();
    assert_equal("phases", &page, &program);
}

#[test]
fn the_grants_of_the_page_are_those_that_are_checked() {
    let text = source("privileges.rs");
    let examples = section("EXAMPLES").join("\n");
    for (name, end) in [("NIGHTLY", "];"), ("DUMP", "];")] {
        let from = format!("pub const {name}: &[&str] = &[");
        let (_, rest) = text.split_once(&from).unwrap();
        let (list, _) = rest.split_once(end).unwrap();
        let grants: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        let line = format!("GRANT {}", grants.join(", "));
        assert!(examples.contains(&line), "'{line}' is not among the examples");
    }
}

/// Says loudly that a test is skipped; panics where `CI` is set.
fn missing(program: &str) -> bool {
    if find_program(program).is_some() {
        return false;
    }
    assert!(std::env::var_os("CI").is_none(), "{program} is not installed: 'make deps'");
    let line = format!("\n*** SKIPPED, {program} is not installed ('make deps'): the page ***\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    true
}

#[test]
fn the_page_is_clean_under_mandoc() {
    if missing("mandoc") {
        return;
    }
    let mut lint = Command::new("mandoc");
    // Ends 0 only if there is nothing of that level to say.
    assert_eq!(run_helper(lint.args(["-Tlint", "-Wwarning"]).arg(page_path()), ""), "");
}

/// The shell lines under "Without rollforward", as a reader sees them on a terminal.
fn shell_lines() -> String {
    let mut mandoc = Command::new("mandoc");
    let text = run_helper(mandoc.args(["-Tascii", "-Owidth=120"]).arg(page_path()), "");
    // Bold and underlined letters come as letter, backspace, letter.
    let mut plain = String::new();
    for c in text.chars() {
        if c == '\u{8}' {
            plain.pop();
        } else {
            plain.push(c);
        }
    }
    let (_, rest) = plain.split_once("Without rollforward\n").expect("the heading");
    let lines = rest.lines().skip_while(|l| !l.trim_start().starts_with("repo="));
    let first = lines.clone().next().expect("the first line");
    let indent = first.len() - first.trim_start().len();
    let lines =
        lines.take_while(|l| l.trim().is_empty() || l.len() - l.trim_start().len() >= indent);
    lines.map(|l| l.get(indent..).unwrap_or("").to_string() + "\n").collect()
}

#[test]
fn the_shell_lines_of_the_page_take_a_backup_out() {
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

    let taken = scene.path("taken-out");
    let script: String = shell_lines()
        .lines()
        .map(|line| {
            let line = match line.split_once('=') {
                Some(("repo", _)) => format!("repo={}", scene.repo.display()),
                Some(("manifest", _)) => format!("manifest=$repo/backups/{backup}"),
                Some(("to", _)) => format!("to={}", taken.display()),
                _ => line.to_string(),
            };
            line + "\n"
        })
        .collect();
    let printed = run_helper(Command::new("sh").args(["-eu", "-c", &script]), "");
    // The sum of the manifest, and the same in its last line.
    let sums: Vec<&str> = printed.split_whitespace().filter(|w| w.len() == 64).collect();
    assert!(sums.len() == 2 && sums[0] == sums[1], "{printed}\n{script}");
    let restored = scene.restore(None);
    run_helper(Command::new("diff").arg("-r").arg(&restored).arg(&taken), "");

    // A block that does not match is said, in the name of its sum.
    let pack = manifest.lines().find_map(|l| l.strip_prefix("pack ")).unwrap();
    let name = pack.split(' ').next().unwrap();
    let path = scene.repo.join("packs").join(&name[..2]).join(name);
    fs::write(&path, vec![0; fs::metadata(&path).unwrap().len() as usize]).unwrap();
    fs::remove_dir_all(&taken).unwrap();
    let bad = format!("{{ {script} }} 2>&1 || :");
    let printed = run_helper(Command::new("sh").args(["-c", &bad]), "");
    assert!(printed.contains("FAILED") || printed.contains("WARNING"), "{printed}");
}
