//! A store as its vendor and its server show it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Reading;
use crate::identity::{Address, Fingerprint, GroupId, StoreId};

/// A store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Which.
    pub id: StoreId,
    /// The name people know it by.
    pub name: String,
    /// How it stands.
    pub status: StoreStatus,
    /// Where it is reached; absent while it is being created.
    pub address: Option<Address>,
    /// Stands for the password, where it is known.
    pub credential: Option<Fingerprint>,
    /// Where in the network it is.
    pub placement: Placement,
    /// Whether it speaks the cluster protocol.
    pub cluster: bool,
    /// Connections it allows.
    pub max_connections: Option<u32>,
    /// The plan or node type.
    pub plan: Option<String>,
    /// Its quota of commands, where its plan has one.
    pub quota: Option<CommandQuota>,
    /// What the server itself says, where it can be reached from here.
    pub server: Reading<Server>,
}

/// Commands that a plan allows in a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandQuota {
    /// All of them.
    pub limit: u64,
    /// Those that are used up.
    pub used: u64,
}

impl CommandQuota {
    /// Those that are left.
    #[must_use]
    pub const fn left(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// How a store stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreStatus {
    /// Being created.
    Creating,
    /// Ready.
    Available,
    /// Being changed; serves.
    Modifying,
    /// Going away.
    Deleting,
    /// Exists and does not serve; the text is the vendor's status.
    Failed(String),
}

/// Where in the network a store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// On the internet.
    Public,
    /// Inside a VPC only.
    Vpc {
        /// The VPC.
        vpc: String,
        /// Its security groups.
        groups: Vec<GroupId>,
    },
    /// No network at all (`disabled`).
    Nowhere,
}

/// What a Redis server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its version.
    pub version: String,
    /// Keys by database.
    pub keys: BTreeMap<u32, u64>,
    /// Bytes in use.
    pub used_memory: u64,
    /// Bytes allowed, 0 for no limit.
    pub max_memory: u64,
    /// Connections, where it tells them.
    #[serde(default)]
    pub clients: Option<u64>,
    /// Keys evicted since it started.
    pub evicted: u64,
    /// `maxmemory_policy`.
    pub eviction_policy: String,
}
