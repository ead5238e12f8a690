//! TERM at random moments, with tables and transactions that a killed server would spoil: the private
//! server is always shut down and never killed. `ROUNDS` for more, `SEED` for the same again.

use std::time::{Duration, Instant};

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{PATIENCE, Replica, Scene};
use crate::torture::plan::Dice;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().filter(|v| !v.is_empty()).map_or(usual, |v| v.parse().unwrap())
}

#[test]
fn a_stop_at_any_moment_kills_no_server() {
    need_server!();
    let seed = number("SEED", std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs());
    let rounds = number("ROUNDS", 20);
    let scene = Scene::seeded("stops");
    scene.primary.sql(
        "CREATE TABLE shop.isam (id INT PRIMARY KEY AUTO_INCREMENT, n INT, KEY (n)) ENGINE=MyISAM",
    );
    let write = || {
        scene.primary.slow_backlog("shop", 4, 0.3);
        scene.primary.sql(
            "INSERT INTO shop.isam (n) SELECT n FROM shop.t0 LIMIT 200; \
             UPDATE shop.isam SET n = n + 1 WHERE id % 3 = 0; \
             UPDATE shop.t0 SET n = n + 1",
        );
    };
    write();
    let began = Instant::now();
    scene.run().expect(0);
    let whole = began.elapsed().as_millis() as u64;
    let mut phases = std::collections::BTreeMap::<String, u32>::new();
    for round in 0..rounds {
        let mut dice = Dice::new(seed, round);
        write();
        let keep = ["--keep-count=2", "--keep-scratch"][dice.below(2) as usize];
        let pass = scene.command("run").arg(keep).spawn();
        std::thread::sleep(Duration::from_millis(dice.below(whole + whole / 10)));
        let told = Instant::now();
        pass.kill(libc::SIGTERM);
        let ended = pass.finish(PATIENCE);
        let what = format!("SEED={seed}, round {round}: {ended}");
        assert!(matches!(ended.status, 0 | 143), "{what}");
        for word in ["not shut down cleanly", "discarding", "mysqld-died", "mysqld-hung", "killed"]
        {
            assert!(!ended.stderr.contains(word), "{word}: {what}");
        }
        assert!(told.elapsed() < Duration::from_secs(20), "{what}");
        let checkpoint = scene.checkpoint();
        let phase = if ended.status == 0 {
            "none, done"
        } else {
            checkpoint.get("phase").unwrap_or("none yet")
        };
        *phases.entry(phase.to_string()).or_default() += 1;
        scene.assert_nothing_left();
    }
    println!("stops: SEED={seed}, {rounds} rounds, by phase: {phases:?}");
    // It may have to catch up with all that the rounds left.
    scene.command("run").run_to_end(COMMAND_PATIENCE * 5).expect(0);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}
