//! Commands that pass one request to the daemon and print its answer: `call`, `ask`, `fault`, `clock`, `image`.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ground::Ground;
use super::{client, image as image_argument};

#[derive(Debug, Args)]
pub(super) struct Call {
    /// apprunner, ec2, elasticache, iam, secretsmanager, logs, sts or upstash.
    service: String,
    /// As the vendor names it, such as DescribeService.
    operation: String,
    /// Its input.
    #[arg(value_name = "JSON", value_parser = parsed)]
    input: Option<Value>,
}

#[derive(Debug, Args)]
pub(super) struct Ask {
    /// Its id, or the vendor's name of it.
    store: String,
    /// Such as CONFIG GET maxmemory.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Fault {
    #[command(subcommand)]
    command: FaultCommand,
}

#[derive(Debug, Subcommand)]
enum FaultCommand {
    /// Add a fault of calls or deployments, as JSON.
    Add {
        /// Such as '{"call":"throttle","service":"apprunner","operation":"UpdateService","count":2}'.
        #[arg(value_name = "JSON", value_parser = parsed)]
        fault: Value,
    },
    /// The faults in force.
    List,
    /// Remove one fault by its number, or all.
    Clear {
        /// As `list` shows it.
        id: Option<u64>,
    },
    /// Make a store refuse a command, such as GET or "CLIENT TRACKING".
    Deny {
        /// Its id, or the vendor's name of it.
        store: String,
        /// The command.
        command: String,
    },
    /// Make a store accept a command again.
    Allow {
        /// Its id, or the vendor's name of it.
        store: String,
        /// The command.
        command: String,
    },
    /// Slow a store down, each way.
    Latency {
        /// Its id, or the vendor's name of it.
        store: String,
        /// Such as 20ms; 0s ends it.
        #[arg(value_parser = super::duration)]
        latency: std::time::Duration,
    },
    /// Stop a store where it stands: connections stay, nothing answers.
    Freeze {
        /// Its id, or the vendor's name of it.
        store: String,
    },
    /// Let a frozen store go on.
    Thaw {
        /// Its id, or the vendor's name of it.
        store: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Clock {
    /// How much faster than the vendors' life-cycles are from now on.
    #[arg(value_parser = super::speed)]
    speed: Option<f64>,
}

#[derive(Debug, Args)]
pub(super) struct Image {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Register a local command; it replaces one of the same name.
    Add {
        /// NAME='COMMAND ARGUMENTS'
        #[arg(value_parser = image_argument)]
        image: (String, String),
    },
    /// Registered images.
    List,
}

fn parsed(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))
}

pub(super) fn call(dir: &Path, call: Call) -> Result<(), String> {
    let ground = Ground::read(dir)?;
    let Call { service, operation, input } = call;
    let body = json!({ "service": service, "operation": operation, "input": input });
    let (status, answer) = client::ask(ground.endpoint, "POST", "call", &body)?;
    if (200..300).contains(&status) {
        show(&answer);
        return Ok(());
    }
    let text = |name: &str| answer[name].as_str().map(str::to_owned);
    let code = text("code").unwrap_or_else(|| format!("HTTP {status}"));
    Err(format!("{code}: {}", text("message").or_else(|| text("error")).unwrap_or_default()))
}

pub(super) fn ask(dir: &Path, ask: &Ask) -> Result<(), String> {
    let ground = Ground::read(dir)?;
    let body = json!({ "store": ask.store, "command": ask.command });
    let answer = client::get(ground.endpoint, "POST", "ask", &body)?;
    say!("{}", answer["reply"].as_str().unwrap_or_default());
    Ok(())
}

pub(super) fn fault(dir: &Path, fault: Fault) -> Result<(), String> {
    let ground = Ground::read(dir)?;
    let (method, route, body) = match fault.command {
        FaultCommand::Add { fault } => ("POST", "fault", fault),
        FaultCommand::List => ("GET", "fault", Value::Null),
        FaultCommand::Clear { id } => ("DELETE", "fault", json!({ "id": id })),
        FaultCommand::Deny { store, command } => ("POST", "store-fault", json!({ "store": store, "deny": command })),
        FaultCommand::Allow { store, command } => ("POST", "store-fault", json!({ "store": store, "allow": command })),
        FaultCommand::Latency { store, latency } => {
            let millis = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
            ("POST", "store-fault", json!({ "store": store, "latencyMs": millis }))
        }
        FaultCommand::Freeze { store } => ("POST", "store-fault", json!({ "store": store, "frozen": true })),
        FaultCommand::Thaw { store } => ("POST", "store-fault", json!({ "store": store, "frozen": false })),
    };
    show(&client::get(ground.endpoint, method, route, &body)?);
    Ok(())
}

pub(super) fn clock(dir: &Path, clock: &Clock) -> Result<(), String> {
    let ground = Ground::read(dir)?;
    let (method, body) = match clock.speed {
        Some(speed) => ("POST", json!({ "speed": speed })),
        None => ("GET", Value::Null),
    };
    show(&client::get(ground.endpoint, method, "clock", &body)?);
    Ok(())
}

pub(super) fn image(dir: &Path, image: Image) -> Result<(), String> {
    let ground = Ground::read(dir)?;
    let body = match image.command {
        ImageCommand::Add { image: (name, command) } => json!({ "name": name, "command": command }),
        ImageCommand::List => Value::Null,
    };
    show(&client::get(ground.endpoint, "POST", "image", &body)?);
    Ok(())
}

fn show(value: &Value) {
    say!("{value:#}");
}
