//! One change of store as it is remembered: between what, how far, and how it ended. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EgressChange, ServiceMove, VaultKey};
use crate::checks::CheckResult;
use crate::desired::CopyRules;
use crate::identity::{Address, Epoch, Fingerprint, MigrationId, Owner, SecretName, StoreId};
use crate::observed::Placement;

/// One change of store, from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    /// Its id.
    pub id: MigrationId,
    /// The epoch the services will be told.
    pub epoch: Epoch,
    /// Where sessions are now; `None` where they were in no store of ours to know (memory).
    pub from: Option<StoreRecord>,
    /// Where they go. Frozen.
    pub to: StoreRecord,
    /// Whether keys are copied (both sides are a Redis).
    pub copies: bool,
    /// Which keys. Frozen: the base of the copy was made by them.
    #[serde(default)]
    pub rules: CopyRules,
    /// How often a person has said `retry`: each time the copier makes its base anew.
    #[serde(default)]
    pub attempt: u32,
    /// Stands for how the services are told: format, names and delivery. Frozen.
    #[serde(default)]
    pub told: Option<Fingerprint>,
    /// What the copier had done when it was told to end.
    #[serde(default)]
    pub copied: Option<Copied>,
    /// When it began.
    pub began: Timestamp,
    /// The services, in switching order.
    pub services: Vec<ServiceMove>,
    /// The checks as they came out before the switch.
    pub baseline: Option<Vec<CheckResult>>,
    /// The checks as they came out last, after the switch or on the way back.
    #[serde(default)]
    pub checks: Vec<CheckResult>,
    /// Gates a person has opened.
    pub approved: BTreeSet<Gate>,
    /// Both stores were put in step, both ways, ready for the first switch.
    pub sealed: Option<Timestamp>,
    /// The checks passed after egress had changed on its own.
    pub egress_validated: Option<Timestamp>,
    /// The last old instance is gone and both stores agree.
    pub drained: Option<Timestamp>,
    /// The checks passed after the drain.
    pub validated: Option<Timestamp>,
    /// The bake is over.
    pub baked: Option<Timestamp>,
    /// The way back was begun.
    pub rollback: Option<Rollback>,
    /// A person must decide; both stores stay in step.
    pub hold: Option<Hold>,
    /// How it ended.
    pub ended: Option<Ended>,
}

/// A store as it was when the migration began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRecord {
    /// Which.
    pub id: StoreId,
    /// Its name, for people.
    pub name: String,
    /// How it is reached.
    pub address: Option<Address>,
    /// Where it is.
    pub placement: Placement,
    /// Stands for the password.
    pub credential: Option<Fingerprint>,
    /// Where the vault keeps the password.
    pub password: Option<VaultKey>,
}

/// What a copier has done in a migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Copied {
    /// Keys copied.
    pub keys: u64,
    /// Keys that were changed on both sides.
    pub conflicts: u64,
    /// The worst lag a user could feel since the switch, milliseconds.
    pub worst_lag_ms: u64,
    /// Its traces are removed, as far as there is a store that could hold them.
    pub cleared: bool,
    /// What came into the store that was left and was not carried from it.
    pub uncarried: Uncarried,
}

/// Keys that were met in a store after both were sealed and that nobody carries: before the seal they would have stopped it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Uncarried {
    /// A broker's queues: a task that is copied as a key runs twice.
    pub queues: u64,
    /// Keys that no rule matches, where that is a block.
    pub unmatched: u64,
}

impl Uncarried {
    /// Whether there is none.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// A gate that can need a person's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Gate {
    /// Before the first service is switched.
    Switch,
    /// Before the old store is left: its users outside App Runner have been moved by hand.
    Handover,
    /// Before anything is retired.
    Retire,
    /// The store that is being left is given up as it is, although the copy cannot go on.
    GiveUp,
}

impl Gate {
    /// Every gate.
    pub const ALL: [Self; 4] = [Self::Switch, Self::Handover, Self::Retire, Self::GiveUp];
}

impl std::str::FromStr for Gate {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|gate| gate.to_string() == text).ok_or(())
    }
}

/// Why and when the way back was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// When.
    pub at: Timestamp,
    /// One stable word.
    pub reason: String,
    /// What happened, without secrets.
    pub message: String,
    /// The old instances (those of the new store) are gone and both stores agree.
    pub drained: Option<Timestamp>,
    /// The checks passed on the former store.
    #[serde(default)]
    pub validated: Option<Timestamp>,
}

