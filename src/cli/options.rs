//! Parses the command line and the option file into validated values.
//!
//! Only this file uses getopts. Every command accepts every setting, so that scripts can share one
//! list. An option that tells a command what to do (`--to`, `--dry-run`, ...) is accepted only by
//! the commands it applies to. The command line overrides the option file's `[rollforward]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use getopts::{Matches, ParsingStyle};

use crate::cli::option_file::{self, OptionFile};
use crate::cli::prefixes;
use crate::cli::shell_words;
use crate::cli::usage::{COMMANDS, UNPACK, belongs, help, help_of, options, version};
use crate::error::{Error, Result};
use crate::os::clock::{LONGEST_TEXT, is_too_long, parse_duration};
use crate::replication::primary::Primary;
use crate::seed::dump::First;

mod values;

/// The options whose value is a command to run.
const HOOKS: [&str; 5] = ["on-data", "before", "after", "after-success", "after-failure"];

/// What the command line asks for.
pub enum Request {
    /// Print this on standard output.
    Print(String),
    /// Run a command.
    Command(Box<Options>),
}

/// Validated values.
pub struct Options {
    /// The command's name.
    pub command: &'static str,
    /// `BACKUP`, if given.
    pub backup: Option<String>,
    /// `CMD ARG...`, if given.
    pub program: Option<Vec<String>>,
    values: BTreeMap<&'static str, Vec<String>>,
    file: OptionFile,
}

/// Parses the command line of this process.
pub fn parse_arguments() -> Result<Request> {
    let args: Result<Vec<String>, _> =
        std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect();
    let args =
        args.map_err(|a| Error::config(format!("argument '{}' is not UTF-8 text", a.display())))?;
    parse(args)
}

/// Parses the command line (without the program name) and the option file it names.
///
/// # Errors
/// [`Error::Configuration`], naming the wrong word.
pub fn parse(args: Vec<String>) -> Result<Request> {
    let args = expand_leading(args);
    let leading = getopts(None, ParsingStyle::StopAtFirstFree, &args)?;
    let at = args.len() - leading.free.len();
    let Some(word) = leading.free.first() else {
        return match (leading.opt_present("help"), leading.opt_present("version")) {
            (true, _) => Ok(Request::Print(help(None))),
            (_, true) => Ok(Request::Print(version())),
            _ => Err(Error::config("no command given; see 'rollforward --help'")),
        };
    };
    if leading.opt_present("help") || leading.opt_present("version") {
        let text = if leading.opt_present("help") { help(None) } else { version() };
        return Ok(Request::Print(text));
    }
    if word == "help" {
        return help_of(args.get(at + 1)).map(Request::Print);
    }
    let mut commands = COMMANDS.iter().chain([&UNPACK]);
    let Some((command, operands, _)) = commands.find(|c| c.0 == word) else {
        return Err(Error::config(format!("unknown command '{word}'; see 'rollforward --help'")));
    };
    // Options may also precede the command, as in similar tools.
    let mut rest: Vec<String> = args[..at].iter().chain(&args[at + 1..]).cloned().collect();
    let program = prefixes::split_off_program(operands, &mut rest)?;
    let rest = prefixes::expand(&rest, Some(command))?;
    let matches = getopts(Some(command), ParsingStyle::FloatingFrees, &rest)?;
    if matches.opt_present("help") {
        return Ok(Request::Print(help(Some(command))));
    }
    if matches.opt_present("version") {
        return Ok(Request::Print(version()));
    }
    let allowed = usize::from(!operands.is_empty());
    if let Some(extra) = matches.free.get(allowed) {
        return Err(Error::config(format!("unexpected argument '{extra}' for {command}")));
    }
    if matches.free.first().is_some_and(String::is_empty) {
        return Err(Error::config(format!("{command}: empty backup name")));
    }
    let values = collect(&matches);
    let file = match values.get("defaults-file").and_then(|v| v.last()) {
        Some(path) if !path.is_empty() => option_file::read(Path::new(path))?,
        _ => OptionFile::default(),
    };
    let backup = matches.free.first().cloned();
    let mut options = Options { command, backup, program, values, file };
    options.merge_file().and_then(|()| options.check_all())?;
    Ok(Request::Command(Box::new(options)))
}

/// The arguments with full names, as far as that is clear before the command is known. What only one
/// command has the option for is clear by the command that follows.
fn expand_leading(args: Vec<String>) -> Vec<String> {
    let leads_to = |args: &[String], command: &str| {
        let leading = getopts(None, ParsingStyle::StopAtFirstFree, args);
        leading.is_ok_and(|matches| matches.free.first().is_some_and(|word| word == command))
    };
    let with = |command: &&(&str, &str, &str)| {
        let expanded = prefixes::expand(&args, Some(command.0)).ok();
        expanded.filter(|expanded| leads_to(expanded, command.0))
    };
    let expanded = prefixes::expand(&args, None).ok();
    let named = || COMMANDS.iter().filter(|c| args.iter().any(|arg| arg == c.0));
    expanded
        .or_else(|| named().find_map(|command| with(&command)))
        .or_else(|| prefixes::expand_alone(&args))
        .unwrap_or(args)
}

