//! What is done in a phase, and what comes after it, for whoever looks while nothing is waited for.

use crate::api::status::Phase;
use crate::plan::Plan;

/// In a sentence, where there is something to do; where nothing is done the phase says enough.
pub(super) fn doing(phase: Phase, plan: &Plan) -> &'static str {
    if plan.steps.is_empty() {
        return "";
    }
    match phase {
        Phase::Provisioning => {
            "what the store in spec.store and the way to it still lack is made; the services come after it"
        }
        Phase::Copying => {
            "the sessions are copied; the services are switched when the new store has all of them and follows the old one"
        }
        Phase::Switching => {
            "the services are told of the new store, one wave after another, and both stores are kept in step; the checks come \
             when nobody uses the old one"
        }
        Phase::Draining => "both stores are kept in step until nobody uses the old one; the checks come after it",
        Phase::Checking => "the checks run; where one fails that passed before, the services go back by themselves",
        Phase::Baking => "the new store is watched; nothing is retired before the bake is over",
        Phase::Retiring => {
            "what nobody uses any more, and was made here or is named in migration.alsoRemove, is removed"
        }
        Phase::RollingBack => {
            "the services are told of the former store again; what came into the new one since is carried back to it"
        }
        Phase::Deleting => "what was made here is removed as far as spec.deletionPolicy says",
        Phase::Pending | Phase::Planning => {
            "the services' variables are claimed; the store and the way to it come after it"
        }
        Phase::Held | Phase::RolledBack | Phase::Blocked | Phase::AwaitingApproval => {
            "what was said in the meantime is taken up"
        }
        Phase::Ready | Phase::Failed | Phase::Paused => "",
    }
}
