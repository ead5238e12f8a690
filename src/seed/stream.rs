//! The first backup from a stream: what mariadb-backup or xtrabackup streams, or a tar of the data
//! directory of a stopped server.
//!
//! It is told by its first bytes, passed on to the program that unpacks such a stream, and read once:
//! what it brought is in the scratch directory or nowhere. A stream that ends early is no backup.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::os::clock::Timestamp;
use crate::os::files;
use crate::os::sys;
use crate::os::workers::Aside;
use crate::seed::adopt::Source;
use crate::seed::xbstream;
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::Nothing;
use crate::text::system_text;

/// So many bytes tell what a stream is.
const HEAD: usize = 512;
/// Where a tar archive says that it is one, and what is there.
const TAR: (usize, &[u8]) = (257, b"ustar");
/// How long a read that must not block is waited for at a time.
const NEXT_LOOK: Duration = Duration::from_secs(60);

/// Formats of compressed streams: how they begin, and what unpacks them.
const COMPRESSED: [(&[u8], &str); 6] = [
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x89LZO", "lzop"),
];

/// What an adoption takes the data from.
pub enum Origin {
    /// `--from dir:PATH`.
    Directory(Source),
    /// `--from stream:FILE`.
    Stream(Stream),
}

impl Origin {
    /// What it is and where, unless it is standard input.
    pub fn place(&self) -> Option<(&'static str, &Path)> {
        match self {
            Origin::Directory(source) => Some(("data directory", source.path())),
            Origin::Stream(stream) => Some(("stream", stream.file.as_deref()?)),
        }
    }
}

/// A stream that was named, and not yet opened.
pub struct Stream {
    /// Standard input if there is none.
    file: Option<PathBuf>,
    /// `--position`.
    pub position: Option<String>,
}

/// What a stream turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The format of mariadb-backup and xtrabackup.
    Xbstream,
    /// An archive of a directory.
    Tar,
}

/// A stream of which the first bytes were read.
pub struct Opened {
    /// What it is.
    pub format: Format,
    /// Its bytes, if it is a file.
    pub size: Option<u64>,
    head: Vec<u8>,
    file: File,
    /// When it was last written, if it is a file.
    written: Option<Timestamp>,
}

impl Stream {
    /// Checks the stream `name`, the path of a file or `-`, without opening it.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it cannot be one.
    pub fn check(name: &str, position: Option<&str>) -> Result<Stream> {
        if position == Some("") {
            return Err(Error::config("--position needs a value"));
        }
        let position = position.map(String::from);
        let terminal = || {
            Error::config(format!(
                "--from stream:{name} is a terminal: pipe a backup into it, as in mariadb-backup \
                 --backup --stream=mbstream | rollforward seed --from stream:-"
            ))
        };
        if name == "-" {
            return match io::stdin().is_terminal() {
                true => Err(terminal()),
                false => Ok(Stream { file: None, position }),
            };
        }
        let path = std::path::absolute(name).unwrap_or_else(|_| name.into());
        let wrong = |what: &str| Error::config(format!("--from stream:{} {what}", path.display()));
        let cannot = |e: io::Error| wrong(&format!("cannot be read: {}", system_text(&e)));
        let kind = fs::metadata(&path).map_err(cannot)?.file_type();
        if kind.is_dir() {
            return Err(wrong("is a directory: adopt it with --from dir:PATH"));
        }
        if kind.is_file() {
            files::open(&path).map_err(cannot)?;
        }
        if kind.is_char_device() {
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            let open = OpenOptions::new().read(true).custom_flags(flags).open(&path);
            if open.map_err(cannot)?.is_terminal() {
                return Err(terminal());
            }
        }
        Ok(Stream { file: Some(path), position })
    }

    /// As the user named it.
    pub fn name(&self) -> String {
        match &self.file {
            Some(path) => format!("stream:{}", path.display()),
            None => "stream:-".into(),
        }
    }

    /// Opens it and waits until its first bytes are there, for `stall` at most.
    ///
    /// # Errors
    /// When nothing comes, or something else than a stream of data.
    pub fn open(&self, supervisor: &mut Supervisor, stall: Option<Duration>) -> Result<Opened> {
        let (name, file) = (self.name(), self.file.clone());
        // A pipe with a name blocks until it has a writer.
        let mut begun = Aside::ask(supervisor.waker(), move || begin(&name, file.as_deref()))?;
        let wait = Wait { every: Duration::from_millis(250), patience: stall };
        let opened = supervisor.wait_for(&mut Nothing, wait, |_, _| match begun.take() {
            Some(opened) => opened.map(Look::Done),
            None if begun.is_lost() => Err(self.stalled(stall)),
            None => Ok(Look::Still),
        })?;
        opened.ok_or_else(|| self.stalled(stall))
    }

