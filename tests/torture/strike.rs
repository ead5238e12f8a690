//! One strike: the command is started, something befalls it or its mysqld, and it ends.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::plan::{Blow, Moment, Strike};
use super::{Arena, command};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{
    Checkpoint, Outcome, PATIENCE, Rollforward, Running, alive, flavor, try_kill, wait_until,
};

/// The phases of a pass in their order.
const PHASES: [&str; 7] = ["restore", "seed", "start", "catch-up", "stop", "backup", "prune"];

/// How it went.
pub struct Struck {
    /// How the command ended.
    pub outcome: Outcome,
    /// What it was doing when it was struck, as far as is known.
    pub phase: String,
    /// Did it come in time to change anything?
    pub landed: bool,
    /// The end as it is shown: a status, or the signal.
    pub end: String,
}

impl Arena {
    /// Starts the command, strikes, and waits for its end, which must be one that is allowed.
    #[track_caller]
    pub fn strike(&self, strike: &Strike) -> Struck {
        let before = self.scene.checkpoint();
        let at_calls = match strike.moment {
            Moment::Call(calls, n) => Some((calls, n)),
            _ => None,
        };
        let mut pass = self.command(strike, at_calls).spawn();
        let mut hits = 0;
        let mut phase = None;
        if at_calls.is_none() {
            self.wait_for_moment(strike, &mut pass, &before);
            phase = self.phase(&before);
            hits = self.hit(strike, &mut pass, &before);
        }
        let outcome = pass.finish(COMMAND_PATIENCE);
        // One that was killed cannot write any more: what it wrote last is what it did.
        if outcome.status >= 256 {
            phase = self.phase(&before).or(phase);
        }
        let alone = matches!(strike.command, "prune" | "restore");
        // What ended by itself went on, and does not say when it was struck at a call.
        let unseen = at_calls.is_some() && outcome.status < 256;
        let phase = match () {
            () if alone => Some(strike.command.into()),
            () if unseen => Some("a phase unseen".into()),
            () => phase,
        };
        let noticed = ["mysqld-died: ", "mysqld-hung: "].iter().any(|w| outcome.stderr.contains(w));
        let stood_still =
            hits > 0 && matches!(strike.blow, Blow::Freeze(_) | Blow::FreezeMysqld(_));
        let struck = Struck {
            landed: outcome.status != 0 || noticed || stood_still,
            phase: phase.unwrap_or_else(|| "before".into()),
            end: match outcome.status {
                s @ 256.. => format!("signal {}", s - 256),
                s => format!("status {s}"),
            },
            outcome,
        };
        assert!(strike.allows(struck.outcome.status), "not a right end; {}", struck.outcome);
        self.check_word(strike, &struck, &before);
        struck
    }

    fn command(&self, strike: &Strike, at_calls: Option<(&str, u64)>) -> Rollforward {
        let mut program = command(&self.scene, strike.command).args(&strike.options);
        match strike.command {
            "seed" => program = program.args(["--from", "dump"]),
            "restore" => {
                let to = self.scene.path("target");
                let _ = fs::remove_dir_all(&to);
                program = program.arg("--to").arg(to);
            }
            _ => {}
        }
        let Some((calls, n)) = at_calls else { return program };
        let signal = match strike.blow {
            Blow::Ask(signal, _) if signal == libc::SIGINT => "INT",
            Blow::Ask(..) => "TERM",
            _ => "KILL",
        };
        let mut line: Vec<String> = ["strace", "-f", "-qq", "-o"].map(String::from).into();
        line.push(self.scene.path("strace.log").display().to_string());
        line.extend(["-e".into(), format!("trace={calls}")]);
        line.extend(["-e".into(), format!("inject={calls}:signal={signal}:when={n}")]);
        match strike.blow {
            // The tracer becomes a child of the server: the server's pid is the one we know.
            Blow::Mysqld(times) => program.arg("--mysqld").arg(self.traced_mysqld(&line, times)),
            // Both are counted, and whoever comes first is killed.
            Blow::Both => program.under(line),
            _ => {
                line.extend(["-b".into(), "execve".into()]);
                program.under(line)
            }
        }
    }

    /// A server of which the first `times` starts run under the tracer.
    fn traced_mysqld(&self, line: &[String], times: u32) -> PathBuf {
        let marks = self.scene.path("traced");
        let _ = fs::remove_dir_all(&marks);
        fs::create_dir(&marks).unwrap();
        let quoted: Vec<String> = line.iter().map(|w| format!("'{w}'")).collect();
        let body = format!(
            "for n in $(seq {times}); do \
             mkdir '{}'/$n 2>/dev/null && exec {} -D MYSQLD \"$@\"; done; exec MYSQLD \"$@\"",
            marks.display(),
            quoted.join(" ")
        );
        self.scene.fake_mysqld("traced-mysqld", &body)
    }

    fn wait_for_moment(&self, strike: &Strike, pass: &mut Running, before: &Checkpoint) {
        let began = Instant::now();
        let after = match strike.moment {
            Moment::Time(n) => self.usual(strike.command) * n as u32 / 1000,
            Moment::Phase(wanted, us) => {
                let rank = |p: &str| PHASES.iter().position(|q| *q == p);
                wait_until(wanted, PATIENCE * 2, || {
                    let now = self.phase(before);
                    pass.has_ended() || now.is_some_and(|p| rank(&p) >= rank(wanted))
                });
                began.elapsed() + Duration::from_micros(us)
            }
            Moment::Call(..) => return,
        };
        wait_until("the moment", PATIENCE * 2, || pass.has_ended() || began.elapsed() >= after);
    }

