//! `plan` and `status`: look at the world, change nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::args::Output;
use super::error::Error;
use super::object::Session;
use super::{exit, output};
use crate::checks::{Run, Stage};
use crate::clock::{Clock, Time as _};
use crate::connect::Connection;
use crate::desired::Desired;
use crate::effect::Picture;
use crate::engine::World;
use crate::identity::Owner;
use crate::journal::Journal;
use crate::observed::Reading;
use crate::plan::{Inputs, after, plan as plan_wave};
use crate::render::between;
use crate::render::plan::Preview;
use crate::render::status::{Report, SILENCE};
use crate::status::{Aside, project};
use crate::step::Step;
use crate::world::long::Checker as _;

/// How long `status` waits for its checks.
const PATIENCE: Duration = Duration::from_secs(20);

/// `plan`: 0 nothing to do, 1 something is in the way, 2 changes.
///
/// # Errors
/// When it cannot be looked at all.
pub async fn plan(session: &Session) -> Result<u8, Error> {
    let (mut documents, mut code) = (Vec::new(), exit::CONVERGED);
    for (at, object) in session.objects().await?.iter().enumerate() {
        let Connection { owner, desired, world, .. } = object;
        let mut picture = look(world, owner, desired).await?;
        as_driven(&mut picture, Clock.now());
        let preview = Preview::of(owner, desired, &picture, Clock.now());
        match session.output {
            Output::Text => output::text(&session.pasteable(&format!("{}{}", separator(at), preview.text()))),
            Output::Json => documents.push(preview.json()),
        }
        code = worse(code, exit::of_preview(&preview));
    }
    if session.output == Output::Json {
        output::document(documents);
    }
    Ok(code)
}

/// `status`: 0 whatever it says, as long as it can be said. With `checks`, those that are harmless at rest are made.
///
/// # Errors
/// When it cannot be looked at all.
pub async fn status(session: &Session, checks: bool) -> Result<u8, Error> {
    let mut documents = Vec::new();
    for (at, object) in session.objects().await?.iter().enumerate() {
        let Connection { owner, desired, world, generation, .. } = object;
        let mut picture = look(world, owner, desired).await?;
        as_driven(&mut picture, Clock.now());
        if checks && picture.journal.open_migration().is_none() && picture.journal.settled.is_some() {
            picture.observed.checks = at_rest(object, &picture.journal).await;
        }
        let inputs = Inputs {
            owner,
            desired,
            observed: &picture.observed,
            journal: &picture.journal,
            announced: None,
            now: Clock.now(),
        };
        let plan = plan_wave(&inputs);
        let status = project(&inputs, &plan, &Aside { generation: *generation, ..Aside::default() });
        let report = Report { inputs: &inputs, plan: &plan, status: &status };
        match session.output {
            Output::Text => output::text(&session.pasteable(&format!("{}{}", separator(at), report.text()))),
            Output::Json => documents.push(report.json()),
        }
    }
    if session.output == Output::Json {
        output::document(documents);
    }
    Ok(exit::CONVERGED)
}

/// A copier that is alive in another process counts as at work: what is shown is what that process waits for, and not
/// that this one would start a second copier.
fn as_driven(picture: &mut Picture, now: Timestamp) {
    if let Reading::Present(copy) = &mut picture.observed.copy
        && now < after(copy.heartbeat, SILENCE)
    {
        copy.here = true;
        copy.heartbeat = now;
    }
}

/// The checks that are made at rest: they write nothing, and somebody else's store is asked for PING and INFO only.
async fn at_rest(object: &Connection, journal: &Journal) -> BTreeMap<Stage, Run> {
    let step = Step::RunChecks { stage: Stage::Rest };
    let runs = || object.checker.runs();
    if object.world.perform(&object.owner, &step, journal, Clock.now()).await.is_err() {
        return runs();
    }
    let began = Clock.now();
    let is_over = |runs: &BTreeMap<Stage, Run>| runs.get(&Stage::Rest).is_none_or(|run| run.finished.is_some());
    while !is_over(&runs()) && between(began, Clock.now()) < PATIENCE {
        Clock.sleep(Duration::from_millis(50)).await;
    }
    let mut seen = runs();
    for run in seen.values_mut() {
        // What is not known by now is shown as far as it is.
        run.finished.get_or_insert(Clock.now());
    }
    seen
}

/// The journal, and everything else.
///
/// # Errors
/// When the journal cannot be read: without it nothing can be said.
pub(super) async fn look<W: World>(world: &W, owner: &Owner, desired: &Desired) -> Result<Picture, Error> {
    let journal = journal(world, owner).await?;
    let observed = Box::pin(world.observe(owner, desired, &journal)).await;
    Ok(Picture { observed, journal })
}

/// The journal.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn journal<W: World>(world: &W, owner: &Owner) -> Result<Journal, Error> {
    match world.journal(owner).await {
        Reading::Present(journal) => Ok(journal),
        Reading::Absent => Ok(Journal::default()),
        Reading::Unknown(error) => Err(Error::Cloud { object: owner.to_string(), error: Box::new(error) }),
        Reading::Hidden(why) => {
            Err(Error::refused(format!("{owner}: the journal cannot be seen: {why}"), "make it visible"))
        }
    }
}

fn separator(at: usize) -> &'static str {
    if at == 0 { "" } else { "\n" }
}

/// An error is worse than changes, changes are worse than none.
fn worse(a: u8, b: u8) -> u8 {
    match (a, b) {
        (exit::ERROR, _) | (_, exit::ERROR) => exit::ERROR,
        (a, b) => a.max(b),
    }
}
