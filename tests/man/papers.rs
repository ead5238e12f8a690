//! README, CONTRIBUTING and the pages below `doc` agree with the sources: files that they name exist,
//! the map has every folder, the walks lead down, and the list for another flavor is whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::root;

/// The folders of `src` from top to bottom, as doc/design.md has them.
fn folders() -> Vec<String> {
    let design = read("doc/design.md");
    let (_, table) = design.split_once("| folder |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let rows = table.lines().skip(2).filter_map(|l| l.split('|').nth(1));
    rows.flat_map(quoted).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// The words in backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(String::from).collect()
}

/// Files of the sources that a text names.
fn files(text: &str) -> Vec<String> {
    quoted(text).into_iter().filter(|w| w.ends_with(".rs") && !w.contains(' ')).collect()
}

#[test]
fn files_named_in_the_papers_exist() {
    for paper in ["README.md", "CONTRIBUTING.md", "doc/design.md", "doc/format.md"] {
        for file in files(&read(paper)) {
            let exists = root().join("src").join(&file).exists() || root().join(&file).exists();
            assert!(exists, "{paper}: there is no {file}");
        }
    }
}

#[test]
fn every_folder_of_the_sources_is_on_the_map() {
    let map: BTreeSet<String> = folders().into_iter().collect();
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(root().join("src")).unwrap().flatten() {
        there.insert(Path::new(&entry.file_name()).file_stem().unwrap().display().to_string());
    }
    assert_eq!(map, there);
}

#[test]
fn no_walk_climbs_up_the_map_more_than_twice() {
    let (folders, design) = (folders(), read("doc/design.md"));
    let (_, walks) = design.split_once("## Three walks").unwrap();
    let (walks, _) = walks.split_once("\n## ").unwrap();
    let walks: Vec<&str> = walks.split("\n### ").skip(1).collect();
    assert_eq!(walks.len(), 3);
    for walk in walks {
        let (mut at, mut climbs) = (0, 0);
        for row in walk.lines().filter(|l| l.starts_with('|')) {
            let cell = row.split('|').nth(1).unwrap();
            let mut marked = cell.contains('\u{25b2}');
            // `main` is where every walk begins.
            for file in files(cell).iter().filter(|f| *f != "main.rs") {
                let folder = file.split('/').next().unwrap();
                let next = folders.iter().position(|f| f == folder).expect(file);
                assert_eq!(next < at, marked, "{file} in {row}");
                climbs += usize::from(next < at);
                (at, marked) = (next, false);
            }
        }
        assert!(climbs <= 2, "{climbs} times up: {walk}");
    }
}

#[test]
fn the_third_flavor_list_has_each_file_with_flavors() {
    let design = read("doc/design.md");
    let (_, list) = design.split_once("third flavor").unwrap();
    let (list, _) = list.split_once("\n**").unwrap();
    let list = files(list);
    super::for_each_source(&root().join("src"), &mut |path, text| {
        let file = path.strip_prefix(root().join("src")).unwrap().display().to_string();
        let knows = text.contains("Flavor::MariaDb") || text.contains("Flavor::MySql");
        assert!(!knows || file.ends_with("tests.rs") || list.contains(&file), "{file}");
    });
}

#[test]
fn the_readme_can_be_read_in_three_minutes() {
    let words = read("README.md").split_whitespace().count();
    assert!(words <= 900, "{words} words");
}

/// The last part of a name such as `Crew::new(1)` or `stop()`; none if it is neither.
fn named(word: &str) -> Option<&str> {
    let path = word.split('(').next()?;
    let is_name = path.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':');
    let marked = path.contains("::") || word.contains("()");
    path.rsplit("::").next().filter(|name| is_name && marked && !name.is_empty())
}

#[test]
fn functions_and_types_named_in_the_design_exist() {
    let mut sources = String::new();
    super::for_each_source(&root().join("src"), &mut |_, text| sources += text);
    let words: BTreeSet<&str> = sources.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let is_defined = |name: &str| {
        let kinds = ["fn", "struct", "enum", "trait", "type", "const"];
        let defined = kinds.iter().any(|kind| sources.contains(&format!("{kind} {name}")));
        // Variants of an enum have no word of their own.
        let variant = name.starts_with(char::is_uppercase) && words.contains(name);
        defined || variant
    };
    for word in quoted(&read("doc/design.md")) {
        let name = named(&word).unwrap_or_default();
        assert!(name.is_empty() || is_defined(name), "doc/design.md: there is no {word}");
    }
}
