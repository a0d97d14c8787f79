//! What people and scripts see of the command line: golden texts of plan, apply and status over the world in memory, and
//! the release binary's own behaviour where no cloud is needed. `UPDATE_GOLDEN=1` writes the goldens anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::pedantic, reason = "in a test a panic is the message")]

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sessionbackend::backoff::{Backoff, Pause};
use sessionbackend::checks::Stage;
use sessionbackend::cli::drive::Drive;
use sessionbackend::cli::exit;
use sessionbackend::clock::Time;
use sessionbackend::desired::{Approval, DeletionPolicy, Desired, Retire, Target};
use sessionbackend::effect::Picture;
use sessionbackend::engine::Cycle;
use sessionbackend::journal::{Entry, Gate};
use sessionbackend::observed::{CopyState, HELD, Reading};
use sessionbackend::plan::{Awaited, Inputs, Phase, plan};
use sessionbackend::render::apply::{CopyFigures, Ending, Event, Narrator, Told, waiting};
use sessionbackend::render::plan::Preview;
use sessionbackend::render::status::{Driver, Report};
use sessionbackend::sim::{Fault, Faults, SimWorld};
use sessionbackend::status::{Aside, project, says_the_same, transitions};
use sessionbackend::stop::Stop;
use sessionbackend::word::{Answer, Word, answer, answer_to, closes};

use support::*;

/// Compares with a committed text, or writes it.
fn golden(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    pretty_assertions::assert_str_eq!(expected, actual, "{name}; UPDATE_GOLDEN=1 writes it anew");
}

/// Virtual time: sleeping is letting the world go on.
struct Virtual<'a>(&'a SimWorld);

impl Time for Virtual<'_> {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.0.advance(duration.max(Duration::from_millis(50)));
    }
}

struct Story {
    ending: Ending,
    told: Vec<Told>,
}

impl Story {
    fn lines(&self) -> String {
        let mut narrator = Narrator::default();
        self.told.iter().flat_map(|told| narrator.lines(told)).map(|line| line + "\n").collect()
    }
}

/// What `apply` says in `world`, interrupted when `enough` says so.
fn apply_until(world: &SimWorld, desired: &Desired, enough: impl Fn(&Event) -> bool + Sync) -> Story {
    let told = Mutex::new(Vec::new());
    let (asker, stop) = Stop::new();
    let tell = |event: &Told| {
        if enough(&event.event) {
            asker.ask();
        }
        told.lock().unwrap().push(event.clone());
    };
    let drive = Drive { world, time: &Virtual(world), stop: &stop, tell: &tell };
    let ending = runtime().block_on(Box::pin(drive.run(&owner(), desired)));
    Story { ending, told: told.into_inner().unwrap() }
}

