//! The clouds as the engine sees them: [`CloudWorld`] reads them into [`Observed`] and carries out one [`Step`] at a time.
//! Decides nothing: what to do is the planner's, what a failure means is [`crate::aws::classify`]'s. One world serves one
//! owner. Passwords live here, in memory and behind fingerprints, and in the vault beside the journal; nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::aws::Aws;
use crate::desired::{Desired, Target};
use crate::engine::World;
use crate::error::{Class, CloudError};
use crate::identity::{Address, Fingerprint, Owner, StoreId};
use crate::journal::{Entry, Journal, Resource, VaultKey};
use crate::observed::{Lack, Observed, Reading, StoreStatus};
use crate::step::Step;
use crate::upstash::Upstash;

use self::cache::Cache;
pub use self::cache::{Account, Databases};
use self::long::{Checker, Copiers, Limits, Servers, Unplugged};

mod cache;
mod claims;
mod forgotten;
mod journal;
pub mod long;
mod lost;
mod network;
mod observe;
mod patch;
mod perform;
mod reach;
mod secrets;
mod service;
mod stores;

/// What the manifest's own secrets say about the stores.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// About the store of the spec.
    pub store: StoreInputs,
    /// About `migration.from`.
    pub from: StoreInputs,
}

/// What is known about one store from the manifest's secrets.
#[derive(Clone, Debug, Default)]
pub struct StoreInputs {
    /// The URL of an external store.
    pub url: Option<SecretString>,
    /// ACL user of an ElastiCache store; `None` means `default`.
    pub username: Option<String>,
    /// Its password or token.
    pub password: Option<SecretString>,
}

/// What takes long, plugged in.
#[derive(Clone)]
pub struct Long {
    /// Copies keys.
    pub copiers: Arc<dyn Copiers>,
    /// Runs checks.
    pub checker: Arc<dyn Checker>,
    /// Asks servers.
    pub servers: Arc<dyn Servers>,
}

impl Default for Long {
    fn default() -> Self {
        Self { copiers: Arc::new(Unplugged), checker: Arc::new(Unplugged), servers: Arc::new(Unplugged) }
    }
}

/// The clouds of one owner.
pub struct CloudWorld {
    aws: Aws,
    upstash: Option<Upstash>,
    inputs: Inputs,
    long: Long,
    lack: Option<Lack>,
    memory: Mutex<Memory>,
    cache: Cache,
}

/// What this process has seen and a step needs: steps carry no secret, so the values behind their fingerprints are here.
#[derive(Default)]
struct Memory {
    /// The newest sequence of the journal this process has read or written.
    sequence: u64,
    /// Since when there is no journal any more, though this process knows one.
    vanished: Option<Instant>,
    /// Whether the journal waits in its recovery window: the first line brings it back.
    recovers: bool,
    /// The vault as it was last read or written.
    vault: BTreeMap<VaultKey, SecretString>,
    /// Values that go into the vault with the next write.
    pending: BTreeMap<VaultKey, SecretString>,
    /// The ids of what we made, where they are written down.
    made: BTreeMap<Resource, String>,
    /// Passwords seen, by what stands for them.
    passwords: BTreeMap<Fingerprint, SecretString>,
    /// Stores seen.
    stores: BTreeMap<StoreId, Known>,
    /// Databases of stores that are known to have no keys of a migration nobody remembers: nothing begun since is unknown here.
    searched: BTreeSet<(StoreId, u32)>,
    /// Stores no list has had, without a break since then.
    missed: BTreeMap<StoreId, Timestamp>,
    /// Stores that are being made, changed or deleted, and since when that is seen.
    busy: BTreeMap<StoreId, (StoreStatus, Timestamp)>,
    /// The last valid spec.
    target: Option<Target>,
    /// The services as they were last seen.
    services: Vec<long::SceneService>,
}

impl Memory {
    /// The password that is kept of something we made, which `id` must be: another may have the same name.
    fn kept(&self, resource: &Resource, id: &str) -> Option<SecretString> {
        let key = journal::resource_key(resource);
        let is_ours = self.made.get(resource).is_none_or(|made| made == id);
        self.vault.get(&key).or_else(|| self.pending.get(&key)).filter(|_| is_ours).cloned()
    }
}

