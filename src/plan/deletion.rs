//! The object is being deleted. Never edits a service's variables or egress; needs no valid spec.

use std::time::Duration;

use crate::desired::DeletionPolicy;
use crate::error::{Class, CloudError};
use crate::identity::{Arn, Owner, RuleId, StoreId, Vendor};
use crate::journal::{Direction, Entry, Made, Migration, Outcome, Resource};
use crate::observed::{Observed, Reading, StoreStatus};
use crate::step::{CopyMode, Step};

use super::lost::{LISTED, Lost};
use super::moves::{Standing, standing};
use super::retire::order;
use super::usage::{self, Remedy, Users};
use super::wiring::{carries, leads_to_new};
use super::{Awaited, Draft, Late, Phase, Reason, Wait, after};

/// How long ElastiCache may take to make, change or delete a replication group.
const BUSY_LIMIT: Duration = Duration::from_hours(1);

impl<'a> Draft<'a> {
    /// Releases our claims; with `Delete` also removes what we made and nothing references.
    pub(super) fn deletion(&mut self, policy: DeletionPolicy) {
        self.phase(Phase::Deleting);
        if let Some(migration) = self.inputs.journal.open_migration() {
            return self.deletion_in_migration(migration);
        }
        if !self.retire_leftovers() {
            return;
        }
        if policy == DeletionPolicy::Retain {
            for resource in self.inputs.journal.made.keys() {
                self.note(format!("left as it is: {}", String::from(resource.clone())));
            }
        }
        for (service, reading) in &self.inputs.observed.claims {
            match reading {
                Reading::Present(claims) => {
                    let ours = self.inputs.owner.path();
                    if claims.holders.values().any(|holder| *holder == ours) {
                        self.step(Step::Release { service: service.clone(), expect: claims.sequence });
                    }
                }
                Reading::Absent => {}
                Reading::Unknown(_) | Reading::Hidden(_) => {
                    self.unread(reading, &format!("the claims on service {service}"));
                }
            }
        }
        if let Some(error) = &self.inputs.observed.unsearched_claims {
            self.unread(&Reading::<()>::Unknown(error.clone()), "the list of claims");
        }
        if !self.plan.is_converged() {
            return;
        }
        match policy {
            DeletionPolicy::Retain => {}
            DeletionPolicy::Delete => self.delete_what_we_made(),
        }
        if self.plan.is_converged() {
            self.phase(Phase::Deleted);
        }
    }

    /// Before the switch our traces are removed; after it nothing is touched, both stores are kept, and kept in step.
    fn deletion_in_migration(&mut self, migration: &'a Migration) {
        if !self.is_known_what_was_called(migration) {
            return;
        }
        match self.was_told(migration) {
            Some(true) => {}
            Some(false) => return self.abandon(migration),
            None => return,
        }
        // After the bake only book-keeping was left to do.
        if migration.baked.is_some() {
            for moved in migration.services.iter().filter(|moved| moved.undo.auto_deployments) {
                if self.service(&moved.service).is_some_and(|service| !service.auto_deployments) {
                    self.note(format!(
                        "service {}: automatic deployments were on before the migration and are off now",
                        moved.service
                    ));
                }
            }
            if self.copy_cleared(migration, CopyMode::Clear { gone: None }) {
                let secrets = self.former_secrets(migration);
                self.journal(Entry::End(Outcome::Completed, secrets));
            }
            return;
        }
        if migration.copies && migration.sealed.is_some() {
            self.copier(migration, CopyMode::BothWays);
        }
        let from = migration.from.as_ref().map_or("its former wiring".into(), |from| from.id.to_string());
        let each: Vec<_> = migration
            .services
            .iter()
            .map(|moved| match self.service(&moved.service) {
                Some(service) if leads_to_new(service, moved, migration, self.inputs.owner) => {
                    format!("{} is on {}", moved.service, migration.to.id)
                }
                Some(_) => format!("{} is on {from}", moved.service),
                None => format!("where {} is could not be read", moved.service),
            })
            .collect();
        self.block(
            Reason::DeletionFrozen,
            format!("migration {}", migration.id),
            format!("a migration is under way and neither store is touched: {}", each.join("; ")),
            "let the migration end first: apply the same manifest again, which goes on from the journal, and delete when it has ended; in a cluster let this object go before that, by the annotation sessionbackend.dev/abandon: \"true\". Or leave everything as it is: without a cluster run nothing any more, in one set that annotation",
        );
    }

