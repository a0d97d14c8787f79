//! Record: one projection of what was wanted, seen, journaled and planned to the object's status, and what of it is an event.
//! Pure, and the same for both runtimes. Says nothing that moves all the time; the planner never reads it.

mod condition;
mod costs;
mod doing;

use jiff::Timestamp;

use crate::api::condition::{Condition, Finding, Reason};
use crate::api::status::{
    CheckStatus, MigrationStatus, Phase, ServiceStatus, SessionBackendStatus, StoreStatus, Summary,
};
use crate::checks::{CheckResult, Run, Severity, Verdict};
use crate::desired::{Desired, Mode, Target};
use crate::effect::Picture;
use crate::error::{Class, presentable};
use crate::forecast::forecast;
use crate::identity::StoreId;
use crate::journal::{Gate, Migration, Outcome, StoreRecord};
use crate::observed::{self, Copy, CopyState, Egress, Observed, Reading, Store};
use crate::plan::{Awaited, Block, Inputs, Plan};
use crate::render::{Mark, is_news};
use crate::serving::{Serving, serving};

pub use condition::{EventKind, Transition, transitions};

/// The longest message of a summary: a column of `kubectl get -o wide`.
const MESSAGE: usize = 400;
/// The most notes, as the definition admits them.
const NOTES: usize = 50;
/// The most steps that are foreseen, as the definition admits them.
const FORESEEN: usize = 200;

/// What is to be said besides the plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aside<'a> {
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// The status before: it gives transition times, and the phase where nothing could be read.
    pub previous: Option<&'a SessionBackendStatus>,
    /// The last call that failed, while it is not made good.
    pub failure: Option<(Class, &'a str)>,
    /// Whether the object is paused.
    pub paused: bool,
    /// What is to be said of the object's annotations.
    pub remark: Option<&'a str>,
    /// What is in the way of taking it up as it is now, while it goes on as it was.
    pub trouble: Option<(Reason, &'a str)>,
}

/// What `plan` was made of and what it says, as the object's status.
#[must_use]
pub fn project(inputs: &Inputs<'_>, plan: &Plan, aside: &Aside<'_>) -> SessionBackendStatus {
    let Aside { generation, previous, .. } = *aside;
    let target = target(inputs.desired);
    let migration = inputs.journal.migration.as_ref();
    let phase = if aside.paused { Phase::Paused } else { phase(inputs, plan, previous) };
    let doing = doing::doing(phase, inputs, plan);
    let copy = inputs.observed.copy.present();
    let services = services(inputs, target);
    // A process that ran none itself knows what was written down.
    let checked = newest(inputs.observed).map(|run| run.results.as_slice());
    let checked = checked.or_else(|| migration.and_then(Migration::last_checks));
    let results = checked.unwrap_or_default();
    let mut status = SessionBackendStatus {
        observed_generation: generation,
        phase: Some(phase),
        summary: Summary {
            phase: progress(phase, copy),
            store: serving_words(inputs),
            checks: passed(results),
            services: arrived(inputs, target),
            message: presentable(&message(plan, aside, doing), MESSAGE),
        },
        services,
        store: serving_store(inputs),
        migration: migration.map(|migration| migration_status(migration, plan, copy)),
        checks: results.iter().map(check).collect(),
        forecast: foreseen(inputs, target),
        usage: inputs
            .observed
            .target
            .present()
            .and_then(|store| costs::usage(store, previous.and_then(|was| was.usage.as_ref()))),
        retained: costs::retained(inputs, target),
        notes: plan.notes.iter().map(|note| presentable(note, MESSAGE)).take(NOTES).collect(),
        conditions: Vec::new(),
    };
    status.conditions = conditions(&condition::findings(inputs, plan, checked, aside, doing), aside, inputs.now);
    status
}

/// The status of an object that could not even be looked at: as it was, but for why.
#[must_use]
pub fn unplanned(reason: Reason, message: &str, aside: &Aside<'_>, now: Timestamp) -> SessionBackendStatus {
    let mut status = aside.previous.cloned().unwrap_or_default();
    let waits = reason.ends_by_itself();
    let phase = match (waits, status.phase) {
        _ if aside.paused => Phase::Paused,
        (true, Some(phase)) => phase,
        (true, None) => Phase::Pending,
        (false, _) => Phase::Blocked,
    };
    status.observed_generation = aside.generation;
    status.phase = Some(phase);
    status.summary.phase = phase.to_string();
    status.summary.message = presentable(message, MESSAGE);
    let fresh = conditions(&condition::of_the_unplanned(reason, message, waits, aside), aside, now);
    status.conditions.retain(|old| !fresh.iter().any(|new| new.type_ == old.type_));
    status.conditions.splice(0..0, fresh);
    status
}

fn conditions(findings: &[Finding], aside: &Aside<'_>, now: Timestamp) -> Vec<Condition> {
    let before = aside.previous.map(|previous| previous.conditions.as_slice()).unwrap_or_default();
    findings.iter().map(|finding| finding.condition(before, aside.generation, now)).collect()
}

/// Whether two statuses say the same, transition times and figures of checks aside: what is the same is not written again.
#[must_use]
pub fn says_the_same(a: &SessionBackendStatus, b: &SessionBackendStatus) -> bool {
    let steady = |status: &SessionBackendStatus| {
        let mut status = status.clone();
        for condition in &mut status.conditions {
            condition.last_transition_time =
                k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH);
            if OF_CHECKS.iter().any(|reason| condition.reason == reason.as_str()) {
                condition.message = without_figures(&condition.message);
            }
        }
        for check in &mut status.checks {
            check.message = check.message.as_deref().map(without_figures);
        }
        status
    };
    steady(a) == steady(b)
}

