//! What was written once must be readable for ever: frozen samples of repositories of both formats, and
//! of a checkpoint.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::repository::{Json, copy, seal};
use crate::support::{Outcome, Rollforward, Scene, TempDir, find_program, run_helper};

const PATIENCE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(120);
const BACKUP: &str = "20261122T153000Z-8f3a";

fn sample() -> (TempDir, PathBuf) {
    sample_of("repository-1")
}

/// A copy of the sample: git knows no empty directories, so those come with the copy.
fn sample_of(name: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new("formats");
    let repo = dir.path().join("repo");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name), &repo);
    (dir, repo)
}

fn on(repo: &Path, command: &str) -> Rollforward {
    Rollforward::new([command, "--repo"]).arg(repo)
}

#[test]
fn a_fresh_file_system_can_be_restored_to() {
    let (dir, repo) = sample();
    let to = dir.path().join("mounted");
    fs::create_dir_all(to.join("lost+found")).unwrap();
    on(&repo, "restore").arg("--to").arg(&to).run_to_end(PATIENCE).expect(0);
    fs::remove_dir_all(&to).unwrap();
    fs::create_dir_all(to.join("lost+found/kept")).unwrap();
    // One that fails leaves what was there.
    let pack = fs::read_dir(repo.join("packs")).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(pack).unwrap();
    on(&repo, "restore").arg("--to").arg(&to).run_to_end(PATIENCE).expect(1);
    assert!(to.join("lost+found/kept").exists());
    fs::write(to.join("other"), "").unwrap();
    on(&repo, "restore").arg("--to").arg(&to).run_to_end(PATIENCE).expect(2).says("not empty");
}

#[test]
fn a_verify_whose_output_is_lost_says_so() {
    let (_dir, repo) = sample();
    let program = on(&repo, "verify").arg("--json");
    program.under(["sh", "-c", "exec \"$@\" >/dev/full", "sh"]).run_to_end(PATIENCE).expect(1);
}

/// What the sample holds: path, mode, content.
fn content() -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let rows: String = (0..900).map(|n| format!("row {n}\n")).collect();
    let rows = rows.into_bytes();
    let options = "default-character-set=utf8mb4\ndefault-collation=utf8mb4_general_ci\n";
    let same = [&rows[..4096], &[0; 3 * 4096], b"tail of it"].concat();
    let sparse = [&[0; 1 << 20][..], b"end"].concat();
    [
        ("a.ibd", 0o600, rows),
        ("empty.txt", 0o640, Vec::new()),
        ("shop/db.opt", 0o600, options.into()),
        ("shop/same.ibd", 0o600, same),
        ("shop/\u{e4} b\\c.frm", 0o600, b"an odd name".to_vec()),
        ("sparse", 0o600, sparse),
    ]
    .map(|(path, mode, content)| (path.into(), (mode, content)))
    .into()
}

/// One block is made of four frames, another one of two of these.
#[test]
fn differences_of_format_2_are_verified_and_restored() {
    let (dir, repo) = sample_of("repository-2");
    on(&repo, "verify").run_to_end(PATIENCE).expect(0);
    let to = dir.path().join("to");
    on(&repo, "restore").arg("--to").arg(&to).run_to_end(PATIENCE).expect(0);
    let rows = |night: usize| -> String {
        let night_of =
            |n: usize| if n.is_multiple_of(50) && n / 50 < night * 2 { night } else { 0 };
        (0..200).map(|n| format!("row {n} of night {}\n", night_of(n))).collect()
    };
    assert_eq!(fs::read_to_string(to.join("shop/a.ibd")).unwrap(), rows(3));
    assert_eq!(fs::read_to_string(to.join("shop/b.ibd")).unwrap(), rows(1)[..3600]);
}