/// True if this process runs `status`, which has the exit statuses of a monitoring plugin.
pub fn asks_for_status() -> bool {
    let args: Vec<String> =
        std::env::args_os().skip(1).filter_map(|a| a.into_string().ok()).collect();
    let args = expand_leading(args);
    let word = match getopts(None, ParsingStyle::StopAtFirstFree, &args) {
        Ok(matches) => matches.free.first().cloned(),
        // An option before the command is wrong: use the first word that is a command.
        Err(_) => args.into_iter().find(|a| COMMANDS.iter().any(|c| c.0 == a)),
    };
    word.is_some_and(|word| word == "status")
}

fn getopts(command: Option<&str>, style: ParsingStyle, args: &[String]) -> Result<Matches> {
    let mut parser = getopts::Options::new();
    parser.parsing_style(style);
    for spec in options().filter(|s| belongs(s, command)) {
        if spec.value.is_empty() {
            parser.optflagmulti(spec.short, spec.long, spec.help);
        } else {
            parser.optmulti(spec.short, spec.long, spec.help, spec.value);
        }
    }
    let dashed = |name: &str| prefixes::dashed(name, args);
    parser.parse(args).map_err(|fail| {
        use getopts::Fail::*;
        Error::config(match fail {
            ArgumentMissing(name) => format!("option {} needs a value", dashed(&name)),
            UnrecognizedOption(name) => match (options().find(|s| s.long == name), command) {
                (Some(_), Some(c)) => format!("option --{name} is not for {c}"),
                _ => format!("unknown option {}", dashed(&name)),
            },
            UnexpectedArgument(name) => format!("option {} takes no value", dashed(&name)),
            other => other.to_string(),
        })
    })
}

fn collect(matches: &Matches) -> BTreeMap<&'static str, Vec<String>> {
    let mut values = BTreeMap::new();
    for spec in options() {
        // An option of another command is not defined here, and querying it would panic.
        if !matches.opt_defined(spec.long) || !matches.opt_present(spec.long) {
            continue;
        }
        let given = if spec.value.is_empty() {
            vec![String::new(); matches.opt_count(spec.long)]
        } else {
            matches.opt_strs(spec.long)
        };
        values.insert(spec.long, given);
    }
    values
}

/// The error for a duration that is well formed.
pub fn too_long(long: &str, text: &str) -> Error {
    Error::config(format!("--{long} {text} is too long: {LONGEST_TEXT} at most"))
}

impl Options {
    /// Adds the option file's `[rollforward]` where the command line is silent.
    fn merge_file(&mut self) -> Result<()> {
        for (key, value) in std::mem::take(&mut self.file.rollforward) {
            let name = key.replace('_', "-");
            let spec = options().find(|s| s.long == name);
            let Some(spec) =
                spec.filter(|s| !matches!(s.long, "defaults-file" | "help" | "version"))
            else {
                return Err(Error::config(format!(
                    "unknown key '{key}' in [rollforward] of {}",
                    self.file.path.display()
                )));
            };
            let value = match (spec.value.is_empty(), value) {
                (true, None) => String::new(),
                (true, Some(v)) if matches!(v.as_str(), "1" | "on" | "true") => String::new(),
                (true, Some(v)) if matches!(v.as_str(), "0" | "off" | "false") => continue,
                (false, Some(v)) => v,
                (is_switch, _) => {
                    let wants = if is_switch { "takes 1 or 0" } else { "needs a value" };
                    return Err(Error::config(format!(
                        "key '{key}' in [rollforward] of {} {wants}",
                        self.file.path.display()
                    )));
                }
            };
            if belongs(spec, Some(self.command)) {
                self.file.merged.entry(spec.long).or_default().push(value);
            }
        }
        let verbosity_given = self.switch("quiet") || self.switch("verbose");
        for (long, mut from_file) in std::mem::take(&mut self.file.merged) {
            // These two are one setting: -v overrides the file's quiet.
            if verbosity_given && matches!(long, "quiet" | "verbose") {
                continue;
            }
            let given = self.values.entry(long).or_default();
            if long == "mysqld-option" {
                from_file.append(given);
                *given = from_file;
            } else if given.is_empty() {
                *given = from_file;
            }
        }
        Ok(())
    }

