//! What commands cost, by vendor and plan, and how many a copy takes. Data, in one place: when a vendor changes its
//! prices or a measurement says otherwise, this is what changes.

use crate::identity::StoreId;

/// Commands a copy sends to a store for each key: the first pass, and the comparisons before the switch and after it.
/// Changes that people make on the way come on top.
const COMMANDS_A_KEY: u64 = 3;

/// Commands a month of Upstash's free plan, where the database does not say (cloud-apis §11.7, "Free tier today").
pub const FREE_COMMANDS: u64 = 500_000;

/// What a plan says of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    /// Each is paid for: so many millionths of a dollar.
    Each(u64),
    /// The price of the plan covers them.
    Included,
    /// They cost nothing and end at the plan's quota.
    Quota,
}

/// Upstash's plans as its API names them (cloud-apis §11.3 and §11.7: billing page as transcribed 2026-09-20).
const UPSTASH: [(&str, Price); 9] = [
    ("free", Price::Quota),
    // $0.20 for 100,000; a database in several regions pays for a write in each.
    ("payg", Price::Each(2)),
    ("fixed_250mb", Price::Included),
    ("fixed_1gb", Price::Included),
    ("fixed_5gb", Price::Included),
    ("fixed_10gb", Price::Included),
    ("fixed_50gb", Price::Included),
    ("fixed_100gb", Price::Included),
    ("fixed_500gb", Price::Included),
];

/// What commands on a store cost; nothing is known of stores whose vendor does not say.
#[must_use]
pub fn of(store: &StoreId, plan: Option<&str>) -> Option<Price> {
    match store {
        StoreId::Upstash(_) => UPSTASH.iter().find(|(name, _)| Some(*name) == plan).map(|(_, price)| *price),
        // Nodes are paid by the hour.
        StoreId::ReplicationGroup(_) => Some(Price::Included),
        StoreId::ServerlessCache(_) | StoreId::External(..) | StoreId::Disabled => None,
    }
}

/// The commands that a copy of so many keys sends to a store.
#[must_use]
pub const fn copying(keys: u64) -> u64 {
    keys.saturating_mul(COMMANDS_A_KEY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plan_of_upstash_has_a_price_and_a_million_keys_on_payg_cost_six_dollars() {
        let upstash = StoreId::Upstash("u-1".into());
        assert_eq!(of(&upstash, Some("free")), Some(Price::Quota));
        assert_eq!(of(&upstash, Some("fixed_1gb")), Some(Price::Included));
        assert_eq!((of(&upstash, Some("new")), of(&upstash, None)), (None, None));
        let Some(Price::Each(micro)) = of(&upstash, Some("payg")) else { panic!("payg is paid by the command") };
        assert_eq!(copying(1_000_000) * micro, 6_000_000);
    }
}
