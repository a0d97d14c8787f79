//! Services and their operations: what a call checks and starts. What then happens is in `deployment`.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{config, deployment, invalid, invalid_state, not_found, scaling};
use crate::api::{ApiError, Call, Reply, epoch, page, required, tags_in, text, without_nulls};
use crate::cloud::Cloud;
use crate::state::apprunner::{Operation, Service};
use crate::state::{State, hex, random, uuid};

/// Services an account can have in a region; failed ones count.
const QUOTA: usize = 30;

pub(super) fn create(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = required(input, "ServiceName");
    let state = &mut *call.state;
    let lawful = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.chars().all(lawful) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(invalid(format!("Service name {name} is not valid.")));
    }
    if state.apprunner.service_named(name).is_some() {
        return Err(invalid(format!("Service with the provided name already exists: {name}")));
    }
    if state.apprunner.services.values().filter(|s| s.status != "DELETED").count() >= QUOTA {
        return Err(ApiError::new("ServiceQuotaExceededException", "The limit of services has been reached."));
    }
    let default = scaling::default(state, call.now);
    let desired = config::new(input, state, default)?;
    let id = hex(32);
    let arn = state.arn("apprunner", &format!("service/{name}/{id}"));
    let url = format!("{}.{}.awsapprunner.com", random("abcdefghijkmnpqrstuvwxyz23456789", 10), state.region);
    let service = Service {
        arn: arn.clone(),
        id,
        name: name.to_owned(),
        url,
        created: call.now,
        updated: call.now,
        deleted: None,
        status: "OPERATION_IN_PROGRESS",
        desired,
        active: None,
        deployment: None,
        operations: VecDeque::new(),
        tags: tags_in(input, "Tags"),
        encryption: input.get("EncryptionConfiguration").cloned().unwrap_or(Value::Null),
    };
    state.apprunner.services.insert(arn.clone(), service);
    begin(call, &arn, "CREATE_SERVICE")
}

pub(super) fn update(call: &mut Call<'_>, input: &Value) -> Reply {
    let arn = live(call.state, input)?;
    let service = &call.state.apprunner.services[&arn];
    match service.status {
        "RUNNING" | "CREATE_FAILED" => {}
        status => return Err(busy(status, "updated")),
    }
    if input.as_object().is_none_or(|members| members.len() < 2) {
        return Err(invalid("No configurations provided in the UpdateService request."));
    }
    let mut desired = service.desired.clone();
    config::replace(&mut desired, input, call.state)?;
    let is_image = |source: &Value| source["ImageRepository"].is_object();
    if is_image(&service.desired.source) != is_image(&desired.source) {
        return Err(invalid("The source of a service cannot change between code and image."));
    }
    if let Some(service) = call.state.apprunner.services.get_mut(&arn) {
        service.desired = desired;
    }
    begin(call, &arn, "UPDATE_SERVICE")
}

pub(super) fn start_deployment(call: &mut Call<'_>, input: &Value) -> Reply {
    let arn = live(call.state, input)?;
    if call.state.apprunner.services[&arn].status != "RUNNING" {
        return Err(invalid("Can't start a deployment on the specified service, because it isn't in RUNNING state."));
    }
    let begun = begin(call, &arn, "START_DEPLOYMENT")?;
    Ok(json!({"OperationId": begun["OperationId"]}))
}

pub(super) fn pause(call: &mut Call<'_>, input: &Value) -> Reply {
    expect(call, input, &["RUNNING"], "paused", "PAUSE_SERVICE")
}

pub(super) fn resume(call: &mut Call<'_>, input: &Value) -> Reply {
    expect(call, input, &["PAUSED"], "resumed", "RESUME_SERVICE")
}

pub(super) fn delete(call: &mut Call<'_>, input: &Value) -> Reply {
    expect(call, input, &["RUNNING", "PAUSED", "CREATE_FAILED", "DELETE_FAILED"], "deleted", "DELETE_SERVICE")
}

fn expect(call: &mut Call<'_>, input: &Value, allowed: &[&str], done: &str, kind: &'static str) -> Reply {
    let arn = live(call.state, input)?;
    let status = call.state.apprunner.services[&arn].status;
    if !allowed.contains(&status) {
        return Err(busy(status, done));
    }
    begin(call, &arn, kind)
}

fn busy(status: &str, done: &str) -> ApiError {
    if status == "OPERATION_IN_PROGRESS" {
        return invalid_state("Another operation is in progress on the service. Wait until it has completed.");
    }
    invalid_state(format!("Service cannot be {done} in the current state: {status}"))
}

