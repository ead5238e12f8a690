//! The manual pages say what the program has, all of it and nothing else.
//!
//! Options and commands are asked of the real binary; causes, checkpoint keys, phases and grants
//! of its library. What the pages tell a reader to type is run in `recipes`.

mod papers;
mod recipes;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rollforward::error::Cause;
use rollforward::replication::privileges;
use rollforward::report::keys::{Key, Phase, State};

use crate::support::{Rollforward, find_program, run_helper};

const SOON: Duration = Duration::from_secs(30);
const MAIN: &str = "rollforward.8";
const FORMAT: &str = "rollforward-format.5";
const RECOVERY: &str = "rollforward-recovery.7";
const MONITORING: &str = "rollforward-monitoring.7";
const PAGES: [&str; 5] = [MAIN, FORMAT, MONITORING, RECOVERY, "rollforward-mirror.8"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page_path(name: &str) -> PathBuf {
    root().join("man").join(name)
}

/// The source of a page.
fn page(name: &str) -> String {
    fs::read_to_string(page_path(name)).unwrap()
}

fn source(file: &str) -> String {
    fs::read_to_string(root().join("src").join(file)).unwrap()
}

/// The lines of a section `.Sh NAME` of a page.
fn section(of: &str, name: &str) -> Vec<String> {
    let page = page(of);
    let heading = format!(".Sh {name}");
    let lines = page.lines().skip_while(|l| *l != heading).skip(1);
    let lines: Vec<String> = lines.take_while(|l| !l.starts_with(".Sh ")).map(Into::into).collect();
    assert!(!lines.is_empty(), "{of} has no section {name}");
    lines
}

/// The words after `.It MACRO` in a section: `a` and `b` of `.It Va a , b`.
fn items(page: &str, name: &str, of: &str) -> BTreeSet<String> {
    let lines = section(page, name);
    let items = lines.iter().filter_map(|l| l.strip_prefix(&format!(".It {of} ")));
    items.flat_map(str::split_whitespace).filter(|w| *w != ",").map(Into::into).collect()
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
    let page: BTreeSet<String> = section(MAIN, "OPTIONS")
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
    assert_equal("commands", &items(MAIN, "DESCRIPTION", "Cm"), &program);
    let synopsis = section(MAIN, "SYNOPSIS");
    for command in &program {
        let line = format!(".Cm {command}");
        assert!(synopsis.contains(&line), "{command} is not in the synopsis");
    }
}

#[test]
fn defaults_of_the_help_are_those_of_the_page() {
    let page = section(MAIN, "OPTIONS").join("\n");
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
    let status = section(MAIN, "EXIT STATUS");
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
    let program = Cause::ALL.iter().map(Cause::to_string).collect();
    assert_equal("causes", &items(MONITORING, "CAUSES", "Sy"), &program);
}

#[test]
fn the_page_has_exactly_the_checkpoint_keys() {
    let mut program: BTreeSet<String> = Key::ALL.iter().map(Key::to_string).collect();
    program.insert("format".into());
    assert_equal("checkpoint keys", &items(FORMAT, "CHECKPOINT", "Va"), &program);
}

/// The words `.Sy` of a key of the checkpoint.
fn values(key: &str) -> BTreeSet<String> {
    let text = section(FORMAT, "CHECKPOINT").join("\n");
    let (_, text) = text.split_once(&format!(".It Va {key}\n")).unwrap();
    let (text, _) = text.split_once("\n.It ").unwrap();
    let words = text.lines().filter_map(|l| l.strip_prefix(".Sy "));
    words.map(|l| l.trim_end_matches([' ', ',', '.']).to_string()).collect()
}

#[test]
fn the_page_has_exactly_the_phases_of_the_program() {
    let phases = Phase::ALL.iter().map(Phase::to_string).collect();
    assert_equal("phases", &values("phase"), &phases);
    let states = State::ALL.iter().map(State::to_string).collect();
    assert_equal("states", &values("state"), &states);
}

#[test]
fn the_grants_of_the_page_are_those_that_are_checked() {
    let examples = section(MAIN, "EXAMPLES").join("\n");
    for grants in [privileges::NIGHTLY, privileges::DUMP, privileges::CLONE] {
        let line = format!("GRANT {}", grants.join(", "));
        // Some views need EXECUTE, and it is asked for only where one fails.
        let line = line.replace("EVENT,", "EVENT, EXECUTE,");
        assert!(examples.contains(&line), "'{line}' is not among the examples");
    }
}

#[test]
fn the_main_page_has_at_most_5000_words() {
    let words = page(MAIN).split_whitespace().count();
    assert!(words <= 5000, "{words} words by wc -w: move something to another page");
}

#[test]
fn the_main_page_names_every_page_and_references_lead_somewhere() {
    let main = page(MAIN);
    for name in PAGES {
        let (title, section) = name.rsplit_once('.').unwrap();
        let text = page(name);
        let heading = format!(".Dt {} {section}\n", title.to_uppercase());
        assert!(text.contains(&heading), "{name}: {heading}");
        assert!(main.contains(&format!(".Xr {title} {section}")) || name == MAIN, "{name}");
        for line in text.lines() {
            if let Some(other) = line.strip_prefix(".Xr rollforward") {
                let words: Vec<&str> = other.split(' ').collect();
                let suffix = if other.starts_with(' ') { "" } else { words[0] };
                let file = format!("rollforward{suffix}.{}", words[1]);
                assert!(PAGES.contains(&file.as_str()), "{name}: there is no {file}");
            }
            if let Some(heading) = line.strip_prefix(".Sx ") {
                let heading = heading.trim_end_matches([' ', '.', ',']);
                let found = [".Sh", ".Ss"]
                    .iter()
                    .any(|h| text.lines().any(|l| l == format!("{h} {heading}")));
                assert!(found, "{name} has no section {heading}");
            }
        }
    }
    assert_eq!(fs::read_dir(root().join("man")).unwrap().count(), PAGES.len());
}

/// Calls `look` with each file of the sources, its tests cut off.
fn for_each_source(dir: &Path, look: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            for_each_source(&path, look);
        } else if let Ok(text) = fs::read_to_string(&path) {
            look(&path, text.split("#[cfg(test)]").next().unwrap());
        }
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
fn all_pages_are_clean_under_mandoc() {
    if missing("mandoc") {
        return;
    }
    let mut lint = Command::new("mandoc");
    // Ends 0 only if there is nothing of that level to say.
    lint.args(["-Tlint", "-Wwarning"]).args(PAGES.map(page_path));
    assert_eq!(run_helper(&mut lint, ""), "");
}
