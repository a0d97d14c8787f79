//! How long a move took against what nobody can shorten: App Runner's deployments, which come one after another, and the
//! waits the manifest asks for. Pure; what lies above is the product's own.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::report::Scenario;

/// What stands in the way of a faster move, in seconds. Upstash answers a creation with a database that works, so the
/// new store costs nothing here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CriticalPath {
    /// App Runner's operations, from their start to their end.
    pub deployments: f64,
    /// `app.longestRequest`, once for each drain.
    pub drains: f64,
    /// `migration.bakeTime`.
    pub bake: f64,
}

/// The waits a manifest asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// `app.longestRequest`.
    pub longest_request: Duration,
    /// `migration.bakeTime`.
    pub bake_time: Duration,
}

impl CriticalPath {
    /// Of a story that went as it was told to: each operation's length in seconds, and what is waited for in between.
    pub fn of(scenario: Scenario, operations: &[f64], waits: Waits) -> Self {
        let (drains, bake) = match scenario {
            Scenario::Migrate => (1.0, waits.bake_time),
            // The way there and the way back.
            Scenario::Rollback => (2.0, Duration::ZERO),
            // The platform's own way back is part of its operation.
            Scenario::PlatformRollback => (1.0, Duration::ZERO),
        };
        Self {
            deployments: operations.iter().sum(),
            drains: drains * waits.longest_request.as_secs_f64(),
            bake: bake.as_secs_f64(),
        }
    }

    /// All of it.
    pub fn seconds(&self) -> f64 {
        self.deployments + self.drains + self.bake
    }

    /// How much longer the move took; nothing without a path.
    pub fn ratio(&self, took: f64) -> Option<f64> {
        (self.deployments > 0.0).then(|| took / self.seconds())
    }
}

/// The lengths of the operations of a service in an answer of ListOperations, its creation aside, in seconds.
pub fn lengths(answer: &Value) -> Vec<f64> {
    let operations = answer["OperationSummaryList"].as_array().into_iter().flatten();
    let moved = operations.filter(|operation| operation["Type"] != "CREATE_SERVICE");
    moved.filter_map(|operation| Some(operation["EndedAt"].as_f64()? - operation["StartedAt"].as_f64()?)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WAITS: Waits = Waits { longest_request: Duration::from_secs(5), bake_time: Duration::from_secs(20) };

    #[test]
    fn the_path_is_what_follows_one_after_another() {
        let path = CriticalPath::of(Scenario::Migrate, &[9.5, 9.5, 10.0], WAITS);
        assert_eq!((path.deployments, path.drains, path.bake, path.seconds()), (29.0, 5.0, 20.0, 54.0));
        assert_eq!(path.ratio(59.4), Some(59.4 / 54.0));
        assert!((CriticalPath::of(Scenario::Rollback, &[9.0, 9.0], WAITS).seconds() - 28.0).abs() < 1e-9);
        assert!((CriticalPath::of(Scenario::PlatformRollback, &[18.0], WAITS).seconds() - 23.0).abs() < 1e-9);
    }

    #[test]
    fn a_service_that_was_never_deployed_has_no_ratio() {
        assert_eq!(CriticalPath::of(Scenario::Migrate, &[], WAITS).ratio(10.0), None);
    }

    #[test]
    fn the_creation_and_what_still_runs_do_not_count() {
        let answer = json!({ "OperationSummaryList": [
            { "Type": "UPDATE_SERVICE", "StartedAt": 120.5 },
            { "Type": "UPDATE_SERVICE", "StartedAt": 100.25, "EndedAt": 110.0 },
            { "Type": "CREATE_SERVICE", "StartedAt": 10.0, "EndedAt": 20.0 },
        ] });
        assert_eq!(lengths(&answer), [9.75]);
    }
}
