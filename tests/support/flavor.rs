//! Which server the tests run on, and its own words for what the tests say in MariaDB's.
//!
//! `ROLLFORWARD_TEST_SERVER` names one that `scripts/servers` unpacks, or a directory whose `bin`
//! holds the programs of another one. Without it the system's MariaDB is used. Tests name
//! programs, options and statements as MariaDB has them; the few that differ are translated here.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The server of this run.
#[derive(Debug)]
pub struct Chosen {
    /// As `ROLLFORWARD_TEST_SERVER` has it; empty for the system's.
    pub name: String,
    /// Where its programs are, unless it is the system's.
    pub bin: Option<PathBuf>,
    /// Is it MySQL?
    pub mysql: bool,
}

/// The server that the tests run on.
pub fn chosen() -> &'static Chosen {
    static CHOSEN: OnceLock<Chosen> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("ROLLFORWARD_TEST_SERVER").unwrap_or_default();
        let bin = match name.as_str() {
            "" => None,
            name if name.starts_with('/') => Some(Path::new(name).join("bin")),
            name => {
                let servers = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("servers");
                Some(servers.join(name).join("bin"))
            }
        };
        // A server that was asked for by name must be there: nothing is skipped then.
        let has = |name: &str| bin.as_ref().is_some_and(|b| b.join(name).is_file());
        let found = bin.is_none() || has("mariadbd") || has("mysqld");
        assert!(found, "there is no server {name}: 'scripts/servers {name}'");
        let mysql = bin.is_some() && !has("mariadbd");
        Chosen { name, bin, mysql }
    })
}

/// The server program of MariaDB 11.8, which can upgrade data of the system's; `None` where that is
/// not unpacked, which is said loudly and fails in CI, and where the tests run on another server.
pub fn newer_mariadbd() -> Option<PathBuf> {
    if chosen().bin.is_some() {
        return None;
    }
    let servers = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("servers");
    let program = servers.join("mariadb-11.8/bin/mariadbd");
    if program.is_file() {
        return Some(program);
    }
    let what = "there is no newer server to upgrade to: 'scripts/servers mariadb-11.8'";
    assert!(std::env::var_os("CI").is_none(), "{what}");
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED, {what} ***");
    None
}

/// Do the tests run on MySQL?
pub fn is_mysql() -> bool {
    chosen().mysql
}

/// `name` on MariaDB, `other` on MySQL.
pub fn either<T>(name: T, other: T) -> T {
    if is_mysql() { other } else { name }
}

/// What the flavor is called in manifests.
pub fn name() -> &'static str {
    either("mariadb", "mysql")
}

/// The chosen server's name of a program that MariaDB calls `name`.
pub fn program(name: &str) -> &str {
    if !is_mysql() {
        return name;
    }
    match name {
        "mariadbd" => "mysqld",
        "mariadb" => "mysql",
        "mariadb-dump" => "mysqldump",
        other => other,
    }
}

/// An option of the server as it has it; nothing for one that it needs not.
pub fn option(option: &str) -> Option<String> {
    if !is_mysql() {
        return Some(option.to_string());
    }
    let (name, value) = option.split_once('=').map_or((option, ""), |(n, v)| (n, v));
    Some(match name {
        "--gtid-strict-mode" => return None,
        "--skip-ssl" => "--tls-version=".into(),
        "--skip-slave-start" => "--skip-replica-start".into(),
        "--innodb-log-file-size" => format!("--innodb-redo-log-capacity={value}"),
        "--slave-parallel-threads" => format!("--replica-parallel-workers={value}"),
        _ => option.to_string(),
    })
}

/// What every server of the tests gets besides.
pub fn always() -> &'static [&'static str] {
    if is_mysql() {
        &[
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--mysqlx=OFF",
            "--secure-file-priv=NULL",
            // They spin, and there are few cores.
            "--innodb-log-writer-threads=OFF",
            "--sync-binlog=0",
            // 110 MiB that each start fills with zeros, a sixth of what it takes.
            "--innodb-log-buffer-size=1M",
            "--innodb-doublewrite-pages=4",
            // Its threads wait half a second at each shutdown.
            "--innodb-use-native-aio=OFF",
        ]
    } else {
        &[]
    }
}

/// Options of a server that makes no keys; MySQL's finds those for logins over a network in its
/// data, if it listens.
pub fn no_keys(listens: bool) -> &'static [&'static str] {
    match (is_mysql(), listens) {
        (false, _) => &["--skip-ssl"],
        (true, true) => &[],
        (true, false) => {
            &["--auto-generate-certs=OFF", "--caching-sha2-password-auto-generate-rsa-keys=OFF"]
        }
    }
}

