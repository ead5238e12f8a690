//! A session with a server, unusable after its first I/O error.
//!
//! After a read that timed out, the `mysql` crate would return the previous answer. So a
//! [`Session`] drops its connection at the first [`Trouble`] that is not the server's own answer,
//! and returns [`Trouble::Lost`] from then on. Every call to a primary is bounded as a whole by the
//! session's time-out, and what it answers in rows and bytes. A panic of the crate is a trouble, too.
//! Only this file uses the `mysql` crate; all values are exchanged as text.

use std::error::Error as _;
use std::io::ErrorKind;
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, DriverError, OptsBuilder, Value};

use crate::mysql::account::{Account, TlsMode};
use crate::mysql::trouble::Trouble;
use crate::os::sys;
use crate::text::{bytes, plain};

mod guard;
mod protection;
mod rows;
mod stream;

pub use rows::Rows;

/// More rows than any answer has that we ask for, tables of the largest primary included; and the
/// largest answer in bytes, into which their names fit.
const MOST: (usize, usize) = (2_000_000, 512 << 20);
/// The largest packet of such an answer.
pub const MOST_PACKET: usize = 16 << 20;
/// The largest packet that servers and clients allow, bytes.
pub const LARGEST_PACKET: usize = 1 << 30;
/// Nothing that can be reached takes longer to accept a connection: the kernel has asked four times.
const CONNECT: Duration = Duration::from_secs(10);

/// Each session with a primary, whatever its settings and its init_connect say: text as we send it, what our
/// statements mean, no end of the session with a transaction, all rows of an answer, and no limit of its own
/// for statements, which would end a long one of ours. Each server takes the rest for a comment. A mode may
/// take an empty text for NULL, and 0 is none, too.
const AT_PRIMARY: &str = "SET NAMES utf8mb4, SESSION sql_mode = 0, SESSION autocommit = 1, \
    SESSION completion_type = 0, \
    SESSION sql_select_limit = 18446744073709551615, SESSION sql_big_selects = 1 \
    /*M!100101 , SESSION max_statement_time = 0 */ /*!50708 , SESSION max_execution_time = 0 */";
/// "Aborted connection" of the servers' error references: the first statement is told once that the
/// primary's init_connect has failed.
const ABORTED: u16 = 1184;

/// The values of a row as the server sent them; `None` for NULL.
pub type Row = Vec<Option<Vec<u8>>>;

/// A session, usable until its first trouble.
pub struct Session {
    conn: Option<Conn>,
    encrypted: bool,
    /// The longest that a query to a peer we do not trust may take as a whole.
    total: Option<Duration>,
    /// The most rows and bytes of an answer.
    most: (usize, usize),
}

impl Session {
    /// Logs in over the Unix socket at `path`.
    ///
    /// # Errors
    /// [`Trouble::Lost`] while nothing listens there yet, else the server's error.
    pub fn over_socket(
        path: &str,
        user: &str,
        password: &str,
        timeout: Duration,
    ) -> Result<Session, Trouble> {
        let opts = common(timeout)
            .max_allowed_packet(Some(LARGEST_PACKET))
            .socket(Some(path))
            .user(Some(user))
            .pass(Some(password));
        let conn = guard::contained(|| Conn::new(opts).map_err(trouble))?;
        let mut session = Session { conn: Some(conn), encrypted: false, total: None, most: MOST };
        // Text passes unchanged, and a quoted password does not depend on the sql_mode.
        session.run("SET NAMES utf8mb4, SESSION sql_mode = '', SESSION wait_timeout = 31536000")?;
        Ok(session)
    }

    /// Logs in to a primary over TCP. The whole login may take `timeout`, and so may each query later.
    ///
    /// # Errors
    /// The server's refusal, or why it cannot be reached.
    pub fn over_tcp(
        host: &str,
        port: u16,
        account: &Account,
        timeout: Duration,
    ) -> Result<Session, Trouble> {
        Session::over_tcp_of(host, port, account, timeout, MOST_PACKET)
    }

    /// The same for rows of up to `packet` bytes.
    ///
    /// # Errors
    /// As there.
    pub fn over_tcp_of(
        host: &str,
        port: u16,
        account: &Account,
        timeout: Duration,
        packet: usize,
    ) -> Result<Session, Trouble> {
        let mut session = Session::as_it_is(host, port, account, timeout, packet)?;
        match session.run(AT_PRIMARY) {
            Err(aborted @ Trouble::Server { errno: ABORTED, .. }) => Err(aborted),
            // What comes next says it better: an expired password, say.
            Ok(()) | Err(Trouble::Server { .. }) => Ok(session),
            Err(trouble) => Err(trouble),
        }
    }