    /// Whether every call that was announced is known to have been made or not.
    fn is_known_what_was_called(&mut self, migration: &Migration) -> bool {
        for moved in &migration.services {
            for direction in [Direction::Egress, Direction::Forward] {
                let Some(begun) = moved.moved(direction).filter(|begun| begun.operation.is_none()) else { continue };
                let Some(service) = self.service(&moved.service) else { continue };
                let carries = carries(service, &moved.undo, direction);
                match standing(service, begun, carries, self.inputs.now) {
                    Standing::NotMade => {
                        self.journal(Entry::NotMoved(direction, moved.service.clone(), None));
                        return false;
                    }
                    Standing::Overtaken => {
                        self.journal(Entry::Dropped(direction, moved.service.clone()));
                        return false;
                    }
                    Standing::Recognised(id) => {
                        self.journal(Entry::Moved(direction, moved.service.clone(), id));
                        return false;
                    }
                    Standing::Unlisted => {
                        self.kept_in_step(migration);
                        self.await_listing(direction, &moved.service, begun.intended);
                        return false;
                    }
                    Standing::Running(_) | Standing::Succeeded(_) | Standing::Failed(_) | Standing::Unclear(_) => {}
                }
            }
        }
        true
    }

    fn delete_what_we_made(&mut self) {
        let mut made: Vec<_> = self.inputs.journal.made.keys().collect();
        made.sort_by_key(|resource| order(resource));
        let mut gone = None;
        for resource in made {
            let blocks = self.plan.blocks.len();
            match self.removal(resource) {
                Some(step) => return self.step(step),
                None if self.plan.blocks.len() > blocks => {}
                None if !self.plan.waits.is_empty() => return,
                None => gone = gone.or(Some(resource)),
            }
        }
        if let Some(resource) = gone {
            return self.journal(Entry::Gone(resource.clone()));
        }
        if !self.inputs.journal.made.is_empty() || self.inputs.journal.sequence == 0 {
            return;
        }
        // What a migration left and somebody else has come to use: without the journal nobody would know that it is ours.
        for resource in &self.inputs.journal.leftovers {
            self.removal(resource);
        }
        if self.inputs.journal.leftovers.is_empty() {
            self.delete_the_journal();
        }
    }

    /// The last step: from then on there is nothing of ours, and nothing to say about it. A writer that comes after all
    /// finds the journal in its recovery window and restores it.
    fn delete_the_journal(&mut self) {
        for (service, reading) in &self.inputs.observed.claims {
            if reading.present().is_some_and(|claims| claims.holders.is_empty()) {
                self.note(format!(
                    "secret {} stays, without a claim in it: whoever writes the variables of {service} next uses it",
                    Owner::claims_secret(service)
                ));
            }
        }
        self.step(Step::DeleteSecret { name: self.inputs.owner.journal_secret() });
    }

