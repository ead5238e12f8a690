//! Whether the private server lives: mysqld greets before anybody logs in.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Even a busy mysqld greets at once.
const GREETING: Duration = Duration::from_secs(5);

/// True if the server behind the socket greets. Runs on a thread that may be abandoned, because
/// connecting to a server that accepts no more connections blocks without a time-out.
pub fn greets(socket: &Path) -> bool {
    let (sender, receiver) = mpsc::channel();
    let socket = socket.to_path_buf();
    let spawned = thread::Builder::new().spawn(move || sender.send(is_greeted(socket)));
    spawned.is_ok() && receiver.recv_timeout(GREETING).unwrap_or(false)
}

fn is_greeted(socket: PathBuf) -> bool {
    let Some(dir) = socket.parent().and_then(|d| File::open(d).ok()) else { return false };
    let Some(name) = socket.file_name() else { return false };
    // Through the directory's descriptor, because the socket's path may be too long to connect to.
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    let Ok(mut stream) = UnixStream::connect(short) else { return false };
    let mut header = [0; 5];
    stream.set_read_timeout(Some(GREETING)).is_ok() && stream.read_exact(&mut header).is_ok()
}
