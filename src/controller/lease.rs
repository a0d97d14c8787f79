//! Who of several replicas acts: a Lease, taken and renewed by compare-and-set. A holder believes in its lease for less time
//! than the others wait before they take it, by clocks that are compared with themselves only; a process that was frozen past
//! its lease finds out before its next call.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;

use super::api;
use crate::clock::{Clock, Time as _};

/// How long the others wait after they have last seen it renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How long the holder believes in it after it last asked for a renewal.
const BELIEF: Duration = Duration::from_secs(10);
/// How often the holder renews it, and the others look.
const PERIOD: Duration = Duration::from_secs(2);

/// Whether this process may act. Cheap to ask, before every call.
#[derive(Clone, Debug)]
pub(super) struct Leadership(Arc<Mutex<Option<Instant>>>);

impl Leadership {
    fn none() -> Self {
        Self(Arc::default())
    }

    /// Whether the lease is held at this moment.
    #[must_use]
    pub(super) fn is_held(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    /// Until when this process believes in it, as things are.
    fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// The lease, as this process takes part in it.
pub(super) struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    leadership: Leadership,
}

/// The lease as it was last seen, and when a change of it was seen first.
struct Seen {
    version: Option<String>,
    at: Instant,
}

impl Election {
    /// Takes part under `identity`, which no other process may use.
    #[must_use]
    pub(super) fn new(leases: Api<Lease>, name: &str, identity: &str) -> Self {
        Self { leases, name: name.to_owned(), identity: identity.to_owned(), leadership: Leadership::none() }
    }

    /// Whether this process may act, at any later time.
    #[must_use]
    pub(super) fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Waits until the lease is ours. A failure to read or write it is told to `trouble` and tried again.
    pub(super) async fn win(&self, trouble: impl Fn(Option<&api::Error>)) {
        let mut seen: Option<Seen> = None;
        loop {
            let asked = Instant::now();
            match self.attempt(&mut seen).await {
                Ok(true) => {
                    self.leadership.set(Some(asked + BELIEF));
                    return trouble(None);
                }
                Ok(false) => trouble(None),
                Err(error) if error.is_conflict() => {}
                Err(error) => trouble(Some(&error)),
            }
            Clock.sleep(PERIOD).await;
        }
    }

    async fn attempt(&self, seen: &mut Option<Seen>) -> Result<bool, api::Error> {
        let Some(lease) = self.read().await? else { return self.create().await };
        let spec = lease.spec.clone().unwrap_or_default();
        let version = lease.metadata.resource_version.clone();
        if seen.as_ref().is_none_or(|seen| seen.version != version) {
            *seen = Some(Seen { version, at: Instant::now() });
        }
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let patience =
            Duration::from_secs(spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(15));
        let expired = seen.as_ref().is_some_and(|seen| seen.at.elapsed() >= patience);
        if !(holder.is_empty() || holder == self.identity || expired) {
            return Ok(false);
        }
        self.write(lease, self.claim(Some(&spec))).await.map(|()| true)
    }

    /// Renews the lease until it is lost; returns then.
    pub(super) async fn keep(&self) {
        loop {
            Clock.sleep(PERIOD).await;
            let Some(until) = self.leadership.until().filter(|until| Instant::now() < *until) else { break };
            let asked = Instant::now();
            // An answer that comes when the others may have taken it helps nobody.
            match tokio::time::timeout_at(until, self.renew()).await {
                Ok(Ok(true)) => self.leadership.set(Some(asked + BELIEF)),
                Ok(Ok(false)) | Err(_) => break,
                Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
            }
        }
        self.leadership.set(None);
    }

    async fn renew(&self) -> Result<bool, api::Error> {
        // Somebody has deleted it. Of two that make it anew one is refused, and then reads whose it is.
        let Some(lease) = self.read().await? else { return self.create().await };
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(false);
        }
        self.write(lease, self.claim(Some(&spec))).await.map(|()| true)
    }

    async fn create(&self) -> Result<bool, api::Error> {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(self.claim(None)) };
        api::call("create", "lease", self.leases.create(&PostParams::default(), &lease)).await.map(|_| true)
    }

    /// Gives the lease up, so that another need not wait for its end.
    pub(super) async fn resign(&self) {
        if !self.leadership.is_held() {
            return;
        }
        self.leadership.set(None);
        let given_up = async {
            let Some(lease) = self.read().await? else { return Ok(()) };
            let mut spec = lease.spec.clone().unwrap_or_default();
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = None;
            self.write(lease, spec).await
        };
        if let Err::<(), api::Error>(error) = given_up.await {
            tracing::warn!(%error, "the lease could not be given up; another replica waits for its end");
        }
    }

    fn claim(&self, former: Option<&LeaseSpec>) -> LeaseSpec {
        let now: Timestamp = Clock.now();
        let ours = former.is_some_and(|former| former.holder_identity.as_deref() == Some(&self.identity));
        let transitions = former.and_then(|former| former.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: former.filter(|_| ours).map_or(Some(MicroTime(now)), |former| former.acquire_time.clone()),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if ours || former.is_none() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }

    async fn read(&self) -> Result<Option<Lease>, api::Error> {
        api::call("get", "lease", self.leases.get_opt(&self.name)).await
    }

    /// Replaces the lease as it was read: somebody who wrote it in between makes this a conflict.
    async fn write(&self, mut lease: Lease, spec: LeaseSpec) -> Result<(), api::Error> {
        lease.spec = Some(spec);
        lease.metadata.managed_fields = None;
        api::call("replace", "lease", self.leases.replace(&self.name, &PostParams::default(), &lease)).await.map(drop)
    }
}
