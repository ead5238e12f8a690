//! What a pass has in hand: nothing, data, or a private server on data.
//!
//! Only these combinations exist, so a step cannot find a server without data, or data that is
//! neither restored nor resumed. The position of the data is in the checkpoint's `Progress`.

use crate::repository::known::Known;
use crate::scratch::unlogged_ddl::Doubt;
use crate::server::mysqld::Mysqld;

/// Data in the scratch directory that can be used.
pub struct Data {
    /// Made in this pass, and its mysqld was never killed. Otherwise the data may be at fault in an
    /// error, and is restored again.
    pub fresh: bool,
    /// To be checked once the position is known.
    pub doubt: Option<Doubt>,
    /// The version of the last server on it; empty before the first.
    pub version: String,
    /// Files that are as in the base while they are not written.
    pub known: Option<Known>,
}

impl Data {
    /// Data that was just restored, dumped or cloned.
    pub fn fresh() -> Data {
        Data { fresh: true, doubt: None, version: String::new(), known: None }
    }

    /// Data that an interrupted pass left, or whose mysqld died.
    pub fn suspect(doubt: Option<Doubt>) -> Data {
        Data { fresh: false, doubt, version: String::new(), known: None }
    }
}

/// What a pass has in hand.
pub enum InHand {
    /// No usable data.
    Nothing,
    /// Data without a server.
    Data(Data),
    /// A private server on data. Dropping this kills the server.
    Server(Data, Box<Mysqld>),
}

impl InHand {
    /// The data, with or without a server.
    pub fn data(&self) -> Option<&Data> {
        match self {
            InHand::Nothing => None,
            InHand::Data(data) | InHand::Server(data, _) => Some(data),
        }
    }

    /// The data, mutable.
    pub fn data_mut(&mut self) -> Option<&mut Data> {
        match self {
            InHand::Nothing => None,
            InHand::Data(data) | InHand::Server(data, _) => Some(data),
        }
    }

    /// The server, if one runs.
    pub fn mysqld(&mut self) -> Option<&mut Mysqld> {
        match self {
            InHand::Server(_, mysqld) => Some(mysqld),
            _ => None,
        }
    }

    /// True while a server runs on the data.
    pub fn has_server(&self) -> bool {
        matches!(self, InHand::Server(..))
    }

    /// True if there is data that is not fresh.
    pub fn is_suspect(&self) -> bool {
        self.data().is_some_and(|data| !data.fresh)
    }

    /// Takes the data out and kills a server. Nothing is in hand afterwards.
    pub fn take_data(&mut self) -> Option<Data> {
        match std::mem::replace(self, InHand::Nothing) {
            InHand::Nothing => None,
            InHand::Data(data) | InHand::Server(data, _) => Some(data),
        }
    }

    /// Adds the server that was started on the data.
    pub fn start(&mut self, mysqld: Mysqld) -> Option<&mut Mysqld> {
        if let Some(data) = self.take_data() {
            *self = InHand::Server(data, Box::new(mysqld));
        }
        self.mysqld()
    }
}
