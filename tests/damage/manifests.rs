//! What becomes of a manifest.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use memchr::memmem;

use super::packs::make_pipe;
use super::{Copy, PATIENCE, sample};
use crate::support::repository::{Json, all_packs, edit_manifest, seal};
use crate::support::small_disk::space;

/// What is done to the newer manifest, and what is said of it.
type RawCase = (&'static str, fn(Vec<u8>) -> Vec<u8>, &'static str);

const RAW_CASES: &[RawCase] = &[
    ("empty", |_| Vec::new(), "not a manifest"),
    ("cut after a byte", |t| t[..1].to_vec(), "not a manifest"),
    ("cut after the first line", |t| t[..9].to_vec(), "truncated"),
    ("cut in the middle", |t| t[..t.len() / 2].to_vec(), "truncated"),
    ("cut before the last line", |t| t[..t.len() - 69].to_vec(), "truncated"),
    ("cut in the last line", |t| t[..t.len() - 2].to_vec(), "truncated"),
    ("without the last newline", |t| t[..t.len() - 1].to_vec(), "truncated"),
    ("a byte changed", |t| changed(t, "position ", 10), "does not match the checksum"),
    ("a byte of the sum changed", |t| changed(t, "\nend ", 10), ""),
    ("a byte outside ASCII", |t| [t, vec![0xff]].concat(), "outside ASCII"),
    ("something behind it", |t| [t, b"more\n".to_vec()].concat(), "truncated"),
    ("zeros", |t| vec![0; t.len()], "not a manifest"),
    ("a later format", |t| later(&t, "format 2"), "later format 2"),
    ("a format far ahead", |t| later(&t, "format 99999999999999999999"), "not a manifest"),
    ("no format", |t| later(&t, "flavor mariadb"), "not a manifest"),
];

fn changed(mut text: Vec<u8>, after: &str, by: usize) -> Vec<u8> {
    let at = memmem::rfind(&text, after.as_bytes()).unwrap();
    let byte = &mut text[at + by];
    *byte = if *byte == b'0' { b'1' } else { b'0' };
    text
}

fn later(text: &[u8], first: &str) -> Vec<u8> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let body: String = text.lines().skip(1).filter(|l| !l.starts_with("end ")).fold(
        format!("{first}\n"),
        |mut all, line| {
            all += line;
            all.push('\n');
            all
        },
    );
    seal(&body).into_bytes()
}

#[test]
fn a_manifest_that_is_not_whole_is_named() {
    need_server!();
    let all = sample();
    for (number, (name, action, says)) in RAW_CASES.iter().enumerate() {
        let case = Copy::new(name);
        let text = fs::read(case.manifest()).unwrap();
        fs::write(case.manifest(), action(text)).unwrap();
        manifest_is_refused(&case, says, number % 2 == 0);
        assert_eq!(all_packs(&case.repo), all_packs(&all.repo), "{name}");
    }
}

/// All commands find the newer manifest damaged and say `says`; the older backup stays good.
#[track_caller]
fn manifest_is_refused(case: &Copy, says: &str, made: bool) {
    let all = sample();
    assert_eq!(case.states(), ["complete", "damaged"], "{}", case.name);
    case.is_damage(case.restore_fails(None, made), &[&all.newer, says]);
    let verified = case.run(&["verify", "--json"]);
    let json = Json::parse(&verified.stdout);
    let good: Vec<bool> =
        json.get("backups").list().iter().map(|b| b.get("ok") == &Json::Bool(true)).collect();
    assert_eq!(good, [true, false], "{}: {verified}", case.name);
    case.is_damage(verified, &[&all.newer, says]);
}