/// ARN of the service meant; a deleted one cannot be acted on.
fn live(state: &State, input: &Value) -> Result<String, ApiError> {
    let arn = required(input, "ServiceArn");
    let found = state.apprunner.services.get(arn).filter(|s| s.status != "DELETED");
    found.map(|s| s.arn.clone()).ok_or_else(|| not_found("Service", arn))
}

/// Puts an operation first in the list, the service in progress, and starts what follows.
pub(super) fn begin(call: &mut Call<'_>, arn: &str, kind: &'static str) -> Reply {
    let id = uuid();
    let now = call.now;
    let Some(service) = call.state.apprunner.services.get_mut(arn) else { return Err(not_found("Service", arn)) };
    let rebuild = service.status == "CREATE_FAILED" && kind == "UPDATE_SERVICE";
    service.status = "OPERATION_IN_PROGRESS";
    service.updated = now;
    let status = "PENDING";
    service.operations.push_front(Operation {
        id: id.clone(),
        kind,
        status,
        started: now,
        ended: None,
        updated: now,
        hidden: false,
    });
    let work = match kind {
        "CREATE_SERVICE" => deployment::Work::Create,
        "UPDATE_SERVICE" if rebuild => deployment::Work::Create,
        "UPDATE_SERVICE" => deployment::Work::Update,
        "START_DEPLOYMENT" => deployment::Work::Deploy,
        "RESUME_SERVICE" => deployment::Work::Resume,
        "PAUSE_SERVICE" => deployment::Work::Pause,
        _ => deployment::Work::Delete,
    };
    call.cloud.spawn(deployment::run(call.cloud.clone(), arn.to_owned(), id.clone(), work));
    let shown = shown(call, &call.state.apprunner.services[arn]);
    Ok(json!({"Service": shown, "OperationId": id}))
}

/// The host; with its port where 443 could not be had.
fn url(cloud: &Cloud, service: &Service) -> String {
    match cloud.plane.public_port() {
        443 => service.url.clone(),
        port => format!("{}:{port}", service.url),
    }
}

/// The Service object; tags are not part of it.
fn shown(call: &Call<'_>, service: &Service) -> Value {
    without_nulls(json!({
        "ServiceName": service.name, "ServiceId": service.id, "ServiceArn": service.arn, "ServiceUrl": url(call.cloud, service),
        "CreatedAt": epoch(service.created), "UpdatedAt": epoch(service.updated),
        "DeletedAt": service.deleted.map(epoch), "Status": service.status,
        "SourceConfiguration": service.desired.source, "InstanceConfiguration": service.desired.instance,
        "HealthCheckConfiguration": service.desired.health, "NetworkConfiguration": service.desired.network,
        "ObservabilityConfiguration": service.desired.observability, "EncryptionConfiguration": service.encryption,
        "AutoScalingConfigurationSummary": scaling::summary(call.state, &service.desired.scaling),
    }))
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let arn = required(input, "ServiceArn");
    // A deleted service is described for a while as DELETED.
    let found = call.state.apprunner.services.get(arn).ok_or_else(|| not_found("Service", arn))?;
    Ok(json!({"Service": shown(call, found)}))
}

pub(super) fn list(call: &mut Call<'_>, input: &Value) -> Reply {
    let live = call.state.apprunner.services.values().filter(|s| s.status != "DELETED");
    let cloud = call.cloud;
    let all = live.map(|s| {
        json!({"ServiceName": s.name, "ServiceId": s.id, "ServiceArn": s.arn, "ServiceUrl": url(cloud, s),
            "CreatedAt": epoch(s.created), "UpdatedAt": epoch(s.updated), "Status": s.status})
    });
    let (items, next) = page(all.collect(), text(input, "NextToken"), results(input))
        .map_err(|()| invalid("NextToken is not valid."))?;
    Ok(without_nulls(json!({"ServiceSummaryList": items, "NextToken": next})))
}

pub(super) fn list_operations(call: &mut Call<'_>, input: &Value) -> Reply {
    let arn = required(input, "ServiceArn");
    let service = call.state.apprunner.services.get(arn).ok_or_else(|| not_found("Service", arn))?;
    let all = service.operations.iter().filter(|o| !o.hidden).map(|o| {
        json!({"Id": o.id, "Type": o.kind, "Status": o.status, "TargetArn": arn, "StartedAt": epoch(o.started),
            "EndedAt": o.ended.map(epoch), "UpdatedAt": epoch(o.updated)})
    });
    let (items, next) = page(all.collect(), text(input, "NextToken"), results(input))
        .map_err(|()| invalid("NextToken is not valid."))?;
    Ok(without_nulls(json!({"OperationSummaryList": items, "NextToken": next})))
}

/// At most 20 a page.
fn results(input: &Value) -> usize {
    usize::try_from(input["MaxResults"].as_u64().unwrap_or(20).clamp(1, 20)).unwrap_or(20)
}
