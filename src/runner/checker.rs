//! Runs of checks as tasks of this process, at most one a stage at a time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use jiff::{Timestamp, tz::TimeZone};
use secrecy::SecretString;

use super::Now;
use crate::aws::logs::{Logs as CloudWatch, Query};
use crate::checks::budget::{Figures, Quota};
use crate::checks::run::{Client, Context, LogEvent, Logs, Reach, RedisTarget, ServiceUnderCheck, run};
use crate::checks::{LogGroup, Run, SecretKeyRef, Stage};
use crate::error::CloudError;
use crate::identity::{Arn, StoreId};
use crate::observed::CommandQuota;
use crate::world::long::{Checker, Endpoint, Limits, Scene, SceneService};

/// The most lines of a log that one check looks at.
const LINES: usize = 200;

/// The checks of this process.
pub struct LocalChecker {
    plug: Plug,
    runs: Arc<Mutex<BTreeMap<Stage, Run>>>,
}

/// What checks need besides what is looked at.
pub struct Plug {
    /// Reads the clock.
    pub now: Now,
    /// Sends requests.
    pub http: Client,
    /// Reads logs.
    pub logs: CloudWatch,
    /// Values of the Secrets that headers name.
    pub secrets: BTreeMap<SecretKeyRef, SecretString>,
}

impl LocalChecker {
    /// No run yet.
    #[must_use]
    pub fn new(plug: Plug) -> Self {
        Self { plug, runs: Arc::default() }
    }

    fn context(&self, scene: &Scene) -> Context {
        Context {
            services: scene.services.iter().map(service).collect(),
            store: scene.store.as_ref().map(|endpoint| store(endpoint, scene.limits)),
            since: scene.since.unwrap_or_else(self.plug.now),
            http: self.plug.http.clone(),
            secrets: self.plug.secrets.clone(),
            logs: Some(Arc::new(Groups(self.plug.logs.clone()))),
            figures: figures(scene, (self.plug.now)()),
        }
    }
}

impl Checker for LocalChecker {
    fn start(&self, scene: Scene) -> BoxFuture<'_, Result<(), CloudError>> {
        Box::pin(async move {
            let stage = scene.stage;
            let context = self.context(&scene);
            let (now, runs) = (self.plug.now, Arc::clone(&self.runs));
            {
                let mut runs = lock(&runs);
                if runs.get(&stage).is_some_and(|run| run.finished.is_none()) {
                    return Ok(());
                }
                runs.insert(stage, Run { started: now(), finished: None, results: Vec::new() });
            }
            tokio::spawn(async move {
                let told = |result| {
                    if let Some(run) = lock(&runs).get_mut(&stage) {
                        run.results.push(result);
                    }
                };
                let results = Box::pin(run(&scene.checks, stage, &context, told)).await;
                if let Some(run) = lock(&runs).get_mut(&stage) {
                    run.results = results;
                    run.finished = Some(now());
                }
            });
            Ok(())
        })
    }

    fn runs(&self) -> BTreeMap<Stage, Run> {
        lock(&self.runs).clone()
    }
}

fn lock(runs: &Mutex<BTreeMap<Stage, Run>>) -> MutexGuard<'_, BTreeMap<Stage, Run>> {
    runs.lock().unwrap_or_else(PoisonError::into_inner)
}

fn service(service: &SceneService) -> ServiceUnderCheck {
    let groups = [(LogGroup::Application, "application"), (LogGroup::Service, "service")];
    let named = groups.into_iter().filter_map(|(group, last)| Some((group, log_group(&service.arn, last)?)));
    ServiceUnderCheck { name: service.name.clone(), host: service.host.clone(), log_groups: named.collect() }
}

/// App Runner logs to `/aws/apprunner/<name>/<id>/application` and `…/service`.
fn log_group(arn: &Arn, last: &str) -> Option<String> {
    let (_, path) = arn.0.split_once(":service/")?;
    Some(format!("/aws/apprunner/{path}/{last}"))
}

fn figures(scene: &Scene, now: Timestamp) -> Figures {
    let quota = |quota: CommandQuota| Quota { limit: quota.limit, used: quota.used, days_left: days_left(now) };
    Figures {
        pool_max: scene.app.pool_max,
        instances: scene.services.iter().map(|service| (service.name.clone(), service.max_instances)).collect(),
        connection_limit: scene.limits.connections,
        commands_per_day: scene.app.commands_per_day,
        quota: scene.limits.quota.map(quota),
        our_commands: scene.our_commands,
    }
}

