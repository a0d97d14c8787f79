//! The real clients against the sandbox over the wire: what is observed, every step once, every way a call can fail.
#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::pedantic)]

mod fail;
mod ground;
mod hang;
mod job;
mod lost;
mod network;
mod serve;
#[path = "../../sandbox/tests/support/starter.rs"]
mod starter;
mod two;
