//! What is kept, and what goes with what is not.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{LONG, PATIENCE, on, states};
use crate::support::repository::{
    all_packs, copy, hex, manifest, pack_path, packs_of, set_age, tree,
};
use crate::support::{Scene, strace_missing};

const DAY: u64 = 86_400;

/// Four backups, each grown from the one before it, of 30, 20, 10 days and one hour.
struct Chain {
    scene: Scene,
    names: [String; 4],
}

impl Chain {
    fn new() -> Chain {
        let scene = Scene::seeded("chain");
        for _ in 0..3 {
            scene.primary.backlog("shop", 50);
            scene.run().expect(0);
        }
        let names: [String; 4] = scene.backups().try_into().unwrap();
        for (name, age) in names.iter().zip([30 * DAY, 20 * DAY, 10 * DAY, DAY / 24]) {
            set_age(&scene.repo, name, age);
        }
        Chain { scene, names }
    }

    fn copy(&self, name: &str) -> PathBuf {
        let to = self.scene.path(&format!("repo-{name}"));
        copy(&self.scene.repo, &to);
        to
    }

    /// Which of the four are there, as numbers.
    fn left(&self, repo: &Path) -> String {
        let there = |n: &&usize| repo.join("backups").join(&self.names[**n - 1]).exists();
        [1, 2, 3, 4].iter().filter(there).map(usize::to_string).collect()
    }
}

/// Every pack there is, is one that a manifest names, and the other way round.
#[track_caller]
fn packs_are_those_of_the_manifests(repo: &Path) {
    let names = states(repo);
    let named: BTreeSet<String> =
        names.iter().flat_map(|n| packs_of(repo, n.split(' ').next().unwrap())).collect();
    assert_eq!(all_packs(repo), named.into_iter().collect::<Vec<_>>());
}

#[test]
fn the_policy_never_removes_the_newest_and_its_base() {
    need_server!();
    let chain = Chain::new();
    for (number, (policy, left)) in [
        (&[][..], "1234"),
        (&["--keep-count=9"], "1234"),
        (&["--keep-count=3"], "234"),
        (&["--keep-count=2"], "34"),
        (&["--keep-count=1"], "34"),
        (&["--keep-within=25d"], "234"),
        (&["--keep-within=15d"], "34"),
        (&["--keep-within=1m"], "34"),
        (&["--keep-count=3", "--keep-within=15d"], "234"),
        (&["--keep-count=1", "--keep-within=25d"], "234"),
    ]
    .into_iter()
    .enumerate()
    {
        let repo = chain.copy(&number.to_string());
        let before = tree(&repo);
        let dry = on(&chain.scene, &repo, "prune").arg("--dry-run").args(policy);
        let dry = dry.run_to_end(PATIENCE).expect(0).says("remove");
        assert_eq!(before, tree(&repo), "a dry run changed something: {policy:?}");
        for (name, digit) in chain.names.iter().zip("1234".chars()) {
            assert_eq!(dry.stderr.contains(name), !left.contains(digit), "{policy:?}: {dry}");
        }
        on(&chain.scene, &repo, "prune").args(policy).run_to_end(PATIENCE).expect(0);
        assert_eq!(chain.left(&repo), left, "{policy:?}");
        packs_are_those_of_the_manifests(&repo);
        on(&chain.scene, &repo, "verify").run_to_end(PATIENCE).expect(0);
    }
}

