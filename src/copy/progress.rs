//! What a copier tells while it runs. Names and counts only: no value, no full key name.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CopySpec, error::CopyError};
use crate::journal::Uncarried;
use crate::merge::{Conflict, Side};
use crate::observed::Client;

/// Where the copy stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Connecting, taking the fence, reading what an earlier runner left.
    Starting,
    /// The first pass over the source.
    Bulk,
    /// Every key has been carried once; changes follow.
    Following,
    /// Both stores are kept in step.
    BothWays,
    /// Ended cleanly, or switched off.
    Stopped,
    /// Ended because of this.
    Failed(CopyError),
}

/// How changes of a store are noticed between sweeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Feed {
    /// Not at all: sweeps only.
    #[default]
    None,
    /// `CLIENT TRACKING` in broadcast mode.
    Tracking,
    /// Keyspace notifications.
    Notifications,
}

/// One of something for each store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides<T> {
    /// The store it comes from.
    pub source: T,
    /// The store it goes to.
    pub target: T,
}

impl<T> Sides<T> {
    /// Of this side.
    pub const fn on(&self, side: Side) -> &T {
        match side {
            Side::Old => &self.source,
            Side::New => &self.target,
        }
    }

    /// Of this side, to change it.
    pub const fn on_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Old => &mut self.source,
            Side::New => &mut self.target,
        }
    }
}

/// A key that had to be decided against one of its writers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The name up to its first separator.
    pub prefix: String,
    /// Stands for the whole name without telling it.
    pub key: String,
    /// What was in conflict.
    pub conflict: Conflict,
}

/// The result of comparing both stores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Keys that were looked at on both sides.
    pub compared: u64,
    /// Keys that still differ (content, or expiry by more than 2 s) after they were carried again.
    pub different: u64,
    /// Prefixes of some of them.
    pub prefixes: Vec<String>,
}

/// A snapshot of the copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Whose it is.
    pub runner: String,
    /// Where it stands.
    pub state: State,
    /// Trouble that is being waited out: the state stays, the lag grows.
    pub trouble: Option<CopyError>,
    /// Keys the source has to give; an estimate until the first pass is over.
    pub keys_total: u64,
    /// Keys the first pass has dealt with.
    pub keys_copied: u64,
    /// Writes carried from one store to the other since the start, the first pass included.
    pub carried: u64,
    /// Deletions carried.
    pub deleted: u64,
    /// How old a change can be before it is on the other side; `None` until every key has been carried once.
    pub lag: Option<Duration>,
    /// The worst lag since the stores are kept in step.
    pub worst_lag_both_ways: Option<Duration>,
    /// What the lag is expected to be with the feeds there are; `None` while it is unknown.
    pub expected_lag: Option<Duration>,
    /// Keys decided against one of their writers.
    pub conflicts: u64,
    /// Some of them, the latest last.
    pub conflicting: Vec<Difference>,
    /// The base is stored: whoever takes over judges as this runner does. Only then may the application switch.
    pub sealed: bool,
    /// Consecutive sweeps of both sides that found nothing to carry, since counting was asked for.
    pub quiet_sweeps: u32,
    /// Consecutive sweeps of one side between which nothing was carried *from* it. The source's is what to wait for
    /// after a switch (people keep using the target), the target's after a rollback.
    pub quiet: Sides<u32>,
    /// The last comparison that was asked for.
    pub verified: Option<Verification>,
    /// Comparisons made so far: tells a new result from an equal former one.
    pub verifications: u64,
    /// How each store's changes are noticed.
    pub feeds: Sides<Feed>,
    /// When the runner was last known to be alive, milliseconds since the epoch by the target's clock.
    pub heartbeat: Option<i64>,
    /// Connections that are not ours; `None` where the store does not tell.
    pub clients: Sides<Option<u64>>,
    /// Some of those connections.
    #[serde(default)]
    pub connected: Sides<Vec<Client>>,
    /// Keys the store has thrown away for lack of memory since the copier started.
    pub evicted: Sides<u64>,
    /// Commands sent to each store.
    pub commands_spent: Sides<u64>,
    /// Keys that were left behind because no rule matches them.
    pub skipped: u64,
    /// Keys that came after the seal and are not carried, by the last complete sweep.
    #[serde(default)]
    pub uncarried: Sides<Uncarried>,
}

impl Progress {
    pub(crate) fn starting(spec: &CopySpec) -> Self {
        Self {
            runner: spec.runner.clone(),
            state: State::Starting,
            trouble: None,
            keys_total: 0,
            keys_copied: 0,
            carried: 0,
            deleted: 0,
            lag: None,
            worst_lag_both_ways: None,
            expected_lag: None,
            conflicts: 0,
            conflicting: Vec::new(),
            sealed: false,
            quiet_sweeps: 0,
            quiet: Sides::default(),
            verified: None,
            verifications: 0,
            feeds: Sides::default(),
            heartbeat: None,
            clients: Sides::default(),
            connected: Sides::default(),
            evicted: Sides::default(),
            commands_spent: Sides::default(),
            skipped: 0,
            uncarried: Sides::default(),
        }
    }
}
