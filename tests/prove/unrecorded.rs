//! A proof that nobody would learn of.

use std::fs;

use super::{LONG, prove};
use crate::support::{Rollforward, Scene};

#[test]
fn a_proof_that_cannot_be_recorded_is_not_begun() {
    need_server!();
    let scene = Scene::seeded("no-record");
    let backup = scene.backups().pop().unwrap();
    let proofs = scene.repo.join("proofs");
    // In the way of what is written there, also by root.
    for place in [proofs.join(format!("{backup}.new")), proofs.join("lock")] {
        let _ = fs::remove_file(&place);
        fs::create_dir_all(place.join("in/the/way")).unwrap();
        let ended = prove(&scene);
        assert!([1, 2].contains(&ended.status), "{ended}");
        let ended = ended.says(&format!("{}/", proofs.display()));
        assert!(!ended.stderr.contains("proved "), "{ended}");
        assert!(!scene.scratch.join("proof").exists(), "{ended}");
        fs::remove_dir_all(&place).unwrap();
    }
    prove(&scene).expect(0).says("proved ");
}

/// On another machine, where no pass has ever run.
#[test]
fn a_first_proof_that_fails_leaves_a_scratch_directory() {
    need_server!();
    let scene = Scene::seeded("first-proof");
    let backup = scene.backups().pop().unwrap();
    let manifest = scene.repo.join("backups").join(&backup);
    let text = fs::read(&manifest).unwrap();
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    let scratch = scene.path("elsewhere");
    // The last one counts.
    let there = |command: Rollforward| command.arg("--scratch").arg(&scratch);
    let prove = || there(scene.command("prove")).run_to_end(LONG);
    prove().expect(1).says("backup-damaged");
    prove().expect(1).says("backup-damaged");
    fs::write(&manifest, &text).unwrap();
    prove().expect(0).says("proved ");
}
