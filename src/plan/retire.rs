//! After a migration: remove what it left and what the spec names by id, as soon as nothing uses it.

use crate::desired::Target;
use crate::identity::Arn;
use crate::journal::{Entry, Resource};
use crate::observed::{Egress, Reading};
use crate::step::Step;

use super::{Awaited, Draft, Phase, Reason, Wait};

impl<'a> Draft<'a> {
    /// Removes leftovers one by one; what is gone is written down.
    pub(super) fn retire(&mut self, target: &Target) {
        for resource in &self.inputs.journal.leftovers {
            if !self.retire_leftover(resource) {
                return self.phase(Phase::Retiring);
            }
        }
        let completed = self.inputs.journal.migration.as_ref().is_some_and(|migration| {
            migration.ended.as_ref().is_some_and(|ended| ended.outcome == crate::journal::Outcome::Completed)
        });
        // An id in the spec is consent to remove the thing after a migration, not before one.
        if !completed {
            return;
        }
        for rule in &target.migration.retire.rules {
            if !self.retire_rule(rule) {
                return self.phase(Phase::Retiring);
            }
        }
        for arn in &target.migration.retire.connectors {
            if !self.retire_connector(arn) {
                return self.phase(Phase::Retiring);
            }
        }
    }

    fn retire_leftover(&mut self, resource: &Resource) -> bool {
        let Resource::Secret(name) = resource else { return true };
        match self.inputs.observed.secrets.get(name) {
            Some(Reading::Present(secret)) if secret.deletion.is_none() => {
                self.step(Step::DeleteSecret { name: name.clone() });
                false
            }
            Some(Reading::Present(_) | Reading::Absent) => {
                self.journal(Entry::Gone(resource.clone()));
                false
            }
            Some(other) => {
                self.unread(other, &format!("secret {name}"));
                false
            }
            None => {
                self.unread::<()>(&Reading::Absent, &format!("secret {name}"));
                false
            }
        }
    }

    fn retire_rule(&mut self, id: &crate::identity::RuleId) -> bool {
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
        let Some(users) = self.users(|arn| {
            let connector = self.inputs.observed.connectors.get(arn).and_then(Reading::present);
            // A connector that could not be read may be the one the rule is for.
            connector
                .is_none_or(|connector| rule.source.as_ref().is_none_or(|source| connector.groups.contains(source)))
        }) else {
            return self.users_unread();
        };
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
        let Some(users) = self.users(|used| used == arn) else { return self.users_unread() };
        if !users.is_empty() {
            return self.in_use(&format!("connector {arn}"), &users);
        }
        self.step(Step::DeleteConnector { arn: arn.clone() });
        false
    }

    /// The services, ours and others, whose egress goes through a connector that `counts`.
    fn users(&self, counts: impl Fn(&Arn) -> bool) -> Option<Vec<String>> {
        let bystanders = self.inputs.observed.bystanders.present()?;
        let mut users = Vec::new();
        for (name, reading) in &self.inputs.observed.services {
            match reading {
                Reading::Present(service) => users.push((name.clone(), &service.egress)),
                Reading::Absent => {}
                Reading::Unknown(_) | Reading::Hidden(_) => return None,
            }
        }
        users.extend(bystanders.iter().map(|other| (other.name.clone(), &other.egress)));
        let through = |egress: &Egress| matches!(egress, Egress::Vpc(arn) if counts(arn));
        Some(users.into_iter().filter(|(_, egress)| through(egress)).map(|(name, _)| name).collect())
    }

    fn users_unread(&mut self) -> bool {
        self.unread(&self.inputs.observed.bystanders, "the other services of the account");
        false
    }

    fn in_use(&mut self, what: &str, users: &[String]) -> bool {
        self.wait(Wait {
            on: Awaited::Unused(what.to_owned()),
            since: self.inputs.now,
            expected: None,
            deadline: None,
            message: format!("{what} is still used by {}; {}", users.join(", "), Reason::InUse.remedy()),
        });
        false
    }
}
