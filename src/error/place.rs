//! Which of our directories a full disk is about.

/// What a directory is used for. This decides which advice helps when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `--scratch`.
    Scratch,
    /// `--repo`.
    Repository,
    /// `--to`.
    Target,
    /// Anything else, or not known yet.
    Other,
}

impl Place {
    /// What to do about it.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Place::Scratch => "free some space there, or use another --scratch",
            Place::Repository => {
                "free some space there, for example with rollforward prune, or use another --repo"
            }
            Place::Target => "free some space there, or use another --to",
            Place::Other => "free some space there",
        }
    }
}