fn apply(world: &SimWorld, desired: &Desired) -> Story {
    apply_until(world, desired, |_| false)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn liberty() -> Target {
    let mut target = target(&["liberty-web"]);
    target.migration.bake_time = Duration::from_mins(10);
    target
}

fn world(picture: Picture) -> SimWorld {
    start(picture, Faults::default())
}

fn preview(target: Target, picture: &Picture) -> Preview {
    Preview::of(&owner(), &present(target), picture, at(0))
}

#[test]
fn a_plan_shows_waves_waits_candidates_and_lag() {
    let mut target = liberty();
    target.migration.retire = Retire::default();
    let preview = preview(target, &on_elasticache(&["liberty-web"]));
    golden("plan.txt", &preview.text());
    golden("plan.json", &format!("{:#}\n", preview.json()));
    assert_eq!(exit::of_preview(&preview), exit::CHANGES);
}

#[test]
fn what_the_manifest_names_is_no_candidate_any_more() {
    let preview = preview(liberty(), &on_elasticache(&["liberty-web"]));
    assert!(!preview.text().contains("alsoRemove"), "{}", preview.text());
}

#[test]
fn what_somebody_else_uses_is_no_candidate() {
    let mut target = liberty();
    target.migration.retire = Retire::default();
    let mut picture = on_elasticache(&["liberty-web"]);
    let egress = sessionbackend::observed::Egress::Vpc(CONNECTOR.into());
    let other = sessionbackend::observed::Bystander {
        name: "billing".into(),
        egress,
        source: sessionbackend::observed::ServiceSource::Image,
        variables: std::collections::BTreeMap::new(),
    };
    picture.observed.bystanders = Reading::Present(vec![other]);
    assert!(!preview(target, &picture).text().contains("alsoRemove"));
}

#[test]
fn a_blocked_plan_says_what_to_do_and_exits_1() {
    let mut picture = on_elasticache(&["liberty-web"]);
    picture.observed.services.insert("liberty-web".into(), Reading::Absent);
    let preview = preview(liberty(), &picture);
    golden("plan-blocked.txt", &preview.text());
    assert_eq!(exit::of_preview(&preview), exit::ERROR);
}

#[test]
fn a_settled_object_has_no_changes() {
    let sim = world(on_elasticache(&["liberty-web"]));
    let story = apply(&sim, &present(liberty()));
    assert_eq!(exit::of(&story.ending), exit::CONVERGED, "{}", story.lines());
    let preview = preview(liberty(), &sim.picture());
    golden("plan-settled.txt", &preview.text());
    assert_eq!(exit::of_preview(&preview), exit::CONVERGED);
}

#[test]
fn apply_tells_a_migration_from_beginning_to_end() {
    let sim = world(on_elasticache(&["liberty-web"]));
    let story = apply(&sim, &present(liberty()));
    golden("apply.txt", &story.lines());
    assert!(matches!(story.ending, Ending::Converged { migration: Some(_) }));
}

#[test]
fn apply_tells_json_lines_a_script_can_read() {
    let sim = world(on_elasticache(&["liberty-web"]));
    let story = apply(&sim, &present(liberty()));
    let events: Vec<Value> = story.told.iter().map(|told| serde_json::to_value(told).unwrap()).collect();
    assert!(events.iter().all(|event| event["at"].is_string() && event["event"].is_string()));
    assert_eq!(events.first().unwrap()["event"], "started");
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["end"]), (&Value::from("ended"), &Value::from("Converged")));
    let switched = events.iter().find(|event| event["event"] == "done" && event["step"]["kind"] == "PatchService");
    assert_eq!(switched.unwrap()["step"]["mark"], "~");
}

#[test]
fn apply_tells_why_it_went_back() {
    let faults = Faults { failing_stages: [Stage::AfterSwitch].into(), ..Faults::default() };
    let sim = start(on_elasticache(&["liberty-web"]), faults);
    let story = apply(&sim, &present(liberty()));
    golden("apply-rolled-back.txt", &story.lines());
    assert_eq!(exit::of(&story.ending), exit::ROLLED_BACK);
    // Once latched, another apply says so at once and changes nothing.
    let calls = sim.calls();
    assert_eq!(exit::of(&apply(&sim, &present(liberty())).ending), exit::ROLLED_BACK);
    assert_eq!(sim.calls(), calls);
}

#[test]
fn apply_stops_at_a_gate_and_goes_on_after_the_word() {
    let mut target = liberty();
    target.migration.approval = Approval { switch: true, retire: false };
    let sim = world(on_elasticache(&["liberty-web"]));
    let story = apply(&sim, &present(target.clone()));
    let Ending::AwaitsApproval { migration: Some(id), gate: Gate::Switch } = story.ending.clone() else {
        panic!("{}", story.lines())
    };
    assert_eq!(exit::of(&story.ending), exit::APPROVAL);
    assert!(story.lines().contains(&format!("sessionbackend approve {id}/switch")));
    let word = Word::Approve(id.clone(), Gate::Switch);
    let Answer::Say(entry) = answer(&sim.picture().journal, &word) else { panic!("the gate is there") };
    sim.meddle(|picture, now| picture.journal = picture.journal.apply(&entry, now));
    assert!(matches!(answer(&sim.picture().journal, &word), Answer::Said(_)));
    assert_eq!(apply(&sim, &present(target)).ending, Ending::Converged { migration: Some(id) });
}

