//! Evaluation of IAM policies: deny over allow, wildcards, NotAction and NotResource. Conditions are not evaluated:
//! a statement with one neither allows nor denies.

use serde_json::Value;

use crate::state::State;
use crate::state::iam::Role;

/// What policies say about an action on a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// A statement allows it and none denies it.
    Allowed,
    /// A statement denies it.
    ExplicitDeny,
    /// Nothing says so.
    ImplicitDeny,
}

/// The role of that ARN.
pub fn role<'a>(state: &'a State, arn: &str) -> Option<&'a Role> {
    state.iam.roles.values().find(|role| role.arn == arn)
}

/// Whether a service may assume the role.
pub fn trusts(role: &Role, service: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(&role.trust) else { return false };
    statements(&policy).iter().any(|statement| {
        statement["Effect"] == "Allow"
            && words(&statement["Action"]).iter().any(|a| like(a, "sts:AssumeRole"))
            && words(&statement["Principal"]["Service"]).contains(&service)
    })
}

/// What the role's inline policies say.
pub fn decide(role: &Role, action: &str, resource: &str) -> Decision {
    evaluate(role.policies.values().map(String::as_str), action, resource)
}

/// What policies (JSON texts) say together.
pub fn evaluate<'a>(policies: impl Iterator<Item = &'a str>, action: &str, resource: &str) -> Decision {
    let mut decision = Decision::ImplicitDeny;
    for policy in policies.filter_map(|text| serde_json::from_str::<Value>(text).ok()) {
        for statement in statements(&policy) {
            if !applies(statement, action, resource) {
                continue;
            }
            if statement["Effect"] == "Deny" {
                return Decision::ExplicitDeny;
            }
            decision = Decision::Allowed;
        }
    }
    decision
}

fn applies(statement: &Value, action: &str, resource: &str) -> bool {
    let acts = match statement.get("NotAction") {
        Some(not) => !words(not).iter().any(|a| like_any_case(a, action)),
        None => words(&statement["Action"]).iter().any(|a| like_any_case(a, action)),
    };
    let touches = match statement.get("NotResource") {
        Some(not) => !words(not).iter().any(|r| like(r, resource)),
        None => words(&statement["Resource"]).iter().any(|r| like(r, resource)),
    };
    acts && touches && statement.get("Condition").is_none()
}

/// Whether a text can be a policy: a version, statements with effect, actions and (for permissions) resources.
pub fn is_policy(text: &str, needs_resource: bool) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(text) else { return false };
    let statements = statements(&policy);
    let lawful = |s: &&Value| {
        matches!(s["Effect"].as_str(), Some("Allow" | "Deny"))
            && (s.get("Action").is_some() || s.get("NotAction").is_some())
            && (!needs_resource || s.get("Resource").is_some() || s.get("NotResource").is_some())
    };
    !statements.is_empty() && statements.iter().all(lawful)
}

fn statements(policy: &Value) -> Vec<&Value> {
    match &policy["Statement"] {
        Value::Array(statements) => statements.iter().collect(),
        statement @ Value::Object(_) => vec![statement],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(word) => vec![word],
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

fn like_any_case(pattern: &str, text: &str) -> bool {
    like(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

/// `*` any characters, `?` one.
pub(super) fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, from)) = star {
            (p, t, star) = (at + 1, from + 1, Some((at, from + 1)));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:us-east-1:1:secret:a/b-AbCdEf";

    fn decide(policy: &str) -> Decision {
        evaluate([policy].into_iter(), "secretsmanager:GetSecretValue", ARN)
    }

    #[test]
    fn wildcards_and_deny() {
        let allow = r#"{"Statement":[{"Effect":"Allow","Action":"secretsmanager:Get*","Resource":"arn:aws:secretsmanager:*:1:secret:a/*"}]}"#;
        assert_eq!(decide(allow), Decision::Allowed);
        let other = r#"{"Statement":{"Effect":"Allow","Action":["SecretsManager:getsecretvalue"],"Resource":"arn:aws:secretsmanager:*:1:secret:c/*"}}"#;
        assert_eq!(decide(other), Decision::ImplicitDeny);
        let deny = r#"{"Statement":{"Effect":"Deny","NotAction":"s3:*","Resource":"*"}}"#;
        assert_eq!(evaluate([allow, deny].into_iter(), "secretsmanager:GetSecretValue", ARN), Decision::ExplicitDeny);
        assert_eq!(
            decide(r#"{"Statement":{"Effect":"Allow","Action":"secretsmanager:GetSecretValu?","NotResource":"x"}}"#),
            Decision::Allowed
        );
    }

    #[test]
    fn a_statement_with_a_condition_decides_nothing() {
        let policy = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"a":"b"}}}}"#;
        assert_eq!(decide(policy), Decision::ImplicitDeny);
    }
}
