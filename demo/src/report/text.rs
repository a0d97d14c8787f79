//! The report as people read it on a terminal. Presentation only: every figure and verdict comes from the facts.

use super::{Condition, Facts};
use crate::terminal::thousands as number;

/// So many of the visitors' examples are printed.
const EXAMPLES: usize = 10;

impl Facts {
    /// The report for people.
    pub fn text(&self, conditions: &[Condition]) -> String {
        let mut lines = self.rows();
        lines.extend(self.pace().map(|ratio| row("pace", &self.pace_text(ratio))));
        if self.kills > 0 {
            lines.push(row("killed", &format!("{} times, and started again each time", self.kills)));
        }
        lines.push(String::new());
        for condition in conditions {
            let mark = if condition.holds { "✓" } else { "✗" };
            lines.push(format!("  {mark} {:<58} {}", condition.what, condition.found));
        }
        let failed = conditions.iter().any(|condition| !condition.holds);
        if failed && !self.findings.examples.is_empty() {
            lines.push("\n  what the visitors met (all figures are in visitors.json):".to_owned());
            lines.extend(self.findings.failures.iter().map(|(how, count)| format!("    {} × {how}", number(*count))));
            lines.extend(self.findings.examples.iter().take(EXAMPLES).map(|example| format!("    {example}")));
        }
        lines.join("\n")
    }

    fn pace_text(&self, ratio: f64) -> String {
        let path = &self.path;
        let parts = [("deployments", path.deployments), ("drains", path.drains), ("bake", path.bake)];
        let parts = parts.iter().filter(|(_, seconds)| *seconds > 0.0).map(|(what, s)| format!("{what} {s:.1} s"));
        let parts = parts.collect::<Vec<_>>().join(", ");
        format!("{ratio:.3} × the critical path of {:.1} s ({parts})", path.seconds())
    }

    fn rows(&self) -> Vec<String> {
        let (sessions, requests) = (&self.findings.sessions, &self.findings.requests);
        let (new, status, checked) = (self.new_store(), &self.status, &self.checked);
        let stale = requests.stale_within_lag + requests.stale_late;
        let logouts = requests.accepted_after_logout_within_lag + requests.accepted_after_logout_late;
        let retained = if self.old_store_available { self.old_store.as_str() } else { "NOT the old store" };
        let removed =
            if self.removed.is_empty() { "nothing".to_owned() } else { self.removed.join("\n               ") };
        let plan = self.plan_changes.map_or("failed".to_owned(), |changes| format!("{changes} changes"));
        vec![
            row("outcome", &format!("{:?} after {:.1} s   {}", self.outcome(), self.seconds, status.message)),
            row(
                "sessions",
                &format!(
                    "{} before, {} after, {} lost, {} zombies; {} ever acknowledged, each read once more at the end",
                    number(sessions.before),
                    number(sessions.after),
                    number(sessions.lost),
                    number(sessions.zombies),
                    number(sessions.ever),
                ),
            ),
            row(
                "requests",
                &format!(
                    "{} during the move, {} failed, {} refused within the lag",
                    number(requests.total),
                    number(requests.failed),
                    number(requests.refused_within_lag),
                ),
            ),
            row(
                "lag",
                &format!(
                    "{} ms at worst for a visitor; {} stale reads and {} late logouts while both stores were in use",
                    number(self.findings.worst_lag_ms),
                    number(stale),
                    number(logouts),
                ),
            ),
            row(
                "overlap",
                &format!(
                    "{} ms with instances on both stores; on the new one {} logins and {} logouts",
                    number(self.findings.fleet.overlap_ms()),
                    number(new.opened),
                    number(new.ended),
                ),
            ),
            row("conflicts", &number(status.conflicts)),
            row(
                "checks",
                &format!("{} passed, {} failed, {} skipped", checked.passed, checked.failed, checked.skipped),
            ),
            row("variables", &format!("{} foreign, {} changed", self.foreign, self.foreign_changes.len())),
            row("retired", &removed),
            row("retained", retained),
            row("plan after", &plan),
        ]
    }
}

fn row(name: &str, text: &str) -> String {
    format!("  {name:<12} {}", text.trim_end())
}
