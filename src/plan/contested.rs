//! Somebody takes back what is put right, again and again: who, when, and what would end it. Nothing is written then.

use std::collections::BTreeSet;

use crate::desired::Target;
use crate::identity::SecretName;
use crate::journal::{Migration, Prior};
use crate::observed::{Delivery, Operation, Service, ServiceSource};
use crate::step::Setting;

use super::settle::Using;
use super::wiring::{Wires, Wiring};
use super::{Draft, Reason};

impl<'a> Draft<'a> {
    /// What would be done has been undone before, once too often: who did it and when, as far as App Runner tells.
    /// Whether it is so.
    pub(super) fn is_undone_again(
        &mut self,
        target: &Target,
        services: &[Using<'a>],
        next: &Migration,
        lost: &BTreeSet<SecretName>,
    ) -> bool {
        let journal = self.inputs.journal;
        let Some(last) = journal.migration.as_ref().filter(|_| journal.reverts > 0 && journal.is_a_revert(next)) else {
            return false;
        };
        let egress = |of: &Migration| of.services.iter().map(|moved| moved.egress.clone()).collect::<Vec<_>>();
        let told = |of: &Migration| (of.to.binding(), of.told.clone());
        let (what, instead) = if !next.stays() {
            let wires = Wires { owner: self.inputs.owner, target, observed: self.inputs.observed };
            let each = services.iter().zip(&next.services).map(|(using, moved)| {
                let wiring = wires.wiring(using.service, &next.to, next.epoch);
                ignore_changes(using.service, moved.undo.variables.iter(), &wiring)
            });
            let each: BTreeSet<_> = each.collect();
            let instead = format!(
                "let it leave our variables alone{}, or name that store in spec.store",
                each.into_iter().collect::<String>()
            );
            ("pointed the services back to the former store", instead)
        } else if next.moves_egress() && egress(last) == egress(next) {
            let instead = "let it leave the egress alone, or set egress.type: Keep".to_owned();
            ("put the egress of the services back", instead)
        } else if !lost.is_empty() && !next.moves_egress() && told(last) == told(next) {
            let instead = "let it leave secrets whose names begin with sessionbackend/ alone".to_owned();
            ("deleted the secrets the services are told by", instead)
        } else {
            return false;
        };
        let by: Vec<_> = services.iter().filter_map(|using| last_touch(&using.spec.name, using.service)).collect();
        let by = if by.is_empty() || !lost.is_empty() { String::new() } else { format!(": {}", by.join("; ")) };
        self.block(
            Reason::Contested,
            "spec.services",
            format!("somebody {what} again and again after it had been put right{by}"),
            format!(
                "nothing is written any more; find out who does it (a pipeline, Terraform; CloudTrail names the caller) and {instead}; then say `retry`"
            ),
        );
        true
    }
}

/// The newest operation on a service, which at rest is nobody's but theirs.
fn last_touch(name: &str, service: &Service) -> Option<String> {
    let Operation { id, started, ended, .. } = service.operations.first()?;
    let when = ended.or(*started).map_or_else(String::new, |at| format!(" of {}", crate::render::moment(at)));
    Some(format!("operation {id} on {name}{when} is not ours"))
}

/// What Terraform needs to leave our variables alone, wherever they were, are and are to be.
pub(super) fn ignore_changes<'p>(
    service: &Service,
    priors: impl Iterator<Item = (&'p String, &'p Prior)>,
    wiring: &Wiring,
) -> String {
    let place = match service.source {
        ServiceSource::Image => "image_repository[0].image_configuration[0]",
        ServiceSource::CodeApi | ServiceSource::CodeRepository => {
            "code_repository[0].code_configuration[0].code_configuration_values[0]"
        }
    };
    let each = priors.flat_map(|(name, prior)| {
        let was = match prior {
            Prior::Absent => None,
            Prior::Plain(..) => Some(false),
            Prior::Reference(_) => Some(true),
        };
        let is = service.variables.get(name).map(|variable| variable.delivery != Delivery::Plain);
        let will = wiring.set.get(name).map(|setting| matches!(setting, Setting::Secret(_)));
        let maps: BTreeSet<bool> = [was, is, will].into_iter().flatten().collect();
        maps.into_iter().map(move |by_reference| {
            let map = if by_reference { "runtime_environment_secrets" } else { "runtime_environment_variables" };
            format!("source_configuration[0].{place}.{map}[\"{name}\"]")
        })
    });
    let each: Vec<_> = each.collect();
    format!(" (Terraform: lifecycle {{ ignore_changes = [{}] }})", each.join(", "))
}