#[test]
fn an_interrupted_apply_makes_no_further_call_and_a_second_one_goes_on() {
    let undisturbed = world(on_elasticache(&["liberty-web"]));
    let calls = {
        let _ = apply(&undisturbed, &present(liberty()));
        undisturbed.calls()
    };
    for number in 0..calls {
        let sim = world(on_elasticache(&["liberty-web"]));
        let seen = std::sync::atomic::AtomicUsize::new(0);
        let nth = |event: &Event| {
            matches!(event, Event::Begun { .. }) && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == number
        };
        let story = apply_until(&sim, &present(liberty()), nth);
        let begun = story.told.iter().filter(|told| matches!(told.event, Event::Begun { .. })).count();
        let ended =
            story.told.iter().filter(|told| matches!(told.event, Event::Done { .. } | Event::Failed { .. })).count();
        assert_eq!(begun, ended, "a call was left in flight");
        if number + 1 < calls {
            assert!(matches!(story.ending, Ending::Interrupted { .. }), "call {number}: {:?}", story.ending);
        }
        sim.crash();
        let again = apply(&sim, &present(liberty()));
        assert!(matches!(again.ending, Ending::Converged { .. }), "after call {number}: {}", again.lines());
        for (what, times) in sim.creations() {
            assert_eq!(times, 1, "after call {number}: {what}");
        }
    }
}

#[test]
fn an_interruption_while_both_stores_are_in_use_says_what_that_means() {
    let sim = world(on_elasticache(&["liberty-web"]));
    let draining = |event: &Event| matches!(event, Event::Phase { phase: Phase::Draining });
    let story = apply_until(&sim, &present(liberty()), draining);
    let Ending::Interrupted { out_of_step: true, .. } = story.ending else { panic!("{}", story.lines()) };
    assert!(story.lines().contains("nobody keeps them in step"), "{}", story.lines());
    sim.crash();
    sim.advance(Duration::from_secs(90));
    golden("status-undriven.txt", &status_of(&sim, &liberty(), |report| report.text()));
    assert!(matches!(status_of(&sim, &liberty(), |report| report.driver()), Driver::Gone(Some(_))));
}

#[test]
fn failures_are_told_and_tried_again() {
    let faults = Faults { calls: [(3, Fault::Throttled), (4, Fault::Lost)].into(), ..Faults::default() };
    let sim = start(on_elasticache(&["liberty-web"]), faults);
    let story = apply(&sim, &present(liberty()));
    let retries = story.told.iter().filter(|told| matches!(told.event, Event::Retrying { .. })).count();
    assert!(retries >= 1 && matches!(story.ending, Ending::Converged { .. }), "{}", story.lines());
}

#[test]
fn an_aborted_migration_does_not_begin_again_by_itself() {
    let mut target = liberty();
    target.migration.approval.switch = true;
    let sim = world(on_elasticache(&["liberty-web"]));
    assert!(matches!(apply(&sim, &present(target.clone())).ending, Ending::AwaitsApproval { .. }));
    assert_eq!(answer(&sim.picture().journal, &Word::Abort), Answer::Say(Entry::Abort));
    sim.meddle(|picture, now| picture.journal = picture.journal.apply(&Entry::Abort, now));
    let story = apply(&sim, &present(target));
    assert!(matches!(story.ending, Ending::RolledBack { .. }), "{}", story.lines());
    assert_eq!(exit::of(&story.ending), exit::ROLLED_BACK);
}

#[test]
fn a_word_that_makes_no_sense_is_refused_with_a_reason() {
    let settled = {
        let sim = world(on_elasticache(&["liberty-web"]));
        let _ = apply(&sim, &present(liberty()));
        sim.picture().journal
    };
    for word in [Word::Abort, Word::Retry, Word::Approve("0-1".into(), Gate::Switch)] {
        let Answer::No(what, remedy) = answer(&settled, &word) else { panic!("{word:?}") };
        assert!(what.contains("completed") || what.contains("not open"), "{what}");
        assert!(!remedy.is_empty());
    }
}

