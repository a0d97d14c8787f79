//! No migration is under way: see whether the services use the store of the spec, and if not, make everything ready
//! for one and begin it. Everything that could stop it is said before the first thing is made.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::{ServiceRef, Target};
use crate::env;
use crate::identity::{MigrationId, StoreId};
use crate::journal::{
    EgressChange, Entry, Latch, Migration, Outcome, Prior, ServiceMove, Settled, StoreRecord, Undo, VaultKey,
};
use crate::observed::{CatalogEntry, Delivery, Reading, Service, ServiceStatus, Store};
use crate::serving::{Serving, identify, serving, told_by_name};
use crate::step::Step;

use super::provision::asks_for;
use super::wiring::Wires;
use super::{Draft, Phase, Reason};

/// A service of the spec with what it uses now.
pub(super) struct Using<'a> {
    pub(super) spec: &'a ServiceRef,
    pub(super) service: &'a Service,
    pub(super) serving: Serving,
}

impl Using<'_> {
    /// Whether it uses `store`: the same one, and the same database of it.
    fn uses(&self, store: &Store) -> bool {
        match &self.serving {
            Serving::Store(id, told) => {
                *id == store.id && store.address.as_ref().is_none_or(|address| address.db == told.db)
            }
            Serving::Nothing => store.id == StoreId::Disabled,
            Serving::Unseen(_) => false,
        }
    }

    /// Whether its variables hold another password than `store` has now.
    fn is_outdated(&self, target: &Target, store: &Store) -> bool {
        let names = env::names(&target.env.format);
        let mut told = names.iter().filter_map(|name| self.service.variables.get(name)?.password.as_ref());
        store.credential.as_ref().is_some_and(|now| told.any(|told| told != now))
    }
}

impl<'a> Draft<'a> {
    /// Brings the object to rest, or begins a migration.
    pub(super) fn settle(&mut self, target: &'a Target) {
        if self.says_what_the_journal_forgot() {
            return;
        }
        let Some(services) = self.services(target) else { return };
        if let Some(latch) = &self.inputs.journal.latch
            && self.is_latched(target, latch)
            && !self.is_taken_back(target, &services)
        {
            return self.latched(latch);
        }
        if let Some(store) = self.inputs.observed.target.present()
            && services.iter().all(|using| using.uses(store))
        {
            return self.rest(target, &services, store);
        }
        self.leave(target, &services);
    }

