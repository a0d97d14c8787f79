//! The whole way from here: plan, predict, plan again, to a fixpoint. This is `sessionbackend plan`.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::desired::Desired;
use crate::effect::Picture;
use crate::identity::Owner;
use crate::journal::Gate;
use crate::plan::{Awaited, Block, Inputs, Phase, Plan, Reason, Wait, after, guard, plan};
use crate::step::Step;

/// A migration of ten services has some 80 waves; more than this is a planner that turns in a circle.
const LIMIT: usize = 400;

/// The waves from here to the end, as far as they can be foreseen.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// In order.
    pub waves: Vec<Wave>,
    /// How it ends.
    pub end: End,
    /// Where it ends.
    pub phase: Phase,
    /// What a reader should know, each thing once.
    pub notes: Vec<String>,
}

/// One wave of a forecast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wave {
    /// Where in its life the object is then.
    pub phase: Phase,
    /// What is done.
    pub steps: Vec<Step>,
    /// What is waited for afterwards, where nothing can be done.
    pub waits: Vec<Wait>,
}

/// How a forecast ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum End {
    /// Nothing is left to do.
    Converged,
    /// Somebody has to do something first.
    Blocked(Vec<Block>),
    /// Somebody may be needed on the way: nothing is in it now.
    MayBlock(Vec<Block>),
    /// A person's word is needed on the way.
    AwaitsApproval,
    /// A promise would be broken, or no end was found: a bug, and nothing would be done.
    Broken(Vec<String>),
}

impl Forecast {
    /// Steps that change something outside the journal.
    pub fn changes(&self) -> impl Iterator<Item = &Step> {
        self.waves.iter().flat_map(|wave| &wave.steps).filter(|step| match step {
            Step::Journal { .. } | Step::RunChecks { .. } | Step::CountQuiet { .. } => false,
            Step::Claim { .. }
            | Step::Release { .. }
            | Step::CreateUpstashDatabase { .. }
            | Step::DeleteUpstashDatabase { .. }
            | Step::CreateSubnetGroup { .. }
            | Step::DeleteSubnetGroup { .. }
            | Step::CreateReplicationGroup { .. }
            | Step::DeleteReplicationGroup { .. }
            | Step::AuthorizeIngress { .. }
            | Step::RevokeIngress { .. }
            | Step::CreateConnector { .. }
            | Step::DeleteConnector { .. }
            | Step::CreateEpochSecret { .. }
            | Step::DeleteSecret { .. }
            | Step::PatchService(_)
            | Step::Copy { .. } => true,
        })
    }
}

/// Folds predicted effects from `picture` at `now` to a fixpoint.
pub fn forecast(owner: &Owner, desired: &Desired, picture: &Picture, now: Timestamp) -> Forecast {
    let mut picture = picture.clone();
    let mut now = now;
    let mut waves = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    let mut phase = Phase::Preflight;
    let mut stuck: Option<(u64, Vec<Awaited>)> = None;
    let opened = picture.journal.open_migration().is_some();
    let mut facts: Option<Vec<Block>> = None;
    for _ in 0..LIMIT {
        let inputs = Inputs {
            owner,
            desired,
            observed: &picture.observed,
            journal: &picture.journal,
            announced: Some(picture.journal.sequence),
            now,
        };
        let next = plan(&inputs);
        let broken = guard::violations(&inputs, &next);
        phase = next.phase;
        // What the first plan does not say of the world as it is, time has not brought yet.
        let waited = waves.iter().any(|wave: &Wave| !wave.waits.is_empty());
        let facts = facts.get_or_insert_with(|| next.blocks.clone());
        let fresh: Vec<String> =
            next.notes.iter().filter(|note| !notes.contains(note) && (!waited || !gives_up(note))).cloned().collect();
        notes.extend(fresh);
        if !broken.is_empty() {
            return Forecast { waves, end: End::Broken(broken), phase, notes };
        }
        if next.steps.is_empty() {
            if !next.blocks.is_empty() {
                let is_known = |block: &Block| {
                    facts.iter().any(|fact| (fact.reason, &fact.subject) == (block.reason, &block.subject))
                };
                let end = if opened && waited && !next.blocks.iter().all(is_known) {
                    End::MayBlock(next.blocks.into_iter().map(foreseen).collect())
                } else {
                    End::Blocked(next.blocks)
                };
                return Forecast { waves, end, phase, notes };
            }
            if next.waits.is_empty() {
                return Forecast { waves, end: End::Converged, phase, notes };
            }
            let approval = next.waits.iter().find_map(|wait| match wait.on {
                Awaited::Approval(gate) => Some(gate),
                _ => None,
            });
            now = expected(&next, now);
            let awaited = next.waits.iter().map(|wait| wait.on.clone()).collect();
            waves.push(Wave { phase, steps: Vec::new(), waits: next.waits.clone() });
            // The model knows no time at which a reading succeeds, or a stranger's operation ends.
            let same = Some((picture.journal.sequence, awaited));
            if stuck == same && next.waits.iter().all(cannot_be_foreseen) {
                let blocks = next.waits.into_iter().map(unforeseen).collect();
                return Forecast { waves, end: End::Blocked(blocks), phase, notes };
            }
            stuck = same;
            match (approval, picture.journal.open_migration().map(|migration| migration.id.clone())) {
                (Some(gate), Some(id)) => {
                    let entry = crate::journal::Entry::Approve(id, gate);
                    picture.journal = picture.journal.apply(&entry, now);
                }
                (Some(_), None) => return Forecast { waves, end: End::AwaitsApproval, phase, notes },
                (None, _) => {
                    // Whoever is connected now may simply go: no reading tells how long they stay.
                    if let Some(copy) = picture.observed.copy.present_mut()
                        && next.waits.iter().any(|wait| wait.on == Awaited::ClientsGone)
                    {
                        (copy.clients_from, copy.clients_to) = (Some(0), Some(0));
                    }
                    picture.elapse(desired, now);
                }
            }
            continue;
        }
        for step in &next.steps {
            if let Some(entry) = picture.predict(owner, desired, step, now) {
                picture.journal = picture.journal.apply(&entry, now);
            }
        }
        waves.push(Wave { phase, steps: next.steps, waits: next.waits });
    }
    Forecast { waves, end: End::Broken(vec![format!("no end after {LIMIT} waves")]), phase, notes }
}