#[test]
fn damaged_backups_never_count() {
    need_server!();
    let chain = Chain::new();
    let [first, second, third, fourth] = &chain.names;
    let own = |name: &String, before: &String| {
        let old = packs_of(&chain.scene.repo, before);
        packs_of(&chain.scene.repo, name).into_iter().find(|p| !old.contains(p)).unwrap()
    };

    // The newest lacks a pack: the third one is the newest that counts, the second its base.
    let repo = chain.copy("a");
    fs::remove_file(pack_path(&repo, &own(fourth, third))).unwrap();
    on(&chain.scene, &repo, "prune").arg("--keep-count=1").run_to_end(PATIENCE).expect(0);
    assert_eq!(chain.left(&repo), "234");
    on(&chain.scene, &repo, "verify").arg(third).run_to_end(PATIENCE).expect(0);

    // One in the middle does: it is passed over in the count.
    let repo = chain.copy("b");
    let only_second = own(second, first);
    let spoilt = |name: &String| packs_of(&repo, name).contains(&only_second);
    let complete = chain.names.iter().filter(|n| !spoilt(n)).count();
    fs::remove_file(pack_path(&repo, &only_second)).unwrap();
    let prune = on(&chain.scene, &repo, "prune").arg(format!("--keep-count={complete}"));
    prune.run_to_end(PATIENCE).expect(0);
    for name in chain.names.iter().filter(|n| !spoilt(n)) {
        assert!(repo.join("backups").join(name).exists(), "{name}, which is complete, went");
    }

    // A manifest that cannot be read may name any pack, so none goes. It is said, loudly.
    let repo = chain.copy("c");
    let before = all_packs(&repo);
    fs::write(repo.join("backups").join(fourth), "format 1\n").unwrap();
    let outcome = on(&chain.scene, &repo, "prune").arg("--keep-count=1").run_to_end(PATIENCE);
    outcome.expect(1).says("error: backup-damaged").says(fourth).says("no pack was removed");
    assert_eq!(chain.left(&repo), "234");
    assert_eq!(all_packs(&repo), before);

    // The same does not hold up a pass.
    let repo = chain.copy("d");
    fs::write(repo.join("backups").join(second), "format 1\n").unwrap();
    let pass = on(&chain.scene, &repo, "run").arg("--keep-count=1").run_to_end(LONG);
    pass.expect(0).says("warning: backup-damaged").says("no pack was removed").says(second);
    assert_eq!(chain.left(&repo), "24", "the third one is not the base of the new one");
    assert!(before.iter().all(|p| all_packs(&repo).contains(p)), "a pack went");
}

#[test]
fn only_own_files_are_swept_and_a_pass_prunes() {
    need_server!();
    let chain = Chain::new();
    let repo = &chain.scene.repo;
    let stray = hex(&[0xab; 32]);
    fs::create_dir_all(repo.join("packs/ab")).unwrap();
    for name in [stray.as_str(), &format!("{stray}.damaged"), "README"] {
        fs::write(repo.join("packs/ab").join(name), "stray").unwrap();
    }
    fs::write(repo.join("tmp/pack-7"), "half").unwrap();
    fs::write(repo.join("backups/README"), "not a backup").unwrap();
    let outcome = chain.scene.command("run").arg("--keep-count=2").run_to_end(LONG).expect(0);
    assert_eq!(chain.left(repo), "4", "{outcome}");
    assert!(repo.join("backups/README").exists());
    assert_eq!(fs::read_dir(repo.join("packs/ab")).unwrap().count(), {
        let ours = all_packs(repo).iter().filter(|p| p.starts_with("ab")).count();
        ours + 1
    });
    assert!(repo.join("packs/ab/README").exists());
    assert_eq!(fs::read_dir(repo.join("tmp")).unwrap().count(), 0);
    fs::remove_file(repo.join("packs/ab/README")).unwrap();
    packs_are_those_of_the_manifests(repo);
    on(&chain.scene, repo, "verify").run_to_end(PATIENCE).expect(0);
    let newest = chain.scene.backups().into_iter().rfind(|n| n != "README").unwrap();
    assert!(manifest(repo, &newest).contains(&format!("\nbase {}\n", chain.names[3])));
}

/// What fails after the backup is stored does not make it worthless.
#[test]
fn a_failing_prune_after_the_backup_ends_3_by_name() {
    need_server!();
    if strace_missing() {
        return;
    }
    let scene = Scene::seeded("unpruned");
    scene.run().expect(0);
    let old = scene.repo.join("backups").join(&scene.backups()[0]);
    let mut under: Vec<OsString> =
        ["strace", "-f", "-qq", "--seccomp-bpf", "-o"].map(OsString::from).into();
    under.push(scene.path("strace.log").into_os_string());
    under.extend(["-e", "trace=?unlink,?unlinkat", "-P"].map(OsString::from));
    under.push(old.clone().into_os_string());
    under.extend(["-e", "inject=?unlink,?unlinkat:error=EIO"].map(OsString::from));
    let run = scene.command("run").arg("--keep-count=1");
    let outcome = run.clone().under(under).run_to_end(LONG).expect(3);
    let outcome = outcome.says("io-error").says("old backups were not pruned");
    outcome.says(&old.display().to_string()).says("backup stored, but it needs attention");
    assert_eq!((scene.backups().len(), old.exists()), (3, true));
    let checkpoint = scene.checkpoint();
    assert_eq!(checkpoint.get("cause"), Some("io-error"), "{checkpoint:?}");
    assert_eq!(checkpoint.get("new_backup"), scene.backups().last().map(String::as_str));
    run.run_to_end(LONG).expect(0);
    assert!(!old.exists());
}
