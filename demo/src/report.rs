//! What the demo reports, and whether the scenario holds: pure functions of the facts it collected.
//! The shape of [`Report`] is fixed; what else is worth knowing goes into the conditions, which decide the exit code.

mod text;

use clap::ValueEnum;
use serde::Serialize;

use crate::fleet::StoreUse;
use crate::pace::CriticalPath;
use crate::product::{Checked, Status};
use crate::tally::Findings;
use crate::terminal::thousands;
use crate::world::Made;

/// Which story is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// ElastiCache to Upstash, checked, and cleaned up after.
    Migrate,
    /// The new store fails a check after the switch.
    Rollback,
    /// App Runner quietly returns to the old configuration.
    PlatformRollback,
}

/// How the move ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// The new store serves.
    Migrated,
    /// The old store serves again.
    RolledBack,
    /// Something else.
    Failed,
}

/// What must be reached.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Sessions logged in before the move, at least.
    pub sessions: u64,
    /// Requests during the move, at least.
    pub requests: u64,
    /// Milliseconds in which instances on both stores answer, at least.
    pub overlap_ms: u64,
}

/// Everything the demo saw.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The story.
    pub scenario: Scenario,
    /// Exit code of `apply`; `None` = it did not end by itself.
    pub exit: Option<i32>,
    /// What `sessionbackend status` says.
    pub status: Status,
    /// The checks of the move.
    pub checked: Checked,
    /// What the visitors found.
    pub findings: Findings,
    /// Foreign variables in all.
    pub foreign: usize,
    /// Names of the foreign variables that changed in any bit.
    pub foreign_changes: Vec<String>,
    /// What the manifest names to be removed.
    pub named: Vec<String>,
    /// What of it is gone.
    pub removed: Vec<String>,
    /// The old store is there and available.
    pub old_store_available: bool,
    /// Host and port of the old store.
    pub old_store: String,
    /// Store variable and egress are what they were before the move, bit for bit.
    pub configuration_restored: bool,
    /// How many changes `plan` still wants.
    pub plan_changes: Option<u64>,
    /// What `sessionbackend` made and is still there.
    pub made: Made,
    /// The reference by which the service is told its store.
    pub store_reference: String,
    /// Secrets in anything the product said or logged, by name and place.
    pub leaks: Vec<String>,
    /// How often `apply` was killed and started again.
    pub kills: u32,
    /// What nobody can shorten of it.
    pub path: CriticalPath,
    /// How long the move took.
    pub seconds: f64,
}

/// `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    scenario: Scenario,
    outcome: Outcome,
    sessions: Sessions,
    conflicts: u64,
    worst_lag_ms: u64,
    requests: Requests,
    checks: Checks,
    foreign_variables_changed: u64,
    retired: Vec<String>,
    plan_after: PlanAfter,
    seconds: f64,
    kills: u32,
    critical_path: Path,
}