    /// Nothing has come of it for so long.
    pub fn stalled(&self, stall: Option<Duration>) -> Error {
        Error::Stalled { after: stall.unwrap_or_default(), what: self.name() }
    }

    /// It ended before the backup was complete.
    pub fn ends_early(&self) -> Error {
        ends_early(&self.name())
    }
}

/// The stream `name` ended before the backup was complete.
pub fn ends_early(name: &str) -> Error {
    let text = "it ends before the backup is complete: the program that writes it has failed";
    let source = io::Error::new(io::ErrorKind::UnexpectedEof, text);
    Error::Io { doing: format!("read {name}"), source }
}

fn begin(name: &str, path: Option<&Path>) -> Result<Opened> {
    let fail = |e| Error::io("read", Path::new(name), e);
    let file = match path {
        Some(path) => File::open(path),
        None => io::stdin().as_fd().try_clone_to_owned().map(File::from),
    };
    let file = file.map_err(fail)?;
    let m = file.metadata().map_err(fail)?;
    let written = m.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    let written = written.map(|t| Timestamp(t.as_secs() as i64)).filter(|_| m.is_file());
    let (size, format) = (m.is_file().then_some(m.len()), Format::Tar);
    let mut opened = Opened { format, size, head: Vec::new(), file, written };
    let mut buffer = [0; HEAD];
    while opened.head.len() < HEAD {
        let wanted = HEAD - opened.head.len();
        let read = opened.read(&mut buffer[..wanted]).map_err(fail)?;
        if read == 0 {
            break;
        }
        opened.head.extend_from_slice(&buffer[..read]);
    }
    if opened.head.is_empty() {
        return Err(ends_early(name));
    }
    opened.format =
        recognise(&opened.head).map_err(|what| Error::config(format!("--from {name} {what}")))?;
    Ok(opened)
}

impl Opened {
    /// The bytes that were read already; empty from the second time on.
    pub fn take_head(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }

    /// Reads on, for as long as it takes.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    sys::wait_readable(&self.file, NEXT_LOOK)?;
                }
                read => return read,
            }
        }
    }

    /// When the data in it was last written at the latest, once it was read to its end.
    pub fn as_of(written: Option<Timestamp>) -> Timestamp {
        let now = Timestamp::now();
        written.map_or(now, |written| Timestamp(written.0.min(now.0)))
    }

    /// When it was last written, if it is a file.
    pub fn written(&self) -> Option<Timestamp> {
        self.written
    }
}

/// What begins with `head`, or what is wrong with that.
fn recognise(head: &[u8]) -> Result<Format, String> {
    if head.starts_with(xbstream::MAGIC) {
        return Ok(Format::Xbstream);
    }
    let (at, magic) = TAR;
    if head.get(at..).is_some_and(|rest| rest.starts_with(magic)) {
        return Ok(Format::Tar);
    }
    if let Some((_, program)) = COMPRESSED.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(format!("is compressed: pipe it through {program} -dc first"));
    }
    let is_text = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
    let what = match head.iter().all(is_text) {
        // It may be a dump, with passwords in it.
        true => "is text",
        false => "begins like nothing that is known",
    };
    Err(format!(
        "{what}: a stream is what mariadb-backup --backup --stream=mbstream or xtrabackup --backup \
         --stream=xbstream writes, or a tar of the data directory of a stopped server"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_told_by_its_first_bytes() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(recognise(&tar), Ok(Format::Tar));
        assert_eq!(recognise(b"XBSTCK01\0P"), Ok(Format::Xbstream));
        for (head, told) in [
            (&b"\x28\xb5\x2f\xfd\x04"[..], "zstd -dc"),
            (b"\x1f\x8b\x08", "gzip -dc"),
            (b"-- MariaDB dump 10.19\nCREATE USER a IDENTIFIED BY 'secret'", "is text"),
            (b"XBSTCK", "is text"),
            (b"\0\0\0", "like nothing"),
        ] {
            let wrong = recognise(head).unwrap_err();
            assert!(wrong.contains(told) && !wrong.contains("secret"), "{wrong}");
        }
    }
}
