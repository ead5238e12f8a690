//! A restore writes past the page cache where that is possible.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::LONG;
use crate::support::repository::tree;
use crate::support::{Outcome, Scene, TempDir, run_helper};

struct Direct {
    scene: Scene,
    dir: TempDir,
}

impl Direct {
    fn new() -> Direct {
        let scene = Scene::seeded("direct");
        let dir = TempDir::new("direct");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/direct.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(dir.path().join("direct.so"));
        run_helper(cc.arg(source).arg("-ldl"), "");
        Direct { scene, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Restores where such calls end this way.
    fn restore(&self, to: &str, direct: &str) -> Outcome {
        let library = format!("LD_PRELOAD={}", self.path("direct.so").display());
        let under = ["env".to_string(), library, format!("RF_DIRECT={direct}")];
        self.scene.command("restore").arg("--to").arg(self.path(to)).under(under).run_to_end(LONG)
    }

    fn content(&self, of: &str) -> BTreeMap<PathBuf, String> {
        let dir = self.path(of);
        let below = |path: PathBuf| path.strip_prefix(&dir).unwrap().to_path_buf();
        tree(&dir).into_iter().map(|(path, what)| (below(path), what)).collect()
    }
}

#[test]
fn where_the_page_cache_cannot_be_passed_it_serves() {
    need_server!();
    let direct = Direct::new();
    direct.restore("usual", "never").expect(0);
    let usual = direct.content("usual");
    assert!(usual.keys().any(|path| path.ends_with("ibdata1")));
    for refused in ["open", "write"] {
        direct.restore(refused, refused).expect(0);
        assert!(direct.content(refused) == usual, "{refused}");
    }
}

#[test]
fn a_failing_write_past_the_page_cache_is_reported() {
    need_server!();
    let direct = Direct::new();
    let mut options = OpenOptions::new();
    options.write(true).create(true).custom_flags(libc::O_DIRECT);
    if let Err(e) = options.open(direct.path("probe")) {
        println!("nothing is written past the page cache here: {e}");
        return;
    }
    let failed = direct.restore("to", "fail").expect(1);
    assert!(failed.stderr.contains("cannot write"), "{}", failed.stderr);
    assert!(failed.stderr.contains("input/output error"), "{}", failed.stderr);
    // The next one goes on there.
    direct.restore("to", "never").expect(0);
    direct.restore("usual", "never").expect(0);
    assert!(direct.content("to") == direct.content("usual"));
}
