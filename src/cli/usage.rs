//! The options and commands there are, and the text of `--help`. Pure.
//!
//! One table, so that what is parsed, what is explained and what is tested cannot differ.

/// One option of the program.
pub struct Spec {
    /// Its one letter; empty for none.
    pub short: &'static str,
    /// Its long name.
    pub long: &'static str,
    /// What its value is called; empty for a switch.
    pub value: &'static str,
    /// What it means, for `--help`.
    pub help: &'static str,
    /// The commands it belongs to; empty for all.
    pub commands: &'static [&'static str],
}

const fn setting(long: &'static str, value: &'static str, help: &'static str) -> Spec {
    Spec { short: "", long, value, help, commands: &[] }
}

/// All options, in the order of `--help`.
#[rustfmt::skip]
pub const OPTIONS: &[Spec] = &[
    Spec { short: "r", ..setting("repo", "DIR", "the repository of backups") },
    Spec { short: "s", ..setting("scratch", "DIR", "working directory of a pass") },
    Spec { commands: &["restore"], ..setting("to", "DIR", "where to restore to; empty or absent") },
    Spec { commands: &["seed"], ..setting("from", "SOURCE", "where the backup comes from: dump, clone or dir:PATH") },
    Spec { commands: &["seed"], ..setting("position", "POS", "the position of dir:PATH, if it does not know it") },
    setting("primary", "HOST[:PORT][,...]", "where to replicate from; several are tried in order"),
    setting("defaults-file", "FILE", "option file with [client] and [rollforward]"),
    setting("password-file", "FILE", "the password alone in a file"),
    setting("mysqld", "PATH", "the server program to run privately"),
    setting("mysqld-user", "NAME", "as root: who the private mysqld runs as"),
    setting("mysqld-option", "OPT", "passed on to the private mysqld; may repeat"),
    setting("first-backup", "HOW", "run without any backup: refuse, dump or clone [refuse]"),
    setting("max-failures", "N", "failures without progress before giving up [10]"),
    setting("backoff-base", "D", "wait after the first failure, then doubled [1s]"),
    setting("backoff-cap", "D", "longest wait between attempts [1m]"),
    setting("poll-interval", "D", "how often the replica is looked at and pinged [1s]"),
    setting("ping-timeout", "D", "unanswered for so long, mysqld is hung [30s]"),
    setting("stall-timeout", "D", "nothing moves for so long: a failure; 0 is off [10m]"),
    setting("start-timeout", "D", "patience with a lifeless mysqld at its start [10m]"),
    setting("shutdown-timeout", "D", "patience with a lifeless mysqld at its end [5m]"),
    setting("min-interval", "D", "a newest backup younger than this: nothing is due [0]"),
    setting("keep-count", "N", "keep the N newest complete backups"),
    setting("keep-within", "D", "keep the complete backups younger than this"),
    setting("jobs", "N", "workers of backup and restore [cores]"),
    setting("compression-level", "N", "zstd level, 1 to 19 [1]"),
    setting("keep-scratch", "", "leave the scratch data after success"),
    Spec { commands: &["run"], ..setting("allow-upgrade", "", "let a newer series of mysqld upgrade the data for good") },
    setting("before", "CMD", "run before a pass begins; if it fails, there is no pass"),
    setting("after", "CMD", "run after a pass, however it ended"),
    setting("after-success", "CMD", "the same, only after status 0"),
    setting("after-failure", "CMD", "the same, only after another status"),
    setting("hook-timeout", "D", "the longest that each of these may take [10m]"),
    setting("checkpoint", "FILE", "where the checkpoint is kept [SCRATCH/checkpoint]"),
    setting("metrics-file", "FILE", "metrics of a pass, for node_exporter (textfile collector)"),
    Spec { commands: &["status"], ..setting("max-age", "D", "the newest backup must be younger") },
    Spec { commands: &["list", "verify", "status"], ..setting("json", "", "machine-readable") },
    Spec { commands: &["prune"], ..setting("dry-run", "", "say what would go, remove nothing") },
    Spec { short: "v", ..setting("verbose", "", "log more") },
    Spec { short: "q", ..setting("quiet", "", "log warnings and errors only") },
    setting("log-file", "FILE", "log there and not to standard error"),
    Spec { short: "h", ..setting("help", "", "this text") },
    Spec { short: "V", ..setting("version", "", "the version") },
];

/// The commands: name, operands, what it does.
#[rustfmt::skip]
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("run", "", "one pass: restore, catch up, store a new backup, prune"),
    ("seed", "", "take a backup that starts a new chain"),
    ("restore", "[BACKUP]", "a backup (the newest) into an empty directory"),
    ("list", "", "the backups in the repository, oldest first"),
    ("verify", "[BACKUP]", "read every block back and check it"),
    ("prune", "", "apply the retention policy now"),
    ("status", "", "is a pass running, alive and moving; how old is the newest backup"),
];

/// Does a command (or, for `None`, any) know the option?
pub fn belongs(spec: &Spec, command: Option<&str>) -> bool {
    command.is_none_or(|c| spec.commands.is_empty() || spec.commands.contains(&c))
}

/// The text of `--version`.
pub fn version() -> String {
    format!("rollforward {}\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `--help`, of the program or of a command.
pub fn help(command: Option<&str>) -> String {
    let mut text = String::new();
    let operands = |name: &str| COMMANDS.iter().find(|c| c.0 == name).map_or("", |c| c.1);
    match command {
        None => {
            text += "rollforward keeps a fresh, proven backup of a MySQL or MariaDB primary\n\n\
                     usage: rollforward COMMAND [options]\n\ncommands:\n";
            for (name, operands, what) in COMMANDS {
                text += &format!("  {:<20} {what}\n", format!("{name} {operands}"));
            }
        }
        Some(name) => {
            let what = COMMANDS.iter().find(|c| c.0 == name).map_or("", |c| c.2);
            text += &format!("{what}\n\nusage: rollforward {name} [options] {}\n", operands(name));
        }
    }
    text += "\noptions:\n";
    for spec in OPTIONS.iter().filter(|s| belongs(s, command)) {
        let short =
            if spec.short.is_empty() { "    ".into() } else { format!("-{}, ", spec.short) };
        let long = format!("{short}--{} {}", spec.long, spec.value);
        let only = match (command, spec.commands) {
            (None, [_, ..]) => format!(" ({})", spec.commands.join(", ")),
            _ => String::new(),
        };
        text += &format!("  {long:<36} {}{only}\n", spec.help);
    }
    text += "\na duration is a number with ms, s, m, h or d\n\
             TLS to the primary: ssl-mode, ssl-ca, ssl-cert, ssl-key in [client] of the option file\n\
             exit status: 0 stored or nothing due, 1 failed for good, 2 usage or configuration,\n\
             3 stored but look, 75 temporary, 128+n stopped by signal n; see rollforward(8)\n";
    text
}
