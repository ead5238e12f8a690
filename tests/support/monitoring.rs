//! What `dist/monitoring` ships, what the page says of it, and promtool.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::run_helper;

/// The source.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of `dist/monitoring` by the end of its name.
#[track_caller]
pub fn dist(name: &str) -> String {
    let path = root().join(format!("dist/monitoring/rollforward.{name}"));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The names of metrics in a text.
pub fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    words.filter(|w| w.starts_with("rollforward_")).map(String::from).collect()
}

/// The metrics that the manual page has in its list.
pub fn page_names() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("man/rollforward-monitoring.7")).unwrap();
    let (_, section) = page.split_once(".Sh METRICS\n").expect("the section");
    let (section, _) = section.split_once("\n.Sh ").expect("its end");
    names(&section.lines().filter(|l| l.starts_with(".It Va ")).collect::<Vec<_>>().join(" "))
}

/// Can promtool not be had? Says so loudly, and panics in CI.
pub fn promtool_missing() -> bool {
    static MISSING: OnceLock<bool> = OnceLock::new();
    *MISSING.get_or_init(|| {
        let got = Command::new(root().join("scripts/promtool")).output().expect("scripts/promtool");
        if got.status.success() {
            return false;
        }
        let said = String::from_utf8_lossy(&got.stderr).into_owned();
        assert!(std::env::var_os("CI").is_none(), "no promtool: {said}");
        let line = format!("\n*** SKIPPED, there is no promtool ('make deps'): {said} ***\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        true
    })
}

/// Runs promtool, which must have nothing to object; what it says.
#[track_caller]
pub fn promtool(args: &[&str], input: &str) -> String {
    run_helper(Command::new(root().join("scripts/promtool")).args(args), input)
}
