//! Carries out checks: which of them, on what, how often. What one try does is in the file of its kind.
//! Changes nothing but the probe key and the sessions it makes itself; shows no secret, address or body.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::budget::{self, Figures};
use super::evidence::LONGEST_MESSAGE;
use super::{Check, CheckResult, Expect, Kind, LogGroup, Outcome, SecretKeyRef, Stage, StoreCondition};
use crate::error::{CloudError, presentable};
use crate::identity::Address;

mod http;
mod logs;
mod redis;
mod session;

pub use http::{Client, ClientError};

/// Checks carried out at the same time.
const CONCURRENT: usize = 8;

/// What the checks may look at, and how.
pub struct Context {
    /// The services, in the object's order.
    pub services: Vec<ServiceUnderCheck>,
    /// The store the stage is about; `None` where there is no Redis.
    pub store: Option<RedisTarget>,
    /// Logs count from here: the cut-over, or for a baseline the beginning of the time it stands for.
    pub since: Timestamp,
    /// Sends the requests.
    pub http: Client,
    /// The values of the Secrets that headers name; one that is missing makes its check inconclusive.
    pub secrets: BTreeMap<SecretKeyRef, SecretString>,
    /// Reads log groups; `None` skips the checks of logs.
    pub logs: Option<Arc<dyn Logs>>,
    /// What is known about needs and limits.
    pub figures: Figures,
}

impl Context {
    /// Every secret that could come back in a foreign text.
    fn secret_values(&self) -> Vec<&str> {
        let password = self.store.as_ref().and_then(|store| store.password.as_ref());
        self.secrets.values().chain(password).map(ExposeSecret::expose_secret).collect()
    }
}

/// A service the checks are made on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceUnderCheck {
    /// Its name.
    pub name: String,
    /// Its own host as App Runner tells it, without a scheme; a port only where it is not 443.
    pub host: Option<String>,
    /// Its log groups.
    pub log_groups: BTreeMap<LogGroup, String>,
}

/// A store to connect to.
#[derive(Clone, Debug)]
pub struct RedisTarget {
    /// Where.
    pub address: Address,
    /// With what.
    pub password: Option<SecretString>,
    /// Who can reach it.
    pub reach: Reach,
    /// Connections it allows, where its vendor tells.
    pub connection_limit: Option<u32>,
    /// PEM of the authorities that vouch for it; `None` takes the system's.
    pub authorities: Option<Vec<u8>>,
}

/// Who can reach a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Anyone.
    Internet,
    /// Only what is in its VPC: a time-out from elsewhere means nothing.
    Vpc,
}

/// Reads log groups.
pub trait Logs: Send + Sync {
    /// The events of `group` since `since` that contain `text`, literally and with its case; [`filter_pattern`] asks
    /// CloudWatch for them. May return others too. A group that is not there is an error of class NotFound, not an
    /// empty answer: nothing can be said of logs that do not exist.
    fn filter<'a>(
        &'a self,
        group: &'a str,
        since: Timestamp,
        text: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<LogEvent>, CloudError>> + Send + 'a>>;
}

/// CloudWatch's filter pattern for the literal `text`: an exact phrase in quotes, so that `[`, `?` and `-` mean themselves.
#[must_use]
pub fn filter_pattern(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// One event of a log group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// When it was written.
    pub timestamp: Timestamp,
    /// What was written.
    pub message: String,
}

/// What one try saw.
#[derive(Debug)]
struct Seen {
    outcome: Outcome,
    message: String,
}

impl Seen {
    fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self { outcome, message: message.into() }
    }

    fn skipped(why: &str) -> Self {
        Self::new(Outcome::Skipped(why.to_owned()), why)
    }
}

/// Makes those of `checks` that belong to `stage`, several at a time, and tells each result as it comes. The results are
/// in the order of the checks and, within one, of the services.
pub async fn run(
    checks: &[Check],
    stage: Stage,
    context: &Context,
    progress: impl Fn(CheckResult),
) -> Vec<CheckResult> {
    let jobs = checks.iter().filter(|check| check.stages.contains(&stage)).flat_map(|check| jobs(check, context));
    // Boxed one by one: a future over a closure that borrows could not be sent to another thread.
    let runs: Vec<BoxFuture<'_, _>> = jobs
        .enumerate()
        .map(|(index, job)| async move { (index, carry_out(job, stage, context).await) }.boxed())
        .collect();
    let mut results: Vec<_> =
        stream::iter(runs).buffer_unordered(CONCURRENT).inspect(|(_, result)| progress(result.clone())).collect().await;
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// One check on one service, or on none.
struct Job<'a> {
    check: &'a Check,
    subject: Subject<'a>,
}

