//! What CreateService and UpdateService accept, and how it is normalised. No state is changed here.

use serde_json::{Value, json};

use super::invalid;
use crate::api::{ApiError, text};
use crate::state::State;
use crate::state::apprunner::Config;

/// Variables a service can have (roadmap issues 29 and 268).
const VARIABLES: usize = 50;

/// Takes the members that are there over into `config`, each as a whole.
pub(super) fn replace(config: &mut Config, input: &Value, state: &State) -> Result<(), ApiError> {
    if let Some(source) = input.get("SourceConfiguration") {
        config.source = self::source(source)?;
    }
    if let Some(instance) = input.get("InstanceConfiguration") {
        config.instance = self::instance(Some(instance))?;
    }
    if let Some(health) = input.get("HealthCheckConfiguration") {
        config.health = self::health(Some(health))?;
    }
    if let Some(network) = input.get("NetworkConfiguration") {
        config.network = self::network(Some(network), state)?;
    }
    if let Some(observability) = input.get("ObservabilityConfiguration") {
        config.observability = observability.clone();
    }
    if let Some(arn) = text(input, "AutoScalingConfigurationArn") {
        config.scaling = super::scaling::resolve(state, arn)?;
    }
    check_role(config, state)
}

/// A whole configuration for a new service.
pub(super) fn new(input: &Value, state: &State, default_scaling: String) -> Result<Config, ApiError> {
    let scaling = match text(input, "AutoScalingConfigurationArn") {
        Some(arn) => super::scaling::resolve(state, arn)?,
        None => default_scaling,
    };
    let config = Config {
        source: source(&input["SourceConfiguration"])?,
        instance: instance(input.get("InstanceConfiguration"))?,
        health: health(input.get("HealthCheckConfiguration"))?,
        network: network(input.get("NetworkConfiguration"), state)?,
        observability: input
            .get("ObservabilityConfiguration")
            .cloned()
            .unwrap_or(json!({"ObservabilityEnabled": false})),
        scaling,
    };
    check_role(&config, state)?;
    Ok(config)
}

/// The member that holds port, command and variables: of the image, or of the API-configured code.
pub(super) fn runtime_of(source: &Value) -> &Value {
    let image = &source["ImageRepository"]["ImageConfiguration"];
    if image.is_object() {
        return image;
    }
    let code = &source["CodeRepository"]["CodeConfiguration"];
    // With REPOSITORY the file in the repository counts and what the API says is ignored.
    if code["ConfigurationSource"] == "API" { &code["CodeConfigurationValues"] } else { &Value::Null }
}

fn source(given: &Value) -> Result<Value, ApiError> {
    let (image, code) = (given.get("ImageRepository"), given.get("CodeRepository"));
    let mut source = given.clone();
    match (image, code) {
        (Some(_), Some(_)) => return Err(invalid("Provide either an ImageRepository or a CodeRepository, not both.")),
        (None, None) => return Err(invalid("SourceConfiguration needs an ImageRepository or a CodeRepository.")),
        (Some(image), None) => {
            let configuration = image.get("ImageConfiguration").cloned().unwrap_or(json!({}));
            variables(&configuration)?;
            source["ImageRepository"]["ImageConfiguration"] = with_port(configuration);
            let private = image["ImageRepositoryType"] == "ECR";
            if private && given["AuthenticationConfiguration"]["AccessRoleArn"].as_str().is_none() {
                return Err(invalid("Authentication configuration is invalid: an access role is needed for ECR."));
            }
            default_member(&mut source, "AutoDeploymentsEnabled", json!(private));
        }
        (None, Some(code)) => {
            if let Some(values) = code["CodeConfiguration"].get("CodeConfigurationValues") {
                variables(values)?;
            } else if code["CodeConfiguration"]["ConfigurationSource"] == "API" {
                return Err(invalid("CodeConfigurationValues must be given with ConfigurationSource API."));
            }
            default_member(&mut source, "AutoDeploymentsEnabled", json!(true));
        }
    }
    Ok(source)
}

fn with_port(mut configuration: Value) -> Value {
    default_member(&mut configuration, "Port", json!("8080"));
    configuration
}

fn default_member(object: &mut Value, member: &str, value: Value) {
    if object[member].is_null() {
        object[member] = value;
    }
}

fn variables(configuration: &Value) -> Result<(), ApiError> {
    let empty = serde_json::Map::new();
    let plain = configuration["RuntimeEnvironmentVariables"].as_object().unwrap_or(&empty);
    let secret = configuration["RuntimeEnvironmentSecrets"].as_object().unwrap_or(&empty);
    if plain.len() > VARIABLES {
        return Err(invalid(format!("The number of environment variables exceeds the limit of {VARIABLES}.")));
    }
    for name in plain.keys().chain(secret.keys()) {
        if name == "PORT" || name.starts_with("AWSAPPRUNNER") {
            return Err(invalid(format!("Environment variable {name} is reserved by App Runner.")));
        }
    }
    if let Some(name) = plain.keys().find(|name| secret.contains_key(*name)) {
        return Err(invalid(format!("{name} is given both as an environment variable and as a secret.")));
    }
    if let Some(port) = configuration["Port"].as_str()
        && port.parse::<u16>().is_err()
    {
        return Err(invalid(format!("Port {port} is not valid.")));
    }
    Ok(())
}