    /// Does it; says how often it hit something.
    fn hit(&self, strike: &Strike, pass: &mut Running, before: &Checkpoint) -> u32 {
        if pass.has_ended() {
            return 0;
        }
        let program = pass.pid();
        let number = match strike.moment {
            Moment::Time(n) | Moment::Phase(_, n) | Moment::Call(_, n) => n,
        };
        match strike.blow {
            Blow::Program => u32::from(try_kill(program, libc::SIGKILL)),
            Blow::Both => {
                let mysqld = self.mysqld(before);
                // The one or the other is the first to go.
                let first = number.is_multiple_of(2);
                let late = !first && try_kill(program, libc::SIGKILL);
                mysqld.map(|pid| try_kill(pid, libc::SIGKILL));
                u32::from(late || try_kill(program, libc::SIGKILL))
            }
            Blow::Ask(signal, times) => {
                let mut hits = 0;
                for n in 0..times {
                    pause(Duration::from_millis(40) * n, pass);
                    hits += u32::from(!pass.has_ended() && try_kill(program, signal));
                }
                hits
            }
            Blow::Freeze(ms) => {
                let hit = try_kill(program, libc::SIGSTOP);
                pause(Duration::from_millis(ms), pass);
                try_kill(program, libc::SIGCONT);
                u32::from(hit)
            }
            Blow::FreezeMysqld(ms) => {
                let Some(pid) = self.wait_for_mysqld(pass, before, 0) else { return 0 };
                let hit = try_kill(pid, libc::SIGSTOP);
                if let Some(ms) = ms {
                    pause(Duration::from_millis(ms), pass);
                    if alive(pid) {
                        try_kill(pid, libc::SIGCONT);
                    }
                }
                u32::from(hit)
            }
            Blow::Mysqld(times) => {
                let (mut hits, mut last) = (0, 0);
                for n in 0..times {
                    let Some(pid) = self.wait_for_mysqld(pass, before, last) else { break };
                    // The first one at its moment, the others at any time after their start.
                    let later = Duration::from_millis((number * 7919 * u64::from(n)) % 450);
                    pause(later, pass);
                    hits += u32::from(alive(pid) && try_kill(pid, libc::SIGKILL));
                    last = pid;
                }
                hits
            }
        }
    }

    /// The checkpoint of this very command.
    fn word(&self, before: &Checkpoint) -> Option<Checkpoint> {
        let now = self.scene.checkpoint();
        let other = ["pid", "started"].iter().any(|key| now.get(key) != before.get(key));
        other.then_some(now)
    }

    fn phase(&self, before: &Checkpoint) -> Option<String> {
        self.word(before)?.get("phase").map(String::from)
    }

    fn mysqld(&self, before: &Checkpoint) -> Option<i32> {
        let pid = self.word(before)?.number("mysqld_pid")? as i32;
        (pid > 1 && alive(pid)).then_some(pid)
    }

    /// Another mysqld than `last`, unless the pass ends without one.
    fn wait_for_mysqld(&self, pass: &mut Running, before: &Checkpoint, last: i32) -> Option<i32> {
        let mut found = None;
        wait_until("a mysqld or the end", PATIENCE * 2, || {
            found = self.mysqld(before).filter(|pid| *pid != last);
            found.is_some() || pass.has_ended()
        });
        found
    }

    /// What the checkpoint says of an end must be true.
    #[track_caller]
    fn check_word(&self, strike: &Strike, struck: &Struck, before: &Checkpoint) {
        if matches!(strike.command, "prune" | "restore") {
            return assert_eq!(self.word(before), None, "{} has no checkpoint", strike.command);
        }
        let status = struck.outcome.status;
        let Some(word) = self.word(before) else {
            return assert!(status >= 256, "no checkpoint was written; {}", struck.outcome);
        };
        let state = word.get("state");
        // Killed behind its last word.
        let ended = word.get("exit_status").is_some();
        if status >= 256 && !ended {
            return assert_eq!(state, Some("running"), "{word:?} {}", struck.outcome);
        }
        let said: i32 = word.number("exit_status").expect("an exit status") as i32;
        assert!(status >= 256 || said == status, "{word:?} {}", struck.outcome);
        let right = match said {
            0 => "done",
            128.. => "stopped",
            _ => "failed",
        };
        assert_eq!(state, Some(right), "{word:?} {}", struck.outcome);
        assert_eq!(word.get("mysqld_pid"), None, "{word:?} {}", struck.outcome);
        if said == 0 {
            self.check_stored(&word);
        }
        self.check_no_password(&self.scene.scratch);
    }

    /// A pass that ended 0 has stored what its checkpoint says.
    #[track_caller]
    pub fn check_stored(&self, word: &Checkpoint) {
        let newest = self.scene.backups().pop().expect("a backup");
        assert_eq!(word.get("new_backup"), Some(newest.as_str()), "{word:?}");
        let position = self.scene.manifest_value(&newest, "position");
        assert_eq!(word.get("position"), Some(position.as_str()), "{word:?}");
        let goal = word.get("goal").expect("a goal");
        if flavor::is_mysql() {
            // With several workers its applier may be a transaction further when it stops.
            let reached = format!("SELECT GTID_SUBSET('{goal}', '{position}')");
            assert_eq!(self.scene.primary.value(&reached), "1", "{word:?}");
        } else {
            assert_eq!(goal, position, "{word:?}");
        }
    }
}

fn pause(time: Duration, pass: &mut Running) {
    let began = Instant::now();
    wait_until("some time", time + PATIENCE, || began.elapsed() >= time || pass.has_ended());
}
