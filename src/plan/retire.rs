//! After a migration: remove what it left and what the spec names by id, as soon as nothing uses it.
//! One thing that is still in use does not keep the others.

use crate::desired::Target;
use crate::identity::{Arn, RuleId};
use crate::journal::{Entry, Outcome, Resource};
use crate::observed::{Bystander, Connector, Egress, Reading, Rule, Service};
use crate::step::Step;

use super::usage::{self, Need, Remedy, Users};
use super::{Draft, Phase};

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
        if self.unused(&format!("rule {id}"), &users, NAMED).is_none() {
            return false;
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
        if self.unused(&format!("connector {arn}"), &users, NAMED).is_none() {
            return false;
        }
        self.step(Step::DeleteConnector { arn: arn.clone() });
        false
    }

    /// The services, ours and others, whose egress goes through a connector. `None` where that could not be told.
    pub(super) fn users_of_connector(&mut self, arn: &Arn) -> Option<Users> {
        let through = |egress: &Egress| *egress == Egress::Vpc(arn.clone());
        let mut users = Users::default();
        for (name, _) in self.our_services()?.iter().filter(|(_, service)| through(&service.egress)) {
            users.weigh(name, Need::Yes);
        }
        for other in self.bystanders()?.iter().filter(|other| through(&other.egress)) {
            users.weigh(&other.name, Need::Yes);
        }
        Some(users)
    }

    /// Who needs a rule: of our services those that reach a store of its group through its source; of the others
    /// everybody who comes from its source.
    pub(super) fn users_of_rule(&mut self, rule: &Rule) -> Option<Users> {
        let observed = self.inputs.observed;
        // A connector that could not be read may be the one the rule is for.
        let through = |egress: &Egress| match egress {
            Egress::Vpc(arn) => {
                let connector = observed.connectors.get(arn).and_then(Reading::present);
                connector.is_none_or(|connector| admits(rule, connector))
            }
            Egress::Default => false,
        };
        let mut users = Users::default();
        for (name, service) in self.our_services()?.into_iter().filter(|(_, service)| through(&service.egress)) {
            users.weigh(&name, usage::of_group(self.inputs, service.into(), &rule.group));
        }
        for other in self.bystanders()?.iter().filter(|other| through(&other.egress)) {
            users.weigh(&other.name, Need::Yes);
        }
        Some(users)
    }

    pub(super) fn our_services(&mut self) -> Option<Vec<(String, &'a Service)>> {
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

    /// The other services of the account. `None` where they could not be read; the draft says so.
    pub(super) fn bystanders(&mut self) -> Option<&'a [Bystander]> {
        let reading = &self.inputs.observed.bystanders;
        let Some(bystanders) = reading.present() else {
            self.unread(reading, "the other services of the account");
            return None;
        };
        Some(bystanders)
    }
}

/// What to do about something that the spec names and somebody uses.
const NAMED: Remedy = Remedy {
    used: "take it out of spec.migration.retire.alsoRemove, or let go of it there first",
    untold: "take it out of spec.migration.retire.alsoRemove",
};

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