#[test]
fn a_manifest_that_is_no_plain_file_is_named() {
    need_server!();
    let all = sample();
    let case = Copy::new("a link to a good manifest");
    let elsewhere = case.dir.path().join("elsewhere");
    fs::rename(case.manifest(), &elsewhere).unwrap();
    symlink(&elsewhere, case.manifest()).unwrap();
    manifest_is_refused(&case, &all.newer, true);
    assert!(elsewhere.exists());

    let case = Copy::new("a link that leads nowhere");
    fs::remove_file(case.manifest()).unwrap();
    symlink("/nonexistent", case.manifest()).unwrap();
    manifest_is_refused(&case, &all.newer, false);

    let case = Copy::new("a directory");
    fs::remove_file(case.manifest()).unwrap();
    fs::create_dir(case.manifest()).unwrap();
    manifest_is_refused(&case, &all.newer, true);

    let case = Copy::new("a pipe");
    make_pipe(&case.manifest());
    manifest_is_refused(&case, &all.newer, false);
}

/// Lines that do harm, put where `place` says, and what is said of them.
const HOSTILE: &[(&str, &str, &str)] = &[
    // Before the first line that begins so; the line itself; what is said.
    ("dir ", "dir .. 700", "not relative and normal"),
    ("dir ", "dir . 700", "not relative and normal"),
    ("dir ", "dir /etc 700", "not relative and normal"),
    ("dir ", "dir shop/../.. 700", "not relative and normal"),
    ("dir ", "dir a//b 700", "not relative and normal"),
    ("dir ", "dir a/ 700", "not relative and normal"),
    ("dir ", "dir \\x2e\\x2e 700", "not relative and normal"),
    ("dir ", "dir a\\x00b 700", "not relative and normal"),
    ("dir ", "dir a\\x2fb 700", "the directory of a\\x2fb is not listed"),
    ("dir ", "dir a\\xzz 700", "badly escaped"),
    ("dir ", "dir deep/er 700", "is not listed before it"),
    ("dir ", "dir mysql 4755", "is not a mode"),
    ("dir ", "dir mysql 700", "duplicate"),
    ("file ", "file ../escape 600 0", "not relative and normal"),
    ("file ", "file /tmp/escape 600 0", "not relative and normal"),
    ("file ", "file mysql/t.isl 600 0", "would lead a server elsewhere"),
    ("file ", "file my.cnf 600 0", "would lead a server elsewhere"),
    ("file ", "file mysql 600 0", "duplicate"),
    ("file ", "file ibdata1 600 0", "duplicate"),
    ("file ", "file nowhere/x 600 0", "is not listed before it"),
    ("file ", "file a 600 -1", "is not a number"),
    ("file ", "file a 600 18446744073709551616", "is not a number"),
    ("file ", "file a 600 18446744073709551615", "more than a disk can hold"),
    ("file ", "file a 600 9223372036854775807", "too few blocks"),
    ("file ", "file a 600 1", "too few blocks"),
    ("file ", "file a 600 4398046511104", "too few blocks"),
    ("file ", "file a 600", "missing word"),
    ("file ", "file a b 600 0", "extra word"),
    ("file ", "file a 600 0", "number of files"),
    ("file ", "zeros 1", "a block before the first file"),
    ("file ", "command rm -rf /", "unknown word"),
    ("pack ", "pack ../../../etc/passwd 5", "not a SHA-256"),
    ("pack ", "position 0-1-1", "duplicate"),
    ("pack ", "setting init_file /tmp/x", "malformed setting"),
    ("pack ", "setting x --user=root\ttab", "control characters"),
    ("pack ", "block_size 4096", "duplicate"),
    ("block ", "zeros 0", "more blocks than the file has room for"),
    ("block ", "zeros 18446744073709551615", "more blocks than the file has room for"),
];

#[test]
fn a_hostile_manifest_is_refused_and_nothing_is_written() {
    need_server!();
    for (number, (place, line, says)) in HOSTILE.iter().enumerate() {
        let case = Copy::new(line);
        edit_manifest(&case.repo, &sample().newer, |lines| {
            let at = lines.iter().position(|l| l.starts_with(place)).unwrap();
            lines.insert(at, line.to_string());
        });
        manifest_is_refused(&case, says, number % 2 == 0);
    }
}

