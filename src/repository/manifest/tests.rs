//! Manifests: written text parses, and hostile text is refused.

use super::journal::{self, Journal, LogEntry, Span};
use super::parse::parse;
use super::*;
use crate::repository::data_dir::misleads_server;

const PRIMARY_LOG: &str = "ca978112ca1bbdca binlog.000007 2026-11-22T15:00:00Z";

fn sample() -> Manifest {
    let mut links = Vec::new();
    let mut stored = |n: u8, offset| {
        let frame = |offset| Frame { pack: 0, offset, length: 100 };
        // The last one is a difference of a difference.
        let more: &[u8] = if n == 3 { &[4, 5] } else { &[] };
        let bases = more.iter().map(|&n| Link { hash: [n; 32], frame: frame(u64::from(n)) });
        let own = Link { hash: [n; 32], frame: frame(offset) };
        let chain = Chain::push(&mut links, std::iter::once(own).chain(bases));
        Block::Stored(chain.unwrap())
    };
    let small = vec![stored(1, 0)];
    let blocks = vec![stored(2, 100), Block::Zeros { count: 2 }, stored(3, 200)];
    let of_journal = [vec![stored(6, 10)], vec![stored(7, 20)]];
    let log = |number: usize, from: &str, to: &str, times| {
        let (path, blocks) = (journal::path(number), of_journal[number - 1].clone());
        let span = Span { from: from.into(), to: to.into(), times };
        LogEntry { file: FileEntry { path, mode: 0o600, size: 20, blocks }, span }
    };
    let times = Some((Micros(1_795_361_000_000_001), Micros(1_795_361_399_000_000)));
    let file =
        |path: &str, size, blocks| FileEntry { path: path.into(), mode: 0o660, size, blocks };
    Manifest {
        header: Header {
            flavor: "mariadb".into(),
            version: "10.11.19-MariaDB-1 deb12".into(),
            position: "0-1-119,5-2-7".into(),
            data_as_of: Timestamp(1_795_361_400),
            started: Timestamp(1_795_361_000),
            base: Some("20261121T153000Z-00ff".into()),
            open_tables: 2,
            primary_log: PrimaryLog::parse(PRIMARY_LOG),
            settings: vec![
                ("lower_case_table_names".into(), "0".into()),
                ("sql_mode".into(), "".into()),
            ],
        },
        finished: Timestamp(1_795_361_500),
        block_size: BLOCK_SIZE,
        size: 3 * BLOCK_SIZE + 17 + 5,
        stored: 250,
        packs: vec![PackRef { hash: [0xab; 32], size: 300 }],
        dirs: vec![DirEntry { path: "shop".into(), mode: 0o700 }],
        files: vec![
            file("shop/a b\\\u{e9}.ibd", 5, small),
            file("shop/empty", 0, vec![]),
            file("x", 3 * BLOCK_SIZE + 17, blocks),
        ],
        journal: Journal {
            logs: vec![log(1, "0-1-7", "0-1-7", None), log(2, "0-1-7", "0-1-119,5-2-7", times)],
            gap: None,
            as_of: Some(Micros(1_795_361_399_000_000)),
            last_log: PrimaryLog::parse(PRIMARY_LOG),
        },
        links,
    }
}

/// The sample text with a change and a valid checksum.
fn changed(from: &str, to: &str) -> String {
    let text = sample().to_text();
    let body = &text[..text.find("end ").unwrap()];
    assert!(body.contains(from), "{from}");
    let body = body.replacen(from, to, 1);
    format!("{body}end {}\n", hex(&Sha256::digest(body.as_bytes()).into()))
}

#[test]
fn what_is_written_is_read_again() {
    let text = sample().to_text();
    assert_eq!(parse(text.as_bytes()).unwrap(), sample());
    assert!(text.contains("\nfile shop/a\\x20b\\x5c\\xc3\\xa9.ibd 660 5\n"), "{text}");
}

#[test]
fn unknown_header_keys_are_passed_over() {
    let text = changed("files 3\n", "files 3\nfuture some words\n");
    assert_eq!(parse(text.as_bytes()).unwrap(), sample());
}