    /// The services use another store than the spec's, or another password: a migration, if nothing stops it.
    fn leave(&mut self, target: &'a Target, services: &[Using<'a>]) {
        for using in services {
            if let (Serving::Unseen(why), None) = (&using.serving, &target.migration.from) {
                self.block(
                    Reason::SourceUnknown,
                    format!("service {}", using.spec.name),
                    why.clone(),
                    "name the store in use in spec.migration.from",
                );
            }
        }
        self.say_what_the_store_stops(target);
        self.say_what_may_be_forgotten(target);
        self.say_what_stops_a_migration(target, services);
        if self.plan.blocks.is_empty() && self.plan.waits.is_empty() {
            self.prepare(target, services);
        }
    }

    /// The account's stores and, even where the list lacks them, the two that were looked up by themselves.
    pub(super) fn known_stores(&self) -> Vec<CatalogEntry> {
        let observed = self.inputs.observed;
        let looked_up = [&observed.target, &observed.source].into_iter().filter_map(Reading::present);
        let entries = looked_up.filter_map(|store| {
            let host = store.address.as_ref()?.host.clone();
            (!matches!(store.id, StoreId::External(..)))
                .then(|| CatalogEntry { id: store.id.clone(), hosts: vec![host] })
        });
        observed.catalog.iter().cloned().chain(entries).collect()
    }

    fn services(&mut self, target: &'a Target) -> Option<Vec<Using<'a>>> {
        let names = env::names(&target.env.format);
        let catalog = self.known_stores();
        let last = self.inputs.journal.migration.as_ref();
        let mut found = Vec::new();
        for spec in &target.services {
            match self.inputs.observed.services.get(&spec.name) {
                Some(Reading::Present(service)) => {
                    let serving = match serving(service, &names, &catalog) {
                        Serving::Unseen(why) => match told_by_name(service, &names, self.inputs.owner, last) {
                            Some(address) => Serving::Store(identify(&address, &catalog), address),
                            None => Serving::Unseen(why),
                        },
                        known @ (Serving::Store(..) | Serving::Nothing) => known,
                    };
                    found.push(Using { spec, service, serving });
                }
                Some(Reading::Absent) => self.block(
                    Reason::ServiceNotFound,
                    format!("service {}", spec.name),
                    format!("App Runner has no service of that name in {}", self.inputs.owner.region),
                    Reason::ServiceNotFound.remedy(),
                ),
                Some(other) => self.unread(other, &format!("service {}", spec.name)),
                None => self.unread::<Service>(&Reading::Absent, &format!("service {}", spec.name)),
            }
        }
        (found.len() == target.services.len()).then_some(found)
    }

    fn is_latched(&self, target: &Target, latch: &Latch) -> bool {
        match &self.inputs.observed.target {
            Reading::Present(store) => store.id == latch.store,
            // It may have failed because it is gone; another name is another store.
            Reading::Absent => {
                self.inputs.journal.migration.as_ref().is_some_and(|last| {
                    last.to.id == latch.store && asks_for(&target.store, &last.to, self.inputs.owner)
                })
            }
            // What cannot be read might be the store that failed.
            Reading::Unknown(_) | Reading::Hidden(_) => true,
        }
    }

    /// Whether what failed was a change at the store that stays, and nobody asks for it any more: the services are seen as
    /// they were before it, and the spec wants nothing else.
    fn is_taken_back(&self, target: &Target, services: &[Using<'a>]) -> bool {
        let (journal, observed) = (self.inputs.journal, self.inputs.observed);
        let (Some(last), Some(settled), Reading::Present(store)) =
            (&journal.migration, &journal.settled, &observed.target)
        else {
            return false;
        };
        let wires = Wires { owner: self.inputs.owner, target, observed };
        let wanted = record(store, "to");
        last.stays()
            && settled.binding == wanted.binding()
            && settled.told == Some(wires.told_by(&wanted))
            && services.iter().all(|using| {
                let before = last.service(&using.spec.name).map(|moved| &moved.undo.egress);
                let as_before = before.is_none_or(|egress| *egress == using.service.egress);
                as_before && using.uses(store) && !self.asks_for_another_egress(using)
            })
    }

    /// Whether a deployment is under way before the first note is taken: its old instances may still use another store, and it
    /// may be taken back.
    fn is_being_told(&mut self, services: &[Using<'a>]) -> bool {
        let deployed = |using: &&Using<'a>| using.service.status == ServiceStatus::OperationInProgress;
        for using in services.iter().filter(deployed) {
            self.await_foreign(&using.spec.name, using.service);
        }
        services.iter().any(|using| deployed(&using))
    }

    fn latched(&mut self, latch: &Latch) {
        self.phase(Phase::RolledBack);
        if !self.retire_leftovers() {
            return;
        }
        let last = self.inputs.journal.migration.as_ref();
        let ended = last.and_then(|last| last.ended.as_ref());
        let given_up = ended.is_some_and(|ended| ended.outcome == Outcome::Abandoned);
        let stays = last.is_some_and(Migration::stays);
        let (reason, end) = match (given_up, stays) {
            (true, _) => (Reason::Aborted, "no service was switched"),
            (false, true) => (Reason::RolledBack, "the services are as they were"),
            (false, false) => (Reason::RolledBack, "the services are back on the former store"),
        };
        let mend = if latch.reason == Reason::Aborted.as_str() { "to try again" } else { "correct the cause, then" };
        let (subject, instead) = if stays {
            ("spec", "put back in the spec what asked for it (the egress, the form of the variables)")
        } else {
            ("spec.store", "name another store in spec.store")
        };
        self.block(
            reason,
            subject,
            format!("{}: {}; {end}", latch.reason, latch.message),
            format!("{mend}: sessionbackend retry -f FILE && sessionbackend apply -f FILE; or {instead}"),
        );
    }

    /// The services use the store of the spec: take note of it, hold the claims, remove what a migration left.
    fn rest(&mut self, target: &'a Target, services: &[Using<'a>], store: &'a Store) {
        self.phase(Phase::Ready);
        if !self.claims(target, services) {
            return;
        }
        self.say_how_it_fails(store);
        let journal = self.inputs.journal;
        let is_noted = journal.settled.as_ref().is_some_and(|settled| settled.store == store.id);
        if !is_noted && self.is_being_told(services) {
            return;
        }
        // A latch is about a change that was tried: nobody asks for it any more.
        if !is_noted || journal.latch.is_some() {
            let former = journal.settled.as_ref().filter(|settled| settled.store == store.id);
            let database = store.address.as_ref().map_or(0, |address| address.db);
            return self.journal(Entry::Settle(Settled {
                store: store.id.clone(),
                database,
                epoch: former.and_then(|settled| settled.epoch),
                binding: former.and_then(|settled| settled.binding.clone()),
                told: former.and_then(|settled| settled.told.clone()),
            }));
        }
        let ours = journal.settled.as_ref().and_then(|settled| settled.epoch);
        let outdated: Vec<_> = services.iter().filter(|using| using.is_outdated(target, store)).collect();
        if !outdated.is_empty() && ours.is_some() && self.plan.blocks.is_empty() {
            self.note(format!(
                "{} has another password than the services were told; they are told the new one",
                store.id
            ));
            return self.leave(target, services);
        }
        let wires = Wires { owner: self.inputs.owner, target, observed: self.inputs.observed };
        let settled = journal.settled.as_ref().and_then(|settled| settled.told.as_ref());
        let is_told_otherwise = settled.is_some_and(|told| *told != wires.told_by(&record(store, "to")));
        if is_told_otherwise && ours.is_some() && self.plan.blocks.is_empty() {
            self.note(
                "spec.env asks for another form of the variables than the services were told; they are told anew",
            );
            return self.leave(target, services);
        }
        let elsewhere: Vec<_> = services
            .iter()
            .filter(|using| self.asks_for_another_egress(using))
            .map(|using| using.spec.name.as_str())
            .collect();
        if !elsewhere.is_empty() && ours.is_some() && self.plan.blocks.is_empty() {
            self.note(format!(
                "spec.services asks for another egress of {}: a migration from {} to itself, with its checks, bake and way back",
                elsewhere.join(", "),
                store.id
            ));
            return self.leave(target, services);
        }
        let lost = self.lost_secrets(target, services);
        if let Some(secret) = lost.first()
            && ours.is_some()
            && self.plan.blocks.is_empty()
        {
            self.note(format!(
                "secret {secret}, by which services are told of {}, was deleted by somebody else; they are told by a new one",
                store.id
            ));
            return self.leave(target, services);
        }
        for using in outdated {
            self.note(format!(
                "service {}: it was told another password of {} than the one known here; its variables are not ours and stay",
                using.spec.name, store.id
            ));
        }
        self.say_what_drifted(target, services, store);
        self.retire(target);
    }

    /// Makes what is missing, then begins. Each part says what it does or waits for, and the next one starts when it is done.
    fn prepare(&mut self, target: &'a Target, services: &[Using<'a>]) {
        if !self.claims(target, services) {
            return;
        }
        self.phase(Phase::Provisioning);
        let Some(store) = self.store(target) else { return };
        if store.address.is_none() && store.id.is_redis() {
            return self.unread::<Store>(&Reading::Absent, "the address of the new store");
        }
        let Some(connectors) = self.connectors_of_ours(target) else { return };
        let Some(egress) = self.egress_changes(target, services, store, &connectors) else { return };
        if !self.rules(target, services, store, &egress) {
            return;
        }
        self.begin(target, services, store, egress);
    }

    fn claims(&mut self, target: &Target, services: &[Using<'a>]) -> bool {
        let ours = self.inputs.owner.path();
        let variables = env::names(&target.env.format);
        let mut held = true;
        let mut missing = Vec::new();
        for using in services {
            let name = &using.spec.name;
            let (holders, expect) = match self.inputs.observed.claims.get(name) {
                Some(Reading::Present(claims)) => (claims.holders.clone(), Some(claims.sequence)),
                Some(Reading::Absent) | None => (BTreeMap::new(), None),
                Some(unread @ (Reading::Unknown(_) | Reading::Hidden(_))) => {
                    self.unread(unread, &format!("the claims on service {name}"));
                    held = false;
                    continue;
                }
            };
            let other = variables.iter().find_map(|variable| {
                holders.get(variable).filter(|holder| **holder != ours).map(|holder| (variable, holder))
            });
            if let Some((variable, holder)) = other {
                self.block(
                    Reason::Claimed,
                    format!("service {name}"),
                    format!("variable {variable} is claimed by {holder}"),
                    Reason::Claimed.remedy(),
                );
                held = false;
            } else if !variables.iter().all(|variable| holders.contains_key(variable)) {
                missing.push(Step::Claim { service: name.clone(), variables: variables.clone(), expect });
            }
        }
        // One service that cannot be had stops all of them: nothing is claimed by halves.
        let complete = held && missing.is_empty();
        if held {
            self.plan.steps.append(&mut missing);
        }
        complete
    }

    fn begin(&mut self, target: &Target, services: &[Using<'a>], store: &Store, egress: Vec<EgressChange>) {
        let owner = self.inputs.owner;
        let epoch = self.inputs.journal.epoch.next();
        let from = match &self.inputs.observed.source {
            Reading::Present(source) => Some(record(source, "from")),
            Reading::Absent => None,
            other => return self.unread(other, "the store in use"),
        };
        let to = record(store, "to");
        let copies =
            to.id.is_redis() && from.as_ref().is_some_and(|from| from.id.is_redis() && from.place() != to.place());
        let wires = Wires { owner, target, observed: self.inputs.observed };
        let moves = services
            .iter()
            .zip(egress)
            .map(|(using, egress)| {
                let wiring = wires.wiring(using.service, &to, epoch);
                let names = wiring.set.keys().chain(&wiring.unset);
                let variables = names.map(|name| (name.clone(), prior(using, name))).collect();
                ServiceMove {
                    service: using.spec.name.clone(),
                    arn: using.service.arn.clone(),
                    undo: Undo {
                        variables,
                        egress: using.service.egress.clone(),
                        auto_deployments: using.service.auto_deployments,
                    },
                    egress,
                    egress_moved: None,
                    forward: None,
                    back: None,
                    deployments_restored: None,
                    refused: None,
                    dropped: false,
                }
            })
            .collect();
        let told = wires.told_by(&to);
        let migration = Migration {
            id: MigrationId::new(owner, epoch),
            epoch,
            from,
            to,
            copies,
            rules: target.migration.rules.clone(),
            attempt: 0,
            told: Some(told),
            copied: None,
            began: self.inputs.now,
            services: moves,
            baseline: None,
            checks: Vec::new(),
            approved: BTreeSet::new(),
            sealed: None,
            egress_validated: None,
            drained: None,
            validated: None,
            baked: None,
            rollback: None,
            hold: None,
            ended: None,
        };
        let lost = self.lost_secrets(target, services);
        if self.is_undone_again(target, services, &migration, &lost) {
            return;
        }
        let is_same = |last: &Migration| last.to.binding() == migration.to.binding() && last.told == migration.told;
        let changes_nothing = migration.stays() && !migration.moves_egress() && lost.is_empty();
        let last = self.inputs.journal.migration.as_ref().filter(|_| self.inputs.journal.is_a_revert(&migration));
        if changes_nothing && last.is_some_and(is_same) {
            return self.block(
                Reason::Unclear,
                "spec.store",
                format!("the services were told {} and still seem to use another store", migration.to.id),
                "look at the variables of the services, and at what else answers to the same host name",
            );
        }
        self.journal(Entry::Begin(Box::new(migration)));
    }
}

fn record(store: &Store, side: &str) -> StoreRecord {
    StoreRecord {
        id: store.id.clone(),
        name: store.name.clone(),
        address: store.address.clone(),
        placement: store.placement.clone(),
        credential: store.credential.clone(),
        password: store.credential.as_ref().map(|_| VaultKey(format!("{side}/password"))),
    }
}

fn prior(using: &Using<'_>, name: &str) -> Prior {
    match using.service.variables.get(name) {
        None => Prior::Absent,
        Some(variable) => match &variable.delivery {
            Delivery::Plain => {
                Prior::Plain(VaultKey(format!("undo/{}/{name}", using.spec.name)), variable.digest.clone())
            }
            Delivery::Reference(arn) => Prior::Reference(arn.clone()),
        },
    }
}