#[test]
fn a_repository_of_format_1_is_listed_verified_and_restored() {
    let (dir, repo) = sample();
    let table = on(&repo, "list").run_to_end(PATIENCE).expect(0).stdout;
    let [_, line] = table.lines().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        [
            BACKUP,
            "complete",
            "2026-11-22T15:30:00Z",
            "1.0",
            "MiB",
            "1.0",
            "KiB",
            "-",
            "all,newest",
            "10.11.19-MariaDB-0+deb12u1",
            "0-1-42,7-3-9"
        ]
    );
    let text = |t: &str| Json::Text(t.into());
    let number = |n: u32| Json::Number(n.to_string());
    let expected = [
        ("name", text(BACKUP)),
        ("state", text("complete")),
        ("flavor", text("mariadb")),
        ("version", text("10.11.19-MariaDB-0+deb12u1")),
        ("position", text("0-1-42,7-3-9")),
        ("data_as_of", text("2026-11-22T15:30:00Z")),
        ("finished", text("2026-11-22T15:31:00Z")),
        ("files", number(6)),
        ("size", number(1_072_141)),
        ("stored", number(1071)),
        ("base", text("20261121T153000Z-00ff")),
        ("proven", Json::Null),
        ("pinned", Json::Bool(false)),
        ("pin_reason", Json::Null),
        ("pinned_until", Json::Null),
        ("kept_by", Json::List(vec![text("all"), text("newest")])),
    ];
    let expected = Json::Object(expected.map(|(k, v)| (k.to_string(), v)).into());
    let json = on(&repo, "list").arg("--json").run_to_end(PATIENCE).expect(0).stdout;
    assert_eq!(Json::parse(&json), Json::List(vec![expected]));

    let verified = on(&repo, "verify").arg("--json").run_to_end(PATIENCE).expect(0).stdout;
    let verified = Json::parse(&verified);
    assert_eq!(verified.get("ok"), &Json::Bool(true));
    assert_eq!(verified.get("packs"), &number(2));
    assert_eq!(verified.get("bytes"), &number(1071));

    for backup in [None, Some(BACKUP)] {
        let to = dir.path().join(format!("to-{}", backup.is_some()));
        let restore = on(&repo, "restore").args(backup).arg("--to").arg(&to);
        restore.run_to_end(PATIENCE).expect(0);
        let mut found = content();
        found.retain(|path, (mode, content)| {
            let at = to.join(path);
            assert_eq!(&fs::read(&at).unwrap(), content, "{}", path.display());
            assert_eq!(fs::metadata(&at).unwrap().mode() & 0o7777, *mode, "{}", path.display());
            false
        });
        let mode = |dir: &str| fs::metadata(to.join(dir)).unwrap().mode() & 0o7777;
        assert_eq!((mode(""), mode("nothing"), mode("shop")), (0o700, 0o700, 0o750));
        let count = |dir: &str| fs::read_dir(to.join(dir)).unwrap().count();
        assert_eq!((count(""), count("nothing"), count("shop")), (5, 0, 3));
        let sparse = fs::metadata(to.join("sparse")).unwrap();
        assert!(sparse.blocks() * 512 < 1 << 19, "the zeros were written");
    }
}

/// The shell that takes out file $2 of manifest $1 without this program.
const BY_HAND: &str = r#"
packs=$(sed -n 's/^pack \([0-9a-f]*\) .*/\1/p' "$1")
awk -v path="$2" '$1 == "file" { on = ($2 == path) } on && ($1 == "block" || $1 == "zeros")' "$1" |
while read -r kind hash index offset length; do
    if [ "$kind" = zeros ]; then
        head -c $((hash * 4096)) /dev/zero
        continue
    fi
    name=$(echo "$packs" | sed -n "$((index + 1))p")
    pack=packs/$(echo "$name" | cut -c1-2)/$name
    tail -c +$((offset + 1)) "$pack" | head -c "$length" | zstd -d -q -c
done
"#;

#[test]
fn a_file_can_be_taken_out_with_standard_tools() {
    if find_program("zstd").is_none() {
        assert!(std::env::var_os("CI").is_none(), "zstd is not installed");
        let _ = std::io::stderr().write_all(b"\n*** SKIPPED, zstd is not installed ***\n");
        return;
    }
    let (_dir, repo) = sample();
    let manifest = format!("backups/{BACKUP}");
    let text = fs::read_to_string(repo.join(&manifest)).unwrap();
    let lines = text.lines().count() - 1;
    let check = format!("head -n {lines} {manifest} | sha256sum");
    let sum = run_helper(Command::new("sh").args(["-c", &check]).current_dir(&repo), "");
    let last = text.lines().last().unwrap();
    assert_eq!(last, format!("end {}", sum.split_whitespace().next().unwrap()));
    for file in ["a.ibd", "shop/same.ibd", "sparse"] {
        let mut shell = Command::new("sh");
        shell.args(["-c", BY_HAND, "sh", &manifest, file]).current_dir(&repo);
        let out = run_helper(&mut shell, "");
        assert_eq!(out.as_bytes(), content()[Path::new(file)].1, "{file}");
    }
}

