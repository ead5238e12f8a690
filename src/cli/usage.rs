//! The table of options and commands, and the text of `--help`. Pure.
//!
//! There is one table for parsing, help and tests.

use crate::error::{Error, Result};

/// An option.
pub struct Spec {
    /// Its letter; empty if it has none.
    pub short: &'static str,
    /// Its long name.
    pub long: &'static str,
    /// The placeholder for its value; empty for a switch.
    pub value: &'static str,
    /// The explanation in `--help`.
    pub help: &'static str,
    /// The commands that accept it; empty for all.
    pub commands: &'static [&'static str],
}

const fn setting(long: &'static str, value: &'static str, help: &'static str) -> Spec {
    Spec { short: "", long, value, help, commands: &[] }
}

/// All options in groups, in the order of `--help`.
#[rustfmt::skip]
pub const GROUPS: &[(&str, &[Spec])] = &[
    ("What to back up", &[
        setting("primary", "HOST[:PORT][,...]", "the primary; several candidates are tried in order"),
        setting("defaults-file", "FILE", "option file with [client] and [rollforward]"),
        setting("password-file", "FILE", "file that contains only the password"),
    ]),
    ("Where", &[
        Spec { short: "r", ..setting("repo", "DIR", "the repository of backups") },
        Spec { short: "s", ..setting("scratch", "DIR", "working directory of a pass") },
        Spec { commands: &["restore"], ..setting("to", "DIR", "target directory; empty or absent, but for --over") },
        Spec { commands: &["restore"], ..setting("over", "", "into older data of a stopped server: only what differs") },
        Spec { commands: &["restore"], ..setting("replica", "", "also write rollforward-replica.sql, which makes it a replica") },
        Spec { commands: &["restore", "open", "prove", "log"], ..setting("until", "WHEN", "as of a time, after a GTID, or before:GTID") },
        Spec { commands: &["open"], ..setting("tables", "DB.TABLE[,...]", "only these tables, and what the server needs") },
        Spec { commands: &["open"], ..setting("writable", "", "the server can be written to; otherwise it is read only") },
        setting("mysqld", "PATH", "server program of the private server"),
        setting("mysqld-user", "NAME", "as root: user of the private mysqld; root must be named"),
        setting("mysqld-option", "OPT", "option for the private mysqld; may be repeated"),
        Spec { commands: &["run"], ..setting("allow-upgrade", "", "let a newer mysqld series upgrade the data permanently") },
    ]),
    ("First backup", &[
        setting("first-backup", "HOW", "if there is no backup: refuse, dump or clone [refuse]"),
        Spec { commands: &["seed"], ..setting("from", "SOURCE", "dump, clone, dir:PATH or stream:FILE (-: standard input)") },
        Spec { commands: &["seed"], ..setting("position", "POS", "position of an adopted directory that lacks it") },
    ]),
    ("Patience and retries", &[
        setting("connect-timeout", "D", "time for the primary to greet and log us in [30s]"),
        setting("max-failures", "N", "failures without progress before giving up [10]"),
        setting("backoff-base", "D", "wait after the first failure; doubles each time [1s]"),
        setting("backoff-cap", "D", "longest wait between attempts [1m]"),
        setting("poll-interval", "D", "time between checks of the replica [1s]"),
        setting("ping-timeout", "D", "time for mysqld to answer before it counts as hung [30s]"),
        setting("stall-timeout", "D", "time without any progress before a failure; 0 is off [10m]"),
        setting("start-timeout", "D", "time a starting mysqld may be inactive [10m]"),
        setting("shutdown-timeout", "D", "time a stopping mysqld may be inactive [5m]"),
    ]),
    ("Checks", &[
        setting("check-time", "D", "time for CHECK TABLE, table after table in turn; 0 is none [1m]"),
        setting("compare-time", "D", "time to compare tables with the primary, in turn [0]"),
    ]),
    ("Retention", &[
        setting("min-interval", "D", "do nothing if the newest backup is younger [0]"),
        setting("keep-count", "N", "keep the N newest complete backups"),
        setting("keep-within", "D", "keep complete backups younger than this"),
        setting("keep-hourly", "N", "keep the newest of each of the last N hours that have one"),
        setting("keep-daily", "N", "the same by days"),
        setting("keep-weekly", "N", "the same by weeks"),
        setting("keep-monthly", "N", "the same by months"),
        setting("keep-yearly", "N", "the same by years"),
        setting("drop-after", "D", "keep nothing that is older, pinned or not, but the newest"),
        Spec { commands: &["pin"], ..setting("reason", "TEXT", "why the backup is pinned") },
        Spec { commands: &["pin"], ..setting("for", "D", "how long the pin lasts; without it until unpin") },
        Spec { commands: &["prune", "restore"], ..setting("dry-run", "", "show what would be done, and do nothing") },
    ]),
    ("Performance", &[
        setting("jobs", "N", "workers for backup and restore [cores]"),
        setting("compression-level", "N", "zstd level, 1 to 19 [1]"),
        setting("compress-stream", "", "ask for a compressed replication stream"),
        setting("keep-scratch", "", "keep the scratch data after success"),
        setting("slots", "DIR:N", "at most N passes at a time of all that name DIR (run)"),
        setting("slot-wait", "D", "how long to wait for one [6h]"),
        Spec { commands: &["follow"], ..setting("every", "D", "what has arrived is stored after this time at the latest [10s]") },
        Spec { commands: &["run"], ..setting("no-journal", "", "do not keep the relay logs of the pass") },
    ]),
    ("Proofs", &[
        Spec { commands: &["run"], ..setting("prove", "", "prove the new backup at once; status 3 if that fails") },
        Spec { commands: &["status"], ..setting("max-proof-age", "D", "critical unless the newest proven backup was proven within this time") },
    ]),
    ("Hooks", &[
        setting("before", "CMD", "run before a pass, which is cancelled if CMD fails"),
        Spec { commands: &["run"], ..setting("on-data", "CMD", "run on the caught-up private server, before it is stored") },
        setting("after", "CMD", "run after every pass"),
        setting("after-success", "CMD", "run after a pass with status 0"),
        setting("after-failure", "CMD", "run after a pass with another status"),
        setting("hook-timeout", "D", "time limit of each of these [10m]"),
    ]),
    ("Output", &[
        setting("checkpoint", "FILE", "file for the state of the pass [SCRATCH/checkpoint]"),
        setting("metrics-file", "FILE", "metrics of the pass for node_exporter's textfile collector"),
        Spec { commands: &["status"], ..setting("max-age", "D", "critical if the newest backup is older") },
        Spec { commands: &["status"], ..setting("all", "DIR", "a line for each option file *.cnf in DIR, and the worst status") },
        Spec { commands: &["status"], ..setting("max-lag", "D", "critical if the newest moment that can be restored is older") },
        Spec { commands: &["list"], ..setting("windows", "", "spans that can be restored to any moment, and gaps") },
        Spec { commands: &["log", "report"], ..setting("since", "D", "how far back [log: all; report: 90d]; log: or a time") },
        Spec { commands: &["log"], ..setting("table", "DB.TABLE", "only transactions that touch this table") },
        Spec { commands: &["log"], ..setting("ddl", "", "only definitions; with --table also the command to restore") },
        Spec { commands: &["list", "verify", "log", "status", "report"], ..setting("json", "", "machine-readable output") },
        setting("log-file", "FILE", "log to FILE instead of standard error"),
        Spec { short: "v", ..setting("verbose", "", "log more") },
        Spec { short: "q", ..setting("quiet", "", "log only warnings and errors") },
        Spec { short: "h", ..setting("help", "", "show this help") },
        Spec { short: "V", ..setting("version", "", "show the version") },
    ]),
];

