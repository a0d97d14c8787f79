//! ElastiCache: replication groups, serverless caches, subnet groups, events.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Tags;

/// All of ElastiCache, by lower-case id or name.
#[derive(Debug, Clone, Default)]
pub struct ElastiCache {
    /// Replication groups.
    pub groups: BTreeMap<String, ReplicationGroup>,
    /// Serverless caches.
    pub serverless: BTreeMap<String, Serverless>,
    /// Subnet groups.
    pub subnet_groups: BTreeMap<String, SubnetGroup>,
    /// Oldest first.
    pub events: Vec<Event>,
}

/// A replication group.
#[expect(clippy::struct_excessive_bools, reason = "the vendor has so many switches")]
#[derive(Clone)]
pub struct ReplicationGroup {
    /// Lower-case id.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// Part of its DNS names; new at each creation.
    pub hash: String,
    /// Description.
    pub description: String,
    /// Status on the wire.
    pub status: &'static str,
    /// `redis` or `valkey`.
    pub engine: String,
    /// Such as 7.1.
    pub version: String,
    /// Node type.
    pub node_type: String,
    /// Shards (1 with cluster mode disabled).
    pub shards: u32,
    /// Replicas a shard.
    pub replicas: u32,
    /// Cluster mode.
    pub cluster_mode: bool,
    /// Automatic failover.
    pub failover: bool,
    /// Several zones.
    pub multi_az: bool,
    /// Subnet group.
    pub subnet_group: String,
    /// Its VPC.
    pub vpc: String,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// Port.
    pub port: u16,
    /// TLS.
    pub tls: bool,
    /// `required` or `preferred`, with TLS.
    pub tls_mode: Option<String>,
    /// At rest.
    pub encrypted: bool,
    /// AUTH tokens, at most two; the newest last. Empty = none.
    pub tokens: Vec<String>,
    /// Whether connections without a token are still let in (after ROTATE on a group that had none).
    pub open: bool,
    /// When the token changed.
    pub token_changed: Option<Timestamp>,
    /// `SETTING` or `ROTATING` while the token changes.
    pub token_pending: Option<&'static str>,
    /// Parameter group.
    pub parameter_group: String,
    /// Snapshot days.
    pub snapshot_days: i64,
    /// Maintenance window.
    pub maintenance: String,
    /// Creation.
    pub created: Timestamp,
    /// Tags.
    pub tags: Tags,
}

impl std::fmt::Debug for ReplicationGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicationGroup").field("id", &self.id).field("status", &self.status).finish_non_exhaustive()
    }
}

/// A serverless cache.
#[derive(Debug, Clone)]
pub struct Serverless {
    /// Lower-case name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Part of its DNS name.
    pub suffix: String,
    /// Description.
    pub description: String,
    /// Status on the wire.
    pub status: &'static str,
    /// `redis` or `valkey`.
    pub engine: String,
    /// Major version.
    pub major: String,
    /// Subnets.
    pub subnets: Vec<String>,
    /// Their VPC.
    pub vpc: String,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// `CacheUsageLimits` as given.
    pub limits: serde_json::Value,
    /// Snapshot days.
    pub snapshot_days: i64,
    /// Daily snapshot time.
    pub snapshot_time: String,
    /// `vpc` or `public`.
    pub connection: String,
    /// Creation.
    pub created: Timestamp,
    /// Tags.
    pub tags: Tags,
}

/// A subnet group.
#[derive(Debug, Clone)]
pub struct SubnetGroup {
    /// Lower-case name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Description.
    pub description: String,
    /// Their VPC.
    pub vpc: String,
    /// Subnets.
    pub subnets: Vec<String>,
    /// Tags.
    pub tags: Tags,
}

/// An event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Id or name of the source.
    pub source: String,
    /// SourceType on the wire.
    pub kind: &'static str,
    /// Text.
    pub message: String,
    /// When.
    pub at: Timestamp,
}
