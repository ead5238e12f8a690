//! A first backup without a primary: a data directory, or what a stream brings, is adopted.
//!
//! A stream is read once. As long as its data is being made, every failure ends the pass and leaves
//! nothing behind; from then on the data is in hand, and a private server that dies on it is started
//! again as often as the breaker allows.

use std::path::Path;
use std::time::Instant;

use crate::error::Result;
use crate::journal::cut::Moment;
use crate::journal::when;
use crate::mysql::flavor::Flavor;
use crate::mysql::settings::Values;
use crate::mysql::version::Version;
use crate::os::clock::Timestamp;
use crate::os::files;
use crate::pass::attempts::Attempts;
use crate::pass::finished::{Finished, Reached};
use crate::pass::settings::kept;
use crate::report::keys::Phase;
use crate::repository::data_dir::Tree;
use crate::repository::manifest::Header;
use crate::scratch::working_directory::Stage;
use crate::seed::adopt::{self, Adopted, Source};
use crate::seed::stream::{Format, Origin, Stream};
use crate::seed::unpack::{self, Begun};
use crate::seed::unpacked;
use crate::server::compatibility::{self, With};
use crate::server::lifecycle::CleanShutdown;
use crate::text::short;

/// What is known of a copy that mariadb-backup or XtraBackup made: the old and the new name.
const INFO: [&str; 2] = ["xtrabackup_info", "mariadb_backup_info"];
/// The most that is read of it, bytes.
const LARGEST: u64 = 1 << 20;

/// Data that a stream has brought.
struct Brought {
    source: Source,
    tree: Tree,
    as_of: Timestamp,
    format: Format,
}

