//! What a pass has in hand: nothing, data, or a private server on data.
//!
//! Only these combinations exist, so a step cannot find a server without data, or data that is
//! neither restored nor resumed. The position of the data is in the checkpoint's `Progress`.

use crate::scratch::unlogged_ddl::Doubt;
use crate::server::mysqld::Mysqld;

/// Data in the scratch directory that can be used.
pub struct Data {
    /// Brought there in this pass, and its mysqld was never killed. Otherwise an error on it may be
    /// its own fault, and is answered by a fresh restore.
    pub fresh: bool,
    /// Checked as soon as the position is known.
    pub doubt: Option<Doubt>,
    /// The version of the server that ran on it last; empty before the first.
    pub version: String,
}

impl Data {
    /// Data that was just restored, dumped or cloned.
    pub fn fresh() -> Data {
        Data { fresh: true, doubt: None, version: String::new() }
    }

    /// Data that an interrupted pass left, or whose mysqld died.
    pub fn suspect(doubt: Option<Doubt>) -> Data {
        Data { fresh: false, doubt, version: String::new() }
    }
}

/// What a pass has in hand.
pub enum InHand {
    /// Nothing that can be used: data has to be brought first.
    Nothing,
    /// Data, with no server on it.
    Data(Data),
    /// A private server on data. Dropping it kills the server.
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

    /// The data, to be changed.
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

    /// True if there is data that was not brought in this pass, or whose mysqld died.
    pub fn is_suspect(&self) -> bool {
        self.data().is_some_and(|data| !data.fresh)
    }

    /// Takes everything out: afterwards nothing is in hand, and a server was killed.
    pub fn take_data(&mut self) -> Option<Data> {
        match std::mem::replace(self, InHand::Nothing) {
            InHand::Nothing => None,
            InHand::Data(data) | InHand::Server(data, _) => Some(data),
        }
    }

    /// A server was started on the data.
    pub fn start(&mut self, mysqld: Mysqld) -> Option<&mut Mysqld> {
        if let Some(data) = self.take_data() {
            *self = InHand::Server(data, Box::new(mysqld));
        }
        self.mysqld()
    }
}
