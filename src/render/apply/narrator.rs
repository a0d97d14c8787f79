//! Events in words: lines for people, and for scripts no more of them than are news.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{CopyFigures, Ending, Event, Told, waiting};
use crate::checks::{CheckResult, Severity, Stage, Verdict};
use crate::identity::MigrationId;
use crate::plan::{Block, Wait};
use crate::render::{Mark, between, is_news, moment, plan, plural, span, words};
use crate::step::Step;

/// A wait whose figures move is told again this often; one that stands still, ever more rarely.
const AGAIN: Duration = Duration::from_secs(15);
/// How often a script hears of the same wait.
const PACE: Duration = Duration::from_secs(2);

/// Thins out what is waited for, for a script: what is the same is said again only now and then.
#[derive(Debug, Default)]
pub struct Pace {
    said: Option<(Timestamp, Vec<Wait>)>,
}

impl Pace {
    /// Whether an event is worth a line of its own.
    #[must_use]
    pub fn is_due(&mut self, told: &Told) -> bool {
        let Event::Waiting { waits, .. } = &told.event else {
            self.said = None;
            return true;
        };
        // What could not be read is waited for anew at every look.
        let same = |former: &[Wait]| former.iter().map(|wait| &wait.on).eq(waits.iter().map(|wait| &wait.on));
        let due = self.said.as_ref().is_none_or(|(at, former)| !same(former) || between(*at, told.at) >= PACE);
        if due {
            self.said = Some((told.at, waits.clone()));
        }
        due
    }
}

/// Turns events into lines, each with its time, and remembers what was said already.
#[derive(Debug, Default)]
pub struct Narrator {
    waits: BTreeMap<String, (Timestamp, String)>,
    notes: Vec<String>,
    blocks: Vec<Block>,
    /// What was done last: what has to be asked for twice is said once.
    done: Option<Step>,
}

impl Narrator {
    /// The lines an event is worth.
    #[must_use]
    pub fn lines(&mut self, told: &Told) -> Vec<String> {
        let stamp = moment(told.at);
        self.news(told).into_iter().map(|line| format!("{stamp}  {line}")).collect()
    }

    /// The same without times and without what is waited for: a terminal shows that as it moves.
    #[must_use]
    pub fn news(&mut self, told: &Told) -> Vec<String> {
        match &told.event {
            Event::Started { object, resumes: None } => vec![object.clone()],
            Event::Started { object, resumes: Some(id) } => vec![format!("{object}: goes on with migration {id}")],
            Event::Phase { phase } => vec![format!("── {}", plan::heading(*phase))],
            Event::Done { step } if is_news(step) && self.done.as_ref() != Some(step) => {
                self.done = Some(step.clone());
                vec![format!("{} {}", Mark::of(step).sign(), words(step))]
            }
            Event::Begun { .. } | Event::Done { .. } => Vec::new(),
            Event::Failed { step, error } => vec![format!("! {}: {error}", words(step))],
            Event::Retrying { after, failures, why } => {
                let why = why.as_ref().map_or(String::new(), |why| format!(": {why}"));
                vec![format!("  trying again in {} (failed {}){why}", span(*after), times(*failures))]
            }
            Event::Waiting { waits, copy } => self.waits(told.at, waits, copy.as_ref()),
            Event::Blocked { blocks } => self.blocks(blocks),
            Event::Checks { stage, results } => checks(*stage, results),
            Event::Note { text } if self.notes.contains(text) => Vec::new(),
            Event::Note { text } => {
                self.notes.push(text.clone());
                vec![format!("note: {text}")]
            }
            Event::Ended { end, copy } => {
                let said = std::mem::take(&mut self.blocks);
                let mut lines = ended(end, &said);
                // What it came to is worth knowing once it is over.
                let over = matches!(end, Ending::Converged { migration: Some(_) } | Ending::RolledBack { .. });
                let copy = copy.as_ref().filter(|copy| over && !copy.bulk && copy.total > 0);
                lines.extend(copy.map(CopyFigures::closing));
                lines
            }
        }
    }

