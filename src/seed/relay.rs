//! What is between the dumping and the loading client: a queue that grows on disk.
//!
//! A loader that is busy for a while, as with an index, stops reading. A dumping client that can write
//! nothing reads nothing, and the primary ends its session after `net_write_timeout`. So two threads
//! pass the dump on, and what the loader does not take yet waits in memory, then in a file without a
//! name in the scratch directory, while there is room.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::os::sys;

/// Bytes that are passed on at a time.
const CHUNK: usize = 256 << 10;
/// Bytes that wait in memory before the disk is used.
const IN_MEMORY: usize = 8 << 20;

/// The name of the file, for a moment.
const NAME: &str = "dump.wait";

enum Chunk {
    Memory(Vec<u8>),
    /// Offset and length in the file.
    Disk(u64, usize),
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    in_memory: usize,
    on_disk: u64,
    /// Nothing more comes.
    ended: bool,
    /// Nothing more is taken.
    refused: bool,
}

struct Relay {
    queue: Mutex<Queue>,
    changed: Condvar,
    file: File,
    /// The most bytes on disk.
    room: u64,
}

/// Passes on what comes `from` one client `to` the other, with at most `room` bytes waiting on the disk
/// of `scratch`. The threads end with the clients.
///
/// # Errors
/// When the file or a thread cannot be made.
pub fn start(
    from: impl Read + Send + 'static,
    to: impl Write + Send + 'static,
    scratch: &Path,
    room: u64,
) -> io::Result<()> {
    let path = scratch.join(NAME);
    let _ = fs::remove_file(&path);
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    let (queue, changed) = (Mutex::default(), Condvar::new());
    let relay = Arc::new(Relay { queue, changed, file, room });
    let reader = Arc::clone(&relay);
    thread::Builder::new().name("dump".into()).spawn(move || reader.receive(from))?;
    thread::Builder::new().name("load".into()).spawn(move || relay.send(to))?;
    Ok(())
}

impl Relay {
    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self, mut from: impl Read) {
        let mut end = 0;
        loop {
            let mut chunk = vec![0; CHUNK];
            let length = match from.read(&mut chunk) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            chunk.truncate(length);
            let mut queue = self.locked();
            if length == 0 || queue.refused {
                queue.ended = true;
                self.changed.notify_all();
                return;
            }
            while queue.in_memory >= IN_MEMORY && !queue.refused {
                // The lock is not held for the write: the other thread reads other bytes.
                let fits = queue.on_disk + length as u64 <= self.room;
                drop(queue);
                if fits && self.file.write_all_at(&chunk, end).is_ok() {
                    queue = self.locked();
                    queue.chunks.push_back(Chunk::Disk(end, length));
                    queue.on_disk += length as u64;
                    end += length as u64;
                    chunk.clear();
                    break;
                }
                queue = self.locked();
                if queue.in_memory >= IN_MEMORY && !queue.refused {
                    queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            }
            if !chunk.is_empty() {
                queue.in_memory += length;
                queue.chunks.push_back(Chunk::Memory(chunk));
            }
            self.changed.notify_all();
        }
    }

    fn send(&self, mut to: impl Write) {
        while let Some(chunk) = self.next() {
            let sent = match &chunk {
                Chunk::Memory(bytes) => to.write_all(bytes),
                Chunk::Disk(offset, length) => {
                    let mut bytes = vec![0; *length];
                    let read = self.file.read_exact_at(&mut bytes, *offset);
                    // Not every file system can; then the file just grows.
                    let _ = sys::punch_hole(&self.file, *offset, *length as u64);
                    read.and_then(|()| to.write_all(&bytes))
                }
            };
            let mut queue = self.locked();
            match chunk {
                Chunk::Memory(bytes) => queue.in_memory -= bytes.len(),
                Chunk::Disk(_, length) => queue.on_disk -= length as u64,
            }
            queue.refused |= sent.is_err();
            self.changed.notify_all();
            if queue.refused {
                return;
            }
        }
    }

    fn next(&self) -> Option<Chunk> {
        let mut queue = self.locked();
        loop {
            if let Some(chunk) = queue.chunks.pop_front() {
                return Some(chunk);
            }
            if queue.ended {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::pipe;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    /// Passes on so many bytes to a reader that begins late; the bytes and how long the writer took.
    fn passed(bytes: usize, room: u64, late: Duration) -> (Vec<u8>, Duration) {
        let dir = std::env::temp_dir().join(format!("rf-unit-relay-{}-{room}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let (from, mut writer) = pipe().unwrap();
        let (mut reader, to) = pipe().unwrap();
        start(from, to, &dir, room).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        let content: Vec<u8> = (0..bytes).map(|n| (n / 7 + n / 4099) as u8).collect();
        let sent = content.clone();
        let writing = thread::spawn(move || {
            let began = Instant::now();
            writer.write_all(&sent).unwrap();
            began.elapsed()
        });
        let _ = mpsc::channel::<()>().1.recv_timeout(late);
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        fs::remove_dir(&dir).unwrap();
        assert!(got == content, "{} bytes of {bytes}", got.len());
        (got, writing.join().unwrap())
    }

    #[test]
    fn a_late_reader_holds_up_the_writer_only_without_room() {
        let late = Duration::from_secs(1);
        let (_, took) = passed(24 << 20, u64::MAX, late);
        assert!(took < late, "{took:?}");
        let (_, took) = passed(24 << 20, 1 << 20, late);
        assert!(took >= late - Duration::from_millis(100), "{took:?}");
    }
}
