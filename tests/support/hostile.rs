//! A primary that lies: it greets, logs anybody in, and answers any query with anything.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::server::free_listener;

/// What it does with a client.
#[derive(Clone, Debug)]
pub enum Lie {
    /// Sends these bytes instead of a greeting.
    Greeting(Vec<u8>),
    /// Asks for another method of login.
    Switch(&'static str),
    /// Answers each query with these bytes, whole packets or not.
    Bytes(Vec<u8>),
    /// Answers each query with one row: this value.
    Value(Vec<u8>),
    /// Answers each query as a MariaDB does, but gives this value for this name.
    Fact(&'static str, &'static str),
    /// The columns, and then a row now and then, for ever.
    Trickle(Duration),
    /// A greeting, byte by byte, for ever.
    Slow(Duration),
}

/// Listens until the test ends. Returns its port.
pub fn listen(lie: Lie) -> u16 {
    let listener = free_listener();
    let port = listener.local_addr().unwrap().port();
    let lie = Arc::new(lie);
    thread::spawn(move || {
        for peer in listener.incoming().flatten() {
            let lie = lie.clone();
            thread::spawn(move || serve(peer, &lie));
        }
    });
    port
}

/// A packet with its length and its number in front.
pub fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes()[..3].to_vec();
    bytes.push(number);
    bytes.extend_from_slice(payload);
    bytes
}

fn text(value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xfc];
    bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
    bytes.extend_from_slice(value);
    bytes
}

fn column(number: u8, name: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    for part in ["def", "", "", "", name, ""] {
        payload.push(part.len() as u8);
        payload.extend_from_slice(part.as_bytes());
    }
    payload.extend_from_slice(&[12, 33, 0, 0, 1, 0, 0, 253, 0, 0, 0, 0, 0]);
    packet(number, &payload)
}

const EOF: [u8; 5] = [0xfe, 0, 0, 2, 0];

/// The beginning of an answer with one column.
pub fn head(name: &str) -> Vec<u8> {
    [packet(1, &[1]), column(2, name), packet(3, &EOF)].concat()
}

/// An answer of one column with these rows.
pub fn rows<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = head("a");
    let mut number = 3u8;
    for value in values {
        number = number.wrapping_add(1);
        bytes.extend(packet(number, &text(value)));
    }
    bytes.extend(packet(number.wrapping_add(1), &EOF));
    bytes
}

/// What a MariaDB answers to a query of ours about itself, with `value` for `name`.
fn facts(query: &str, name: &str, value: &str) -> Vec<u8> {
    if query.starts_with("SHOW GLOBAL VARIABLES") {
        return table(&["Variable_name", "Value"], &[&[name, value]]);
    }
    if query == "SHOW MASTER STATUS" {
        return table(&["Binlog_Do_DB", "Binlog_Ignore_DB"], &[&["", ""]]);
    }
    let zone = vec!["0"; query.matches("FROM_UNIXTIME").count()].join(",");
    let columns: Vec<&str> = match zone.is_empty() {
        true => query.split(',').map(|c| c.rsplit(" AS ").next().unwrap_or(c)).collect(),
        false => vec!["zone"],
    };
    let known = |column: &str| match column {
        column if column == name => value.to_string(),
        "SELECT VERSION()" => "10.11.14-MariaDB".into(),
        "zone" => zone.clone(),
        "position" | "state" => "0-1-5".into(),
        "applied" | "sql_mode" => String::new(),
        "lower_case_table_names" => "0".into(),
        "innodb_page_size" => "16384".into(),
        "max_allowed_packet" => "16777216".into(),
        "character_set_server" => "utf8mb4".into(),
        "collation_server" => "utf8mb4_general_ci".into(),
        _ => "1".into(),
    };
    let row: Vec<String> = columns.iter().map(|c| known(c)).collect();
    let row: Vec<&str> = row.iter().map(String::as_str).collect();
    table(&columns, &[&row])
}

/// An answer of these columns and rows.
fn table(columns: &[&str], rows: &[&[&str]]) -> Vec<u8> {
    let mut bytes = packet(1, &[columns.len() as u8]);
    let mut number = 1;
    let mut next = || {
        number += 1;
        number
    };
    for name in columns {
        bytes.extend(column(next(), &name[..name.len().min(200)]));
    }
    bytes.extend(packet(next(), &EOF));
    for row in rows {
        let values: Vec<u8> = row.iter().flat_map(|value| text(value.as_bytes())).collect();
        bytes.extend(packet(next(), &values));
    }
    bytes.extend(packet(next(), &EOF));
    bytes
}

/// The first packet of a server.
pub fn greeting() -> Vec<u8> {
    let mut greeting = b"\x0a5.5.5-10.11.0-MariaDB\0\x01\0\0\0abcdefgh\0".to_vec();
    greeting.extend_from_slice(&0xf7feu16.to_le_bytes());
    greeting.extend_from_slice(&[33, 2, 0, 0xff, 0x80, 21]);
    greeting.extend_from_slice(&[0; 10]);
    greeting.extend_from_slice(b"abcdefghijkl\0mysql_native_password\0");
    packet(0, &greeting)
}

fn serve(mut peer: TcpStream, lie: &Lie) -> Option<()> {
    if let Lie::Greeting(bytes) = lie {
        peer.write_all(bytes).ok()?;
        peer.read_exact(&mut [0; 1024]).ok();
        return None;
    }
    if let Lie::Slow(pause) = lie {
        // The greeting is so long that it never ends.
        peer.write_all(&[0xff, 0xff, 0, 0, 10]).ok()?;
        loop {
            thread::sleep(*pause);
            peer.write_all(b"8").ok()?;
        }
    }
    peer.write_all(&greeting()).ok()?;
    let (_, mut number) = receive(&mut peer)?;
    if let Lie::Switch(plugin) = lie {
        let request =
            [&[0xfe], plugin.as_bytes(), b"\0abcdefghijklmnopqrstuvwxyz012345\0"].concat();
        peer.write_all(&packet(number + 1, &request)).ok()?;
        let (answer, at) = receive(&mut peer)?;
        if answer.windows(6).any(|w| w == b"secret") {
            return peer.write_all(&packet(at + 1, b"\xff\x15\x04#28000LEAKED")).ok();
        }
        number = at;
    }
    peer.write_all(&packet(number + 1, &[0, 0, 0, 2, 0, 0, 0])).ok()?;
    loop {
        let (query, _) = receive(&mut peer)?;
        match lie {
            Lie::Bytes(bytes) => peer.write_all(bytes).ok()?,
            Lie::Value(value) => peer.write_all(&rows([&value[..]])).ok()?,
            Lie::Fact(name, value) => {
                let sql = String::from_utf8_lossy(query.get(1..).unwrap_or_default()).into_owned();
                peer.write_all(&facts(&sql, name, value)).ok()?;
            }
            Lie::Trickle(pause) => {
                peer.write_all(&head("a")).ok()?;
                for number in 4u8.. {
                    thread::sleep(*pause);
                    peer.write_all(&packet(number, &text(b"1"))).ok()?;
                }
            }
            _ => return None,
        }
        if query.first() == Some(&1) {
            return None;
        }
    }
}

/// The next packet of the client, and its number.
fn receive(peer: &mut TcpStream) -> Option<(Vec<u8>, u8)> {
    let mut head = [0; 4];
    peer.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    peer.read_exact(&mut payload).ok()?;
    Some((payload, head[3]))
}
