//! `spec`: what the user asks for. Doc comments are what `kubectl explain` prints.
//! Says at admission what can be said there; each rule's message says what is wrong and what to do.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{
    AccountId, ConnectorArn, Label, LongTime, Region, RoleArn, SecurityGroupId, ServiceArn, ServiceName, ShortTime,
    SubnetId, TableName,
};
use crate::checks::{CheckSpec, RunbookRef};

mod env;
mod migration;
mod store;

pub use env::{Celery, EnvSpec, Format, Names, SecretAccess, SecretProvider, Secrets, SslCertReqs, Takeover, Writer};
pub use migration::{
    Approval, ApprovalMode, Consent, Copy, Database, From, FromElastiCache, FromUpstash, Handled, KeyKind, KeyRule,
    KeyStrategy, Migration, OldStore, OnFailure, Queue, QueueLibrary, Retire, RunFrom, Unmatched,
};
pub use store::{
    CreateReplicationGroup, Disabled, ElastiCache, External, Rules, SecretKeyRef, SecretRef, Store, Tls, Upstash,
    UpstashDatabase,
};

/// Where an App Runner service keeps its sessions.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sessionbackend.dev",
    version = "v1alpha1",
    kind = "SessionBackend",
    plural = "sessionbackends",
    singular = "sessionbackend",
    shortname = "sb",
    namespaced,
    status = "super::status::SessionBackendStatus",
    derive = "PartialEq",
    doc = "Where App Runner services keep their sessions, and how they are moved there.",
    printcolumn(name = "Store", type_ = "string", json_path = ".status.summary.store"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.summary.phase"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Checks", type_ = "string", json_path = ".status.summary.checks"),
    printcolumn(name = "Services", type_ = "string", json_path = ".status.summary.services", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.summary.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.services.all(s, !has(s.arn) || s.arn.contains(':' + self.aws.region + ':'))")
        .message("names a service of another region than spec.aws.region; correct the region or the ARN, or give the service by name")
        .field_path(".services"),
    validation = Rule::new("!has(self.aws.accountId) || self.services.all(s, !has(s.arn) || s.arn.contains(':' + self.aws.accountId + ':'))")
        .message("names a service of another account than spec.aws.accountId; correct the account or the ARN")
        .field_path(".services"),
    validation = Rule::new("self.env.format != 'UrlImplicitTls' || !has(self.store.elastiCache) || !(has(self.store.elastiCache.create) || has(self.store.elastiCache.serverlessCacheName))")
        .message("UrlImplicitTls writes redis:// and the app turns TLS on for *.upstash.io only, but this ElastiCache store needs TLS; use format Url (rediss://)")
        .field_path(".env.format"),
    validation = Rule::new("!has(self.store.upstash) || !has(self.migration) || !has(self.migration.databases) || self.migration.databases.all(d, d.to == 0)")
        .message("maps to another database than 0, but Upstash has only database 0; write to: 0")
        .field_path(".migration.databases"),
    validation = Rule::new("!has(self.store.elastiCache) || !has(self.store.elastiCache.serverlessCacheName) || !has(self.migration) || !has(self.migration.databases) || self.migration.databases.all(d, d.to == 0)")
        .message("maps to another database than 0, but a serverless cache speaks the cluster protocol and has only database 0; write to: 0")
        .field_path(".migration.databases"),
    validation = Rule::new(
        "!has(self.migration) || !has(self.migration.from) || !( \
           (has(self.store.upstash) && has(self.migration.from.upstash) && \
             ((has(self.store.upstash.database.id) && has(self.migration.from.upstash.database.id) && \
               self.store.upstash.database.id == self.migration.from.upstash.database.id) || \
              (has(self.store.upstash.database.name) && has(self.migration.from.upstash.database.name) && \
               self.store.upstash.database.name == self.migration.from.upstash.database.name))) || \
           (has(self.store.elastiCache) && has(self.migration.from.elastiCache) && \
             ((has(self.store.elastiCache.replicationGroupId) && has(self.migration.from.elastiCache.replicationGroupId) && \
               self.store.elastiCache.replicationGroupId == self.migration.from.elastiCache.replicationGroupId) || \
              (has(self.store.elastiCache.serverlessCacheName) && has(self.migration.from.elastiCache.serverlessCacheName) && \
               self.store.elastiCache.serverlessCacheName == self.migration.from.elastiCache.serverlessCacheName))) || \
           (has(self.store.external) && has(self.migration.from.external) && \
             self.store.external.urlSecretKeyRef.name == self.migration.from.external.urlSecretKeyRef.name && \
             self.store.external.urlSecretKeyRef.key == self.migration.from.external.urlSecretKeyRef.key) || \
           (has(self.store.disabled) && has(self.migration.from.disabled)))"
    )
    .message("is the same store as spec.store; name the store in use now, or leave migration.from out to have it read off the services")
    .field_path(".migration.from"),
    validation = Rule::new(
        "has(oldSelf.store.disabled) || !has(self.store.disabled) || \
         (has(self.migration) && has(self.migration.consent) && has(self.migration.consent.dataLoss) && self.migration.consent.dataLoss)"
    )
    .message("switching Redis off ends every session in it; set spec.migration.consent.dataLoss: true if that is meant, or keep the store")
    .field_path(".store")
)]
pub struct SessionBackendSpec {
    /// Apply reconciles; Plan looks only: full status and forecast, no mutating call. Default: Apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Where the services run.
    pub aws: Aws,
    /// The App Runner services that share the store, in the order in which they are switched.
    #[schemars(length(min = 1, max = 10))]
    #[x_kube(validation = Rule::new("self.all(s, !has(s.name) || self.exists_one(t, has(t.name) && t.name == s.name)) && self.all(s, !has(s.arn) || self.exists_one(t, has(t.arn) && t.arn == s.arn))")
        .message("names a service twice; list each service once"))]
    #[x_kube(validation = Rule::new("self.all(s, !has(s.name) || self.all(t, !has(t.arn) || !t.arn.contains(':service/' + s.name + '/')))")
        .message("names a service by name and by ARN; list each service once"))]
    pub services: Vec<Service>,
    /// Who else uses the store, outside App Runner: workers, cron jobs. Keys are not moved under their feet without a word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub other_consumers: Vec<OtherConsumer>,
    /// The store that should serve: exactly one of upstash, elastiCache, external, disabled.
    pub store: Store,
    /// How the services are told.
    pub env: EnvSpec,
    /// What the app promises and needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<App>,
    /// What is checked, before and after a switch and at rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks: Option<Checks>,
    /// How a change of store is carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// What becomes of the things we made when this object is deleted. Default: Retain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// Whether anything may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Reconcile.
    Apply,
    /// Look only.
    Plan,
}