#[test]
fn after_the_bake_an_abort_is_refused_with_the_way() {
    let mut target = liberty();
    target.migration.approval.retire = true;
    let sim = world(on_elasticache(&["liberty-web"]));
    assert!(matches!(apply(&sim, &present(target)).ending, Ending::AwaitsApproval { .. }));
    let journal = sim.picture().journal;
    assert!(journal.open_migration().unwrap().baked.is_some());
    let Answer::No(what, remedy) = answer(&journal, &Word::Abort) else { panic!("there is no way back") };
    assert!(what.contains("past its bake"), "{what}");
    assert!(remedy.contains("name ElastiCache liberty in spec.store"), "{remedy}");
}

#[test]
fn another_apply_at_work_is_no_failure_and_no_reason_to_give_a_store_up() {
    let sim = world(on_elasticache(&["liberty-web"]));
    let draining = |event: &Event| matches!(event, Event::Phase { phase: Phase::Draining });
    let _ = apply_until(&sim, &present(liberty()), draining);
    sim.meddle(|picture, now| {
        let copy = picture.observed.copy.present_mut().unwrap();
        (copy.here, copy.heartbeat) = (true, now);
        copy.other = now.checked_sub(jiff::SignedDuration::from_secs(2)).ok();
        copy.state = CopyState::Failed {
            reason: HELD.into(),
            message: "another process drives this migration (runner a-1)".into(),
            temporary: true,
        };
    });
    let Picture { observed, journal } = sim.picture();
    let (owner, desired) = (owner(), present(liberty()));
    let now = sim.now();
    let inputs =
        Inputs { owner: &owner, desired: &desired, observed: &observed, journal: &journal, announced: None, now };
    let plan = plan(&inputs);
    assert_eq!((plan.steps.len(), plan.blocks.len()), (0, 0), "{plan:?}");
    let wait = plan.waits.iter().find(|wait| wait.on == Awaited::CopyInStep).unwrap();
    assert_eq!(
        wait.message,
        "another process drives this migration (runner a-1): watching; this one takes over if it stops"
    );
    // When that was alive moves with every look: a status does not say it, a terminal does.
    let copy = Some(CopyFigures::of(observed.copy.present().unwrap()));
    assert_eq!(
        waiting(wait, copy.as_ref(), now, ""),
        "another process drives this migration (runner a-1): watching; this one takes over if it stops; it was alive 2 s ago"
    );
    let turn = Cycle { at: now, observed, journal, plan, outcomes: Vec::new(), is_blind: false };
    let mut backoff = Backoff::default();
    backoff.count(&turn);
    assert!(matches!(backoff.pause(&turn, Duration::from_secs(15), now), Pause::Idle(_)));
    assert_eq!(backoff.hopeless(now.checked_add(jiff::SignedDuration::from_hours(9)).unwrap()), None);
}

#[test]
fn a_gate_that_the_manifest_does_not_close_cannot_be_opened() {
    let desired = present(liberty());
    let open = Gate::ALL.map(|gate| closes(&desired, gate));
    let expected = Gate::ALL.map(|gate| gate == Gate::GiveUp);
    assert_eq!(open, expected, "{:?}", Gate::ALL);
    let mut target = liberty();
    target.migration.approval = Approval { switch: true, retire: true };
    let asked = present(target);
    assert!(closes(&asked, Gate::Switch) && closes(&asked, Gate::Retire) && !closes(&asked, Gate::Handover));

    // Command and annotation alike: both ask the same.
    let sim = world(on_elasticache(&["liberty-web"]));
    let Ending::AwaitsApproval { migration: Some(id), .. } = apply(&sim, &asked).ending else { panic!("a gate") };
    let journal = sim.picture().journal;
    let to = |gate| answer_to(&journal, &asked, &id, &Word::Approve(id.clone(), gate));
    let Answer::No(what, _) = to(Gate::Handover) else { panic!("there is no such gate") };
    assert_eq!(what, format!("migration {id} has no gate handover: by its manifest nothing waits there"));
    assert!(matches!(to(Gate::Switch), Answer::Say(_)));
}

