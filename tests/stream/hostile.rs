//! Streams that are none, or lead elsewhere: nothing is written but in the scratch data directory.

use std::fs;
use std::path::Path;

use super::{archive, is_gone, piped, seed, shell};
use crate::support::intruder::outside;
use crate::support::repository::tree;
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Outcome, Scene, flavor, is_root};

fn from(scene: &Scene, file: &Path) -> Outcome {
    seed(scene, file.to_str().unwrap()).run_to_end(COMMAND_PATIENCE)
}

#[test]
fn what_is_no_stream_is_refused_at_once() {
    need_server!();
    let scene = Scene::new("none");
    let program = |from: &str| seed(&scene, from).run_to_end(COMMAND_PATIENCE).expect(2);
    program("").says("--from stream: needs a file, or - for standard input");
    program("/absent").says("stream:/absent cannot be read: no such file");
    program(scene.path(".").to_str().unwrap()).says("is a directory: adopt it with --from dir:");
    program("/dev/ptmx").says("is a terminal");
    let typed = seed(&scene, "-").under(["sh", "-c", "\"$@\" </dev/ptmx", "sh"]);
    typed.run_to_end(COMMAND_PATIENCE).expect(2).says("stream:- is a terminal");
    assert!(!scene.repo.exists() && !scene.scratch.exists());
    let inside = scene.scratch.join("x.stream");
    fs::create_dir(&scene.scratch).unwrap();
    fs::write(&inside, "").unwrap();
    from(&scene, &inside).expect(2).says("must not contain one another");
    fs::remove_dir_all(&scene.scratch).unwrap();
    for (script, told) in [
        ("echo hello", "is text: a stream is what mariadb-backup"),
        ("echo hello | gzip", "is compressed: pipe it through gzip -dc"),
        ("echo hello | zstd", "is compressed: pipe it through zstd -dc"),
        ("head -c 1000 /dev/zero", "begins like nothing that is known"),
    ] {
        is_gone(&scene, piped(&scene, script).run_to_end(COMMAND_PATIENCE).expect(2).says(told));
    }
    let failed = piped(&scene, "exit 1").run_to_end(COMMAND_PATIENCE).expect(1);
    is_gone(&scene, failed.says("io-error: cannot read stream:-: it ends before the backup"));
    assert!(scene.backups().is_empty());
}

/// A chunk as mbstream writes it, with its end, but for the checksum.
fn chunk(path: &str) -> Vec<u8> {
    let head = |kind: &[u8]| {
        [b"XBSTCK01\0", kind, &(path.len() as u32).to_le_bytes(), path.as_bytes()].concat()
    };
    [head(b"P"), 1u64.to_le_bytes().into(), vec![0; 12], b"x".to_vec(), head(b"E")].concat()
}

#[test]
fn no_name_in_a_stream_leads_out_of_the_directory() {
    need_server!();
    let scene = Scene::new("names");
    let outside = outside(&scene.path("."));
    let before = tree(&outside);
    let file = scene.path("bad");
    let absolute = outside.join("planted");
    for name in ["../../planted", "../state", "a/../../../planted", absolute.to_str().unwrap()] {
        fs::write(&file, chunk(name)).unwrap();
        if !flavor::is_mysql() {
            is_gone(&scene, from(&scene, &file).expect(2).says("not be below the data directory"));
        }
        let (from_name, work) = (name.replace('/', "\\/"), scene.path("work"));
        shell(&format!(
            "mkdir -p {w} && echo x >{w}/in && tar -P -C {w} --transform='s/^in$/{from_name}/' -cf {f} in",
            w = work.display(),
            f = file.display()
        ));
        let ended = from(&scene, &file);
        assert!(matches!(ended.status, 1 | 2), "{ended}");
        is_gone(&scene, ended);
        // A link first, and then a file through it.
        let place = outside.display();
        shell(&format!(
            "cd {w} && rm -rf * && ln -s {place} l && tar -cf {f} l && rm l && mkdir l && echo x >l/planted && \
             tar -rf {f} l/planted && rm -rf *",
            w = work.display(),
            f = file.display()
        ));
        let ended = from(&scene, &file);
        assert!(matches!(ended.status, 1 | 2), "{ended}");
        is_gone(&scene, ended);
        assert_eq!(tree(&outside), before);
    }
    assert!(!scene.path("planted").exists() && scene.backups().is_empty());
}

#[test]
fn what_no_backup_holds_is_refused_by_name() {
    need_server!();
    let mut scene = Scene::new("kinds");
    scene.primary.fill("shop", 1, 100);
    scene.primary.stop();
    let (copy, file) = (scene.path("copy"), scene.path("bad.tar"));
    crate::support::repository::copy(scene.primary.datadir(), &copy);
    let (shop, secret) = (copy.join("shop/planted"), scene.path("secret"));
    fs::write(&secret, "secret").unwrap();
    let planted = shop.display();
    let plant = [
        (format!("ln -s {} {planted}", secret.display()), "shop/planted is a symbolic link"),
        (format!("mkfifo {planted}"), "shop/planted is neither a file nor a directory"),
        (format!("mknod {planted} c 1 3"), "shop/planted is neither a file nor a directory"),
        (format!("ln {}/ibdata1 {planted}", copy.display()), "by hard links"),
        (format!("echo /etc/passwd >{planted}.isl"), "leads to data elsewhere"),
    ];
    for (script, told) in plant {
        if script.starts_with("mknod") && !is_root() {
            continue;
        }
        shell(&script);
        archive(&copy, ".", &file);
        shell(&format!("rm -f {planted} {planted}.isl"));
        is_gone(&scene, from(&scene, &file).expect(2).says(told));
    }
    if !flavor::is_mysql() {
        // Options that the program which prepares it would follow.
        for option in
            ["plugin-dir=.", "innodb_data_home_dir=/var/lib/mysql", "!include /etc/my.cnf"]
        {
            let name = option.split('=').next().unwrap();
            shell(&format!(
                "cd {} && printf '[mysqld]\\n{option}\\n' >backup-my.cnf && echo >xtrabackup_info && \
                 mbstream -c backup-my.cnf xtrabackup_info >{}",
                copy.display(),
                file.display()
            ));
            let told =
                format!("backup-my.cnf that leads elsewhere with {}", name.replace('_', "-"));
            is_gone(&scene, from(&scene, &file).expect(2).says(&told));
        }
    }
    assert!(scene.backups().is_empty());
    assert_eq!(fs::read_to_string(secret).unwrap(), "secret");
    scene.primary.restart();
}
