//! Which instances answered, from when until when, and in which store each kept sessions: what the overlap of a
//! deployment looks like from outside. Pure; moments are counted from the beginning of the visit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::judge::At;

/// Every instance ever met.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet(BTreeMap<String, Instance>);

/// One instance as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Host and port of its store.
    pub store: String,
    /// First answer, in milliseconds.
    pub first_ms: u64,
    /// Last answer, in milliseconds.
    pub last_ms: u64,
    /// Sessions it opened.
    pub opened: u64,
    /// Sessions it ended.
    pub ended: u64,
}

/// What all instances on one store did together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreUse {
    /// How many instances kept their sessions there.
    pub instances: u64,
    /// First answer of any of them, in milliseconds.
    pub first_ms: u64,
    /// Last answer of any of them, in milliseconds.
    pub last_ms: u64,
    /// Sessions opened there.
    pub opened: u64,
    /// Sessions ended there.
    pub ended: u64,
}

impl Fleet {
    /// Notes an answer of an instance.
    pub fn see(&mut self, instance: &str, store: &str, at: At) {
        let ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let fresh = || Instance { store: store.to_owned(), first_ms: ms, last_ms: ms, opened: 0, ended: 0 };
        self.0.entry(instance.to_owned()).or_insert_with(fresh).last_ms = ms;
    }

    /// Counts a session for the instances that opened and ended it.
    pub fn count(&mut self, opened_by: Option<&str>, ended_by: Option<&str>) {
        if let Some(instance) = opened_by.and_then(|by| self.0.get_mut(by)) {
            instance.opened += 1;
        }
        if let Some(instance) = ended_by.and_then(|by| self.0.get_mut(by)) {
            instance.ended += 1;
        }
    }

    /// The stores in use, by host and port.
    pub fn stores(&self) -> BTreeMap<String, StoreUse> {
        let mut stores = BTreeMap::<String, StoreUse>::new();
        for instance in self.0.values() {
            let fresh = || StoreUse { first_ms: instance.first_ms, ..StoreUse::default() };
            let store = stores.entry(instance.store.clone()).or_insert_with(fresh);
            store.instances += 1;
            store.first_ms = store.first_ms.min(instance.first_ms);
            store.last_ms = store.last_ms.max(instance.last_ms);
            store.opened += instance.opened;
            store.ended += instance.ended;
        }
        stores
    }

    /// How many instances on each store answered since `since`.
    pub fn serving(&self, since: At) -> BTreeMap<String, u64> {
        let mut stores = BTreeMap::new();
        for instance in self.0.values().filter(|instance| u128::from(instance.last_ms) >= since.as_millis()) {
            *stores.entry(instance.store.clone()).or_default() += 1;
        }
        stores
    }

    /// The store of the instance that answered last.
    pub fn last_store(&self) -> Option<&str> {
        self.0.values().max_by_key(|instance| instance.last_ms).map(|instance| instance.store.as_str())
    }

    /// For how long, in milliseconds, instances on the first store and instances on another one answered side by side.
    pub fn overlap_ms(&self) -> u64 {
        let Some(first) = self.0.values().min_by_key(|instance| instance.first_ms) else { return 0 };
        let others = self.0.values().filter(|instance| instance.store != first.store);
        others.map(|other| self.beside(other, &first.store)).max().unwrap_or(0)
    }

    fn beside(&self, other: &Instance, store: &str) -> u64 {
        let there = self.0.values().filter(|instance| instance.store == store);
        let shared = there
            .map(|instance| other.last_ms.min(instance.last_ms).saturating_sub(other.first_ms.max(instance.first_ms)));
        shared.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn fleet(seen: &[(&str, &str, u64)]) -> Fleet {
        let mut fleet = Fleet::default();
        for (instance, store, ms) in seen {
            fleet.see(instance, store, Duration::from_millis(*ms));
        }
        fleet
    }

    #[test]
    fn the_overlap_is_the_time_two_stores_answered_side_by_side() {
        let seen = [("a", "old", 0), ("b", "old", 10), ("n", "new", 1000), ("a", "old", 6500), ("n", "new", 9000)];
        let fleet = fleet(&seen);
        assert_eq!(fleet.overlap_ms(), 5500);
        assert_eq!(fleet.last_store(), Some("new"));
        assert_eq!(fleet.serving(Duration::from_secs(6)), [("new".to_owned(), 1), ("old".to_owned(), 1)].into());
        assert_eq!(fleet.serving(Duration::from_secs(7)), [("new".to_owned(), 1)].into());
        let stores = fleet.stores();
        assert_eq!((stores["old"].instances, stores["old"].first_ms, stores["old"].last_ms), (2, 0, 6500));
    }

    #[test]
    fn instances_that_follow_each_other_or_share_a_store_do_not_overlap() {
        assert_eq!(fleet(&[]).overlap_ms(), 0);
        assert_eq!(fleet(&[("a", "old", 0), ("b", "old", 0), ("a", "old", 9), ("b", "old", 9)]).overlap_ms(), 0);
        assert_eq!(fleet(&[("a", "old", 0), ("a", "old", 5), ("n", "new", 6), ("n", "new", 9)]).overlap_ms(), 0);
    }

    #[test]
    fn sessions_are_counted_where_they_were_opened_and_ended() {
        let mut fleet = fleet(&[("a", "old", 0), ("n", "new", 1)]);
        fleet.count(Some("a"), Some("n"));
        fleet.count(Some("n"), None);
        fleet.count(Some("never met"), None);
        let stores = fleet.stores();
        assert_eq!((stores["old"].opened, stores["old"].ended), (1, 0));
        assert_eq!((stores["new"].opened, stores["new"].ended), (1, 1));
    }
}