#[test]
fn no_store_is_given_up_before_one_was_left() {
    let mut target = liberty();
    target.migration.approval.switch = true;
    let sim = world(on_elasticache(&["liberty-web"]));
    let Ending::AwaitsApproval { .. } = apply(&sim, &present(target)).ending else { panic!("the gate is there") };
    let mut journal = sim.picture().journal;
    let word = Word::Approve(journal.open_migration().unwrap().id.clone(), Gate::GiveUp);
    let Answer::No(what, remedy) = answer(&journal, &word) else { panic!("nothing was left") };
    assert!(what.contains("has left no store yet") && remedy.contains("`abort`"), "{what}: {remedy}");
    journal = journal.apply(&Entry::Abort, at(3_600));
    assert!(matches!(answer(&journal, &word), Answer::Say(_)));
}

#[test]
fn the_worst_lag_is_still_told_when_the_migration_is_over() {
    let sim = world(on_elasticache(&["liberty-web"]));
    let _ = apply(&sim, &present(liberty()));
    sim.meddle(|picture, _| {
        picture.journal.migration.as_mut().unwrap().copied.as_mut().unwrap().worst_lag_ms = 340;
    });
    let (text, json) = status_of(&sim, &liberty(), |report| (report.text(), report.json()));
    assert!(text.contains("worst lag since the switch 340 ms"), "{text}");
    assert_eq!(json["status"]["migration"]["worstLagMs"], 340);
}

#[test]
fn destroy_lets_go_of_a_settled_object() {
    let sim = world(on_elasticache(&["liberty-web"]));
    let _ = apply(&sim, &present(liberty()));
    let story = apply(&sim, &Desired::absent(DeletionPolicy::Retain));
    assert_eq!(story.ending, Ending::Deleted, "{}", story.lines());
    assert!(story.lines().contains("left as it is"), "{}", story.lines());
}

fn status_of<T>(sim: &SimWorld, target: &Target, read: impl Fn(&Report<'_>) -> T) -> T {
    let Picture { observed, journal } = sim.picture();
    let (owner, desired) = (owner(), present(target.clone()));
    let inputs = Inputs {
        owner: &owner,
        desired: &desired,
        observed: &observed,
        journal: &journal,
        announced: None,
        now: sim.now(),
    };
    let plan = plan(&inputs);
    let status = project(&inputs, &plan, &Aside { generation: Some(1), ..Aside::default() });
    read(&Report { inputs: &inputs, plan: &plan, status: &status })
}

#[test]
fn status_says_what_is_and_what_is_waited_for() {
    let sim = world(on_elasticache(&["liberty-web"]));
    let baking = |event: &Event| matches!(event, Event::Phase { phase: Phase::Baking });
    let _ = apply_until(&sim, &present(liberty()), baking);
    golden("status-baking.txt", &status_of(&sim, &liberty(), |report| report.text()));
    let _ = apply(&sim, &present(liberty()));
    golden("status-ready.txt", &status_of(&sim, &liberty(), |report| report.text()));
    golden("status-ready.json", &format!("{:#}\n", status_of(&sim, &liberty(), |report| report.json())));
}

#[test]
fn transition_times_move_only_with_the_status_and_events_tell_the_flips() {
    let sim = world(on_elasticache(&["liberty-web"]));
    let desired = present(liberty());
    let look = |previous: Option<&_>| {
        let Picture { observed, journal } = sim.picture();
        let owner = owner();
        let inputs = Inputs {
            owner: &owner,
            desired: &desired,
            observed: &observed,
            journal: &journal,
            announced: None,
            now: sim.now(),
        };
        project(&inputs, &plan(&inputs), &Aside { generation: Some(1), previous, ..Aside::default() })
    };
    let first = look(None);
    sim.advance(Duration::from_mins(1));
    let second = look(Some(&first));
    assert_eq!(first, second);
    let fresh = look(None);
    assert!(first != fresh && says_the_same(&first, &fresh), "only times differ");
    assert_eq!(transitions(Some(&first), &second), []);
    let _ = apply(&sim, &desired);
    let done = look(Some(&second));
    let events = transitions(Some(&second), &done);
    assert!(events.iter().any(|event| event.reason == "Ready"), "{events:?}");
    let ready = done.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.last_transition_time.0), ("True", sim.now()));
}