/// What the move took against what nobody can shorten.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Path {
    seconds: f64,
    /// Of the whole; absent where `apply` was killed on the way, or nothing was deployed.
    ratio: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Sessions {
    before: u64,
    after: u64,
    lost: u64,
    zombies: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Requests {
    total: u64,
    failed: u64,
    refused_within_lag: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Checks {
    passed: u64,
    failed: u64,
    skipped: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct PlanAfter {
    changes: Option<u64>,
}

/// One thing that must be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What.
    pub what: String,
    /// Whether it is.
    pub holds: bool,
    /// What was found.
    pub found: String,
}

impl Facts {
    /// How the move ended: by the exit code, and by where the service keeps its sessions now.
    pub fn outcome(&self) -> Outcome {
        let on_old = self.findings.fleet.last_store() == Some(self.old_store.as_str());
        match self.exit {
            Some(0) if !on_old => Outcome::Migrated,
            Some(3) if on_old => Outcome::RolledBack,
            Some(_) | None => Outcome::Failed,
        }
    }

    /// The report in its fixed shape.
    pub fn report(&self) -> Report {
        let (sessions, requests) = (&self.findings.sessions, &self.findings.requests);
        Report {
            scenario: self.scenario,
            outcome: self.outcome(),
            sessions: Sessions {
                before: sessions.before,
                after: sessions.after,
                lost: sessions.lost,
                zombies: sessions.zombies,
            },
            conflicts: self.status.conflicts,
            worst_lag_ms: self.findings.worst_lag_ms,
            requests: Requests {
                total: requests.total,
                failed: requests.failed,
                refused_within_lag: requests.refused_within_lag,
            },
            checks: Checks { passed: self.checked.passed, failed: self.checked.failed, skipped: self.checked.skipped },
            foreign_variables_changed: self.foreign_changes.len() as u64,
            retired: self.removed.clone(),
            plan_after: PlanAfter { changes: self.plan_changes },
            seconds: rounded(self.seconds, 1),
            kills: self.kills,
            critical_path: Path {
                seconds: rounded(self.path.seconds(), 1),
                ratio: self.pace().map(|ratio| rounded(ratio, 3)),
            },
        }
    }

    /// From apply to done against the critical path; nothing where `apply` was killed on the way.
    pub fn pace(&self) -> Option<f64> {
        self.path.ratio(self.seconds).filter(|_| self.kills == 0)
    }

    /// Everything that must be true for the demo to succeed.
    pub fn conditions(&self, bounds: Bounds) -> Vec<Condition> {
        let mut conditions = self.promises(bounds);
        conditions.extend(match self.scenario {
            Scenario::Migrate => self.migrated(bounds),
            Scenario::Rollback | Scenario::PlatformRollback => self.rolled_back(),
        });
        conditions
    }

    fn promises(&self, bounds: Bounds) -> Vec<Condition> {
        let (sessions, requests) = (&self.findings.sessions, &self.findings.requests);
        let overlap = self.findings.fleet.overlap_ms();
        let late = requests.stale_late + requests.accepted_after_logout_late;
        vec![
            at_least("sessions logged in before the move", sessions.before, bounds.sessions),
            at_least("milliseconds with instances on both stores", overlap, bounds.overlap_ms),
            none("sessions lost", sessions.lost),
            none("logged-out sessions that came back", sessions.zombies),
            none("sessions whose renewal was lost", sessions.shortened),
            none("sessions nobody can judge", sessions.open),
            none("requests failed", requests.failed),
            none("answers behind by more than the promised lag", late),
            Condition {
                what: "at most 0.1 % of requests refused within the lag".to_owned(),
                holds: requests.refused_within_lag * 1000 <= requests.total,
                found: thousands(requests.refused_within_lag),
            },
            none("foreign variables changed", self.foreign_changes.len() as u64),
            nothing("nothing else was made or left in the clouds", &self.made.others),
            nothing("no key of the copier is left in either store", &self.made.traces),
            nothing("notify-keyspace-events is as it was in both stores", &self.made.notifying),
            holds("the old store is retained", self.old_store_available),
            nothing("no secret in any output, report, file, or log at TRACE", &self.leaks),
            Condition {
                what: "plan has nothing left to do".to_owned(),
                holds: self.plan_changes == Some(0),
                found: self.plan_changes.map_or("no plan".to_owned(), |changes| format!("{changes} changes")),
            },
        ]
    }

    fn migrated(&self, bounds: Bounds) -> Vec<Condition> {
        let made = &self.made;
        vec![
            self.ended(Outcome::Migrated),
            at_least("requests during the move", self.findings.requests.total, bounds.requests),
            none("checks failed, on the way or afterwards", self.checked.failed + self.status.failed),
            at_least("checks passed on the way", self.checked.passed, 1),
            at_least("checks passed afterwards", self.status.passed, 1),
            Condition {
                what: "connector and rule named in the manifest are removed".to_owned(),
                holds: !self.named.is_empty() && self.removed == self.named,
                found: format!("{} of {}", self.removed.len(), self.named.len()),
            },
            Condition {
                what: "one database, one secret, and the service uses it".to_owned(),
                holds: made.databases == 1 && made.epochs == [self.store_reference.as_str()],
                found: format!("{} and {}", made.databases, made.epochs.len()),
            },
        ]
    }

    fn rolled_back(&self) -> Vec<Condition> {
        let new = self.new_store();
        let failed = match self.scenario {
            Scenario::Rollback => vec![at_least("checks failed", self.checked.failed, 1)],
            Scenario::Migrate | Scenario::PlatformRollback => vec![none("checks failed", self.checked.failed)],
        };
        let mut conditions = vec![
            self.ended(Outcome::RolledBack),
            Condition {
                what: "status says RolledBack, and why".to_owned(),
                holds: self.status.phase == "RolledBack" && !self.status.message.is_empty(),
                found: format!("{}: {}", self.status.phase, self.status.message),
            },
            holds("store variable and egress are as they were", self.configuration_restored),
            none("things removed", self.removed.len() as u64),
            Condition {
                what: "one database at most, and no secret of an epoch".to_owned(),
                holds: self.made.databases <= 1 && self.made.epochs.is_empty(),
                found: format!("{} and {}", self.made.databases, self.made.epochs.len()),
            },
            at_least("sessions born on the new store", new.opened, 1),
            at_least("sessions logged out on the new store", new.ended, 1),
        ];
        conditions.extend(failed);
        conditions
    }

    fn ended(&self, wanted: Outcome) -> Condition {
        let outcome = self.outcome();
        let store = self.findings.fleet.last_store().unwrap_or("none");
        let exit = self.exit.map_or("none".to_owned(), |code| code.to_string());
        Condition {
            what: format!("the move ends {wanted:?}"),
            holds: outcome == wanted,
            found: format!("{outcome:?} (apply exit {exit}, serving from {store})"),
        }
    }

    /// What happened on stores other than the old one.
    pub fn new_store(&self) -> StoreUse {
        let stores = self.findings.fleet.stores();
        let others = stores.into_iter().filter(|(name, _)| *name != self.old_store);
        others.map(|(_, store)| store).max_by_key(|store| store.opened).unwrap_or_default()
    }
}

fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

fn none(what: &str, found: u64) -> Condition {
    Condition { what: format!("no {what}"), holds: found == 0, found: thousands(found) }
}

fn at_least(what: &str, found: u64, least: u64) -> Condition {
    Condition { what: format!("{what} ≥ {}", thousands(least)), holds: found >= least, found: thousands(found) }
}

fn nothing(what: &str, found: &[String]) -> Condition {
    let told = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    Condition { what: what.to_owned(), holds: found.is_empty(), found: told }
}

fn holds(what: &str, holds: bool) -> Condition {
    Condition { what: what.to_owned(), holds, found: if holds { "yes" } else { "no" }.to_owned() }
}

#[cfg(test)]
mod tests;
