//! The whole job by the real planner on the real clients: what it plans is what the clouds accept, and it comes to rest.
//! Copier and checks are stand-ins that say "in step" and "passed": moving keys and checking have tests of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use pretty_assertions::assert_eq;
use serde_json::json;
use sessionbackend::checks::{CheckResult, Run, Severity, Stage, Verdict};
use sessionbackend::desired::{
    DeletionPolicy, Desired, EgressPolicy, ReplicationGroupRef, Retire, RulesPolicy, StoreSpec,
};
use sessionbackend::engine::{Memory, World as _, cycle};
use sessionbackend::error::{Class, CloudError};
use sessionbackend::identity::MigrationId;
use sessionbackend::journal::{Entry, Outcome, Uncarried};
use sessionbackend::observed::{Copy, CopyState, Reading};
use sessionbackend::plan::{Phase, Plan};
use sessionbackend::step::{CopyMode, Side, Step};
use sessionbackend::world::long::{Checker, Copiers, CopyJob, Endpoint, Scene};
use sessionbackend::world::{CloudWorld, Inputs, Long, StoreInputs};

use super::ground::{ByHand, Hand, PASSWORD, Sandbox, Unasked, now, string};
use super::serve::{present, target};

/// Says what a copier in step would say.
#[derive(Default)]
struct InStep(Mutex<Option<Copy>>);

impl Copiers for InStep {
    fn run(&self, job: CopyJob, mode: CopyMode) -> BoxFuture<'_, Result<(), CloudError>> {
        assert_ne!(job.from.address, job.to.address);
        assert!(job.from.password.is_some() && job.to.password.is_some());
        let state = match mode {
            CopyMode::Follow => Some(CopyState::Following),
            CopyMode::BothWays => Some(CopyState::BothWays),
            CopyMode::Clear { .. } | CopyMode::Withdraw => None,
        };
        *self.0.lock().unwrap() = state.map(|state| Copy {
            state,
            heartbeat: now(),
            here: true,
            total: 1,
            copied: 1,
            lag_ms: Some(1),
            worst_lag_ms: 1,
            conflicts: 0,
            quiet_sweeps: 0,
            quiet_since: None,
            drained: None,
            clients_from: None,
            clients_to: None,
            connected_from: Vec::new(),
            connected_to: Vec::new(),
            asked: Some(mode),
            different: None,
            uncarried_from: Uncarried::default(),
            uncarried_to: Uncarried::default(),
            other: None,
        });
        Box::pin(async { Ok(()) })
    }

    fn count_quiet<'a>(&'a self, _: &'a MigrationId, drained: Side) -> BoxFuture<'a, Result<(), CloudError>> {
        if let Some(copy) = self.0.lock().unwrap().as_mut() {
            (copy.quiet_since, copy.quiet_sweeps, copy.drained, copy.different) =
                (Some(now()), 2, Some(drained), Some(0));
        }
        Box::pin(async { Ok(()) })
    }

    fn progress<'a>(&'a self, _: &'a CopyJob) -> BoxFuture<'a, Reading<Copy>> {
        let copy = self.0.lock().unwrap().clone().map(|copy| Copy { heartbeat: now(), ..copy });
        Box::pin(async { copy.map_or(Reading::Absent, Reading::Present) })
    }

    fn traces<'a>(
        &'a self,
        _: &'a Endpoint,
        _: &'a [MigrationId],
    ) -> BoxFuture<'a, Result<BTreeSet<MigrationId>, CloudError>> {
        Box::pin(async { Ok(BTreeSet::new()) })
    }
}

/// Passes every check, but those of `fails`.
struct Says {
    fails: Option<Stage>,
    runs: Mutex<BTreeMap<Stage, Run>>,
}

impl Checker for Says {
    fn start(&self, scene: Scene) -> BoxFuture<'_, Result<(), CloudError>> {
        assert!(scene.services.iter().all(|service| service.host.is_some()), "{scene:?}");
        assert!(!format!("{scene:?}").contains(PASSWORD));
        let verdict = if self.fails == Some(scene.stage) { Verdict::Fail } else { Verdict::Pass };
        let result = CheckResult {
            name: "said".into(),
            service: None,
            severity: Severity::Gate,
            required: false,
            verdict,
            message: "as told".into(),
        };
        let run = Run { started: now(), finished: Some(now()), results: vec![result] };
        self.runs.lock().unwrap().insert(scene.stage, run);
        Box::pin(async { Ok(()) })
    }

    fn runs(&self) -> BTreeMap<Stage, Run> {
        self.runs.lock().unwrap().clone()
    }
}

