//! What of the clouds is ours, by kind and name, and how far it has come. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StoreRecord;
use crate::identity::{SecretName, StoreId};

/// Something of ours in the cloud.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", into = "String", try_from = "String")]
pub enum Resource {
    /// An Upstash database, by name or, where one of ours has that name too, by id: names need not be unique.
    UpstashDatabase(String),
    /// A replication group, by id.
    ReplicationGroup(String),
    /// A cache subnet group, by name.
    SubnetGroup(String),
    /// A connector, by name or, where it is not ours, by ARN.
    Connector(String),
    /// An ingress rule `store group ← connector group : port`, or a rule by id.
    Rule(String),
    /// A secret.
    Secret(SecretName),
}

impl From<Resource> for String {
    fn from(resource: Resource) -> Self {
        match resource {
            Resource::UpstashDatabase(name) => format!("upstash-database {name}"),
            Resource::ReplicationGroup(id) => format!("replication-group {id}"),
            Resource::SubnetGroup(name) => format!("subnet-group {name}"),
            Resource::Connector(name) => format!("connector {name}"),
            Resource::Rule(rule) => format!("rule {rule}"),
            Resource::Secret(name) => format!("secret {name}"),
        }
    }
}

impl TryFrom<String> for Resource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (kind, name) = text.split_once(' ').ok_or_else(|| format!("resource {text:?} has no kind"))?;
        let name = name.to_owned();
        match kind {
            "upstash-database" => Ok(Self::UpstashDatabase(name)),
            "replication-group" => Ok(Self::ReplicationGroup(name)),
            "subnet-group" => Ok(Self::SubnetGroup(name)),
            "connector" => Ok(Self::Connector(name)),
            "rule" => Ok(Self::Rule(name)),
            "secret" => Ok(Self::Secret(SecretName(name))),
            _ => Err(format!("resource kind {kind:?} is not known to this version")),
        }
    }
}

impl Resource {
    /// Whether it is that store, or goes with it.
    #[must_use]
    pub(super) fn is_of(&self, store: &StoreRecord) -> bool {
        match (self, &store.id) {
            (Self::UpstashDatabase(name), StoreId::Upstash(id)) => *name == store.name || name == id,
            (Self::ReplicationGroup(id), StoreId::ReplicationGroup(of)) => id == of,
            (Self::SubnetGroup(_), StoreId::ReplicationGroup(_)) => true,
            (
                Self::UpstashDatabase(_)
                | Self::ReplicationGroup(_)
                | Self::SubnetGroup(_)
                | Self::Connector(_)
                | Self::Rule(_)
                | Self::Secret(_),
                _,
            ) => false,
        }
    }
}

/// How far a resource of ours has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// When we were about to make it.
    pub intended: Timestamp,
    /// The vendor's id, once it was told.
    pub id: Option<String>,
}

/// Names a secret value in the vault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VaultKey(pub String);
