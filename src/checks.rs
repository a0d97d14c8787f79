//! Checks as data: what is looked at, what counts as passing, and what a run of them means.
//! Pure; `run` (feature `shell`) executes them. A control-plane error is never a reason to roll back, and Inconclusive never passes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod budget;
pub mod diagnose;
pub mod evidence;
mod parse;
pub mod request;
#[cfg(feature = "shell")]
pub mod run;
pub mod runbook;
pub mod spec;

pub use diagnose::{Diagnosis, diagnose};
pub use request::{Body, Header, HeaderSource, Request};
pub use runbook::{RunbookRef, resolve};
pub use spec::{CheckSpec, Expect, LogGroup, Method, SecretKeyRef, StoreCondition};

/// When in the life of a migration a run was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Stage {
    /// Before the switch, on the store in use: what a later run is judged against.
    Baseline,
    /// Before the switch, on the new store alone.
    Target,
    /// After the drain.
    AfterSwitch,
    /// Again and again until the bake is over.
    Bake,
    /// After the way back.
    AfterRollback,
    /// At rest.
    Rest,
}

impl Stage {
    /// Every stage, in the order of a migration.
    pub const ALL: [Self; 6] =
        [Self::Baseline, Self::Target, Self::AfterSwitch, Self::Bake, Self::AfterRollback, Self::Rest];
}

/// The runs that somebody has been told of, by when they began.
#[derive(Clone, Debug, Default)]
pub struct Told(BTreeMap<Stage, Timestamp>);

impl Told {
    /// The runs that are over and were not told yet; they are from now on.
    pub fn news<'a>(&mut self, runs: &'a BTreeMap<Stage, Run>) -> Vec<(Stage, &'a Run)> {
        let finished = runs.iter().filter(|(_, run)| run.finished.is_some());
        let fresh = finished.filter(|(stage, run)| self.0.insert(**stage, run.started) != Some(run.started));
        fresh.map(|(stage, run)| (*stage, run)).collect()
    }
}

/// One check, valid and with every default filled in. Made by [`resolve`] from a [`CheckSpec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name, unique in the object.
    pub name: String,
    /// What a failure leads to.
    pub severity: Severity,
    /// A failure counts even where the baseline failed too.
    pub required: bool,
    /// Most tries in one run.
    pub attempts: u32,
    /// Successes in a row that make it pass; at most `attempts`.
    pub consecutive: u32,
    /// Time for one try.
    pub timeout: Duration,
    /// Pause between two tries.
    pub interval: Duration,
    /// What is expected.
    pub expect: Expect,
    /// The stages it is made at.
    pub stages: BTreeSet<Stage>,
    /// The services it is made on; empty means all.
    pub services: Vec<String>,
    /// Made only while the store is of this sort.
    pub store: Option<StoreCondition>,
    /// What is looked at.
    pub kind: Kind,
}

impl Check {
    /// A check of `kind` with every default.
    #[must_use]
    pub fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            severity: Severity::default(),
            required: false,
            attempts: 3,
            consecutive: 1,
            timeout: Duration::from_secs(10),
            interval: Duration::from_secs(1),
            expect: Expect::default(),
            stages: kind.default_stages(),
            services: Vec::new(),
            store: None,
            kind,
        }
    }

    /// The secrets its headers take values from.
    pub fn secrets(&self) -> Vec<&SecretKeyRef> {
        let requests: Vec<&Request> = match &self.kind {
            Kind::Http(request) => vec![request],
            Kind::Session(session) => {
                [Some(&session.create), Some(&session.validate), session.end.as_ref()].into_iter().flatten().collect()
            }
            Kind::Redis(_) | Kind::Logs(_) | Kind::Budget(_) => Vec::new(),
        };
        requests.into_iter().flat_map(Request::secrets).collect()
    }
}

/// What a check looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The store itself.
    Redis(RedisCheck),
    /// One request to a service.
    Http(Request),
    /// One session, read by many requests.
    Session(Box<SessionCheck>),
    /// What a service wrote to its logs.
    Logs(LogsCheck),
    /// Connections and commands against the store's limits. Arithmetic only.
    Budget(BudgetCheck),
}

