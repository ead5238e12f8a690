//! Blocks that change in place are stored as differences, of which any backup is made again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::support::{Space, flip, header, noise};
use crate::error::{Error, Result};
use crate::os::workers::Crew;
use crate::repository::manifest::{BLOCK_SIZE, Block, Link, MOST_FRAMES, Manifest};
use crate::repository::packs;
use crate::repository::packs::write::{Origin, Packer, Table};
use crate::repository::prune::prune;
use crate::repository::restore::Into;
use crate::repository::retention::Policy;
use crate::repository::store::{Data, Header, Stored, store};

const BLOCK: usize = BLOCK_SIZE as usize;

/// A backup that grew from the newest one.
fn grow(s: &Space) -> Stored {
    let base = s.repo.names().unwrap().pop();
    store(
        &s.repo,
        &s.lock(),
        Data { path: &s.data, known: None, journal: &Default::default() },
        Header { base, ..header() },
        1,
        &mut Crew::unwatched(2),
    )
    .unwrap()
}

/// Changes some bytes of a file in place, others for each `seed`.
fn touch(s: &Space, name: &str, seed: u64) {
    let file = File::options().read(true).write(true).open(s.data.join(name)).unwrap();
    let size = file.metadata().unwrap().len();
    for word in noise(seed, 50 * 8).chunks_exact(8) {
        let at = u64::from_le_bytes(word.try_into().unwrap()) % (size - 16);
        file.write_all_at(&word[..6], at).unwrap();
    }
}

fn chains(manifest: &Manifest) -> Vec<&[Link]> {
    let blocks = manifest.files.iter().flat_map(|file| &file.blocks);
    let chain = |block: &Block| match block {
        Block::Stored(chain) => Some(chain.of(&manifest.links)),
        Block::Zeros { .. } => None,
    };
    blocks.filter_map(chain).collect()
}

#[test]
fn thirty_nights_of_small_changes_stay_small_and_restorable() {
    let s = Space::new();
    s.file("shop/a.ibd", 1, 2 * BLOCK + 5000);
    s.file("small", 2, 40_000);
    let whole = s.store().stored;
    let (mut names, mut added, mut longest) = (Vec::new(), 0, 0);
    for night in 0..30 {
        touch(&s, "shop/a.ibd", 100 + night);
        touch(&s, "small", 200 + night);
        let stored = grow(&s);
        s.check(&stored.name);
        added += stored.stored;
        let manifest = s.repo.load(&stored.name).unwrap();
        longest = longest.max(chains(&manifest).iter().map(|links| links.len()).max().unwrap());
        names.push((stored.name, fs::read(s.data.join("small")).unwrap()));
    }
    assert_eq!(longest, MOST_FRAMES);
    assert!(added < whole / 20, "{added} of {whole}");
    assert!(s.verify().backups.iter().all(|backup| backup.ok));
    for (name, small) in names {
        let to = s.dir.join("to");
        s.restore(&name, &to, Into::Empty).unwrap();
        assert_eq!(fs::read(to.join("small")).unwrap(), small, "{name}");
        fs::remove_dir_all(&to).unwrap();
    }
    // What is not needed goes, and what is left is complete.
    let keep = Policy { keep_count: Some(1), ..Policy::ALL };
    let pruned = prune(&s.repo, &s.lock(), keep, &mut Crew::unwatched(1)).unwrap();
    assert!(pruned.removed.len() >= 28 && pruned.packs > 0, "{pruned:?}");
    assert!(s.verify().backups.iter().all(|backup| backup.ok));
    s.check(&s.repo.names().unwrap().pop().unwrap());
}

#[test]
fn files_that_grow_shrink_and_empty_come_back() {
    let s = Space::new();
    s.file("grows", 1, BLOCK / 2);
    s.file("shrinks", 2, BLOCK + 900_000);
    s.file("empties", 3, BLOCK);
    fs::write(s.data.join("fills"), vec![0; BLOCK]).unwrap();
    s.store();
    let size = |name: &str, size: usize| {
        let file = File::options().write(true).open(s.data.join(name)).unwrap();
        file.set_len(size as u64).unwrap();
        file
    };
    for night in 1..8 {
        let more = size("grows", BLOCK / 2 + night * 300_000);
        more.write_all_at(b"end", (BLOCK / 2 + night * 300_000 - 3) as u64).unwrap();
        size("shrinks", BLOCK + 900_000 - night * 100_000);
        // There and back again.
        size("empties", if night % 2 == 1 { 0 } else { BLOCK });
        let fills = size("fills", BLOCK);
        fills.write_all_at(&noise(night as u64, night * 1000), 5000).unwrap();
        touch(&s, "grows", night as u64);
        touch(&s, "shrinks", night as u64);
        s.check(&grow(&s).name);
    }
    assert!(s.verify().backups.iter().all(|backup| backup.ok));
}

/// A chain of two: the whole block in the first pack, the difference in the second.
fn chain_of_two() -> (Space, String, Manifest) {
    let s = Space::new();
    s.file("a.ibd", 1, BLOCK);
    s.store();
    touch(&s, "a.ibd", 7);
    let name = grow(&s).name;
    let manifest = s.repo.load(&name).unwrap();
    assert_eq!(chains(&manifest)[0].len(), 2);
    assert_eq!(manifest.packs.len(), 2);
    (s, name, manifest)
}

