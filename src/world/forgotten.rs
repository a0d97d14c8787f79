//! What migrations that are not in the journal left in the stores: asked while the journal knows of none, so that one
//! that was destroyed in the middle of a migration is not taken for one that was never written.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;

use crate::identity::{Epoch, MigrationId, Owner, StoreId};
use crate::journal::Journal;
use crate::observed::{Reading, Store};

use super::CloudWorld;

const OPERATION: &str = "Traces";
/// Migrations an object can have had: one a month for twenty years.
const MOST: u32 = 256;

impl CloudWorld {
    /// By store, where there is something or where that could not be told. A store that has nothing is asked once.
    pub(super) async fn forgotten(
        &self,
        owner: &Owner,
        journal: &Journal,
        stores: [&Reading<Store>; 2],
    ) -> BTreeMap<StoreId, Reading<BTreeSet<MigrationId>>> {
        if journal.migration.is_some() || self.memory().recovers {
            return BTreeMap::new();
        }
        let stores = stores.into_iter().filter_map(Reading::present);
        // No copier works in a cluster, and one that does not answer cannot be asked either.
        let answering = stores.filter(|store| store.server.present().is_some() && !store.cluster);
        let each: BTreeSet<_> =
            answering.map(|store| (store.id.clone(), store.address.as_ref().map_or(0, |address| address.db))).collect();
        let known = self.memory().searched.clone();
        let all: Vec<_> = (1..=MOST).map(|epoch| MigrationId::new(owner, Epoch(epoch))).collect();
        let asked = each.difference(&known).map(|place| {
            let all = &all;
            async move {
                let found = match self.endpoint(journal, &place.0, OPERATION) {
                    Ok(endpoint) => self.long.copiers.traces(&endpoint, all).await,
                    Err(error) => Err(error),
                };
                (place.clone(), super::reading(found))
            }
        });
        let found = join_all(asked).await;
        let (nothing, left): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(_, found)| found.present().is_some_and(BTreeSet::is_empty));
        self.memory().searched.extend(nothing.into_iter().map(|(place, _)| place));
        left.into_iter().map(|((id, _), found)| (id, found)).collect()
    }
}