impl Rollback {
    /// The spec names the former store again.
    pub const SPEC_REVERTED: &str = "SpecReverted";
    /// The spec names a third store, or none.
    pub const SPEC_CHANGED: &str = "SpecChanged";
    /// A service is no longer what the way back was written down for.
    pub const SERVICE_CHANGED: &str = "ServiceChanged";

    /// Whether nothing failed and nobody asked to stop, so that what is wanted now may begin at once.
    #[must_use]
    pub fn plans_anew(&self) -> bool {
        [Self::SPEC_REVERTED, Self::SPEC_CHANGED, Self::SERVICE_CHANGED].contains(&self.reason.as_str())
    }
}

/// Why nothing moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub at: Timestamp,
    /// One stable word.
    pub reason: String,
    /// What happened and what to do.
    pub message: String,
}

/// How a migration ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// How.
    pub outcome: Outcome,
}

/// How a migration can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The services use the new store.
    Completed,
    /// They are back on the old one.
    RolledBack,
    /// It was given up before the first switch.
    Abandoned,
}

/// A rollback that must not simply be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latch {
    /// The store that failed.
    pub store: StoreId,
    /// One stable word.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

impl StoreRecord {
    /// Which keys it means: the store, and the database of it.
    #[must_use]
    pub fn place(&self) -> (&StoreId, u32) {
        (&self.id, self.address.as_ref().map_or(0, |address| address.db))
    }

    /// Stands for address and password together: another binding needs other secrets.
    #[must_use]
    pub fn binding(&self) -> Option<Fingerprint> {
        binding(self.address.as_ref()?, self.credential.as_ref())
    }
}

/// Stands for `address` and the password behind `credential`.
#[must_use]
pub fn binding(address: &Address, credential: Option<&Fingerprint>) -> Option<Fingerprint> {
    let user = address.user.as_deref().unwrap_or("default");
    let password = credential.map_or("", |fingerprint| fingerprint.0.as_str());
    let place = format!("{}:{}/{}?tls={}", address.host, address.port, address.db, address.tls);
    Some(Fingerprint(crate::identity::digest(&[place.as_bytes(), user.as_bytes(), password.as_bytes()], 4)))
}

impl Migration {
    /// Its stores: the one that is left, if it is known, and the one that is gone to.
    pub fn sides(&self) -> impl DoubleEndedIterator<Item = &StoreRecord> + Clone {
        self.from.iter().chain([&self.to])
    }

    /// Whether it changes how the services reach their store or are told of it, and the store stays.
    #[must_use]
    pub fn stays(&self) -> bool {
        self.from.as_ref().map(StoreRecord::place) == Some(self.to.place())
    }

    /// How the checks came out that were written down last. What passed before something failed says nothing any more.
    #[must_use]
    pub fn last_checks(&self) -> Option<&[CheckResult]> {
        let written = match &self.rollback {
            Some(rollback) => rollback.validated.is_some(),
            None => [self.egress_validated, self.validated, self.baked].iter().any(Option::is_some),
        };
        (written && self.hold.is_none()).then_some(&self.checks)
    }

    /// Whether its copier has to be at work: nothing is written down yet that ends it.
    #[must_use]
    pub fn still_copies(&self) -> bool {
        self.copies && self.baked.is_none() && self.copied.is_none()
    }

    /// Whether it changes the egress of a service.
    #[must_use]
    pub fn moves_egress(&self) -> bool {
        self.services.iter().any(|moved| moved.egress != EgressChange::None)
    }

    /// Whether `secret` is one by which its services are told of the new store. Secrets never change, so the name says it.
    #[must_use]
    pub fn tells_by(&self, owner: &Owner, secret: &SecretName) -> bool {
        let prefix = self.to.binding().map(|binding| owner.epoch_secret(self.epoch, &binding, ""));
        prefix.is_some_and(|prefix| secret.0.starts_with(&prefix.0))
    }

    /// The move of `service`.
    #[must_use]
    pub fn service(&self, service: &str) -> Option<&ServiceMove> {
        self.services.iter().find(|moved| moved.service == service)
    }
}
