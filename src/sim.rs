//! The world in memory, for proofs: the effects of [`crate::effect`] on virtual time, with faults at exact calls.
//! It refuses what the real one refuses (a stale journal, a busy service, a moved foreign variable).

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::checks::{CheckResult, Severity, Stage, Verdict};
use crate::desired::{Desired, StoreSpec};
use crate::effect::Picture;
use crate::engine::World;
use crate::error::{Class, CloudError};
use crate::identity::{OperationId, Owner, StoreId};
use crate::journal::{Direction, Entry, Journal};
use crate::observed::{
    CatalogEntry, CopyState, Delivery, Observed, Operation, OperationKind, OperationStatus, Reach, Reading, Service,
    ServiceStatus, Store, StoreStatus, Variable,
};
use crate::plan::after;
use crate::serving::{Serving, serving};
use crate::step::{CopyMode, ServicePatch, Side, Step};

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before the call is made.
    CrashBefore,
    /// The call is made and the process dies before it learns of it.
    CrashAfter,
    /// The call never arrives.
    Lost,
    /// The call is executed and its reply is lost.
    LostReply,
    /// The vendor asks to slow down; nothing is executed.
    Throttled,
}

/// What goes wrong, exactly where.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Faults by number of the mutating call, from 0.
    pub calls: BTreeMap<usize, Fault>,
    /// Numbers of the observations that show the world as it was before the last call.
    pub stale: BTreeSet<usize>,
    /// Services whose first so many updates in a direction the platform rolls back.
    pub failing_updates: Vec<(String, Direction, usize)>,
    /// Stages whose gate fails.
    pub failing_stages: BTreeSet<Stage>,
    /// Another hand at a service, right before the call of that number: after we looked, before we call.
    pub others: BTreeMap<usize, (String, OtherHand)>,
}

/// What another hand does to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherHand {
    /// Changes a variable of its own; its operation is over by the time of our call.
    Updated,
    /// Began a deployment that runs for a while.
    Deploys,
    /// Its update of a variable of its own comes after our last look and before our call: we send what was before it.
    Slips,
    /// Its update failed and was rolled back; that is over by the time of our call.
    Fails,
}

/// The variable that [`OtherHand::Updated`] changes.
pub const OF_ANOTHER_HAND: &str = "SET_BY_ANOTHER_HAND";

#[derive(Debug)]
struct Truth {
    picture: Picture,
    before_last_call: Picture,
    former: BTreeMap<String, (Direction, Service)>,
    failed: BTreeMap<String, usize>,
    now: Timestamp,
    calls: usize,
    observations: usize,
    seen_sequence: u64,
    copy_started: Option<Timestamp>,
    creations: BTreeMap<String, usize>,
    updates: BTreeMap<String, usize>,
    subnet_groups: BTreeSet<String>,
    /// When each service last had instances that use a store.
    used: BTreeMap<(String, StoreId), Timestamp>,
    longest_request: Duration,
    broken: Vec<String>,
}

/// A world in memory.
#[derive(Debug)]
pub struct SimWorld {
    truth: Mutex<Truth>,
    faults: Faults,
    /// Stores that are there beside the one the first spec asks for, by what asks for them.
    stores: Vec<(StoreSpec, Store)>,
}

const CALL: Duration = Duration::from_millis(20);
const UPDATE: Duration = Duration::from_secs(150);
const CREATE: Duration = Duration::from_mins(7);
const COPY: Duration = Duration::from_secs(4);
const QUIET: Duration = Duration::from_secs(2);
const CHECKS: Duration = Duration::from_secs(3);

impl SimWorld {
    /// A world that looks like `picture` at `now`.
    #[must_use]
    pub fn new(picture: Picture, now: Timestamp, faults: Faults) -> Self {
        let truth = Truth {
            before_last_call: picture.clone(),
            picture,
            former: BTreeMap::new(),
            failed: BTreeMap::new(),
            now,
            calls: 0,
            observations: 0,
            seen_sequence: 0,
            copy_started: None,
            creations: BTreeMap::new(),
            updates: BTreeMap::new(),
            subnet_groups: BTreeSet::new(),
            used: BTreeMap::new(),
            longest_request: Duration::ZERO,
            broken: Vec::new(),
        };
        Self { truth: Mutex::new(truth), faults, stores: Vec::new() }
    }

