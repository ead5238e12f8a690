//! Somebody who may write in the target, as the private mysqld's user may in the scratch
//! directory, puts links to elsewhere in place of directories while they are worked on.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::{Copy, PATIENCE, sample};
use crate::support::repository::{flip_bit, frames_of, pack_path, tree};
use crate::support::{Scene, wait_until};

/// How often each race is run.
const TIMES: u32 = 20;

/// Exchanges a name and a link all the while, until it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    /// `place` need not be there yet. It is what it was whenever `link` is a link.
    fn start(place: &Path, link: &Path) -> Swapper {
        let c_string = |p: &Path| CString::new(p.as_os_str().as_bytes()).unwrap();
        let (place, link) = (c_string(place), c_string(link));
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), swaps.clone());
        let thread = std::thread::spawn(move || {
            let exchange = || {
                // SAFETY: both are valid C strings.
                let done = unsafe {
                    let here = libc::AT_FDCWD;
                    let flags = libc::RENAME_EXCHANGE;
                    libc::renameat2(here, place.as_ptr(), here, link.as_ptr(), flags)
                };
                done == 0
            };
            while !stopped.load(Ordering::Relaxed) {
                if exchange() {
                    counted.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                    exchange();
                }
                std::thread::yield_now();
            }
        });
        Swapper { stop, swaps, thread: Some(thread) }
    }

    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.swaps.load(Ordering::Relaxed)
    }
}

/// A directory outside, with files called like those of a database and like nothing in it.
fn outside(dir: &Path) -> PathBuf {
    let outside = dir.join("outside");
    fs::create_dir_all(outside.join("shop")).unwrap();
    for name in ["t0.ibd", "t1.frm", "db.opt", "surplus"] {
        fs::write(outside.join(name), "precious").unwrap();
        fs::write(outside.join("shop").join(name), "precious").unwrap();
    }
    outside
}

#[test]
fn a_directory_exchanged_for_a_link_while_it_is_restored_leads_nowhere() {
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

#[test]
fn a_directory_exchanged_for_a_link_while_old_data_is_cleared_leads_nowhere() {
    need_server!();
    let scene = Scene::seeded("races");
    let dir = scene.path("");
    let outside = outside(&dir);
    let before = tree(&outside);
    let link = scene.path("link");
    symlink(outside.join("shop"), &link).unwrap();
    // It is restored, and then the server does not start: the data goes.
    let no_server = scene.path("no-server");
    fs::write(&no_server, "#!/bin/sh\nexit 1\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&no_server, mode).unwrap();
    let data = scene.scratch.join("data");
    let mut swaps = 0;
    for _ in 0..TIMES {
        fs::create_dir_all(data.join("shop")).unwrap();
        fs::write(scene.scratch.join("state"), "format=1\nstage=kept\n").unwrap();
        for surplus in 0..300 {
            fs::write(data.join("shop").join(format!("surplus-{surplus}")), "x").unwrap();
        }
        fs::write(data.join("shop/surplus"), "x").unwrap();
        let swapper = Swapper::start(&data.join("shop"), &link);
        wait_until("the first swap", PATIENCE, || swapper.swaps.load(Ordering::Relaxed) > 0);
        let pass = scene.command("run").arg("--mysqld").arg(&no_server);
        let outcome = pass.arg("--max-failures=0").run_to_end(PATIENCE);
        swaps += swapper.end();
        assert!(outcome.status == 1 || outcome.status == 75, "{outcome}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
        assert_eq!(tree(&outside), before, "{outcome}");
        let _ = fs::remove_dir_all(&data);
        if link.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            // It was taken away between the two halves of an exchange.
            fs::remove_dir_all(&link).unwrap();
        }
        if link.symlink_metadata().is_err() {
            symlink(outside.join("shop"), &link).unwrap();
        }
    }
    println!("{swaps} swaps in {TIMES} passes");
    scene.run().expect(0);
    assert_eq!(tree(&outside), before);
}