#[test]
fn damage_below_a_difference_is_named_and_healed() {
    let (s, name, manifest) = chain_of_two();
    let base = chains(&manifest)[0][1].frame;
    let pack = s.pack(&manifest.packs[base.pack as usize]);
    flip(&pack, base.offset + u64::from(base.length) / 2);
    let said = match s.restore(&name, &s.dir.join("to"), Into::Empty) {
        Err(Error::BackupDamaged { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let pack_name = pack.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(pack_name) && said.contains("a.ibd"), "{said}");
    // The data is changed again: what it is a difference to is found damaged, and stored whole.
    touch(&s, "a.ibd", 8);
    let stored = grow(&s);
    assert!(stored.damaged[0].contains(pack_name), "{:?}", stored.damaged);
    assert!(stored.stored > BLOCK_SIZE);
    s.check(&stored.name);
    let report = s.verify();
    let ok: Vec<bool> = report.backups.iter().map(|backup| backup.ok).collect();
    assert_eq!(ok, [false, false, true]);
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    assert_eq!((report.damaged[0].pack.as_str(), report.damaged[0].backups.len()), (pack_name, 2));
}

#[test]
fn a_damaged_difference_spoils_no_older_backup() {
    let (s, name, manifest) = chain_of_two();
    let own = chains(&manifest)[0][0].frame;
    flip(&s.pack(&manifest.packs[own.pack as usize]), own.offset + u64::from(own.length) / 2);
    let report = s.verify();
    let bad: Vec<&str> = report.backups.iter().filter(|b| !b.ok).map(|b| b.name.as_str()).collect();
    assert_eq!(bad, [name.as_str()]);
    assert_eq!(report.damaged[0].backups, [name]);
}

#[test]
fn false_bases_are_refused_and_blame_no_pack() {
    for change in [
        // Another content than the base has; the frame of another block; a longer base.
        (|m: &mut Manifest| m.links[1].hash = [7; 32]) as fn(&mut Manifest),
        |m| m.links[1].frame = m.links[0].frame,
        |m| {
            m.files[0].size -= 4096;
            m.size -= 4096;
        },
    ] {
        let (s, name, _) = chain_of_two();
        s.falsify(&name, change);
        let restored = s.restore(&name, &s.dir.join("to"), Into::Empty);
        let wrong_hash = s.repo.load(&name).unwrap().links[1].hash == [7; 32];
        // The hash of a base is only for whoever looks for the damage.
        assert_eq!(restored.is_ok(), wrong_hash, "{restored:?}");
        let report = s.verify();
        assert!(s.packs().iter().all(|pack| pack.extension().is_none()), "{report:?}");
        // A difference to it is none.
        touch(&s, "a.ibd", 9);
        let stored = grow(&s);
        s.check(&stored.name);
    }
}

#[test]
fn a_repository_of_format_one_is_raised_by_a_difference() {
    let s = Space::new();
    let format = s.repo.root().join("format");
    fs::write(&format, "rollforward repository 1\n").unwrap();
    s.file("a.ibd", 1, BLOCK);
    s.store();
    assert_eq!(fs::read_to_string(&format).unwrap(), "rollforward repository 1\n");
    touch(&s, "a.ibd", 1);
    grow(&s);
    assert_eq!(fs::read_to_string(&format).unwrap(), "rollforward repository 2\n");
}

/// What is read of a block for the second time.
struct Again<'a>(&'a [u8]);

impl Origin for Again<'_> {
    fn read(&self, content: &mut [u8]) -> Result<()> {
        content.copy_from_slice(self.0);
        Ok(())
    }

    fn fail(&self, e: io::Error) -> Error {
        Error::io("read", Path::new("shop/a.ibd"), e)
    }
}

#[test]
fn a_block_that_changes_between_two_readings_is_refused() {
    let s = Space::new();
    let write = |table: Table, content: &[u8], again: &[u8]| {
        let packer = Packer::new(s.repo.root(), 1, table);
        let mut writer = packer.writer()?;
        let (mut content, origin) = (content.to_vec(), Again(again));
        let block = packs::write::Block { content: &mut content, place: 7, origin: &origin };
        let chains = writer.put(&mut [block])?;
        writer.close()?;
        Ok::<_, Error>((packer.finish()?.0, chains[0]))
    };
    let (first, second) = (noise(1, 50_000), noise(2, 50_000));
    let (table, chain) = write(Table::default(), &first, &[]).unwrap();
    let chain = *chain.unwrap().of(&table.links).first().unwrap();
    let before = || {
        let mut before = Table::default();
        before.packs.clone_from(&table.packs);
        let chain = before.push(&[chain]).unwrap();
        before.precede(7, chain);
        before
    };
    // Nothing of it is as it was, so that it is stored whole, and so read once more.
    let (after, chain) = write(before(), &second, &second).unwrap();
    assert_eq!(chain.unwrap().of(&after.links).len(), 1);
    let error = write(before(), &second, &[9; 50_000]).map(|_| ()).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("shop/a.ibd") && said.contains("changed while being read"), "{said}");
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
}