    /// The same world with another store in it, which `spec` asks for.
    #[must_use]
    pub fn with_store(mut self, spec: StoreSpec, store: Store) -> Self {
        if let Some(address) = store.address.as_ref().filter(|_| !matches!(store.id, StoreId::External(..))) {
            let entry = CatalogEntry { id: store.id.clone(), hosts: vec![address.host.clone()] };
            self.truth().picture.observed.catalog.push(entry);
        }
        self.stores.push((spec, store));
        self
    }

    /// The stores as the world finds them: the one the spec asks for, and the one in use, by the journal while a migration
    /// is open, else by what the services say.
    fn find_stores(&self, seen: &mut Observed, desired: &Desired, journal: &Journal) {
        let Desired::Present(target) = desired else {
            (seen.target, seen.source) = (Reading::Absent, Reading::Absent);
            return;
        };
        let told = || {
            let names = crate::env::names(&target.env.format);
            let first = target.services.first().and_then(|spec| seen.services.get(&spec.name)?.present())?;
            match serving(first, &names, &seen.catalog) {
                Serving::Store(id, _) => Some(id),
                Serving::Nothing | Serving::Unseen(_) => None,
            }
        };
        let in_use = if let Some(migration) = journal.open_migration() {
            migration.from.as_ref().map(|from| from.id.clone())
        } else {
            told()
        };
        let found = |id: &StoreId| {
            let known = [&seen.target, &seen.source].into_iter().filter_map(Reading::present);
            known.chain(self.stores.iter().map(|(_, store)| store)).find(|store| store.id == *id).cloned()
        };
        if seen.source.present().map(|store| &store.id) != in_use.as_ref() {
            seen.source = in_use.as_ref().and_then(found).map_or(Reading::Absent, Reading::Present);
        }
        if let Some((_, store)) = self.stores.iter().find(|(spec, _)| *spec == target.store) {
            seen.target = Reading::Present(store.clone());
        }
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.truth().now
    }

    /// Lets time pass and what is due happen.
    pub fn advance(&self, by: Duration) {
        let mut truth = self.truth();
        truth.mark();
        truth.now = after(truth.now, by);
        truth.mark();
        truth.happen(&self.faults);
        truth.mark();
    }

    /// The process is gone: what lived in it goes too.
    pub fn crash(&self) {
        let mut truth = self.truth();
        truth.picture.observed.checks.clear();
        truth.seen_sequence = 0;
        if let Some(copy) = truth.picture.observed.copy.present_mut() {
            copy.here = false;
        }
    }

    /// The world as it is.
    #[must_use]
    pub fn picture(&self) -> Picture {
        self.truth().picture.clone()
    }

    /// Looks at the world as it is.
    pub fn look<T>(&self, at: impl FnOnce(&Picture) -> T) -> T {
        at(&self.truth().picture)
    }

    /// Changes the world behind our back.
    pub fn meddle(&self, change: impl FnOnce(&mut Picture, Timestamp)) {
        let mut truth = self.truth();
        let now = truth.now;
        change(&mut truth.picture, now);
    }

    /// Mutating calls so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.truth().calls
    }

    /// Observations so far.
    #[must_use]
    pub fn observations(&self) -> usize {
        self.truth().observations
    }

    /// What users would have felt: a copier that ended while somebody could still write to the store that was left.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        self.truth().broken.clone()
    }

    /// How often each thing was made.
    #[must_use]
    pub fn creations(&self) -> BTreeMap<String, usize> {
        self.truth().creations.clone()
    }

    /// How often each service was updated.
    #[must_use]
    pub fn updates(&self) -> BTreeMap<String, usize> {
        self.truth().updates.clone()
    }
}

