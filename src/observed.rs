//! What is there, as far as it can be seen from here, at one moment.
//! A reading that failed is not an absence, and what cannot be seen is not an error. Holds no secret: values are fingerprints.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::admission::Violation;
use crate::api::condition::Reason;
use crate::checks::{Run, Stage};
use crate::error::CloudError;
use crate::identity::{Arn, GroupId, MigrationId, RuleId, SecretName, StoreId, Vendor};
use crate::journal::{Journal, Resource};

mod copy;
mod network;
mod service;
mod store;

pub use self::copy::{Client, Copy, CopyState, HELD};
pub use self::network::{Connector, Rule};
pub use self::service::{
    Bystander, Delivery, Egress, Operation, OperationKind, OperationStatus, Reach, Service, ServiceSource,
    ServiceStatus, Variable,
};
pub use self::store::{CommandQuota, Placement, Server, Store, StoreStatus};

/// One thing read from the world.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reading<T> {
    /// It is not there: the vendor said so.
    #[default]
    Absent,
    /// It is there.
    Present(T),
    /// It could not be read; nothing may be concluded from that.
    Unknown(CloudError),
    /// It cannot be seen from here; the text says why.
    Hidden(String),
}

impl<T> Reading<T> {
    /// The value, if it is there.
    pub fn present(&self) -> Option<&T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unknown(_) | Self::Hidden(_) => None,
        }
    }

    /// The value for changing it, if it is there.
    pub fn present_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unknown(_) | Self::Hidden(_) => None,
        }
    }

    /// Whether the vendor said that it is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// Everything the planner may look at besides the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The account the credentials belong to.
    pub account: Reading<String>,
    /// The services of the spec (or of the journal), by service name.
    pub services: BTreeMap<String, Reading<Service>>,
    /// Bytes of their plain values as JSON texts, by service name and variable: what a way back may have to keep.
    pub plain_bytes: BTreeMap<String, BTreeMap<String, usize>>,
    /// The other services of the account: who else uses a store, a secret, a connector or a rule.
    pub bystanders: Reading<Vec<Bystander>>,
    /// The store the spec asks for.
    pub target: Reading<Store>,
    /// The store the services come from, once it is known which one that is.
    pub source: Reading<Store>,
    /// Identities of the account's stores and the names they answer to.
    pub catalog: Vec<CatalogEntry>,
    /// Whose stores may be missing in the catalog, and why: what is not in it then is not gone.
    pub unlisted: BTreeMap<Vendor, CloudError>,
    /// Stores the journal knows and no list has, without a break since then. See [`Self::miss`].
    #[serde(default)]
    pub missed: BTreeMap<StoreId, Timestamp>,
    /// Stores that are being made, changed or deleted, and since when that is seen: their vendor refuses to delete them now.
    #[serde(default)]
    pub busy: BTreeMap<StoreId, (StoreStatus, Timestamp)>,
    /// What answers to the names of the things of ours whose id the journal lacks. Every one of them is looked for,
    /// whatever the spec is; an empty list is the vendor's word that there is none.
    pub namesakes: BTreeMap<Resource, Reading<Vec<Namesake>>>,
    /// Connectors in use or named in the spec.
    pub connectors: BTreeMap<Arn, Reading<Connector>>,
    /// Security-group rules of the stores' groups, and those named in the spec.
    pub rules: BTreeMap<RuleId, Reading<Rule>>,
    /// Groups whose rules could not be read: that none of [`Self::rules`] is theirs says nothing.
    pub unread_groups: BTreeMap<GroupId, CloudError>,
    /// Secrets of ours, by name.
    pub secrets: BTreeMap<SecretName, Reading<Secret>>,
    /// Who claims what, by service name.
    pub claims: BTreeMap<String, Reading<Claims>>,
    /// Why the claims of an object that is being deleted may not all be here, if so.
    pub unsearched_claims: Option<CloudError>,
    /// Whether a service's instance role may read a secret, by (service name, secret name).
    pub role_access: Vec<RoleAccess>,
    /// The copier of the open migration.
    pub copy: Reading<Copy>,
    /// Migrations of this owner that left a copier's keys in a store and are not in the journal. Asked for only while the
    /// journal knows of no migration, and only of stores that answer.
    #[serde(default)]
    pub forgotten: BTreeMap<StoreId, Reading<BTreeSet<MigrationId>>>,
    /// Runs of checks of this runtime, by stage.
    pub checks: BTreeMap<Stage, Run>,
    /// What the spec refers to and could not be had: nothing is begun, and nothing goes on, without it.
    #[serde(default)]
    pub lack: Option<Lack>,
}