/// What becomes of the things we made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay; an Event lists them.
    Retain,
    /// What we made and nothing references is removed.
    Delete,
}

/// Where the services run.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.region == oldSelf.region")
        .message("cannot change; create a SessionBackend for the services of the other region")
        .field_path(".region"),
    validation = Rule::new("!has(oldSelf.accountId) || (has(self.accountId) && self.accountId == oldSelf.accountId)")
        .message("cannot change; create a SessionBackend for the services of the other account")
        .field_path(".accountId")
)]
pub struct Aws {
    /// The region of the services. Cannot change.
    pub region: Region,
    /// The account of the services, twelve digits; when given, credentials of another account are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// A role to assume for every call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<RoleArn>,
}

/// One App Runner service.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) != has(self.arn)")
    .message("a service is given by exactly one of name and arn; keep one of them"))]
pub struct Service {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<ServiceName>,
    /// Its ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<ServiceArn>,
    /// Where its outbound traffic should go. Default: as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// What differs from spec.env for this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<ServiceEnv>,
}

/// What differs from `spec.env` for one service.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEnv {
    /// Who writes its variables. Default: spec.env.writer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("self != 'ConfigFile'").message(env::NO_CONFIG_FILE),
        validation = Rule::new("self != 'External'").message(env::NO_EXTERNAL_WRITER)
    )]
    pub writer: Option<Writer>,
}

