//! What a round does, drawn from the seed and the round's number alone.

use std::fmt;

/// A small generator of numbers: the same seed, the same numbers (splitmix64).
pub struct Dice(u64);

impl Dice {
    /// Those of a seed and a stream of it.
    pub fn new(seed: u64, stream: u64) -> Dice {
        let mut dice = Dice(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, and without, `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// One of them, each as often as its weight says.
    fn weighed<T: Copy>(&mut self, all: &[(u64, T)]) -> T {
        let mut at = self.below(all.iter().map(|(w, _)| w).sum());
        for (weight, one) in all {
            if at < *weight {
                return *one;
            }
            at -= weight;
        }
        unreachable!("it is below the sum")
    }

    /// Up to `most`, small numbers as often as large ones of ten times their size.
    fn any_size(&mut self, most: u64) -> u64 {
        let bits = 64 - most.leading_zeros() as u64;
        let upto = 1 << (1 + self.below(bits));
        1 + self.below(most.min(upto))
    }
}

/// One round.
#[derive(Clone, Debug)]
pub struct Round {
    /// Its number, from 1.
    pub number: u64,
    /// It begins with the scratch data of a pass that ended well.
    pub kept: bool,
    /// The primary has tables outside of InnoDB.
    pub odd: bool,
    /// What is killed in it, one after the other.
    pub strikes: Vec<Strike>,
}

/// A command, and what is done to it.
#[derive(Clone, Debug)]
pub struct Strike {
    /// `run`, `seed`, `prune` or `restore`.
    pub command: &'static str,
    /// Its further options.
    pub options: Vec<String>,
    /// `--keep-count`, if it has one.
    pub keep: Option<usize>,
    /// What is done.
    pub blow: Blow,
    /// When.
    pub moment: Moment,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// kill -9 of the program.
    Program,
    /// kill -9 of its mysqld, so often.
    Mysqld(u32),
    /// kill -9 of both.
    Both,
    /// A signal that asks it to end, so often.
    Ask(i32, u32),
    /// The program stands still for so many milliseconds.
    Freeze(u64),
    /// Its mysqld does; for good, if `None`.
    FreezeMysqld(Option<u64>),
}

/// When it is done.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// After so many thousandths of the time the command took the last time.
    Time(u64),
    /// So many microseconds after a phase began.
    Phase(&'static str, u64),
    /// At the n-th of these system calls of one thread.
    Call(&'static str, u64),
}

/// System calls, and so many of them at most that one is waited for.
const PROGRAMS_CALLS: &[(u64, (&str, u64))] = &[
    (4, ("?write", 60)),
    (3, ("?pwrite64", 60)),
    (3, ("?openat,?openat2", 250)),
    (3, ("?fsync,?fdatasync,?syncfs", 24)),
    (3, ("?rename,?renameat,?renameat2", 16)),
    (2, ("?unlink,?unlinkat", 60)),
    (1, ("?ftruncate,?fallocate", 60)),
    (1, ("?mkdir,?mkdirat", 12)),
    (1, ("?clone,?clone3,?vfork,?fork", 6)),
    (1, ("?sendto", 30)),
    (1, ("?wait4,?waitid", 20)),
];

/// The same for mysqld, which makes many more of them.
const MYSQLDS_CALLS: &[(u64, (&str, u64))] = &[
    (5, ("?pwrite64", 120)),
    (4, ("?write", 120)),
    (4, ("?fsync,?fdatasync", 40)),
    (3, ("?openat", 300)),
    (2, ("?rename,?renameat,?renameat2", 6)),
    (3, ("?unlink,?unlinkat", 20)),
    (2, ("?ftruncate,?fallocate", 10)),
];

const PHASES: &[(u64, &str)] =
    &[(3, "restore"), (4, "start"), (8, "catch-up"), (5, "stop"), (4, "backup"), (2, "prune")];

impl Round {
    /// Round `number` of `seed`.
    pub fn of(seed: u64, number: u64) -> Round {
        let mut dice = Dice::new(seed, number);
        let (kept, odd) = (dice.percent(25), dice.percent(15));
        let many = dice.weighed(&[(6, 1), (3, 2), (1, 3)]);
        let strikes = (0..many).map(|_| Strike::draw(&mut dice)).collect();
        Round { number, kept, odd, strikes }
    }
}

impl Strike {
    fn draw(dice: &mut Dice) -> Strike {
        let command = dice.weighed(&[(32, "run"), (2, "seed"), (2, "prune"), (2, "restore")]);
        let alone = matches!(command, "prune" | "restore");
        let blow = match alone {
            true => dice.weighed(&[
                (6, Blow::Program),
                (2, Blow::Ask(libc::SIGTERM, 1)),
                (1, Blow::Ask(libc::SIGINT, 1)),
            ]),
            false => Strike::draw_blow(dice),
        };
        let calls = match blow {
            Blow::Program | Blow::Ask(_, 1) => Some(PROGRAMS_CALLS),
            // The tools of a seed are looked for beside the server, where the tracer is.
            Blow::Mysqld(_) | Blow::Both if command == "run" => Some(MYSQLDS_CALLS),
            _ => None,
        };
        let moment = match (calls, dice.below(100)) {
            (Some(calls), 0..40) => {
                let (calls, most) = dice.weighed(calls);
                Moment::Call(calls, dice.any_size(most))
            }
            (_, 40..75) if command == "run" => {
                Moment::Phase(dice.weighed(PHASES), dice.any_size(200_000) - 1)
            }
            _ => Moment::Time(dice.below(1050)),
        };
        let mut options = Vec::new();
        let keep = match command {
            "prune" => Some(1 + dice.below(3) as usize),
            "run" if dice.percent(50) => Some(1 + dice.below(4) as usize),
            _ => None,
        };
        options.extend(keep.map(|n| format!("--keep-count={n}")));
        if command == "run" && dice.percent(30) {
            options.push("--keep-scratch".into());
        }
        if command != "prune" && dice.percent(40) {
            options.push(format!("--jobs={}", dice.pick(&[1, 3])));
        }
        if matches!(blow, Blow::FreezeMysqld(_)) {
            options.push("--ping-timeout=1s".into());
        }
        Strike { command, options, keep, blow, moment }
    }

    fn draw_blow(dice: &mut Dice) -> Blow {
        let (often, rarely) = (1 + dice.below(4) as u32, 100 + dice.below(1400));
        dice.weighed(&[
            (30, Blow::Program),
            (30, Blow::Mysqld(often)),
            (20, Blow::Both),
            (7, Blow::Ask(libc::SIGTERM, 1)),
            (4, Blow::Ask(libc::SIGINT, 1)),
            (2, Blow::Ask(libc::SIGTERM, 2)),
            (3, Blow::Freeze(rarely)),
            (2, Blow::FreezeMysqld(Some(rarely))),
            (2, Blow::FreezeMysqld(None)),
        ])
    }

    /// May the command end so, and still have done right?
    pub fn allows(&self, status: i32) -> bool {
        // It may always have ended before.
        status == 0
            || match self.blow {
                Blow::Program => status == 256 + libc::SIGKILL,
                // One that dies at the same call of each start is given up on.
                Blow::Both => {
                    let at_call = matches!(self.moment, Moment::Call(..));
                    status == 256 + libc::SIGKILL || (at_call && status == 75)
                }
                // So early that nobody listens yet.
                Blow::Ask(signal, _) => status == 128 + signal || status == 256 + signal,
                Blow::Mysqld(_) | Blow::Freeze(_) | Blow::FreezeMysqld(_) => false,
            }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Blow::Program => write!(f, "kill rollforward"),
            Blow::Mysqld(1) => write!(f, "kill mysqld"),
            Blow::Mysqld(n) => write!(f, "kill mysqld {n} times"),
            Blow::Both => write!(f, "kill both"),
            Blow::Ask(libc::SIGTERM, 1) => write!(f, "TERM"),
            Blow::Ask(libc::SIGTERM, _) => write!(f, "TERM twice"),
            Blow::Ask(..) => write!(f, "INT"),
            Blow::Freeze(ms) => write!(f, "freeze rollforward for {ms} ms"),
            Blow::FreezeMysqld(Some(ms)) => write!(f, "freeze mysqld for {ms} ms"),
            Blow::FreezeMysqld(None) => write!(f, "freeze mysqld"),
        }
    }
}

impl Blow {
    /// Without its numbers, to be counted by.
    pub fn kind(&self) -> &'static str {
        match self {
            Blow::Program => "kill rollforward",
            Blow::Mysqld(_) => "kill mysqld",
            Blow::Both => "kill both",
            Blow::Ask(..) => "TERM or INT",
            Blow::Freeze(_) => "freeze rollforward",
            Blow::FreezeMysqld(_) => "freeze mysqld",
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Moment::Time(n) => write!(f, "at {n}/1000 of its time"),
            Moment::Phase(phase, us) => write!(f, "{us} us into {phase}"),
            Moment::Call(calls, n) => write!(f, "at {} {n}", calls.replace('?', "")),
        }
    }
}

impl Moment {
    /// What it is counted by.
    pub fn kind(&self) -> &'static str {
        match self {
            Moment::Time(_) => "at a time",
            Moment::Phase(..) => "after a phase began",
            Moment::Call(..) => "at a system call",
        }
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.command)?;
        self.options.iter().try_for_each(|o| write!(f, " {o}"))?;
        write!(f, ": {} {}", self.blow, self.moment)
    }
}

#[test]
fn a_seed_and_a_number_make_the_same_round() {
    for number in 1..100 {
        let (one, two) = (Round::of(7, number), Round::of(7, number));
        assert_eq!(format!("{one:?}"), format!("{two:?}"));
        assert_ne!(format!("{one:?}"), format!("{:?}", Round::of(8, number)));
    }
}