#[test]
fn a_manifest_cut_short_anywhere_is_none() {
    let text = sample().to_text();
    for end in 0..text.len() {
        assert!(parse(&text.as_bytes()[..end]).is_err(), "{end}");
    }
}

#[test]
fn a_bit_flipped_anywhere_is_noticed() {
    let text = sample().to_text().into_bytes();
    for at in 0..text.len() {
        let mut text = text.clone();
        text[at] ^= 1;
        assert!(parse(&text).is_err(), "{at}");
    }
}

#[test]
fn a_lying_manifest_is_refused_by_name() {
    let max = u64::MAX.to_string();
    let hash = "ab".repeat(32);
    let two = "02".repeat(32);
    let deep = (0..102)
        .fold(String::new(), |all, n| format!("{all}dir {} 700\n", vec!["a"; n + 1].join("/")));
    let five = format!("xor {} 0 5 100\n", "05".repeat(32));
    for (from, to, says) in [
        ("format 1", "format 2", "later format 2"),
        ("format 1", "#!/bin/sh", "not a manifest"),
        ("flavor mariadb", "flavor oracle", "flavor"),
        ("flavor mariadb\n", "", "flavor is missing"),
        ("flavor mariadb", "flavor mariadb\nflavor mysql", "duplicate flavor"),
        ("position 0-1-119", "position 0-1-119 x", "position"),
        ("base 2026", "base ../2026", "base"),
        ("setting sql_mode ", "setting sql_mode a b", "setting"),
        ("setting sql_mode ", "setting sql_mode $(x)", "setting"),
        ("setting sql_mode ", "setting SQL --x", "setting"),
        ("setting sql_mode ", "setting lower_case_table_names 1", "duplicate"),
        ("block_size 4194304", "block_size 0", "block size"),
        ("block_size 4194304", "block_size 1099511627776", "block size"),
        ("size 12582934", "size 12582935", "add up"),
        ("files 3", "files 4", "number of files"),
        ("files 3", "files +3", "not a number"),
        ("dir shop", "dir /shop", "relative and normal"),
        ("dir shop", "dir ../shop", "relative and normal"),
        ("dir shop", "dir .", "relative and normal"),
        ("dir shop", "dir shop/", "relative and normal"),
        ("dir shop", "dir a/../../shop", "relative and normal"),
        ("dir shop", "dir shop\\x00", "relative and normal"),
        ("dir shop", "dir \\x2e\\x2e", "relative and normal"),
        ("dir shop", "dir shop\\x2f", "relative and normal"),
        ("dir shop", &format!("{deep}dir shop"), "more than 100 parts"),
        ("dir shop", "dir shop\\x+1", "escaped"),
        ("dir shop", "dir shop\\", "escaped"),
        ("dir shop 700", "dir shop 4755", "mode"),
        ("dir shop", "dir shap", "not listed"),
        ("file x", "file shop/empty", "duplicate"),
        ("file x", "file shop", "duplicate"),
        ("file x", "file shop/empty/x", "not listed"),
        ("shop/empty 660 0", "shop/empty 660 1", "too few blocks"),
        ("shop/empty 660 0", &format!("shop/empty 660 {max}"), "more than a disk"),
        ("zeros 2", "zeros 0", "more blocks"),
        ("zeros 2", "zeros 4", "more blocks"),
        ("zeros 2", &format!("zeros {max}"), "more blocks"),
        ("zeros 2\n", "zeros 1\n", "too few blocks"),
        ("zeros 2\n", "zero 2\n", "unknown word"),
        (&format!("pack {hash} 300"), &format!("pack {hash} 299"), "outside its pack"),
        (&format!("pack {hash} 300"), &format!("pack {hash} 3\npack {hash} 3"), "duplicate"),
        (&format!("block {two} 0 100 100"), &format!("block {two} 1 100 100"), "no such pack"),
        (&format!("block {two} 0 100 100"), &format!("block {two} 0 {max} 100"), "outside"),
        (&format!("block {two} 0 100 100"), &format!("block {two} 0 100 0"), "frame"),
        ("dir shop", "block aa 0 1 1\ndir shop", "not a SHA-256"),
        ("dir shop", &format!("xor {two} 0 1 1\ndir shop"), "a base without a block"),
        ("zeros 2\n", &format!("zeros 2\nxor {two} 0 1 1\n"), "a base without a block"),
        (&five, &format!("{five}{five}{five}"), "too many bases"),
        (&five, &five.replace(" 0 5 ", " 1 5 "), "no such pack"),
        (&five, &five.replace(" 0 5 100", " 0 5 0"), "frame"),
        (&five, &five.replace(" 0 5 100", " 0 201 100"), "outside"),
        (&five, "xor 05 0 5 100\n", "not a SHA-256"),
        (&five, &five.replace("xor", "base"), "unknown word"),
        ("\njournal 20 0-1-7 0-1-7 - -", "\njournal 20 0-1-7 0-1-7 -", "missing word"),
        ("\njournal 20 0-1-7 0-1-7 - -", "\njournal 20 0-1-7 0-1-8 - -", "does not begin where"),
        ("\njournal 20 0-1-7 0-1-7 - -", "\njournal 20 0-1-7 0-1-7 - x", "not two times"),
        ("\njournal 20 0-1-7 0-1-7 - -", "\njournal 0 0-1-7 0-1-7 - -", "more blocks"),
        ("\njournal 20 0-1-7 0-1-7 - -", "\njournal 8000000 0-1-7 0-1-7 - -", "too few blocks"),
        ("\njournal 20 0-1-7 0-1-7 - -", "\nfile y 600 0\njournal 20 0-1-7 0-1-7 - -", "files"),
        ("0-1-7 0-1-119,5-2-7 2026", "0-1-7 0-1-118,5-2-7 2026", "position of the backup"),
        ("\nblock_size", "\nno_journal why\nblock_size", "a reason why there is none"),
        ("\nblock_size", "\nno_journal \\x\nblock_size", "badly escaped"),
        ("primary_as_of 2026", "primary_as_of 2O26", "not a time"),
        ("binlog.000007 2026", "binlog.000007", "primary_log"),
    ] {
        let error = parse(changed(from, to).as_bytes()).unwrap_err();
        assert!(error.contains(says), "{from} -> {to}: {error}");
    }
}

