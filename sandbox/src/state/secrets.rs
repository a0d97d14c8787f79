//! Secrets Manager: secrets, their versions and stages. Values are never printed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::Tags;

/// All of Secrets Manager.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// By ARN, those scheduled for deletion included.
    pub secrets: BTreeMap<String, Secret>,
}

/// A secret.
#[derive(Debug, Clone)]
pub struct Secret {
    /// ARN with its random suffix.
    pub arn: String,
    /// Name.
    pub name: String,
    /// Description.
    pub description: Option<String>,
    /// KMS key.
    pub kms: Option<String>,
    /// Creation.
    pub created: Timestamp,
    /// Last change.
    pub changed: Timestamp,
    /// When it was asked to be deleted, and when it will be.
    pub deleted: Option<(Timestamp, Timestamp)>,
    /// By version id.
    pub versions: BTreeMap<String, Version>,
    /// Tags.
    pub tags: Tags,
}

/// A version of a secret.
#[derive(Debug, Clone)]
pub struct Version {
    /// Content.
    pub value: Content,
    /// Stages such as AWSCURRENT.
    pub stages: BTreeSet<String>,
    /// Creation.
    pub created: Timestamp,
    /// Order of creation.
    pub order: u64,
}

/// The content of a version; prints as `[hidden]`.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// `SecretString`.
    Text(Arc<str>),
    /// `SecretBinary`, base64.
    Binary(Arc<str>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Secrets {
    /// By ARN, by ARN without the suffix, or by name.
    pub fn find(&self, id: &str) -> Option<&Secret> {
        self.arn_of(id).and_then(|arn| self.secrets.get(&arn))
    }

    /// ARN of the secret that `id` (ARN, partial ARN or name) means.
    pub fn arn_of(&self, id: &str) -> Option<String> {
        if self.secrets.contains_key(id) {
            return Some(id.to_owned());
        }
        let name = |s: &&Secret| s.name == id;
        let partial = |s: &&Secret| id.starts_with("arn:") && s.arn.len() == id.len() + 7 && s.arn.starts_with(id);
        self.secrets.values().find(name).or_else(|| self.secrets.values().find(partial)).map(|s| s.arn.clone())
    }
}

impl Secret {
    /// The version with that stage.
    pub fn staged(&self, stage: &str) -> Option<(&String, &Version)> {
        self.versions.iter().find(|(_, v)| v.stages.contains(stage))
    }
}
