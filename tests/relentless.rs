//! A follower of which something is killed all the time, and then the primary: nothing is missing.

use std::fs;
use std::time::{Duration, Instant};

use crate::follow::{end, follower, server, value, wait_for_end, written};
use crate::support::{Proxy, Scene, Writer, kill, try_kill};
use crate::until::gtids;

const LONG: Duration = Duration::from_secs(120);

/// How long: a minute, or the seconds in `ROLLFORWARD_FOLLOW_SECONDS`.
fn duration() -> Duration {
    let seconds = std::env::var("ROLLFORWARD_FOLLOW_SECONDS").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

#[test]
fn kills_all_the_time_lose_nothing() {
    need_server!();
    let mut scene = Scene::seeded("relentless");
    let writer = Writer::start_with(&scene.primary, "busy", Duration::from_millis(2), true);
    let proxy = Proxy::start(&scene.primary);
    let follow = |scene: &Scene| follower(scene).arg(format!("--primary={}", proxy.address()));
    let mut run = follow(&scene).spawn();
    run.wait_for_log("following ", LONG);
    let (began, mut strikes) = (Instant::now(), 0);
    while began.elapsed() < duration() {
        writer.wait_for_more(50);
        match strikes % 5 {
            0 => drop(try_kill(server(&scene), libc::SIGKILL)),
            1 => {
                kill(run.pid(), libc::SIGKILL);
                run.finish(LONG).expect(256 + libc::SIGKILL);
                run = follow(&scene).spawn();
            }
            2 => proxy.interrupt(),
            3 => {
                scene.primary.kill9();
                scene.primary.restart();
            }
            _ => {
                scene.run().expect(0);
            }
        }
        strikes += 1;
        std::thread::sleep(Duration::from_secs(3));
    }
    writer.stop();
    let last = gtids(&scene.primary).pop().unwrap();
    let position = scene.primary.gtid_pos();
    let expected = scene.primary.value(&written());
    wait_for_end(&scene, &position);
    scene.primary.kill9();
    fs::remove_dir_all(scene.primary.datadir()).unwrap();
    assert_eq!(end(&scene), position);
    let (kept, ended) = value(&scene, &last, &written());
    assert_eq!(kept, expected, "after {strikes} strikes: {ended}");
    let windows = scene.command("list").arg("--windows").run_to_end(LONG).expect(0);
    assert!(!windows.stdout.contains("gap"), "{windows}");
    println!("{strikes} strikes, {}", windows.stdout);
    run.kill(libc::SIGTERM);
    run.finish(LONG).expect(143);
}