impl Kind {
    /// Where a check of this kind looks from.
    #[must_use]
    pub fn vantage(&self) -> Vantage {
        match self {
            Self::Redis(_) => Vantage::Operator,
            Self::Http(_) | Self::Session(_) | Self::Logs(_) => Vantage::Service,
            Self::Budget(_) => Vantage::Arithmetic,
        }
    }

    /// The stages a check of this kind is made at when none are named. Whatever writes is never made at rest:
    /// the user's command quota is not ours to burn.
    #[must_use]
    pub fn default_stages(&self) -> BTreeSet<Stage> {
        use Stage::{AfterRollback, AfterSwitch, Bake, Baseline, Rest, Target};
        match self {
            Self::Redis(_) => BTreeSet::from(Stage::ALL),
            Self::Http(request) if request.method.is_safe() => {
                BTreeSet::from([Baseline, AfterSwitch, Bake, AfterRollback, Rest])
            }
            Self::Http(_) | Self::Session(_) => BTreeSet::from([Baseline, AfterSwitch, Bake, AfterRollback]),
            // What must appear is about the new store: it was not written before the switch, nor is it after the way back.
            Self::Logs(logs) if !logs.appear.is_empty() => BTreeSet::from([AfterSwitch, Bake]),
            Self::Logs(_) => BTreeSet::from([Baseline, AfterSwitch, Bake, AfterRollback]),
            Self::Budget(_) => BTreeSet::from([Target, Rest]),
        }
    }
}

/// From where a check looks, and therefore whose word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vantage {
    /// A connection made by whoever runs the check.
    Operator,
    /// What the service itself answers or logs: it sees the store through its own egress.
    Service,
    /// Nothing is dialled.
    Arithmetic,
}

/// A check of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisCheck {
    /// Whether SETEX, GET, TTL and DEL are tried on a key of our own; never at rest, whatever is said here.
    pub write: bool,
    /// The expiry given to that key, whole seconds.
    pub ttl: Duration,
    /// Limit on the time of a PING.
    pub latency: Option<Latency>,
    /// Whether the connection must be TLS.
    pub tls: bool,
    /// Most connections in use, percent of the limit.
    pub max_connected_percent: Option<u32>,
}

/// Limit on the time of a PING.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Which percentile is looked at, 1–100.
    pub percentile: u32,
    /// How long it may be.
    pub max: Duration,
    /// How many PINGs are sent.
    pub samples: u32,
}

/// A check of one session, created once and read many times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCheck {
    /// Makes the session.
    pub create: Request,
    /// Where its answer carries the session.
    pub token: Token,
    /// Reads the session.
    pub validate: Request,
    /// Ends the session.
    pub end: Option<Request>,
    /// How often it is read, each time on a connection of its own.
    pub times: u32,
    /// How long after its creation it may be refused.
    pub grace: Duration,
    /// The header that tells which instance answered.
    pub instance_header: Option<String>,
    /// How many different instances must have answered.
    pub min_instances: u32,
}

/// Where an answer carries a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Token {
    /// In this cookie; sent back as a cookie.
    Cookie(String),
    /// At this place of the JSON body; put where a request says `{token}`.
    Json(String),
}

/// A check of a service's logs since the cut-over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsCheck {
    /// Which of the service's log groups.
    pub group: LogGroup,
    /// Literal texts of which each must appear.
    pub appear: Vec<String>,
    /// Literal texts of which none may appear.
    pub absent: Vec<String>,
}

/// A check of what the services may need against what the store gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetCheck {
    /// Connections, if they are looked at.
    pub connections: Option<ConnectionBudget>,
    /// Commands, if they are looked at.
    pub commands: Option<CommandBudget>,
}

/// Connections a deployment needs against the store's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionBudget {
    /// Connections of one instance; `None` takes the app's pool.
    pub per_instance: Option<u32>,
    /// Most instances of a service; `None` takes the service's scaling.
    pub instances: Option<u32>,
    /// The limit where the store does not tell one: the live value wins.
    pub limit: Option<u32>,
    /// Most of the limit that may be needed, percent.
    pub max_percent: u32,
}

