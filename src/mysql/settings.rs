//! The settings of a server that its replica must share, in one table. Pure.
//!
//! A replica applies statements and definitions that say only what differs from the settings of the
//! server that wrote them. A log event brings some of these along: `sql_mode`, character sets of the
//! session, time zone, `auto_increment_increment`, foreign key checks; MySQL's brings
//! `default_collation_for_utf8mb4`, `sql_require_primary_key` and `default_table_encryption` as well,
//! MariaDB's `character_set_collations`. The rest is here. It is what the servers' manuals list under
//! "Replication and Variables" or for one feature, and what changes a definition, a default, an index,
//! an account or the result of a statement that is logged as such. What only forbids more on the
//! primary, or only decides about speed and the place of files, is not here.
//!
//! The values come from a primary or out of a manifest, neither of which is trusted: each has a form,
//! and what has another never gets as far as a command line.

use crate::error::{Error, Result};
use crate::text::is_harmful;

/// Longer than any list of modes, name of a table or list of files.
const LONGEST: usize = 1024;

/// What a setting decides, and so who needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decides {
    /// Whether a server starts on the data and finds its tables.
    Data,
    /// What is indexed and found: needed for as long as the data is written and searched.
    Search,
    /// What accounts may do.
    Accounts,
    /// What a definition says that does not say all.
    Definitions,
    /// What a statement does when it is run again.
    Results,
    /// How much a table or a packet holds.
    Sizes,
}

/// Where a value is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The primary says it.
    Primary,
    /// The data directory was made so, whatever the primary's is.
    Directory,
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Number,
    /// `0` or `1`; servers also say `OFF` and `ON`.
    Switch,
    /// A word in small letters: a character set or collation, a row format.
    Name,
    /// A storage engine; empty for none.
    Engine,
    /// Words in capitals, separated by commas, perhaps none.
    Modes,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Files of InnoDB's system tablespace with their sizes.
    Files,
    /// The name of a table, `db/table`; empty for none.
    Table,
    /// Roles, as MySQL prints them; empty for none.
    Roles,
    /// [`BUILT_IN`], nothing for none, or a file on the primary's machine.
    Stopwords,
    /// The value of the variable TZ.
    Zone,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The name of the server variable.
    pub name: &'static str,
    /// What it decides.
    pub decides: Decides,
    /// Where it is taken from.
    pub origin: Origin,
    form: Form,
    /// The values that need not be mentioned: the defaults of all versions, if one differs.
    usual: &'static [&'static str],
}

const fn of(
    decides: Decides,
    name: &'static str,
    form: Form,
    usual: &'static [&'static str],
) -> Setting {
    Setting { name, decides, origin: Origin::Primary, form, usual }
}

