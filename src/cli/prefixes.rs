//! Options whose long name is cut short: what begins only one of them stands for it, as with
//! getopt_long. And what is no option of ours, behind `--`. Pure.

use crate::cli::usage::{Spec, belongs, options};
use crate::error::{Error, Result};

/// The arguments with full names. A value that looks like an option is left alone, and so is what
/// begins no option.
///
/// # Errors
/// [`Error::Configuration`] for what begins several options that `command` accepts, or any command.
pub fn expand(args: &[String], command: Option<&str>) -> Result<Vec<String>> {
    let mut out = Vec::with_capacity(args.len());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            out.push(arg.clone());
            break;
        }
        let full = match arg.strip_prefix("--") {
            Some(word) => full(word, command)?,
            None => arg.clone(),
        };
        let takes_next = awaits_value(&full);
        out.push(full);
        if takes_next {
            out.extend(rest.next().cloned());
        }
    }
    out.extend(rest.cloned());
    Ok(out)
}

fn full(word: &str, command: Option<&str>) -> Result<String> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let begun = |spec: &&Spec| spec.long.starts_with(name) && belongs(spec, command);
    let whole = name.is_empty() || options().any(|spec| spec.long == name);
    let found: Vec<&str> = match whole {
        true => vec![name],
        false => options().filter(begun).map(|spec| spec.long).collect(),
    };
    match found[..] {
        [one] => Ok(format!("--{one}{}", value.map_or(String::new(), |v| format!("={v}")))),
        [] => Ok(format!("--{word}")),
        [..] => {
            let all = found.join(", --");
            Err(Error::config(format!("option --{name} is ambiguous: it may be --{all}")))
        }
    }
}

/// True for an option, long or of one letter, whose value is the next argument.
fn awaits_value(arg: &str) -> bool {
    let named = |spec: &Spec| match arg.strip_prefix("--") {
        Some(name) => spec.long == name,
        None => arg.strip_prefix('-').is_some_and(|s| !s.is_empty() && spec.short == s),
    };
    options().any(|spec| !spec.value.is_empty() && named(spec))
}

/// What stands alone and begins several options: all but one of those need a command.
pub fn expand_alone(args: &[String]) -> Option<Vec<String>> {
    let [one] = args else { return None };
    let begun = |option: &&str| one.len() > 2 && option.starts_with(one.as_str());
    ["--help", "--version"].into_iter().find(begun).map(|option| vec![option.into()])
}

/// The option `name` as it is written in `args`.
pub fn dashed(name: &str, args: &[String]) -> String {
    let is_long = |arg: &String| {
        let word = arg.strip_prefix("--").map(|word| word.split('=').next());
        word.flatten() == Some(name)
    };
    match name.chars().count() == 1 && !args.iter().any(is_long) {
        true => format!("-{name}"),
        false => format!("--{name}"),
    }
}

/// Takes away what follows `--`, a program and its arguments, where `operands` of the command have one.
///
/// # Errors
/// [`Error::Configuration`] if nothing follows.
pub fn split_off_program(operands: &str, args: &mut Vec<String>) -> Result<Option<Vec<String>>> {
    let at = args.iter().position(|arg| arg == "--");
    let Some(at) = at.filter(|_| operands.contains("CMD")) else { return Ok(None) };
    let program = args.split_off(at).split_off(1);
    match program.first().is_none_or(String::is_empty) {
        true => Err(Error::config("no command after --")),
        false => Ok(Some(program)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(args: &[&str], command: Option<&str>) -> Result<String> {
        let args: Vec<String> = args.iter().map(|a| a.to_string()).collect();
        expand(&args, command).map(|args| args.join(" "))
    }

    #[test]
    fn a_unique_beginning_stands_for_the_option() {
        for (args, command, full) in [
            (
                &["run", "--rep", "/r", "--keep-c=3"][..],
                Some("run"),
                "run --repo /r --keep-count=3",
            ),
            (&["--t", "x"], Some("restore"), "--to x"),
            (&["--json"], Some("list"), "--json"),
            // Values, and what follows the end of options, are no options.
            (
                &["--before", "--rep", "-r", "--mysqld-u"],
                Some("run"),
                "--before --rep -r --mysqld-u",
            ),
            (&["--", "--rep"], Some("run"), "-- --rep"),
            (&["--nonsense=1", "--=x"], Some("run"), "--nonsense=1 --=x"),
            // A whole name, though others begin with it.
            (&["--mysqld", "x", "--after", "y"], Some("run"), "--mysqld x --after y"),
        ] {
            assert_eq!(expanded(args, command).unwrap(), full);
        }
        let error = expanded(&["--keep=1"], Some("run")).unwrap_err().to_string();
        assert!(
            error.contains("--keep is ambiguous") && error.contains("--keep-within"),
            "{error}"
        );
    }
}