#[test]
fn a_repository_of_a_later_format_is_left_alone() {
    let (dir, repo) = sample();
    let to = dir.path().join("to");
    for (text, says) in [
        ("rollforward repository 3\n", "later format 3"),
        ("rollforward repository 17\nmore\n", "later format 17"),
        ("something else\n", "not a repository"),
        ("", "not a repository"),
    ] {
        fs::write(repo.join("format"), text).unwrap();
        let before = crate::support::repository::tree(&repo);
        for command in [on(&repo, "list"), on(&repo, "verify"), on(&repo, "prune")] {
            command.run_to_end(PATIENCE).expect(2).says(says);
        }
        on(&repo, "restore").arg("--to").arg(&to).run_to_end(PATIENCE).expect(2).says(says);
        assert!(!to.exists());
        assert_eq!(before, crate::support::repository::tree(&repo), "{text:?}");
    }
}

#[test]
fn a_manifest_of_a_later_format_is_not_read() {
    let (_dir, repo) = sample();
    let path = repo.join("backups").join(BACKUP);
    let text = fs::read_to_string(&path).unwrap();
    let body = text.split_once('\n').unwrap().1.rsplit_once("end ").unwrap().0;
    fs::write(&path, seal(&format!("format 2\n{body}"))).unwrap();
    on(&repo, "verify").run_to_end(PATIENCE).expect(1).says("later format 2");
}

/// A checkpoint as an earlier version may have written it, with keys that nobody knows.
fn frozen_checkpoint(base: &str, position: &str) -> String {
    format!(
        "format=1\nstate=stopped\nphase=catch-up\ncause=interrupted\nmessage='stopped by signal \
         15'\nposition={position}\ngoal=0-1-999999\nprimary=127.0.0.1:3306\nbase_backup={base}\n\
         failures=0\nexit_status=143\npid=4711\ncolour=blue\nsteps=1,2=3\nempty=\n\
         started=2026-11-22T15:29:00Z\nupdated=2026-11-22T15:30:00Z\n\
         progressed=2026-11-22T15:30:00Z\n"
    )
}

#[test]
fn old_checkpoints_resume_and_strange_ones_start_afresh() {
    need_server!();
    let scene = Scene::seeded("checkpoint");
    scene.primary.backlog("shop", 30_000);
    let mut pass = scene.command("run").spawn();
    pass.wait_for_phase("catch-up", LONG);
    pass.kill(libc::SIGTERM);
    pass.finish(LONG).expect(128 + libc::SIGTERM);
    let stopped = scene.checkpoint();
    let (base, position) = (stopped.get("base_backup").unwrap(), stopped.get("position").unwrap());
    let (repo, kept) = (scene.path("repo-kept"), scene.path("scratch-kept"));
    copy(&scene.repo, &repo);
    copy(&scene.scratch, &kept);
    let path = scene.scratch.join("checkpoint");
    let again = |prepare: &dyn Fn()| -> Outcome {
        for (to, from) in [(&scene.repo, &repo), (&scene.scratch, &kept)] {
            fs::remove_dir_all(to).unwrap();
            copy(from, to);
        }
        prepare();
        scene.run().expect(0)
    };

    let frozen = frozen_checkpoint(base, position);
    let outcome = again(&|| fs::write(&path, &frozen).unwrap());
    let outcome = outcome.says("resuming the interrupted pass");
    assert!(!outcome.stderr.contains("ignoring the checkpoint"), "{outcome}");
    assert!(!outcome.stderr.contains("restored "), "{outcome}");

    let later = frozen.replace("format=1", "format=2");
    let strange: [(&str, &dyn Fn()); 6] = [
        ("a later format", &|| fs::write(&path, &later).unwrap()),
        ("empty", &|| fs::write(&path, "").unwrap()),
        ("bytes", &|| fs::write(&path, [0xff, 0, 0x80]).unwrap()),
        ("half a line", &|| fs::write(&path, "format=1\nstate").unwrap()),
        ("a link to itself", &|| {
            fs::remove_file(&path).unwrap();
            symlink(&path, &path).unwrap();
        }),
        ("huge", &|| fs::File::create(&path).unwrap().set_len(1 << 40).unwrap()),
    ];
    for (name, prepare) in strange {
        let outcome = again(prepare);
        let warned = outcome.stderr.contains("warning: ignoring the checkpoint ");
        assert!(warned && outcome.stderr.contains("restored "), "{name}: {outcome}");
        assert_eq!(scene.checkpoint().get("state"), Some("done"), "{name}");
    }

    // The same for what the scratch directory says of its data.
    let state = scene.scratch.join("state");
    let outcome = again(&|| fs::write(&state, "format=2\nstage=ready\n").unwrap());
    outcome.says("cannot read its state file").says("restored ");
    let outcome = again(&|| fs::remove_file(&path).unwrap());
    outcome.says("restored ");
}
