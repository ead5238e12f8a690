//! Something else in the place of a file or a directory, wherever there is one: it is named,
//! nobody waits for it, and nothing behind a link is touched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Copy, PATIENCE, sample};
use crate::support::intruder::{ALL, outside};
use crate::support::repository::{copy, edit_manifest, flip_bit, pack_path, packs_of, tree};
use crate::support::{Outcome, Rollforward, TempDir, run_helper};

/// No command may wait for what it is given.
const SOON: Duration = Duration::from_secs(10);

/// What is done to a pack.
type Spoil = fn(&Path);

/// The name of the backup in the frozen sample, which is small.
const BACKUP: &str = "20261122T153000Z-8f3a";

/// The commands that only look, and the one that sweeps.
fn commands(repo: &Path, to: &Path) -> Vec<Outcome> {
    let on = |command: &str| Rollforward::new([command, "--repo"]).arg(repo);
    let restore = on("restore").arg("--to").arg(to).run_to_end(SOON);
    if restore.status == 0 {
        fs::remove_dir_all(to).unwrap();
    }
    assert!(!to.exists(), "{restore}");
    let mut all = vec![restore, on("prune").arg("--keep-count=1").run_to_end(SOON)];
    all.extend(["list", "verify", "status"].map(|c| on(c).run_to_end(SOON)));
    all
}

#[test]
fn odd_repository_entries_never_block_or_lead_outside() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/repository-1");
    let pack = &packs_of(&sample, BACKUP)[0];
    let pack_dir = format!("packs/{}", &pack[..2]);
    let unnamed = format!("{pack_dir}/{}", "0".repeat(64));
    let pack = format!("{pack_dir}/{pack}");
    let manifest = format!("backups/{BACKUP}");
    let stray = format!("backups/{}", "20261122T000000Z-0000");
    let places =
        ["format", "lock", "tmp", "backups", "packs", "tmp/pack-0", &pack_dir, &pack, &manifest];
    for place in places.into_iter().chain([stray.as_str(), &unnamed]) {
        for kind in ALL {
            let name = format!("{kind:?} as {place}");
            let dir = TempDir::new("place");
            let repo = dir.path().join("repo");
            copy(&sample, &repo);
            fs::create_dir(repo.join("tmp")).unwrap();
            let outside = outside(dir.path());
            kind.put(&repo.join(place), &outside);
            let before = tree(&outside);
            for outcome in commands(&repo, &dir.path().join("to")) {
                assert!(outcome.status <= 3, "{name}: {outcome}");
                assert!(!outcome.stderr.contains("panicked"), "{name}: {outcome}");
            }
            assert_eq!(tree(&outside), before, "{name}");
        }
    }
}

/// The dry run reads no pack but those that were set aside, and knows what `list` does.
#[test]
fn a_dry_restore_ends_as_the_restore_does() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/repository-1");
    let cases: [(&str, u8, Spoil); 5] = [
        ("nothing", 0, |_| ()),
        ("missing", 1, |pack| fs::remove_file(pack).unwrap()),
        ("bytes instead of", 1, |pack| {
            fs::OpenOptions::new().write(true).open(pack).unwrap().set_len(9).unwrap();
        }),
        ("set aside, all of it good", 0, |pack| {
            fs::rename(pack, pack.with_extension("damaged")).unwrap();
        }),
        ("does not match its checksum", 1, |pack| {
            // In the middle of the first frame.
            flip_bit(pack, 40);
            fs::rename(pack, pack.with_extension("damaged")).unwrap();
        }),
    ];
    for (what, status, spoil) in cases {
        let dir = TempDir::new("dry");
        let (repo, to) = (dir.path().join("repo"), dir.path().join("to"));
        copy(&sample, &repo);
        spoil(&pack_path(&repo, &packs_of(&repo, BACKUP)[0]));
        let before = tree(&repo);
        let restore = Rollforward::new(["restore", "--repo"]).arg(&repo).arg("--to").arg(&to);
        let dry = restore.clone().arg("--dry-run").run_to_end(SOON).expect(status.into());
        assert_eq!((tree(&repo), to.exists()), (before, false), "{what}: {dry}");
        assert_eq!(dry.stdout.contains("would restore"), status == 0, "{what}: {dry}");
        let real = restore.run_to_end(SOON).expect(status.into());
        if status > 0 {
            // Which of the files that need a block comes first is not settled.
            let error = |outcome: &Outcome| {
                let (_, error) = outcome.stderr.split_once("backup-damaged: ").unwrap();
                error.split(", and ").next().map(String::from)
            };
            assert_eq!(error(&dry), error(&real), "{what}: {dry}{real}");
            dry.says(what);
        }
    }
}

