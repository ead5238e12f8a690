//! What a server answers, as text.

use crate::error::Error;

/// The answer to a query: columns by name, values as text, `None` for NULL.
pub struct Rows {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// The value of `column` in the first row; empty if it is NULL or there is no row.
    ///
    /// # Errors
    /// [`Error::ReplicationError`] if the answer has no such column, as when a server renamed it.
    pub fn require(&self, column: &str) -> Result<&str, Error> {
        match self.columns.iter().position(|c| c == column) {
            Some(at) => {
                Ok(self.rows.first().and_then(|r| r.get(at)?.as_deref()).unwrap_or_default())
            }
            None => {
                let text = format!("the answer of the server has no column {column}");
                Err(Error::ReplicationError { errno: 0, text })
            }
        }
    }

    /// The values of each row, with NULL as an empty text.
    pub fn iter(&self) -> impl Iterator<Item = Vec<&str>> {
        self.rows.iter().map(|r| r.iter().map(|v| v.as_deref().unwrap_or_default()).collect())
    }

    /// Such an answer, for tests of what reads one.
    #[cfg(test)]
    pub fn of<'a>(rows: impl Iterator<Item = Vec<&'a str>>) -> Rows {
        let row = |row: Vec<&str>| row.into_iter().map(|v| Some(v.to_string())).collect();
        Rows { columns: Vec::new(), rows: rows.map(row).collect() }
    }

    /// The first value of the first row; empty if there is none.
    pub fn first(&self) -> &str {
        self.rows.first().and_then(|r| r.first()?.as_deref()).unwrap_or_default()
    }
}
