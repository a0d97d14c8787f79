//! The API server's own account of what it was asked.

use serde_json::Value;

/// Everything but its own housekeeping; a body that may hold a secret is left out.
pub(crate) const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- { level: None, users: ["system:apiserver"] }
- { level: Metadata, userGroups: ["system:masters"] }
- { level: Metadata, resources: [{ group: "", resources: [secrets, configmaps, serviceaccounts/token] }] }
- { level: RequestResponse }
"#;

/// The events of a log; a line that is just being written is not there yet.
pub(crate) fn events(log: &str) -> Vec<Value> {
    let complete = log.rfind('\n').map_or("", |end| &log[..end]);
    complete.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_is_no_event_yet() {
        assert_eq!(events("{\"verb\":\"get\"}\n{\"verb\":").len(), 1);
        assert_eq!(events("{\"verb\":\"get\"}").len(), 0);
    }
}
