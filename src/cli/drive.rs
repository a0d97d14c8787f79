//! The loop of `apply` and `destroy`: one engine turn after another until nothing is left to do, somebody is needed, or it
//! is interrupted. Generic over the world and over time; it tells what happens and leaves to others how that is shown.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::Reason;
use crate::backoff::{Backoff, Pause, stuck};
use crate::checks;
use crate::clock::Time;
use crate::desired::Desired;
use crate::engine::{Cycle, Memory, World, cycle};
use crate::error::CloudError;
use crate::identity::{MigrationId, Owner};
use crate::journal::{Entry, Journal, Outcome};
use crate::observed::{Observed, Reading};
use crate::plan::{Awaited, Inputs, Phase, Plan, plan};
use crate::render::apply::{CopyFigures, Ending, Event, Told, both_in_use, to_its_end};
use crate::step::Step;
use crate::stop::{Stop, Waves};

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// The longest pause while both stores may be in use.
const ATTENTIVE: Duration = Duration::from_secs(2);

/// Who is told what happens.
pub type Tell<'a> = &'a (dyn Fn(&Told) + Sync);

/// What is driven where, by whose clock.
pub struct Drive<'a, W, T> {
    /// The world.
    pub world: &'a W,
    /// The clock.
    pub time: &'a T,
    /// Says when to stop.
    pub stop: &'a Stop,
    /// Who is told.
    pub tell: Tell<'a>,
}

impl<W: World, T: Time> Drive<'_, W, T> {
    /// Turns the engine until there is nothing more to do here.
    pub async fn run(&self, owner: &Owner, desired: &Desired) -> Ending {
        let world = Watched { drive: self, waves: Waves::until(self.stop), said: std::sync::Mutex::default() };
        let mut backoff = Backoff::default();
        let mut run = Run::default();
        let mut memory = Memory::default();
        loop {
            let turn = Box::pin(cycle(&world, owner, desired, &mut memory, || self.time.now())).await;
            run.look(&turn);
            let stays = turn.journal.open_migration().is_some_and(both_in_use);
            let ending = run.ending(&turn, desired, stays);
            self.show(&turn, desired, ending.is_some());
            if let Some(ending) = ending {
                return self.end(ending, run.copy);
            }
            backoff.count(&turn);
            if !stays && let Some((class, message)) = backoff.hopeless(self.time.now()) {
                let remedy = Reason::of_class(class).remedy().to_owned();
                return self.end(Ending::Failed { message: message.to_owned(), remedy }, run.copy);
            }
            let pause = match backoff.pause(&turn, if stays { ATTENTIVE } else { LONGEST_PAUSE }, self.time.now()) {
                Pause::Failed(after, failures) => {
                    // A call that failed and a reading have said why themselves.
                    let why = stuck(&turn).filter(|_| turn.failure().is_none()).map(|(_, why)| why);
                    self.say(Event::Retrying { after, failures, why });
                    after
                }
                Pause::Wave(pause) | Pause::Idle(pause) => pause,
            };
            if self.stop.is_asked() || self.sleep(pause).await.is_err() {
                let migration = turn.journal.open_migration().map(|migration| migration.id.clone());
                return self.end(Ending::Interrupted { migration, out_of_step: stays }, run.copy);
            }
        }
    }

    /// Waits, unless the word to stop comes first.
    async fn sleep(&self, pause: Duration) -> Result<(), Interrupted> {
        tokio::select! {
            biased;
            () = self.stop.asked() => Err(Interrupted),
            () = self.time.sleep(pause) => Ok(()),
        }
    }

    /// What the turn has to say besides its calls. What stops the run is said once, by its ending.
    fn show(&self, turn: &Cycle, desired: &Desired, ends: bool) {
        let Plan { phase: _, steps, waits, blocks, notes } = &turn.plan;
        for note in notes {
            self.say(Event::Note { text: note.clone() });
        }
        if steps.is_empty() && !ends {
            let copy = turn.observed.copy.present().map(CopyFigures::of);
            self.say(Event::Waiting { waits: waits.iter().map(|wait| to_its_end(wait, desired)).collect(), copy });
        }
        if !blocks.is_empty() && !ends {
            self.say(Event::Blocked { blocks: blocks.clone() });
            if turn.journal.open_migration().is_some_and(both_in_use) {
                let text = "both stores may be in use, so this process stays and keeps them in step; \
                            `sessionbackend retry` or `abort` from another terminal is taken up here";
                self.say(Event::Note { text: text.to_owned() });
            }
        }
    }

    fn end(&self, ending: Ending, copy: Option<CopyFigures>) -> Ending {
        self.say(Event::Ended { end: ending.clone(), copy });
        ending
    }

    fn say(&self, event: Event) {
        (self.tell)(&Told { at: self.time.now(), event });
    }
}

struct Interrupted;

/// What this run has seen.
#[derive(Default)]
struct Run {
    /// The migration that was open at some time of this run.
    migration: Option<MigrationId>,
    /// How the copy stood when it was last seen.
    copy: Option<CopyFigures>,
}