impl World for SimWorld {
    async fn journal(&self, _owner: &Owner) -> Reading<Journal> {
        let mut truth = self.truth();
        let stale = self.faults.stale.contains(&truth.observations);
        truth.observations += 1;
        let journal = if stale { truth.before_last_call.journal.clone() } else { truth.picture.journal.clone() };
        if journal.sequence < truth.seen_sequence {
            return Reading::Unknown(error(
                Class::Transient,
                "GetSecretValue",
                "an older version than the one we wrote",
            ));
        }
        truth.seen_sequence = journal.sequence;
        if journal.sequence == 0 { Reading::Absent } else { Reading::Present(journal) }
    }

    async fn observe(&self, _owner: &Owner, desired: &Desired, journal: &Journal) -> Observed {
        let mut truth = self.truth();
        if let Desired::Present(target) = desired {
            truth.longest_request = target.app.longest_request;
        }
        let number = truth.observations.saturating_sub(1);
        let mut seen = truth.picture.observed.clone();
        if self.faults.stale.contains(&number) {
            // What lives in this process is never stale, what the clouds say can be.
            let (copy, checks) = (seen.copy, seen.checks);
            seen = truth.before_last_call.observed.clone();
            seen.copy = copy;
            seen.checks = checks;
        }
        let to = journal.open_migration().map(|migration| &migration.to.id);
        if to.is_some_and(|to| truth.is_gone(to)) && seen.copy.present().is_some_and(|copy| !copy.here) {
            // What a copier left is in the store it copied to.
            seen.copy = Reading::Unknown(error(Class::Transient, "read the copy's progress", "it does not answer"));
        }
        drop(truth);
        self.find_stores(&mut seen, desired, journal);
        let mut truth = self.truth();
        seen.miss(journal, &truth.picture.observed.missed, truth.now);
        truth.picture.observed.missed.clone_from(&seen.missed);
        drop(truth);
        seen
    }

    async fn perform(
        &self,
        owner: &Owner,
        step: &Step,
        _journal: &Journal,
        _now: Timestamp,
    ) -> Result<Option<Entry>, CloudError> {
        let fault = {
            let mut truth = self.truth();
            let number = truth.calls;
            truth.calls += 1;
            truth.now = after(truth.now, CALL);
            if let Some((service, hand)) = self.faults.others.get(&number).filter(|(_, hand)| *hand != OtherHand::Slips)
            {
                truth.other_hand(service, *hand, number);
            }
            self.faults.calls.get(&number).copied()
        };
        match fault {
            Some(Fault::CrashBefore) => pending().await,
            Some(Fault::Lost) => Err(error(Class::Transient, "call", "connection reset")),
            Some(Fault::Throttled) => Err(error(Class::Throttled, "call", "rate exceeded")),
            Some(Fault::CrashAfter) => {
                let _ = self.execute(owner, step);
                pending().await
            }
            Some(Fault::LostReply) => {
                let executed = self.execute(owner, step);
                executed.and(Err(error(Class::Transient, "call", "the reply was lost")))
            }
            None => self.execute(owner, step),
        }
    }
}

impl SimWorld {
    fn execute(&self, owner: &Owner, step: &Step) -> Result<Option<Entry>, CloudError> {
        let mut truth = self.truth();
        truth.refuse(step)?;
        let number = truth.calls - 1;
        if let (Step::PatchService(patch), Some((service, OtherHand::Slips))) = (step, self.faults.others.get(&number))
            && patch.service == *service
        {
            truth.other_hand(service, OtherHand::Slips, number);
        }
        if let Step::Copy { mode, .. } = step {
            truth.parts(*mode)?;
        }
        let now = truth.now;
        let shows = !matches!(step, Step::RunChecks { .. } | Step::CountQuiet { .. } | Step::Copy { .. });
        if shows && !self.faults.stale.is_empty() {
            truth.before_last_call = truth.picture.clone();
        }
        if let Some(made) = creation(step).filter(|_| !truth.is_there(step)) {
            *truth.creations.entry(made).or_default() += 1;
        }
        if let Step::CreateSubnetGroup { name, .. } = step {
            truth.subnet_groups.insert(name.clone());
        }
        if let Step::PatchService(patch) = step {
            truth.remember(patch);
        }
        if let Step::Copy { mode, .. } = step {
            truth.copy_started = Some(now);
            if matches!(mode, CopyMode::Clear { .. } | CopyMode::Withdraw) {
                truth.copy_started = None;
            }
        }
        if matches!(step, Step::DeleteSecret { name } if *name == owner.journal_secret()) {
            truth.seen_sequence = 0;
        }
        if let Step::Journal { entry, .. } = step {
            truth.seen_sequence = truth.picture.journal.sequence + 1;
            let _ = entry;
        }
        let desired = Desired::absent(crate::desired::DeletionPolicy::Retain);
        let entry = truth.picture.predict(owner, &desired, step, now);
        truth.mark();
        Ok(entry)
    }
}