// === The binary, where it needs no cloud ===

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn sessionbackend(arguments: &[&str], stdin: &str, environment: &[(&str, &str)]) -> Ran {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_sessionbackend"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

const MANIFEST: &str = "
apiVersion: sessionbackend.dev/v1alpha1
kind: SessionBackend
metadata: { name: liberty-social, namespace: liberty }
spec:
  aws: { region: us-east-1 }
  services: [{ name: liberty-web }]
  store: { upstash: { database: { name: liberty, primaryRegion: us-east-1 }, apiKeySecretRef: { name: upstash-api } } }
  env: { format: Url }
";

#[test]
fn validate_accepts_a_good_manifest_and_names_a_missing_secret() {
    let ran = sessionbackend(&["validate", "-f", "-"], MANIFEST, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.starts_with("liberty/liberty-social: valid\n"), "{}", ran.out);
    assert!(ran.out.contains("Secret liberty/upstash-api"), "{}", ran.out);
    let given = [
        ("SESSIONBACKEND_SECRET_UPSTASH_API_EMAIL", "a@example.com"),
        ("SESSIONBACKEND_SECRET_UPSTASH_API_APIKEY", "canary-0451"),
    ];
    let ran = sessionbackend(&["validate", "-f", "-"], MANIFEST, &given);
    assert_eq!(ran.out, "liberty/liberty-social: valid\n");
    assert!(!ran.err.contains("canary"));
}

#[test]
fn validate_names_every_mistake_at_once_and_exits_1() {
    let wrong =
        MANIFEST.replace("us-east-1 }\n  services", "mars }\n  services").replace("format: Url", "format: Urll");
    let ran = sessionbackend(&["validate", "-f", "-"], &wrong, &[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("spec.aws.region") && ran.err.contains("spec.env.format"), "{}", ran.err);
    let ran = sessionbackend(&["validate", "-o", "json", "-f", "-"], &wrong, &[]);
    let answer: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &answer["valid"]), (Some(1), &Value::from(false)));
    assert!(answer["mistakes"].as_array().unwrap().len() >= 2);
}

#[test]
fn a_secret_may_be_in_another_file_than_its_object() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret.yaml");
    let text = "apiVersion: v1\nkind: Secret\nmetadata: { name: upstash-api, namespace: liberty }\nstringData: { email: a@example.com, apiKey: k }\n";
    std::fs::write(&secret, text).unwrap();
    let ran = sessionbackend(&["validate", "-f", secret.to_str().unwrap(), "-f", "-"], MANIFEST, &[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "liberty/liberty-social: valid\n"), "{}", ran.err);
}

#[test]
fn another_namespace_than_the_manifests_is_refused() {
    let ran = sessionbackend(&["validate", "-n", "other", "-f", "-"], MANIFEST, &[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("metadata.namespace"), "{}", ran.err);
}

#[test]
fn destroy_without_anybody_to_ask_needs_yes() {
    let environment = [
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("SESSIONBACKEND_SECRET_UPSTASH_API_EMAIL", "a@example.com"),
        ("SESSIONBACKEND_SECRET_UPSTASH_API_APIKEY", "k"),
    ];
    let known =
        MANIFEST.replace("aws: { region: us-east-1 }", "aws: { region: us-east-1, accountId: \"123456789012\" }");
    let ran = sessionbackend(&["destroy", "-f", "-"], &known, &environment);
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.err.contains("--yes"), "{}", ran.err);
}

#[test]
fn crd_prints_the_committed_definition() {
    let ran = sessionbackend(&["crd"], "", &[]);
    let committed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crds/sessionbackends.yaml");
    pretty_assertions::assert_str_eq!(std::fs::read_to_string(committed).unwrap(), ran.out);
}

#[test]
fn completion_knows_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = sessionbackend(&["completion", shell], "", &[]);
        assert!(ran.code == Some(0) && ran.out.contains("approve"), "{shell}");
    }
}