#[test]
fn a_dry_prune_needs_no_lock_and_makes_none() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/repository-1");
    let dir = TempDir::new("dry-prune");
    let repo = dir.path().join("repo");
    copy(&sample, &repo);
    let stray = pack_path(&repo, &"0".repeat(64));
    fs::create_dir_all(stray.parent().unwrap()).unwrap();
    fs::write(&stray, "what a pass is storing").unwrap();
    // Nor one that cannot be taken, as on a file system that is read-only.
    for lock in [false, true] {
        if lock {
            fs::create_dir(repo.join("lock")).unwrap();
        }
        let before = tree(&repo);
        let prune = Rollforward::new(["prune", "--keep-count=1", "--dry-run", "--repo"]).arg(&repo);
        let ended = prune.run_to_end(SOON).expect(0).says("1 pack, 22 B");
        ended.says("no backup names 1 of these packs: what a pass at work has stored would stay");
        assert_eq!(tree(&repo), before, "{lock}");
    }
}

#[test]
fn writers_refuse_a_repository_directory_behind_a_link() {
    need_server!();
    let all = sample();
    for place in ["tmp", "backups", "packs"] {
        let case = Copy::new(place);
        let elsewhere = case.dir.path().join("elsewhere");
        fs::rename(case.repo.join(place), &elsewhere).unwrap();
        fs::write(elsewhere.join("precious"), "precious").unwrap();
        symlink(&elsewhere, case.repo.join(place)).unwrap();
        let before = tree(&elsewhere);
        let refused = case.run(&["prune", "--keep-count=1"]).expect(2);
        refused.says(&format!("repo/{place} is a symbolic link to {}", elsewhere.display()));
        assert_eq!(tree(&elsewhere), before, "{place}");
        // Reading through it does no harm.
        case.run(&["verify", &all.newer]).expect(0);
    }
}

/// Its backups would be taken for what a follower has received, and removed as redundant.
#[test]
fn journals_of_another_repository_are_left_alone() {
    need_server!();
    let case = Copy::new("journals behind a link");
    let other = case.dir.path().join("other");
    copy(&sample().repo, &other);
    symlink(&other, case.repo.join("journals")).unwrap();
    let before = tree(&other);
    for args in [&["prune", "--keep-count=9"][..], &["verify"]] {
        let refused = case.run(args).expect(2);
        refused.says(&format!("repo/journals is a symbolic link to {}", other.display()));
    }
    assert_eq!(tree(&other), before);
}

#[test]
fn a_damaged_pack_behind_a_link_stays_where_it_is() {
    need_server!();
    let case = Copy::new("a damaged pack behind a link");
    flip_bit(&case.pack(&sample().own), 100);
    let elsewhere = case.dir.path().join("elsewhere");
    fs::rename(case.repo.join("packs"), &elsewhere).unwrap();
    symlink(&elsewhere, case.repo.join("packs")).unwrap();
    let before = tree(&elsewhere);
    case.run(&["verify"]).expect(1).says("it could not be set aside");
    assert_eq!(tree(&elsewhere), before);
}