/// What a step makes, if it makes something that could be made twice.
fn creation(step: &Step) -> Option<String> {
    match step {
        Step::CreateUpstashDatabase { name, .. } => Some(format!("database {name}")),
        Step::CreateReplicationGroup { id, .. } => Some(format!("replication group {id}")),
        Step::CreateSubnetGroup { name, .. } => Some(format!("subnet group {name}")),
        Step::CreateConnector { name, .. } => Some(format!("connector {name}")),
        Step::CreateEpochSecret { name, .. } => Some(format!("secret {name}")),
        Step::AuthorizeIngress { group, source, port } => Some(format!("rule {group} {source} {port}")),
        Step::Journal { .. }
        | Step::Claim { .. }
        | Step::Release { .. }
        | Step::DeleteUpstashDatabase { .. }
        | Step::DeleteSubnetGroup { .. }
        | Step::DeleteReplicationGroup { .. }
        | Step::RevokeIngress { .. }
        | Step::DeleteConnector { .. }
        | Step::DeleteSecret { .. }
        | Step::PatchService(_)
        | Step::Copy { .. }
        | Step::CountQuiet { .. }
        | Step::RunChecks { .. } => None,
    }
}

impl Truth {
    /// What the real world refuses.
    fn refuse(&self, step: &Step) -> Result<(), CloudError> {
        let conflict = |what: &str| Err(error(Class::Conflict, "call", what));
        match step {
            Step::Journal { expect, .. } if *expect != self.picture.journal.sequence => {
                conflict("the journal has moved on")
            }
            Step::Claim { service, expect, .. } => {
                let sequence =
                    self.picture.observed.claims.get(service).and_then(Reading::present).map(|claims| claims.sequence);
                if sequence == *expect { Ok(()) } else { conflict("the claims have moved on") }
            }
            Step::PatchService(patch) => {
                let Some(service) = self.picture.observed.services.get(&patch.service).and_then(Reading::present)
                else {
                    return conflict("the service is gone");
                };
                let newest = service.operations.first().map(|operation| operation.id.clone());
                if service.status != ServiceStatus::Running {
                    return conflict("the service is busy");
                }
                if newest != patch.expect.newest_operation {
                    return conflict("another operation came first");
                }
                if service.foreign != patch.expect.foreign {
                    return conflict("what is foreign has moved");
                }
                if self.picture.journal.sequence != patch.expect.journal {
                    return conflict("the journal has moved on");
                }
                Ok(())
            }
            Step::CreateEpochSecret { name, .. }
                if self.picture.observed.secrets.get(name).is_some_and(|secret| secret.present().is_some()) =>
            {
                Err(error(Class::Exists, "CreateSecret", "it exists already"))
            }
            Step::CreateReplicationGroup { id, .. }
                if self.picture.observed.target.present().is_some_and(|store| store.name == *id) =>
            {
                Err(error(Class::Exists, "CreateReplicationGroup", "it exists already"))
            }
            Step::CreateUpstashDatabase { .. } if self.picture.observed.target.present().is_some() => {
                Err(error(Class::Exists, "create", "found by name"))
            }
            _ => Ok(()),
        }
    }

    fn remember(&mut self, patch: &ServicePatch) {
        *self.updates.entry(patch.service.clone()).or_default() += 1;
        if let Some(service) = self.picture.observed.services.get(&patch.service).and_then(Reading::present) {
            self.former.insert(patch.service.clone(), (patch.direction, service.clone()));
        }
    }