const fn own(name: &'static str, form: Form, usual: &'static [&'static str]) -> Setting {
    Setting { name, decides: Decides::Data, origin: Origin::Directory, form, usual }
}

const OFF: &[&str] = &["0"];
const ON: &[&str] = &["1"];

/// The variable of the private server's environment, in the manner of a setting: the time zone of the
/// primary's machine.
pub const ZONE: &str = "tz";

/// Engines that are no plugins.
const ENGINES: [&str; 6] = ["InnoDB", "MyISAM", "MEMORY", "Aria", "CSV", "MRG_MyISAM"];
/// The stopwords that a server brings along.
const BUILT_IN: &str = "(built-in)";

/// InnoDB's own stopwords, in a table: an index is made with those that are in it at that moment.
pub const STOPWORDS: &str = "innodb_ft_server_stopword_table";

/// MariaDB's switch for CHECK constraints, which is in no log event: no option, only a variable.
pub const CONSTRAINTS: &str = "check_constraint_checks";

/// MySQL's roles that everybody has: given to a private server by a statement, once they are needed.
pub const MANDATORY_ROLES: &str = "mandatory_roles";

/// The table.
pub const SETTINGS: &[Setting] = {
    use Decides::*;
    use Form::*;
    &[
        // Fixed when the directory is made, and the same on both.
        own("lower_case_table_names", OneOf(&["0", "1", "2"]), OFF),
        own("innodb_page_size", Number, &["16384"]),
        own("innodb_data_file_path", Files, &["ibdata1:12M:autoextend"]),
        // The words of a full-text index, when it is made, written and searched.
        of(Search, "ft_min_word_len", Number, &["4"]),
        of(Search, "ft_max_word_len", Number, &["84"]),
        of(Search, "innodb_ft_min_token_size", Number, &["3"]),
        of(Search, "innodb_ft_max_token_size", Number, &["84"]),
        of(Search, "innodb_ft_enable_stopword", Switch, ON),
        of(Search, STOPWORDS, Table, &[""]),
        of(Search, "ngram_token_size", Number, &["2"]),
        of(Search, "ft_stopword_file", Stopwords, &[BUILT_IN]),
        // REVOKE on a schema, SET DEFAULT ROLE, what CREATE PROCEDURE grants, old passwords.
        of(Accounts, "partial_revokes", Switch, OFF),
        of(Accounts, MANDATORY_ROLES, Roles, &[""]),
        of(Accounts, "automatic_sp_privileges", Switch, ON),
        of(Accounts, "password_history", Number, OFF),
        of(Accounts, "password_reuse_interval", Number, OFF),
        of(Accounts, "old_passwords", Switch, OFF),
        // What CREATE and ALTER leave out.
        of(Definitions, "character_set_server", Name, &[]),
        of(Definitions, "collation_server", Name, &[]),
        of(Definitions, "explicit_defaults_for_timestamp", Switch, &[]),
        of(Definitions, "default_storage_engine", Engine, &["InnoDB"]),
        of(Definitions, "default_tmp_storage_engine", Engine, &["InnoDB", ""]),
        of(Definitions, "enforce_storage_engine", Engine, &[""]),
        of(Definitions, "innodb_default_row_format", Name, &["dynamic"]),
        of(Definitions, "innodb_strict_mode", Switch, ON),
        of(Definitions, "innodb_compression_default", Switch, OFF),
        of(Definitions, "aria_page_checksum", Switch, ON),
        of(Definitions, "mysql56_temporal_format", Switch, ON),
        of(Definitions, "mhnsw_default_m", Number, &["6"]),
        of(Definitions, "mhnsw_default_distance", Name, &["euclidean"]),
        // What `utf8` means, among others.
        of(Definitions, "old_mode", Modes, &["UTF8_IS_UTF8MB3"]),
        of(Definitions, "system_versioning_alter_history", OneOf(&["ERROR", "KEEP"]), &["ERROR"]),
        of(Definitions, "restrict_fk_on_non_standard_key", Switch, ON),
        of(Definitions, "sql_if_exists", Switch, OFF),
        // What a statement computes or how far it goes.
        of(Results, "sql_mode", Modes, &[]),
        of(Results, "innodb_autoinc_lock_mode", OneOf(&["0", "1", "2"]), &["1", "2"]),
        of(Results, "innodb_native_foreign_keys", Switch, OFF),
        of(Results, "default_week_format", Number, OFF),
        of(Results, "div_precision_increment", Number, &["4"]),
        of(Results, "group_concat_max_len", Number, &["1024", "1048576"]),
        of(Results, "max_sort_length", Number, &["1024"]),
        of(Results, "block_encryption_mode", Name, &["aes-128-ecb"]),
        of(Results, "default_regex_flags", Modes, &[""]),
        of(Results, "max_recursive_iterations", Number, &["1000"]),
        of(Results, "cte_max_recursion_depth", Number, &["1000"]),
        of(Results, "max_points_in_geometry", Number, &["65536"]),
        of(Results, "regexp_stack_limit", Number, &["8000000"]),
        of(Results, "regexp_time_limit", Number, &["32"]),
        of(Results, "windowing_use_high_precision", Switch, ON),
        of(Results, CONSTRAINTS, Switch, ON),
        of(Results, ZONE, Zone, &[]),
        of(Sizes, "max_allowed_packet", Number, &[]),
        of(Sizes, "max_heap_table_size", Number, &["16777216"]),
    ]
};

/// Names and values, as a primary or a manifest gives them.
pub type Values = Vec<(String, String)>;

/// The setting of that name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.name == name)
}

/// The value of the setting of that name.
pub fn value<'a>(of: &'a [(String, String)], name: &str) -> Option<&'a str> {
    of.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// The query for what a server has of the table, and of `more` variables. The answer lacks what its
/// version does not know.
pub fn query(more: &[&str]) -> String {
    let names = SETTINGS.iter().map(|s| s.name).chain(more.iter().copied());
    let names: Vec<String> = names.map(|name| format!("'{name}'")).collect();
    format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", names.join(", "))
}

/// What `server` answered to [`query`].
///
/// # Errors
/// [`Error::Configuration`] for a value that no server gives.
pub fn read(server: &str, rows: &[Vec<&str>]) -> Result<Values> {
    let mut values = Values::new();
    for setting in SETTINGS {
        let row = rows.iter().find(|row| row.first().is_some_and(|name| *name == setting.name));
        let Some(value) = row.and_then(|row| row.get(1)) else { continue };
        // Files outside the directory are no part of any copy of it.
        if setting.form == Form::Files && !setting.form.fits(value) {
            continue;
        }
        values.push((setting.name.into(), setting.checked(server, value)?));
    }
    Ok(values)
}

/// Those of a manifest that its data was made with.
///
/// # Errors
/// [`Error::BackupDamaged`] for a value that no server gives.
pub fn of_directory(backup: &str, its: &[(String, String)]) -> Result<Values> {
    let all = of_manifest(backup, its)?;
    let own = |name: &str| find(name).is_some_and(|s| s.origin == Origin::Directory);
    Ok(all.into_iter().filter(|(name, _)| own(name)).collect())
}

