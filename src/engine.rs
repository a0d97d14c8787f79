//! One turn: observe → plan → guard → act → record. The only orchestration there is, generic over the world.

use std::future::Future;

use jiff::Timestamp;

use crate::desired::Desired;
use crate::error::{Class, CloudError};
use crate::identity::Owner;
use crate::journal::{Entry, Journal, Resource};
use crate::observed::{Observed, Reading};
use crate::plan::{Block, Inputs, Plan, Reason, guard, plan};
use crate::step::Step;

/// The world as the engine sees it: the clouds, the stores, the copier and the journal's secret.
pub trait World: Sync {
    /// The journal as it stands. `Absent` is an owner nobody has written about. A version older than one this
    /// process wrote is `Unknown`: Secrets Manager reads are eventually consistent.
    fn journal(&self, owner: &Owner) -> impl Future<Output = Reading<Journal>> + Send;

    /// Everything else, read at once. Never fails: what could not be read is `Unknown`.
    fn observe(&self, owner: &Owner, desired: &Desired, journal: &Journal) -> impl Future<Output = Observed> + Send;

    /// Carries out one step: at most one mutating call. Returns the journal line that keeps what cannot be read again
    /// (an operation id, a new database's id); the engine writes it before the next wave.
    fn perform(
        &self,
        owner: &Owner,
        step: &Step,
        journal: &Journal,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Entry>, CloudError>> + Send;
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The step.
    pub step: Step,
    /// Done, or why not.
    pub result: Result<(), CloudError>,
}

/// The record of one turn.
#[derive(Clone, Debug)]
pub struct Cycle {
    /// When it was planned.
    pub at: Timestamp,
    /// What was seen.
    pub observed: Observed,
    /// What had been written down.
    pub journal: Journal,
    /// What was decided.
    pub plan: Plan,
    /// What became of it.
    pub outcomes: Vec<Outcome>,
    /// The journal could not be read, so that nothing was looked at either.
    pub is_blind: bool,
}

impl Cycle {
    /// The first failure of this turn.
    #[must_use]
    pub fn failure(&self) -> Option<&CloudError> {
        self.outcomes.iter().find_map(|outcome| outcome.result.as_ref().err())
    }
}

/// What a process remembers from turn to turn; losing it costs a wait, never correctness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// See [`Inputs::announced`].
    announced: Option<u64>,
}

/// One turn. `clock` is read after the observation, so that nothing seen lies in the future.
pub async fn cycle<W: World>(
    world: &W,
    owner: &Owner,
    desired: &Desired,
    memory: &mut Memory,
    clock: impl Fn() -> Timestamp,
) -> Cycle {
    let journal = match world.journal(owner).await {
        Reading::Present(journal) => journal,
        Reading::Absent => Journal::default(),
        unread @ (Reading::Unknown(_) | Reading::Hidden(_)) => {
            let plan = crate::plan::unread_journal(&unread, clock());
            return Cycle {
                at: clock(),
                observed: Observed::default(),
                journal: Journal::default(),
                plan,
                outcomes: Vec::new(),
                is_blind: true,
            };
        }
    };
    let observed = world.observe(owner, desired, &journal).await;
    let at = clock();
    let inputs =
        Inputs { owner, desired, observed: &observed, journal: &journal, announced: memory.announced, now: at };
    let plan = guarded(&inputs, plan(&inputs));
    let outcomes =
        if desired.looks_only() { Vec::new() } else { act(world, owner, &plan, &journal, memory, &clock).await };
    Cycle { at, observed, journal, plan, outcomes, is_blind: false }
}

/// The plan, or nothing but the reason why it must not run.
fn guarded(inputs: &Inputs<'_>, mut plan: Plan) -> Plan {
    let broken = guard::violations(inputs, &plan);
    if !broken.is_empty() {
        plan.steps.clear();
        plan.blocks.push(Block {
            reason: Reason::GuardViolated,
            subject: "plan".to_owned(),
            message: broken.join("; "),
            remedy: Reason::GuardViolated.remedy().to_owned(),
        });
    }
    plan
}