/// How a store was last seen to be reached.
#[derive(Clone)]
struct Known {
    address: Address,
    credential: Option<Fingerprint>,
    limits: Limits,
    /// Keys in it, where they could be counted.
    keys: Option<u64>,
}

impl CloudWorld {
    /// A world over these clients. Without `upstash` that vendor's databases are out of sight.
    #[must_use]
    pub fn new(aws: Aws, upstash: Option<Upstash>, inputs: Inputs, long: Long) -> Self {
        Self { aws, upstash, inputs, long, lack: None, memory: Mutex::default(), cache: Cache::default() }
    }

    /// The spec refers to something that could not be had.
    pub fn lacks(&mut self, lack: Option<Lack>) {
        self.lack = lack;
    }

    /// The same, with what the `former` world of this owner alone knew: passwords that were shown once and are not written
    /// down yet, and how far the journal has come, so that no older reading of it counts.
    #[must_use]
    pub fn succeeding(self, former: &Self) -> Self {
        let known = former.memory();
        let (sequence, pending) = (known.sequence, known.pending.clone());
        let passwords = known.passwords.clone();
        drop(known);
        *self.memory() = Memory { sequence, pending, passwords, ..Memory::default() };
        self
    }

    /// What the spec refers to and could not be had.
    #[must_use]
    pub fn lack(&self) -> Option<&Lack> {
        self.lack.as_ref()
    }

    /// The same, beside other worlds whose clients have the same identity.
    #[must_use]
    pub fn beside(mut self, account: Account, databases: Databases) -> Self {
        (self.cache.account, self.cache.databases) = (account, databases);
        self
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a password for the steps that will need it, and says what stands for it.
    fn keep(&self, owner: &Owner, password: &SecretString) -> Fingerprint {
        let fingerprint = Fingerprint::of(owner, password.expose_secret());
        self.memory().passwords.insert(fingerprint.clone(), password.clone());
        fingerprint
    }

    /// The password behind a fingerprint.
    fn password(&self, credential: Option<&Fingerprint>, operation: &str) -> Result<Option<SecretString>, CloudError> {
        let Some(credential) = credential else { return Ok(None) };
        let known = self.memory().passwords.get(credential).cloned();
        known.map(Some).ok_or_else(|| {
            let what =
                format!("the password {credential} is not known here any more; it was rotated or cannot be read");
            refused(operation, &what)
        })
    }
}

/// A step that is not carried out because the world is not as the plan expected: plan again.
fn refused(operation: &str, what: &str) -> CloudError {
    CloudError::new(Class::Conflict, "sessionbackend", operation, "", what)
}

/// A call's outcome as a reading: only the vendor's own word is an absence.
fn reading<T>(outcome: Result<T, CloudError>) -> Reading<T> {
    match outcome {
        Ok(value) => Reading::Present(value),
        Err(error) if error.class == Class::NotFound => Reading::Absent,
        Err(error) => Reading::Unknown(error),
    }
}

/// A list is a reading however short it is: that something is not in it is the vendor's word.
impl<T> From<Result<Vec<T>, CloudError>> for Reading<Vec<T>> {
    fn from(listed: Result<Vec<T>, CloudError>) -> Self {
        match listed {
            Ok(listed) => Self::Present(listed),
            Err(error) => Self::Unknown(error),
        }
    }
}

impl World for CloudWorld {
    async fn journal(&self, owner: &Owner) -> Reading<Journal> {
        self.read_journal(owner).await
    }

    async fn observe(&self, owner: &Owner, desired: &Desired, journal: &Journal) -> Observed {
        Box::pin(self.observe_all(owner, desired, journal)).await
    }

    async fn perform(
        &self,
        owner: &Owner,
        step: &Step,
        journal: &Journal,
        now: Timestamp,
    ) -> Result<Option<Entry>, CloudError> {
        Box::pin(self.perform_step(owner, step, journal, now)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_only_has_the_name_of_ours_does_not_get_its_password() {
        let resource = Resource::UpstashDatabase("liberty".into());
        let mut memory = Memory::default();
        memory.vault.insert(journal::resource_key(&resource), "word".into());
        let kept = |memory: &Memory, id| memory.kept(&resource, id).is_some();
        assert!(kept(&memory, "u-1"), "its id is not written down yet");
        memory.made.insert(resource.clone(), "u-1".into());
        assert!(kept(&memory, "u-1") && !kept(&memory, "u-2"));
    }
}