/// Memory that goes with a CPU.
const PAIRS: [(&str, &[&str]); 5] = [
    ("256", &["512", "1024"]),
    ("512", &["1024"]),
    ("1024", &["2048", "3072", "4096"]),
    ("2048", &["4096", "6144"]),
    ("4096", &["8192", "10240", "12288"]),
];

/// DescribeService answers in numeric units, whatever was sent. What is left out is the default, a role is none.
fn instance(given: Option<&Value>) -> Result<Value, ApiError> {
    let given = given.unwrap_or(&Value::Null);
    let cpu = match given["Cpu"].as_str() {
        Some(text) => units(text, "vCPU").ok_or_else(|| invalid(format!("Cpu {text} is not valid.")))?,
        None => "1024".to_owned(),
    };
    let memory = match given["Memory"].as_str() {
        Some(text) => units(text, "GB").ok_or_else(|| invalid(format!("Memory {text} is not valid.")))?,
        None => "2048".to_owned(),
    };
    if !PAIRS.iter().any(|(c, m)| *c == cpu && m.contains(&memory.as_str())) {
        return Err(invalid(format!("Invalid combination of CPU {cpu} and memory {memory}.")));
    }
    let mut instance = json!({"Cpu": cpu, "Memory": memory});
    if let Some(role) = given.get("InstanceRoleArn") {
        instance["InstanceRoleArn"] = role.clone();
    }
    Ok(instance)
}

fn units(text: &str, unit: &str) -> Option<String> {
    match text.strip_suffix(unit) {
        Some(number) => {
            let quarters = number.trim().parse::<f64>().ok().filter(|n| *n > 0.0 && *n <= 64.0)? * 1024.0;
            Some(format!("{quarters:.0}"))
        }
        None => text.parse::<u32>().ok().map(|n| n.to_string()),
    }
}

/// Members that are left out go back to their defaults (roadmap issue 143).
fn health(given: Option<&Value>) -> Result<Value, ApiError> {
    let given = given.unwrap_or(&Value::Null);
    let number = |member: &str, default: i64| given[member].as_i64().unwrap_or(default);
    let protocol = text(given, "Protocol").unwrap_or("TCP");
    let path = text(given, "Path").unwrap_or("/");
    let (interval, timeout) = (number("Interval", 5), number("Timeout", 2));
    if !(1..=20).contains(&interval) || !(1..=20).contains(&timeout) {
        return Err(invalid("Health check interval and timeout must be between 1 and 20 seconds."));
    }
    Ok(json!({"Protocol": protocol, "Path": path, "Interval": interval, "Timeout": timeout,
        "HealthyThreshold": number("HealthyThreshold", 1), "UnhealthyThreshold": number("UnhealthyThreshold", 5)}))
}

fn network(given: Option<&Value>, state: &State) -> Result<Value, ApiError> {
    let given = given.unwrap_or(&Value::Null);
    let egress = &given["EgressConfiguration"];
    let kind = text(egress, "EgressType").unwrap_or("DEFAULT");
    let mut out = json!({"EgressType": kind});
    match (kind, text(egress, "VpcConnectorArn")) {
        ("VPC", Some(arn)) => {
            let connector = super::connector::resolve(state, arn)
                .ok_or_else(|| invalid(format!("The VPC connector {arn} does not exist or is inactive.")))?;
            out["VpcConnectorArn"] = json!(connector.arn);
        }
        ("VPC", None) => return Err(invalid("VpcConnectorArn must be provided when EgressType is VPC.")),
        (_, Some(_)) => return Err(invalid("VpcConnectorArn can only be provided when EgressType is VPC.")),
        (_, None) => {}
    }
    let public = given["IngressConfiguration"]["IsPubliclyAccessible"].as_bool().unwrap_or(true);
    let addresses = text(given, "IpAddressType").unwrap_or("IPV4");
    Ok(json!({"EgressConfiguration": out, "IngressConfiguration": {"IsPubliclyAccessible": public},
        "IpAddressType": addresses}))
}

/// Secrets need an instance role, and a role that exists must let App Runner's tasks assume it.
fn check_role(config: &Config, state: &State) -> Result<(), ApiError> {
    let secrets = runtime_of(&config.source)["RuntimeEnvironmentSecrets"].as_object().is_some_and(|s| !s.is_empty());
    let Some(role) = config.instance["InstanceRoleArn"].as_str() else {
        if secrets {
            return Err(invalid("Instance Role have to be provided if passing in RuntimeEnvironmentSecrets."));
        }
        return Ok(());
    };
    match crate::api::policy::role(state, role) {
        None => Err(invalid(format!("Error in assuming instance role {role}"))),
        Some(found) if !crate::api::policy::trusts(found, "tasks.apprunner.amazonaws.com") => {
            Err(invalid("Failed to assume instance-role-arn"))
        }
        Some(_) => Ok(()),
    }
}