/// The reasons whose messages repeat what checks have said.
const OF_CHECKS: [Reason; 2] = [Reason::CheckFailed, Reason::CheckInconclusive];
/// What a number is followed by when it was measured, and is another one the next time.
const MEASURED: [&str; 5] = ["ms", "of", "connections", "commands", "times"];

/// A text without the numbers that differ at every look: a check that passes in 20 ms and in 17 ms says the same twice.
fn without_figures(text: &str) -> String {
    let words: Vec<_> = text.split(' ').collect();
    let unit = |at: usize| words.get(at + 1).map(|next| next.trim_end_matches(|c: char| !c.is_alphanumeric()));
    let steady = |(at, word): (usize, &&str)| {
        let is_number = word.starts_with(|first: char| first.is_ascii_digit());
        let is_moment = word.trim_end_matches([',', ';', '.']).parse::<Timestamp>().is_ok();
        let is_measured = is_number && unit(at).is_some_and(|unit| MEASURED.contains(&unit));
        if is_moment || is_measured { "#".to_owned() } else { (*word).to_owned() }
    };
    words.iter().enumerate().map(steady).collect::<Vec<_>>().join(" ")
}

/// A store as people know it.
#[must_use]
pub fn store_words(id: &StoreId, name: &str) -> String {
    match id {
        StoreId::Upstash(_) if !name.is_empty() => format!("Upstash {name}"),
        StoreId::Upstash(_)
        | StoreId::ReplicationGroup(_)
        | StoreId::ServerlessCache(_)
        | StoreId::External(..)
        | StoreId::Disabled => id.to_string(),
    }
}

fn target(desired: &Desired) -> Option<&Target> {
    match desired {
        Desired::Present(target) => Some(target),
        Desired::Absent { .. } => None,
    }
}

fn phase(inputs: &Inputs<'_>, plan: &Plan, previous: Option<&SessionBackendStatus>) -> Phase {
    use crate::plan::Phase as Planned;
    if is_unread(plan) {
        // Nothing can be concluded from a reading that failed: it is as it was.
        return previous.and_then(|previous| previous.phase).unwrap_or(Phase::Pending);
    }
    let moved = inputs
        .journal
        .open_migration()
        .is_some_and(|migration| migration.services.iter().any(|moved| moved.forward.is_some()));
    let stopped = plan.steps.is_empty() && !plan.blocks.is_empty() && !moved;
    match plan.phase {
        Planned::Preflight | Planned::Provisioning | Planned::Copying | Planned::Ready if stopped => Phase::Blocked,
        Planned::Preflight => Phase::Planning,
        Planned::Provisioning => Phase::Provisioning,
        Planned::Copying => Phase::Copying,
        Planned::AwaitingApproval => Phase::AwaitingApproval,
        Planned::Switching => Phase::Switching,
        Planned::Draining => Phase::Draining,
        Planned::Checking => Phase::Checking,
        Planned::Baking => Phase::Baking,
        Planned::Retiring => Phase::Retiring,
        Planned::Ready if plan.is_converged() => Phase::Ready,
        // The services are told, and something is still to be done: nobody may take it for done.
        Planned::Ready if inputs.desired.looks_only() => Phase::Planning,
        Planned::Ready if inputs.journal.settled.is_some() => Phase::Retiring,
        Planned::Ready => Phase::Provisioning,
        Planned::RollingBack => Phase::RollingBack,
        Planned::RolledBack => Phase::RolledBack,
        Planned::Held => Phase::Held,
        Planned::Blocked => Phase::Blocked,
        Planned::Deleting | Planned::Deleted => Phase::Deleting,
    }
}

