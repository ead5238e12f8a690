//! `rollforward-mirror restore` whose steps, of another program, end in their midst; and a directory of
//! somebody else's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::restores::{assert_restored, plain, plain_mirror};
use super::s3::S3;
use super::{Sample, repository, word};
use crate::support::strace_missing;

/// In place of the program: the step of the number `STEP` gets a signal at a rename, counted by thread.
fn with_faults(s3: &S3) {
    use std::os::unix::fs::PermissionsExt as _;
    let at = s3.path("bin/rollforward");
    fs::remove_file(&at).unwrap();
    let shim = format!(
        "#!/bin/sh\ncd -P \"${{0%/*}}/..\" || exit\necho >>steps\n\
         [ \"$(wc -l <steps)\" -eq \"${{STEP:-0}}\" ] || exec {ours} \"$@\"\n\
         calls=?rename,?renameat,?renameat2\n\
         exec strace -f -qq -o strace.log -e trace=$calls \\\n\
             -e inject=$calls:signal=$SIGNAL:when=$RENAME {ours} \"$@\"\n",
        ours = env!("CARGO_BIN_EXE_rollforward")
    );
    fs::write(&at, shim).unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
}

/// No server starts: one is refused by the file that it needs first, or there is no data.
fn keeps_servers_out(to: &Path) -> bool {
    match fs::read(to.join("ibdata1")) {
        Ok(text) => text.starts_with(b"rollforward: unfinished restore\n"),
        Err(_) => !to.join("mysql").exists() && !to.join("ib_logfile0").exists(),
    }
}

#[test]
fn a_step_killed_anywhere_is_taken_again() {
    need_server!();
    let s3 = need_s3!();
    if strace_missing() {
        return;
    }
    let repo = plain_mirror(&s3, "db1");
    plain(&repo, Sample::get().names.last().unwrap(), &s3.path("like"));
    with_faults(&s3);
    let to = s3.path("to");
    let args = ["restore", "--to", &word(&to), "here:db1"];
    let mut handed = 0;
    for (signal, status, step, at) in [
        ("KILL", 137, "1", 1),
        ("TERM", 143, "2", 1),
        ("KILL", 137, "2", 2),
        ("KILL", 137, "2", 3),
        ("KILL", 137, "2", 6),
        ("TERM", 143, "2", 6),
    ] {
        let _ = fs::remove_file(s3.path("steps"));
        let at = at.to_string();
        let env = [("STEP", step), ("SIGNAL", signal), ("RENAME", &at)];
        let (ended, said) = s3.spawn_mirror(args, &env).finish();
        let what = format!("{signal} {step} {at}: {ended}: {said}");
        println!("{what}");
        if ended == 0 {
            // The signal came when all was done.
            assert_eq!(signal, "TERM", "{what}");
        } else {
            assert_eq!(ended, status, "{what}");
            assert!(said.lines().last().unwrap().contains("interrupted: "), "{what}");
            assert!(keeps_servers_out(&to), "{what}");
            handed += u32::from(to.join("rollforward.tmp/handover").exists());
            s3.mirror_well(args);
        }
        assert_restored(&to, &s3.path("like"));
        fs::remove_dir_all(&to).unwrap();
    }
    assert!(handed >= 2, "{handed}");
}

#[test]
fn a_directory_of_somebody_elses_leads_nowhere() {
    need_server!();
    let s3 = need_s3!();
    let repo = plain_mirror(&s3, "db1");
    plain(&repo, Sample::get().names.last().unwrap(), &s3.path("like"));
    let (to, outside) = (s3.path("to"), s3.path("outside"));
    let work = to.join("rollforward.tmp");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("dear"), "dear").unwrap();
    let before = repository::tree(&outside);
    let cases: [(&dyn Fn(), i32); 5] = [
        (&|| fs::write(&work, "letters").unwrap(), 2),
        (&|| symlink(&outside, &work).unwrap(), 2),
        (&|| plant(&work, "mirror.lock", &outside.join("planted")), 2),
        (&|| plant(&work, "data", &outside), 1),
        (&|| plant(&work, "repo", &outside), 0),
    ];
    for (number, (make, status)) in cases.into_iter().enumerate() {
        fs::create_dir(&to).unwrap();
        make();
        let (ended, said) = s3.mirror(["restore", "--to", &word(&to), "here:db1"]);
        assert_eq!(ended, status, "{number}: {said}");
        assert_eq!(repository::tree(&outside), before, "{number}: {said}");
        if ended == 0 {
            assert_restored(&to, &s3.path("like"));
        } else {
            assert!(said.lines().last().unwrap().contains("error: "), "{number}: {said}");
        }
        fs::remove_dir_all(&to).unwrap();
    }
}

/// A directory to work in that has a link of this name.
fn plant(work: &Path, name: &str, to: &PathBuf) {
    fs::create_dir(work).unwrap();
    if name != "mirror.lock" {
        fs::write(work.join("mirror.lock"), "").unwrap();
    }
    symlink(to, work.join(name)).unwrap();
}
