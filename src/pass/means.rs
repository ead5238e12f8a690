//! How private servers are run beside a pass: by a replay, or to receive.

use crate::pass::plan::{Retries, Server};
use crate::server::lifecycle::Patience;

/// How a private server is run.
pub struct Means {
    /// The server.
    pub server: Server,
    /// When to give up.
    pub retries: Retries,
    /// The time-outs of the server.
    pub patience: Patience,
    /// Workers.
    pub jobs: usize,
}