    /// The same as the primary leaves it: what it gives its sessions is to be seen.
    ///
    /// # Errors
    /// As there.
    pub fn as_it_is(
        host: &str,
        port: u16,
        account: &Account,
        timeout: Duration,
        packet: usize,
    ) -> Result<Session, Trouble> {
        let opts = common(timeout)
            .max_allowed_packet(Some(packet))
            .ip_or_hostname(Some(host))
            .tcp_port(port)
            .tcp_connect_timeout(Some(timeout.min(CONNECT)))
            .user(Some(account.user.as_str()))
            .pass(Some(account.password.0.as_str()));
        let plain = protection::with_server_key(opts, &account.tls);
        let secured = protection::with_tls(plain.clone(), &account.tls)?;
        let preferred = account.tls.mode == TlsMode::Preferred;
        let opened = guard::within(timeout, move || {
            let opened = match connect(secured) {
                // The greeting says so, before anything was sent.
                Err(mysql::Error::DriverError(DriverError::TlsNotSupported)) if preferred => {
                    connect(plain)
                }
                opened => opened,
            };
            opened.map_err(trouble)
        });
        let session = |(conn, encrypted)| Session {
            conn: Some(conn),
            encrypted,
            total: Some(timeout),
            most: MOST,
        };
        opened.map(session).map_err(|t| match (t, &account.tls.mode) {
            (Trouble::Refused(why), TlsMode::VerifyIdentity) => {
                let what = "the certificate must come from ssl-ca in [client] and name";
                Trouble::Refused(format!("{why}; {what} {host}"))
            }
            (trouble, _) => trouble,
        })
    }

    /// True if what passes is encrypted by TLS.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Runs a query and returns all of its rows.
    ///
    /// # Errors
    /// See [`Trouble`]; anything but the server's own answer makes the session unusable.
    pub fn query(&mut self, sql: &str) -> Result<Rows, Trouble> {
        self.query_as(sql, |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The same with a character for each byte of a value, whatever it is.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub fn query_bytes(&mut self, sql: &str) -> Result<Rows, Trouble> {
        self.query_as(sql, |bytes| bytes.into_iter().map(char::from).collect())
    }

    fn query_as(&mut self, sql: &str, decode: fn(Vec<u8>) -> String) -> Result<Rows, Trouble> {
        let Some(conn) = self.conn.as_mut() else {
            return Err(Trouble::Lost("the session was already lost".into()));
        };
        let line = sys::second_handle(conn.as_raw_fd()).ok();
        let most = self.most;
        let answer = match self.total {
            Some(total) => guard::cut_off_after(total, line, || collect(conn, sql, most, decode)),
            None => guard::contained(|| collect(conn, sql, most, decode)),
        };
        let answer = answer.map_err(|t| match t {
            // It was accepted before, so the connection broke.
            Trouble::Refused(why) => Trouble::Lost(why),
            t => t,
        });
        if !matches!(answer, Ok(_) | Err(Trouble::Server { .. })) {
            self.give_up();
        }
        answer
    }

    /// Runs a statement that returns no rows of interest.
    pub fn run(&mut self, sql: &str) -> Result<(), Trouble> {
        self.query(sql).map(drop)
    }

    /// Drops the connection at once, whatever its peer does.
    fn give_up(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        if let Ok(line) = sys::second_handle(conn.as_raw_fd()) {
            let _ = line.shutdown(Shutdown::Both);
        }
        let _ = guard::contained(|| {
            drop(conn);
            Ok(())
        });
    }

    /// A second handle on the connection, so that another thread can shut it down.
    pub fn shutdown_handle(&self) -> Option<UnixStream> {
        sys::second_handle(self.conn.as_ref()?.as_raw_fd()).ok()
    }

    /// True while it can be used.
    pub fn is_alive(&self) -> bool {
        self.conn.is_some()
    }

    /// Changes the time-out, for statements that are known to take long.
    pub fn set_timeout(&mut self, timeout: Duration) {
        let set = |c: &Conn| sys::set_socket_timeout(c.as_raw_fd(), timeout).is_ok();
        if !self.conn.as_ref().is_some_and(set) {
            self.conn = None;
        }
        self.total = self.total.map(|_| timeout);
    }
}

/// Connects, and says whether by TLS.
fn connect(opts: OptsBuilder) -> mysql::Result<(Conn, bool)> {
    let opts = mysql::Opts::from(opts);
    let encrypted = opts.get_ssl_opts().is_some();
    Ok((Conn::new(opts)?, encrypted))
}

fn common(timeout: Duration) -> OptsBuilder {
    // Each of these avoids an unwanted query or second connection.
    OptsBuilder::new()
        .prefer_socket(false)
        .stmt_cache_size(0)
        .read_timeout(Some(timeout))
        .write_timeout(Some(timeout))
}

fn collect(
    conn: &mut Conn,
    sql: &str,
    (most_rows, most_bytes): (usize, usize),
    decode: fn(Vec<u8>) -> String,
) -> Result<Rows, Trouble> {
    // Dropped, it would read the rest of the answer first: not after an error, nor while a panic
    // unwinds, where another one would abort the program.
    let mut result = ManuallyDrop::new(conn.query_iter(sql).map_err(trouble)?);
    let columns: Vec<String> =
        result.columns().as_ref().iter().map(|c| c.name_str().into_owned()).collect();
    let mut rows = Vec::new();
    let mut size = 0;
    for row in result.by_ref() {
        let row = match row {
            Ok(row) => row,
            // The answer has ended, and the session can be used.
            Err(e) => return Err(trouble(e)),
        };
        let text = |v: Option<Value>| text(v.unwrap_or(Value::NULL), decode);
        let row: Vec<_> = row.unwrap_raw().into_iter().map(text).collect();
        size += row.iter().flatten().map(String::len).sum::<usize>();
        if rows.len() >= most_rows || size > most_bytes {
            return Err(Trouble::Lost(format!(
                "its answer is larger than {most_rows} rows or {}",
                bytes(most_bytes as u64)
            )));
        }
        rows.push(row);
    }
    drop(ManuallyDrop::into_inner(result));
    Ok(Rows { columns, rows })
}

fn text(value: Value, decode: fn(Vec<u8>) -> String) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(decode(bytes)),
        // The text protocol sends nothing else.
        other => Some(other.as_sql(true).trim_matches('\'').to_string()),
    }
}

