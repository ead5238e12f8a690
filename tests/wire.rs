//! What crosses the network: TLS where it is offered, and no readable password whoever asks.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memchr::memmem::find;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::server::free_listener;
use crate::support::{Certificates, DUMP, NIGHTLY, PASSWORD, Proxy, Replica, Scene, flavor};

/// In front of the primary: lets our own sessions pass, and asks every other client to go on with
/// another login. Keeps what those send.
struct Switcher {
    port: u16,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Switcher {
    fn start(to: u16, plugin: &'static str) -> Switcher {
        let listener = free_listener();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let all = sent.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let all = all.clone();
                std::thread::spawn(move || switch(client, to, plugin, &all));
            }
        });
        Switcher { port, sent }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Reads one packet, with its header.
fn packet(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut packet = vec![0; 4];
    from.read_exact(&mut packet).ok()?;
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]) as usize;
    packet.resize(4 + length, 0);
    from.read_exact(&mut packet[4..]).ok()?;
    Some(packet)
}

fn switch(mut client: TcpStream, to: u16, plugin: &str, all: &Mutex<Vec<Vec<u8>>>) -> Option<()> {
    let mut server = TcpStream::connect(("127.0.0.1", to)).ok()?;
    client.write_all(&packet(&mut server)?).ok()?;
    let login = packet(&mut client)?;
    if find(&login, b"rust").is_some() {
        server.write_all(&login).ok()?;
        let (mut from, mut back) = (server.try_clone().ok()?, client.try_clone().ok()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut back);
            let _ = back.shutdown(std::net::Shutdown::Both);
        });
        let _ = std::io::copy(&mut client, &mut server);
        let _ = server.shutdown(std::net::Shutdown::Both);
        return Some(());
    }
    let mut request = vec![0xfe];
    request.extend_from_slice(plugin.as_bytes());
    request.extend_from_slice(if plugin == "dialog" { b"\0\x04Password: " } else { b"\0" });
    let mut answer = (request.len() as u32).to_le_bytes();
    answer[3] = login[3] + 1;
    client.write_all(&answer).ok()?;
    client.write_all(&request).ok()?;
    let _ = client.set_read_timeout(Some(Duration::from_secs(5)));
    let mut said = login;
    let _ = client.take(4096).read_to_end(&mut said);
    all.lock().unwrap().push(said);
    Some(())
}

#[test]
fn a_clear_text_switch_gets_no_password_from_the_dump() {
    need_server!();
    let scene = Scene::new("switch");
    scene.primary.fill("shop", 1, 10);
    append(&scene, "ssl-mode=DISABLED");
    for plugin in ["mysql_clear_password", "dialog"] {
        let switcher = Switcher::start(scene.primary.port(), plugin);
        let program = scene.command("seed").args(["--from", "dump", "--max-failures=0"]);
        let ended = program.args(["--primary", &switcher.address()]).run_to_end(COMMAND_PATIENCE);
        let ended = ended.says("error: ");
        let sent = switcher.sent.lock().unwrap();
        assert!(!sent.is_empty(), "the dump client was not asked; {ended}");
        for said in sent.iter() {
            assert!(find(said, DUMP.user.as_bytes()).is_some(), "no login: {said:?}");
            assert!(find(said, PASSWORD.as_bytes()).is_none(), "{plugin} got it; {ended}");
        }
        assert!(!ended.stderr.contains(PASSWORD), "{ended}");
    }
}

#[test]
fn a_clear_text_switch_gets_no_password_from_the_receiver() {
    need_server!();
    let scene = Scene::seeded("receiver");
    scene.primary.backlog("shop", 10);
    append(&scene, "ssl-mode=DISABLED");
    for plugin in ["mysql_clear_password", "dialog"] {
        let switcher = Switcher::start(scene.primary.port(), plugin);
        let program = scene.command("run").args(["--max-failures=0", "--stall-timeout=10s"]);
        let ended = program.args(["--primary", &switcher.address()]).run_to_end(COMMAND_PATIENCE);
        let ended = ended.says("error: ");
        let sent = switcher.sent.lock().unwrap();
        assert!(!sent.is_empty(), "the receiver was not asked; {ended}");
        for said in sent.iter() {
            assert!(find(said, NIGHTLY.user.as_bytes()).is_some(), "no login: {said:?}");
            assert!(find(said, PASSWORD.as_bytes()).is_none(), "{plugin} got it; {ended}");
        }
        assert!(!ended.stderr.contains(PASSWORD), "{ended}");
    }
}

/// Adds `lines` to both option files.
fn append(scene: &Scene, lines: &str) {
    for (path, account) in [(&scene.nightly, NIGHTLY), (&scene.dump, DUMP)] {
        scene.primary.write_option_file(path, account);
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "{lines}").unwrap();
    }
}

