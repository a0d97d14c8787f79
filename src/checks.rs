//! Checks as data: what is looked at, what counts as passing, and what a run of them means.
//! Pure; `shell` rooms execute them. A control-plane error is never a reason to roll back, and Inconclusive never passes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// When in the life of a migration a run was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Before the switch, on the store in use: what a later run is judged against.
    Baseline,
    /// Before the switch, on the new store alone.
    Target,
    /// After the drain.
    AfterSwitch,
    /// Again and again until the bake is over.
    Bake,
    /// After the way back.
    AfterRollback,
    /// At rest.
    Rest,
}

/// One check of a runbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// Its name, unique in the object.
    pub name: String,
}

/// What a failing check leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    /// Holds a migration before the switch, rolls it back after.
    #[default]
    Gate,
    /// Is reported.
    Warn,
}

/// How a check came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// As expected.
    Pass,
    /// Not as expected; the only verdict that can roll back.
    Fail,
    /// Could not be decided; never passes.
    Inconclusive,
    /// Not made, for this reason.
    Skipped(String),
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Which check.
    pub name: String,
    /// The service it was made on, if it is about one.
    pub service: Option<String>,
    /// What a failure leads to.
    pub severity: Severity,
    /// Required even where the baseline failed too.
    pub required: bool,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen, without secrets, and what to do about it.
    pub message: String,
}

/// A run of checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it began.
    pub started: Timestamp,
    /// When it ended; `None` while it is running.
    pub finished: Option<Timestamp>,
    /// What came out.
    pub results: Vec<CheckResult>,
}

/// What a run means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Every gate passed, or failed no worse than the baseline.
    Passed,
    /// A gate that passed before fails now, or a required one fails.
    Regressed(Vec<CheckResult>),
    /// A gate could not be decided.
    Undecided(Vec<CheckResult>),
}

/// Judges `results` against `baseline`: only a regression, or a required check, counts as a failure.
#[must_use]
pub fn judge(baseline: &[CheckResult], results: &[CheckResult]) -> Judgement {
    let passed_before = |result: &CheckResult| {
        baseline
            .iter()
            .find(|before| before.name == result.name && before.service == result.service)
            .is_none_or(|before| matches!(before.verdict, Verdict::Pass | Verdict::Skipped(_)))
    };
    let gates = || results.iter().filter(|result| result.severity == Severity::Gate);
    let regressed: Vec<_> = gates()
        .filter(|result| result.verdict == Verdict::Fail && (result.required || passed_before(result)))
        .cloned()
        .collect();
    if !regressed.is_empty() {
        return Judgement::Regressed(regressed);
    }
    let undecided: Vec<_> = gates().filter(|result| result.verdict == Verdict::Inconclusive).cloned().collect();
    if undecided.is_empty() { Judgement::Passed } else { Judgement::Undecided(undecided) }
}

/// The checks of `runbooks` and `extra` together.
///
/// # Errors
/// One message of the form `problem; remedy` for each mistake.
pub fn resolve(runbooks: &[serde_json::Value], extra: &[serde_json::Value]) -> Result<Vec<Check>, Vec<String>> {
    // Replaced by the checks' own room; here so that what is written against it compiles.
    runbooks
        .iter()
        .chain(extra)
        .map(|entry| match entry.get("name").and_then(serde_json::Value::as_str) {
            Some(name) => Ok(Check { name: name.to_owned() }),
            None => Err(vec!["a check has no name; give it one".to_owned()]),
        })
        .collect()
}