    /// The step that removes something of ours; nothing where it is gone already, or where the draft says why it stays.
    pub(super) fn removal(&mut self, resource: &Resource) -> Option<Step> {
        let observed = self.inputs.observed;
        let made = self.inputs.journal.made.get(resource);
        if let Some(made) = made.filter(|made| made.id.is_none() && !matches!(resource, Resource::Secret(_))) {
            return self.recognition(resource, made);
        }
        let id = made.and_then(|made| made.id.clone());
        match resource {
            Resource::Secret(name) => {
                let reading = observed.secrets.get(name).unwrap_or(&Reading::Absent);
                let secret = self.still_there(reading, &format!("secret {name}"))?;
                if secret.deletion.is_some() {
                    return None;
                }
                let mut users = Users::default();
                for (service, user) in self.all_users()? {
                    users.weigh(&service, usage::of_secret(user, name, Some(&secret.arn)));
                }
                self.unused(&format!("secret {name}"), &users, OURS)?;
                Some(Step::DeleteSecret { name: name.clone() })
            }
            Resource::Connector(name) => {
                // One that is not ours is left over by its ARN.
                let arn = &Arn(id.unwrap_or_else(|| name.clone()));
                let reading = observed.connectors.get(arn).unwrap_or(&Reading::Absent);
                self.still_there(reading, &format!("connector {name}"))?;
                let users = self.users_of_connector(arn)?;
                self.unused(&format!("connector {name}"), &users, OURS)?;
                Some(Step::DeleteConnector { arn: arn.clone() })
            }
            Resource::Rule(rule) => {
                let id = RuleId(id.unwrap_or_else(|| rule.clone()));
                let reading = observed.rules.get(&id).unwrap_or(&Reading::Absent);
                let rule = self.still_there(reading, &format!("rule {id}"))?;
                let users = self.users_of_rule(rule)?;
                self.unused(&format!("rule {id}"), &users, OURS)?;
                Some(Step::RevokeIngress { group: rule.group.clone(), rule: id })
            }
            Resource::UpstashDatabase(name) => {
                let store = self.store_to_go(resource, id.map(StoreId::Upstash))?;
                self.unused_store(&store, name)?;
                let StoreId::Upstash(id) = store else { return None };
                Some(Step::DeleteUpstashDatabase { id, name: name.clone() })
            }
            Resource::ReplicationGroup(id) => {
                let store = self.store_to_go(resource, made.map(|_| StoreId::ReplicationGroup(id.clone())))?;
                if self.is_busy(&store) {
                    return None;
                }
                self.unused_store(&store, id)?;
                Some(Step::DeleteReplicationGroup { id: id.clone() })
            }
            // Nothing observes subnet groups: the call itself says that it is gone.
            Resource::SubnetGroup(name) => {
                let group = StoreId::ReplicationGroup(self.inputs.owner.short_name("cache"));
                if observed.catalog.iter().any(|entry| entry.id == group) {
                    let what = format!("cache subnet group {name}");
                    self.block(Reason::InUse, what, format!("{group} is still in it"), "it goes when that has gone");
                    return None;
                }
                Some(Step::DeleteSubnetGroup { name: name.clone() })
            }
        }
    }

    /// What was made in a call whose reply was lost is written down, and removed by its id then. Nothing where it is
    /// certain that there is nothing of ours.
    fn recognition(&mut self, resource: &Resource, made: &Made) -> Option<Step> {
        match self.lost(resource, made)? {
            Lost::Found(id) => {
                let entry = Entry::Made(resource.clone(), id.to_owned());
                Some(Step::Journal { expect: self.inputs.journal.sequence, entry })
            }
            Lost::Foreign(_) | Lost::Nothing => {
                if self.inputs.now < after(made.intended, LISTED) {
                    self.unlisted(resource, made.intended);
                }
                None
            }
        }
    }

    /// The store that may go: one that was let go, or (`made`) one of ours. Where neither is written down nothing is said to
    /// be gone: it stays.
    fn store_to_go(&mut self, resource: &Resource, made: Option<StoreId>) -> Option<StoreId> {
        let store = self.inputs.journal.let_go.get(resource).cloned().or(made);
        if store.is_none() {
            self.block(
                Reason::Unclear,
                String::from(resource.clone()),
                "that it may go is not written down",
                "remove it by hand once no service needs it",
            );
        }
        store
    }

