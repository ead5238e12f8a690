//! What a service manager hears: checked by one that listens on a socket of its own.
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::{Scene, wait_until};

const PATIENCE: Duration = Duration::from_secs(120);

/// The manager's end of the line.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn listen(scene: &Scene) -> Manager {
        let socket = UnixDatagram::bind(scene.path("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Manager { socket, heard: Vec::new() }
    }

    /// All that was said so far.
    fn listen_on(&mut self) -> &[String] {
        let mut buffer = [0; 4096];
        while let Ok(got) = self.socket.recv(&mut buffer) {
            self.heard.push(String::from_utf8(buffer[..got].to_vec()).unwrap());
        }
        &self.heard
    }

    fn count(&mut self, start: &str) -> usize {
        self.listen_on().iter().filter(|m| m.starts_with(start)).count()
    }
}

#[test]
fn a_service_manager_is_told_phase_and_liveness() {
    need_server!();
    let scene = Scene::seeded("notify");
    scene.primary.slow_backlog("shop", 200, 0.1);
    let mut manager = Manager::listen(&scene);
    let command = scene
        .command("run")
        .env("NOTIFY_SOCKET", scene.path("notify"))
        .env("WATCHDOG_USEC", "1500000");
    let mut pass = command.spawn();
    let mysqld = pass.wait_for_mysqld(PATIENCE);
    pass.wait_for_phase("catch-up", PATIENCE);
    // The server knows the protocol too, and must not speak in our place.
    let environment = fs::read(format!("/proc/{mysqld}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(environment.contains("PATH="), "{environment}");
    assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"));
    // A stream that moves slowly keeps the watchdog fed.
    let fed = manager.count("WATCHDOG=1");
    wait_until("the watchdog to be fed", PATIENCE, || manager.count("WATCHDOG=1") >= fed + 3);
    wait_until("its rate", PATIENCE, || {
        manager.listen_on().iter().any(|m| m.starts_with("STATUS=catch-up: ") && m.contains("/s"))
    });
    assert_eq!(manager.listen_on()[0], "READY=1");
    assert_eq!(manager.count("STOPPING=1"), 0);

    pass.kill(libc::SIGTERM);
    pass.finish(PATIENCE).expect(128 + libc::SIGTERM);
    assert_eq!(manager.count("READY=1"), 1, "{:?}", manager.heard);
    assert_eq!(manager.count("STOPPING=1"), 1, "{:?}", manager.heard);
    assert!(manager.count("EXTEND_TIMEOUT_USEC=") >= 1, "{:?}", manager.heard);
    let known = ["READY=1", "STATUS=", "WATCHDOG=1", "STOPPING=1", "EXTEND_TIMEOUT_USEC="];
    let strange = |m: &&String| !known.iter().any(|k| m.starts_with(k)) || m.contains('\n');
    assert_eq!(manager.heard.iter().find(strange), None);
}

#[test]
fn a_deaf_or_absent_manager_costs_nothing() {
    need_server!();
    let scene = Scene::seeded("deaf");
    // It is never read: the queue is full after some messages.
    let _deaf = Manager::listen(&scene);
    scene.primary.slow_backlog("shop", 20, 0.1);
    for socket in [scene.path("notify"), scene.path("nobody")] {
        let command = scene.command("run").env("NOTIFY_SOCKET", &socket);
        command.env("WATCHDOG_USEC", "1000").run_to_end(PATIENCE).expect(0);
    }
    scene.command("run").env("NOTIFY_SOCKET", "").run_to_end(PATIENCE).expect(0);
}
