//! IAM: roles with their trust and inline policies.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Tags;

/// All of IAM.
#[derive(Debug, Clone, Default)]
pub struct Iam {
    /// By name.
    pub roles: BTreeMap<String, Role>,
}

/// A role.
#[derive(Debug, Clone)]
pub struct Role {
    /// Name.
    pub name: String,
    /// Path.
    pub path: String,
    /// `AROA…`.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// Trust policy, JSON text.
    pub trust: String,
    /// Description.
    pub description: Option<String>,
    /// Seconds.
    pub max_session: i64,
    /// Inline policies, JSON text by name.
    pub policies: BTreeMap<String, String>,
    /// Creation.
    pub created: Timestamp,
    /// Tags.
    pub tags: Tags,
}
