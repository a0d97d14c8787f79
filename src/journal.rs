//! What can be read nowhere else: how to undo, what we made, that we already rolled back once.
//! One state per owner, kept in a secret by compare-and-set; [`Journal::apply`] is the only way it changes.
//! Secret values live beside it in a vault the core never sees; it names them by [`VaultKey`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checks::CheckResult;
use crate::desired::CopyRules;
use crate::identity::{Address, Arn, Epoch, Fingerprint, MigrationId, OperationId, Owner, SecretName, StoreId};
use crate::observed::{Egress, Placement};

mod apply;
pub mod room;

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
    fn is_of(&self, store: &StoreRecord) -> bool {
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

impl Journal {
    /// The stores it knows: those of the last migration, those we made, and those that were let go.
    #[must_use]
    pub fn stores(&self) -> BTreeSet<StoreId> {
        let last = self.migration.iter().flat_map(|migration| migration.from.iter().chain([&migration.to]));
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

#[cfg(test)]
mod tests {
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