/// Whether nothing can be said but that something could not be read.
fn is_unread(plan: &Plan) -> bool {
    let unread = |wait: &crate::plan::Wait| matches!(wait.on, Awaited::Reading(_));
    plan.steps.is_empty() && plan.blocks.is_empty() && !plan.waits.is_empty() && plan.waits.iter().all(unread)
}

/// The phase, and where it copies how far, in steps of 5.
fn progress(phase: Phase, copy: Option<&Copy>) -> String {
    match (phase, copy.and_then(percent)) {
        (Phase::Copying, Some(percent)) => format!("{phase} {percent}%"),
        _ => phase.to_string(),
    }
}

fn percent(copy: &Copy) -> Option<u8> {
    let percent = match copy.state {
        CopyState::Following | CopyState::BothWays => 100,
        CopyState::Starting | CopyState::Bulk | CopyState::Failed { .. } => {
            copy.copied.saturating_mul(100).checked_div(copy.total)?.min(100)
        }
    };
    u8::try_from(percent / 5 * 5).ok()
}

/// What it waits for, or what is wrong and what to do, or what is being done.
fn message(plan: &Plan, aside: &Aside<'_>, doing: &str) -> String {
    match (aside.failure, plan.blocks.first(), plan.waits.first()) {
        _ if aside.paused => Reason::Paused.remedy().to_owned(),
        (_, Some(block), _) => blocked(block),
        (Some((_, failure)), None, _) => failure.to_owned(),
        (None, None, Some(wait)) => wait.message.clone(),
        (None, None, None) => {
            let trouble = aside.trouble.map(|(_, trouble)| trouble);
            trouble.or(aside.remark).unwrap_or(doing).to_owned()
        }
    }
}

fn blocked(block: &Block) -> String {
    format!("{}: {}. {}", block.subject, block.message, block.remedy)
}

fn record_words(record: Option<&StoreRecord>) -> String {
    record.map_or_else(|| "the former wiring".to_owned(), |record| store_words(&record.id, &record.name))
}

/// The store that serves, both while a migration has services on both.
fn serving_words(inputs: &Inputs<'_>) -> String {
    if let Some(migration) = inputs.journal.open_migration() {
        let (from, to) = (record_words(migration.from.as_ref()), record_words(Some(&migration.to)));
        let moved = migration.services.iter().any(|moved| moved.forward.is_some());
        return match &migration.rollback {
            Some(rollback) if rollback.drained.is_some() => from,
            Some(_) if moved => format!("{to} → {from}"),
            None if migration.drained.is_some() => to,
            None if moved => format!("{from} → {to}"),
            Some(_) | None => from,
        };
    }
    if let Some(store) = serving_now(inputs) {
        return store_words(&store.id, &store.name);
    }
    inputs.journal.settled.as_ref().map_or(String::new(), |settled| settled.store.to_string())
}

/// The store that serves when nothing is under way, as it is seen.
fn serving_now<'a>(inputs: &Inputs<'a>) -> Option<&'a Store> {
    let observed = inputs.observed;
    let ids = target(inputs.desired).map(|target| serving_ids(observed, target)).unwrap_or_default();
    let stores = [observed.source.present(), observed.target.present()];
    stores.into_iter().flatten().find(|store| ids.contains(&store.id))
}

fn serving_ids(observed: &Observed, target: &Target) -> Vec<StoreId> {
    let names = crate::env::names(&target.env.format);
    let services = target.services.iter().filter_map(|spec| observed.services.get(&spec.name)?.present());
    services.filter_map(|service| serving(service, &names, &observed.catalog).id()).collect()
}

