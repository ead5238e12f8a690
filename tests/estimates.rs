//! The time left that a terminal shows is close to the truth. Each step that reads or writes
//! blocks is slowed down until it lasts a minute or more, and what was drawn in its second half is
//! compared with what it took. A dump's total is an estimate by the primary's statistics, so a dump
//! is not measured here.
//!
//! It takes long and is run by hand: `make estimates`. `ROLLFORWARD_MB` is the size of the data,
//! `ROLLFORWARD_CORE` the thousandths of a core that the program gets.
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::limits::Cgroup;
use crate::support::{Rollforward, Scene, wait_until};

/// For a step that takes minutes.
const PATIENCE: Duration = Duration::from_secs(1800);
/// The largest relative error.
const WITHIN: f64 = 0.25;

fn number(key: &str, default: u32) -> u32 {
    std::env::var(key).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Seconds since the start, and the line that was drawn then.
type Drawn = Vec<(f64, String)>;

/// What the program drew on a terminal, as `script` recorded it in `at`.
fn drawn(at: &Path) -> Drawn {
    let (timing, text) = (fs::read_to_string(at.join("timing")), fs::read(at.join("text")));
    let text = text.unwrap();
    // The first line is a header of `script`.
    let mut from = text.iter().position(|b| *b == b'\n').map_or(0, |n| n + 1);
    let (mut now, mut all) = (0.0, Drawn::new());
    for line in timing.unwrap().lines() {
        let (delay, size) = line.split_once(' ').expect("delay and size");
        now += delay.parse::<f64>().unwrap();
        let to = (from + size.parse::<usize>().unwrap()).min(text.len());
        let piece = String::from_utf8_lossy(&text[from..to]).into_owned();
        all.extend(piece.split(['\r', '\n', '\x1b']).map(|p| (now, p.to_string())));
        from = to;
    }
    all
}

/// `1m5s` in seconds.
fn seconds(text: &str) -> Option<f64> {
    let mut all = 0.0;
    for part in text.split_inclusive(['h', 'm', 's']) {
        let (value, unit) = part.split_at(part.len() - 1);
        let times = [("h", 3600.0), ("m", 60.0), ("s", 1.0)].iter().find(|t| t.0 == unit)?.1;
        all += value.parse::<f64>().ok()? * times;
    }
    Some(all)
}

/// Compares what was drawn of a step with the truth and prints that. Returns how many lines were
/// too far off.
fn judge(step: &str, all: &Drawn) -> usize {
    let start = format!("{step}: ");
    let of_it: Vec<(f64, &str)> =
        all.iter().filter_map(|(t, l)| l.find(&start).map(|at| (*t, &l[at..]))).collect();
    let (begin, end) = (of_it.first().expect(step).0, of_it.last().expect(step).0);
    let half: Vec<_> = of_it.iter().filter(|(t, _)| *t > (begin + end) / 2.0).collect();
    let mut far = Vec::new();
    let (mut said, mut worst) = (0, 0.0_f64);
    for (then, line) in &half {
        let words = line.trim_end().strip_suffix(" left").and_then(|l| l.rsplit(' ').next());
        let Some(left) = words.and_then(seconds) else { continue };
        said += 1;
        let off = left / (end - then).max(0.1) - 1.0;
        if off.abs() > worst.abs() {
            worst = off;
        }
        if off.abs() > WITHIN {
            far.push(format!("{:.0}s left: {line}", end - then));
        }
    }
    println!(
        "{step}: {:.0} s, {} lines in its second half, {said} with a number, {} of those off by \
         more than a quarter, the worst by {:.0} %",
        end - begin,
        half.len(),
        far.len(),
        worst * 100.0
    );
    far.iter().step_by((far.len() / 5).max(1)).for_each(|line| println!("    {line}"));
    assert!(end - begin > 60.0, "{step} lasted {:.0} s only", end - begin);
    assert!(said > 0, "no number at all");
    far.len()
}

/// Runs a command on a terminal, slowed down as soon as `slow` says so.
fn watch(scene: &Scene, name: &str, command: Rollforward, slow: impl Fn() -> bool) -> Drawn {
    let notes: PathBuf = scene.path(name);
    fs::create_dir(&notes).unwrap();
    let cpu = Cgroup::with_cpu().expect("a cgroup of the processor");
    let at = |file: &str| notes.join(file).display().to_string();
    let line = format!(
        "{}; exec script -qefc \"$*\" -O {} -T {} -m classic",
        cpu.enter(),
        at("text"),
        at("timing")
    );
    let mut running = command.under(["sh", "-c", &line, "sh"]).spawn();
    let mut is_slow = false;
    wait_until("its exit", PATIENCE, || {
        if !is_slow && slow() {
            cpu.allow(number("ROLLFORWARD_CORE", 10));
            is_slow = true;
        }
        running.has_ended()
    });
    running.finish(PATIENCE).expect(0);
    drawn(&notes)
}

#[test]
#[ignore = "it takes many minutes: `make estimates`"]
fn the_time_left_is_within_a_quarter_after_half() {
    need_server!();
    let scene = Scene::new("estimates");
    let tables = 4;
    // A row is some 180 bytes, with its index.
    scene.primary.fill("shop", tables, number("ROLLFORWARD_MB", 600) * 5500 / tables);
    scene.command("seed").args(["--from", "dump"]).run_to_end(PATIENCE).expect(0);

    let mut far = judge("verify", &watch(&scene, "v", scene.command("verify"), || true));
    let to = scene.path("restored");
    let restore = scene.command("restore").arg("--to").arg(&to);
    far += judge("restore", &watch(&scene, "r", restore, || true));
    let (from, repo) = (format!("dir:{}", to.display()), scene.path("another"));
    let seed = scene.command("seed").args(["--from", &from]).arg("--repo").arg(&repo);
    let store = || scene.checkpoint().get("phase") == Some("backup");
    far += judge("store", &watch(&scene, "s", seed, store));
    assert_eq!(far, 0);
}