    /// Whether a store cannot be deleted now, or is being deleted already: that is waited for, and not asked for again.
    fn is_busy(&mut self, store: &StoreId) -> bool {
        let (what, on, since) = match self.inputs.observed.busy.get(store) {
            Some((StoreStatus::Deleting, since)) => ("deleted", Awaited::Missing(format!("store {store}")), since),
            Some((StoreStatus::Creating, since)) => ("created", Awaited::Store, since),
            Some((StoreStatus::Modifying, since)) => ("changed", Awaited::Store, since),
            Some((StoreStatus::Available | StoreStatus::Failed(_), _)) | None => return false,
        };
        let late = Late {
            reason: Reason::TimedOut,
            subject: &store.to_string(),
            remedy: "look at it in the ElastiCache console; ask AWS support where it shows nothing",
        };
        self.wait_until(on, *since, BUSY_LIMIT, format!("{store} is being {what}"), late);
        true
    }

    fn still_there<T>(&mut self, reading: &'a Reading<T>, what: &str) -> Option<&'a T> {
        match reading {
            Reading::Present(value) => Some(value),
            Reading::Absent => None,
            Reading::Unknown(_) | Reading::Hidden(_) => {
                self.unread(reading, what);
                None
            }
        }
    }

    /// Whether the store exists. What a list lacks is looked for once more before it is written off; what could not be
    /// read of it, or of the list, the draft says.
    fn exists(&mut self, id: &StoreId, name: &str) -> bool {
        let observed = self.inputs.observed;
        if observed.catalog.iter().any(|entry| entry.id == *id) {
            return true;
        }
        if let Some((vendor, error)) = id.vendor().and_then(|vendor| observed.unlisted.get_key_value(&vendor)) {
            self.list_unread(*vendor, error, name);
            return false;
        }
        for reading in [&observed.target, &observed.source] {
            match reading {
                // Found by itself.
                Reading::Present(store) if store.id == *id => return true,
                Reading::Unknown(_) | Reading::Hidden(_) => {
                    self.unread(reading, &format!("store {name}, which is not listed,"));
                    return false;
                }
                Reading::Present(_) | Reading::Absent => {}
            }
        }
        let since = observed.missed.get(id).copied().unwrap_or(self.inputs.now);
        let certain = Observed::certain(since);
        if self.inputs.now < certain {
            self.wait(Wait {
                on: Awaited::Missing(format!("store {name}")),
                since,
                expected: Some(certain),
                deadline: None,
                message: format!("store {name} is not listed; it is looked for once more before it is taken for gone"),
            });
        }
        false
    }

    /// What is missing in a list that could not be read may be there.
    fn list_unread(&mut self, vendor: Vendor, error: &CloudError, name: &str) {
        match (vendor, error.class) {
            (Vendor::Upstash, Class::Credentials) => self.block(
                Reason::CredentialsInvalid,
                format!("Upstash database {name}"),
                format!("whether it is still there could not be read: {error}"),
                "name a Secret with the account's email and apiKey in spec.store.upstash.apiKeySecretRef or, where spec.store is another store, in spec.migration.from.upstash.apiKeySecretRef",
            ),
            (Vendor::Upstash | Vendor::ElastiCache, _) => {
                self.unread(&Reading::<()>::Unknown(error.clone()), "the list of stores");
            }
        }
    }

    /// `Some` where the store still exists and no service of the account needs it.
    fn unused_store(&mut self, id: &StoreId, name: &str) -> Option<()> {
        if !self.exists(id, name) {
            return None;
        }
        let mut users = Users::default();
        for (service, user) in self.all_users()? {
            users.weigh(&service, usage::of_store(self.inputs, user, id));
        }
        self.unused(&format!("store {name}"), &users, OURS)
    }
}

/// What to do about something of ours that somebody uses.
const OURS: Remedy = Remedy {
    used: "point the service elsewhere, or use deletionPolicy: Retain",
    untold: "use deletionPolicy: Retain and remove it by hand once no service needs it",
};
