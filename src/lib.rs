//! sessionbackend

#[cfg(feature = "shell")]
pub mod copy;
pub mod merge;
