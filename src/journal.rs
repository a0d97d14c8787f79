//! What can be read nowhere else: how to undo, what we made, that we already rolled back once.
//! One state per owner, kept in a secret by compare-and-set; [`Journal::apply`] is the only way it changes.
//! Secret values live beside it in a vault the core never sees; it names them by [`VaultKey`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::checks::CheckResult;
use crate::identity::{Epoch, Fingerprint, MigrationId, OperationId, StoreId};

mod apply;
mod migration;
mod resource;
pub mod room;
mod services;

pub use self::migration::{
    Copied, Ended, Gate, Hold, Latch, Migration, Outcome, Rollback, StoreRecord, Uncarried, binding,
};
pub use self::resource::{Made, Resource, VaultKey};
pub use self::services::{EgressChange, Move, Prior, ServiceMove, Undo};

/// The state of one owner. The default is that of an owner nobody has written about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Journal {
    /// Writes so far.
    pub sequence: u64,
    /// The newest epoch handed out.
    pub epoch: Epoch,
    /// What the services should be told now: set when a migration completes or is rolled back.
    pub settled: Option<Settled>,
    /// The migration under way, or the last one until the next begins.
    pub migration: Option<Migration>,
    /// What we made, or were about to make.
    pub made: BTreeMap<Resource, Made>,
    /// A rollback that must not simply be tried again.
    pub latch: Option<Latch>,
    /// Things a completed migration left to be removed.
    pub leftovers: BTreeSet<Resource>,
    /// Those of them that are a store, or belong to one, which spec and person let go. Their word outlives the migration it
    /// was said in: by the time nobody uses the store the journal may know another one.
    pub let_go: BTreeMap<Resource, StoreId>,
    /// How often in a row somebody took back what a completed migration had told the services.
    pub reverts: u32,
}

/// What the services are told when nothing is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The serving store.
    pub store: StoreId,
    /// Its database.
    pub database: u32,
    /// The epoch whose secrets the services name; `None` where the user's own wiring was left or restored.
    pub epoch: Option<Epoch>,
    /// Stands for address and password of the store.
    pub binding: Option<Fingerprint>,
    /// Stands for how the services were told: format, names and delivery.
    #[serde(default)]
    pub told: Option<Fingerprint>,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// We are about to make this.
    Intend(Resource),
    /// It was made, or found made, with this id.
    Made(Resource, String),
    /// It is gone.
    Gone(Resource),
    /// A migration begins; the runtime puts the plain values it names into the vault with the same write.
    Begin(Box<Migration>),
    /// How the checks came out before the switch.
    Baseline(Vec<CheckResult>),
    /// A person opened a gate.
    Approve(MigrationId, Gate),
    /// Both stores are in step.
    Sealed,
    /// What the copier has done, before it is told to end; and that its traces are gone.
    Copied(Copied),
    /// We are about to change a service.
    Moving(Direction, String, Option<OperationId>),
    /// The call returned, or was recognised.
    Moved(Direction, String, OperationId),
    /// The call was refused, so it was not made: for good (until `retry`) where it is said why, else it may be made again.
    NotMoved(Direction, String, Option<String>),
    /// As far as the service shows, the call did not come about, or its operation failed; it may be made again.
    Dropped(Direction, String),
    /// The last instance of the former configuration is gone.
    Drained,
    /// The checks passed; how each came out.
    Validated(Vec<CheckResult>),
    /// The checks passed after egress had changed on its own.
    EgressValidated(Vec<CheckResult>),
    /// The bake is over.
    Baked(Vec<CheckResult>),
    /// The checks passed on the former store; how each came out.
    BackValidated(Vec<CheckResult>),
    /// The way back begins.
    RollBack {
        /// One stable word.
        reason: String,
        /// What happened.
        message: String,
    },
    /// A person must decide.
    Hold {
        /// One stable word.
        reason: String,
        /// What happened and what to do.
        message: String,
    },
    /// The migration is over; the leftovers are to be removed.
    End(Outcome, BTreeSet<Resource>),
    /// A person asked to try again after a rollback or a hold.
    Retry,
    /// A person asked to go back, or to give up before the switch.
    Abort,
    /// What the services are told was taken as it was found.
    Settle(Settled),
}

/// Which change of a service an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// To the new store.
    Forward,
    /// Back to the old one.
    Back,
    /// Egress alone.
    Egress,
    /// Automatic deployments given back.
    Restore,
}

impl Journal {
    /// The stores it knows: those of the last migration, those we made, and those that were let go.
    #[must_use]
    pub fn stores(&self) -> BTreeSet<StoreId> {
        let last = self.migration.iter().flat_map(Migration::sides);
        let made = self.made.iter().filter_map(|(resource, made)| match resource {
            Resource::UpstashDatabase(_) => made.id.clone().map(StoreId::Upstash),
            Resource::ReplicationGroup(id) => Some(StoreId::ReplicationGroup(id.clone())),
            Resource::SubnetGroup(_) | Resource::Connector(_) | Resource::Rule(_) | Resource::Secret(_) => None,
        });
        last.map(|record| record.id.clone()).chain(made).chain(self.let_go.values().cloned()).collect()
    }

    /// The migration that has not ended.
    #[must_use]
    pub fn open_migration(&self) -> Option<&Migration> {
        self.migration.as_ref().filter(|migration| migration.ended.is_none())
    }

    /// Whether `next` goes the way of the last completed migration once more: somebody took that one back.
    #[must_use]
    pub fn is_a_revert(&self, next: &Migration) -> bool {
        self.migration.as_ref().is_some_and(|last| {
            let completed = last.ended.as_ref().is_some_and(|ended| ended.outcome == Outcome::Completed);
            let to = last.to.place() == next.to.place();
            completed && to && last.from.as_ref().map(StoreRecord::place) == next.from.as_ref().map(StoreRecord::place)
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn every_entry_moves_the_sequence_by_one() {
        let journal = Journal::default();
        let next = journal.apply(&Entry::Intend(Resource::UpstashDatabase("liberty".into())), at(5));
        assert_eq!(next.sequence, 1);
        assert_eq!(next.made[&Resource::UpstashDatabase("liberty".into())].intended, at(5));
    }

    #[test]
    fn an_intent_written_twice_keeps_its_first_time() {
        let resource = Resource::UpstashDatabase("liberty".into());
        let journal = Journal::default().apply(&Entry::Intend(resource.clone()), at(5));
        let journal = journal.apply(&Entry::Intend(resource.clone()), at(50));
        assert_eq!(journal.made[&resource].intended, at(5));
    }

    #[test]
    fn a_journal_survives_json() {
        let journal = Journal::default()
            .apply(&Entry::Intend(Resource::Rule("sg-a <- sg-b : 6379".into())), at(1))
            .apply(&Entry::Made(Resource::Rule("sg-a <- sg-b : 6379".into()), "sgr-1".into()), at(2));
        let text = serde_json::to_string(&journal).unwrap();
        assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), journal);
    }
}
