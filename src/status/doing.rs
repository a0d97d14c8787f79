//! What is done in a phase, and what comes after it, for whoever looks while nothing is waited for.

use crate::api::status::Phase;
use crate::journal::ServiceMove;
use crate::plan::{Inputs, Plan};

/// In a sentence, where there is something to do; where nothing is done the phase says enough.
pub(super) fn doing(phase: Phase, inputs: &Inputs<'_>, plan: &Plan) -> &'static str {
    if plan.steps.is_empty() || inputs.desired.looks_only() {
        return "";
    }
    let migration = inputs.journal.open_migration();
    let copies = migration.is_some_and(|migration| migration.copies);
    let told = migration.is_some_and(|migration| migration.services.iter().any(ServiceMove::was_told));
    match phase {
        Phase::Pending | Phase::Planning => {
            "the services' variables are claimed; the store and the way to it come after it"
        }
        Phase::Provisioning => {
            "what the store in spec.store and the way to it still lack is made; the services come after it"
        }
        Phase::Copying if copies => {
            "the sessions are copied; the services are switched when the new store has all of them and follows the old one"
        }
        Phase::Copying => "nothing is copied; the services are told when the store has passed its checks",
        Phase::Switching if copies => {
            "the services are told of the new store, one wave after another, and both stores are kept in step; the checks come \
             when nobody uses the old one"
        }
        Phase::Switching => {
            "the services are told, one wave after another; the checks come when no former instance serves"
        }
        Phase::Draining if copies => {
            "both stores are kept in step until nobody uses the old one; the checks come after it"
        }
        Phase::Draining => "former instances end; the checks come after it",
        Phase::Checking => {
            "the checks run; where one fails that passed before, spec.migration.onFailure says what comes of it"
        }
        Phase::Baking => "the new store is watched; nothing is retired before the bake is over",
        Phase::Retiring => {
            "the services are told and the rest is tidied up: what nobody uses any more, and was made here or is named in \
             spec.migration.retire.alsoRemove, is removed"
        }
        Phase::RollingBack if !told => "no service was told anything yet; what was begun is taken back",
        Phase::RollingBack if copies => {
            "the services are told of the former store again; what came into the new one since is carried back to it"
        }
        Phase::RollingBack => "the services are told again what they were told before",
        Phase::Deleting => "what was made here is removed as far as spec.deletionPolicy says",
        Phase::Held | Phase::RolledBack | Phase::Blocked | Phase::AwaitingApproval => {
            "what was said in the meantime is taken up"
        }
        Phase::Ready | Phase::Failed | Phase::Paused => "",
    }
}
