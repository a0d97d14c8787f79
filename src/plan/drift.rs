//! At rest: what is not as it was left, or not as the spec asks for. What a migration from the store to itself puts right
//! is put right; what only a person can is said, as a block where a service cannot reach its sessions.

use std::collections::BTreeSet;

use crate::desired::{EgressPolicy, StoreSpec, Target};
use crate::env;
use crate::identity::{Address, SecretName};
use crate::journal::Resource;
use crate::observed::{Delivery, Egress, Placement, Reading, Store};

use super::settle::Using;
use super::wiring::Wires;
use super::{Draft, Reason};

impl<'a> Draft<'a> {
    /// Whether the egress of a service is certainly not what the spec asks for. Of a connector we were to make any of ours
    /// will do: their names go by the place of the service in the list.
    pub(super) fn asks_for_another_egress(&self, using: &Using<'_>) -> bool {
        let now = &using.service.egress;
        match (&using.spec.egress, now) {
            (EgressPolicy::Keep, _) => false,
            (EgressPolicy::Default, now) => *now != Egress::Default,
            (EgressPolicy::Connector(asked), now) => *now != Egress::Vpc(asked.clone()),
            (EgressPolicy::CreateConnector { .. }, Egress::Default) => true,
            (EgressPolicy::CreateConnector { .. }, Egress::Vpc(arn)) => {
                let connector = self.inputs.observed.connectors.get(arn).and_then(Reading::present);
                connector.is_some_and(|connector| connector.ours == Some(false))
            }
        }
    }

    /// The secrets of ours that services refer to and that are deleted, or going to be: the instances that run know the
    /// value, the next deployment fails.
    pub(super) fn lost_secrets(&self, target: &Target, services: &[Using<'_>]) -> BTreeSet<SecretName> {
        let names = env::names(&target.env.format);
        let told = services.iter().flat_map(|using| names.iter().filter_map(|name| using.service.variables.get(name)));
        let secrets = told.filter_map(|variable| match &variable.delivery {
            Delivery::Reference(arn) => arn.secret_name(),
            Delivery::Plain => None,
        });
        let is_lost = |name: &SecretName| match self.inputs.observed.secrets.get(name) {
            Some(Reading::Absent) => true,
            Some(Reading::Present(found)) => found.deletion.is_some(),
            Some(Reading::Unknown(_) | Reading::Hidden(_)) | None => false,
        };
        let is_ours = |name: &SecretName| self.inputs.journal.made.contains_key(&Resource::Secret(name.clone()));
        secrets.filter(|name| is_ours(name) && is_lost(name)).collect()
    }

    /// A service with public egress whose store is inside a VPC: whoever took its connector away cut it off.
    fn say_who_is_cut_off(&mut self, services: &[Using<'a>], store: &Store, is_ours: bool) {
        let Placement::Vpc { vpc, .. } = &store.placement else { return };
        for using in services.iter().filter(|using| using.service.egress == Egress::Default) {
            let place = if vpc.is_empty() { "a VPC" } else { vpc };
            let remedy = if is_ours {
                "attach a VPC connector to the service again, or set egress.type: VPC for it, with vpcConnector"
            } else {
                "attach a VPC connector to the service; its variables are not ours, so its egress stays as it is found"
            };
            self.block(
                Reason::Unreachable,
                format!("service {}", using.spec.name),
                format!(
                    "its egress is public and {} is inside {place}: without a VPC connector it does not reach its sessions",
                    store.id
                ),
                remedy,
            );
        }
    }

    /// The store in use was deleted: nothing can be copied from it, and that is for a person to say.
    pub(super) fn says_that_it_is_lost(&mut self, source: &Store) -> bool {
        let host = |address: &Option<Address>| address.as_ref().map(|address| address.host.clone());
        let last = self.inputs.journal.migration.as_ref().map(|last| &last.to);
        let Some(lost) = last.filter(|to| to.address.is_some() && host(&to.address) == host(&source.address)) else {
            return false;
        };
        if !self.inputs.observed.is_missing(&lost.id) {
            return false;
        }
        self.block(
            Reason::StoreGone,
            "the store in use",
            format!("{} was deleted behind our back, and its sessions with it: nothing can be copied", lost.id),
            "restore it, or go on without its sessions: set spec.migration.from: { disabled: {} }",
        );
        true
    }

    /// What differs from the spec and is not corrected at rest.
    pub(super) fn say_what_drifted(&mut self, target: &Target, services: &[Using<'a>], store: &Store) {
        let journal = self.inputs.journal;
        if let Some(migration) = &journal.migration
            && let Some(settled) = &journal.settled
            && let Some(epoch) = settled.epoch
            && migration.to.id == settled.store
        {
            let wires = Wires { owner: self.inputs.owner, target, observed: self.inputs.observed };
            for using in services {
                if !wires.is_told(using.service, &wires.wiring(using.service, &migration.to, epoch), &migration.to) {
                    self.note(format!(
                        "service {}: its variables lead to the right store but are not as we wrote them",
                        using.spec.name
                    ));
                }
            }
        }
        let is_ours = journal.settled.as_ref().is_some_and(|settled| settled.epoch.is_some());
        self.say_who_is_cut_off(services, store, is_ours);
        for using in services {
            if !is_ours && self.asks_for_another_egress(using) {
                self.note(format!(
                    "service {}: its egress is not what spec.services asks for, and its variables are not ours; change it on the service, or together with the store",
                    using.spec.name
                ));
            }
        }
        if let StoreSpec::Upstash { plan: Some(asked), .. } = &target.store
            && let Some(is) = store.plan.as_ref().filter(|is| *is != asked)
        {
            self.note(format!(
                "{} is on plan {is} and the spec asks for {asked}; this version does not change plans, change it in the console",
                store.id
            ));
        }
    }
}
