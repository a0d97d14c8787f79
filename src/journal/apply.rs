//! How one line changes the journal: the only way its state ever changes. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::identity::StoreId;

use super::{
    Direction, Ended, Entry, Gate, Hold, Journal, Latch, Made, Migration, Move, Outcome, Resource, Rollback,
    ServiceMove, Settled, room,
};

impl Journal {
    /// The state after `entry` was written at `now`.
    #[must_use]
    pub fn apply(&self, entry: &Entry, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.sequence += 1;
        match entry {
            Entry::Intend(resource) => {
                next.made.entry(resource.clone()).or_insert(Made { intended: now, id: None });
            }
            Entry::Made(resource, id) => {
                let made = next.made.entry(resource.clone()).or_insert(Made { intended: now, id: None });
                made.id = Some(id.clone());
            }
            Entry::Gone(resource) => {
                next.made.remove(resource);
                next.leftovers.remove(resource);
                next.let_go.remove(resource);
            }
            Entry::Begin(migration) => {
                next.reverts = if self.is_a_revert(migration) { self.reverts + 1 } else { 0 };
                next.epoch = migration.epoch;
                next.keep_what_is_used_again(migration);
                next.migration = Some((**migration).clone());
            }
            Entry::End(outcome, leftovers) => next.end(*outcome, leftovers, now),
            Entry::Retry => {
                next.latch = None;
                next.reverts = 0;
                if let Some(migration) = next.migration.as_mut() {
                    if migration.hold.take().is_some() {
                        migration.check_again(now);
                    }
                    migration.attempt += 1;
                    migration.services.iter_mut().for_each(|moved| moved.retry(now));
                }
            }
            Entry::Settle(settled) => {
                next.latch = None;
                next.settled = Some(settled.clone());
            }
            Entry::Baseline(_)
            | Entry::Approve(..)
            | Entry::Sealed
            | Entry::Copied(_)
            | Entry::Moving(..)
            | Entry::Moved(..)
            | Entry::NotMoved(..)
            | Entry::Dropped(..)
            | Entry::Drained
            | Entry::Validated(_)
            | Entry::EgressValidated(_)
            | Entry::Baked(_)
            | Entry::BackValidated(_)
            | Entry::RollBack { .. }
            | Entry::Hold { .. }
            | Entry::Abort => {
                if let Some(migration) = next.migration.as_mut().filter(|migration| migration.ended.is_none()) {
                    migration.apply(entry, now);
                }
            }
        }
        next
    }

    /// Whoever comes from a store, or goes to it, has not let it go: that takes another word.
    fn keep_what_is_used_again(&mut self, next: &Migration) {
        let used = |store: &StoreId| next.to.id == *store || next.from.as_ref().is_some_and(|from| from.id == *store);
        for (resource, _) in self.let_go.extract_if(.., |_, store| used(store)) {
            self.leftovers.remove(&resource);
        }
    }

    fn end(&mut self, outcome: Outcome, leftovers: &BTreeSet<Resource>, now: Timestamp) {
        let Some(migration) = self.migration.as_mut() else { return };
        migration.ended = Some(Ended { at: now, outcome });
        self.leftovers.extend(leftovers.iter().cloned());
        if let Some(from) = migration.from.as_ref().filter(|_| migration.approved.contains(&Gate::Retire)) {
            let stores = leftovers.iter().filter(|resource| resource.is_of(from));
            self.let_go.extend(stores.map(|resource| (resource.clone(), from.id.clone())));
        }
        match outcome {
            Outcome::Completed => {
                self.settled = Some(Settled {
                    store: migration.to.id.clone(),
                    database: migration.to.address.as_ref().map_or(0, |address| address.db),
                    epoch: Some(migration.epoch),
                    binding: migration.to.binding(),
                    told: migration.told.clone(),
                });
                self.latch = None;
            }
            // Given up because the spec or a service changed: whatever is wanted now is planned anew.
            Outcome::Abandoned if migration.rollback.as_ref().is_none_or(Rollback::plans_anew) => {}
            Outcome::RolledBack | Outcome::Abandoned => {
                let (reason, message) = migration
                    .rollback
                    .as_ref()
                    .map_or_else(Default::default, |rollback| (rollback.reason.clone(), rollback.message.clone()));
                self.latch = Some(Latch { store: migration.to.id.clone(), reason, message, at: now });
            }
        }
    }
}