#[test]
fn a_wrong_argument_exits_64_and_never_like_changes() {
    let ran = sessionbackend(&["approve", "no-gate", "-f", "-"], "", &[]);
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains("MIGRATION/GATE"), "{}", ran.err);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("service.yaml");
    std::fs::write(&file, MANIFEST).unwrap();
    let ran = sessionbackend(&["plan", file.to_str().unwrap()], "", &[]);
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains(&format!("did you mean -f {}?", file.display())), "{}", ran.err);
    for arguments in [&["plan"][..], &["plan", "--wat"], &[]] {
        assert_eq!(sessionbackend(arguments, "", &[]).code, Some(64), "{arguments:?}");
    }
    assert_eq!(sessionbackend(&["--help"], "", &[]).code, Some(0));
}

#[test]
fn an_error_is_json_too_where_json_was_asked_for() {
    let ran = sessionbackend(&["plan", "-o", "json", "-f", "/nowhere/service.yaml"], "", &[]);
    let answer: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(ran.code, Some(1));
    assert!(answer["error"].as_str().unwrap().contains("/nowhere/service.yaml"), "{answer}");
    let ran = sessionbackend(&["apply", "-o", "json", "-f", "-"], &MANIFEST.replace("Url", "Urll"), &[]);
    let answer: Value = serde_json::from_str(ran.out.trim()).unwrap();
    assert_eq!(answer["mistakes"][0]["field"], "spec.env.format");
    assert_eq!(ran.out.lines().count(), 1, "one object a line");
    let ran = sessionbackend(&["plan", "-f", "/"], "", &[]);
    assert!(ran.err.contains("give files; -f can be repeated"), "{}", ran.err);
}

/// Keys of Upstash that nobody asks for: AWS is first.
const UPSTASH: [(&str, &str); 2] =
    [("SESSIONBACKEND_SECRET_UPSTASH_API_EMAIL", "a@example.com"), ("SESSIONBACKEND_SECRET_UPSTASH_API_APIKEY", "k")];

#[test]
fn without_credentials_one_line_says_where_they_were_looked_for_and_what_to_do() {
    let without = [("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_PROFILE", "nope"), ("HOME", "/nowhere")];
    let ran = sessionbackend(&["plan", "-f", "-"], MANIFEST, &[&UPSTASH[..], &without].concat());
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.err.lines().count(), 2, "{}", ran.err);
    for said in ["no AWS credentials found", "profile \"nope\"", "aws sso login"] {
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
}

#[test]
fn a_cloud_that_cannot_be_reached_is_named_with_its_region_and_nothing_claims_to_try_again() {
    let away = [("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];
    let manifest = MANIFEST.replace("us-east-1 }\n  services", "us-esat-1 }\n  services");
    let ran = sessionbackend(&["plan", "-f", "-"], &manifest, &[&UPSTASH[..], &away].concat());
    assert_eq!(ran.code, Some(1));
    for said in ["STS", "us-esat-1", "Connection refused", "network, proxy and spec.aws.region"] {
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
    assert!(!ran.err.contains("tried again"), "{}", ran.err);
    let ran = sessionbackend(&["validate", "-f", "-"], &manifest, &UPSTASH);
    assert!(ran.code == Some(0) && ran.out.contains("note: spec.aws.region") && ran.out.contains("us-esat-1"));
}

#[test]
fn every_key_of_a_secret_that_is_missing_is_named_at_once() {
    let ran = sessionbackend(&["plan", "-f", "-"], MANIFEST, &[]);
    let both = "SESSIONBACKEND_SECRET_UPSTASH_API_EMAIL and SESSIONBACKEND_SECRET_UPSTASH_API_APIKEY";
    assert!(ran.err.contains(both), "{}", ran.err);
}

#[test]
fn run_outside_a_cluster_says_what_is_missing_once() {
    let ran = sessionbackend(&["run"], "", &[("HOME", "/nowhere")]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("set KUBECONFIG") && ran.err.len() < 300, "{}", ran.err);
}