#[test]
fn tls_is_used_where_offered_without_any_key() {
    need_server!();
    let certificates = Certificates::make();
    let options = certificates.options("self");
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let scene = Scene::with("offered", &options);
    scene.primary.fill("shop", 1, 10);
    for account in [NIGHTLY, DUMP] {
        scene.primary.sql(&format!("ALTER USER {} REQUIRE SSL", account.user));
    }
    for lines in ["", "ssl-mode=PREFERRED"] {
        append(&scene, lines);
        // MySQL's own login, with nothing about public keys.
        for path in [&scene.nightly, &scene.dump] {
            let text = std::fs::read_to_string(path).unwrap();
            std::fs::write(path, text.replace("get-server-public-key\n", "")).unwrap();
        }
        scene.primary.sql("FLUSH PRIVILEGES");
        for program in [scene.command("seed").args(["--from", "dump"]), scene.command("run")] {
            scene.primary.sql("INSERT INTO shop.t0 (n, text) VALUES (1, 'marker-of-a-row')");
            let proxy = Proxy::recording(&scene.primary);
            let address = proxy.address().replace("127.0.0.1", "0.0.0.0");
            let ended = program.args(["--primary", &address]).run_to_end(COMMAND_PATIENCE);
            let ended = ended.expect(0);
            assert!(!ended.stderr.contains("offers no TLS"), "{ended}");
            for word in ["marker-of-a-row", NIGHTLY.user, DUMP.user, PASSWORD] {
                assert!(!proxy.saw(word), "{word} with '{lines}'; {ended}");
            }
        }
    }
}

#[test]
fn a_primary_without_tls_is_used_with_one_warning() {
    need_server!();
    let scene = Scene::seeded_with("plain", &["--skip-ssl"]);
    for (host, warnings) in [("127.0.0.1", 0), ("0.0.0.0", 1)] {
        append(&scene, "");
        for program in [scene.command("seed").args(["--from", "dump"]), scene.command("run")] {
            scene.primary.sql("FLUSH PRIVILEGES");
            let proxy = Proxy::recording(&scene.primary);
            let address = format!("{host}:{}", proxy.port);
            let ended = program.args(["--primary", &address]).run_to_end(COMMAND_PATIENCE);
            let ended = ended.expect(0);
            assert_eq!(ended.stderr.matches("offers no TLS").count(), warnings, "{ended}");
            assert!(proxy.recorded() > 1000 && !proxy.saw(PASSWORD), "{ended}");
        }
    }
    append(&scene, "ssl-mode=DISABLED");
    let address = format!("0.0.0.0:{}", scene.primary.port());
    let ended = scene.command("run").args(["--primary", &address]).run_to_end(COMMAND_PATIENCE);
    assert!(!ended.expect(0).stderr.contains("TLS"));
}

#[test]
fn required_without_verification_is_refused_by_mariadb_elsewhere() {
    need_server!();
    let certificates = Certificates::make();
    let options = certificates.options("self");
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let scene = Scene::seeded_with("unverified", &options);
    append(&scene, "ssl-mode=REQUIRED");
    let address = format!("0.0.0.0:{}", scene.primary.port());
    for program in [scene.command("seed").args(["--from", "dump"]), scene.command("run")] {
        let ended = program.args(["--primary", &address]).run_to_end(COMMAND_PATIENCE);
        if flavor::is_mysql() {
            ended.expect(0);
            continue;
        }
        let ended = ended.expect(2).says("error: configuration: ").says("set ssl-ca");
        assert!(!ended.stderr.contains(PASSWORD), "{ended}");
        assert_eq!(scene.backups().len(), 1);
    }
}

#[test]
fn a_compressed_stream_takes_a_fraction_of_the_bytes() {
    need_server!();
    let scene = Scene::seeded("compressed");
    let proxy = Proxy::recording(&scene.primary);
    let night = |options: &[&str]| {
        // The rows themselves, and not the statement that makes them.
        let by_row = flavor::either("SET SESSION binlog_format = 'ROW';", "");
        let insert = "INSERT INTO shop.long_rows (t) VALUES (REPEAT('rollforward ', 100000));";
        scene.primary.sql(&format!("{by_row}{}", insert.repeat(10)));
        let before = proxy.recorded();
        let pass = scene.command("run").args(["--primary", &proxy.address()]).args(options);
        pass.run_to_end(COMMAND_PATIENCE).expect(0);
        proxy.recorded() - before
    };
    scene.primary.sql(
        "CREATE TABLE shop.long_rows (id INT AUTO_INCREMENT PRIMARY KEY, t LONGTEXT NOT NULL)",
    );
    let (plain, compressed) = (night(&[]), night(&["--compress-stream"]));
    assert!(plain > 8 << 20, "{plain} bytes");
    assert!(compressed < 1 << 20, "{compressed} bytes of {plain}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}