impl Run {
    fn look(&mut self, turn: &Cycle) {
        if let Some(open) = turn.journal.open_migration() {
            self.migration = Some(open.id.clone());
        }
        self.copy = turn.observed.copy.present().map(CopyFigures::of).or(self.copy);
    }

    /// How the run ends now, if it does. `stays` where somebody has to keep two stores in step whatever else is wrong.
    fn ending(&self, turn: &Cycle, desired: &Desired, stays: bool) -> Option<Ending> {
        let plan = &turn.plan;
        if desired.looks_only() {
            return Some(Ending::LookedOnly);
        }
        if !plan.steps.is_empty() {
            return None;
        }
        if plan.is_converged() {
            return Some(match desired {
                Desired::Present(_) => Ending::Converged { migration: self.completed(&turn.journal) },
                Desired::Absent { .. } => Ending::Deleted,
            });
        }
        if plan.phase == Phase::RolledBack {
            return Some(Ending::RolledBack { blocks: plan.blocks.clone() });
        }
        if stays {
            return None;
        }
        if !plan.blocks.is_empty() {
            return Some(Ending::Blocked { blocks: plan.blocks.clone() });
        }
        plan.waits.iter().find_map(|wait| match wait.on {
            Awaited::Approval(gate) => {
                let migration = turn.journal.open_migration().map(|migration| migration.id.clone());
                Some(Ending::AwaitsApproval { migration, gate })
            }
            Awaited::Reading(_)
            | Awaited::Store
            | Awaited::Operation(..)
            | Awaited::Listing(..)
            | Awaited::ForeignOperation(_)
            | Awaited::CopyCaughtUp
            | Awaited::CopyInStep
            | Awaited::Checks(_)
            | Awaited::LongestRequest
            | Awaited::ClientsGone
            | Awaited::Quiet
            | Awaited::Bake
            | Awaited::Unused(_)
            | Awaited::CopyCleared
            | Awaited::Missing(_) => None,
        })
    }

    fn completed(&self, journal: &Journal) -> Option<MigrationId> {
        let last = journal.migration.as_ref()?;
        let completed = last.ended.as_ref().is_some_and(|ended| ended.outcome == Outcome::Completed);
        (completed && self.migration.as_ref() == Some(&last.id)).then(|| last.id.clone())
    }
}

/// The world, with every call told before and after, and no new wave begun once the word to stop has come.
struct Watched<'a, W, T> {
    drive: &'a Drive<'a, W, T>,
    waves: Waves,
    said: std::sync::Mutex<Said>,
}

/// What was said of the object as a whole.
#[derive(Default)]
struct Said {
    started: bool,
    phase: Option<Phase>,
    /// The decision to go back was made here, and told.
    back: bool,
    /// The runs of checks that were told.
    checks: checks::Told,
}

impl<W: World, T: Time> Watched<'_, W, T> {
    /// Says where in its life the object is, before the first call of the turn; planning is pure, so it can be done twice.
    fn announce(&self, owner: &Owner, desired: &Desired, journal: &Journal, observed: &Observed) {
        let inputs = Inputs { owner, desired, observed, journal, announced: None, now: self.drive.time.now() };
        let phase = plan(&inputs).phase;
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !std::mem::replace(&mut said.started, true) {
            let resumes = journal.open_migration().map(|migration| migration.id.clone());
            self.drive.say(Event::Started { object: owner.to_string(), resumes });
        }
        for (stage, run) in said.checks.news(&observed.checks) {
            self.drive.say(Event::Checks { stage, results: run.results.clone() });
        }
        if said.phase.replace(phase) != Some(phase) {
            self.drive.say(Event::Phase { phase });
            // Why, where this process has not decided it itself.
            let back = journal.open_migration().and_then(|migration| migration.rollback.as_ref());
            if let Some(back) = back.filter(|_| phase == Phase::RollingBack && !said.back) {
                self.drive.say(Event::Note { text: format!("going back: {}: {}", back.reason, back.message) });
            }
        }
    }
}

impl<W: World, T: Time> World for Watched<'_, W, T> {
    async fn journal(&self, owner: &Owner) -> Reading<Journal> {
        self.drive.world.journal(owner).await
    }

    async fn observe(&self, owner: &Owner, desired: &Desired, journal: &Journal) -> Observed {
        let observed = self.drive.world.observe(owner, desired, journal).await;
        self.waves.turn();
        self.announce(owner, desired, journal, &observed);
        observed
    }

    async fn perform(
        &self,
        owner: &Owner,
        step: &Step,
        journal: &Journal,
        now: Timestamp,
    ) -> Result<Option<Entry>, CloudError> {
        self.waves.call()?;
        self.drive.say(Event::Begun { step: step.clone() });
        let result = self.drive.world.perform(owner, step, journal, now).await;
        if let (Step::Journal { entry: Entry::RollBack { .. }, .. }, Ok(_)) = (step, &result) {
            self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner).back = true;
        }
        self.drive.say(match &result {
            Ok(_) => Event::Done { step: step.clone() },
            Err(error) => Event::Failed { step: step.clone(), error: error.clone() },
        });
        result
    }
}
