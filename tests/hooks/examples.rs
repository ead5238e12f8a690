//! The examples that are shipped for scripts.