/// Performs a wave at once, then writes down what its calls returned.
async fn act<W: World>(
    world: &W,
    owner: &Owner,
    plan: &Plan,
    journal: &Journal,
    memory: &mut Memory,
    clock: &impl Fn() -> Timestamp,
) -> Vec<Outcome> {
    // Whether the line before a call was written by this process and not acted upon until now.
    let is_first = memory.announced == Some(journal.sequence);
    if !plan.steps.is_empty() {
        memory.announced = None;
    }
    let calls = plan.steps.iter().map(|step| async move { (step, world.perform(owner, step, journal, clock()).await) });
    let mut state = journal.clone();
    let mut outcomes = Vec::new();
    for (step, result) in futures::future::join_all(calls).await {
        let entry = match &result {
            Ok(entry) => entry.clone(),
            Err(error) => refusal(step, error, is_first),
        };
        if let Step::Journal { entry, .. } = step
            && result.is_ok()
        {
            state = state.apply(entry, clock());
            memory.announced = Some(state.sequence);
        }
        outcomes.push(Outcome { step: step.clone(), result: result.map(drop) });
        let Some(entry) = entry else { continue };
        let line = Step::Journal { expect: state.sequence, entry };
        let written = world.perform(owner, &line, &state, clock()).await;
        if let (Ok(_), Step::Journal { entry, .. }) = (&written, &line) {
            state = state.apply(entry, clock());
        }
        outcomes.push(Outcome { step: line, result: written.map(drop) });
    }
    outcomes
}

/// What is written down of a call that was refused: that it was not made. Nothing where that is not certain.
/// Where an earlier call for the same line may still be on its way (`is_first` is false), only what is refused for good.
fn refusal(step: &Step, error: &CloudError, is_first: bool) -> Option<Entry> {
    if error.class.is_ambiguous() || !is_first && error.class.is_temporary() {
        return None;
    }
    if let Some((resource, call)) = creation(step) {
        // Only the vendor's word on that very call, and on the first one, tells: what failed before it, a name that is
        // taken or a quota that is full leave open whether an earlier attempt whose reply was lost has made it.
        // Whoever asks to slow down has not done it; a conflict may be an attempt at work.
        let refused = error.class != Class::Exists && (!error.class.is_temporary() || error.class == Class::Throttled);
        let certain = is_first && error.operation == call && refused;
        return certain.then_some(Entry::Gone(resource));
    }
    let Step::PatchService(patch) = step else { return None };
    let for_good = (!error.class.is_temporary()).then(|| error.to_string());
    Some(Entry::NotMoved(patch.direction, patch.service.clone(), for_good))
}

/// What a step makes, and the vendor's name of the call.
fn creation(step: &Step) -> Option<(Resource, &'static str)> {
    match step {
        Step::CreateUpstashDatabase { name, .. } => Some((Resource::UpstashDatabase(name.clone()), "CreateDatabase")),
        Step::CreateReplicationGroup { id, .. } => {
            Some((Resource::ReplicationGroup(id.clone()), "CreateReplicationGroup"))
        }
        Step::CreateSubnetGroup { name, .. } => Some((Resource::SubnetGroup(name.clone()), "CreateCacheSubnetGroup")),
        Step::CreateConnector { name, .. } => Some((Resource::Connector(name.clone()), "CreateVpcConnector")),
        Step::AuthorizeIngress { group, source, port } => {
            Some((Step::rule_name(group, source, *port), "AuthorizeSecurityGroupIngress"))
        }
        Step::CreateEpochSecret { name, .. } => Some((Resource::Secret(name.clone()), "CreateSecret")),
        Step::Journal { .. }
        | Step::Claim { .. }
        | Step::Release { .. }
        | Step::DeleteUpstashDatabase { .. }
        | Step::DeleteSubnetGroup { .. }
        | Step::DeleteReplicationGroup { .. }
        | Step::RevokeIngress { .. }
        | Step::DeleteConnector { .. }
        | Step::DeleteSecret { .. }
        | Step::PatchService(_)
        | Step::Copy { .. }
        | Step::CountQuiet { .. }
        | Step::RunChecks { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_that_was_refused_for_certain_is_written_off_and_no_other() {
        let step = Step::CreateUpstashDatabase { name: "liberty".into(), region: "us-east-1".into(), plan: None };
        let failed = |class, operation| refusal(&step, &CloudError::new(class, "Upstash", operation, "", "no"), true);
        let gone = Some(Entry::Gone(Resource::UpstashDatabase("liberty".into())));
        assert_eq!(failed(Class::Rejected, "CreateDatabase"), gone);
        assert_eq!(failed(Class::Quota, "CreateDatabase"), gone);
        assert_eq!(failed(Class::Throttled, "CreateDatabase"), gone, "a database of that name is somebody else's");
        for class in [Class::Transient, Class::Conflict, Class::Exists] {
            assert_eq!(failed(class, "CreateDatabase"), None, "{class:?}");
        }
        assert_eq!(failed(Class::Denied, "ListDatabases"), None, "an earlier attempt may have made it");
        let full = CloudError::new(Class::Quota, "Upstash", "CreateDatabase", "", "no");
        assert_eq!(refusal(&step, &full, false), None, "the earlier attempt may be what filled it");
        let slow = CloudError::new(Class::Throttled, "Upstash", "CreateDatabase", "", "no");
        assert_eq!(refusal(&step, &slow, false), None, "the earlier attempt may have made it");
    }
}