    fn other_hand(&mut self, service: &str, hand: OtherHand, number: usize) {
        let now = self.now;
        let Some(service) = self.picture.observed.services.get_mut(service).and_then(Reading::present_mut) else {
            return;
        };
        // App Runner refuses an update while another operation runs.
        if service.status != ServiceStatus::Running {
            return;
        }
        let (status, ended) = match hand {
            OtherHand::Updated => {
                let digest = crate::identity::Fingerprint(format!("by-another-hand-{number}"));
                let variable = Variable {
                    delivery: Delivery::Plain,
                    digest: digest.clone(),
                    address: None,
                    password: None,
                    names: Vec::new(),
                    reach: Reach::None,
                };
                service.variables.insert(OF_ANOTHER_HAND.to_owned(), variable);
                service.foreign = digest;
                (OperationStatus::Succeeded, Some(now))
            }
            // Ours, right after it, sends the configuration as it was before.
            OtherHand::Slips => (OperationStatus::Succeeded, Some(now)),
            OtherHand::Fails => (OperationStatus::Failed, Some(now)),
            OtherHand::Deploys => {
                service.status = ServiceStatus::OperationInProgress;
                (OperationStatus::Running, None)
            }
        };
        let kind = match hand {
            OtherHand::Updated | OtherHand::Slips | OtherHand::Fails => OperationKind::Update,
            OtherHand::Deploys => OperationKind::Deployment,
        };
        let id = OperationId(format!("op-another-hand-{number}"));
        service.operations.insert(0, Operation { id, kind, status, started: Some(now), ended });
    }

    /// Which stores have users now: while a service is being updated its old instances serve beside the new ones.
    fn mark(&mut self) {
        let Some(migration) = &self.picture.journal.migration else { return };
        let records: Vec<_> = migration.from.iter().chain([&migration.to]).collect();
        for (name, service) in &self.picture.observed.services {
            let Some(service) = service.present() else { continue };
            let running = service.operations.first().filter(|operation| !operation.status.has_ended());
            // A deployment of another hand has the same configuration before and after.
            let is_updated = running.is_some_and(|operation| operation.kind == OperationKind::Update);
            let former = self.former.get(name).map(|(_, former)| former).filter(|_| is_updated);
            for serving in former.into_iter().chain([service]) {
                let mut told = serving.variables.values().filter_map(|variable| variable.address.as_ref());
                let told = told.find_map(|told| records.iter().find(|record| record.address.as_ref() == Some(told)));
                if let Some(store) = told {
                    self.used.insert((name.clone(), store.id.clone()), self.now);
                }
            }
        }
    }

    /// The copier ends: nobody may have written to the store that is left within the longest request.
    fn parts(&mut self, mode: CopyMode) -> Result<(), CloudError> {
        let Some(migration) = &self.picture.journal.migration else { return Ok(()) };
        let from = migration.from.as_ref().map(|from| &from.id);
        let (left, gone) = match mode {
            CopyMode::Follow | CopyMode::BothWays => return Ok(()),
            CopyMode::Withdraw => (Some(&migration.to.id), None),
            CopyMode::Clear { gone } => {
                let is_back = migration.rollback.is_some() && migration.baked.is_none();
                (if is_back { Some(&migration.to.id) } else { from }, gone)
            }
        };
        for (side, store) in [(Side::From, from), (Side::To, Some(&migration.to.id))] {
            if gone != Some(side) && store.is_some_and(|store| self.is_gone(store)) {
                return Err(error(Class::Transient, "clear the copier's traces", "the store does not answer"));
            }
        }
        let since = self.now.checked_sub(self.longest_request).unwrap_or(Timestamp::MIN);
        for ((service, store), last) in self.used.iter().filter(|((_, store), _)| Some(store) == left) {
            if gone.is_none() && *last > since {
                self.broken.push(format!("the copier ended at {}, {service} used {store} at {last}", self.now));
            }
        }
        Ok(())
    }

    fn is_gone(&self, store: &StoreId) -> bool {
        let found = [&self.picture.observed.target, &self.picture.observed.source].into_iter();
        let is_known = found.filter_map(Reading::present).any(|found| found.id == *store);
        let is_listed = self.picture.observed.catalog.iter().any(|entry| entry.id == *store);
        !is_known && !is_listed && !matches!(store, StoreId::External(..))
    }

