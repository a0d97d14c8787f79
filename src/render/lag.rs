//! How long a change on one store may take to be seen on the other while old and new instances overlap, and what would
//! make it shorter. An estimate from what the stores are, printed before anything runs; the copier measures the real one.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::identity::StoreId;
use crate::observed::Store;

/// Redis reads strings with their expiry at some 250,000 keys a second on one core, and a sweep needs one such pass.
const KEYS_A_SECOND: u64 = 250_000;
/// With a change feed the lag is a round trip; this is the fence's interval.
const ROUND_TRIP: Duration = Duration::from_millis(200);
/// A sweep of an almost empty store still costs its round trips.
const LEAST: Duration = Duration::from_millis(50);

/// What to expect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// At best, where the changes are announced; absent where they are not.
    #[serde(rename = "withFeedMs", serialize_with = "optional_millis")]
    pub with_feed: Option<Duration>,
    /// Where they are not, and every key is read to find them; absent where the keys could not be counted.
    #[serde(rename = "sweepMs", serialize_with = "optional_millis")]
    pub sweep: Option<Duration>,
    /// Keys at the source.
    pub keys: Option<u64>,
    /// What would lower it.
    pub advice: Option<String>,
}

/// The lag to expect between these stores; nothing where nothing is copied.
#[must_use]
pub fn expected(from: &Store, to: &Store) -> Option<Expected> {
    if !from.id.is_redis() || !to.id.is_redis() || from.id == to.id {
        return None;
    }
    let keys = from.server.present().map(|server| server.keys.values().sum::<u64>());
    let sweep = keys.map(|keys| LEAST.max(Duration::from_millis(keys.saturating_mul(1000) / KEYS_A_SECOND)));
    let advice = [&from.id, &to.id].into_iter().find_map(advice);
    let with_feed = advice.is_none().then_some(ROUND_TRIP);
    Some(Expected { with_feed, sweep, keys, advice })
}

/// What would give a store a change feed it lacks.
fn advice(store: &StoreId) -> Option<String> {
    match store {
        // Client tracking works on node-based ElastiCache, and Upstash announces changes once CONFIG SET asked for it.
        StoreId::ReplicationGroup(_) | StoreId::Upstash(_) | StoreId::Disabled => None,
        StoreId::ServerlessCache(name) => Some(format!(
            "ElastiCache serverless {name} announces no changes: every sweep reads all keys; drop keys that need not move (migration.keys)"
        )),
        StoreId::External(host, _) => Some(format!(
            "if {host} refuses CLIENT TRACKING, set its notify-keyspace-events to KEA; otherwise every sweep reads all keys"
        )),
    }
}

impl Expected {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let keys = self.keys.map_or(String::new(), |keys| format!(" for {} keys", super::number(keys)));
        match (self.with_feed, self.sweep) {
            (Some(feed), Some(sweep)) => {
                format!("about {} by change feed, {} by sweeps{keys}", super::span(feed), super::span(sweep))
            }
            (Some(feed), None) => format!("about {} by change feed", super::span(feed)),
            (None, Some(sweep)) => format!("about {} by sweeps{keys}", super::span(sweep)),
            (None, None) => "not known".to_owned(),
        }
    }
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn optional_millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        None => serializer.serialize_none(),
    }
}
