//! What App Runner does without a call: deployments of pushed images, maintenance, clearing a stuck operation.

use std::time::Duration;

use serde_json::{Value, json};

use super::service::begin;
use crate::api::Call;
use crate::cloud::Cloud;
use crate::state::State;
use crate::state::apprunner::Service;

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

fn named<'a>(state: &'a mut State, name: &str) -> Result<&'a mut Service, String> {
    let live = |s: &&mut Service| s.name == name && s.status != "DELETED";
    state.apprunner.services.values_mut().find(live).ok_or_else(|| format!("there is no service {name}"))
}
