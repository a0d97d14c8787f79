//! How many commands a copy takes, and what they cost: an estimate, printed before anything runs.

use std::fmt::Write as _;

use serde::Serialize;

use super::number;
use crate::identity::StoreId;
use crate::observed::{CommandQuota, Store};
use crate::price::{self, Price};

/// The commands a copy sends to one store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// The store, in words.
    pub store: String,
    /// Its plan, where it is known.
    pub plan: Option<String>,
    /// How many.
    pub commands: u64,
    /// What they cost, in millionths of a dollar; absent where it is not known.
    pub micro_dollars: Option<u64>,
    /// Commands that are left of the plan's quota, where it has one.
    pub left: Option<u64>,
    /// How much of those they take, in tenths of a percent.
    pub share_permille: Option<u64>,
}

/// What a copy costs on those of the two stores where commands count; nothing where the keys could not be counted.
#[must_use]
pub fn expected(from: &Store, to: &Store) -> Vec<Cost> {
    let Some(server) = from.server.present() else { return Vec::new() };
    let commands = price::copying(server.keys.values().sum());
    let counts = |store: &&Store| matches!(store.id, StoreId::Upstash(_));
    [from, to].into_iter().filter(counts).map(|store| cost(store, commands)).collect()
}

fn cost(store: &Store, commands: u64) -> Cost {
    let left = store.quota.map(CommandQuota::left);
    Cost {
        store: crate::status::store_words(&store.id, &store.name),
        plan: store.plan.clone(),
        commands,
        micro_dollars: price::of(&store.id, store.plan.as_deref()).map(|price| match price {
            Price::Each(micro) => commands.saturating_mul(micro),
            Price::Included | Price::Quota => 0,
        }),
        left,
        share_permille: left.map(|left| commands.saturating_mul(1000).checked_div(left).unwrap_or(u64::MAX)),
    }
}

impl Cost {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let plan = self.plan.as_deref().unwrap_or("plan not known");
        let mut text = format!("about {} on {} ({plan})", number(self.commands), self.store);
        let _ = match self.micro_dollars {
            None => write!(text, ", what they cost there is not known"),
            Some(0) => write!(text, ", without further cost"),
            Some(micro) if micro < 10_000 => write!(text, ", less than $0.01"),
            Some(micro) => {
                let cents = micro.div_ceil(10_000);
                write!(text, ", some ${}.{:02}", cents / 100, cents % 100)
            }
        };
        if let (Some(left), Some(share)) = (self.left, self.share_permille) {
            let _ = write!(text, ", {}.{} % of the {} left of its quota", share / 10, share % 10, number(left));
        }
        text
    }
}