enum Subject<'a> {
    Store,
    Service(&'a ServiceUnderCheck),
    /// A service that is named and not among the object's.
    Stranger(&'a str),
}

fn jobs<'a>(check: &'a Check, context: &'a Context) -> Vec<Job<'a>> {
    let subjects = match &check.kind {
        Kind::Redis(_) | Kind::Budget(_) => vec![Subject::Store],
        Kind::Http(_) | Kind::Session(_) | Kind::Logs(_) if check.services.is_empty() => {
            context.services.iter().map(Subject::Service).collect()
        }
        Kind::Http(_) | Kind::Session(_) | Kind::Logs(_) => {
            let find = |name: &'a String| {
                let known = context.services.iter().find(|service| service.name == *name);
                known.map_or(Subject::Stranger(name), Subject::Service)
            };
            check.services.iter().map(find).collect()
        }
    };
    subjects.into_iter().map(|subject| Job { check, subject }).collect()
}

async fn carry_out(job: Job<'_>, stage: Stage, context: &Context) -> CheckResult {
    let Job { check, subject } = job;
    let service = match subject {
        Subject::Store => None,
        Subject::Service(service) => Some(service.name.clone()),
        Subject::Stranger(name) => Some(name.to_owned()),
    };
    let Seen { outcome, message } = match not_for_this_store(check, context) {
        Some(why) => Seen::skipped(why),
        None => try_until_decided(check, &subject, stage, context).await,
    };
    let surprise = outcome == Outcome::Works && check.expect == Expect::Unsupported;
    let message = if surprise { format!("works now, set expect: Pass; {message}") } else { message };
    CheckResult {
        name: check.name.clone(),
        service,
        severity: check.severity,
        // What must work although it was broken before is a reason to go back, never one to hold what has come back.
        required: check.required && stage != Stage::AfterRollback,
        verdict: outcome.verdict(check.expect),
        message: presentable(&message, LONGEST_MESSAGE),
    }
}

fn not_for_this_store(check: &Check, context: &Context) -> Option<&'static str> {
    match (check.store, &context.store) {
        (Some(StoreCondition::Redis), None) => Some("for a Redis, and the store is disabled"),
        (Some(StoreCondition::Disabled), Some(_)) => Some("for a disabled store, and there is a Redis"),
        (None, _) | (Some(StoreCondition::Redis), Some(_)) | (Some(StoreCondition::Disabled), None) => None,
    }
}

async fn try_until_decided(check: &Check, subject: &Subject<'_>, stage: Stage, context: &Context) -> Seen {
    let mut in_a_row = 0;
    let mut attempt = 1;
    loop {
        let seen = try_once(check, subject, stage, context).await;
        in_a_row = if seen.outcome == Outcome::Works { in_a_row + 1 } else { 0 };
        let decided = match seen.outcome {
            Outcome::Works => in_a_row >= check.consecutive,
            // No later try of the same run would be answered otherwise.
            Outcome::Unsupported | Outcome::Skipped(_) => true,
            Outcome::Broken | Outcome::Unclear => check.attempts - attempt < check.consecutive,
        };
        if decided || attempt >= check.attempts {
            return match (&seen.outcome, attempt) {
                (Outcome::Broken | Outcome::Unclear, 2..) => {
                    Seen { message: format!("{} (try {attempt} of {})", seen.message, check.attempts), ..seen }
                }
                (Outcome::Works, _) if in_a_row < check.consecutive => Seen::new(
                    Outcome::Broken,
                    format!("{in_a_row} successes in a row in {attempt} tries, {} are asked for", check.consecutive),
                ),
                _ => seen,
            };
        }
        attempt += 1;
        tokio::time::sleep(check.interval).await;
    }
}

async fn try_once(check: &Check, subject: &Subject<'_>, stage: Stage, context: &Context) -> Seen {
    let service = match subject {
        Subject::Store => None,
        Subject::Service(service) => Some(*service),
        Subject::Stranger(name) => {
            let text =
                format!("{} is none of the object's services: correct the check's services", presentable(name, 63));
            return Seen::new(Outcome::Unclear, text);
        }
    };
    match (&check.kind, service) {
        (Kind::Redis(redis), _) => redis::probe(redis, check.timeout, stage, context).await,
        (Kind::Budget(budget), _) => {
            let (outcome, words) = budget::weigh(budget, &context.figures);
            Seen::new(outcome, words)
        }
        (Kind::Http(request), Some(service)) => http::probe(request, check.timeout, service, context).await,
        (Kind::Session(session), Some(service)) => session::probe(session, check.timeout, service, context).await,
        (Kind::Logs(logs), Some(service)) => logs::probe(logs, check.timeout, service, context).await,
        (Kind::Http(_) | Kind::Session(_) | Kind::Logs(_), None) => {
            Seen::new(Outcome::Unclear, "the object has no service to look at")
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_pattern_is_one_exact_phrase() {
        assert_eq!(super::filter_pattern("[Redis] Connected"), r#""[Redis] Connected""#);
        assert_eq!(super::filter_pattern(r#"say "no\" -x"#), r#""say \"no\\\" -x""#);
    }
}