/// The name of the first file comes out of the manifest, and may be below a link to another disk.
#[test]
fn an_unfinished_restore_is_marked_nowhere_else() {
    need_server!();
    let case = Copy::new("a first file behind a link");
    let all = sample();
    let to = case.dir.path().join("to");
    let into = format!("--to={}", to.display());
    case.run(&["restore", &into]).expect(0);
    let elsewhere = case.dir.path().join("elsewhere");
    fs::rename(to.join("shop"), &elsewhere).unwrap();
    symlink(&elsewhere, to.join("shop")).unwrap();
    let before = tree(&elsewhere);
    edit_manifest(&case.repo, &all.newer, |lines| {
        let file = lines.iter().find_map(|line| line.strip_prefix("file shop/")).unwrap();
        let file = format!("shop/{}", file.split(' ').next().unwrap());
        lines.retain(|line| !line.starts_with("setting innodb_data_file_path "));
        let at = lines.iter().position(|line| line.starts_with("setting ")).unwrap();
        lines.insert(at, format!("setting innodb_data_file_path {file}:12M:autoextend"));
    });
    case.run(&["restore", "--over", &into]).expect(0).says("shop was a symbolic link");
    assert_eq!(tree(&elsewhere), before);
}

#[test]
fn a_directory_named_like_a_pack_stops_no_sweep() {
    need_server!();
    let all = sample();
    let case = Copy::new("a directory called like a pack");
    let stray = case.repo.join("packs").join(&all.own[..2]).join("f".repeat(64));
    fs::create_dir(&stray).unwrap();
    case.run(&["prune", "--keep-count=1"]).expect(0);
    assert!(stray.exists());
}

#[test]
fn a_named_file_that_never_answers_is_abandoned() {
    need_server!();
    let case = Copy::new("a pipe that nobody writes to");
    let pipe = case.dir.path().join("pipe");
    run_helper(Command::new("mkfifo").arg(&pipe), "");
    let account = case.dir.path().join("account.cnf");
    fs::write(&account, "[client]\nuser=u\nhost=127.0.0.1\n").unwrap();
    let including = case.dir.path().join("including.cnf");
    fs::write(&including, format!("!include {}\n", pipe.display())).unwrap();
    let scratch = case.dir.path().join("scratch");
    let run = |args: [&std::ffi::OsStr; 4]| {
        case.command("run").arg("--scratch").arg(&scratch).args(args).spawn()
    };
    let file = "--defaults-file".as_ref();
    let secret = "--password-file".as_ref();
    // All at once: each waits for half a minute.
    let waiting = [
        run([file, pipe.as_ref(), "--max-failures".as_ref(), "0".as_ref()]),
        run([file, including.as_ref(), "--max-failures".as_ref(), "0".as_ref()]),
        run([file, account.as_ref(), secret, pipe.as_ref()]),
    ];
    for pass in waiting {
        let outcome = pass.finish(PATIENCE + SOON).expect(2).says("it produced no data for 30");
        assert!(outcome.wall > Duration::from_secs(29), "{outcome}");
    }
    for endless in ["/dev/zero", "/dev/urandom"] {
        let limit = ["prlimit", "--as=120000000", "--"];
        let run = case.command("run").arg("--scratch").arg(&scratch).under(limit);
        let refused = run.arg("--defaults-file").arg(endless).run_to_end(SOON).expect(2);
        refused.says("not a text file of at most 1 MiB");
    }
    // One that gives something is read to its end, also when that takes a moment.
    let script = "(sleep 0.3; echo '[client]'; sleep 0.3; printf 'user=u\\nhost=::9:9:x') >\"$1\" & \
                  shift; exec \"$@\"";
    let slow = ["sh".as_ref(), "-c".as_ref(), script.as_ref(), "sh".as_ref(), pipe.as_os_str()];
    let run = case.command("run").arg("--scratch").arg(&scratch).under(slow);
    let refused = run.arg("--defaults-file").arg(&pipe).run_to_end(SOON).expect(2);
    refused.says("malformed host in [client]").says("::9:9:x");
}