    /// Checks every given value, even if this command does not use it.
    fn check_all(&self) -> Result<()> {
        for (long, values) in &self.values {
            let takes_value = options().any(|s| s.long == *long && !s.value.is_empty());
            if takes_value && values.last().is_some_and(String::is_empty) {
                return Err(Error::config(format!("option --{long} needs a value")));
            }
        }
        const MAY_BE_ZERO: &[&str] = &[
            "check-time",
            "compare-time",
            "backoff-base",
            "backoff-cap",
            "stall-timeout",
            "min-interval",
            "keep-within",
            "drop-after",
            "for",
            "slot-wait",
            "max-age",
            "max-proof-age",
            "max-lag",
        ];
        for name in MAY_BE_ZERO {
            self.duration(name, Duration::ZERO)?;
        }
        for name in [
            "connect-timeout",
            "poll-interval",
            "ping-timeout",
            "start-timeout",
            "shutdown-timeout",
            "hook-timeout",
            "every",
        ] {
            if self.duration(name, Duration::MAX)?.is_zero() {
                return Err(Error::config(format!("--{name} must be longer than 0")));
            }
        }
        self.hooks()?;
        self.max_failures()?;
        self.jobs()?;
        self.compression_level()?;
        self.retention()?;
        self.pin()?;
        self.slots()?;
        self.first_backup()?;
        if self.text("primary").is_some() {
            self.primary()?;
        }
        crate::server::reserved_options::check(self.mysqld_options())
    }

    /// The hook options, with the words of their commands.
    ///
    /// # Errors
    /// Names the option with a malformed command, but not the command, which may contain a secret.
    pub fn hooks(&self) -> Result<Vec<(&'static str, Vec<String>)>> {
        let given = HOOKS.iter().filter_map(|name| Some((*name, self.text(name)?)));
        let wrong = |name, why| Error::config(format!("malformed command for --{name}: {why}"));
        given.map(|(n, t)| Ok((n, shell_words::split(t).map_err(|why| wrong(n, why))?))).collect()
    }

    /// True if the option file has groups for other programs, such as `[client]`, and no other.
    pub fn is_account_only(&self) -> bool {
        let others = ["client", "mysql", "mariadb"];
        let is_other = |group: &String| others.iter().any(|other| group.starts_with(other));
        !self.file.groups.is_empty() && self.file.groups.iter().all(is_other)
    }

    /// The last value of an option.
    pub fn text(&self, long: &str) -> Option<&str> {
        self.values.get(long)?.last().map(String::as_str)
    }

    /// True if a switch was given.
    pub fn switch(&self, long: &str) -> bool {
        self.values.contains_key(long)
    }

    /// How many times a switch was given.
    pub fn count(&self, long: &str) -> usize {
        self.values.get(long).map_or(0, Vec::len)
    }

    /// The path given for an option.
    pub fn path(&self, long: &str) -> Option<PathBuf> {
        self.text(long).map(PathBuf::from)
    }

    /// The path given for an option that the command requires.
    ///
    /// # Errors
    /// Names the missing option.
    pub fn required_path(&self, long: &str) -> Result<PathBuf> {
        let missing = || Error::config(format!("{} needs --{long} DIR", self.command));
        self.path(long).ok_or_else(missing)
    }

    /// A duration, or `default` if not given.
    ///
    /// # Errors
    /// Names the option and the malformed value.
    pub fn duration(&self, long: &str, default: Duration) -> Result<Duration> {
        let Some(text) = self.text(long) else { return Ok(default) };
        if is_too_long(text) {
            return Err(too_long(long, text));
        }
        parse_duration(text).ok_or_else(|| {
            Error::config(format!(
                "malformed duration '{text}' for --{long}: a number with ms, s, m, h, d or w"
            ))
        })
    }

    /// `--first-backup`; `None` means refuse.
    #[allow(missing_docs)]
    pub fn first_backup(&self) -> Result<Option<First>> {
        match self.text("first-backup") {
            None | Some("refuse") => Ok(None),
            Some("dump") => Ok(Some(First::Dump)),
            Some("clone") => Ok(Some(First::Clone)),
            Some(other) => Err(Error::config(format!(
                "malformed value '{other}' for --first-backup: refuse, dump or clone"
            ))),
        }
    }

    /// All `--mysqld-option`s, those of the option file first.
    pub fn mysqld_options(&self) -> &[String] {
        self.values.get("mysqld-option").map_or(&[], Vec::as_slice)
    }

    /// The primary and the account on it.
    ///
    /// # Errors
    /// Names what is missing or malformed in `--primary`, the password file or `[client]`.
    pub fn primary(&self) -> Result<Primary> {
        let (named, password) = (self.text("primary"), self.path("password-file"));
        let patience = self.duration("connect-timeout", Duration::from_secs(30))?;
        let listing = self.duration("stall-timeout", Duration::from_secs(600))?;
        let (candidates, mut account) = self.file.primary(named, password.as_deref())?;
        account.compress = self.switch("compress-stream");
        Ok(Primary { candidates, account, patience, listing })
    }
}
