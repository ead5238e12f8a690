//! Answers of any length, a row at a time.

use std::mem::ManuallyDrop;

use mysql::Value;
use mysql::prelude::Queryable;

use super::{Row, Session, guard, trouble};
use crate::mysql::trouble::Trouble;

impl Session {
    /// Runs a query, and hands each row to `each` as it arrives. Only each single wait is bounded, since
    /// all of them may take hours. After an error of `each` the session cannot be used.
    ///
    /// # Errors
    /// As [`Session::query`]; the inner one is that of `each`.
    pub fn stream<E>(
        &mut self,
        sql: &str,
        mut each: impl FnMut(Row) -> Result<(), E>,
    ) -> Result<Result<(), E>, Trouble> {
        let Some(conn) = self.conn.as_mut() else {
            return Err(Trouble::Lost("the session was already lost".into()));
        };
        let answer = guard::contained(|| {
            // Dropped, it would read the rest of the answer first.
            let mut result = ManuallyDrop::new(conn.query_iter(sql).map_err(trouble)?);
            for row in result.by_ref() {
                let row = row.map_err(trouble)?.unwrap_raw().into_iter().map(|value| match value {
                    Some(Value::Bytes(bytes)) => Some(bytes),
                    // The text protocol sends nothing else.
                    _ => None,
                });
                if let Err(e) = each(row.collect()) {
                    return Ok(Err(e));
                }
            }
            drop(ManuallyDrop::into_inner(result));
            Ok(Ok(()))
        });
        if !matches!(answer, Ok(Ok(())) | Err(Trouble::Server { .. })) {
            self.give_up();
        }
        answer
    }
}
