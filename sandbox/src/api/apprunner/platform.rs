//! What App Runner does without a call: deployments of pushed images, maintenance, clearing a stuck operation.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::service::begin;
use crate::api::Call;
use crate::cloud::Cloud;
use crate::state::apprunner::{Operation, Service};
use crate::state::{State, uuid};

/// An image was pushed: running services of that image deploy where automatic deployments are on. Names their ARNs.
pub fn push(cloud: &Cloud, image: &str) -> Value {
    let now = cloud.shared.clock.now();
    cloud.shared.change(|state| {
        let follows = |s: &&Service| {
            let source = &s.desired.source;
            s.status == "RUNNING"
                && source["AutoDeploymentsEnabled"] == true
                && source["ImageRepository"]["ImageIdentifier"] == image
        };
        let services: Vec<String> = state.apprunner.services.values().filter(follows).map(|s| s.arn.clone()).collect();
        let started =
            |arn: &&String| begin(&mut Call { state: &mut *state, cloud, now }, arn, "START_DEPLOYMENT").is_ok();
        let started: Vec<&String> = services.iter().filter(started).collect();
        json!({"deployments": started})
    })
}

/// The service is busy for a while, and no operation tells why.
///
/// # Errors
/// When no running service has that name.
pub fn maintain(cloud: &Cloud, name: &str, time: Duration) -> Result<Value, String> {
    let arn = cloud.shared.change(|state| {
        let service = named(state, name)?;
        if service.status != "RUNNING" {
            return Err(format!("the service {name} is {}", service.status));
        }
        service.status = "OPERATION_IN_PROGRESS";
        Ok(service.arn.clone())
    })?;
    let task = cloud.clone();
    cloud.spawn(async move {
        task.shared.clock.pass(time).await;
        task.shared.change(|state| {
            if let Some(service) = state.apprunner.services.get_mut(&arn) {
                service.status = "RUNNING";
            }
        });
    });
    Ok(json!({"service": name}))
}

/// Ends the newest operation as FAILED; the service returns to what runs.
///
/// # Errors
/// When no service of that name has an operation under way.
pub fn release(cloud: &Cloud, name: &str) -> Result<Value, String> {
    let now = cloud.shared.clock.now();
    cloud.shared.change(|state| {
        let service = named(state, name)?;
        let operation = service.operations.front_mut().filter(|o| o.ended.is_none());
        let operation = operation.ok_or_else(|| format!("the service {name} has no operation under way"))?;
        (operation.status, operation.updated, operation.ended) = ("FAILED", now, Some(now));
        service.status = if service.active.is_some() { "RUNNING" } else { "CREATE_FAILED" };
        if let Some(active) = &service.active {
            service.desired = active.clone();
        }
        Ok(json!({"service": name}))
    })
}

/// The variable that somebody else changes.
const OF_ANOTHER_HAND: &str = "SET_BY_ANOTHER_HAND";

/// Where a fault says so, somebody else updates the service that `input` names, and is done: a variable of their own and
/// one operation more. The instances go on as they are.
pub fn other_hand(cloud: &Cloud, operation: &str, input: &Value) {
    let arn = input["ServiceArn"].as_str().unwrap_or_default();
    let running = |state: &State| {
        let service = state.apprunner.services.get(arn).filter(|service| service.status == "RUNNING");
        service.map(|service| service.name.clone())
    };
    let Some(name) = cloud.shared.read(running) else { return };
    if !cloud.shared.faults(|faults| faults.other_hand(operation, &name)) {
        return;
    }
    let now = cloud.shared.clock.now();
    cloud.shared.change(|state| {
        let Some(service) = state.apprunner.services.get_mut(arn) else { return };
        let id = uuid();
        for config in [Some(&mut service.desired), service.active.as_mut()].into_iter().flatten() {
            if let Some(variables) = variables(&mut config.source) {
                variables.insert(OF_ANOTHER_HAND.to_owned(), json!(id));
            }
        }
        service.updated = now;
        let (kind, status) = ("UPDATE_SERVICE", "SUCCEEDED");
        let over = Operation { id, kind, status, started: now, ended: Some(now), updated: now, hidden: false };
        service.operations.push_front(over);
    });
}

/// The variables in a source configuration, of an image or of code.
fn variables(source: &mut Value) -> Option<&mut Map<String, Value>> {
    let image = source["ImageRepository"].is_object();
    let at = if image {
        "/ImageRepository/ImageConfiguration"
    } else {
        "/CodeRepository/CodeConfiguration/CodeConfigurationValues"
    };
    let values = source.pointer_mut(at)?.as_object_mut()?;
    values.entry("RuntimeEnvironmentVariables").or_insert_with(|| json!({})).as_object_mut()
}

fn named<'a>(state: &'a mut State, name: &str) -> Result<&'a mut Service, String> {
    let live = |s: &&mut Service| s.name == name && s.status != "DELETED";
    state.apprunner.services.values_mut().find(live).ok_or_else(|| format!("there is no service {name}"))
}