    /// Whether what `step` makes is there already: the vendor, or the client that looks first, makes no second one.
    fn is_there(&self, step: &Step) -> bool {
        let observed = &self.picture.observed;
        match step {
            Step::CreateConnector { name, .. } => observed
                .connectors
                .values()
                .filter_map(Reading::present)
                .any(|connector| connector.ours == Some(true) && connector.name == *name),
            Step::AuthorizeIngress { group, source, port } => observed
                .rules
                .values()
                .filter_map(Reading::present)
                .any(|rule| rule.group == *group && rule.admits(source, *port)),
            Step::CreateSubnetGroup { name, .. } => self.subnet_groups.contains(name),
            _ => false,
        }
    }

    /// What is due by now happens.
    fn happen(&mut self, faults: &Faults) {
        let now = self.now;
        let observed = &mut self.picture.observed;
        for (name, service) in &mut observed.services {
            let Some(service) = service.present_mut() else { continue };
            let Some(operation) = service.operations.first_mut() else { continue };
            let due = operation.started.is_some_and(|started| now >= after(started, UPDATE));
            if operation.status != OperationStatus::Running || !due {
                continue;
            }
            operation.ended = Some(now);
            operation.status = OperationStatus::Succeeded;
            service.status = ServiceStatus::Running;
            let Some((direction, former)) = self.former.get(name) else { continue };
            let is_told_to_fail = faults.failing_updates.iter().any(|(service, which, times)| {
                service == name && which == direction && self.failed.get(name).is_none_or(|failed| failed < times)
            });
            if is_told_to_fail && !operation.id.0.contains("another-hand") {
                *self.failed.entry(name.clone()).or_default() += 1;
                operation.status = OperationStatus::Failed;
                let operations = service.operations.clone();
                *service = Service { operations, ..former.clone() };
                service.status = ServiceStatus::Running;
            }
        }
        if let Some(store) = observed.target.present_mut()
            && store.status == StoreStatus::Creating
        {
            let created = self.picture.journal.made.values().map(|made| made.intended).max();
            if created.is_some_and(|created| now >= after(created, CREATE)) {
                let mut whole = Picture { observed: observed.clone(), journal: Journal::default() };
                whole.elapse(&Desired::absent(crate::desired::DeletionPolicy::Retain), now);
                observed.target = whole.observed.target;
                observed.catalog = whole.observed.catalog;
            }
        }
        let migration = self.picture.journal.open_migration();
        let ends = migration.into_iter().flat_map(|migration| migration.from.iter().chain([&migration.to]));
        let cut_off = ends.clone().any(|record| self.is_gone(&record.id));
        let observed = &mut self.picture.observed;
        if cut_off && let Some(copy) = observed.copy.present_mut() {
            let (reason, message) = ("Unreachable".to_owned(), "a store does not answer".to_owned());
            copy.state = CopyState::Failed { reason, message, temporary: true };
            copy.heartbeat = now;
        } else if let Some(copy) = observed.copy.present_mut().filter(|copy| copy.here) {
            copy.heartbeat = now;
            let quiet_due = copy.quiet_since.is_none_or(|since| now >= after(since, QUIET));
            let copied = self.copy_started.is_some_and(|started| now >= after(started, COPY));
            if copied && (quiet_due || matches!(copy.state, CopyState::Starting)) {
                copy.elapse(now);
            }
        }
        for (stage, run) in &mut observed.checks {
            if run.finished.is_none() && now >= after(run.started, CHECKS) {
                run.finished = Some(now);
                let verdict = if faults.failing_stages.contains(stage) { Verdict::Fail } else { Verdict::Pass };
                run.results = vec![CheckResult {
                    name: "redis".to_owned(),
                    service: None,
                    severity: Severity::Gate,
                    required: false,
                    verdict,
                    message: "simulated".to_owned(),
                }];
            }
        }
    }
}

fn error(class: Class, operation: &str, message: &str) -> CloudError {
    CloudError::new(class, "simulation", operation, "", message)
}
