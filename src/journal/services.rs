//! A service's part in a migration: what it was told before, and how far the calls that change it have come. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Direction, VaultKey};
use crate::identity::{Arn, Fingerprint, OperationId};
use crate::observed::Egress;

/// One service's part in a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMove {
    /// The service's name.
    pub service: String,
    /// Its ARN.
    pub arn: Arn,
    /// All it takes to put it back as it was.
    pub undo: Undo,
    /// When its egress changes, if it does.
    pub egress: EgressChange,
    /// The call that changed its egress alone.
    pub egress_moved: Option<Move>,
    /// The call that switched it.
    pub forward: Option<Move>,
    /// The call that switched it back.
    pub back: Option<Move>,
    /// The call that gave its automatic deployments back.
    pub deployments_restored: Option<Move>,
    /// Why the last call came to nothing for good, in the vendor's words.
    pub refused: Option<String>,
    /// A call to it seemed to come to nothing, by the list of operations: it may have served the new store for a while.
    #[serde(default)]
    pub dropped: bool,
}

/// When the egress of a service changes in a migration (DESIGN §6: the network table).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EgressChange {
    /// It stays.
    #[default]
    None,
    /// Before the variables, checked on the old store.
    First(Egress),
    /// In the same call as the variables: neither store is reachable both before and after.
    WithVariables(Egress),
    /// After the variables have proved themselves, as a step of its own.
    Last(Egress),
}

/// What a service was told before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Undo {
    /// Every variable we set or unset, as it was.
    pub variables: BTreeMap<String, Prior>,
    /// Its egress.
    pub egress: Egress,
    /// Whether a push deployed by itself.
    pub auto_deployments: bool,
}

/// A variable as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Prior {
    /// It was not there.
    Absent,
    /// In plain text; the vault has the value, this its fingerprint.
    Plain(VaultKey, Fingerprint),
    /// By reference.
    Reference(Arn),
}

/// A call that changes a service: written before it, completed after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    /// When we were about to call.
    pub intended: Timestamp,
    /// The newest operation at that time: ours is the only UPDATE_SERVICE after it that carries our references.
    pub after: Option<OperationId>,
    /// What the call returned, or what was recognised as ours.
    pub operation: Option<OperationId>,
    /// When a person said `retry` after it: where it cannot be told what became of the call, what the service shows counts.
    #[serde(default)]
    pub retried: Option<Timestamp>,
}

impl ServiceMove {
    /// Whether the service was told, or may for a while have been told, anything else than before.
    #[must_use]
    pub fn was_told(&self) -> bool {
        self.forward.is_some() || self.egress_moved.is_some() || self.dropped
    }

    /// The move in `direction`, if it was begun.
    #[must_use]
    pub fn moved(&self, direction: Direction) -> Option<&Move> {
        match direction {
            Direction::Forward => self.forward.as_ref(),
            Direction::Back => self.back.as_ref(),
            Direction::Egress => self.egress_moved.as_ref(),
            Direction::Restore => self.deployments_restored.as_ref(),
        }
    }
}