impl Attempts<'_> {
    /// Fills the scratch directory with a copy of another data directory, or with what a stream brings.
    pub fn adopt(&mut self, origin: &Origin) -> Result<Finished> {
        let began = Instant::now();
        self.supervisor.checkpoint.phase(Phase::Seed);
        match origin {
            Origin::Directory(source) => {
                self.check_flavor(source)?;
                let setup = self.setup(source.flavor(), Values::new(), 0);
                let jobs = self.plan.storage.jobs;
                let (adopted, clean) = adopt::adopt(&mut self.seeding(setup), source, jobs)?;
                self.adopted(source, adopted, clean, began)
            }
            Origin::Stream(stream) => self.adopt_stream(stream, began),
        }
    }

    fn adopted(
        &mut self,
        source: &Source,
        adopted: Adopted,
        clean: CleanShutdown,
        began: Instant,
    ) -> Result<Finished> {
        let (name, at) = (source.name().trim_start_matches("dir:"), &adopted.position);
        log::info!("adopted {name} at {at} in {}", short(began.elapsed()));
        self.scratch.set_stage(Stage::Ready, None)?;
        let header = Header {
            flavor: source.flavor().name().into(),
            version: adopted.version,
            position: adopted.position.to_string(),
            data_as_of: adopted.data_as_of,
            started: self.started,
            base: None,
            open_tables: 0,
            primary_log: None,
            settings: kept(adopted.settings),
        };
        self.supervisor.checkpoint.start_at(adopted.position);
        Ok(Finished::new(clean, self.scratch.data(), header, Reached::Goal))
    }

    fn adopt_stream(&mut self, stream: &Stream, began: Instant) -> Result<Finished> {
        self.ask_program_version()?;
        // One that prints no version is taken for what most are.
        let flavor = self.program_version.as_ref().map_or(Flavor::MariaDb, Version::flavor);
        if let Some(position) = &stream.position {
            adopt::given_position(flavor, position)?;
        }
        let setup = self.setup(flavor, Values::new(), 0);
        // What is in the scratch directory stays until the stream is known for one.
        let begun = unpack::begin(&mut self.seeding(setup), stream)?;
        let is_file = begun.is_file();
        let done = self.bring(stream, flavor, begun).and_then(|brought| {
            let (adopted, clean) = self.run_brought(&brought)?;
            self.adopted(&brought.source, adopted, clean, began)
        });
        if done.is_err() {
            let name = stream.name();
            match is_file {
                true => log::info!("what {name} brought is removed"),
                false => log::info!("{name} cannot be read again, so what it brought is removed"),
            }
            self.supervisor.begin_ending();
            if let Err(e) = self.scratch.discard(self.supervisor) {
                log::warn!("{}: {e}", e.cause());
            }
        }
        done
    }

    /// Unpacks and prepares the stream, and looks through what it brought.
    fn bring(&mut self, stream: &Stream, flavor: Flavor, begun: Begun) -> Result<Brought> {
        let setup = self.setup(flavor, Values::new(), 0);
        let unpacked = unpack::unpack(&mut self.seeding(setup), stream, begun)?;
        let (format, arrived, data) = (unpacked.format, unpacked.as_of, self.scratch.data());
        let info = INFO.iter().find_map(|name| files::read(&data.join(name), LARGEST).ok());
        let info = String::from_utf8_lossy(&info.unwrap_or_default()).into_owned();
        if format == Format::Xbstream {
            // In an archive it may be what an earlier restore has left.
            self.check_version(stream, &info)?;
        }
        let setup = self.setup(flavor, Values::new(), 0);
        unpack::prepare(&mut self.seeding(setup), stream, &unpacked)?;
        if format == Format::Tar {
            unpacked::lift(&data)?;
            // Where nothing was left to recover, the log of a server that starts on it does not tell.
            if unpacked::is_in_use(&data) {
                return Err(adopt::not_shut_down(&stream.name()));
            }
        }
        let source = Source::check_as(&data, stream.name(), stream.position.as_deref())?;
        self.check_flavor(&source)?;
        let mut crew = self.supervisor.crew("look through", 1);
        let gauge = crew.gauge();
        let name = stream.name();
        let tree = crew.alone(|| unpacked::own(&data, Path::new(&name), &gauge))?;
        drop(crew);
        let as_of = match format {
            Format::Tar => Some(adopt::last_written(&tree)),
            Format::Xbstream => ended(&info),
        };
        let as_of = as_of.filter(|t| t.0 < arrived.0).unwrap_or(arrived);
        Ok(Brought { source, tree, as_of, format })
    }

    /// Fails if the private server is not of the series of the one that the stream came from.
    fn check_version(&self, stream: &Stream, info: &str) -> Result<()> {
        let theirs = value(info, "server_version").and_then(Version::parse);
        match (&self.program_version, theirs) {
            (Some(ours), Some(theirs)) => {
                let (program, name) = (&self.plan.server.program, stream.name());
                compatibility::check(program, ours, &With::Stream(&name), &theirs)
            }
            _ => Ok(()),
        }
    }

    fn run_brought(&mut self, brought: &Brought) -> Result<(Adopted, CleanShutdown)> {
        let flavor = brought.source.flavor();
        // What died on it has left what looks like data that was not shut down.
        let mut first = brought.format == Format::Tar;
        loop {
            self.scratch.check_gone()?;
            let setup = self.setup(flavor, Values::new(), 0);
            let (source, tree) = (&brought.source, &brought.tree);
            let ran = adopt::run(&mut self.seeding(setup), source, tree, brought.as_of, first);
            let error = match ran {
                Err(e) if e.is_temporary() => e,
                ran => return ran,
            };
            if let Err(why) = self.scratch.check_crash_safe(flavor) {
                log::warn!("what was unpacked is of no use any more: {why}");
                return Err(error);
            }
            first = false;
            let next = "starting a server on what was unpacked again";
            self.supervisor.back_off(&mut self.breaker, error, next)?;
        }
    }
}

/// When the copy was finished, by the clock and in the time zone of its server, which is taken to be ours.
fn ended(info: &str) -> Option<Timestamp> {
    match when::parse(&value(info, "end_time")?.replacen(' ', "T", 1)) {
        Ok(Moment::Time(time)) => Some(time.seconds()),
        _ => None,
    }
}

fn value<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    let values = info.lines().filter_map(|line| line.split_once(" = "));
    values.filter(|(name, _)| *name == key).map(|(_, value)| value.trim()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_tells_when_it_was_finished() {
        let info = "tool_command = --password=... end_time = 1\nend_time = 2026-11-28 10:13:59\n\
                    server_version = 10.11.14-MariaDB-0+deb12u2-log\n";
        let time = ended(info).unwrap();
        assert!((time.0 - Timestamp::parse("2026-11-28T10:13:59Z").unwrap().0).abs() <= 86_400);
        assert_eq!(value(info, "server_version"), Some("10.11.14-MariaDB-0+deb12u2-log"));
        assert_eq!(ended("end_time = yesterday\n"), None);
    }
}