/// Commands the app sends against the store's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandBudget {
    /// Commands a day; `None` takes the app's figure.
    pub per_day: Option<u64>,
    /// The daily limit where the store does not tell a quota: the live value wins.
    pub limit_per_day: Option<u64>,
    /// Most of the quota that may be needed, percent.
    pub max_percent: u32,
}

/// What a failing check leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    /// Holds a migration before the switch, rolls it back after.
    #[default]
    Gate,
    /// Is reported.
    Warn,
}

/// How a check came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// As expected.
    Pass,
    /// Not as expected; the only verdict that can roll back.
    Fail,
    /// Could not be decided; never passes.
    Inconclusive,
    /// Not made, for this reason.
    Skipped(String),
}

/// What one try saw, before what was expected of it is taken into account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Works,
    /// It does not work.
    Broken,
    /// The other side said that it does not offer this.
    Unsupported,
    /// Nothing could be learnt: the fault may be on our side.
    Unclear,
    /// Not made, for this reason.
    Skipped(String),
}

impl Outcome {
    /// The verdict where `expect` was expected. A thing that works although it was thought unsupported passes:
    /// documents age, the live answer wins.
    #[must_use]
    pub fn verdict(self, expect: Expect) -> Verdict {
        match (self, expect) {
            (Self::Works, Expect::Pass | Expect::Unsupported) | (Self::Unsupported, Expect::Unsupported) => {
                Verdict::Pass
            }
            (Self::Unsupported, Expect::Pass) | (Self::Broken, Expect::Pass | Expect::Unsupported) => Verdict::Fail,
            (Self::Unclear, Expect::Pass | Expect::Unsupported) => Verdict::Inconclusive,
            (Self::Skipped(why), Expect::Pass | Expect::Unsupported) => Verdict::Skipped(why),
        }
    }
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Which check.
    pub name: String,
    /// The service it was made on, if it is about one.
    pub service: Option<String>,
    /// What a failure leads to.
    pub severity: Severity,
    /// Required even where the baseline failed too.
    pub required: bool,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen, without secrets, and what to do about it.
    pub message: String,
}

/// A run of checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it began.
    pub started: Timestamp,
    /// When it ended; `None` while it is running.
    pub finished: Option<Timestamp>,
    /// What came out.
    pub results: Vec<CheckResult>,
}

/// What a run means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Every gate passed, or failed no worse than the baseline.
    Passed,
    /// A gate that passed before fails now, or a required one fails.
    Regressed(Vec<CheckResult>),
    /// A gate could not be decided.
    Undecided(Vec<CheckResult>),
}

/// Judges `results` against `baseline`: only a regression, or a required check, counts as a failure. A gate that fails
/// now and could not be decided before is undecided: nobody knows that it got worse.
#[must_use]
pub fn judge(baseline: &[CheckResult], results: &[CheckResult]) -> Judgement {
    let baseline: BTreeMap<_, _> =
        baseline.iter().map(|before| ((before.name.as_str(), before.service.as_deref()), &before.verdict)).collect();
    let (mut regressed, mut undecided) = (Vec::new(), Vec::new());
    for result in results.iter().filter(|result| result.severity == Severity::Gate) {
        let before = baseline.get(&(result.name.as_str(), result.service.as_deref()));
        match (&result.verdict, before) {
            (Verdict::Pass | Verdict::Skipped(_), _) => {}
            (Verdict::Inconclusive, _) => undecided.push(result.clone()),
            (Verdict::Fail, None | Some(Verdict::Pass | Verdict::Skipped(_))) => regressed.push(result.clone()),
            (Verdict::Fail, Some(_)) if result.required => regressed.push(result.clone()),
            (Verdict::Fail, Some(Verdict::Fail)) => {}
            (Verdict::Fail, Some(Verdict::Inconclusive)) => undecided.push(result.clone()),
        }
    }
    if !regressed.is_empty() {
        Judgement::Regressed(regressed)
    } else if !undecided.is_empty() {
        Judgement::Undecided(undecided)
    } else {
        Judgement::Passed
    }
}

#[cfg(test)]
mod judge_tests;