impl ServiceMove {
    /// A call that was refused may be made again. One of which it cannot be told whether it was made is never
    /// forgotten: from now on what the service shows decides.
    fn retry(&mut self, now: Timestamp) {
        self.refused = None;
        let moves = [&mut self.egress_moved, &mut self.forward, &mut self.back, &mut self.deployments_restored];
        for moved in moves.into_iter().filter_map(Option::as_mut) {
            moved.retried = Some(now);
        }
    }

    fn slot(&mut self, direction: Direction) -> &mut Option<Move> {
        match direction {
            Direction::Forward => &mut self.forward,
            Direction::Back => &mut self.back,
            Direction::Egress => &mut self.egress_moved,
            Direction::Restore => &mut self.deployments_restored,
        }
    }
}

impl Migration {
    /// What was found before a person said `retry` counts no more: checks are made again, and the bake begins anew.
    fn check_again(&mut self, now: Timestamp) {
        if self.baked.is_some() {
            return;
        }
        if self.drained.is_some() {
            self.drained = Some(now);
            self.validated = None;
        } else if self.sealed.is_some() {
            self.sealed = Some(now);
        }
    }

    fn apply(&mut self, entry: &Entry, now: Timestamp) {
        match entry {
            Entry::Baseline(results) => self.baseline = Some(room::baseline(results)),
            Entry::Approve(id, gate) if *id == self.id => {
                self.approved.insert(*gate);
            }
            Entry::Sealed => self.sealed = Some(now),
            Entry::Copied(copied) => self.copied = Some(*copied),
            Entry::Moving(direction, service, after) => {
                if let Some(moved) = self.services.iter_mut().find(|moved| moved.service == *service) {
                    *moved.slot(*direction) =
                        Some(Move { intended: now, after: after.clone(), operation: None, retried: None });
                }
            }
            Entry::Moved(direction, service, operation) => {
                let moved = self.services.iter_mut().find(|moved| moved.service == *service);
                if let Some(moved) = moved.and_then(|moved| moved.slot(*direction).as_mut()) {
                    moved.operation = Some(operation.clone());
                }
            }
            Entry::NotMoved(direction, service, refused) => {
                if let Some(moved) = self.services.iter_mut().find(|moved| moved.service == *service) {
                    *moved.slot(*direction) = None;
                    moved.refused = refused.as_deref().map(room::reason);
                }
            }
            Entry::Dropped(direction, service) => {
                if let Some(moved) = self.services.iter_mut().find(|moved| moved.service == *service) {
                    *moved.slot(*direction) = None;
                    moved.dropped = true;
                }
            }
            Entry::Drained => match self.rollback.as_mut() {
                Some(rollback) => rollback.drained = Some(now),
                None => self.drained = Some(now),
            },
            Entry::Validated(results) => {
                self.validated = Some(now);
                self.checks = room::last(results);
            }
            Entry::EgressValidated(results) => {
                self.egress_validated = Some(now);
                self.checks = room::last(results);
            }
            Entry::Baked(results) => {
                self.baked = Some(now);
                self.checks = room::last(results);
            }
            Entry::BackValidated(results) => {
                if let Some(rollback) = self.rollback.as_mut() {
                    rollback.validated = Some(now);
                    self.checks = room::last(results);
                }
            }
            Entry::RollBack { reason, message } => {
                self.hold = None;
                // What was refused on the way there says nothing about the way back.
                self.services.iter_mut().for_each(|moved| moved.refused = None);
                self.rollback.get_or_insert(Rollback {
                    at: now,
                    reason: reason.clone(),
                    message: room::reason(message),
                    drained: None,
                    validated: None,
                });
            }
            Entry::Hold { reason, message } => {
                self.hold = Some(Hold { at: now, reason: reason.clone(), message: room::reason(message) });
            }
            Entry::Abort => {
                self.hold = None;
                self.services.iter_mut().for_each(|moved| moved.refused = None);
                self.rollback.get_or_insert(Rollback {
                    at: now,
                    reason: "Aborted".to_owned(),
                    message: "the migration was aborted by request".to_owned(),
                    drained: None,
                    validated: None,
                });
            }
            Entry::Approve(..)
            | Entry::Intend(_)
            | Entry::Made(..)
            | Entry::Gone(_)
            | Entry::Begin(_)
            | Entry::End(..)
            | Entry::Retry
            | Entry::Settle(_) => {}
        }
    }
}
