//! Unpacking a stream and preparing what it brought, by the servers' own programs.
//!
//! What unpacks may write in the data directory only, and tells nothing of a stream that breaks off
//! at the right place: of the servers' format that is seen in [`xbstream`](crate::seed::xbstream),
//! and of an archive in what tar prints at its end. A thread passes the stream on and counts it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::error::{Error, IoExt as _, Place, Result};
use crate::mysql::flavor::Flavor;
use crate::os::clock::Timestamp;
use crate::os::process::{self, Exit};
use crate::os::space::check_room;
use crate::os::sys;
use crate::os::workers::Aside;
use crate::report::meter::Unit;
use crate::seed::seeding::Seeding;
use crate::seed::stream::{Format, Opened, Stream, ends_early};
use crate::seed::stream_options;
use crate::seed::xbstream::Scan;
use crate::server::buffers::buffers;
use crate::server::initialize::Tool;
use crate::server::tools::{self, last_words, spawn, tool};
use crate::supervisor::main_loop::{Look, Wait};
use crate::text::{bytes, short};

/// What the programs print, in the scratch directory.
const SAID: &str = "load.err";
const LISTED: &str = "dump.err";
/// Bytes passed on at a time.
const PIECE: usize = 256 << 10;
/// So few bytes free, and the disk is full for a program that has failed.
const FULL: u64 = 1 << 20;
/// What tar prints of an archive whose end is marked, if it is asked to number what it says.
const END_OF_ARCHIVE: &str = "** Block of NULs **";

/// A stream that is known for one, and the programs that unpack and prepare it.
pub struct Begun {
    opened: Opened,
    unpack: Command,
    prepare: Option<PathBuf>,
}

impl Begun {
    /// True if it can be read another time.
    pub fn is_file(&self) -> bool {
        self.opened.size.is_some()
    }
}

/// Waits for the beginning of `stream`. Changes nothing.
///
/// # Errors
/// When it is none, or a program for it is missing.
pub fn begin(seeding: &mut Seeding, stream: &Stream) -> Result<Begun> {
    let opened = stream.open(seeding.supervisor, seeding.patience.stall)?;
    let (unpack, prepare) = programs(seeding, opened.format)?;
    log::info!("reading {}: {}", stream.name(), kind(opened.format, seeding.setup.flavor));
    Ok(Begun { opened, unpack, prepare })
}

/// What came out of a stream.
pub struct Unpacked {
    /// What the stream was.
    pub format: Format,
    /// When it was written at the latest, as far as the stream tells.
    pub as_of: Timestamp,
    length: u64,
    prepare: Option<PathBuf>,
}

/// Fills the data directory with what `stream` brings.
///
/// # Errors
/// What is wrong with the stream, or keeps the program that unpacks it from its work.
pub fn unpack(seeding: &mut Seeding, stream: &Stream, begun: Begun) -> Result<Unpacked> {
    let Begun { opened, unpack, prepare } = begun;
    let format = opened.format;
    seeding.scratch.discard(seeding.supervisor)?;
    if let Some(size) = opened.size {
        check_room(seeding.scratch.root(), size, Place::Scratch)?;
    }
    seeding.scratch.make_data()?;
    let began = Instant::now();
    let (length, as_of) = pass_on(seeding, stream, opened, unpack)?;
    log::info!("unpacked {} in {}", bytes(length), short(began.elapsed()));
    Ok(Unpacked { format, as_of, length, prepare })
}

/// Makes a directory that a server can be started on of what came out of the stream.
///
/// # Errors
/// What keeps its program from that.
pub fn prepare(seeding: &mut Seeding, stream: &Stream, unpacked: &Unpacked) -> Result<()> {
    let Some(program) = &unpacked.prepare else { return Ok(()) };
    let began = Instant::now();
    stream_options::check(&seeding.setup.data(), &seeding.setup.scratch)
        .map_err(|what| Error::config(format!("--from {} {what}", stream.name())))?;
    apply_log(seeding, stream, program, unpacked.length)?;
    log::info!("prepared it in {}", short(began.elapsed()));
    Ok(())
}