#[test]
fn names_of_backups_are_strict() {
    assert!(is_backup_name("20261122T153000Z-8f3a"));
    for bad in ["", "20261122T153000Z", "20261122T153000Z-8F3A", "20261322T153000Z-8f3a", "../x"] {
        assert!(!is_backup_name(bad), "{bad}");
    }
}

#[test]
fn files_that_mislead_a_server_are_refused() {
    for path in [
        "shop/t.isl",
        "db.sym",
        "my.cnf",
        "shop/t.sym",
        "any.cnf",
        "master.info",
        "master-ch1.info",
        "relay-log.info",
        "multi-master.info",
        "ddl_recovery.log",
        "ddl_recovery-backup.log",
        "binlog.index",
        "rollforward-replica.sql",
        "rollforward.first",
        "rollforward.mark",
    ] {
        let mut manifest = sample();
        manifest.dirs.push(DirEntry { path: "shop".into(), mode: 0o700 });
        manifest.dirs.dedup_by(|a, b| a.path == b.path);
        manifest.files =
            vec![FileEntry { path: path.into(), mode: 0o600, size: 0, blocks: vec![] }];
        manifest.size = 0;
        let said = parse(manifest.to_text().as_bytes()).unwrap_err();
        assert!(said.contains("would lead a server elsewhere"), "{path}: {said}");
    }
    // Nothing that servers have.
    for (path, is_dir) in [
        ("mysqld-auto.cnf", false),
        ("ddl_recovery", true),
        ("ddl_recovery.ibd", false),
        ("master.info.ibd", false),
        ("shop/master.info", false),
        ("shop/my.cnf", false),
    ] {
        assert!(!misleads_server(Path::new(path), is_dir), "{path}");
    }
    assert!(misleads_server(Path::new("rollforward.tmp"), true));
}
