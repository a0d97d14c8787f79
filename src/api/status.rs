//! `status`: what is, in words and figures that change only when something does.
//! Latencies, times and usage below a step of 10 % go to metrics; nothing here is ever read by the planner.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;

/// What is.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionBackendStatus {
    /// The generation of the spec this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One stable word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What `kubectl get` prints.
    pub summary: Summary,
    /// The services.
    #[schemars(length(max = 10))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub services: Vec<ServiceStatus>,
    /// The store that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreStatus>,
    /// The migration under way, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationStatus>,
    /// How the checks came out.
    #[schemars(length(max = 200))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckStatus>,
    /// With mode: Plan, what would be done, in order; `+` makes, `~` changes, `-` removes, `·` looks or writes down.
    #[schemars(length(max = 200))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forecast: Vec<String>,
    /// How much of the store's limits is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Things that were kept and may still cost money.
    #[schemars(length(max = 50))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retained: Vec<Retained>,
    /// What is worth knowing though nothing is wrong: what was found changed, what stays as it is.
    #[schemars(length(max = 50))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Conditions: Ready, Reconciling, Stalled and those of this resource.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where in its life an object is. Stable words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Nothing has been looked at yet.
    Pending,
    /// `mode: Plan`, or before the first step.
    Planning,
    /// The store, the connector or the rules are being made.
    Provisioning,
    /// Sessions are being copied; the new store follows the old one.
    Copying,
    /// A person has to open a gate.
    AwaitingApproval,
    /// The services are being switched, one after another.
    Switching,
    /// Old instances are still serving; both stores are kept in step.
    Draining,
    /// The checks run.
    Checking,
    /// The new store serves and is watched.
    Baking,
    /// What is no longer needed is being removed.
    Retiring,
    /// All is as the spec says.
    Ready,
    /// On the way back to the old store.
    RollingBack,
    /// Back on the old store; waits for another store or a retry.
    RolledBack,
    /// A person must decide; both stores stay in step.
    Held,
    /// Something has to be put right before anything is done.
    Blocked,
    /// Something of ours is broken and repairs itself or says what to do.
    Failed,
    /// Paused by its annotation.
    Paused,
    /// The object is being deleted.
    Deleting,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What `kubectl get` prints: strings, because a column over a list prints its first item only.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// The phase, with progress in steps of 5: `Copying 65%`.
    pub phase: String,
    /// The store that serves: `Upstash liberty`.
    pub store: String,
    /// Checks that pass of those that were made: `7/7`.
    pub checks: String,
    /// Services on the store of the spec of all: `2/2`.
    pub services: String,
    /// What it waits for, or what is wrong and what to do.
    pub message: String,
}

/// One service.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// App Runner's word: RUNNING, PAUSED and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The store its running configuration points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// DEFAULT, or the ARN of its connector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<String>,
    /// Our last operation on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// What it waits for, or what is wrong and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A store.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    /// Upstash, ElastiCache, ElastiCacheServerless, External or Disabled.
    pub kind: String,
    /// The vendor's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name people know it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Host and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether the connection is TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// The plan or node type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The server's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether we made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours: Option<bool>,
}

/// A migration.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// Its id; approvals, aborts and retries name it.
    pub id: String,
    /// The store it comes from.
    pub from: String,
    /// The store it goes to.
    pub to: String,
    /// When it began, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// When it ended, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Completed, RolledBack or Abandoned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// How long a change takes to arrive, in steps: `1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<String>,
    /// Percent of the keys copied, in steps of 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub copied: Option<u8>,
    /// Keys changed on both sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<i64>,
    /// The worst a change took to arrive since the switch, milliseconds; said when the copy is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_lag_ms: Option<i64>,
    /// The gate that waits for a person: `switch` or `retire`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// Why it went back or holds: one stable word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happened and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How one check came out.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    /// Its name.
    pub name: String,
    /// The service it was made on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Gate or Warn.
    pub severity: String,
    /// Pass, Fail, Inconclusive or Skipped.
    pub verdict: String,
    /// What was seen and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How much of the store's limits is used, in steps of 10.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Percent of the commands of this period.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub commands_percent: Option<u16>,
    /// Percent of the connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub connections_percent: Option<u16>,
    /// Percent of the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub memory_percent: Option<u16>,
}

/// Something that was kept and may still cost money.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// What it is, such as `replication-group`.
    pub kind: String,
    /// Its id or name.
    pub id: String,
    /// Why it was kept and how to remove it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
