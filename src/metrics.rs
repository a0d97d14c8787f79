//! What this process counts, for Prometheus. Labels are bounded: of an object its namespace and name, of a call the vendor's
//! service and operation and our class of the answer; never an id, a message or a value.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::api::SessionBackendStatus;
use crate::error::Class;
use crate::observed::Copy;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    provider: &'static str,
    operation: &'static str,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Provider {
    provider: &'static str,
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InPhase {
    namespace: String,
    name: String,
    phase: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Conditioned {
    namespace: String,
    name: String,
    condition: String,
    status: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Checked {
    namespace: String,
    name: String,
    service: String,
    check: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Keys {
    namespace: String,
    name: String,
    state: &'static str,
}

/// What is shown of one object now, so that it can be taken away when something else is.
#[derive(Default)]
struct Shown {
    phase: Option<InPhase>,
    conditions: Vec<Conditioned>,
    checks: Vec<Checked>,
}

struct Metrics {
    registry: Registry,
    requests: Family<Call, Counter>,
    durations: Family<Provider, Histogram>,
    reconciles: Family<Outcome, Counter>,
    reconcile_seconds: Histogram,
    status_writes: Counter,
    leader: Gauge,
    phases: Family<InPhase, Gauge>,
    conditions: Family<Conditioned, Gauge>,
    checks: Family<Checked, Gauge>,
    lag: Family<Named, Gauge<f64, std::sync::atomic::AtomicU64>>,
    keys: Family<Keys, Gauge>,
    conflicts: Family<Named, Gauge>,
    shown: Mutex<BTreeMap<(String, String), Shown>>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// From a millisecond to a quarter of a minute: a cloud call has a deadline of 30 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 8))
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("sessionbackend");
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds),
            reconciles: Family::default(),
            reconcile_seconds: seconds(),
            status_writes: Counter::default(),
            leader: Gauge::default(),
            phases: Family::default(),
            conditions: Family::default(),
            checks: Family::default(),
            lag: Family::default(),
            keys: Family::default(),
            conflicts: Family::default(),
            shown: Mutex::default(),
            registry: Registry::default(),
        };
        registry.register("cloud_requests", "Calls of cloud APIs, by answer", metrics.requests.clone());
        registry.register_with_unit(
            "cloud_request_duration",
            "How long calls of cloud APIs took",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register("reconcile", "Turns of all objects, by what they came to", metrics.reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "How long a turn took",
            Unit::Seconds,
            metrics.reconcile_seconds.clone(),
        );
        registry.register("status_writes", "Statuses written to the API server", metrics.status_writes.clone());
        registry.register("leader", "Whether this replica acts", metrics.leader.clone());
        registry.register("phase", "The phase an object is in", metrics.phases.clone());
        registry.register("status_condition", "The conditions of an object", metrics.conditions.clone());
        registry.register("check_success", "Whether a check passed", metrics.checks.clone());
        registry.register_with_unit(
            "migration_lag",
            "How long a change takes to reach the other store",
            Unit::Seconds,
            metrics.lag.clone(),
        );
        registry.register("migration_keys", "Keys to copy, and copied", metrics.keys.clone());
        registry.register("migration_conflicts", "Keys changed on both sides", metrics.conflicts.clone());
        Self { registry, ..metrics }
    }

    fn show(&self, key: (String, String), shown: Shown) {
        let mut all = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let former = all.remove(&key).unwrap_or_default();
        for phase in former.phase.iter().filter(|phase| shown.phase.as_ref() != Some(phase)) {
            self.phases.remove(phase);
        }
        for condition in former.conditions.iter().filter(|condition| !shown.conditions.contains(condition)) {
            self.conditions.remove(condition);
        }
        for check in former.checks.iter().filter(|check| !shown.checks.contains(check)) {
            self.checks.remove(check);
        }
        if shown.phase.is_some() {
            all.insert(key, shown);
        }
    }
}

/// A cloud call was answered, or failed with an error of this class.
pub fn cloud_request(provider: &'static str, operation: &'static str, failed: Option<Class>, took: Duration) {
    let code = failed.map_or_else(|| "Ok".to_owned(), |class| format!("{class:?}"));
    METRICS.requests.get_or_create(&Call { provider, operation, code }).inc();
    METRICS.durations.get_or_create(&Provider { provider, operation }).observe(took.as_secs_f64());
}

/// A turn of an object is over.
pub fn reconciled(result: &'static str, took: Duration) {
    METRICS.reconciles.get_or_create(&Outcome { result }).inc();
    METRICS.reconcile_seconds.observe(took.as_secs_f64());
}

/// A status was written.
pub fn status_written() {
    METRICS.status_writes.inc();
}

/// Whether this replica acts.
pub fn leads(leads: bool) {
    METRICS.leader.set(i64::from(leads));
}

/// How the copy of an object stands.
pub fn copy(namespace: &str, name: &str, copy: Option<&Copy>) {
    let named = Named { namespace: namespace.to_owned(), name: name.to_owned() };
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    for (state, count) in [("copied", copy.map(|copy| copy.copied)), ("total", copy.map(|copy| copy.total))] {
        let keys = Keys { namespace: namespace.to_owned(), name: name.to_owned(), state };
        match count {
            Some(count) => drop(METRICS.keys.get_or_create(&keys).set(whole(count))),
            None => drop(METRICS.keys.remove(&keys)),
        }
    }
    match copy {
        Some(copy) => drop(METRICS.conflicts.get_or_create(&named).set(whole(copy.conflicts))),
        None => drop(METRICS.conflicts.remove(&named)),
    }
    match copy.and_then(|copy| copy.lag_ms) {
        Some(lag) => drop(METRICS.lag.get_or_create(&named).set(Duration::from_millis(lag).as_secs_f64())),
        None => drop(METRICS.lag.remove(&named)),
    }
}

/// What is said of an object now.
pub fn object(namespace: &str, name: &str, status: &SessionBackendStatus) {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let mut shown = Shown {
        phase: status.phase.map(|phase| InPhase {
            namespace: namespace.clone(),
            name: name.clone(),
            phase: phase.to_string(),
        }),
        ..Shown::default()
    };
    if let Some(phase) = &shown.phase {
        METRICS.phases.get_or_create(phase).set(1);
    }
    for condition in &status.conditions {
        let labels = Conditioned {
            namespace: namespace.clone(),
            name: name.clone(),
            condition: condition.type_.clone(),
            status: condition.status.clone(),
        };
        METRICS.conditions.get_or_create(&labels).set(1);
        shown.conditions.push(labels);
    }
    for check in status.checks.iter().filter(|check| check.verdict != "Skipped") {
        let labels = Checked {
            namespace: namespace.clone(),
            name: name.clone(),
            service: check.service.clone().unwrap_or_default(),
            check: check.name.clone(),
        };
        METRICS.checks.get_or_create(&labels).set(i64::from(check.verdict == "Pass"));
        shown.checks.push(labels);
    }
    METRICS.show((namespace, name), shown);
}

/// An object is gone.
pub fn forget(namespace: &str, name: &str) {
    METRICS.show((namespace.to_owned(), name.to_owned()), Shown::default());
    copy(namespace, name, None);
}

/// Everything, in the text format of OpenMetrics.
#[must_use]
pub fn text() -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = text::encode(&mut out, &METRICS.registry);
    out
}
