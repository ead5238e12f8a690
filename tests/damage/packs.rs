//! What becomes of a pack.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::{Copy, PATIENCE, sample};
use crate::support::repository::{Json, flip_bit, frames_of};
use crate::support::{Server, run_helper};

/// What happens to a pack, and whether a cheap look sees it.
type PackCase = (&'static str, bool, fn(&Path, &Path, &[(usize, usize)]));

const PACK_CASES: &[PackCase] = &[
    ("a bit at the start", false, |pack, _, frames| flip_bit(pack, frames[0].0)),
    ("a bit in the middle", false, |pack, _, frames| {
        let (offset, length) = frames[frames.len() / 2];
        flip_bit(pack, offset + length / 2);
    }),
    ("a bit at the end", false, |pack, _, frames| {
        let (offset, length) = frames[frames.len() - 1];
        flip_bit(pack, offset + length - 1);
    }),
    ("other content of the same size", false, |pack, _, _| {
        fs::write(pack, vec![b'x'; size(pack)]).unwrap();
    }),
    ("cut by a byte", true, |pack, _, _| cut(pack, size(pack) - 1)),
    ("cut in half", true, |pack, _, _| cut(pack, size(pack) / 2)),
    ("a byte longer", true, |pack, _, _| cut(pack, size(pack) + 1)),
    ("empty", true, |pack, _, _| cut(pack, 0)),
    ("deleted", true, |pack, _, _| fs::remove_file(pack).unwrap()),
    ("replaced by another pack", true, |pack, other, _| {
        fs::copy(other, pack).unwrap();
    }),
    ("a symbolic link to the same content", true, |pack, _, _| {
        let moved = pack.with_extension("moved");
        fs::rename(pack, &moved).unwrap();
        symlink(moved, pack).unwrap();
    }),
    ("a symbolic link to a device", true, |pack, _, _| {
        fs::remove_file(pack).unwrap();
        symlink("/dev/zero", pack).unwrap();
    }),
    ("a pipe", true, |pack, _, _| make_pipe(pack)),
    ("a directory", true, |pack, _, _| {
        fs::remove_file(pack).unwrap();
        fs::create_dir(pack).unwrap();
    }),
];

fn size(path: &Path) -> usize {
    fs::metadata(path).unwrap().len() as usize
}

fn cut(path: &Path, size: usize) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(size as u64).unwrap();
}

/// Puts a named pipe in place of a file: who opens it waits for a writer for ever.
pub fn make_pipe(path: &Path) {
    fs::remove_file(path).unwrap();
    run_helper(Command::new("mkfifo").arg(path), "");
}

#[test]
fn a_damaged_pack_is_named_and_nothing_is_restored() {
    need_server!();
    let all = sample();
    // Frames that both backups want, so that damage there spoils both.
    let of = |backup| frames_of(&all.repo, backup, &all.shared);
    let frames: Vec<_> = of(&all.older).intersection(&of(&all.newer)).copied().collect();
    for (number, (name, seen, action)) in PACK_CASES.iter().enumerate() {
        let case = Copy::new(name);
        action(&case.pack(&all.shared), &case.pack(&all.own), &frames);
        let expected = if *seen { "damaged" } else { "complete" };
        assert_eq!(case.states(), [expected, expected], "{name}");
        let restored = case.restore_fails(None, number % 2 == 0);
        case.is_damage(restored, &[&all.newer, &all.shared]);
        let older = case.restore_fails(Some(&all.older), number % 2 == 1);
        case.is_damage(older, &[&all.older, &all.shared]);
        let verified = case.run(&["verify", "--json"]);
        let json = Json::parse(&verified.stdout);
        assert_eq!(json.get("ok"), &Json::Bool(false), "{name}");
        let [damage] = json.get("damaged").list() else { panic!("{name}: {json:?}") };
        assert_eq!(damage.get("pack").str(), all.shared, "{name}");
        assert_eq!(damage.get("backups").list().len(), 2, "{name}: {json:?}");
        assert!(!damage.get("files").list().is_empty(), "{name}: it spoils no file");
        case.is_damage(verified, &[&all.older, &all.newer, &all.shared]);
        // It is out of the way now, and still said.
        assert!(case.pack(&all.shared).symlink_metadata().is_err(), "{name}: not set aside");
        assert_eq!(case.states(), ["damaged", "damaged"], "{name}");
        case.is_damage(case.run(&["verify"]), &[&all.shared]);
    }
}

#[test]
fn a_damaged_newer_pack_leaves_the_older_backup_good() {
    need_server!();
    let all = sample();
    let case = Copy::new("a pack of the newer backup");
    fs::remove_file(case.pack(&all.own)).unwrap();
    assert_eq!(case.states(), ["complete", "damaged"]);
    // The newest is asked for, so no other one is given silently.
    case.is_damage(case.restore_fails(None, false), &[&all.newer, &all.own]);
    case.is_damage(case.run(&["verify"]), &[&all.newer]);
    case.run(&["verify", &all.older]).expect(0);
    let to = case.dir.path().join("older");
    case.command("restore").arg(&all.older).arg("--to").arg(&to).run_to_end(PATIENCE).expect(0);
    Server::start_on(&to).sql("CHECK TABLE shop.t0, shop.t1");
}
