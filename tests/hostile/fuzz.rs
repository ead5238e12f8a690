//! Random lies, and a true primary whose answers are spoilt on the way: `ROLLFORWARD_FUZZ_SECONDS`
//! for longer, `SEED` for the same ones again.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{COMMANDS, command};
use crate::support::hostile::{Lie, greeting, head, listen, packet, rows};
use crate::support::server::free_listener;
use crate::support::{Outcome, PATIENCE, Scene, TempDir};
use crate::torture::plan::Dice;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().filter(|v| !v.is_empty()).map_or(usual, |v| v.parse().unwrap())
}

/// Calls `round` until the time is up, with a stream of numbers of its own each.
fn rounds(what: &str, mut round: impl FnMut(Dice, &str)) {
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let seed = number("SEED", clock);
    let until = Instant::now() + Duration::from_secs(number("ROLLFORWARD_FUZZ_SECONDS", 6));
    let mut done = 0;
    while Instant::now() < until {
        round(Dice::new(seed, done), &format!("{what}, SEED={seed}, round {done}"));
        done += 1;
    }
    println!("{what}: SEED={seed}, {done} rounds");
    assert!(done > 0);
}

/// Any end is good that is one by our own words.
#[track_caller]
fn ended_well(ended: &Outcome, what: &str) {
    assert!(matches!(ended.status, 0 | 1 | 2 | 3 | 75), "{what}: {ended}");
    assert!(!ended.stderr.contains("panicked"), "{what}: {ended}");
    let harmful = |c: char| c != '\n' && (c.is_control() || c == '\u{2028}' || c == '\u{202e}');
    assert!(!ended.stderr.contains(harmful), "{what}: {ended}");
    assert!(ended.stderr.lines().all(|l| l.starts_with("20")), "{what}: {ended}");
}

/// Nothing but what belongs to a pass is in `dir`.
#[track_caller]
fn nothing_outside(dir: &Path, known: &[&str]) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name.as_str()), "{name} in {}", dir.display());
    }
}

/// Changes some bytes, most of them to what means something in the protocol.
fn spoil(dice: &mut Dice, bytes: &mut Vec<u8>) {
    const TELLING: [u8; 11] = [0, 1, 2, 0x0a, 0x7f, 0x80, 0xfb, 0xfc, 0xfd, 0xfe, 0xff];
    for _ in 0..=dice.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.below(bytes.len() as u64) as usize;
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, dice.pick(&TELLING)),
            2 => drop(bytes.remove(at)),
            3 => bytes[at] = dice.below(256) as u8,
            _ => bytes[at] = dice.pick(&TELLING),
        }
    }
}

fn lie(dice: &mut Dice) -> Lie {
    let values = [&b"8.4.3"[..], b"10.11.14-MariaDB-log", b"0-1-5", b"1", b"", b"ON"];
    let some = |dice: &mut Dice| (0..dice.below(5)).map(|_| dice.pick(&values)).collect::<Vec<_>>();
    let mut bytes = match dice.below(5) {
        0 => greeting(),
        1 => head("a"),
        2 => packet(1, &(0..dice.below(40)).map(|_| dice.below(256) as u8).collect::<Vec<_>>()),
        3 => {
            // A number of columns of any size.
            let mut count = vec![dice.pick(&[0xfc, 0xfd, 0xfe])];
            count.extend((0..dice.below(9)).map(|_| dice.pick(&[0, 0, 1, 16, 0x7f, 0xff])));
            packet(1, &count)
        }
        _ => rows(some(dice)),
    };
    spoil(dice, &mut bytes);
    match dice.below(8) {
        0 | 1 => Lie::Greeting(bytes),
        2 => Lie::Value(bytes.into_iter().take(200).collect()),
        _ => Lie::Bytes(bytes),
    }
}

#[test]
fn random_lies_end_by_our_own_words() {
    rounds("lies", |mut dice, what| {
        let lie = lie(&mut dice);
        let dir = TempDir::new("lies");
        let program = command(dice.pick(&COMMANDS), &dir, listen(lie.clone()));
        let ended = program.args(["--max-failures=0", "--connect-timeout=300ms"]);
        ended_well(&ended.run_to_end(PATIENCE), &format!("{what}: {lie:?}"));
        nothing_outside(dir.path(), &["account.cnf", "repo", "scratch"]);
    });
}

/// Passes all on, but spoils what the server says from a byte on that the dice choose.
fn spoiling(to: u16, mut dice: Dice) -> u16 {
    let listener = free_listener();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let seed = dice.below(u64::MAX);
            std::thread::spawn(move || {
                let mut dice = Dice::new(seed, 0);
                let mut client = client;
                let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)) else { return };
                let (mut from, mut there) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut there);
                    let _ = there.shutdown(Shutdown::Both);
                });
                // Most of all what comes after the login, and not too soon.
                let most = 1 << (4 + dice.below(12));
                let mut left = dice.below(most) as usize;
                let mut buffer = vec![0; 16 << 10];
                while let Ok(got) = server.read(&mut buffer)
                    && got > 0
                {
                    let mut bytes = buffer[..got].to_vec();
                    if left < got {
                        let mut rest = bytes.split_off(left);
                        spoil(&mut dice, &mut rest);
                        bytes.extend(rest);
                        left = dice.below(most) as usize;
                    } else {
                        left -= got;
                    }
                    if client.write_all(&bytes).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

#[test]
fn spoilt_answers_end_by_our_own_words() {
    need_server!();
    let scene = Scene::seeded("spoilt");
    let plain = |text: String| text.replace("ssl-", "# ssl-") + "ssl-mode=DISABLED\n";
    for path in [&scene.nightly, &scene.dump] {
        let text = plain(std::fs::read_to_string(path).unwrap());
        std::fs::write(path, text).unwrap();
    }
    rounds("spoilt answers", |mut dice, what| {
        scene.primary.backlog("shop", 3);
        let program = match dice.below(3) {
            0 => scene.command("seed").args(["--from", "dump"]),
            _ => scene.command("run"),
        };
        let port = spoiling(scene.primary.port(), dice);
        let program = program.arg(format!("--primary=127.0.0.1:{port}"));
        let limits = ["--max-failures=1", "--connect-timeout=2s", "--stall-timeout=5s"];
        let ended = program.args(limits).run_to_end(Duration::from_secs(120));
        ended_well(&ended, what);
    });
    // Whatever was said: what is stored can be used.
    scene.command("verify").run_to_end(PATIENCE).expect(0);
    scene.run();
}