/// A statement as the server has it.
pub fn sql(text: &str) -> String {
    const WORDS: [(&str, &str); 11] = [
        ("FLUSH SSL", "ALTER INSTANCE RELOAD TLS"),
        ("RESET MASTER", "RESET BINARY LOGS AND GTIDS"),
        ("SHOW MASTER STATUS", "SHOW BINARY LOG STATUS"),
        ("SHOW SLAVE STATUS", "SHOW REPLICA STATUS"),
        ("START SLAVE", "START REPLICA"),
        ("STOP SLAVE", "STOP REPLICA"),
        ("RESET SLAVE", "RESET REPLICA"),
        ("@@global.gtid_slave_pos", "@@global.gtid_executed"),
        ("@@global.gtid_binlog_pos", "@@global.gtid_executed"),
        ("mysql.global_priv", "mysql.user"),
        (" PERSISTENT,", " STORED,"),
    ];
    if !is_mysql() {
        return text.to_string();
    }
    WORDS.iter().fold(with_sequences(text), |text, (from, to)| text.replace(from, to))
}

/// MariaDB's tables `SCHEMA.seq_FIRST_to_LAST` as MySQL can make them up: of digits, by any
/// server that applies the statement, whatever its settings are. (With a limit the order is kept,
/// in which a table is filled several times as fast.)
fn with_sequences(text: &str) -> String {
    const DIGITS: &str = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 \
        UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 \
        UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let Some((before, rest)) = text.split_once(".seq_") else { return text.to_string() };
    let schema = before.rfind(|c: char| !c.is_alphanumeric()).map_or(0, |at| at + 1);
    let end = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (first, rest) = rest.split_at(end(rest));
    let rest = rest.strip_prefix("_to_").expect("seq_FIRST_to_LAST");
    let (last, rest) = rest.split_at(end(rest));
    let sum = (0..last.len()).map(|n| format!("d{n}.d * 1{}", "0".repeat(n)));
    let tables = (0..last.len()).map(|n| format!("{DIGITS} AS d{n}"));
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let count = number(last) - number(first) + 1;
    format!(
        "{}(SELECT {} AS seq FROM {} HAVING seq BETWEEN {first} AND {last} ORDER BY seq \
         LIMIT {count}) AS numbers{}",
        &before[..schema],
        sum.collect::<Vec<_>>().join(" + "),
        tables.collect::<Vec<_>>().join(", "),
        with_sequences(rest)
    )
}

/// A column of `SHOW REPLICA STATUS` by MariaDB's name of it.
pub fn column(name: &str) -> String {
    if !is_mysql() {
        return name.to_string();
    }
    name.replace("Slave_", "Replica_").replace("Master_", "Source_")
}

/// The program with the server's tools first in its PATH.
pub fn path_for(command: &mut Command) {
    let Some(bin) = &chosen().bin else { return };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(bin.clone()).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(all).expect("a PATH"));
}

/// Makes the files of an empty MySQL server.
pub fn initialize_mysql(mut server: Command, datadir: &Path) -> Command {
    server.arg("--initialize-insecure").arg(format!("--datadir={}", datadir.display()));
    server.stdin(Stdio::null());
    server
}

/// What `GRANT` gets for an account that would dump MariaDB, or only replicate from it.
pub fn grants(grants: &str) -> String {
    let more = if is_mysql() && grants.contains("SHOW VIEW") { ", PROCESS, RELOAD" } else { "" };
    format!("{grants}{more}")
}

/// Runs `statement`, in which `i` counts, so many times, each in a transaction of its own.
pub fn repeat(times: u32, statement: &str) -> Vec<String> {
    if !is_mysql() {
        return vec![format!("BEGIN NOT ATOMIC FOR i IN 1..{times} DO {statement}; END FOR; END")];
    }
    // MySQL loops in procedures only. This one is in no binary log, no dump and no comparison.
    let name = "sys.rf_test_repeat";
    vec![
        format!("SET SESSION sql_log_bin = 0; DROP PROCEDURE IF EXISTS {name}"),
        format!(
            "CREATE PROCEDURE {name} () BEGIN DECLARE i INT DEFAULT 0; WHILE i < {times} DO \
             SET i = i + 1; {statement}; END WHILE; END"
        ),
        format!("SET SESSION sql_log_bin = 1; CALL {name} ()"),
        format!("SET SESSION sql_log_bin = 0; DROP PROCEDURE {name}; SET SESSION sql_log_bin = 1"),
    ]
}

/// Points a replica of the tests at its primary, given in MariaDB's words.
pub fn change_master(source: &str) -> String {
    if is_mysql() {
        let source = source.replace("MASTER_", "SOURCE_");
        return format!(
            "CHANGE REPLICATION SOURCE TO {source}, SOURCE_AUTO_POSITION=1, \
             GET_SOURCE_PUBLIC_KEY=1"
        );
    }
    // The default of MariaDB 11 is TLS, which most primaries of the tests do not have.
    format!("CHANGE MASTER TO {source}, MASTER_SSL=0, MASTER_USE_GTID=slave_pos")
}