fn serving_store(inputs: &Inputs<'_>) -> Option<StoreStatus> {
    let store = match inputs.journal.open_migration() {
        Some(migration) if migration.drained.is_some() && migration.rollback.is_none() => {
            inputs.observed.target.present()
        }
        Some(_) => inputs.observed.source.present(),
        None => serving_now(inputs),
    }?;
    let (kind, id) = match &store.id {
        StoreId::Upstash(id) => ("Upstash", Some(id.clone())),
        StoreId::ReplicationGroup(id) => ("ElastiCache", Some(id.clone())),
        StoreId::ServerlessCache(name) => ("ElastiCacheServerless", Some(name.clone())),
        StoreId::External(..) => ("External", None),
        StoreId::Disabled => ("Disabled", None),
    };
    let made = inputs.journal.made.keys().any(|resource| match resource {
        crate::journal::Resource::UpstashDatabase(name) => kind == "Upstash" && *name == store.name,
        crate::journal::Resource::ReplicationGroup(group) => kind == "ElastiCache" && Some(group) == id.as_ref(),
        crate::journal::Resource::SubnetGroup(_)
        | crate::journal::Resource::Connector(_)
        | crate::journal::Resource::Rule(_)
        | crate::journal::Resource::Secret(_) => false,
    });
    Some(StoreStatus {
        kind: kind.to_owned(),
        id,
        name: Some(store.name.clone()),
        endpoint: store.address.as_ref().map(|address| format!("{}:{}", address.host, address.port)),
        tls: store.address.as_ref().map(|address| address.tls),
        plan: store.plan.clone(),
        version: store.server.present().map(|server| server.version.clone()),
        ours: Some(made),
    })
}

/// Services on the store of the spec, of all.
fn arrived(inputs: &Inputs<'_>, target: Option<&Target>) -> String {
    let (Some(target), Some(store)) = (target, inputs.observed.target.present()) else { return String::new() };
    let there = serving_ids(inputs.observed, target).iter().filter(|id| **id == store.id).count();
    format!("{there}/{}", target.services.len())
}

fn services(inputs: &Inputs<'_>, target: Option<&Target>) -> Vec<ServiceStatus> {
    let Some(target) = target else { return Vec::new() };
    let names = crate::env::names(&target.env.format);
    let last = |name: &str| {
        let moved = inputs.journal.migration.as_ref()?.service(name)?;
        let calls = [&moved.deployments_restored, &moved.back, &moved.egress_moved, &moved.forward];
        calls.into_iter().flatten().max_by_key(|moved| moved.intended)?.operation.as_ref().map(ToString::to_string)
    };
    let one = |spec: &crate::desired::ServiceRef| {
        let reading = inputs.observed.services.get(&spec.name).unwrap_or(&Reading::Absent);
        let (service, message) = match reading {
            Reading::Present(service) => (Some(service), None),
            Reading::Absent => (None, Some("App Runner has no service of that name".to_owned())),
            Reading::Unknown(error) => (None, Some(format!("it could not be read: {error}"))),
            Reading::Hidden(why) => (None, Some(why.clone())),
        };
        let known = [inputs.observed.source.present(), inputs.observed.target.present()];
        let store = service.map(|service| match serving(service, &names, &inputs.observed.catalog) {
            Serving::Store(id, address) => {
                let name = known.iter().flatten().find(|store| store.id == id).map_or("", |store| store.name.as_str());
                match &id {
                    StoreId::External(..) | StoreId::Disabled => id.to_string(),
                    StoreId::Upstash(_) | StoreId::ReplicationGroup(_) | StoreId::ServerlessCache(_) => {
                        format!("{} ({})", store_words(&id, name), address.host)
                    }
                }
            }
            Serving::Nothing => StoreId::Disabled.to_string(),
            Serving::Unseen(why) => why,
        });
        ServiceStatus {
            name: spec.name.clone(),
            status: service.map(|service| status_word(&service.status).to_owned()),
            store,
            egress: service.map(|service| match &service.egress {
                Egress::Default => "DEFAULT".to_owned(),
                Egress::Vpc(arn) => arn.to_string(),
            }),
            operation_id: last(&spec.name),
            message,
        }
    };
    target.services.iter().map(one).collect()
}

/// App Runner's own word.
fn status_word(status: &observed::ServiceStatus) -> &str {
    match status {
        observed::ServiceStatus::Running => "RUNNING",
        observed::ServiceStatus::OperationInProgress => "OPERATION_IN_PROGRESS",
        observed::ServiceStatus::Paused => "PAUSED",
        observed::ServiceStatus::CreateFailed => "CREATE_FAILED",
        observed::ServiceStatus::DeleteFailed => "DELETE_FAILED",
        observed::ServiceStatus::Deleted => "DELETED",
        observed::ServiceStatus::Other(word) => word,
    }
}

