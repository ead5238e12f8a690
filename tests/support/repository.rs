//! A repository as files: copied, looked at, damaged. And the JSON that is said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::run_helper;

/// An empty repository, made by hand as by an earlier version.
pub fn make_empty(repo: &Path) {
    for dir in ["backups", "packs", "tmp"] {
        fs::create_dir_all(repo.join(dir)).unwrap();
    }
    fs::write(repo.join("format"), "rollforward repository 1\n").unwrap();
}

/// Copies a directory with all that is in it; `to` must not exist.
#[track_caller]
pub fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    run_helper(cp.args(["-a", "--reflink=auto", "--"]).arg(from).arg(to), "");
}

/// The text of a backup's manifest.
#[track_caller]
pub fn manifest(repo: &Path, backup: &str) -> String {
    fs::read_to_string(repo.join("backups").join(backup)).unwrap()
}

/// Changes the lines of a manifest, the last one excepted, which is made right again.
#[track_caller]
pub fn edit_manifest(repo: &Path, backup: &str, edit: impl FnOnce(&mut Vec<String>)) {
    let text = manifest(repo, backup);
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    assert!(lines.pop().is_some_and(|l| l.starts_with("end ")), "{text}");
    edit(&mut lines);
    let body: String = lines.iter().map(|l| format!("{l}\n")).collect();
    fs::write(repo.join("backups").join(backup), seal(&body)).unwrap();
}

/// Lets a backup be so many seconds old, by the clock of the primary, too.
#[track_caller]
pub fn set_age(repo: &Path, backup: &str, age: u64) {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    edit_manifest(repo, backup, |lines| {
        for key in ["data_as_of", "started", "finished"] {
            let line = lines.iter_mut().find(|l| l.starts_with(&format!("{key} "))).unwrap();
            *line = format!("{key} {}", rfc3339(now - age));
        }
        if let Some(line) = lines.iter_mut().find(|l| l.starts_with("primary_as_of ")) {
            *line = format!("primary_as_of {}", rfc3339(now - age - 1));
        }
    });
}

/// A time as text, by the system's own means.
pub fn rfc3339(seconds: u64) -> String {
    let mut date = Command::new("date");
    date.args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("@{seconds}")]);
    run_helper(&mut date, "").trim().to_string()
}

