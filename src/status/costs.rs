//! What a status says of what costs money: how much of the store's limits is used, and what is kept though nothing uses it.

use super::serving_ids;
use crate::api::status::{Retained, Usage};
use crate::desired::Target;
use crate::identity::StoreId;
use crate::journal::{Journal, Outcome, Resource, StoreRecord};
use crate::observed::Store;
use crate::plan::{Inputs, kinds};

/// How many percent a figure may be beyond its step before the step changes.
const SLACK: u64 = 3;

/// Percent of a store's limits, in steps of 10, as far as limits and figures are known. A figure that breathes around the
/// edge of a step stays on the step it was told on.
pub(super) fn usage(store: &Store, before: Option<&Usage>) -> Option<Usage> {
    let percent = |used: u64, limit: u64, told: Option<u16>| {
        let percent = used.saturating_mul(100).checked_div(limit)?;
        let stays =
            |told: &u16| (u64::from(*told).saturating_sub(SLACK)..u64::from(*told) + 10 + SLACK).contains(&percent);
        told.filter(stays).or_else(|| u16::try_from(percent / 10 * 10).ok())
    };
    let before = before.cloned().unwrap_or_default();
    let server = store.server.present();
    let clients = server.and_then(|server| server.clients);
    let usage = Usage {
        memory_percent: server.and_then(|server| percent(server.used_memory, server.max_memory, before.memory_percent)),
        connections_percent: clients
            .zip(store.max_connections)
            .and_then(|(used, most)| percent(used, most.into(), before.connections_percent)),
        commands_percent: store.quota.and_then(|quota| percent(quota.used, quota.limit, before.commands_percent)),
    };
    (usage != Usage::default()).then_some(usage)
}

/// The stores that are kept though no service of the object uses them and its spec does not name them: the former one,
/// and those that were made for it. What its vendor lists no more costs nothing.
pub(super) fn retained(inputs: &Inputs<'_>, target: Option<&Target>) -> Vec<Retained> {
    let (journal, observed) = (inputs.journal, inputs.observed);
    let in_use = target.map(|target| serving_ids(observed, target)).unwrap_or_default();
    let wanted = observed.target.present().map(|store| &store.id);
    let open = journal.open_migration();
    let is_needed = |id: &StoreId| {
        let moves = open.is_some_and(|open| open.to.id == *id || open.from.as_ref().is_some_and(|from| from.id == *id));
        moves || in_use.contains(id) || wanted == Some(id) || observed.is_missing(id)
    };
    let former = former(journal).filter(|from| !is_needed(&from.id));
    let deletes = target.is_some_and(|target| target.migration.retire.delete_old_store);
    let words = format!("{}{}", former_words(deletes), left_in(journal));
    let mut kept: Vec<_> = former.and_then(|from| described(&from.id, &words)).into_iter().collect();
    let made = journal.made.iter().filter_map(|(resource, made)| match resource {
        Resource::UpstashDatabase(_) => made.id.clone().map(StoreId::Upstash),
        Resource::ReplicationGroup(id) => made.id.as_ref().map(|_| StoreId::ReplicationGroup(id.clone())),
        Resource::SubnetGroup(_) | Resource::Connector(_) | Resource::Rule(_) | Resource::Secret(_) => None,
    });
    let is_former = |id: &StoreId| former.is_some_and(|from| from.id == *id);
    let unused = made.filter(|id| target.is_some() && !is_former(id) && !is_needed(id));
    kept.extend(unused.filter_map(|id| {
        described(&id, "it was made for this object, which does not use it now, and may cost money; delete it when it is not missed, or name it in spec.store")
    }));
    kept
}

/// The store that the last migration left.
fn former(journal: &Journal) -> Option<&StoreRecord> {
    let last = journal.migration.as_ref()?;
    let completed = last.ended.as_ref().is_some_and(|ended| ended.outcome == Outcome::Completed);
    last.from.as_ref().filter(|_| completed)
}

const fn former_words(deletes: bool) -> &'static str {
    if deletes {
        "the former store is to be removed (migration.retire.oldStore: Delete) and is still there; until then it may cost money"
    } else {
        "the former store was kept (migration.retire.oldStore: Retain) and may still cost money; delete it when it is not missed"
    }
}

/// What came into the former store after the copy had ended.
fn left_in(journal: &Journal) -> String {
    let uncarried = journal.migration.as_ref().and_then(|last| last.copied).map(|copied| copied.uncarried);
    uncarried.filter(|uncarried| !uncarried.is_nothing()).map_or_else(String::new, |uncarried| {
        format!("; in it were, when the copy ended, {}, which nobody has carried", kinds(uncarried))
    })
}

fn described(store: &StoreId, message: &str) -> Option<Retained> {
    let (kind, id) = match store {
        StoreId::Upstash(id) => ("upstash-database", id.clone()),
        StoreId::ReplicationGroup(id) => ("replication-group", id.clone()),
        StoreId::ServerlessCache(name) => ("serverless-cache", name.clone()),
        StoreId::External(host, port) => ("redis", format!("{host}:{port}")),
        StoreId::Disabled => return None,
    };
    Some(Retained { kind: kind.to_owned(), id, message: Some(message.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::StoreId;
    use crate::observed::{CommandQuota, Placement, Reading, StoreStatus};

    fn used(used: u64) -> Store {
        Store {
            id: StoreId::Upstash("u-1".to_owned()),
            name: String::new(),
            status: StoreStatus::Available,
            address: None,
            credential: None,
            placement: Placement::Public,
            cluster: false,
            max_connections: None,
            plan: None,
            quota: Some(CommandQuota { limit: 100, used }),
            server: Reading::Absent,
        }
    }

    #[test]
    fn a_figure_that_breathes_around_the_edge_of_a_step_is_told_once() {
        let mut told = None;
        let steps = [19, 21, 19, 22, 23, 19, 17, 16, 20].map(|percent| {
            told = usage(&used(percent), told.as_ref());
            told.as_ref().and_then(|usage| usage.commands_percent).unwrap_or_default()
        });
        assert_eq!(steps, [10, 10, 10, 10, 20, 20, 20, 10, 10]);
    }
}