fn migration_status(migration: &Migration, plan: &Plan, copy: Option<&Copy>) -> MigrationStatus {
    let open = migration.ended.is_none();
    let copy = copy.filter(|_| open);
    let why = match (&migration.hold, &migration.rollback) {
        (Some(hold), _) if open => Some((hold.reason.clone(), hold.message.clone())),
        (_, Some(rollback)) => Some((rollback.reason.clone(), rollback.message.clone())),
        (Some(_) | None, None) => None,
    };
    MigrationStatus {
        id: migration.id.to_string(),
        from: record_words(migration.from.as_ref()),
        to: record_words(Some(&migration.to)),
        started: Some(crate::render::moment(migration.began)),
        ended: migration.ended.as_ref().map(|ended| crate::render::moment(ended.at)),
        outcome: migration.ended.as_ref().map(|ended| {
            match ended.outcome {
                Outcome::Completed => "Completed",
                Outcome::RolledBack => "RolledBack",
                Outcome::Abandoned => "Abandoned",
            }
            .to_owned()
        }),
        lag: copy.and_then(|copy| copy.lag_ms).map(lag),
        copied: copy.and_then(percent),
        conflicts: copy
            .map(|copy| copy.conflicts)
            .or(migration.copied.map(|copied| copied.conflicts))
            .map(|conflicts| i64::try_from(conflicts).unwrap_or(i64::MAX)),
        worst_lag_ms: migration.copied.map(|copied| i64::try_from(copied.worst_lag_ms).unwrap_or(i64::MAX)),
        gate: plan.waits.iter().find_map(|wait| gate(&wait.on)).map(|gate| gate.to_string()),
        reason: why.as_ref().map(|(reason, _)| reason.clone()),
        message: why.map(|(_, message)| presentable(&message, MESSAGE)),
    }
}

fn gate(on: &Awaited) -> Option<Gate> {
    if let Awaited::Approval(gate) = on { Some(*gate) } else { None }
}

/// The lag in steps, so that a status does not change with every look.
fn lag(millis: u64) -> String {
    let step = [1, 2, 5, 10, 30, 60, 300].into_iter().find(|seconds| millis <= seconds * 1000);
    step.map_or("over 300s".to_owned(), |seconds| format!("{seconds}s"))
}

fn newest(observed: &Observed) -> Option<&Run> {
    observed.checks.values().filter(|run| run.finished.is_some()).max_by_key(|run| run.started)
}

fn passed(results: &[CheckResult]) -> String {
    if results.is_empty() {
        return String::new();
    }
    let made: Vec<_> = results.iter().filter(|result| !matches!(result.verdict, Verdict::Skipped(_))).collect();
    let passed = made.iter().filter(|result| result.verdict == Verdict::Pass).count();
    format!("{passed}/{}", made.len())
}

fn check(result: &CheckResult) -> CheckStatus {
    let (verdict, skipped) = match &result.verdict {
        Verdict::Pass => ("Pass", None),
        Verdict::Fail => ("Fail", None),
        Verdict::Inconclusive => ("Inconclusive", None),
        Verdict::Skipped(why) => ("Skipped", Some(why.clone())),
    };
    CheckStatus {
        name: result.name.clone(),
        service: result.service.clone(),
        severity: match result.severity {
            Severity::Gate => "Gate",
            Severity::Warn => "Warn",
        }
        .to_owned(),
        verdict: verdict.to_owned(),
        message: skipped.or_else(|| Some(result.message.clone())).filter(|message| !message.is_empty()),
    }
}

/// What would be done, where nothing is to be done but to look.
fn foreseen(inputs: &Inputs<'_>, target: Option<&Target>) -> Vec<String> {
    if target.is_none_or(|target| target.mode != Mode::Plan) {
        return Vec::new();
    }
    let picture = Picture { observed: inputs.observed.clone(), journal: inputs.journal.clone() };
    let ahead = forecast(inputs.owner, inputs.desired, &picture, inputs.now);
    let steps = ahead.waves.iter().flat_map(|wave| &wave.steps).filter(|step| is_news(step));
    steps
        .map(|step| format!("{} {}", Mark::of(step).sign(), presentable(&step.to_string(), MESSAGE)))
        .take(FORESEEN)
        .collect()
}

#[cfg(test)]
mod tests;
