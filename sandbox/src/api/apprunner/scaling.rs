//! Auto scaling configurations: their MinSize is how many instances a deployment starts.

use serde_json::{Value, json};

use super::{invalid, not_found};
use crate::api::{ApiError, Call, Reply, epoch, page, required, tags_in, text, without_nulls};
use crate::state::{State, apprunner::Scaling, hex};

/// Names an account can have, and revisions a name.
const QUOTA: (usize, u32) = (10, 5);

/// The account's default configuration, made when first needed.
pub(super) fn default(state: &mut State, now: jiff::Timestamp) -> String {
    if let Some(found) = state.apprunner.scaling.values().find(|s| s.name == "DefaultConfiguration") {
        return found.arn.clone();
    }
    let arn =
        state.arn("apprunner", "autoscalingconfiguration/DefaultConfiguration/1/00000000000000000000000000000001");
    let scaling = Scaling {
        arn: arn.clone(),
        name: "DefaultConfiguration".into(),
        revision: 1,
        concurrency: 100,
        min: 1,
        max: 25,
        created: now,
        deleted: None,
        tags: crate::state::Tags::new(),
    };
    state.apprunner.scaling.insert(arn.clone(), scaling);
    arn
}

/// The full ARN a full or shortened one means: without a revision it is the latest.
pub(super) fn resolve(state: &State, arn: &str) -> Result<String, ApiError> {
    let active = state.apprunner.scaling.values().filter(|s| s.deleted.is_none());
    let meant = active.filter(|s| s.arn == arn || s.arn.starts_with(&format!("{arn}/")));
    meant.max_by_key(|s| s.revision).map(|s| s.arn.clone()).ok_or_else(|| not_found("Auto scaling configuration", arn))
}

/// `AutoScalingConfigurationSummary`.
pub(super) fn summary(state: &State, arn: &str) -> Value {
    let Some(scaling) = state.apprunner.scaling.get(arn) else { return Value::Null };
    let mut shown = shown(state, scaling);
    if let Some(members) = shown.as_object_mut() {
        members.retain(|name, _| !["MaxConcurrency", "MinSize", "MaxSize", "Latest"].contains(&name.as_str()));
    }
    shown
}

fn shown(state: &State, scaling: &Scaling) -> Value {
    let used = state.apprunner.services.values().any(|s| s.status != "DELETED" && s.desired.scaling == scaling.arn);
    let mut same = state.apprunner.scaling.values().filter(|s| s.name == scaling.name && s.deleted.is_none());
    without_nulls(json!({
        "AutoScalingConfigurationArn": scaling.arn, "AutoScalingConfigurationName": scaling.name,
        "AutoScalingConfigurationRevision": scaling.revision, "Latest": same.all(|s| s.revision <= scaling.revision),
        "Status": if scaling.deleted.is_some() { "INACTIVE" } else { "ACTIVE" },
        "MaxConcurrency": scaling.concurrency, "MinSize": scaling.min, "MaxSize": scaling.max,
        "CreatedAt": epoch(scaling.created), "DeletedAt": scaling.deleted.map(epoch),
        "HasAssociatedService": used, "IsDefault": scaling.name == "DefaultConfiguration",
    }))
}

pub(super) fn create(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = required(input, "AutoScalingConfigurationName");
    let state = &mut *call.state;
    let number = |member: &str, default: u32| {
        input[member]
            .as_u64()
            .map_or(Ok(default), u32::try_from)
            .map_err(|_| invalid(format!("{member} is too large.")))
    };
    let (concurrency, min, max) = (number("MaxConcurrency", 100)?, number("MinSize", 1)?, number("MaxSize", 25)?);
    if !(1..=200).contains(&concurrency) || !(1..=25).contains(&min) || max < min {
        return Err(invalid("MaxConcurrency must be 1-200, MinSize 1-25 and MaxSize not less than MinSize."));
    }
    let own = || state.apprunner.scaling.values().filter(|s| s.name == name);
    let revision = own().map(|s| s.revision).max().unwrap_or(0) + 1;
    let names: std::collections::BTreeSet<&str> =
        state.apprunner.scaling.values().filter(|s| s.deleted.is_none()).map(|s| s.name.as_str()).collect();
    if revision > QUOTA.1 || (revision == 1 && names.len() > QUOTA.0) {
        return Err(ApiError::new(
            "ServiceQuotaExceededException",
            "The limit of auto scaling configurations is reached.",
        ));
    }
    let arn = state.arn("apprunner", &format!("autoscalingconfiguration/{name}/{revision}/{}", hex(32)));
    let scaling = Scaling {
        arn: arn.clone(),
        name: name.to_owned(),
        revision,
        concurrency,
        min,
        max,
        created: call.now,
        deleted: None,
        tags: tags_in(input, "Tags"),
    };
    state.apprunner.scaling.insert(arn.clone(), scaling);
    let made = state.apprunner.scaling.get(&arn).map(|s| shown(state, s));
    Ok(json!({"AutoScalingConfiguration": made}))
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    default(call.state, call.now);
    let arn = required(input, "AutoScalingConfigurationArn");
    let found = resolve(call.state, arn).ok().unwrap_or_else(|| arn.to_owned());
    let found = call.state.apprunner.scaling.get(&found);
    let found = found.ok_or_else(|| not_found("Auto scaling configuration", arn))?;
    Ok(json!({"AutoScalingConfiguration": shown(call.state, found)}))
}

pub(super) fn list(call: &mut Call<'_>, input: &Value) -> Reply {
    default(call.state, call.now);
    let name = text(input, "AutoScalingConfigurationName");
    let state = &*call.state;
    let latest = input["LatestOnly"].as_bool().unwrap_or(false);
    let wanted = |s: &&Scaling| s.deleted.is_none() && name.is_none_or(|name| s.name == name);
    let all = state.apprunner.scaling.values().filter(wanted).map(|s| (shown(state, s), s));
    let summaries = all.filter(|(shown, _)| !latest || shown["Latest"] == true).map(|(_, s)| summary(state, &s.arn));
    let size = usize::try_from(input["MaxResults"].as_u64().unwrap_or(100).clamp(1, 100)).unwrap_or(100);
    let (items, next) =
        page(summaries.collect(), text(input, "NextToken"), size).map_err(|()| invalid("NextToken is not valid."))?;
    Ok(without_nulls(json!({"AutoScalingConfigurationSummaryList": items, "NextToken": next})))
}

pub(super) fn delete(call: &mut Call<'_>, input: &Value) -> Reply {
    let arn = resolve(call.state, required(input, "AutoScalingConfigurationArn"))?;
    let used = call.state.apprunner.services.values().any(|s| s.status != "DELETED" && s.desired.scaling == arn);
    let default = arn.contains("/DefaultConfiguration/");
    if used || default {
        return Err(invalid("The auto scaling configuration is the default or in use by a service."));
    }
    let now = call.now;
    if let Some(scaling) = call.state.apprunner.scaling.get_mut(&arn) {
        scaling.deleted = Some(now);
    }
    let found = call.state.apprunner.scaling.get(&arn).map(|s| shown(call.state, s));
    Ok(json!({"AutoScalingConfiguration": found}))
}
