//! How much room there is in the secret a journal is kept in, and what is shortened so that it suffices. A journal that
//! cannot be written in the middle of a migration could neither go on nor come back. Pure.

use crate::checks::{CheckResult, Verdict};
use crate::desired::CopyRules;
use crate::error::presentable;

use super::Journal;

/// A SecretString takes 65,536 bytes.
pub const LIMIT: usize = 64 * 1024;
/// What a migration adds to it after it has begun, at most: results of checks, ids, times, why something failed.
pub const GROWTH: usize = 32 * 1024;
/// A plain value in the vault: its key there and beside the variable's name, its fingerprint, and the JSON around them.
const AROUND_A_VALUE: usize = 160;
/// A reference to be kept: the JSON around the variable's name and the ARN.
const AROUND_A_REFERENCE: usize = 40;
/// What a service's part in a migration takes besides its variables: ARNs, egress, operation ids, times.
const A_SERVICE: usize = 900;
/// The two stores, the rules' frame, the nonce.
const A_MIGRATION: usize = 2 * 1024;

/// Failures of a baseline that are kept. One that is not counts as new: the way back, not a wrong switch.
const BASELINE: usize = 30;
/// Results of the last run that are kept.
const LAST: usize = 60;
/// Bytes of all messages of one run.
const MESSAGES: usize = 3 * 1024;
/// Bytes of one message of a check.
const MESSAGE: usize = 200;
/// Bytes of why a migration stands or goes back.
const REASON: usize = 1000;

/// What may go on in the journal about why something failed.
pub(super) fn reason(text: &str) -> String {
    presentable(text, REASON)
}

/// A baseline as it is kept: what did not pass. What is not in it has passed, for [`crate::checks::judge`] as for people.
pub(super) fn baseline(results: &[CheckResult]) -> Vec<CheckResult> {
    let failed = results.iter().filter(|result| matters(result)).take(BASELINE);
    shortened(failed.collect())
}

/// The last run as it is kept: of more results than there is room for those that passed go first.
pub(super) fn last(results: &[CheckResult]) -> Vec<CheckResult> {
    let failed = results.iter().filter(|result| matters(result)).count().min(LAST);
    let (mut failures, mut passes) = (failed, LAST - failed);
    let kept = results.iter().filter(|result| {
        let left = if matters(result) { &mut failures } else { &mut passes };
        let keep = *left > 0;
        *left = left.saturating_sub(1);
        keep
    });
    shortened(kept.collect())
}

fn matters(result: &CheckResult) -> bool {
    match result.verdict {
        Verdict::Fail | Verdict::Inconclusive => true,
        Verdict::Pass | Verdict::Skipped(_) => false,
    }
}

fn shortened(results: Vec<&CheckResult>) -> Vec<CheckResult> {
    let most = (MESSAGES / results.len().max(1)).min(MESSAGE);
    let short = |result: &CheckResult| CheckResult {
        message: presentable(&result.message, most),
        verdict: match &result.verdict {
            Verdict::Skipped(why) => Verdict::Skipped(presentable(why, most)),
            verdict @ (Verdict::Pass | Verdict::Fail | Verdict::Inconclusive) => verdict.clone(),
        },
        ..result.clone()
    };
    results.into_iter().map(short).collect()
}

impl Journal {
    /// Bytes the journal would have right after a migration of `services` with `rules` began, whose plain values to be kept
    /// for the way back have these sizes as JSON texts with the names of service and variable, and whose references these
    /// with the name of the variable.
    #[must_use]
    pub fn size_with(
        &self,
        services: usize,
        rules: &CopyRules,
        values: impl IntoIterator<Item = (usize, usize)>,
        references: impl IntoIterator<Item = usize>,
    ) -> usize {
        // The next migration takes the place of the last one.
        let rest = Self { migration: None, ..self.clone() };
        let rest = serde_json::to_string(&rest).map_or(LIMIT, |text| text.len());
        let values: usize = values.into_iter().map(|(names, value)| AROUND_A_VALUE + 3 * names + value).sum();
        let references: usize = references.into_iter().map(|reference| AROUND_A_REFERENCE + reference).sum();
        let rules = serde_json::to_string(rules).map_or(LIMIT, |text| text.len());
        rest + A_MIGRATION + rules + services * A_SERVICE + values + references
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Severity;

    fn result(number: usize, verdict: Verdict) -> CheckResult {
        CheckResult {
            name: format!("DjangoChannels.{number:050}"),
            service: Some("liberty-web-of-a-rather-long-name-000000".into()),
            severity: Severity::Gate,
            required: false,
            verdict,
            message: "\"quoted\" ".repeat(300),
        }
    }

    #[test]
    fn however_many_checks_say_however_much_there_is_room_for_it() {
        let results: Vec<_> = (0..700)
            .map(|number| {
                let skipped = || Verdict::Skipped("not reachable from here ".repeat(100));
                result(number, [Verdict::Pass, Verdict::Fail, skipped()][number % 3].clone())
            })
            .collect();
        let bytes = |kept: &[CheckResult]| serde_json::to_string(kept).unwrap().len();
        let (before, after) = (baseline(&results), last(&results));
        assert_eq!((before.len(), after.len()), (BASELINE, LAST));
        assert!(bytes(&before) + bytes(&after) + 4 * REASON < GROWTH, "{} {}", bytes(&before), bytes(&after));
    }

    #[test]
    fn a_run_of_a_few_is_kept_whole_and_a_baseline_says_what_did_not_pass() {
        let results = [result(1, Verdict::Pass), result(2, Verdict::Fail)];
        assert_eq!(last(&results).len(), 2);
        assert!(last(&results)[1].message.starts_with("\"quoted\" \"quoted\""));
        assert_eq!(
            baseline(&results).iter().map(|kept| kept.name.clone()).collect::<Vec<_>>(),
            [results[1].name.clone()]
        );
        // The same judgement with what is kept as with all of it.
        for now in [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive] {
            let now = [result(1, now.clone()), result(2, now)];
            let whole = crate::checks::judge(&results, &now);
            let kept = crate::checks::judge(&baseline(&results), &now);
            assert_eq!(std::mem::discriminant(&whole), std::mem::discriminant(&kept));
        }
    }
}
