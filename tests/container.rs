//! As in a container: PID 1 in namespaces of its own, in a root with nothing but the program and
//! a server, which cannot be written to, as a user without a name.
//!
//! The root is what `dist/container/collect` makes for an image. The program in it is the one that
//! `ROLLFORWARD_STATIC` names, as the suite and `make image-test` do; else the one under test with
//! its libraries.

mod stage;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::{Replica, Rollforward, TempDir, alive, kill, run_helper, skipped, wait_until};
use stage::{Container, USER, Way, children, files, own, program, root, server, status};

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn pid_1_needs_no_user_tmp_or_writable_root() {
    need_server!();
    for way in Way::all() {
        let container = Container::seeded("image", way, &[]);
        let scene = &container.scene;
        let before = files(&container.image);
        let bytes: u64 = before.iter().map(|(_, size)| size).sum();
        println!("{way:?}, {}: {:.1} MB", program().display(), bytes as f64 / 1e6);
        for (path, size) in before.iter().filter(|(path, _)| !path.is_dir()) {
            println!("{size:>10} /{}", path.strip_prefix(&container.image).unwrap().display());
        }
        for absent in ["etc/passwd", "etc/nsswitch.conf", "tmp", "bin/sh", "usr/bin"] {
            assert!(!container.image.join(absent).exists(), "{absent} is in the image");
        }
        let replica = Replica::start(&scene.primary);
        scene.primary.slow_backlog("shop", 30, 0.1);
        let mut pass = container.command("run").spawn();
        let init = container.wait_for_catch_up(&mut pass);
        assert_eq!(status(init, "NSpid").split_whitespace().last(), Some("1"));
        assert_eq!(status(init, "CapEff"), "0000000000000000");
        let mounts = fs::read_to_string(format!("/proc/{init}/mountinfo")).unwrap();
        let root = mounts.lines().find(|l| l.split(' ').nth(4) == Some("/")).expect(&mounts);
        assert!(root.split(' ').nth(5).unwrap().split(',').any(|w| w == "ro"), "{root}");
        let map = fs::read_to_string(format!("/proc/{init}/uid_map")).unwrap();
        let owner = fs::metadata(container.scene.scratch.join("checkpoint")).unwrap().uid();
        let inside = match way {
            Way::Root | Way::AsRoot => owner.to_string(),
            Way::UserNamespace => map.split_whitespace().next().unwrap().to_string(),
        };
        assert_eq!(inside, USER.to_string(), "{map}");
        let ended = pass.finish(PATIENCE).expect(0);
        assert!(ended.stdout.is_empty() && ended.stderr.contains("stored "), "{ended}");
        assert_eq!(files(&container.image), before, "the image was written to");
        scene.assert_newest_equals(&replica);
        container.options("127.0.0.1:1", "");
        container.command("verify").run_to_end(PATIENCE).expect(0);
        assert_eq!(scene.leftover_processes(), [] as [i32; 0]);
    }
}

#[test]
fn term_to_pid_1_ends_143_and_the_next_resumes() {
    need_server!();
    for way in Way::all() {
        let container = Container::seeded("term", way, &[]);
        container.scene.primary.slow_backlog("shop", 40, 0.1);
        let mut pass = container.command("run").spawn();
        let init = container.wait_for_catch_up(&mut pass);
        kill(init, libc::SIGTERM);
        pass.finish(PATIENCE).expect(143);
        let checkpoint = container.checkpoint();
        assert_eq!(checkpoint.get("state"), Some("stopped"), "{checkpoint:?}");
        assert_eq!(checkpoint.get("cause"), Some("interrupted"), "{checkpoint:?}");
        assert!(!alive(init) && container.scene.has_scratch_data());
        let ended = container.command("run").run_to_end(PATIENCE).expect(0);
        assert!(!ended.stderr.contains("restored "), "it did not go on with the data; {ended}");
        assert_eq!(container.scene.backups().len(), 2);
    }
}

/// A server in the container that leaves orphans behind, and the option that names it.
fn bury(container: &Container, name: &str, orphans: u32, rest: &str) -> String {
    let server = server().display().to_string();
    let path = container.work.join("etc").join(name);
    let text = format!(
        r#"#!/bin/sh
case " $* " in *' --version '*) exec {server} "$@" ;; esac
i=0
while [ $i -lt {orphans} ]; do
    i=$((i + 1))
    ( {{ sleep 0.$((i % 10)); echo $i >>/scratch/db1/tmp/orphans; }} & )
done
{}
"#,
        rest.replace("MYSQLD", &server)
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    if container.way == Way::Root {
        own(&path);
    }
    format!("--mysqld=/etc/{name}")
}

#[test]
fn twenty_passes_as_pid_1_have_no_zombie() {
    need_server!();
    let Some(way) = Way::all().pop() else { return };
    let container = Container::seeded("twenty", way, &["/bin/sh", "/bin/sleep"]);
    let server = bury(&container, "mysqld", 2, "exec MYSQLD \"$@\"");
    for _ in 1..=20 {
        container.scene.primary.slow_backlog("shop", 8, 0.1);
        let mut pass = container.command("run").args([&server, "--keep-count=2"]).spawn();
        let init = container.wait_for_catch_up(&mut pass);
        // Both orphans have come to their end, and to PID 1.
        let ended = container.scene.scratch.join("tmp/orphans");
        wait_until("the end of both", Duration::from_secs(5), || {
            let ended = fs::read_to_string(&ended).unwrap_or_default().lines().count();
            let left = children(init);
            ended == 2 && left.len() <= 1 && left.iter().all(|child| !child.zombie)
        });
        pass.finish(PATIENCE).expect(0);
        assert_eq!(container.scene.leftover_processes(), [] as [i32; 0]);
    }
    assert_eq!(container.scene.backups().len(), 2);
}

