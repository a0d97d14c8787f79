//! The arguments. Help texts are the documentation most people read; no default is hidden in code elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::controller::Grant;
use crate::identity::{DEFAULT_INSTALLATION, MigrationId};
use crate::journal::Gate;

/// Where an AWS App Runner service keeps its sessions, declared in one manifest.
#[derive(Clone, Debug, Parser)]
#[command(name = "sessionbackend", version, about, max_term_width = 110, after_help = AFTER)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to answer. json: one document, for apply and destroy one object a line, errors too; crd, completion and run
    /// have no other form than their own.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: Output,
    /// Tells installations in one AWS account apart; part of the name of everything that is made.
    #[arg(long, global = true, default_value = DEFAULT_INSTALLATION, value_parser = label)]
    pub installation: String,
    /// The namespace of objects that name none. [default: default]
    #[arg(short, long, global = true, value_parser = label)]
    pub namespace: Option<String>,
}

const AFTER: &str = "\
Exit codes: 0 converged or nothing to do · 1 error, or something has to be put right first · 2 plan: there are changes ·
3 rolled back · 4 waiting for approval · 64 the command line is wrong · 130 interrupted.

Environment: AWS credentials and endpoints as the AWS CLI reads them; SESSIONBACKEND_SECRET_<NAME>_<KEY> (upper case,
other characters as _) for a key of a Secret the manifest refers to; UPSTASH_API_URL; SESSIONBACKEND_LOG or RUST_LOG
for a log on standard error, such as sessionbackend=debug.";

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show what would be done, wave after wave, and change nothing. Exits 2 when there are changes.
    Plan(Files),
    /// Carry it out in the foreground, to the end; goes on where a former apply stopped.
    Apply(Files),
    /// Show what is, what is waited for, and whether somebody is driving an open migration.
    Status(Status),
    /// Open a gate of a migration.
    Approve(Approve),
    /// Go back, or give up before the switch; a running apply takes it up, else the next one does.
    Abort(Word),
    /// Try again after a rollback or a hold; a running apply takes it up, else the next one does.
    Retry(Word),
    /// Check manifests as an API server would, without looking at any cloud.
    Validate(Files),
    /// Let the objects go: release what is claimed and, with deletionPolicy Delete, remove what was made.
    Destroy(Destroy),
    /// Run as the controller of a cluster, until it is told to stop.
    Run(Run),
    /// Print the custom resource definition.
    Crd,
    /// Print docs/conditions.md.
    #[command(hide = true)]
    Conditions,
    /// Print a completion script.
    Completion {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// The manifests.
#[derive(Clone, Debug, Args)]
pub struct Files {
    /// A file of SessionBackend and Secret documents, - for standard input; can be given several times.
    #[arg(short, long, required = true, value_name = "FILE")]
    pub file: Vec<PathBuf>,
}

/// Runs as a controller.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// A namespace whose objects are worked on; can be given several times. [default: the one of --namespace]
    #[arg(long = "watch-namespace", value_name = "NAMESPACE", value_parser = label)]
    pub watch: Vec<String>,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// The lease of the replicas, in the namespace of --namespace.
    #[arg(long, value_name = "NAME", default_value = "sessionbackend")]
    pub lease: String,
    /// Who this is among the replicas: the pod's name. Two processes must not share one. [default: random]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,
    /// How many objects are worked on at once; those that may have two stores in use come on top and never wait.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// A service that objects of a namespace may name, * for anything, such as liberty=liberty-*; can be given several
    /// times. What is not allowed is refused then. [default: every namespace may name every service]
    #[arg(long = "allow-service", value_name = "NAMESPACE=NAME")]
    pub services: Vec<Grant>,
    /// A role that objects of a namespace may name in spec.aws.roleArn, * for anything, or the word own for the
    /// controller's own credentials, which an object without a role uses; can be given several times. What is not allowed
    /// is refused then. [default: every namespace may name every role]
    #[arg(long = "allow-role", value_name = "NAMESPACE=ARN")]
    pub roles: Vec<Grant>,
    /// How the log is written.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// How a log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Looks at what is.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Make no checks: by default those that are harmless at rest are made, where the services are at rest.
    #[arg(long)]
    pub no_checks: bool,
    /// The manifests.
    #[command(flatten)]
    pub files: Files,
}

/// Opens a gate.
#[derive(Clone, Debug, Args)]
pub struct Approve {
    /// The migration and its gate (switch, handover, retire or giveUp), as apply and status print them.
    #[arg(value_name = "MIGRATION/GATE", value_parser = gate)]
    pub gate: (MigrationId, Gate),
    /// The manifests.
    #[command(flatten)]
    pub files: Files,
}

/// A word to a migration.
#[derive(Clone, Debug, Args)]
pub struct Word {
    /// The migration; needed where several objects have one.
    #[arg(value_parser = migration)]
    pub migration: Option<MigrationId>,
    /// The manifests.
    #[command(flatten)]
    pub files: Files,
}

/// Lets objects go.
#[derive(Clone, Debug, Args)]
pub struct Destroy {
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// The manifests.
    #[command(flatten)]
    pub files: Files,
}

/// How to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
}

fn gate(text: &str) -> Result<(MigrationId, Gate), String> {
    let (id, gate) = text.rsplit_once('/').ok_or("is no MIGRATION/GATE; copy it from apply or status")?;
    let gate = gate.parse().map_err(|()| {
        let all = Gate::ALL.map(|gate| gate.to_string()).join(", ");
        format!("has no gate {gate:?}; the gates are {all}")
    })?;
    Ok((migration(id)?, gate))
}

#[expect(clippy::unnecessary_wraps, reason = "clap's signature")]
fn migration(text: &str) -> Result<MigrationId, String> {
    Ok(MigrationId(text.to_owned()))
}

/// A DNS label: it becomes part of secret names and tags.
fn label(text: &str) -> Result<String, String> {
    let inner = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if inner && !text.is_empty() && text.len() <= 63 && !text.starts_with('-') && !text.ends_with('-') {
        Ok(text.to_owned())
    } else {
        Err("use 1 to 63 lower-case letters, digits and hyphens, no hyphen at either end".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_gate_is_named_after_its_migration() {
        assert_eq!(gate("0123456789-1/switch"), Ok((MigrationId("0123456789-1".into()), Gate::Switch)));
        assert!(gate("0123456789-1").is_err() && gate("0123456789-1/door").is_err());
    }
}
