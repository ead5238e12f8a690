//! Sessions with a server that is a few packets long.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;
use crate::mysql::account::Tls;

#[test]
fn quotes_and_backslashes_are_escaped() {
    assert_eq!(quoted(r"a'b\c"), r"'a\'b\\c'");
}

#[test]
fn a_column_that_is_not_there_is_an_error() {
    let one = |value: Option<&str>| vec![vec![value.map(String::from)]];
    let rows = |rows| Rows { columns: vec!["State".into()], rows };
    assert_eq!(rows(one(Some("on"))).require("State").unwrap(), "on");
    assert_eq!(rows(one(None)).require("State").unwrap(), "");
    assert_eq!(rows(Vec::new()).require("State").unwrap(), "");
    let error = rows(one(Some("on"))).require("Status").unwrap_err().to_string();
    assert!(error.contains("no column Status"), "{error}");
}

fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![payload.len() as u8, 0, 0, number];
    packet.extend_from_slice(payload);
    packet
}

/// A session with a server that greets, accepts any login and then gives `answer` to each query.
fn session_with(answer: Vec<u8>) -> (Session, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut greeting = b"\x0a5.5.5-10.11.0-MariaDB\0\x01\0\0\0abcdefgh\0".to_vec();
        greeting.extend_from_slice(&0xf7feu16.to_le_bytes());
        greeting.extend_from_slice(&[33, 2, 0, 0xff, 0x81, 21]);
        greeting.extend_from_slice(&[0; 10]);
        greeting.extend_from_slice(b"abcdefghijkl\0mysql_native_password\0");
        peer.write_all(&packet(0, &greeting)).unwrap();
        let mut buffer = [0; 1024];
        assert!(peer.read(&mut buffer).unwrap() > 0);
        peer.write_all(&packet(2, &[0, 0, 0, 2, 0, 0, 0])).unwrap();
        // The settings of each session.
        assert!(peer.read(&mut buffer).unwrap() > 0);
        peer.write_all(&packet(1, &[0, 0, 0, 2, 0, 0, 0])).unwrap();
        // Until the client disconnects.
        while peer.read(&mut buffer).is_ok_and(|n| n > 0) && peer.write_all(&answer).is_ok() {}
    });
    let tls = Tls { mode: TlsMode::Disabled, ..Tls::default() };
    let account = Account { user: "u".into(), tls, ..Account::default() };
    let patience = Duration::from_secs(30);
    (Session::over_tcp("127.0.0.1", port, &account, patience).unwrap(), server)
}

#[test]
fn a_session_that_timed_out_is_used_up() {
    let (mut session, server) = session_with(Vec::new());
    session.set_timeout(Duration::from_millis(200));
    assert!(matches!(session.query("SELECT 'OLD'"), Err(Trouble::TimedOut)));
    assert!(!session.is_alive());
    assert!(matches!(session.query("SELECT 'NEW'"), Err(Trouble::Lost(_))));
    server.join().unwrap();
}

#[test]
fn a_closed_connection_is_told_without_a_librarys_address() {
    let text =
        "peer closed connection without sending TLS close_notify: https://example.org/manual";
    let error = std::io::Error::new(ErrorKind::UnexpectedEof, text);
    assert_eq!(trouble(error.into()).to_string(), "it closed the connection");
}

#[test]
fn an_answer_has_a_limit_of_rows_and_of_bytes() {
    let end = [0xfe, 0, 0, 2, 0];
    let column = b"\x03def\0\0\0\x01a\0\x0c\x21\0\0\x01\0\0\xfd\0\0\0\0\0";
    let mut answer = [packet(1, &[1]), packet(2, column), packet(3, &end)].concat();
    (4..24).for_each(|number| answer.extend(packet(number, b"\x0aten bytes!")));
    answer.extend(packet(24, &end));
    for (most, fits) in [((20, 200), true), ((19, 200), false), ((20, 199), false)] {
        let (mut session, server) = session_with(answer.clone());
        session.most = most;
        match session.query("SELECT a") {
            Ok(rows) => assert!(fits && rows.iter().count() == 20, "{most:?}"),
            Err(trouble) => {
                let text = trouble.to_string();
                assert!(!fits && text.contains("larger than"), "{most:?}: {text}");
                assert!(!session.is_alive());
            }
        }
        drop(session);
        server.join().unwrap();
    }
}