#[test]
fn pid_1_reaps_orphans_and_loses_no_child_status() {
    need_server!();
    let Some(way) = Way::all().pop() else { return };
    let container = Container::seeded("orphans", way, &["/bin/sh", "/bin/sleep"]);
    // They end one after the other, some with the server.
    let bury = |name: &str, rest: &str| bury(&container, name, 20, rest);
    container.scene.primary.slow_backlog("shop", 60, 0.1);
    let mut pass = container.command("run").arg(bury("mysqld", "exec MYSQLD \"$@\"")).spawn();
    let init = container.wait_for_catch_up(&mut pass);
    // All have come to PID 1 and gone: what is left is the server, and it runs.
    let mut most = 0;
    wait_until("the orphans to be gone", Duration::from_secs(5), || {
        let left = children(init);
        most = most.max(left.len());
        left.len() == 1 && !left[0].zombie
    });
    println!("PID 1 had {most} children at a time");
    let ended = fs::read_to_string(container.scene.scratch.join("tmp/orphans")).unwrap();
    assert_eq!(ended.lines().count(), 20, "they came to their end: {ended}");
    let server_pid = children(init)[0].pid;
    // Its death is still seen for what it is, and the pass goes on.
    kill(server_pid, libc::SIGKILL);
    pass.wait_for_log("it was killed by signal 9 (KILL)", PATIENCE);
    wait_until("a new server alone", PATIENCE, || {
        let left = children(init);
        left.len() == 1 && !left[0].zombie && left[0].pid != server_pid
    });
    pass.finish(PATIENCE).expect(0);

    // A status comes through, with orphans that end at the same moment.
    let options = [bury("ends", "sleep 0.3; exit 3"), "--max-failures=0".into()];
    let pass = container.command("run").args(options);
    pass.run_to_end(PATIENCE).expect(1).says("mysqld-start: ").says("it exited with status 3");
}

#[test]
fn names_are_looked_up_by_the_program_alone() {
    need_server!();
    for way in Way::all() {
        let mut container = Container::seeded("names", way, &[]);
        let port = container.scene.primary.port();
        let etc = container.work.join("etc");
        let run = |container: &Container, host: &str| {
            container.options(&format!("{host}:{port}"), "max-failures=0");
            container.command("run").run_to_end(PATIENCE)
        };
        // With nothing in /etc but the options, and none of the C library's modules for names.
        let modules = files(&container.image).into_iter().map(|(path, _)| path);
        let modules = modules.filter(|p| p.to_string_lossy().contains("libnss"));
        assert_eq!(modules.collect::<Vec<_>>(), [] as [PathBuf; 0]);
        run(&container, "localhost").expect(0);
        run(&container, "[::1]").expect(75).says("onnection refused");
        run(&container, "primary.test").expect(75).says("failed to lookup address");
        fs::write(etc.join("hosts"), "127.0.0.1 primary.test\n").unwrap();
        run(&container, "primary.test").expect(0);
        // By a name server. The primary is not in that network: nobody listens there.
        fs::remove_file(etc.join("hosts")).unwrap();
        fs::write(etc.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        container.helper = Some(root().join("tests/support/dns.pl"));
        run(&container, "primary.test").expect(75).says("onnection refused");
    }
}

#[test]
fn the_static_program_is_an_image_by_itself() {
    need_server!();
    let ways = Way::all();
    let (Some(program), Some(way)) = (std::env::var_os("ROLLFORWARD_STATIC"), ways.first()) else {
        assert!(std::env::var_os("CI").is_none(), "the suite sets ROLLFORWARD_STATIC");
        skipped("ROLLFORWARD_STATIC is not set ('make image-test')");
        return;
    };
    let (dir, work) = (TempDir::new("alone"), TempDir::new("volumes"));
    let image = dir.path().join("image");
    let mut collect = Command::new(root().join("dist/container/collect"));
    run_helper(collect.arg(&image).arg(root().join(program)), "");
    let all = files(&image).into_iter().map(|(path, _)| path).filter(|path| path.is_file());
    assert_eq!(all.collect::<Vec<_>>(), [image.join("usr/local/bin/rollforward")]);
    for volume in ["backup", "scratch", "etc", "run/secrets/rollforward"] {
        fs::create_dir_all(work.path().join(volume)).unwrap();
    }
    let wrapper = way.wrapper(&image, work.path(), None);
    let said = Rollforward::new(["--version"]).under(wrapper).run_to_end(PATIENCE).expect(0);
    assert!(said.stdout.starts_with("rollforward "), "{said}");
}

#[test]
fn a_user_of_the_image_is_found_by_name() {
    need_server!();
    if !Way::all().contains(&Way::Root) {
        return;
    }
    let mut container = Container::seeded("by-name", Way::Root, &[]);
    container.way = Way::AsRoot;
    let user = ["--mysqld-user", "keeper"];
    let run = |container: &Container| container.command("run").args(user).run_to_end(PATIENCE);
    run(&container).expect(2).says("no user 'keeper' for --mysqld-user");
    let passwd = format!("keeper:x:{USER}:{USER}:::\n");
    fs::write(container.work.join("etc/passwd"), passwd).unwrap();
    container.scene.primary.slow_backlog("shop", 30, 0.1);
    let mut pass = container.command("run").args(user).spawn();
    let init = container.wait_for_catch_up(&mut pass);
    assert_eq!(status(init, "Uid").split_whitespace().next(), Some("0"));
    let server = children(init)[0].pid;
    assert_eq!(status(server, "Uid").split_whitespace().next(), Some(&*USER.to_string()));
    pass.finish(PATIENCE).expect(0);
}
