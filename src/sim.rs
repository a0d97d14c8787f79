//! The world in memory, for proofs: the effects of [`crate::effect`] on virtual time, with faults at exact calls.
//! It refuses what the real one refuses (a stale journal, a busy service, a moved foreign variable).

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::checks::Stage;
use crate::desired::{Desired, StoreSpec};
use crate::effect::Picture;
use crate::engine::World;
use crate::error::{Class, CloudError};
use crate::identity::{Owner, StoreId};
use crate::journal::{Direction, Entry, Journal};
use crate::observed::{CatalogEntry, Observed, Reading, Store};
use crate::plan::after;
use crate::serving::{Serving, serving};
use crate::step::{CopyMode, Step};

mod truth;

use self::truth::{Truth, creation, error};

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

/// A world in memory.
#[derive(Debug)]
pub struct SimWorld {
    truth: Mutex<Truth>,
    faults: Faults,
    /// Stores that are there beside the one the first spec asks for, by what asks for them.
    stores: Vec<(StoreSpec, Store)>,
}

const CALL: Duration = Duration::from_millis(20);

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
        if matches!(step, Step::Journal { .. }) {
            truth.seen_sequence = truth.picture.journal.sequence + 1;
        }
        let desired = Desired::absent(crate::desired::DeletionPolicy::Retain);
        let entry = truth.picture.predict(owner, &desired, step, now);
        truth.mark();
        Ok(entry)
    }
}
