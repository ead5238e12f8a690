//! The progress line on a terminal, which is drawn nowhere else.
use std::time::Duration;

use crate::support::{Proxy, Rollforward, Scene};

const PATIENCE: Duration = Duration::from_secs(120);

/// The lines that a terminal is shown of each of `steps`.
fn drawn(command: Rollforward, steps: &[&str]) -> Vec<Vec<String>> {
    let shown = command
        .under(["sh", "-c", r#"exec script -qec "$*" /dev/null"#, "sh"])
        .run_to_end(PATIENCE)
        .expect(0)
        .stdout;
    let lines = |step: &&str| {
        let start = format!("{step}: ");
        let pieces = shown.split(['\r', '\n', '\x1b']);
        let pieces = pieces.filter_map(|p| p.find(&start).map(|at| p[at..].to_string()));
        pieces.collect::<Vec<_>>()
    };
    let all: Vec<Vec<String>> = steps.iter().map(lines).collect();
    for (step, lines) in steps.iter().zip(&all) {
        assert!(!lines.is_empty(), "nothing of {step} in {shown:?}");
        assert!(lines.iter().all(|l| l.contains(" %, ") && l.contains(" of ")), "{lines:?}");
    }
    all
}

#[test]
fn each_long_step_shows_its_progress_on_a_terminal() {
    need_server!();
    let scene = Scene::new("progress");
    scene.primary.fill("shop", 3, 40_000);
    // About 17 MB of rows take seconds, however fast the machine is.
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(4 << 20);
    let seed = scene.command("seed").args(["--from", "dump", "--primary", &proxy.address()]);
    let dump = drawn(seed, &["dump", "store"]).swap_remove(0);
    let whole = |l: &String| l.contains("/s, ") && l.ends_with(" left");
    assert!(dump.iter().any(whole), "no rate and time left in {dump:?}");
    let percent = |l: &String| l["dump: ".len()..].split(' ').next()?.parse::<u32>().ok();
    let percents: Vec<u32> = dump.iter().filter_map(percent).collect();
    assert!(percents.is_sorted() && percents.last() > Some(&50), "{dump:?}");

    scene.primary.slow_backlog("shop", 4, 0.5);
    let lines = drawn(scene.command("run"), &["restore", "catch-up", "store"]);
    assert!(lines[1].iter().all(|l| l.contains(" transactions")), "{:?}", lines[1]);
    drawn(scene.command("verify"), &["verify"]);

    // In a log a minute must pass first.
    let log = scene.run().expect(0).stderr;
    assert!(!log.contains(" %, "), "{log}");
}
