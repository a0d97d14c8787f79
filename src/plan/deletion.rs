//! The object is being deleted. Never edits a service's variables or egress; needs no valid spec.

use crate::desired::DeletionPolicy;
use crate::journal::{Entry, Migration, Outcome, Resource};
use crate::observed::{Egress, Reading};
use crate::step::Step;

use super::moves::any_moved;
use super::{Draft, Phase, Reason};

impl<'a> Draft<'a> {
    /// Releases our claims; with `Delete` also removes what we made and nothing references.
    pub(super) fn deletion(&mut self, policy: DeletionPolicy) {
        self.phase(Phase::Deleting);
        if let Some(migration) = self.inputs.journal.open_migration() {
            return self.deletion_in_migration(migration);
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
                    self.unread(reading, &format!("the claims on service {service}"))
                }
            }
        }
        if !self.plan.is_converged() {
            return;
        }
        match policy {
            DeletionPolicy::Retain => {
                for resource in self.inputs.journal.made.keys() {
                    self.note(format!("left as it is: {}", String::from(resource.clone())));
                }
            }
            DeletionPolicy::Delete => self.delete_what_we_made(),
        }
        if self.plan.is_converged() {
            self.phase(Phase::Deleted);
        }
    }

    /// Before the switch our traces are removed; after it nothing is touched and both stores are kept.
    fn deletion_in_migration(&mut self, migration: &Migration) {
        if any_moved(migration) {
            return self.block(
                Reason::DeletionFrozen,
                format!("migration {}", migration.id),
                format!(
                    "services may be on {} and on {}: neither is touched",
                    migration.to.id,
                    migration.from.as_ref().map_or("the former wiring".into(), |from| from.id.to_string())
                ),
                Reason::DeletionFrozen.remedy(),
            );
        }
        if self.copy_cleared(migration) {
            self.journal(Entry::End(Outcome::Abandoned, Default::default()));
        }
    }

    fn delete_what_we_made(&mut self) {
        // Rules before connectors, groups before their subnets: the vendors refuse the other order.
        let order = |resource: &Resource| match resource {
            Resource::Rule(_) => 0,
            Resource::Connector(_) => 1,
            Resource::ReplicationGroup(_) => 2,
            Resource::SubnetGroup(_) => 3,
            Resource::UpstashDatabase(_) => 4,
            Resource::Secret(_) => 5,
        };
        let mut made: Vec<_> = self.inputs.journal.made.iter().collect();
        made.sort_by_key(|(resource, _)| order(resource));
        for (resource, made) in made {
            match self.delete_one(resource, made.id.as_deref()) {
                Some(step) => return self.step(step),
                None if self.plan.is_converged() => return self.journal(Entry::Gone(resource.clone())),
                None => return,
            }
        }
    }

    /// The step that deletes `resource`; nothing where it is gone already, or where the draft says why it must stay.
    fn delete_one(&mut self, resource: &Resource, id: Option<&str>) -> Option<Step> {
        let observed = self.inputs.observed;
        match resource {
            Resource::Secret(name) => {
                let reading = observed.secrets.get(name).unwrap_or(&Reading::Absent);
                let secret = self.still_there(reading, &format!("secret {name}"))?;
                if secret.deletion.is_some() {
                    return None;
                }
                let used = |variable: &crate::observed::Variable| matches!(&variable.delivery, crate::observed::Delivery::Reference(arn) if *arn == secret.arn);
                let user = observed
                    .services
                    .iter()
                    .find(|(_, service)| service.present().is_some_and(|service| service.variables.values().any(used)));
                match user {
                    Some((user, _)) => self.kept(&format!("secret {name}"), user),
                    None => Some(Step::DeleteSecret { name: name.clone() }),
                }
            }
            Resource::Connector(name) => {
                let found = observed.connectors.iter().find(|(arn, reading)| {
                    Some(arn.0.as_str()) == id || reading.present().is_some_and(|connector| connector.name == *name)
                });
                let (arn, reading) = found?;
                self.still_there(reading, &format!("connector {name}"))?;
                let user = observed.services.iter().find(|(_, service)| {
                    service.present().is_some_and(|service| service.egress == Egress::Vpc(arn.clone()))
                });
                match user {
                    Some((user, _)) => self.kept(&format!("connector {name}"), user),
                    None => Some(Step::DeleteConnector { arn: arn.clone() }),
                }
            }
            Resource::Rule(_) => {
                let id = crate::identity::RuleId(id?.to_owned());
                let reading = observed.rules.get(&id).unwrap_or(&Reading::Absent);
                let rule = self.still_there(reading, &format!("rule {id}"))?;
                Some(Step::RevokeIngress { group: rule.group.clone(), rule: id })
            }
            Resource::UpstashDatabase(name) => {
                let id = id?.to_owned();
                self.store_unused(&crate::identity::StoreId::Upstash(id.clone()), name)?;
                Some(Step::DeleteUpstashDatabase { id, name: name.clone() })
            }
            Resource::ReplicationGroup(id) => {
                self.store_unused(&crate::identity::StoreId::ReplicationGroup(id.clone()), id)?;
                Some(Step::DeleteReplicationGroup { id: id.clone() })
            }
            Resource::SubnetGroup(name) => Some(Step::DeleteSubnetGroup { name: name.clone() }),
        }
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

    /// `Some` where the store still exists and no service points to it.
    fn store_unused(&mut self, id: &crate::identity::StoreId, name: &str) -> Option<()> {
        let observed = self.inputs.observed;
        let hosts = observed.catalog.iter().find(|entry| entry.id == *id).map(|entry| &entry.hosts)?;
        for (service, reading) in &observed.services {
            let Some(found) = reading.present() else {
                if !reading.is_absent() {
                    self.unread(reading, &format!("service {service}"));
                    return None;
                }
                continue;
            };
            let points = |variable: &crate::observed::Variable| {
                variable.address.as_ref().is_some_and(|address| hosts.contains(&address.host))
            };
            if found.variables.values().any(points) {
                self.kept(&format!("store {name}"), service);
                return None;
            }
        }
        Some(())
    }

    fn kept(&mut self, what: &str, user: &str) -> Option<Step> {
        self.block(
            Reason::InUse,
            what,
            format!("service {user} still uses it"),
            "point the service elsewhere, or use deletionPolicy: Retain",
        );
        None
    }
}