    fn waits(&mut self, at: Timestamp, waits: &[Wait], copy: Option<&CopyFigures>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut now = BTreeMap::new();
        for wait in waits {
            let key = format!("{:?}", wait.on);
            let said = self.waits.get(&key).filter(|(last, former)| {
                // The longer it has been waited, the less news it is that it still is.
                let still = (AGAIN * 4).max(between(wait.since, at) / 4);
                let quiet = if *former == wait.message { still } else { AGAIN };
                between(*last, at) < quiet
            });
            if let Some(said) = said {
                now.insert(key, said.clone());
            } else {
                let waited = match between(wait.since, at) {
                    waited if waited < Duration::from_secs(1) => String::new(),
                    waited => format!(" (for {} now)", span(waited)),
                };
                lines.push(format!("… {}", waiting(wait, copy, at, &waited)));
                now.insert(key, (at, wait.message.clone()));
            }
        }
        self.waits = now;
        lines
    }

    fn blocks(&mut self, blocks: &[Block]) -> Vec<String> {
        if self.blocks == blocks {
            return Vec::new();
        }
        self.blocks = blocks.to_vec();
        blocks.iter().flat_map(block).collect()
    }
}

/// How a run of checks came out: a line for all, and one for each that did not pass.
#[must_use]
pub fn checks(stage: Stage, results: &[CheckResult]) -> Vec<String> {
    let passed = results.iter().filter(|result| result.verdict == Verdict::Pass).count();
    let skipped = results.iter().filter(|result| matches!(result.verdict, Verdict::Skipped(_))).count();
    let aside = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    let mut lines = vec![format!("{passed} of {} passed{aside}: {stage}", plural(results.len(), "check"))];
    lines.extend(results.iter().filter_map(|result| {
        let verdict = match &result.verdict {
            Verdict::Pass => return None,
            Verdict::Fail => "✗ failed",
            Verdict::Inconclusive => "? undecided",
            Verdict::Skipped(_) => "- skipped",
        };
        let severity = match result.severity {
            Severity::Gate => "",
            Severity::Warn => ", a warning only",
        };
        let service = result.service.as_ref().map_or(String::new(), |service| format!(" on {service}"));
        Some(format!("  {verdict}: {}{service}{severity}: {}", result.name, result.message))
    }));
    lines
}

fn block(block: &Block) -> Vec<String> {
    vec![format!("✗ {}: {} ({})", block.subject, block.message, block.reason), format!("  → {}", block.remedy)]
}

/// How it ended; what was `said` to be in the way is not said again.
fn ended(end: &Ending, said: &[Block]) -> Vec<String> {
    let fresh = |blocks: &[Block]| -> Vec<String> {
        blocks.iter().filter(|block| !said.contains(block)).flat_map(block).collect()
    };
    match end {
        Ending::Converged { migration: Some(id) } => {
            vec![format!("✓ done: migration {id} is complete; nothing is left to do")]
        }
        Ending::Converged { migration: None } => vec!["✓ nothing is left to do".to_owned()],
        Ending::Deleted => vec!["✓ let go: nothing is left to do".to_owned()],
        Ending::RolledBack { blocks } => {
            let mut lines = vec!["✗ rolled back: the services are on the former store".to_owned()];
            lines.extend(fresh(blocks));
            lines
        }
        Ending::AwaitsApproval { migration, gate } => {
            let id = migration.as_ref().map_or_else(|| "MIGRATION".to_owned(), ToString::to_string);
            vec![
                format!("⏸ waits for your approval: {gate}"),
                format!("  → sessionbackend approve {id}/{gate} -f FILE, then sessionbackend apply -f FILE"),
            ]
        }
        Ending::Blocked { blocks } => {
            let mut lines = vec![format!("✗ stopped: {} to be put right first", things(blocks.len()))];
            lines.extend(fresh(blocks));
            lines
        }
        Ending::Failed { message, remedy } => vec![format!("✗ gave up: {message}"), format!("  → {remedy}")],
        Ending::Interrupted { migration, out_of_step } => interrupted(migration.as_ref(), *out_of_step),
        Ending::LookedOnly => {
            vec!["spec.mode is Plan: nothing was changed; set mode: Apply to have it carried out".to_owned()]
        }
    }
}

fn interrupted(migration: Option<&MigrationId>, out_of_step: bool) -> Vec<String> {
    let mut lines = vec![match migration {
        Some(id) => {
            format!("⏹ stopped; migration {id} stays open, and a second `apply` goes on where this one stopped")
        }
        None => "⏹ stopped; a second `apply` goes on where this one stopped".to_owned(),
    }];
    if out_of_step {
        lines.push(
            "  ! Both stores may be in use and nobody keeps them in step now: people can be logged out. Apply again soon."
                .to_owned(),
        );
    }
    lines
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    }
}

fn things(count: usize) -> String {
    if count == 1 { "one thing has".to_owned() } else { format!("{count} things have") }
}
