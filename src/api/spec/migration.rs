//! `spec.migration`: how a change of store is carried out.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::store::{Disabled, External, SecretRef, UpstashDatabase};
use crate::api::text::{
    ConnectorArn, KeyPrefix, LongTime, QueueName, ReplicationGroupId, SecurityGroupRuleId, ServerlessCacheName,
    ShortTime,
};

/// How a change of store is carried out.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.from) || !has(self.from.disabled) || !(has(self.keys) || has(self.queues) || has(self.databases))")
        .message("has no keys to move; remove migration.keys, migration.queues and migration.databases")
        .field_path(".from"),
    validation = Rule::new("!has(self.retire) || !has(self.retire.oldStore) || self.retire.oldStore != 'Delete' || !has(self.approval) || !has(self.approval.retire) || self.approval.retire == 'Manual'")
        .message("cannot be Automatic while retire.oldStore is Delete: a store is deleted only after a person said so; write Manual, or retain the store")
        .field_path(".approval.retire")
)]
pub struct Migration {
    /// The store in use now. Default: read off the running services; needed where their variables are hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,
    /// Which keys are moved; the first rule whose prefix matches wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub keys: Vec<KeyRule>,
    /// Queues that are moved as queues, not copied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(validation = Rule::new("self.size() == 0")
        .message("names queues, which this version does not move (a task that is copied as a key runs twice); let the workers empty the queues before the switch, leave their keys behind with strategy: Drop, and remove migration.queues"))]
    pub queues: Vec<Queue>,
    /// What becomes of keys no rule matches. Default: Copy, or Block where otherConsumers are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmatched: Option<Unmatched>,
    /// Databases, where keys live outside database 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.all(d, self.exists_one(e, e.from == d.from))")
        .message("maps a database twice; list each database once"))]
    pub databases: Vec<Database>,
    /// Where the copier runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<Copy>,
    /// No switch while changes take longer than this to arrive. Default: 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<ShortTime>,
    /// How long the new store is watched before anything is retired. Default: 30m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bake_time: Option<LongTime>,
    /// What a failed operation, check or bake leads to. Default: Rollback, or Hold when nothing is copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// What may happen because you said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
    /// Gates a person opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What is retired after the bake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retire: Option<Retire>,
}

/// The store in use now: at most one member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.upstash), has(self.elastiCache), has(self.external), has(self.disabled)].filter(x, x).size() <= 1")
    .message("one of upstash, elastiCache, external and disabled says which store is in use now; keep one of them, or none to have it read off the services"))]
pub struct From {
    /// An Upstash database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstash: Option<FromUpstash>,
    /// An ElastiCache cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elasti_cache: Option<FromElastiCache>,
    /// Any other Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// None: sessions are in memory or in the app's fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disabled>,
}

/// An Upstash database in use.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FromUpstash {
    /// Which one.
    pub database: UpstashDatabase,
    /// The Secret with keys email and apiKey of Upstash's management API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretRef>,
}

/// An ElastiCache store in use.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.replicationGroupId) != has(self.serverlessCacheName)")
    .message("exactly one of replicationGroupId and serverlessCacheName says which cache; keep one of them"))]
pub struct FromElastiCache {
    /// A replication group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_group_id: Option<ReplicationGroupId>,
    /// A serverless cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serverless_cache_name: Option<ServerlessCacheName>,
    /// The Secret with keys username and password, where the services do not name them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// What becomes of the keys with a prefix.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRule {
    /// Literal prefix, no wildcards.
    pub prefix: KeyPrefix,
    /// Copy moves them, Drop leaves them behind.
    pub strategy: KeyStrategy,
    /// Session: a deletion is a logout and wins over a change. Data: a change wins. Default: Session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<KeyKind>,
}

/// Moved, or left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyStrategy {
    /// Kept in step.
    Copy,
    /// Left behind.
    Drop,
}

/// What a key is to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyKind {
    /// A deletion wins over a change.
    Session,
    /// A change wins over a deletion.
    Data,
}

/// Queues of one library.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// Whose queues.
    pub library: QueueLibrary,
    /// Their names.
    #[schemars(length(min = 1, max = 50))]
    pub names: Vec<QueueName>,
}

/// A library whose keys are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QueueLibrary {
    /// Celery with the Redis transport of Kombu.
    Celery,
}

/// What becomes of keys no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unmatched {
    /// Kept in step.
    Copy,
    /// Left behind.
    Skip,
    /// No switch while there are any.
    Block,
}

/// A database of the old store and where its keys go.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// Index at the old store.
    #[schemars(range(min = 0, max = 65535))]
    pub from: u32,
    /// Index at the new store.
    #[schemars(range(min = 0, max = 65535))]
    pub to: u32,
}

/// Where the copier runs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copy {
    /// Where both stores can be reached: Operator, Job, or External. Default: Operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == 'Operator'")
        .message("asks for a copier elsewhere, which this version cannot follow; write Operator and run `sessionbackend apply` where both stores can be reached"))]
    pub run_from: Option<RunFrom>,
}

/// Where the copier runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunFrom {
    /// In the process that reconciles.
    Operator,
    /// In a Kubernetes Job.
    Job,
    /// Where you start it.
    External,
}

/// What a failure after the switch leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Back, by itself.
    Rollback,
    /// Stop and wait for a person; both stores stay in step.
    Hold,
}

/// What may happen because you said so.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Consent {
    /// The services may lose the internet. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_internet: Option<bool>,
    /// Sessions may end. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_loss: Option<bool>,
    /// Percent of what is left of the new store's quota that copying may use. Default: 25.
    #[schemars(range(min = 1, max = 100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_share: Option<u8>,
}

/// Gates a person opens.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Before the first service is switched. Default: Automatic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<ApprovalMode>,
    /// Before a store is deleted. Default: Manual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retire: Option<ApprovalMode>,
}

/// Who opens a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApprovalMode {
    /// It opens by itself.
    Automatic,
    /// A person.
    Manual,
}

/// What is retired after the bake.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retire {
    /// Retain keeps the old store, Delete removes it after an approval. Default: Retain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_store: Option<OldStore>,
    /// Things made by hand that nothing needs any more; `plan` prints the candidates. Naming one is the consent to remove it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub also_remove: Vec<Handled>,
}

/// What becomes of the old store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OldStore {
    /// It stays.
    Retain,
    /// It is deleted, after an approval.
    Delete,
}

/// One thing made by hand.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.securityGroupRuleId) != has(self.vpcConnectorArn)")
    .message("exactly one of securityGroupRuleId and vpcConnectorArn says what is removed; write one entry for each thing"))]
pub struct Handled {
    /// A security-group rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_group_rule_id: Option<SecurityGroupRuleId>,
    /// A VPC connector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_connector_arn: Option<ConnectorArn>,
}
