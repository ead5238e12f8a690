//! MySQL's mandatory roles, which everybody has without being granted them.
//!
//! A role that is mandatory can be neither revoked nor dropped. The primary may have made one so after it
//! carried out such a statement; here the statement would fail, and the applier counts it as executed all
//! the same. And a server that is entered through an account of ours takes our privileges away for them.
//! So a private server has none, until a statement fails for want of them: `SET DEFAULT ROLE`, of a role
//! that nobody was granted.

use crate::error::{Error, Result};
use crate::mysql::session::quoted;
use crate::mysql::settings::MANDATORY_ROLES;
use crate::server::mysqld::Mysqld;

/// `ER_ROLE_NOT_GRANTED`.
const NOT_GRANTED: u16 = 3530;
/// `ER_MANDATORY_ROLE`.
const MANDATORY: u16 = 3628;

/// Makes the primary's roles mandatory, if that may cure `error` of the applier. `true` if it was not so.
///
/// # Errors
/// The server's.
pub fn provide(mysqld: &mut Mysqld, error: &Error) -> Result<bool> {
    if !matches!(error, Error::ReplicationError { errno: NOT_GRANTED, .. }) {
        return Ok(false);
    }
    let Some(roles) = mysqld.mandatory_roles.take() else { return Ok(false) };
    mysqld.run(&format!("SET GLOBAL {MANDATORY_ROLES} = {}", quoted(&roles)))?;
    // What they were before is no longer what they should be.
    mysqld.globals.retain(|(name, _)| name != MANDATORY_ROLES);
    Ok(true)
}

/// True if the statement that failed with `error` counts as executed, and is not tried again.
pub fn is_counted(error: &Error) -> bool {
    matches!(error, Error::ReplicationError { errno: MANDATORY, .. })
}