pub(crate) async fn driver(sandbox: &Sandbox, fails: Option<Stage>) -> Hand {
    let long = Long {
        copiers: Arc::new(InStep::default()),
        checker: Arc::new(Says { fails, runs: Mutex::default() }),
        servers: Arc::new(Unasked),
    };
    Hand::with(sandbox, "liberty", long).await
}

/// Turns the engine until `done`; a failed step is part of the story, a plan that stops is not.
pub(crate) async fn drive(hand: &Hand, desired: &Desired, done: impl Fn(&Plan) -> bool) -> Vec<String> {
    let (deadline, mut story) = (Instant::now() + Duration::from_mins(3), Vec::new());
    let mut memory = Memory::default();
    loop {
        let turn = cycle(&hand.world, &hand.owner, desired, &mut memory, now).await;
        for outcome in &turn.outcomes {
            let failed = outcome.result.as_ref().err().map(|error| format!(" FAILED {error}")).unwrap_or_default();
            story.push(format!("{}{failed}", outcome.step));
        }
        let told = || format!("{:?} {:#?}\n{}", turn.plan.waits, turn.plan.blocks, story.join("\n"));
        if done(&turn.plan) {
            return story;
        }
        assert!(turn.plan.blocks.is_empty() || !turn.plan.steps.is_empty(), "blocked: {}", told());
        assert!(Instant::now() < deadline, "still {:?}: {}", turn.plan.phase, told());
        if turn.plan.steps.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

pub(crate) fn at_rest(plan: &Plan) -> bool {
    plan.is_converged() && plan.phase == Phase::Ready
}

/// The user's own variables without the one that needs the VPC.
pub(crate) fn variables() -> serde_json::Map<String, serde_json::Value> {
    let mut variables = super::ground::foreign();
    variables.remove("DATABASE_URL");
    variables
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_moved_and_what_the_spec_names_is_retired() {
    let sandbox = Sandbox::up();
    let by_hand = ByHand::make_with(&sandbox, variables());
    let hand = driver(&sandbox, None).await;
    let mut wanted = target(&by_hand);
    wanted.app.longest_request = Duration::from_millis(500);
    wanted.migration.bake_time = Duration::from_millis(500);
    let desired = present(wanted);
    let story = drive(&hand, &desired, at_rest).await;
    assert!(story.iter().all(|line| !line.contains("FAILED") && !line.contains(PASSWORD)), "{}", story.join("\n"));

    assert_eq!(sandbox.calls("UpdateService"), 1, "{}", story.join("\n"));
    assert_eq!(sandbox.calls("CreateDatabase"), 1);
    let service = by_hand.running(&sandbox);
    let settings = &service["SourceConfiguration"]["ImageRepository"]["ImageConfiguration"];
    assert_eq!(settings["RuntimeEnvironmentVariables"], json!(variables()));
    assert_eq!(service["NetworkConfiguration"]["EgressConfiguration"]["EgressType"], "DEFAULT");
    assert_eq!(sandbox.calls("RevokeSecurityGroupIngress"), 1);
    assert_eq!(sandbox.calls("DeleteVpcConnector"), 1);
    let journal = hand.journal().await;
    let ended = journal.migration.as_ref().unwrap().ended.as_ref().unwrap();
    assert_eq!(ended.outcome, Outcome::Completed);

    // Another process finds nothing left to do, and changes nothing.
    let again = driver(&sandbox, None).await;
    assert_eq!(drive(&again, &desired, at_rest).await, Vec::<String>::new());

    let released = Desired::absent(DeletionPolicy::Retain);
    drive(&again, &released, |plan| plan.phase == Phase::Deleted).await;
    assert_eq!(by_hand.running(&sandbox)["SourceConfiguration"], service["SourceConfiguration"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_new_store_fails_its_checks_is_as_it_was() {
    let sandbox = Sandbox::up();
    let by_hand = ByHand::make_with(&sandbox, variables());
    let hand = driver(&sandbox, Some(Stage::AfterSwitch)).await;
    let mut wanted = target(&by_hand);
    wanted.app.longest_request = Duration::from_millis(500);
    wanted.services[0].egress = EgressPolicy::Default;
    let before = by_hand.running(&sandbox);
    let story = drive(&hand, &present(wanted), |plan| plan.phase == Phase::RolledBack).await;
    let after = by_hand.running(&sandbox);
    assert_eq!(sandbox.calls("UpdateService"), 2, "{}", story.join("\n"));
    for part in ["SourceConfiguration", "NetworkConfiguration", "HealthCheckConfiguration", "InstanceConfiguration"] {
        assert_eq!(after[part], before[part], "{part}");
    }
    let journal = hand.journal().await;
    assert_eq!(journal.migration.unwrap().ended.unwrap().outcome, Outcome::RolledBack);
    assert!(journal.latch.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_update_that_slips_in_behind_our_last_look_is_found_and_named() {
    let sandbox = Sandbox::up();
    let by_hand = ByHand::make_with(&sandbox, variables());
    let hand = driver(&sandbox, None).await;
    let mut wanted = target(&by_hand);
    wanted.app.longest_request = Duration::from_millis(500);
    wanted.migration.bake_time = Duration::from_millis(500);
    let desired = present(wanted);
    sandbox.fault(&json!({ "call": "other-hand", "name": "web-app", "count": 1 }));
    let (mut memory, deadline) = (Memory::default(), Instant::now() + Duration::from_mins(1));
    let held = loop {
        let turn = cycle(&hand.world, &hand.owner, &desired, &mut memory, now).await;
        if turn.plan.phase == Phase::Held {
            break turn;
        }
        assert!(Instant::now() < deadline, "{:#?}", turn.plan);
    };
    let operations = &held.observed.services["web-app"].present().unwrap().operations;
    let [ours, theirs, ..] = operations.as_slice() else { panic!("{operations:?}") };
    let said = &held.plan.blocks.last().unwrap().message;
    assert!(said.contains(&theirs.id.0) && said.contains(&ours.id.0), "{said}");

    let word = Step::Journal { expect: held.journal.sequence, entry: Entry::Retry };
    hand.world.perform(&hand.owner, &word, &held.journal, now()).await.unwrap();
    drive(&hand, &desired, at_rest).await;
    assert_eq!(sandbox.calls("UpdateService"), 1, "ours; theirs came from elsewhere");
}

/// Somebody else sets a variable of theirs: the operation runs when this returns.
fn sets_a_variable_of_theirs(sandbox: &Sandbox, by_hand: &ByHand) {
    let mut source = by_hand.running(sandbox)["SourceConfiguration"].clone();
    source["ImageRepository"]["ImageConfiguration"]["RuntimeEnvironmentVariables"]["OWN_0"] = json!("set meanwhile");
    let update = json!({ "ServiceArn": by_hand.arn, "SourceConfiguration": source });
    sandbox.call("apprunner", "UpdateService", &update);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_of_ours_that_meets_somebody_elses_operation_is_refused_planned_again_and_lands_after_it() {
    let sandbox = Sandbox::up();
    let by_hand = ByHand::make_with(&sandbox, variables());
    let hand = driver(&sandbox, None).await;
    let mut wanted = target(&by_hand);
    wanted.app.longest_request = Duration::from_millis(500);
    wanted.migration.bake_time = Duration::from_millis(500);
    let desired = present(wanted);
    let (mut memory, deadline) = (Memory::default(), Instant::now() + Duration::from_mins(1));
    let announced = |step: &Step| matches!(step, Step::Journal { entry: Entry::Moving(..), .. });
    while !cycle(&hand.world, &hand.owner, &desired, &mut memory, now).await.outcomes.iter().any(|o| announced(&o.step))
    {
        assert!(Instant::now() < deadline, "no call was announced");
    }

    // Their operation runs, and nothing we can read shows it yet.
    sets_a_variable_of_theirs(&sandbox, &by_hand);
    sandbox.fault(&json!({ "service": "apprunner", "call": "stale" }));
    let turn = cycle(&hand.world, &hand.owner, &desired, &mut memory, now).await;
    let [call, ..] = turn.outcomes.as_slice() else { panic!("{:#?}", turn.plan) };
    assert!(matches!(&call.step, Step::PatchService(patch) if patch.service == "web-app"), "{}", call.step);
    let refused = call.result.as_ref().unwrap_err();
    assert_eq!((refused.class, refused.operation.as_str()), (Class::Conflict, "UpdateService"), "{refused}");
    assert!(refused.to_string().contains("InvalidStateException"), "the vendor's own word: {refused}");
    sandbox.no_faults();

    let story = drive(&hand, &desired, at_rest).await;
    let mut theirs = variables();
    theirs.insert("OWN_0".to_owned(), json!("set meanwhile"));
    let service = by_hand.running(&sandbox);
    let settings = &service["SourceConfiguration"]["ImageRepository"]["ImageConfiguration"];
    assert_eq!(settings["RuntimeEnvironmentVariables"], json!(theirs), "{}", story.join("\n"));
    assert!(settings["RuntimeEnvironmentSecrets"]["REDIS_URL"].is_string(), "ours has landed");
    let journal = hand.journal().await;
    assert_eq!(journal.migration.unwrap().ended.unwrap().outcome, Outcome::Completed);
}

/// A cache of the user's, with the password that the Secret of the spec has.
async fn with_password(sandbox: &Sandbox, password: &str) -> Hand {
    let long = Long {
        copiers: Arc::new(InStep::default()),
        checker: Arc::new(Says { fails: None, runs: Mutex::default() }),
        servers: Arc::new(Unasked),
    };
    let store = StoreInputs { password: Some(password.into()), ..StoreInputs::default() };
    let inputs = Inputs { store, ..Inputs::default() };
    let world = CloudWorld::new(sandbox.aws().await, Some(sandbox.upstash()), inputs, long);
    Hand { owner: sandbox.owner("liberty"), world }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_was_changed_is_told_by_another_secret() {
    const NEW: &str = "canary-word-of-a-new-password-0123456789";
    const NEWEST: &str = "canary-word-of-the-newest-password-0123456789";
    let sandbox = Sandbox::up();
    let by_hand = ByHand::make_with(&sandbox, variables());
    let mut wanted = target(&by_hand);
    let group = ReplicationGroupRef::Existing("sessions".into());
    wanted.store = StoreSpec::ReplicationGroup { group, rules: RulesPolicy::Unmanaged, credentials: true };
    wanted.migration.retire = Retire { delete_old_store: false, rules: Vec::new(), connectors: Vec::new() };
    wanted.services[0].egress = EgressPolicy::Keep;
    wanted.app.longest_request = Duration::from_millis(500);
    wanted.migration.bake_time = Duration::from_millis(500);
    let desired = present(wanted);
    let told = || {
        let service = by_hand.running(&sandbox);
        let settings = &service["SourceConfiguration"]["ImageRepository"]["ImageConfiguration"];
        let reference = string(settings, "/RuntimeEnvironmentSecrets/REDIS_URL");
        string(&sandbox.call("secretsmanager", "GetSecretValue", &json!({ "SecretId": reference })), "/SecretString")
    };

    // Sessions were in memory.
    let mut source = by_hand.running(&sandbox)["SourceConfiguration"].clone();
    source["ImageRepository"]["ImageConfiguration"]["RuntimeEnvironmentVariables"] = json!(variables());
    let without = json!({ "ServiceArn": by_hand.arn, "SourceConfiguration": source });
    sandbox.call("apprunner", "UpdateService", &without);
    by_hand.running(&sandbox);

    for (calls, password) in [(2, PASSWORD), (3, NEW), (4, NEWEST)] {
        let story = drive(&with_password(&sandbox, password).await, &desired, at_rest).await;
        assert!(story.iter().all(|line| !line.contains("FAILED") && !line.contains(password)), "{}", story.join("\n"));
        assert_eq!(sandbox.calls("UpdateService"), calls, "{}", story.join("\n"));
        assert!(told().contains(password), "it is told another one");
    }
}
