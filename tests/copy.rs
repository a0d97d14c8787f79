//! Moving keys between real Redis servers: TLS and plain, restricted as ElastiCache and Upstash restrict them.
#![allow(clippy::pedantic)]
#![cfg(feature = "shell")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "tests may panic and have clocks"
)]

#[path = "copy/server.rs"]
mod server;

#[path = "copy/bulk.rs"]
mod bulk;
#[path = "copy/in_step.rs"]
mod in_step;
#[path = "copy/visitors.rs"]
mod visitors;

#[path = "copy/takeover.rs"]
mod takeover;
#[path = "copy/trouble.rs"]
mod trouble;
#[path = "copy/types.rs"]
mod types;

#[path = "copy/ending.rs"]
mod ending;
#[path = "copy/foreign.rs"]
mod foreign;
#[path = "copy/local.rs"]
mod local;
#[path = "copy/queues.rs"]
mod queues;
#[path = "copy/retry.rs"]
mod retry;
#[path = "copy/severed.rs"]
mod severed;
