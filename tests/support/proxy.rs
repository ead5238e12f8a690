//! A line between the private server and the primary that can be made slow, cut, made to swallow
//! all, and mended.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memchr::memmem;

use super::server::free_listener;
use super::{PATIENCE, Primary, wait_for};

/// Listens on 127.0.0.1 and passes all on to a primary, until it is dropped.
pub struct Proxy {
    /// Its port.
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    to: u16,
    cut: AtomicBool,
    /// Everything is swallowed and nothing closed.
    hole: AtomicBool,
    ended: AtomicBool,
    /// Connections of an earlier one are closed.
    generation: AtomicU64,
    /// Bytes a second from the primary, on each connection.
    rate: AtomicU64,
    hesitation: AtomicU64,
    /// All that passed, for each connection and direction its own; `None` does not record.
    records: Option<Mutex<Vec<Record>>>,
}

type Record = Arc<Mutex<Vec<u8>>>;

impl Proxy {
    /// To `primary`, at full speed.
    pub fn start(primary: &Primary) -> Proxy {
        Proxy::start_with(primary, None)
    }

    /// The same, and keeps all that passes.
    pub fn recording(primary: &Primary) -> Proxy {
        Proxy::start_with(primary, Some(Mutex::default()))
    }

    fn start_with(primary: &Primary, records: Option<Mutex<Vec<Record>>>) -> Proxy {
        let listener = free_listener();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            to: primary.port(),
            cut: AtomicBool::new(false),
            hole: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            rate: AtomicU64::new(u64::MAX),
            hesitation: AtomicU64::new(0),
            records,
        });
        let own = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if own.ended.load(Ordering::SeqCst) {
                    return;
                }
                if own.cut.load(Ordering::SeqCst) {
                    continue;
                }
                let own = own.clone();
                let hesitation = Duration::from_millis(own.hesitation.load(Ordering::SeqCst));
                let connect = move || {
                    std::thread::sleep(hesitation);
                    let Ok(server) = TcpStream::connect(("127.0.0.1", own.to)) else { return };
                    let other = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    let dead = Arc::new(AtomicBool::new(own.hole.load(Ordering::SeqCst)));
                    let (up, dead2) = (own.clone(), dead.clone());
                    std::thread::spawn(move || up.pass_on(client, server, &dead, false));
                    own.pass_on(other.1, other.0, &dead2, true);
                };
                std::thread::spawn(connect);
            }
        });
        Proxy { port, shared }
    }

    /// From now on new connections are passed on only after this time: as by a name that is looked up
    /// slowly, or a server that is busy.
    pub fn hesitate(&self, time: Duration) {
        self.shared.hesitation.store(time.as_millis() as u64, Ordering::SeqCst);
    }

    /// So many bytes a second from now on.
    pub fn slow_down(&self, rate: u64) {
        self.shared.rate.store(rate, Ordering::SeqCst);
    }

    /// Closes all connections, and every new one at once.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
    }

    /// Swallows everything, both ways, and closes nothing: as a firewall that has forgotten. The
    /// connections that live to see it stay dead after [`Proxy::mend`], too.
    pub fn swallow(&self) {
        self.shared.hole.store(true, Ordering::SeqCst);
    }

    /// Closes the connections there are, and takes new ones as before.
    pub fn interrupt(&self) {
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Passes on again.
    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
        self.shared.hole.store(false, Ordering::SeqCst);
    }

    /// Bytes that passed so far, both ways.
    pub fn recorded(&self) -> usize {
        self.records().iter().map(|r| r.lock().unwrap().len()).sum()
    }

    /// Has `needle` passed, either way?
    pub fn saw(&self, needle: &str) -> bool {
        let holds = |r: &Record| memmem::find(&r.lock().unwrap(), needle.as_bytes()).is_some();
        self.records().iter().any(holds)
    }

    fn records(&self) -> Vec<Record> {
        let records = self.shared.records.as_ref().expect("one that records");
        records.lock().unwrap().clone()
    }

    /// Its address for `--primary`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the one that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream, dead: &AtomicBool, slowly: bool) {
        let _ = from.set_read_timeout(Some(Duration::from_millis(20)));
        let mut buffer = vec![0; 128 << 10];
        let record = self.records.as_ref().map(|records| {
            let record = Record::default();
            records.lock().unwrap().push(record.clone());
            record
        });
        let generation = self.generation.load(Ordering::SeqCst);
        let ours = || self.generation.load(Ordering::SeqCst) == generation;
        while ours() && !self.cut.load(Ordering::SeqCst) {
            let rate = if slowly { self.rate.load(Ordering::SeqCst) } else { u64::MAX };
            // In fiftieths of a second.
            let most = usize::try_from(rate / 50).unwrap_or(usize::MAX).clamp(1, buffer.len());
            let got = from.read(&mut buffer[..most]);
            if self.hole.load(Ordering::SeqCst) {
                dead.store(true, Ordering::SeqCst);
            }
            let is_dead = dead.load(Ordering::SeqCst);
            let got = match got {
                // The other side does not hear of it; the stream is closed with its last clone.
                Ok(0) | Err(_) if is_dead && !is_wait(&got) => return,
                Ok(0) => break,
                Ok(_) if is_dead => continue,
                Ok(got) => got,
                Err(_) if is_wait(&got) => continue,
                Err(_) => break,
            };
            if let Some(record) = &record {
                record.lock().unwrap().extend_from_slice(&buffer[..got]);
            }
            if to.write_all(&buffer[..got]).is_err() {
                break;
            }
            if rate < u64::MAX {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// Was nothing there yet?
fn is_wait(got: &std::io::Result<usize>) -> bool {
    matches!(got, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
}
