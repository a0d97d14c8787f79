//! Where an AWS App Runner service keeps its sessions, declared in one manifest.
//!
//! Data flows one way: **observe → plan → act → record**. The rooms below are in that order; everything up to
//! [`engine`] is pure and compiles without the feature `shell`.

pub mod api;
pub mod checks;
pub mod desired;
pub mod engine;
pub mod env;
pub mod error;
pub mod identity;
pub mod journal;
pub mod manifest;
pub mod observed;
pub mod step;
