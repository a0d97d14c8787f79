//! Queues of a broker that shares the store with the sessions: what a copy would do to them is said before it begins.
//! What is really there is found by the copier, which then stops before the switch.

use crate::broker;
use crate::desired::{CopyRules, EnvFormat, KeyStrategy, Target, Unmatched};

use super::Draft;

impl Draft<'_> {
    /// A service told in Celery's form probably has Celery's broker in the store that is copied.
    pub(super) fn say_what_queues_stop(&mut self, target: &Target) {
        if !matches!(target.env.format, EnvFormat::Celery { .. }) {
            return;
        }
        let moving: Vec<_> = broker::CELERY.into_iter().filter(|name| moves(&target.migration.rules, name)).collect();
        if !moving.is_empty() {
            self.note(format!(
                "no rule of migration.keys leaves Celery's queues behind ({}): where the store in use is its broker, the copy stops before the switch, because a task that is copied as a key runs twice; let the workers empty them and drop them by rules",
                moving.join(", ")
            ));
        }
    }
}

/// Whether keys of this name are copied.
fn moves(rules: &CopyRules, name: &str) -> bool {
    match rules.keys.iter().find(|rule| name.starts_with(&rule.prefix)) {
        Some(rule) => rule.strategy == KeyStrategy::Copy,
        None => rules.unmatched == Unmatched::Copy,
    }
}
