//! What a store is, by its own word: one connection, PING and INFO (not billed by Upstash), TIME, and whether the
//! notifications' setting may be read. Changes nothing and touches no key.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Endpoint,
    error::CopyError,
    link::{Link, items, text},
    read::clock,
};

/// Keys of each database that has any.
pub type Databases = BTreeMap<u32, u64>;

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFacts {
    /// The server's version, as it prints it.
    pub version: String,
    /// Keys in the endpoint's database, expired ones that are still in memory included.
    pub keys: u64,
    /// Keys of each database.
    pub databases: Databases,
    /// Bytes in use.
    pub used_memory: Option<u64>,
    /// Its limit in bytes; 0 is none.
    pub maxmemory: Option<u64>,
    /// What it does at the limit.
    pub maxmemory_policy: Option<String>,
    /// Keys thrown away for lack of memory since it started.
    pub evicted_keys: Option<u64>,
    /// Connections, ours included.
    pub connected_clients: Option<u64>,
    /// The shortest of three PINGs.
    pub latency: Duration,
    /// A cluster, whose keys one connection does not see.
    pub cluster: bool,
    /// `notify-keyspace-events`, where it may be read.
    pub notify: Option<String>,
    /// Its clock, milliseconds since the epoch, half a round trip ago at most.
    pub time: i64,
    /// That clock minus ours, in milliseconds.
    pub time_offset: i64,
}

/// Looks at a store.
pub async fn probe(endpoint: &Endpoint) -> Result<StoreFacts, CopyError> {
    let mut link = Link::open(endpoint, endpoint.database, Arc::new(AtomicU64::new(0))).await?;
    facts(&mut link, endpoint.database).await
}

pub(crate) async fn facts(link: &mut Link, database: u32) -> Result<StoreFacts, CopyError> {
    let info = text(link.ask("INFO", &redis::cmd("INFO")).await?);
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let number = |name: &str| field(name).and_then(|value| value.parse::<u64>().ok());
    let databases = keyspace(&info);
    let notify = link.ask("CONFIG GET", redis::cmd("CONFIG").arg("GET").arg("notify-keyspace-events")).await;
    let notify = notify.ok().and_then(items).and_then(|pair| pair.into_iter().nth(1)).map(text);
    let mut latency = Duration::MAX;
    for _ in 0..3 {
        latency = latency.min(link.ping().await?);
    }
    let asked = Instant::now();
    let time = clock(link).await?;
    let half = i64::try_from(asked.elapsed().as_millis() / 2).unwrap_or_default();
    Ok(StoreFacts {
        version: field("redis_version").unwrap_or("unknown").to_owned(),
        keys: databases.get(&database).copied().unwrap_or_default(),
        databases,
        used_memory: number("used_memory"),
        maxmemory: number("maxmemory"),
        maxmemory_policy: field("maxmemory_policy").map(str::to_owned),
        evicted_keys: number("evicted_keys"),
        connected_clients: number("connected_clients"),
        latency,
        cluster: field("cluster_enabled") == Some("1") || field("redis_mode") == Some("cluster"),
        notify,
        time,
        time_offset: time + half - wall_clock(),
    })
}

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock; only the difference of clocks is told")]
fn wall_clock() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// `db0:keys=3,expires=1,avg_ttl=0`, a line for each database.
fn keyspace(info: &str) -> Databases {
    let line = |line: &str| {
        let (database, rest) = line.strip_prefix("db")?.split_once(':')?;
        let keys = rest.split(',').find_map(|field| field.strip_prefix("keys="))?;
        Some((database.parse().ok()?, keys.trim().parse().ok()?))
    };
    info.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_read_from_info() {
        let info = "# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0\r\ndb11:keys=42,expires=0,avg_ttl=0\r\ndbsize:1\r\n";
        assert_eq!(keyspace(info), Databases::from([(0, 3), (11, 42)]));
    }
}