/// Something a spec refers to that could not be had, such as a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// One stable word.
    pub reason: Reason,
    /// The field that refers to it.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Lack {
    /// Of what is wrong with a field.
    #[must_use]
    pub fn new(reason: Reason, Violation { field, problem, remedy }: Violation) -> Self {
        Self { reason, subject: field, message: problem, remedy }
    }
}

impl Observed {
    /// Whether a store is gone for certain: it is missing for certain, and no copier is at work in it.
    #[must_use]
    pub fn is_gone(&self, id: &StoreId, now: Timestamp) -> bool {
        let copies = self.copy.present().is_some_and(|copy| !matches!(copy.state, CopyState::Failed { .. }));
        !copies && self.is_missing(id) && self.missed.get(id).is_some_and(|since| now >= Self::certain(*since))
    }

    /// When a store that is missing since `since` is missing for certain: the lists of the vendors are eventually
    /// consistent, and one that lacks a store once may have it a moment later.
    #[must_use]
    pub fn certain(since: Timestamp) -> Timestamp {
        since.checked_add(Duration::from_secs(10)).unwrap_or(Timestamp::MAX)
    }

    /// Whether the vendor's list is whole and lacks a store, and nobody found it by itself.
    #[must_use]
    pub fn is_missing(&self, id: &StoreId) -> bool {
        let is_another = |reading: &Reading<Store>| match reading {
            Reading::Present(store) => store.id != *id,
            Reading::Absent => true,
            Reading::Unknown(_) | Reading::Hidden(_) => false,
        };
        id.vendor().is_some_and(|vendor| {
            is_another(&self.target)
                && is_another(&self.source)
                && !self.unlisted.contains_key(&vendor)
                && !self.catalog.iter().any(|entry| entry.id == *id)
        })
    }

    /// Takes note of which stores of `journal` are missing: from `now` on, or, where they were before, since `former` says.
    pub fn miss(&mut self, journal: &Journal, former: &BTreeMap<StoreId, Timestamp>, now: Timestamp) {
        let missing = journal.stores().into_iter().filter(|id| self.is_missing(id));
        self.missed = missing.map(|id| (id.clone(), former.get(&id).copied().unwrap_or(now))).collect();
    }
}

/// An account's store and the names it answers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogEntry {
    /// Which.
    pub id: StoreId,
    /// Host names, lower case.
    pub hosts: Vec<String>,
}

/// Something with the name of a thing of ours: made in a call whose reply was lost, or by somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namesake {
    /// The vendor's id.
    pub id: String,
    /// When it was made, where the vendor says so.
    pub created: Option<Timestamp>,
    /// Whether it carries our tag; `None` where the vendor has no tags.
    pub ours: Option<bool>,
}

/// A secret of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Its ARN, with the random suffix.
    pub arn: Arn,
    /// When it will be gone, if it is scheduled for deletion.
    pub deletion: Option<Timestamp>,
}

/// Who writes which variables of a service: the content of its claims secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Writes so far; the next write's token is made of it.
    pub sequence: u64,
    /// Owner path by variable name.
    pub holders: BTreeMap<String, String>,
}

/// What is known about a role's access to a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleAccess {
    /// The service.
    pub service: String,
    /// The secret.
    pub secret: SecretName,
    /// Whether its role may read it; `Unknown` where the policy could not be simulated.
    pub allowed: Reading<bool>,
}