/// All options, without their groups.
pub fn options() -> impl Iterator<Item = &'static Spec> {
    GROUPS.iter().flat_map(|(_, options)| *options)
}

/// The commands: name, operands, explanation.
#[rustfmt::skip]
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("run", "", "one pass: restore, catch up, store a new backup, prune"),
    ("seed", "", "take a backup that starts a new chain"),
    ("follow", "", "keep what the primary commits all the time, until stopped"),
    ("restore", "[BACKUP]", "restore a backup (the newest) into a directory"),
    ("open", "[BACKUP] [-- CMD ARG...]", "run CMD with a throw-away server on a backup (the newest)"),
    ("list", "", "list the backups in the repository, oldest first"),
    ("verify", "[BACKUP]", "read every block back and check it"),
    ("prune", "", "apply the retention policy now"),
    ("pin", "BACKUP", "keep a backup whatever the policy says"),
    ("unpin", "BACKUP", "remove the pin of a backup"),
    ("prove", "[BACKUP]", "restore a backup (the newest) or a moment, start a server on it, check every table"),
    ("log", "", "list the transactions between backups: time, GTID, tables, DDL"),
    ("report", "", "show backups with their proofs, and passes with their ends"),
    ("status", "", "show the state of the pass and the age of the newest backup"),
];

