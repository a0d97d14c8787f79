//! Where an AWS App Runner service keeps its sessions, declared in one manifest.
//!
//! Data flows one way: **observe → plan → act → record**. The rooms below are in that order; everything up to
//! [`engine`] is pure and compiles without the feature `shell`.

pub mod api;
pub mod broker;
pub mod checks;
#[cfg(feature = "shell")]
pub mod copy;
pub mod desired;
pub mod effect;
pub mod engine;
pub mod env;
pub mod error;
pub mod forecast;
pub mod identity;
pub mod journal;
pub mod manifest;
pub mod merge;
pub mod observed;
pub mod plan;
pub mod price;
pub mod render;
pub mod serving;
#[doc(hidden)]
pub mod sim;
pub mod status;
pub mod step;
pub mod word;

#[cfg(feature = "shell")]
pub mod aws;
#[cfg(feature = "shell")]
pub mod backoff;
#[cfg(feature = "shell")]
pub mod cli;
#[cfg(feature = "shell")]
pub mod clock;
#[cfg(feature = "shell")]
pub mod connect;
#[cfg(feature = "shell")]
pub mod controller;
#[cfg(feature = "shell")]
pub mod metrics;
#[cfg(feature = "shell")]
pub mod probes;
#[cfg(feature = "shell")]
pub mod runner;
#[cfg(feature = "shell")]
pub mod stop;
#[cfg(feature = "shell")]
pub mod telemetry;
#[cfg(feature = "shell")]
pub mod upstash;
#[cfg(feature = "shell")]
pub mod world;
