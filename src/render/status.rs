//! What `sessionbackend status` prints. Every wait and every failure says what, since when, until when, and what to do,
//! and an open migration that nobody drives says so first.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::apply::{CopyFigures, both_in_use, outcome, to_its_end, waiting};
use super::{Mark, between, is_news, moment, number, span, time, words};
use crate::api::status::SessionBackendStatus;
use crate::desired::Desired;
use crate::journal::{Gate, Migration};
use crate::observed::{Copy, Reading};
use crate::plan::{Awaited, Inputs, Plan, after};

/// A runner writes its heartbeat much more often than this.
pub const SILENCE: Duration = Duration::from_secs(10);

/// Everything `status` says about one object.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What was read.
    pub inputs: &'a Inputs<'a>,
    /// What follows from it.
    pub plan: &'a Plan,
    /// What that is to Kubernetes.
    pub status: &'a SessionBackendStatus,
}

/// Whether somebody drives a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Somebody does, or there is nothing to drive.
    Alive,
    /// Nobody does, since then if it is known.
    Gone(Option<Timestamp>),
    /// It cannot be seen: without a copy nobody leaves a heartbeat.
    Unseen,
}

impl Report<'_> {
    fn open(&self) -> Option<&Migration> {
        self.inputs.journal.open_migration()
    }

    /// Whether somebody drives the open migration.
    #[must_use]
    pub fn driver(&self) -> Driver {
        let Some(migration) = self.open() else { return Driver::Alive };
        if !migration.copies {
            return Driver::Unseen;
        }
        match &self.inputs.observed.copy {
            Reading::Present(Copy { heartbeat, .. }) if self.inputs.now < after(*heartbeat, SILENCE) => Driver::Alive,
            // A runner that let go on its way out has no last heartbeat.
            Reading::Present(Copy { heartbeat, .. }) => {
                Driver::Gone(Some(*heartbeat).filter(|heartbeat| *heartbeat > migration.began))
            }
            // A migration begins a moment before its copier does.
            Reading::Absent if self.inputs.now < after(migration.began, SILENCE) => Driver::Unseen,
            Reading::Absent => Driver::Gone(None),
            Reading::Unknown(_) | Reading::Hidden(_) => Driver::Unseen,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let summary = &self.status.summary;
        let _ = writeln!(out, "{}  {}", self.inputs.owner, summary.phase);
        self.undriven(&mut out);
        line(&mut out, "store", &summary.store);
        for service in &self.status.services {
            let status = service.status.as_deref().unwrap_or("?");
            let store = service.store.as_deref().unwrap_or("?");
            let _ = writeln!(out, "  {:<10} {}  {status}  {store}", "service", service.name);
            if let Some(egress) = &service.egress {
                let _ = writeln!(out, "  {:<10}   egress {egress}", "");
            }
            if let Some(message) = &service.message {
                let _ = writeln!(out, "  {:<10}   {message}", "");
            }
        }
        self.migration(&mut out);
        self.checks(&mut out);
        let stopped = matches!(self.driver(), Driver::Gone(_));
        let figures = self.inputs.observed.copy.present().map(CopyFigures::of).filter(|_| !stopped);
        let asked = self.gate().is_some();
        for wait in self.plan.waits.iter().filter(|wait| !asked || !matches!(wait.on, Awaited::Approval(_))) {
            let wait = to_its_end(wait, self.inputs.desired);
            let since = format!(" (since {})", time(wait.since));
            line(&mut out, "waits", &waiting(&wait, figures.as_ref(), self.inputs.now, &since));
        }
        if self.open().is_some() && self.plan.waits.is_empty() {
            for step in self.plan.steps.iter().filter(|step| is_news(step)) {
                line(&mut out, "next", &format!("{} {}", Mark::of(step).sign(), words(step)));
            }
        }
        for block in &self.plan.blocks {
            line(&mut out, "blocked", &format!("{}: {} ({})", block.subject, block.message, block.reason));
            line(&mut out, "", &format!("→ {}", block.remedy));
        }
        for note in &self.plan.notes {
            line(&mut out, "note", note);
        }
        for kept in &self.status.retained {
            let why = kept.message.as_deref().unwrap_or_default();
            line(&mut out, "kept", &format!("{} {}: {why}", kept.kind, kept.id));
        }
        if self.open().is_none() && self.plan.blocks.is_empty() && !self.plan.is_converged() {
            line(&mut out, "to do", "there are changes: see `sessionbackend plan`");
        }
        out
    }

    fn undriven(&self, out: &mut String) {
        let since = match self.driver() {
            Driver::Alive => return,
            Driver::Unseen => {
                return line(out, "driver", "whether an apply is running cannot be seen from here");
            }
            Driver::Gone(Some(at)) => {
                format!("last heard of at {} ({} ago)", moment(at), span(between(at, self.inputs.now)))
            }
            Driver::Gone(None) => "no apply is at work".to_owned(),
        };
        if self.gate().is_some() && !self.open().is_some_and(both_in_use) {
            // `apply` ends where a person's word is needed: that nobody drives it is as it should be.
            return line(out, "driver", "no apply is at work, and none is needed before you say the word below");
        }
        line(out, "!", &format!("NOBODY IS DRIVING THIS MIGRATION: {since}"));
        if self.open().is_some_and(both_in_use) {
            line(out, "", "both stores may be in use and are not kept in step: people can be logged out");
        }
        line(out, "", "→ to go on: sessionbackend apply -f FILE");
        line(out, "", "→ to go back: sessionbackend abort -f FILE, then sessionbackend apply -f FILE");
    }

    fn migration(&self, out: &mut String) {
        let Some(migration) = &self.inputs.journal.migration else { return };
        let Some(shown) = &self.status.migration else { return };
        let began = format!("began {}", moment(migration.began));
        let ended = migration.ended.as_ref().map_or_else(
            || format!("open for {}", span(between(migration.began, self.inputs.now))),
            |ended| format!("{} {}", outcome(ended.outcome), moment(ended.at)),
        );
        line(out, "migration", &format!("{}  {} → {}  {began}, {ended}", migration.id, shown.from, shown.to));
        if let (Some(reason), Some(message)) = (&shown.reason, &shown.message) {
            line(out, "", &format!("{reason}: {message}"));
        }
        if let Some(copy) = self.inputs.observed.copy.present().filter(|_| migration.ended.is_none()) {
            line(out, "copy", &self.copy(migration, copy));
        } else if let Some(copied) = migration.copied {
            line(out, "copy", &CopyFigures::from(copied).came_to());
        }
        if let Some(gate) = self.gate() {
            let approve = format!("sessionbackend approve {}/{gate} -f FILE", migration.id);
            line(out, "", &format!("→ needs your word: {approve}, then sessionbackend apply -f FILE"));
        }
    }

    fn copy(&self, migration: &Migration, copy: &Copy) -> String {
        let figures = CopyFigures::of(copy);
        if let Driver::Gone(_) = self.driver() {
            return "stopped with the last apply; the next one goes on with it".to_owned();
        }
        let mut text = figures.text();
        if !figures.bulk {
            let _ = write!(text, "; {} keys", number(copy.total));
        }
        if migration.services.iter().any(|moved| moved.forward.is_some()) {
            let _ = write!(text, "; worst lag since the switch {}", span(Duration::from_millis(copy.worst_lag_ms)));
        }
        text
    }

    /// The gate that needs a person's word.
    fn gate(&self) -> Option<String> {
        let shown = self.status.migration.as_ref()?;
        shown.gate.clone().or_else(|| self.closed_gate(self.open()?))
    }

    /// The switch or the retiring, where it comes next and needs a word that was not said: an apply that is not running
    /// cannot ask for it.
    fn closed_gate(&self, migration: &Migration) -> Option<String> {
        let Desired::Present(target) = self.inputs.desired else { return None };
        if migration.ended.is_some() || migration.rollback.is_some() {
            return None;
        }
        let (approval, retire) = (&target.migration.approval, &target.migration.retire);
        let (asked, gate) = match (migration.sealed, migration.baked) {
            (None, _) => (approval.switch, Gate::Switch),
            (Some(_), None) => return None,
            (Some(_), Some(_)) => (approval.retire || retire.delete_old_store, Gate::Retire),
        };
        (asked && !migration.approved.contains(&gate)).then(|| gate.to_string())
    }

    fn checks(&self, out: &mut String) {
        if self.status.checks.is_empty() {
            return;
        }
        line(out, "checks", &format!("{} passed", self.status.summary.checks));
        let failed = self.status.checks.iter().filter(|check| check.verdict != "Pass");
        for check in failed {
            let message = check.message.as_deref().unwrap_or_default();
            line(out, "", &format!("{} {} ({}): {message}", check.verdict, check.name, check.severity));
        }
    }

    /// For scripts: the object as `kubectl get -o json` would print it, and whether it is driven.
    #[must_use]
    pub fn json(&self) -> Value {
        let driven = match self.driver() {
            Driver::Alive => Some(self.open().is_some()),
            Driver::Gone(_) => Some(false),
            Driver::Unseen => None,
        };
        json!({
            "apiVersion": crate::api::API_VERSION,
            "kind": crate::api::KIND,
            "metadata": { "name": self.inputs.owner.name, "namespace": self.inputs.owner.namespace },
            "status": self.status,
            "driven": driven,
            "waits": self.plan.waits,
            "blocks": self.plan.blocks,
            "notes": self.plan.notes,
        })
    }
}

fn line(out: &mut String, label: &str, text: &str) {
    let _ = writeln!(out, "  {label:<10} {text}");
}