/// A word of the first line that begins so becomes another one, and what is said of it.
const LIES: &[(&str, usize, &str, &str)] = &[
    ("flavor ", 1, "oracle", "flavor"),
    ("position ", 1, "0-1-1 0-2-2", "position"),
    ("data_as_of ", 1, "yesterday", "not a time"),
    ("data_as_of ", 1, "9999999999999-01-01T00:00:00Z", "not a time"),
    ("base ", 1, "../../../etc/passwd", "base"),
    ("block_size ", 1, "0", "block size"),
    ("block_size ", 1, "1", "block size"),
    ("block_size ", 1, "4097", "block size"),
    ("block_size ", 1, "1099511627776", "block size"),
    ("size ", 1, "18446744073709551615", "do not add up"),
    ("files ", 1, "4000000000", "number of files"),
    ("stored ", 1, "-5", "not a number"),
    ("block ", 1, "abc", "not a SHA-256"),
    ("block ", 2, "4000000000", "no such pack"),
    ("block ", 2, "18446744073709551615", "no such pack"),
    ("block ", 3, "99999999999", "outside its pack"),
    ("block ", 3, "18446744073709551615", "outside its pack"),
    ("block ", 4, "0", "a frame of 0 bytes"),
    ("block ", 4, "18446744073709551615", "outside its pack"),
];

#[test]
fn a_manifest_that_lies_is_refused() {
    need_server!();
    for (number, (place, word, lie, says)) in LIES.iter().enumerate() {
        let case = Copy::new(&format!("{place}{lie}"));
        edit_manifest(&case.repo, &sample().newer, |lines| {
            let line = lines.iter_mut().find(|l| l.starts_with(place)).unwrap();
            let mut words: Vec<&str> = line.split(' ').collect();
            words[*word] = lie;
            *line = words.join(" ");
        });
        manifest_is_refused(&case, says, number % 2 == 0);
    }
}

/// The index of the first line of a file of more than a block's bytes, and its words.
fn first_file_with_a_block(lines: &[String]) -> usize {
    let pair = |at: &usize| lines[*at].starts_with("file ") && lines[at + 1].starts_with("block ");
    (0..lines.len() - 1).find(pair).expect("a file with a block")
}

fn set_word(line: &mut String, word: usize, to: &str) {
    let mut words: Vec<&str> = line.split(' ').collect();
    words[word] = to;
    *line = words.join(" ");
}

#[test]
fn a_false_manifest_spoils_its_backup_and_no_pack() {
    need_server!();
    let all = sample();
    type Edit = fn(&mut Vec<String>);
    let cases: [(&str, Edit); 4] = [
        ("another content wanted", |lines| {
            let at = first_file_with_a_block(lines);
            set_word(&mut lines[at + 1], 1, &"0".repeat(64));
        }),
        ("the wrong place in the pack", |lines| {
            let at = first_file_with_a_block(lines);
            let length: u64 = lines[at + 1].rsplit(' ').next().unwrap().parse().unwrap();
            set_word(&mut lines[at + 1], 4, &(length - 1).to_string());
        }),
        ("a file shorter than its content", |lines| {
            let at = first_file_with_a_block(lines);
            grow(lines, at, -1);
        }),
        ("a file longer than its content", |lines| {
            let at = (0..lines.len() - 1).find(|at| {
                let size = || lines[*at].rsplit(' ').next().unwrap().parse::<u64>().unwrap();
                lines[*at].starts_with("file ")
                    && lines[at + 1].starts_with("block ")
                    && size() % (4 << 20) != 0
            });
            grow(lines, at.unwrap(), 1);
        }),
    ];
    for (name, edit) in cases {
        let case = Copy::new(name);
        edit_manifest(&case.repo, &all.newer, edit);
        case.is_damage(
            case.restore_fails(None, false),
            &[&all.newer, "does not match its checksum"],
        );
        case.is_damage(case.run(&["verify"]), &[&all.newer, "a false manifest"]);
        assert_eq!(all_packs(&case.repo), all_packs(&all.repo), "{name}: packs set aside");
        case.run(&["verify", &all.older]).expect(0);
    }
}

