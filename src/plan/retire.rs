//! After a migration: remove what it left and what the spec names by id, as soon as nothing uses it.
//! One thing that is still in use does not keep the others.

use crate::desired::Target;
use crate::identity::{Arn, GroupId, RuleId};
use crate::journal::{Entry, Outcome, Resource};
use crate::observed::{Connector, Delivery, Egress, Placement, Reading, Rule, Service, Variable};
use crate::serving::identify;
use crate::step::Step;

use super::{Draft, Phase, Reason};

impl<'a> Draft<'a> {
    /// Removes leftovers, then what the spec names; what is gone is written down.
    pub(super) fn retire(&mut self, target: &Target) {
        if !self.retire_leftovers() {
            return self.phase(Phase::Retiring);
        }
        let completed =
            self.inputs.journal.migration.as_ref().is_some_and(|migration| {
                migration.ended.as_ref().is_some_and(|ended| ended.outcome == Outcome::Completed)
            });
        // An id in the spec is consent to remove the thing after a migration, not before one.
        if !completed {
            return;
        }
        let mut retired = true;
        for rule in &target.migration.retire.rules {
            retired &= self.retire_rule(rule);
        }
        for arn in &target.migration.retire.connectors {
            retired &= self.retire_connector(arn);
        }
        if !retired {
            self.phase(Phase::Retiring);
        }
    }

    /// What a migration left, in the order in which the vendors let go.
    pub(super) fn retire_leftovers(&mut self) -> bool {
        let mut leftovers: Vec<_> = self.inputs.journal.leftovers.iter().collect();
        leftovers.sort_by_key(|resource| order(resource));
        for resource in leftovers {
            let blocks = self.plan.blocks.len();
            if let Some(step) = self.removal(resource) {
                self.step(step);
                return false;
            }
            if self.plan.blocks.len() > blocks {
                // Ours, no longer needed here, and somebody else came to use it: said, and left.
                for block in self.plan.blocks.split_off(blocks) {
                    self.note(format!("{} is no longer needed and stays: {}", block.subject, block.message));
                }
                continue;
            }
            if self.plan.waits.is_empty() {
                self.journal(Entry::Gone(resource.clone()));
            }
            return false;
        }
        true
    }

    fn retire_rule(&mut self, id: &RuleId) -> bool {
        let rule = match self.inputs.observed.rules.get(id) {
            Some(Reading::Present(rule)) => rule,
            Some(Reading::Absent) => return true,
            Some(other) => {
                self.unread(other, &format!("rule {id}"));
                return false;
            }
            None => {
                self.unread::<()>(&Reading::Absent, &format!("rule {id}"));
                return false;
            }
        };
        let Some(users) = self.users_of_rule(rule) else { return false };
        if !users.is_empty() {
            return self.in_use(&format!("rule {id}"), &users);
        }
        self.step(Step::RevokeIngress { group: rule.group.clone(), rule: id.clone() });
        false
    }

    fn retire_connector(&mut self, arn: &Arn) -> bool {
        match self.inputs.observed.connectors.get(arn) {
            Some(Reading::Present(_)) => {}
            Some(Reading::Absent) => return true,
            Some(other) => {
                self.unread(other, &format!("connector {arn}"));
                return false;
            }
            None => {
                self.unread::<()>(&Reading::Absent, &format!("connector {arn}"));
                return false;
            }
        }
        let Some(users) = self.users_of_connector(arn) else { return false };
        if !users.is_empty() {
            return self.in_use(&format!("connector {arn}"), &users);
        }
        self.step(Step::DeleteConnector { arn: arn.clone() });
        false
    }

    /// The services, ours and others, whose egress goes through a connector. `None` where that could not be told.
    pub(super) fn users_of_connector(&mut self, arn: &Arn) -> Option<Vec<String>> {
        let through = |egress: &Egress| *egress == Egress::Vpc(arn.clone());
        let others = self.bystanders_through(&through)?;
        let ours = self.our_services()?.into_iter().filter(|(_, service)| through(&service.egress));
        Some(ours.map(|(name, _)| name).chain(others).collect())
    }

