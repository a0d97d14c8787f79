//! Faults by request: what a call, a deployment or a store is to suffer, and how often.
//! Only matching and counting; who asks carries the fault out.

use serde::{Deserialize, Serialize};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallFault {
    /// The vendor's throttling error; not executed.
    Throttle,
    /// The vendor's internal error, HTTP 500; not executed.
    #[serde(rename = "500")]
    Internal,
    /// No answer, the connection stays open; not executed.
    Hang,
    /// The connection is reset; not executed.
    Lost,
    /// Executed, then the connection is closed without an answer.
    LostReply,
    /// The vendor's error for a missing permission; not executed.
    Denied,
    /// The vendor's error for an expired session; not executed.
    ExpiredCredentials,
    /// A read answers from before the latest change.
    Stale,
    /// The account may not use the service (App Runner for new customers).
    NotSubscribed,
    /// Right before an UpdateService is executed somebody else's is, and is over; then the next fault, if there is one.
    OtherHand,
}

/// What happens to the next deployment of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentFault {
    /// The new instances are never healthy: App Runner returns to the old configuration without traffic to the new one.
    Rollback,
    /// The new instances serve, then App Runner returns to the old configuration.
    RollbackAfterShift,
    /// The operation ends FAILED and the service keeps its old configuration.
    Fail,
    /// The operation never ends.
    Stuck,
    /// The operation is listed only after `seconds`.
    HideOperation,
}

/// A fault of one of the kinds, with when it strikes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Number given by the sandbox.
    #[serde(default)]
    pub id: u64,
    /// Emulated service such as `apprunner`; absent = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Operation such as `UpdateService`; absent = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// What happens to a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallFault>,
    /// What happens to a deployment; `service` is then ignored and `name` names the App Runner service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentFault>,
    /// Name of an App Runner service; absent = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How often it strikes before it is gone; absent = until removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Strikes every n-th matching call only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u32>,
    /// For `hide-operation`: vendor's seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Matching calls seen.
    #[serde(default)]
    pub seen: u32,
}

/// The faults in force.
#[derive(Debug, Default)]
pub struct Faults {
    next: u64,
    list: Vec<Fault>,
}

impl Faults {
    /// Takes a fault into force and returns its number.
    pub fn add(&mut self, mut fault: Fault) -> u64 {
        self.next += 1;
        fault.id = self.next;
        self.list.push(fault);
        self.next
    }

    /// All in force.
    pub fn list(&self) -> &[Fault] {
        &self.list
    }

    /// Removes one, or all without a number; whether anything was there.
    pub fn remove(&mut self, id: Option<u64>) -> bool {
        let before = self.list.len();
        self.list.retain(|f| id.is_some_and(|id| f.id != id));
        self.list.len() < before
    }

    /// The fault that strikes this call.
    pub fn call(&mut self, service: &str, operation: &str, mutating: bool) -> Option<CallFault> {
        let suits = |kind: CallFault| match kind {
            CallFault::Stale => !mutating,
            CallFault::OtherHand => false,
            CallFault::Throttle
            | CallFault::Internal
            | CallFault::Hang
            | CallFault::Lost
            | CallFault::LostReply
            | CallFault::Denied
            | CallFault::ExpiredCredentials
            | CallFault::NotSubscribed => true,
        };
        let matches = |f: &Fault| {
            f.call.is_some_and(suits)
                && f.service.as_deref().is_none_or(|s| s == service)
                && f.operation.as_deref().is_none_or(|o| o == operation)
        };
        self.strike(matches).and_then(|f| f.call)
    }

    /// Whether somebody else updates the App Runner service `name` right before the call.
    pub fn other_hand(&mut self, operation: &str, name: &str) -> bool {
        let matches =
            |f: &Fault| f.call == Some(CallFault::OtherHand) && f.name.as_deref().is_none_or(|asked| asked == name);
        operation == "UpdateService" && self.strike(matches).is_some()
    }

    /// The fault of `kinds` that strikes a deployment of the App Runner service `name`.
    pub fn deployment(&mut self, name: &str, kinds: &[DeploymentFault]) -> Option<Fault> {
        self.strike(|f: &Fault| {
            f.deployment.is_some_and(|kind| kinds.contains(&kind)) && f.name.as_deref().is_none_or(|n| n == name)
        })
    }

    fn strike(&mut self, matches: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let at = self.list.iter_mut().position(|fault| {
            if !matches(fault) {
                return false;
            }
            fault.seen += 1;
            fault.every.is_none_or(|every| fault.seen.is_multiple_of(every.max(1)))
        })?;
        let struck = self.list[at].clone();
        if let Some(count) = &mut self.list[at].count {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.list.remove(at);
            }
        }
        Some(struck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_counted_fault_strikes_that_often() {
        let mut faults = Faults::default();
        faults.add(fault(r#"{"service":"apprunner","operation":"UpdateService","call":"lost-reply","count":2}"#));
        assert_eq!(faults.call("apprunner", "DescribeService", false), None);
        assert_eq!(faults.call("apprunner", "UpdateService", true), Some(CallFault::LostReply));
        assert_eq!(faults.call("apprunner", "UpdateService", true), Some(CallFault::LostReply));
        assert_eq!(faults.call("apprunner", "UpdateService", true), None);
    }

    #[test]
    fn every_third_call_is_throttled_until_removed() {
        let mut faults = Faults::default();
        let id = faults.add(fault(r#"{"call":"throttle","every":3}"#));
        let struck: Vec<bool> = (0..6).map(|_| faults.call("ec2", "DescribeVpcs", false).is_some()).collect();
        assert_eq!(struck, [false, false, true, false, false, true]);
        assert!(faults.remove(Some(id)));
        assert_eq!(faults.call("ec2", "DescribeVpcs", false), None);
    }

    #[test]
    fn another_hand_comes_before_an_update_and_the_next_fault_still_strikes() {
        let mut faults = Faults::default();
        faults.add(fault(r#"{"call":"other-hand","name":"web","count":1}"#));
        faults.add(fault(r#"{"call":"lost-reply","operation":"UpdateService"}"#));
        assert!(!faults.other_hand("StartDeployment", "web") && !faults.other_hand("UpdateService", "worker"));
        assert_eq!(faults.call("apprunner", "UpdateService", true), Some(CallFault::LostReply));
        assert!(faults.other_hand("UpdateService", "web"));
        assert!(!faults.other_hand("UpdateService", "web"), "counted");
    }

    #[test]
    fn a_stale_fault_never_touches_a_write() {
        let mut faults = Faults::default();
        faults.add(fault(r#"{"call":"stale","count":1}"#));
        assert_eq!(faults.call("ec2", "CreateTags", true), None);
        assert_eq!(faults.call("ec2", "DescribeVpcs", false), Some(CallFault::Stale));
    }
}