fn kind(format: Format, flavor: Flavor) -> &'static str {
    match (format, flavor) {
        (Format::Tar, _) => "a tar archive",
        (Format::Xbstream, Flavor::MariaDb) => "a backup of mariadb-backup",
        (Format::Xbstream, Flavor::MySql) => "a backup of xtrabackup",
    }
}

/// Finds the programs for a stream of this format.
fn programs(seeding: &Seeding, format: Format) -> Result<(Command, Option<PathBuf>)> {
    let (setup, data) = (&seeding.setup, seeding.setup.data());
    let (unpack, prepare) = match (format, setup.flavor) {
        (Format::Tar, _) => ("tar", None),
        (Format::Xbstream, Flavor::MariaDb) => ("mbstream", Some("mariadb-backup")),
        (Format::Xbstream, Flavor::MySql) => ("xbstream", Some("xtrabackup")),
    };
    let prepare = prepare.map(|name| tool(&setup.program, name)).transpose()?;
    let mut command = process::command(tool(&setup.program, unpack)?);
    command.arg0(unpack);
    command.env("LC_ALL", "C").arg("-x").arg("-C").arg(&data).current_dir(&setup.scratch);
    if format == Format::Tar {
        // Other owners and modes would keep the private server out.
        command.args(["--no-same-owner", "--no-same-permissions", "--block-number", "-f", "-"]);
    }
    Ok((command, prepare))
}

/// Passes the stream on to `unpack`, and waits for the ends of both. Returns the bytes that it had.
fn pass_on(
    seeding: &mut Seeding,
    stream: &Stream,
    opened: Opened,
    mut unpack: Command,
) -> Result<(u64, Timestamp)> {
    let (scratch, data) = (&seeding.setup.scratch, seeding.setup.data());
    let (said, listed) = (scratch.join(SAID), scratch.join(LISTED));
    seeding.setup.run_within(&mut unpack, &data)?;
    unpack.stdin(Stdio::piped());
    unpack.stderr(tools::output(&said)?).stdout(tools::output(&listed)?);
    let mut child = Tool(spawn(&mut unpack)?);
    let (format, total, written) = (opened.format, opened.size, opened.written());
    let passed = Arc::new(AtomicU64::new(0));
    let to = child.0.pipes().stdin.take();
    let (counted, name) = (passed.clone(), stream.name());
    let mut passing = Aside::ask(seeding.supervisor.waker(), move || {
        to.map_or(Ok(()), |to| pump(opened, to, &name, &counted))
    })?;
    let stall = seeding.patience.stall;
    let wait = Wait { every: std::time::Duration::from_millis(250), patience: stall };
    let (mut ended, mut before) = (false, 0);
    let exit = seeding.supervisor.wait_for(&mut child, wait, |child, checkpoint| {
        let done = passed.load(Ordering::Relaxed);
        checkpoint.measure("unpack", Unit::Bytes, done, total);
        if let Some(end) = passing.take() {
            end?;
            ended = true;
        } else if passing.is_lost() {
            return Err(stream.stalled(stall));
        }
        let moved = std::mem::replace(&mut before, done) != done;
        Ok(match child.0.try_wait() {
            Some(exit) if ended || exit != Exit::Status(0) => Look::Done(exit),
            _ if moved => Look::Moving,
            _ => Look::Still,
        })
    })?;
    seeding.supervisor.checkpoint.measured();
    match exit {
        Some(Exit::Status(0)) => {}
        Some(exit) => return Err(failed(stream, &unpack, exit, &said, &data)),
        None => return Err(stream.stalled(stall)),
    }
    let list = fs::read_to_string(&listed).unwrap_or_default();
    if format == Format::Tar && !list.contains(END_OF_ARCHIVE) {
        return Err(stream.ends_early());
    }
    Ok((passed.load(Ordering::Relaxed), Opened::as_of(written)))
}

