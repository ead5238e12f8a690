//! What a user needs to know right after a restore, perhaps in an emergency: what the data is,
//! which settings its server needs, who owns the files, and which command comes next.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::os::sys;
use crate::repository::manifest::{Header, Manifest};
use crate::text::shell;

/// Settings without which a server does not start on the data or does not find its tables, with
/// their defaults.
const NEEDED: [(&str, &str); 2] = [("lower_case_table_names", "0"), ("innodb_page_size", "16384")];

/// The owner of the directory's files: the uid and, if there is one, the name.
pub fn owner(dir: &Path) -> (u32, Option<String>) {
    let uid = std::fs::metadata(dir).map_or(0, |m| m.uid());
    (uid, sys::user_name(uid))
}

/// The last lines of a restore, ending with the next commands.
pub fn lines(manifest: &Manifest, dir: &Path, (uid, user): (u32, Option<String>)) -> Vec<String> {
    let Header { flavor, version, position, .. } = &manifest.header;
    let mariadb = flavor == "mariadb";
    let as_of = manifest.header.data_as_of.rfc3339();
    let mut lines = vec![format!("data as of {as_of}, position {position}, {flavor} {version}")];

    let needed: Vec<String> = NEEDED
        .iter()
        .filter_map(|(name, usual)| {
            let (_, value) = manifest.header.settings.iter().find(|(n, _)| n == name)?;
            (value != usual).then(|| format!(" --{}={value}", name.replace('_', "-")))
        })
        .collect();
    let needed = needed.concat();
    lines.push(match needed.as_str() {
        "" => format!("the data needs a {flavor} server of version {version} or later"),
        _ => format!("the data needs a {flavor} server of version {version} or later with{needed}"),
    });
    let others: Vec<String> = manifest
        .header
        .settings
        .iter()
        .filter(|(name, _)| NEEDED.iter().all(|(n, _)| n != name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if !others.is_empty() {
        lines.push(format!("the primary had {}", others.join(" ")));
    }
    let whose = user.clone().map_or_else(|| format!("uid {uid}"), |u| format!("{u} (uid {uid})"));
    lines.push(format!("the files belong to {whose}; the server must run as that user"));

    let program = if mariadb { "mariadbd" } else { "mysqld" };
    let client = if mariadb { "mariadb" } else { "mysql" };
    // The server changes to its data directory first, so a relative socket path is never too long.
    let socket = "restored.sock";
    let run_as = match user {
        _ if !sys::is_root() => String::new(),
        Some(user) => format!(" --user={}", shell(&user)),
        None => format!(" --user={uid}"),
    };
    let datadir = shell(&dir.display().to_string());
    // MySQL: the default secure_file_priv of packages may not exist, and the other protocol has a
    // socket of its own.
    let held_back = if mariadb {
        "--skip-slave-start"
    } else {
        "--skip-replica-start --mysqlx=OFF --secure-file-priv=NULL"
    };
    lines.push(format!(
        "next, to inspect it without network, events and replication: {program} --no-defaults \
         --datadir={datadir}{run_as}{needed} --socket={socket} --skip-networking {held_back} \
         --event-scheduler=OFF"
    ));
    let path = shell(&dir.join(socket).display().to_string());
    lines.push(format!("and log in with: {client} --socket={path}"));
    lines.push(if mariadb {
        format!(
            "to make it a replica, with a server_id of its own, starting at {position}, which is in \
             its gtid_slave_pos: CHANGE MASTER TO MASTER_HOST='...', MASTER_USER='...', \
             MASTER_PASSWORD='...', MASTER_USE_GTID=slave_pos; START SLAVE;"
        )
    } else {
        format!(
            "to make it a replica, with a server_id of its own, starting at {position}, which is in \
             its gtid_executed: CHANGE REPLICATION SOURCE TO SOURCE_HOST='...', \
             SOURCE_USER='...', SOURCE_PASSWORD='...', SOURCE_SSL=1, SOURCE_AUTO_POSITION=1; START REPLICA;"
        )
    });
    lines
}
