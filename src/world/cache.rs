//! Readings that may be a little old: what never changes, what changes rarely, what costs the user a call each time.
//! Never holds what a write depends on: those are read again right before the call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_apprunner::types as sdk;
use secrecy::SecretString;
use tokio::time::Instant;

use crate::error::CloudError;
use crate::observed::{Connector, Placement, Reading, Server};
use crate::upstash::Database;

/// Values behind references. Ours are immutable; a foreign one is read for its host only.
pub(super) const VALUES: Duration = Duration::from_mins(1);
/// A simulation of a role's policy; IAM takes seconds to a minute to propagate anyway.
pub(super) const ACCESS: Duration = Duration::from_secs(20);
/// What a server says of itself.
pub(super) const SERVER: Duration = Duration::from_secs(15);
/// Services that are not ours, by their time of update; and immutable scaling revisions.
pub(super) const HOUR: Duration = Duration::from_hours(1);
/// Upstash's answers: its limits are undocumented, one call a second is what is safe.
pub(super) const LISTING: Duration = Duration::from_secs(3);
/// A connector's network: a NAT gateway that was just added may be seen a little later.
pub(super) const NETWORK: Duration = Duration::from_secs(10);
/// Whose credentials these are.
pub(super) const ACCOUNT: Duration = Duration::from_mins(1);
/// Where a replication group is: security groups can change, its VPC cannot.
pub(super) const PLACEMENT: Duration = Duration::from_secs(30);
/// What a database has used.
pub(super) const USAGE: Duration = Duration::from_mins(1);

/// What is the same for every object of an account, region and identity, and would otherwise be asked for once an object.
#[derive(Clone, Default)]
pub struct Account {
    /// Services as they were described, by ARN and time of update; each object leaves out its own.
    pub(super) bystanders: Arc<Kept<sdk::Service>>,
    /// Most instances by scaling ARN.
    pub(super) scaling: Arc<Kept<Option<u32>>>,
    /// The account the credentials belong to, under the empty key.
    pub(super) id: Arc<Kept<String>>,
}

/// The same of an account at Upstash.
#[derive(Clone, Default)]
pub struct Databases {
    /// The list, under the empty key.
    pub(super) listed: Arc<Kept<Vec<Database>>>,
    /// Databases by id.
    pub(super) by_id: Arc<Kept<Database>>,
    /// Commands used by database id.
    pub(super) usage: Arc<Kept<Option<u64>>>,
}

/// The caches of one world.
#[derive(Default)]
pub(super) struct Cache {
    /// What it shares with other worlds.
    pub(super) account: Account,
    /// The same at Upstash.
    pub(super) databases: Databases,
    /// Secret values by reference.
    pub(super) values: Kept<Result<SecretString, CloudError>>,
    /// Whether a role may read a secret, by role and ARN.
    pub(super) access: Kept<bool>,
    /// Servers by host and port.
    pub(super) servers: Kept<Reading<Server>>,
    /// Connectors by ARN and the stores' groups.
    pub(super) connectors: Kept<Connector>,
    /// Where a replication group is, by member cluster.
    pub(super) placements: Kept<Placement>,
}

/// One cache.
pub(super) struct Kept<V>(Mutex<BTreeMap<String, (Instant, V)>>);

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone> Kept<V> {
    /// The value of `key`, if it is younger than `age`.
    pub(super) fn get(&self, key: &str, age: Duration) -> Option<V> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(at, _)| at.elapsed() < age).map(|(_, value)| value.clone())
    }

    /// Keeps `value`.
    pub(super) fn put(&self, key: &str, value: V) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded: keys come from the account, and an account is small.
        if kept.len() > 2000 {
            kept.clear();
        }
        kept.insert(key.to_owned(), (Instant::now(), value));
    }

    /// Forgets everything: something of ours has changed it.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
