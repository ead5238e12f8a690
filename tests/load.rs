//! Many rows and a primary that never stops writing: the copy is equal all the same.

use std::time::Duration;

use crate::support::{PASSWORD, Replica, Scene, Writer, flavor, rows};

/// Between two writes: none where the server is quick.
fn pause(milliseconds: u64) -> Duration {
    flavor::either(Duration::ZERO, Duration::from_millis(milliseconds))
}

#[test]
fn two_passes_under_load_equal_a_replica() {
    need_server!();
    let scene = Scene::new("load");
    let replica = Replica::start(&scene.primary);
    scene.primary.fill("shop", 5, rows(100_000) / 5);
    // On MySQL slowly while it is dumped: its load takes long, and the way afterwards with it.
    let quiet = Writer::start_with(&scene.primary, "live", pause(5), false);
    quiet.wait_for_more(200);
    scene.seed();
    quiet.stop();
    // Tables that come and go would spoil a dump; a pass replays them.
    let writer = Writer::start_with(&scene.primary, "live", pause(1), true);
    for _ in 0..2 {
        writer.wait_for_more(2000);
        let goal_before = scene.primary.gtid_pos();
        scene.run().expect(0);
        writer.wait_for_more(100);
        // The primary went on all the while; the pass ended at what it had in the beginning.
        assert_ne!(scene.newest_position(), goal_before);
        assert_ne!(scene.newest_position(), scene.primary.gtid_pos());
    }
    assert!(writer.stop() > 4000);
    let position = scene.assert_newest_equals(&replica);
    assert_eq!(scene.checkpoint().get("position"), Some(position.as_str()));
    for left in ["skip-grants", PASSWORD] {
        let files = scene.files_with(&scene.restore(None), left);
        assert!(files.is_empty(), "'{left}' in {files:?}");
    }
    assert!(scene.leftover_processes().is_empty());
}
