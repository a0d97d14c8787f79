//! What the data plane is asked to run: a configuration with its environment, health check, egress and interfaces.

use std::time::Duration;

use super::config::runtime_of;
use super::secret;
use crate::dataplane::{DeploymentSpec, Egress, HealthCheck};
use crate::state::State;
use crate::state::apprunner::Config;

/// The deployment of a configuration, references resolved; or why it cannot be had.
pub(super) fn of(
    state: &mut State,
    arn: &str,
    operation: &str,
    config: &Config,
    speed: f64,
) -> Result<DeploymentSpec, String> {
    let env = secret::environment(state, config)?;
    let instances = state.apprunner.scaling.get(&config.scaling).map_or(1, |s| s.min);
    let egress = match config.connector() {
        Some(connector) => {
            plug_in(state, connector, instances);
            Egress::Vpc { connector: connector.to_owned() }
        }
        None => Egress::Default,
    };
    let service = state.apprunner.services.get(arn).ok_or("the service is gone")?;
    let runtime = runtime_of(&config.source);
    let seconds = |member: &str, default: u64| {
        Duration::from_secs(config.health[member].as_u64().unwrap_or(default)).div_f64(speed)
    };
    let times = |member: &str, default: u32| {
        config.health[member].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
    };
    let repository = &config.source["CodeRepository"]["RepositoryUrl"];
    let image = config.source["ImageRepository"]["ImageIdentifier"].as_str().or_else(|| repository.as_str());
    Ok(DeploymentSpec {
        service: arn.to_owned(),
        service_name: service.name.clone(),
        host: service.url.clone(),
        operation: operation.to_owned(),
        image: image.unwrap_or_default().to_owned(),
        start_command: runtime["StartCommand"].as_str().map(str::to_owned),
        port: runtime["Port"].as_str().and_then(|p| p.parse().ok()).unwrap_or(8080),
        env,
        instances,
        health: HealthCheck {
            http_path: (config.health["Protocol"] == "HTTP")
                .then(|| config.health["Path"].as_str().unwrap_or("/").to_owned()),
            interval: seconds("Interval", 5),
            timeout: seconds("Timeout", 2),
            healthy: times("HealthyThreshold", 1),
            unhealthy: times("UnhealthyThreshold", 5),
        },
        egress,
    })
}

/// Each instance has an interface of its own in the connector's subnets.
fn plug_in(state: &mut State, connector: &str, instances: u32) {
    let Some(found) = state.apprunner.connectors.get(connector).cloned() else { return };
    let have = state.ec2.interfaces.values().filter(|i| i.holder == connector).count();
    for n in have..instances.max(u32::try_from(found.subnets.len()).unwrap_or(1)) as usize {
        let Some(subnet) = found.subnets.get(n % found.subnets.len().max(1)) else { return };
        let description = "AWS App Runner VPC connector".to_owned();
        let made = state.ec2.add_interface(subnet, &found.groups, connector, description, "amazon-aws", "interface");
        if let Some(interface) = made.and_then(|id| state.ec2.interfaces.get_mut(&id)) {
            interface.tags.insert("AWSAppRunnerManaged".into(), "true".into());
        }
    }
}
