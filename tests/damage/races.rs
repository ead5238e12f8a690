//! Somebody who may write in the target puts links to elsewhere in place of directories while they
//! are worked on.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Copy, PATIENCE, sample};
use crate::support::intruder::{Swapper, outside};
use crate::support::repository::{flip_bit, frames_of, pack_path, tree};

/// How often the race is run.
const TIMES: u32 = 20;

#[test]
fn swapping_a_directory_for_a_link_misleads_no_restore() {
    need_server!();
    let all = sample();
    let (mut swaps, mut well) = (0, 0);
    for time in 0..TIMES {
        let case = Copy::new("exchanged while it is restored");
        let outside = outside(case.dir.path());
        let before = tree(&outside);
        let to = case.dir.path().join("work/to");
        fs::create_dir(&to).unwrap();
        let link = case.dir.path().join("link");
        // A directory in the target, or every second time the target itself.
        let place = if time % 2 == 0 { to.join("shop") } else { to.clone() };
        symlink(&outside, &link).unwrap();
        if time % 4 >= 2 {
            // One that fails, and cleans up behind itself.
            let frames = frames_of(&case.repo, &all.newer, &all.shared);
            flip_bit(&pack_path(&case.repo, &all.shared), frames.last().unwrap().0);
        }
        let swapper = Swapper::start(&place, &link);
        let outcome = case.command("restore").arg("--to").arg(&to).run_to_end(PATIENCE);
        swaps += swapper.end();
        assert!(outcome.status <= 2 && !outcome.stderr.contains("panicked"), "{outcome}");
        assert_eq!(tree(&outside), before, "{outcome}");
        well += u32::from(outcome.status == 0);
    }
    println!("{swaps} swaps in {TIMES} restores, {well} of which went well");
    assert!(swaps > u64::from(TIMES), "{swaps}");
}