/// Changes the size of a file, and the sum in the header with it.
fn grow(lines: &mut [String], file: usize, by: i64) {
    let header = lines.iter().position(|l| l.starts_with("size ")).unwrap();
    for (line, word) in [(header, 1), (file, 3)] {
        let old: i64 = lines[line].split(' ').nth(word).unwrap().parse().unwrap();
        set_word(&mut lines[line], word, &(old + by).to_string());
    }
}

#[test]
fn a_huge_size_costs_neither_memory_nor_time() {
    need_server!();
    let all = sample();
    let case = Copy::new("a huge file of zeros");
    let size: u64 = (i64::MAX as u64 - (1 << 40)) / (4 << 20) * (4 << 20);
    edit_manifest(&case.repo, &all.newer, |lines| {
        for (key, value) in [("size ", size), ("files ", 1)] {
            let line = lines.iter_mut().find(|l| l.starts_with(key)).unwrap();
            *line = format!("{key}{value}");
        }
        lines.retain(|l| {
            let body = ["dir ", "file ", "journal ", "block ", "xor ", "zeros ", "pack "];
            !body.iter().any(|k| l.starts_with(k))
        });
        lines.push(format!("file huge 600 {size}"));
        lines.push(format!("zeros {}", size / (4 << 20)));
    });
    // Well formed: what is wrong with it shows only where it is to be written.
    case.run(&["verify", &all.newer]).expect(0);
    let limit = ["prlimit", "--as=300000000", "--"];
    let to = case.dir.path().join("work/to");
    let restore = case.command("restore").arg("--to").arg(&to).arg("--jobs=1");
    let outcome = restore.under(limit).run_to_end(PATIENCE);
    assert!(outcome.wall < Duration::from_secs(10), "{outcome}");
    // A tmpfs takes a hole of any size.
    let made = std::fs::metadata(to.join("huge")).is_ok_and(|m| m.len() == size);
    let outcome = outcome.expect(if made { 0 } else { 1 });
    // Elsewhere it is too large, and the next restore would go on with a directory of nothing.
    assert!(made || space(&to) < 1 << 20, "{outcome}");
}

/// Whoever can write to the store or to the checkpoint must not steer the terminal that shows it.
#[test]
fn escapes_in_a_repository_reach_no_terminal() {
    need_server!();
    let bad = "10.11\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}";
    for key in ["version", "position", "flavor", "base", "data_as_of"] {
        let case = Copy::new(key);
        // As it is, and escaped as in a path. What is not ASCII makes a manifest none.
        for value in ["10.11\u{1b}]0;owned\u{7}", "10.11\\x1b]0;owned\\x07"] {
            edit_manifest(&case.repo, &sample().newer, |lines| {
                let line = lines.iter_mut().find(|l| l.starts_with(&format!("{key} "))).unwrap();
                *line = format!("{key} {value}");
            });
            let scratch = case.dir.path().join("scratch");
            fs::create_dir_all(&scratch).unwrap();
            let checkpoint = format!(
                "format=1\nstate=failed\nphase=catch-up\ncause=diverged\nexit_status=1\n\
                 primary={bad}\nposition={bad}\nmessage='{bad}'\nstarted=2026-11-22T15:30:00Z\n"
            );
            fs::write(scratch.join("checkpoint"), checkpoint).unwrap();
            let scratch = format!("--scratch={}", scratch.display());
            for words in [
                &["list"][..],
                &["list", "--json"],
                &["verify"],
                &["verify", "--json"],
                &["status", &scratch],
                &["status", "--json", &scratch],
                &["prune", "--keep-count=1"],
                &["restore", &sample().newer, "--to=/nonexistent/to"],
            ] {
                let ended = case.run(words);
                assert!(ended.status < 4, "{words:?}: {ended}");
                for text in [&ended.stdout, &ended.stderr] {
                    let harm = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
                    assert!(!text.contains(harm), "{key} {words:?}: {text:?}");
                }
            }
        }
    }
}
