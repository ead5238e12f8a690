//! A scratch disk that has room for a pass, and none for its journal.

use crate::disk::{on, restored_space, running};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::small_disk::SmallDisk;
use crate::support::{Proxy, Scene, Server};

const MIB: u64 = 1 << 20;

/// Statements of a MiB that change one row, so many that there is a log for each eight of them.
fn long_statements(scene: &Scene, mib: u64) {
    scene.primary.sql("SET SESSION binlog_format = 'STATEMENT'");
    for number in 0..mib {
        let text = "x".repeat(MIB as usize);
        scene
            .primary
            .sql(&format!("UPDATE shop.t0 SET n = LENGTH('{text}') + {number} WHERE id = 1"));
        if number % 8 == 7 {
            scene.primary.sql("FLUSH BINARY LOGS");
        }
    }
}

#[test]
fn a_disk_without_room_for_a_journal_costs_only_that() {
    need_server!();
    let scene = Scene::seeded("kept-logs");
    let disk = SmallDisk::new("small", restored_space(&scene) + running() + 60 * MIB);
    long_statements(&scene, 20);
    on(&scene, &disk, "run").run_to_end(COMMAND_PATIENCE).expect(0).says("kept a journal from ");
    // More than there is room for, had they to stay.
    long_statements(&scene, 160);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(40 << 20);
    let ended = on(&scene, &disk, "run").args(["--primary", &proxy.address()]);
    let ended = ended.run_to_end(COMMAND_PATIENCE).expect(0);
    assert_eq!(ended.stderr.matches("warning: ").count(), 1, "{ended}");
    let ended = ended.says("warning: this pass keeps no journal: no room in the scratch directory");
    let windows = scene.command("list").arg("--windows").run_to_end(COMMAND_PATIENCE).expect(0);
    assert!(windows.stdout.contains(": no room in the scratch directory"), "{ended}{windows}");
    // The next one begins anew.
    long_statements(&scene, 8);
    on(&scene, &disk, "run").run_to_end(COMMAND_PATIENCE).expect(0).says("kept a journal from ");
    let restored = Server::start_on(&scene.restore(None));
    assert_eq!(restored.value("SELECT n FROM shop.t0 WHERE id = 1"), (MIB + 7).to_string());
}
