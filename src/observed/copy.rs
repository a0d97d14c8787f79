//! How the copier of an open migration stands.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::journal::Uncarried;
use crate::step::{CopyMode, Side};

/// How the copier of the open migration stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// What it is doing.
    pub state: CopyState,
    /// Whether the runner is alive: its last heartbeat.
    pub heartbeat: Timestamp,
    /// Whether the runner is in this process.
    pub here: bool,
    /// Keys at the source when the bulk began.
    pub total: u64,
    /// Keys copied so far.
    pub copied: u64,
    /// What a user can feel, milliseconds.
    pub lag_ms: Option<u64>,
    /// The worst of it since the switch, milliseconds.
    pub worst_lag_ms: u64,
    /// Keys changed on both sides.
    pub conflicts: u64,
    /// Consecutive sweeps that found nothing to carry away from the drained side, counted since `quiet_since`.
    pub quiet_sweeps: u32,
    /// When counting quiet sweeps began.
    pub quiet_since: Option<Timestamp>,
    /// The side they are counted for.
    pub drained: Option<Side>,
    /// Connections of the app to the old store, where they can be counted.
    pub clients_from: Option<u64>,
    /// Connections of the app to the new store, where they can be counted.
    pub clients_to: Option<u64>,
    /// Some of the connections to the old store.
    pub connected_from: Vec<Client>,
    /// Some of the connections to the new store.
    pub connected_to: Vec<Client>,
    /// What it was asked for last, where it runs in this process.
    pub asked: Option<CopyMode>,
    /// Keys found different by the last full comparison, if there was one since `quiet_since`.
    pub different: Option<u64>,
    /// What came into the old store after the seal and is not carried from it.
    #[serde(default)]
    pub uncarried_from: Uncarried,
    /// What came into the new store after the seal and is not carried from it.
    #[serde(default)]
    pub uncarried_to: Uncarried,
    /// When the runner that this one watches was last alive, where another one drives the migration.
    #[serde(default)]
    pub other: Option<Timestamp>,
}

/// A connection to a store that is not ours, as the store tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// What it calls itself; often nothing.
    pub name: String,
    /// Where it comes from.
    pub address: String,
    /// For how many seconds it has been connected.
    pub age: u64,
}

/// The reason of a copier that waits because another runner is at work.
pub const HELD: &str = "Held";

/// What the copier is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyState {
    /// Connecting, looking at both stores.
    Starting,
    /// First pass.
    Bulk,
    /// The target follows the source.
    Following,
    /// Both follow each other; the base is sealed.
    BothWays,
    /// It stopped; the text names what is wrong and what to do.
    Failed {
        /// One stable word.
        reason: String,
        /// What is wrong and what to do.
        message: String,
        /// Whether trying again may help.
        temporary: bool,
    },
}