/// A command that only `rollforward-mirror restore` gives: it is in no list and no help.
pub const UNPACK: (&str, &str, &str) =
    ("unpack", "[BACKUP]", "a step of rollforward-mirror restore");

/// True if the command (or, for `None`, any command) accepts the option.
pub fn belongs(spec: &Spec, command: Option<&str>) -> bool {
    let command = command.map(|c| if c == UNPACK.0 { "restore" } else { c });
    command.is_none_or(|c| spec.commands.is_empty() || spec.commands.contains(&c))
}

/// The text of `--version`.
pub fn version() -> String {
    format!("rollforward {}\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `help` and `help COMMAND`.
///
/// # Errors
/// [`Error::Configuration`] for a word that is no command.
pub fn help_of(word: Option<&String>) -> Result<String> {
    let unknown =
        |word| Error::config(format!("unknown command '{word}'; see 'rollforward --help'"));
    match word {
        Some(word) if word == "help" => Ok(help(None)),
        Some(word) if COMMANDS.iter().all(|c| c.0 != word) => Err(unknown(word)),
        word => Ok(help(word.map(String::as_str))),
    }
}

/// The text of `--help`, for the program or a command.
pub fn help(command: Option<&str>) -> String {
    let mut text = String::new();
    let operands = |name: &str| COMMANDS.iter().find(|c| c.0 == name).map_or("", |c| c.1);
    match command {
        None => {
            text += "rollforward keeps a fresh, proven backup of a MySQL or MariaDB primary\n\n\
                     usage: rollforward COMMAND [options]\n\ncommands:\n";
            for (name, operands, what) in COMMANDS {
                text += &format!("  {:<30} {what}\n", format!("{name} {operands}"));
            }
        }
        Some(name) => {
            let what = COMMANDS.iter().find(|c| c.0 == name).map_or("", |c| c.2);
            text += &format!("{what}\n\nusage: rollforward {name} [options] {}\n", operands(name));
        }
    }
    for (title, options) in GROUPS {
        let known: Vec<&Spec> = options.iter().filter(|s| belongs(s, command)).collect();
        if !known.is_empty() {
            text += &format!("\n{title}:\n");
        }
        for spec in known {
            let short =
                if spec.short.is_empty() { "    ".into() } else { format!("-{}, ", spec.short) };
            let long = format!("{short}--{} {}", spec.long, spec.value);
            let only = match (command, spec.commands) {
                (None, [_, ..]) => format!(" ({})", spec.commands.join(", ")),
                _ => String::new(),
            };
            text += &format!("  {long:<36} {}{only}\n", spec.help);
        }
    }
    text += "\nD is a duration: a number with ms, s, m, h, d or w\n\
             TLS to the primary, by default where it is offered: ssl-mode, ssl-ca, ssl-cert, ssl-key\n\
             in [client] of the option file\n\
             exit status: 0 stored or nothing due, 1 failed for good, 2 usage or configuration,\n\
             3 stored but needs attention, 75 temporary, 128+n stopped by signal n; see rollforward(8)\n";
    text
}