/// Days until a monthly quota begins anew, today among them; months are counted in UTC.
fn days_left(now: Timestamp) -> u32 {
    let today = now.to_zoned(TimeZone::UTC).date();
    u32::try_from(today.days_in_month() - today.day() + 1).unwrap_or(1)
}

fn store(endpoint: &Endpoint, limits: Limits) -> RedisTarget {
    let reach = match endpoint.store {
        StoreId::ReplicationGroup(_) | StoreId::ServerlessCache(_) => Reach::Vpc,
        StoreId::Upstash(_) | StoreId::External(..) | StoreId::Disabled => Reach::Internet,
    };
    RedisTarget {
        address: endpoint.address.clone(),
        password: endpoint.password.clone(),
        reach,
        connection_limit: limits.connections,
        authorities: None,
    }
}

/// CloudWatch's log groups.
struct Groups(CloudWatch);

impl Logs for Groups {
    fn filter<'a>(
        &'a self,
        group: &'a str,
        since: Timestamp,
        text: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<LogEvent>, CloudError>> + Send + 'a>> {
        Box::pin(async move {
            // A quoted pattern is the text itself; inside it only quotes and backslashes mean something.
            let pattern = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let query =
                Query { group: group.to_owned(), since: Some(since), pattern, limit: LINES, ..Query::default() };
            let lines = self.0.lines(&query).await?;
            Ok(lines.into_iter().map(|line| LogEvent { timestamp: line.at, message: line.message }).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::budget::weigh;
    use crate::checks::{BudgetCheck, CommandBudget, ConnectionBudget, Outcome};
    use crate::desired::{App, Fallback};
    use crate::identity::Owner;

    fn scene(limits: Limits) -> Scene {
        Scene {
            owner: Owner {
                installation: "default".into(),
                account: "123456789012".into(),
                region: "us-east-1".into(),
                namespace: "liberty".into(),
                name: "liberty-social".into(),
            },
            stage: Stage::Target,
            checks: Vec::new(),
            app: App {
                session_ttl: None,
                max_connections: None,
                longest_request: std::time::Duration::from_mins(2),
                cluster_client: false,
                fallback: Fallback::None,
                pool_max: Some(10),
                commands_per_day: Some(10_000),
            },
            services: vec![SceneService {
                name: "liberty-web".into(),
                arn: "arn".into(),
                host: None,
                max_instances: Some(25),
            }],
            store: None,
            limits,
            our_commands: 15_000,
            since: None,
        }
    }

    #[test]
    fn a_budget_is_weighed_by_what_the_vendor_allows_and_with_our_own_commands() {
        let budget = BudgetCheck {
            connections: Some(ConnectionBudget {
                per_instance: None,
                instances: None,
                limit: Some(30),
                max_percent: 100,
            }),
            commands: Some(CommandBudget { per_day: None, limit_per_day: Some(10_000), max_percent: 100 }),
        };
        let quota = Some(CommandQuota { limit: 500_000, used: 100_000 });
        let free = scene(Limits { connections: Some(10_000), quota });
        let weighed = |now: &str| weigh(&budget, &figures(&free, now.parse().unwrap()));
        let (outcome, words) = weighed("2026-11-21T12:00:00Z");
        assert_eq!(outcome, Outcome::Works, "{words}");
        assert!(words.contains("= 500, at most 10000 (the store's limit; the check says 30)"), "{words}");
        assert!(
            words.contains("115000 commands, at most 400000 (left of the quota of 500000, 10 days to go)"),
            "{words}"
        );
        let used =
            scene(Limits { connections: Some(65_000), quota: Some(CommandQuota { limit: 500_000, used: 400_000 }) });
        assert_eq!(weigh(&budget, &figures(&used, "2026-11-21T12:00:00Z".parse().unwrap())).0, Outcome::Broken);
    }

    #[test]
    fn a_month_has_today_left_on_its_last_day() {
        for (now, left) in [("2026-11-30T23:59:59Z", 1), ("2026-11-01T00:00:00Z", 30), ("2028-02-28T12:00:00Z", 2)] {
            assert_eq!(days_left(now.parse().unwrap()), left, "{now}");
        }
    }

    #[test]
    fn log_groups_follow_from_the_arn() {
        let arn =
            Arn::from("arn:aws:apprunner:us-east-1:123456789012:service/liberty-web/0123456789abcdef0123456789abcdef");
        let expected = "/aws/apprunner/liberty-web/0123456789abcdef0123456789abcdef/application";
        assert_eq!(log_group(&arn, "application").as_deref(), Some(expected));
    }
}