/// All of a manifest that are in the table.
///
/// # Errors
/// As [`of_directory`].
pub fn of_manifest(backup: &str, its: &[(String, String)]) -> Result<Values> {
    let values = SETTINGS.iter().filter_map(|s| Some((s, value(its, s.name)?)));
    let checked = values.map(|(s, value)| match s.form.fits(value) {
        true => Ok((s.name.to_string(), value.to_string())),
        false => Err(Error::BackupDamaged {
            backup: backup.into(),
            what: format!("its manifest has a {} that no server has", s.name),
        }),
    });
    checked.collect()
}

/// `base` in place of `values` for each setting that it has.
pub fn with(mut values: Values, base: Values) -> Values {
    for (name, value) in base {
        match values.iter_mut().find(|(n, _)| *n == name) {
            Some(known) => known.1 = value,
            None => values.push((name, value)),
        }
    }
    values
}

impl Setting {
    /// The value in the form that command lines and manifests have.
    fn checked(&self, server: &str, value: &str) -> Result<String> {
        let value = match (self.form, value) {
            (Form::Switch, "ON") => "1",
            (Form::Switch, "OFF") => "0",
            _ => value,
        };
        if self.form.fits(value) {
            return Ok(value.into());
        }
        let shown: String = value.chars().take(60).collect();
        let name = self.name;
        Err(Error::config(format!("{server} gives a {name} that no server has: '{shown}'")))
    }

    /// True unless it is what servers have by themselves.
    pub fn is_unusual(&self, value: &str) -> bool {
        !self.usual.contains(&value)
    }

    /// True if a manifest keeps it, whose values have no blanks, quotes and the like, and are no paths
    /// that lead elsewhere.
    pub fn is_kept(&self, value: &str) -> bool {
        let leads_out = value.starts_with('/') || value.contains("..");
        !leads_out && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_,.+:-/;<>".contains(&b))
    }

    /// True if the value, out of a manifest, is one that a server has.
    pub fn fits(&self, value: &str) -> bool {
        self.form.fits(value)
    }

    /// True for a file or an engine's plugin that only the primary's machine is known to have: a server
    /// that is told of one that it lacks does not start.
    pub fn is_elsewhere(&self, value: &str) -> bool {
        match self.form {
            Form::Stopwords => !value.is_empty() && value != BUILT_IN,
            Form::Engine => !value.is_empty() && !ENGINES.contains(&value),
            _ => false,
        }
    }

    /// The option for a server. One that does not know it starts all the same, unless the data
    /// depends on it. `None` where there is nothing to say.
    pub fn option(&self, value: &str) -> Option<String> {
        let name = self.name.replace('_', "-");
        match (self.form, self.decides) {
            // Told otherwise: by the environment, and by a statement.
            (Form::Zone, _) => None,
            _ if matches!(self.name, CONSTRAINTS | MANDATORY_ROLES) => None,
            // As it is, without being told.
            (Form::Stopwords, _) if value == BUILT_IN => None,
            _ if self.is_elsewhere(value) => None,
            // An engine or a table that is not named cannot be set.
            (Form::Engine | Form::Table | Form::Roles, _) if value.is_empty() => None,
            (_, Decides::Data) => Some(format!("--{name}={value}")),
            _ => Some(format!("--loose-{name}={value}")),
        }
    }
}

impl Form {
    fn fits(self, value: &str) -> bool {
        let all = |allowed: fn(u8) -> bool| value.len() <= LONGEST && value.bytes().all(allowed);
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        match self {
            Form::Number => value.len() <= 20 && !value.is_empty() && all(|b| b.is_ascii_digit()),
            Form::Switch => matches!(value, "0" | "1"),
            Form::Name => {
                !value.is_empty()
                    && all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
            }
            Form::Engine => value.len() <= 64 && value.bytes().all(word),
            Form::Modes => {
                all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_,".contains(&b))
            }
            Form::OneOf(words) => words.contains(&value),
            Form::Files => value.len() <= LONGEST && value.split(';').all(is_file),
            Form::Table => {
                let parts = value.split('/').filter(|part| !part.is_empty()).count();
                value.is_empty() || (value.len() <= 400 && parts == 2 && is_line(value))
            }
            Form::Roles | Form::Stopwords => value.len() <= LONGEST && is_line(value),
            Form::Zone => {
                let sign = |b: u8| b.is_ascii_alphanumeric() || b"_-+/:<>".contains(&b);
                !value.is_empty()
                    && value.len() <= 64
                    && !value.contains("..")
                    && !value.starts_with(['/', ':'])
                    && value.bytes().all(sign)
            }
        }
    }
}

fn is_line(text: &str) -> bool {
    !text.chars().any(is_harmful)
}

/// `ibdata2:64M:autoextend`: a file beside the others, never elsewhere and never raw.
fn is_file(text: &str) -> bool {
    let mut parts = text.split(':');
    let (name, size) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let named = !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain);
    let is_size = |size: &str| {
        let digits = size.strip_suffix(['K', 'M', 'G']).unwrap_or(size);
        (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let rest: Vec<&str> = parts.collect();
    let grows = match rest.as_slice() {
        [] | ["autoextend"] => true,
        ["autoextend", "max", most] => is_size(most),
        _ => false,
    };
    named && is_size(size) && grows
}

#[cfg(test)]
mod tests;