#[test]
fn endless_lines_and_millions_of_lines_cost_little() {
    need_server!();
    let all = sample();
    let limit = ["prlimit", "--as=120000000", "--"];
    type Edit = fn(&mut Vec<String>);
    let cases: [(&str, Edit); 5] = [
        ("a long line", |lines| lines.push(format!("file {} 600 0", "x".repeat(24 << 20)))),
        ("many words", |lines| {
            let at = lines.iter().position(|l| l.starts_with("pack ")).unwrap();
            lines.splice(at..at, (0..1_200_000).map(|n| format!("w{n} 1")));
        }),
        ("many settings", |lines| {
            let at = lines.iter().position(|l| l.starts_with("pack ")).unwrap();
            lines.splice(at..at, (0..1_200_000).map(|n| format!("setting w{n} 1")));
        }),
        ("many files", |lines| lines.extend((0..120_000).map(|n| format!("file f{n} 600 0")))),
        ("a deep path", |lines| {
            let at = lines.iter().position(|l| l.starts_with("dir ")).unwrap();
            let deep = |n: usize| format!("dir {} 700", vec!["d"; n].join("/"));
            lines.splice(at..at, (1..=2048).map(deep).chain([deep(2049)]));
        }),
    ];
    for (name, edit) in cases {
        let case = Copy::new(name);
        edit_manifest(&case.repo, &all.newer, edit);
        let list = case.command("list").under(limit).run_to_end(PATIENCE).expect(0);
        assert!(list.wall < Duration::from_secs(60), "{name}: {list}");
        assert_eq!(case.states(), ["complete", "damaged"], "{name}");
        let refused = case.restore_fails(None, false);
        assert!(refused.stderr.len() < 30_000, "{name}: {} bytes", refused.stderr.len());
        case.is_damage(refused, &[&all.newer]);
    }
    // Longer than any: not read at all.
    let case = Copy::new("a manifest of 2 GiB");
    let file = fs::OpenOptions::new().write(true).open(case.manifest()).unwrap();
    file.set_len(2 << 30).unwrap();
    let list = case.command("list").under(limit).run_to_end(SOON).expect(0);
    assert!(list.stdout.contains("larger than 1 GiB"), "{list}");
}

/// What is read of one manifest is let go before the next.
#[test]
fn memory_does_not_grow_with_the_number_of_backups() {
    need_server!();
    let all = sample();
    let case = Copy::new("many backups");
    edit_manifest(&case.repo, &all.newer, |lines| {
        let count = lines.iter().filter(|l| l.starts_with("file ")).count();
        let files = lines.iter_mut().find(|l| l.starts_with("files ")).unwrap();
        *files = format!("files {}", count + 4000);
        let end = lines.iter().position(|l| l.starts_with("journal ")).unwrap_or(lines.len());
        lines.splice(end..end, (0..4000).map(|n| format!("file {n:0250} 600 0")));
    });
    for n in 0..15 {
        let copy = format!("20261101T0000{n:02}Z-0000");
        fs::copy(case.manifest(), case.repo.join("backups").join(copy)).unwrap();
    }
    // One takes 6 MB and the program itself less than 20; all together take 45.
    let limit = ["prlimit", "--as=32000000", "--"];
    for command in ["list", "status"] {
        case.command(command).under(limit).run_to_end(PATIENCE).expect(0);
    }
    let list = case.command("list").run_to_end(PATIENCE).expect(0).stdout;
    assert!(list.matches(" complete ").count() > 15, "{list}");
}

/// The root of a file system of its own is the usual target of an emergency.
#[test]
fn a_fresh_file_system_is_a_target() {
    need_server!();
    let case = Copy::new("fresh");
    let to = case.dir.path().join("fresh");
    fs::create_dir_all(to.join("lost+found")).unwrap();
    let arg = format!("--to={}", to.display());
    case.run(&["restore", &sample().older, &arg]).expect(0);
    assert!(to.join("lost+found").is_dir() && to.join("ibdata1").is_file());
    // It stays when a restore fails, and anything else in it is still refused.
    for name in fs::read_dir(&to).unwrap().map(|e| e.unwrap().path()) {
        if name.is_dir() {
            fs::remove_dir_all(name).unwrap()
        } else {
            fs::remove_file(name).unwrap()
        }
    }
    fs::create_dir(to.join("lost+found")).unwrap();
    flip_bit(&case.pack(&sample().own), 100);
    case.run(&["restore", &arg]).expect(1);
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    assert!(to.join("lost+found").is_dir());
    fs::write(to.join("other"), "").unwrap();
    case.run(&["restore", &arg]).expect(2).says("is not empty");
}