/// Where a service's outbound traffic should go.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'VPC') == has(self.vpcConnector)")
    .message("vpcConnector goes with type VPC; give both, or neither"))]
pub struct Egress {
    /// Keep leaves it as it is, Default is the internet without a VPC, VPC goes through a connector.
    #[serde(rename = "type")]
    pub kind: EgressType,
    /// The connector of type VPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_connector: Option<VpcConnector>,
}

/// Where a service's outbound traffic should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EgressType {
    /// As it is.
    Keep,
    /// The internet, no VPC.
    Default,
    /// All of it through a VPC connector.
    #[serde(rename = "VPC")]
    Vpc,
}

/// A VPC connector.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.arn) != has(self.create)")
    .message("exactly one of arn and create says which connector; keep one of them"))]
pub struct VpcConnector {
    /// One that exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<ConnectorArn>,
    /// One of ours, made if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<CreateConnector>,
}

/// A VPC connector to make. Connectors are immutable: other subnets or groups make another one.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateConnector {
    /// Subnets of one VPC, in two zones or more.
    #[schemars(length(min = 1, max = 16))]
    pub subnet_ids: Vec<SubnetId>,
    /// Its security groups.
    #[schemars(length(min = 1, max = 5))]
    pub security_group_ids: Vec<SecurityGroupId>,
}

/// A user of the store outside App Runner.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherConsumer {
    /// What you call it.
    pub name: Label,
    /// How it is moved. Manual: somebody says when it is done. Default: Manual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handover: Option<Handover>,
}

/// How a user outside App Runner is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Handover {
    /// By hand: the migration waits for a word.
    Manual,
}

/// What the app promises and needs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// Life of a session.
    #[serde(rename = "sessionTTL", skip_serializing_if = "Option::is_none")]
    pub session_ttl: Option<LongTime>,
    /// How long a session survives its last connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<ShortTime>,
    /// The app's connect time-out towards Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<ShortTime>,
    /// The app's command time-out towards Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_timeout: Option<ShortTime>,
    /// How often the app tries again.
    #[schemars(range(min = 0, max = 1000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Connections the store must allow.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// The app's connection pool, an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Commands the app sends a day.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands_per_day: Option<u64>,
    /// How long an old instance may still be serving after it was replaced; the least time of a drain. Default: 120s, App Runner's limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_request: Option<ShortTime>,
    /// Whether the app's client speaks Redis Cluster. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_client: Option<bool>,
    /// What the app does without Redis. Default: None, it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

/// A connection pool.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max")
    .message("min is greater than max; lower min or raise max"))]
pub struct Pool {
    /// Connections kept open.
    #[schemars(range(min = 0, max = 10_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Most connections.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// What the app does without Redis.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.kind == 'DynamoDB') == has(self.tableName)")
    .message("tableName goes with kind DynamoDB; give both, or neither"))]
pub struct Fallback {
    /// None fails, InMemory keeps sessions in the process, DynamoDB in a table.
    pub kind: FallbackKind,
    /// The table of kind DynamoDB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_name: Option<TableName>,
}

/// What the app does without Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FallbackKind {
    /// It fails.
    None,
    /// Process memory.
    InMemory,
    /// A table.
    DynamoDB,
}

/// What is checked.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checks {
    /// Built-in runbooks: WebSocketSessions, DjangoChannels, FallbackFailover, TokenBridge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = Rule::new("self.all(r, self.exists_one(s, s.name == r.name))")
        .message("names a runbook twice; list each runbook once"))]
    pub runbooks: Vec<RunbookRef>,
    /// Further checks, in the form of a runbook file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub extra: Vec<CheckSpec>,
    /// How often the checks run at rest. Default: 5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.matches('^([0-9]+[hms])+$') || duration(self) >= duration('10s')")
        .message("is too short; checks at rest run every 10s at most"))]
    pub interval: Option<LongTime>,
}
