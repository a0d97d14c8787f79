//! IAM roles with inline policies, and the one operation of STS.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::policy::{self, Decision};
use super::{ApiError, Call, Operation, Reply, epoch, page, required, strings, tags_in, tags_out, text, without_nulls};
use crate::state::iam::Role;
use crate::state::random;

/// The function of an operation.
pub fn operation(name: &str) -> Option<Operation> {
    Some(match name {
        "CreateRole" => create_role,
        "GetRole" => get_role,
        "ListRoles" => list_roles,
        "DeleteRole" => delete_role,
        "PutRolePolicy" => put_role_policy,
        "GetRolePolicy" => get_role_policy,
        "ListRolePolicies" => list_role_policies,
        "DeleteRolePolicy" => delete_role_policy,
        "ListAttachedRolePolicies" => list_attached_role_policies,
        "SimulatePrincipalPolicy" => simulate,
        "GetCallerIdentity" => caller,
        _ => return None,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "an operation")]
fn caller(call: &mut Call<'_>, _: &Value) -> Reply {
    let account = &call.state.account;
    let arn = format!("arn:aws:iam::{account}:user/sandbox");
    Ok(json!({"UserId": "AIDASANDBOX0000000000", "Account": account, "Arn": arn}))
}

fn no_role(name: &str) -> ApiError {
    ApiError::new("NoSuchEntity", format!("The role with name {name} cannot be found."))
}

fn no_policy(name: &str) -> ApiError {
    ApiError::new("NoSuchEntity", format!("The role policy with name {name} cannot be found."))
}

fn role<'a>(call: &'a mut Call<'_>, input: &Value) -> Result<&'a mut Role, ApiError> {
    let name = required(input, "RoleName");
    call.state.iam.roles.get_mut(name).ok_or_else(|| no_role(name))
}

fn encoded(document: &str) -> String {
    utf8_percent_encode(document, NON_ALPHANUMERIC).to_string()
}

fn shown(role: &Role) -> Value {
    without_nulls(json!({
        "Path": role.path, "RoleName": role.name, "RoleId": role.id, "Arn": role.arn, "CreateDate": epoch(role.created),
        "AssumeRolePolicyDocument": encoded(&role.trust), "Description": role.description,
        "MaxSessionDuration": role.max_session, "Tags": if role.tags.is_empty() { Value::Null } else { tags_out(&role.tags) },
    }))
}

fn create_role(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = required(input, "RoleName");
    if call.state.iam.roles.contains_key(name) {
        return Err(ApiError::new("EntityAlreadyExists", format!("Role with name {name} already exists.")));
    }
    let trust = required(input, "AssumeRolePolicyDocument");
    if !policy::is_policy(trust, false) {
        return Err(ApiError::new("MalformedPolicyDocument", "Syntax errors in policy."));
    }
    let path = text(input, "Path").unwrap_or("/").to_owned();
    let role = Role {
        arn: format!("arn:aws:iam::{}:role{path}{name}", call.state.account),
        name: name.to_owned(),
        path,
        id: format!("AROA{}", random("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 17)),
        trust: trust.to_owned(),
        description: text(input, "Description").map(str::to_owned),
        max_session: input["MaxSessionDuration"].as_i64().unwrap_or(3600),
        policies: std::collections::BTreeMap::new(),
        created: call.now,
        tags: tags_in(input, "Tags"),
    };
    let answer = json!({"Role": shown(&role)});
    call.state.iam.roles.insert(name.to_owned(), role);
    Ok(answer)
}

fn get_role(call: &mut Call<'_>, input: &Value) -> Reply {
    Ok(json!({"Role": shown(role(call, input)?)}))
}

fn list_roles(call: &mut Call<'_>, input: &Value) -> Reply {
    let prefix = text(input, "PathPrefix").unwrap_or("/");
    let roles = call.state.iam.roles.values().filter(|r| r.path.starts_with(prefix)).map(shown).collect();
    paged(roles, input, "Roles")
}

fn paged(items: Vec<Value>, input: &Value, member: &str) -> Reply {
    let size = usize::try_from(input["MaxItems"].as_u64().unwrap_or(100)).unwrap_or(100);
    let (items, next) = page(items, text(input, "Marker"), size)
        .map_err(|()| ApiError::new("InvalidInput", "The marker is not valid."))?;
    Ok(without_nulls(json!({member: items, "IsTruncated": next.is_some(), "Marker": next})))
}

fn delete_role(call: &mut Call<'_>, input: &Value) -> Reply {
    if !role(call, input)?.policies.is_empty() {
        return Err(ApiError::new("DeleteConflict", "Cannot delete entity, must delete policies first."));
    }
    call.state.iam.roles.remove(required(input, "RoleName"));
    Ok(Value::Null)
}

fn put_role_policy(call: &mut Call<'_>, input: &Value) -> Reply {
    let document = required(input, "PolicyDocument");
    let role = role(call, input)?;
    if !policy::is_policy(document, true) {
        return Err(ApiError::new("MalformedPolicyDocument", "Syntax errors in policy."));
    }
    let name = required(input, "PolicyName");
    let others: usize = role.policies.iter().filter(|(n, _)| *n != name).map(|(_, d)| d.len()).sum();
    if others + document.len() > 10_240 {
        return Err(ApiError::new("LimitExceeded", "Maximum policy size of 10240 bytes exceeded for role."));
    }
    role.policies.insert(name.to_owned(), document.to_owned());
    Ok(Value::Null)
}

fn get_role_policy(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = required(input, "PolicyName");
    let role = role(call, input)?;
    let document = role.policies.get(name).ok_or_else(|| no_policy(name))?;
    Ok(json!({"RoleName": role.name, "PolicyName": name, "PolicyDocument": encoded(document)}))
}

fn list_role_policies(call: &mut Call<'_>, input: &Value) -> Reply {
    let names = role(call, input)?.policies.keys().map(|name| json!(name)).collect();
    paged(names, input, "PolicyNames")
}

fn delete_role_policy(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = required(input, "PolicyName");
    role(call, input)?.policies.remove(name).ok_or_else(|| no_policy(name))?;
    Ok(Value::Null)
}

fn list_attached_role_policies(call: &mut Call<'_>, input: &Value) -> Reply {
    role(call, input)?;
    // Managed policies cannot be attached here.
    paged(Vec::new(), input, "AttachedPolicies")
}

fn simulate(call: &mut Call<'_>, input: &Value) -> Reply {
    let source = required(input, "PolicySourceArn");
    let role = policy::role(call.state, source).ok_or_else(|| no_role(source))?;
    let mut resources = strings(input, "ResourceArns");
    if resources.is_empty() {
        resources.push("*".into());
    }
    let added = strings(input, "PolicyInputList");
    let mut results = Vec::new();
    for action in strings(input, "ActionNames") {
        if !action.contains(':') {
            return Err(ApiError::new("InvalidInput", format!("Invalid Entity Action: {action}")));
        }
        for resource in &resources {
            let policies = role.policies.values().chain(&added).map(String::as_str);
            let decision = match policy::evaluate(policies, &action, resource) {
                Decision::Allowed => "allowed",
                Decision::ExplicitDeny => "explicitDeny",
                Decision::ImplicitDeny => "implicitDeny",
            };
            results.push(json!({"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": decision,
                "MatchedStatements": [], "MissingContextValues": []}));
        }
    }
    Ok(json!({"EvaluationResults": results, "IsTruncated": false}))
}