fn trouble(error: mysql::Error) -> Trouble {
    match error {
        mysql::Error::MySqlError(e) => Trouble::Server { errno: e.code, text: e.message },
        mysql::Error::DriverError(e) => driver_trouble(&e),
        mysql::Error::IoError(e) if e.kind() == ErrorKind::WouldBlock => Trouble::TimedOut,
        mysql::Error::IoError(e) if e.kind() == protection::NO_KEY => protection::key_required(),
        mysql::Error::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => closed(),
        mysql::Error::IoError(e) => Trouble::Lost(plain(&e.to_string())),
        mysql::Error::CodecError(e) => {
            let cause = e.source().and_then(|s| s.downcast_ref::<std::io::Error>());
            match cause.map(std::io::Error::kind) {
                Some(ErrorKind::WouldBlock) => Trouble::TimedOut,
                Some(ErrorKind::UnexpectedEof) => closed(),
                // The TLS library gives all its errors this kind.
                Some(ErrorKind::InvalidData) => {
                    Trouble::Refused(format!("TLS failed: {}", plain(&e.to_string())))
                }
                _ => Trouble::Lost(plain(&e.to_string())),
            }
        }
        #[cfg(feature = "tls")]
        mysql::Error::TlsError(e) => {
            let files = "ssl-ca, ssl-cert or ssl-key in [client] cannot be used";
            Trouble::Unusable(format!("{files}: {}", plain(&e.to_string())))
        }
        e => Trouble::Lost(e.to_string()),
    }
}

/// The TLS library would send the reader to its manual.
fn closed() -> Trouble {
    Trouble::Lost("it closed the connection".into())
}

fn driver_trouble(error: &DriverError) -> Trouble {
    match error {
        DriverError::TlsNotSupported => Trouble::Refused(
            "it offers no TLS, but ssl-mode in [client] requires it; give the primary a \
             certificate, or set ssl-mode=DISABLED"
                .into(),
        ),
        DriverError::UnknownAuthPlugin(plugin) if plugin == "sha256_password" => Trouble::Refused(
            "it asks for sha256_password, which is not supported; MySQL also does so at random \
             for an account that does not exist: check user in [client]"
                .into(),
        ),
        DriverError::UnknownAuthPlugin(_)
        | DriverError::OldMysqlPasswordDisabled
        | DriverError::CleartextPluginDisabled => Trouble::Refused(plain(&error.to_string())),
        _ => Trouble::Lost(plain(&error.to_string())),
    }
}

/// `text` as a string literal, for a session whose sql_mode lacks NO_BACKSLASH_ESCAPES.
pub fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests;
