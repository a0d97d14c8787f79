//! `spec.store`: which Redis serves.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::text::{
    NodeType, ReplicationGroupId, SecretKey, SecretObjectName, SecurityGroupId, ServerlessCacheName, SubnetId,
    UpstashId, UpstashName, UpstashPlan, UpstashRegion,
};

/// The store: exactly one member. Naming another store is a migration.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.upstash), has(self.elastiCache), has(self.external), has(self.disabled)].filter(x, x).size() == 1")
    .message("exactly one of upstash, elastiCache, external and disabled says which store serves; keep one of them"))]
pub struct Store {
    /// An Upstash database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstash: Option<Upstash>,
    /// An ElastiCache replication group or serverless cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elasti_cache: Option<ElastiCache>,
    /// Any other Redis: Redis Cloud, Render, self-hosted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// No Redis: our variables are removed and the app falls back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disabled>,
}

/// An Upstash database.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upstash {
    /// Which one.
    pub database: UpstashDatabase,
    /// The plan it should be on: free, payg, fixed_250mb and so on. Default: as it is, or what Upstash chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<UpstashPlan>,
    /// The Secret with keys email and apiKey of Upstash's management API. Without it the store is validated only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretRef>,
}

/// Which Upstash database: by name, created if absent, or by id, never created.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.name) != has(self.id)")
        .message("exactly one of name (created if absent) and id (adopted) says which database; keep one of them"),
    validation = Rule::new("has(self.name) == has(self.primaryRegion)")
        .message("primaryRegion goes with name; give both, or only id"),
    validation = Rule::new("!has(self.name) || !has(oldSelf.name) || self.name != oldSelf.name || !has(self.primaryRegion) || !has(oldSelf.primaryRegion) || self.primaryRegion == oldSelf.primaryRegion")
        .message("cannot change for a database of the same name; give the database in the other region another name, and the sessions are moved to it")
        .field_path(".primaryRegion")
)]
pub struct UpstashDatabase {
    /// Its name; created if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<UpstashName>,
    /// The primary region of a database given by name. Cannot change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_region: Option<UpstashRegion>,
    /// The id of a database that exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<UpstashId>,
}

/// An ElastiCache store.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.replicationGroupId), has(self.serverlessCacheName), has(self.create)].filter(x, x).size() == 1")
    .message("exactly one of replicationGroupId, serverlessCacheName and create says which cache; keep one of them"))]
pub struct ElastiCache {
    /// A replication group that exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_group_id: Option<ReplicationGroupId>,
    /// A serverless cache that exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serverless_cache_name: Option<ServerlessCacheName>,
    /// A replication group of ours, with TLS and a generated token, made if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<CreateReplicationGroup>,
    /// Whether the rules that let the services in are ours to make. Default: Managed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_group_rules: Option<Rules>,
    /// The Secret with keys username and password: AWS never gives a token back. Not needed for one we made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// A replication group to make.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.subnetIds.size() == oldSelf.subnetIds.size() && self.subnetIds.all(s, s in oldSelf.subnetIds)")
    .message("cannot change; make the cache in the other subnets yourself and name it by replicationGroupId, and the sessions are moved to it")
    .field_path(".subnetIds"))]
pub struct CreateReplicationGroup {
    /// Such as cache.t4g.small. Changed in place.
    pub node_type: NodeType,
    /// Replicas beside the primary. Default: 1.
    #[schemars(range(min = 0, max = 5))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u8>,
    /// Subnets of one VPC. Cannot change.
    #[schemars(length(min = 1, max = 16))]
    pub subnet_ids: Vec<SubnetId>,
    /// Security groups of the nodes.
    #[schemars(length(min = 1, max = 5))]
    pub security_group_ids: Vec<SecurityGroupId>,
}

/// Whether security-group rules towards the store are ours to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Rules {
    /// One rule for each connector group, store group and port.
    Managed,
    /// Yours.
    Unmanaged,
}

/// Any other Redis.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// The key of a Secret that holds the whole URL.
    pub url_secret_key_ref: SecretKeyRef,
    /// Required refuses redis://, Disabled refuses rediss://. Default: Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// TLS towards an external Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tls {
    /// redis:// is refused.
    Required,
    /// Either.
    Preferred,
    /// rediss:// is refused.
    Disabled,
}

/// No Redis.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {}

/// A Secret in the object's own namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    pub name: SecretObjectName,
}

/// A key of a Secret in the object's own namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    pub name: SecretObjectName,
    /// The key in it.
    pub key: SecretKey,
}