/// A block that nobody has met yet: no reason to give a store up.
fn foreseen(block: Block) -> Block {
    let remedies: Vec<_> = block.remedy.split("; or ").filter(|remedy| !gives_up(remedy)).collect();
    Block { remedy: remedies.join("; or "), ..block }
}

fn gives_up(text: &str) -> bool {
    text.contains(&format!("/{}", Gate::GiveUp))
}

fn cannot_be_foreseen(wait: &Wait) -> bool {
    match wait.on {
        Awaited::Reading(_) | Awaited::ForeignOperation(_) => true,
        Awaited::Store
        | Awaited::Operation(..)
        | Awaited::Listing(..)
        | Awaited::CopyCaughtUp
        | Awaited::CopyInStep
        | Awaited::Checks(_)
        | Awaited::LongestRequest
        | Awaited::ClientsGone
        | Awaited::Quiet
        | Awaited::Bake
        | Awaited::Approval(_)
        | Awaited::Unused(_)
        | Awaited::CopyCleared
        | Awaited::Missing(_) => false,
    }
}

fn unforeseen(wait: Wait) -> Block {
    let (reason, subject) = match wait.on {
        Awaited::ForeignOperation(service) => (Reason::ServiceBusy, format!("service {service}")),
        Awaited::Reading(what) => (Reason::ApiUnavailable, what),
        other => (Reason::Progressing, format!("{other:?}")),
    };
    Block { reason, subject, message: wait.message, remedy: "nothing: it is looked at again by itself".to_owned() }
}

/// When what is awaited can be expected.
fn expected(plan: &Plan, now: Timestamp) -> Timestamp {
    let typical = |wait: &Wait| wait.expected.unwrap_or_else(|| after(now, typical(&wait.on)));
    plan.waits.iter().map(typical).max().unwrap_or(now).max(after(now, Duration::from_millis(200)))
}

/// Typical durations (App Runner: 1.5–5 min an update; ElastiCache: 5–15 min a creation).
fn typical(on: &Awaited) -> Duration {
    Duration::from_secs(match on {
        Awaited::Store => 420,
        Awaited::Operation(..) | Awaited::ForeignOperation(_) => 150,
        Awaited::Listing(..) => 35,
        Awaited::CopyCaughtUp | Awaited::Checks(_) => 15,
        Awaited::Reading(_)
        | Awaited::CopyInStep
        | Awaited::LongestRequest
        | Awaited::ClientsGone
        | Awaited::Quiet
        | Awaited::Bake
        | Awaited::Approval(_)
        | Awaited::Unused(_)
        | Awaited::CopyCleared
        | Awaited::Missing(_) => 5,
    })
}