/// Lines of a manifest with the last one that belongs to them.
pub fn seal(body: &str) -> String {
    format!("{body}end {}\n", hex(&Sha256::digest(body)))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The names of the packs that a manifest lists, in its order.
#[track_caller]
pub fn packs_of(repo: &Path, backup: &str) -> Vec<String> {
    let text = manifest(repo, backup);
    let packs = text.lines().filter_map(|l| l.strip_prefix("pack ")?.split(' ').next());
    packs.map(String::from).collect()
}

/// Where the frames of a pack are that a backup wants, by offset: offset and length.
#[track_caller]
pub fn frames_of(repo: &Path, backup: &str, pack: &str) -> BTreeSet<(usize, usize)> {
    let index = packs_of(repo, backup).iter().position(|p| p == pack);
    let index = index.expect("a pack of this backup").to_string();
    let text = manifest(repo, backup);
    let blocks = text.lines().filter_map(|l| l.strip_prefix("block "));
    blocks
        .map(|b| b.split(' ').collect::<Vec<_>>())
        .filter(|words| words[1] == index)
        .map(|words| (words[2].parse().unwrap(), words[3].parse().unwrap()))
        .collect()
}

/// The file of a pack.
pub fn pack_path(repo: &Path, pack: &str) -> PathBuf {
    repo.join("packs").join(&pack[..2]).join(pack)
}

/// The names of all files in the pack directories, sorted.
pub fn all_packs(repo: &Path) -> Vec<String> {
    let dirs = fs::read_dir(repo.join("packs")).into_iter().flatten().flatten();
    let files = dirs.flat_map(|d| fs::read_dir(d.path()).into_iter().flatten().flatten());
    let mut names: Vec<String> =
        files.map(|f| f.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Flips the lowest bit of the byte at `at`.
#[track_caller]
pub fn flip_bit(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

/// Flips a bit in the middle of the first block of a backup's journal.
#[track_caller]
pub fn rot_journal(repo: &Path, backup: &str) {
    let text = manifest(repo, backup);
    let after = text.split("\njournal ").nth(1).unwrap();
    let block = after.lines().find_map(|l| l.strip_prefix("block ")).unwrap();
    let words: Vec<&str> = block.split(' ').collect();
    let number = |at: usize| words[at].parse::<usize>().unwrap();
    let pack = &packs_of(repo, backup)[number(1)];
    flip_bit(&pack_path(repo, pack), number(2) + number(3) / 2);
}

/// Everything below a directory by its path: kind, mode, and the content's sum or link's target.
pub fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let (path, m) = (entry.path(), entry.metadata().unwrap());
            let what = if m.is_symlink() {
                format!("link to {}", fs::read_link(&path).unwrap().display())
            } else if m.is_file() {
                hex(&Sha256::digest(fs::read(&path).unwrap()))
            } else {
                "directory".into()
            };
            found.insert(path.clone(), format!("{:o} {what}", m.mode() & 0o7777));
            if m.is_dir() {
                todo.push(path);
            }
        }
    }
    found
}

/// A value of JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number as it is written.
    Number(String),
    /// A string.
    Text(String),
    /// `[...]`
    List(Vec<Json>),
    /// `{...}`
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// Reads one value with nothing behind it. Panics on anything that JSON has not.
    #[track_caller]
    pub fn parse(text: &str) -> Json {
        let mut rest = text.trim();
        let value = Json::value(&mut rest).unwrap_or_else(|| panic!("no JSON: {text}"));
        assert!(rest.is_empty(), "more behind the JSON: {text}");
        value
    }

    fn value(rest: &mut &str) -> Option<Json> {
        for (word, value) in
            [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))]
        {
            if eat(rest, word) {
                return Some(value);
            }
        }
        if eat(rest, "[") {
            let mut list = Vec::new();
            while !eat(rest, "]") {
                if !list.is_empty() && !eat(rest, ",") {
                    return None;
                }
                list.push(Json::value(rest)?);
            }
            return Some(Json::List(list));
        }
        if eat(rest, "{") {
            let mut object = BTreeMap::new();
            while !eat(rest, "}") {
                if !object.is_empty() && !eat(rest, ",") {
                    return None;
                }
                let key = Json::text(rest)?;
                let colon = eat(rest, ":");
                let twice = object.insert(key, Json::value(rest)?).is_some();
                if twice || !colon {
                    return None;
                }
            }
            return Some(Json::Object(object));
        }
        if rest.starts_with('"') {
            return Some(Json::Text(Json::text(rest)?));
        }
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = rest[..end].to_string();
        *rest = rest[end..].trim_start();
        (!number.is_empty()).then_some(Json::Number(number))
    }

    fn text(rest: &mut &str) -> Option<String> {
        let mut chars = rest.strip_prefix('"')?.chars();
        let mut text = String::new();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => match chars.next()? {
                    'u' => {
                        let code = u32::from_str_radix(chars.as_str().get(..4)?, 16).ok()?;
                        text.push(char::from_u32(code)?);
                        chars = chars.as_str()[4..].chars();
                    }
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    c @ ('"' | '\\' | '/') => text.push(c),
                    _ => return None,
                },
                c if c.is_control() => return None,
                c => text.push(c),
            }
        }
        *rest = chars.as_str().trim_start();
        Some(text)
    }

    /// The elements of a list.
    #[track_caller]
    pub fn list(&self) -> &[Json] {
        let Json::List(list) = self else { panic!("no list: {self:?}") };
        list
    }

    /// The member of an object.
    #[track_caller]
    pub fn get(&self, key: &str) -> &Json {
        let Json::Object(object) = self else { panic!("no object: {self:?}") };
        object.get(key).unwrap_or_else(|| panic!("no {key} in {self:?}"))
    }

    /// A string.
    #[track_caller]
    pub fn str(&self) -> &str {
        let Json::Text(text) = self else { panic!("no string: {self:?}") };
        text
    }
}

fn eat(rest: &mut &str, word: &str) -> bool {
    match rest.strip_prefix(word) {
        Some(after) => {
            *rest = after.trim_start();
            true
        }
        None => false,
    }
}