    /// Who needs a rule: of our services those that reach a store of its group through its source; of the others, whose
    /// variables are not ours to read, everybody who comes from its source.
    pub(super) fn users_of_rule(&mut self, rule: &Rule) -> Option<Vec<String>> {
        let observed = self.inputs.observed;
        // A connector that could not be read may be the one the rule is for.
        let through = |egress: &Egress| match egress {
            Egress::Vpc(arn) => {
                let connector = observed.connectors.get(arn).and_then(Reading::present);
                connector.is_none_or(|connector| admits(rule, connector))
            }
            Egress::Default => false,
        };
        let others = self.bystanders_through(&through)?;
        let ours = self.our_services()?.into_iter().filter(|(_, service)| {
            through(&service.egress) && service.variables.values().any(|variable| self.is_behind(variable, &rule.group))
        });
        Some(ours.map(|(name, _)| name).chain(others).collect())
    }

    /// Whether a variable leads to a store of `group`; where it cannot be told, it does.
    fn is_behind(&self, variable: &Variable, group: &GroupId) -> bool {
        let Some(address) = &variable.address else { return false };
        let observed = self.inputs.observed;
        let id = identify(address, &self.known_stores());
        let known = [&observed.target, &observed.source].into_iter().filter_map(Reading::present);
        let placement = known.clone().find(|store| store.id == id).map(|store| &store.placement);
        match placement {
            Some(Placement::Vpc { groups, .. }) => groups.contains(group),
            Some(Placement::Public | Placement::Nowhere) => false,
            None => !matches!(variable.reach, crate::observed::Reach::Public),
        }
    }

    fn our_services(&mut self) -> Option<Vec<(String, &'a Service)>> {
        let mut services = Vec::new();
        for (name, reading) in &self.inputs.observed.services {
            match reading {
                Reading::Present(service) => services.push((name.clone(), service)),
                Reading::Absent => {}
                Reading::Unknown(_) | Reading::Hidden(_) => {
                    self.unread(reading, &format!("service {name}"));
                    return None;
                }
            }
        }
        Some(services)
    }

    fn bystanders_through(&mut self, through: &impl Fn(&Egress) -> bool) -> Option<Vec<String>> {
        let reading = &self.inputs.observed.bystanders;
        let Some(bystanders) = reading.present() else {
            self.unread(reading, "the other services of the account");
            return None;
        };
        Some(bystanders.iter().filter(|other| through(&other.egress)).map(|other| other.name.clone()).collect())
    }

    fn in_use(&mut self, what: &str, users: &[String]) -> bool {
        self.block(
            Reason::InUse,
            what,
            format!("it is still used by {}", users.join(", ")),
            "take it out of spec.migration.retire.alsoRemove, or let go of it there first",
        );
        false
    }
}

/// Rules before connectors, groups before their subnets: the vendors refuse the other order.
pub(super) fn order(resource: &Resource) -> u8 {
    match resource {
        Resource::Rule(_) => 0,
        Resource::Connector(_) => 1,
        Resource::ReplicationGroup(_) => 2,
        Resource::SubnetGroup(_) => 3,
        Resource::UpstashDatabase(_) => 4,
        Resource::Secret(_) => 5,
    }
}

/// Whether `rule` is for traffic of `connector`.
pub(super) fn admits(rule: &Rule, connector: &Connector) -> bool {
    rule.source.as_ref().is_none_or(|source| connector.groups.contains(source))
}

/// Whether a variable names a secret.
pub(super) fn names(variable: &Variable, secret: &Arn) -> bool {
    match &variable.delivery {
        Delivery::Reference(arn) => {
            arn == secret || arn.secret_name().is_some() && arn.secret_name() == secret.secret_name()
        }
        Delivery::Plain => false,
    }
}
