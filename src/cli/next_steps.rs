//! What a user needs to know right after a restore, perhaps in an emergency: what the data is,
//! which settings its server needs, who owns the files, and which command comes next.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::mysql::settings::{Decides, Setting, ZONE, find};
use crate::os::sys;
use crate::replication::time_zone;
use crate::repository::manifest::Header;
use crate::text::shell;

/// The owner of the directory's files: the uid and, if there is one, the name.
pub fn owner(dir: &Path) -> (u32, Option<String>) {
    let uid = std::fs::metadata(dir).map_or(0, |m| m.uid());
    (uid, sys::user_name(uid))
}

/// The last lines of a restore: all but [`replica`], ending with the next commands.
pub fn lines(header: &Header, dir: &Path, (uid, user): (u32, Option<String>)) -> Vec<String> {
    let Header { flavor, version, position, .. } = header;
    let mariadb = flavor == "mariadb";
    let as_of = header.data_as_of.rfc3339();
    let mut lines = vec![format!("data as of {as_of}, position {position}, {flavor} {version}")];

    // A manifest may hold anything: what no server has is not put on a command line.
    let known: Vec<(&Setting, &str)> = header
        .settings
        .iter()
        .filter_map(|(name, value)| Some((find(name)?, value.as_str())))
        .filter(|(setting, value)| setting.fits(value))
        .collect();
    let needs = |setting: &Setting| {
        matches!(setting.decides, Decides::Data | Decides::Search | Decides::Accounts)
    };
    let unusual = |(setting, value): &&(&Setting, &str)| setting.is_unusual(value);
    let needed = known.iter().filter(unusual).filter(|(setting, _)| needs(setting));
    let needed: String = needed
        .map(|(setting, value)| format!(" --{}={}", setting.name.replace('_', "-"), shell(value)))
        .collect();
    lines.push(match needed.as_str() {
        "" => format!("the data needs a {flavor} server of version {version} or later"),
        _ => format!("the data needs a {flavor} server of version {version} or later with{needed}"),
    });
    let others: Vec<String> = known
        .iter()
        .filter(|(setting, _)| !needs(setting) && setting.name != ZONE)
        .map(|(setting, value)| format!("{}={value}", setting.name))
        .collect();
    if !others.is_empty() {
        lines.push(format!("the primary had {}", others.join(" ")));
    }
    let zone = known.iter().find(|(setting, _)| setting.name == ZONE).map(|(_, zone)| *zone);
    let elsewhere = zone.filter(|zone| !time_zone::is_ours(zone));
    if let Some(zone) = elsewhere {
        lines.push(format!(
            "its machine was in the time zone {zone}, and this one is not: give the server TZ={} \
             in its environment, or times without a zone mean others",
            shell(zone)
        ));
    }
    let zone = elsewhere.map_or_else(String::new, |zone| format!("TZ={} ", shell(zone)));
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
        "next, to inspect it without network, events and replication: {zone}{program} --no-defaults \
         --datadir={datadir}{run_as}{needed} --socket={socket} --skip-networking {held_back} \
         --event-scheduler=OFF"
    ));
    let path = shell(&dir.join(socket).display().to_string());
    lines.push(format!("and log in with: {client} --socket={path}"));
    lines
}

/// How to make a server on the data a replica by hand.
pub fn replica(header: &Header) -> String {
    let position = &header.position;
    if header.flavor == "mariadb" {
        format!(
            "to make it a replica, with a server_id of its own, starting at {position}, which is in its \
             gtid_slave_pos (and MASTER_SSL=0 if the primary has no TLS): CHANGE MASTER TO \
             MASTER_HOST='...', MASTER_USER='...', MASTER_PASSWORD='...', MASTER_USE_GTID=slave_pos; \
             START SLAVE;"
        )
    } else {
        format!(
            "to make it a replica, with a server_id of its own, starting at {position}, which is in its \
             gtid_executed (and SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1 if the primary has no TLS): \
             CHANGE REPLICATION SOURCE TO SOURCE_HOST='...', SOURCE_USER='...', \
             SOURCE_PASSWORD='...', SOURCE_SSL=1, SOURCE_AUTO_POSITION=1; START REPLICA;"
        )
    }
}