/// Passes a stream on to its end. Whatever its reader does not take is read all the same, so that its
/// writer can end well.
fn pump(mut from: Opened, mut to: impl Write, name: &str, passed: &AtomicU64) -> Result<()> {
    let mut scan = (from.format == Format::Xbstream).then(Scan::default);
    let mut buffer = vec![0; PIECE];
    let mut piece = from.take_head();
    let mut refused = false;
    while !piece.is_empty() {
        if let Some(scan) = &mut scan {
            let wrong = |what| Error::config(format!("--from {name} {what}"));
            scan.feed(&piece).map_err(wrong)?;
        }
        refused = refused || to.write_all(&piece).is_err();
        passed.fetch_add(piece.len() as u64, Ordering::Relaxed);
        let read = from.read(&mut buffer).map_err(|e| Error::io("read", Path::new(name), e))?;
        piece.clear();
        piece.extend_from_slice(&buffer[..read]);
    }
    match scan {
        // One that broke the pipe tells why by itself.
        Some(scan) if !scan.is_whole() && !refused => Err(ends_early(name)),
        _ => Ok(()),
    }
}

/// Why a program for the stream has failed.
fn failed(stream: &Stream, program: &Command, exit: Exit, said: &Path, data: &Path) -> Error {
    let words = last_words(said);
    let full = ["No space left on device", "Disk quota exceeded", "Errcode: 28"];
    let free = sys::free_bytes(data).ok();
    // What it says may be lost, too.
    if full.iter().any(|text| words.contains(text))
        || tools::ran_out_of_space(said)
        || free.is_some_and(|free| free < FULL)
    {
        return Error::DiskFull {
            path: data.to_path_buf(),
            free,
            needed: None,
            inodes: false,
            place: Place::Scratch,
        };
    }
    if words.contains("Unexpected EOF in archive") {
        return stream.ends_early();
    }
    let name = Path::new(program.get_program()).file_name().unwrap_or_default().to_string_lossy();
    let colon = if words.is_empty() { "" } else { ": " };
    let source = io::Error::other(format!("{name} failed: {exit}{colon}{words}"));
    Error::Io { doing: format!("unpack {}", stream.name()), source }
}

/// Makes data of one moment of what was copied while a server was at work.
fn apply_log(seeding: &mut Seeding, stream: &Stream, program: &Path, length: u64) -> Result<()> {
    let setup = &seeding.setup;
    let said = setup.scratch.join(SAID);
    let mut command = process::command(program);
    command.env("LC_ALL", "C").arg(stream_options::pass_on(setup)?).arg("--prepare");
    let mut target = std::ffi::OsString::from("--target-dir=");
    target.push(setup.data());
    let mut tmp = std::ffi::OsString::from("--tmpdir=");
    tmp.push(setup.tmp());
    command.arg(target).arg(tmp);
    command.arg(format!("--use-memory={}", buffers(Some(length)).pool));
    command.current_dir(setup.place()).stdin(Stdio::null());
    setup.run_as(&mut command)?;
    let errors = tools::output(&said)?;
    command.stdout(errors.try_clone().doing("open", &said)?).stderr(errors);
    let mut child = Tool(spawn(&mut command)?);
    let stall = seeding.patience.stall;
    let wait = Wait { every: std::time::Duration::from_millis(250), patience: stall };
    let exit = seeding.supervisor.wait_for(&mut child, wait, |child, _| {
        Ok(child.0.try_wait().map_or(Look::Still, Look::Done))
    })?;
    match exit {
        Some(Exit::Status(0)) => Ok(()),
        Some(exit) => Err(failed(stream, &command, exit, &said, &seeding.setup.data())),
        None => Err(stream.stalled(stall)),
    }
}
