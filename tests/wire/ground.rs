//! A sandbox of its own for one test, what a user has made by hand in it, and a world over the real clients.

use std::path::PathBuf;
use std::sync::Arc;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sts::config::Credentials;
use futures::future::BoxFuture;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};
use sessionbackend::aws::{Aws, Deadlines};
use sessionbackend::engine::World as _;
use sessionbackend::error::CloudError;
use sessionbackend::identity::Owner;
use sessionbackend::journal::{Entry, Journal};
use sessionbackend::observed::{Reading, Server};
use sessionbackend::step::Step;
use sessionbackend::upstash::{ApiKey, Upstash};
use sessionbackend::world::long::{Endpoint, Servers};
use sessionbackend::world::{CloudWorld, Inputs, Long};

use super::starter::{Network, admit, cache, connector, network};
pub(crate) use super::starter::{Sandbox, running, string};

/// The password of the store made by hand: it must turn up nowhere but in the journal and in secrets.
pub(crate) const PASSWORD: &str = "canary-word-of-the-old-store-0123456789";

/// Where the sandbox's binary is: a setting, or beside this test as `cargo test --workspace` leaves it.
fn binary() -> PathBuf {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("sandbox"));
    let binary = std::env::var_os("SANDBOX_BIN").map(PathBuf::from).or_else(beside).unwrap();
    assert!(binary.exists(), "{} is missing: cargo build -p sandbox, or set SANDBOX_BIN", binary.display());
    binary
}

impl Sandbox {
    pub(crate) fn up() -> Self {
        let app = format!("web=python3 {}/sandbox/tests/plane/app.py", env!("CARGO_MANIFEST_DIR"));
        Self::start(tempfile::tempdir().unwrap(), vec![binary().display().to_string()], &["--image", &app])
    }

    pub(crate) fn fault(&self, fault: &Value) {
        self.must(&["fault", "add", &fault.to_string()]);
    }

    pub(crate) fn no_faults(&self) {
        self.must(&["fault", "clear"]);
    }

    /// How often an operation that may change something was called.
    pub(crate) fn calls(&self, operation: &str) -> usize {
        let log = self.json(&["log", "-o", "json", "--mutating"]);
        log.as_array().unwrap().iter().filter(|call| call["operation"] == operation).count()
    }

    pub(crate) fn field(&self, name: &str) -> String {
        string(&self.ground(), &format!("/{name}"))
    }

    pub(crate) fn owner(&self, name: &str) -> Owner {
        Owner {
            installation: "default".into(),
            account: self.field("account"),
            region: self.field("region"),
            namespace: "team".into(),
            name: name.into(),
        }
    }

    pub(crate) async fn aws(&self) -> Aws {
        self.aws_within(Deadlines::default()).await
    }

    pub(crate) async fn aws_within(&self, deadlines: Deadlines) -> Aws {
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .retry_config(RetryConfig::disabled())
            .region(Region::new(self.field("region")))
            .endpoint_url(self.field("aws_endpoint_url"))
            .credentials_provider(Credentials::new("AKIASANDBOX0000000000", "sandbox", None, None, "tests"))
            .load()
            .await;
        Aws::within(&config, deadlines)
    }

    /// The API on the plain listener: the vendor's own name needs the sandbox's name resolution.
    pub(crate) fn upstash(&self) -> Upstash {
        let key = ApiKey { email: self.field("upstash_email"), key: self.field("upstash_api_key").into() };
        Upstash::new(&format!("{}/v2", self.field("aws_endpoint_url")), key).unwrap()
    }
}

/// What a user has made by hand: a service of 40 variables on a store in a VPC.
pub(crate) struct ByHand {
    pub(crate) subnets: Vec<String>,
    pub(crate) app_group: String,
    pub(crate) cache_group: String,
    pub(crate) connector: String,
    pub(crate) host: String,
    pub(crate) arn: String,
    pub(crate) rule: String,
    pub(crate) vpc: String,
    pub(crate) role: String,
}

impl ByHand {
    pub(crate) fn make(sandbox: &Sandbox) -> Self {
        Self::make_with(sandbox, foreign())
    }

    pub(crate) fn make_with(sandbox: &Sandbox, variables: serde_json::Map<String, Value>) -> Self {
        let network = network(sandbox);
        let rule = admit(sandbox, &network);
        let host = cache(sandbox, &network, PASSWORD);
        let connector = connector(sandbox, &network);
        let role = role(sandbox);
        let arn = service(sandbox, "web-app", &host, &connector, &role, variables);
        let Network { vpc, subnets, app_group, cache_group } = network;
        Self { subnets, app_group, cache_group, connector, host, arn, rule, vpc, role }
    }

    /// Another service on the same store; its ARN.
    pub(crate) fn another(&self, sandbox: &Sandbox, name: &str, variables: serde_json::Map<String, Value>) -> String {
        service(sandbox, name, &self.host, &self.connector, &self.role, variables)
    }

    /// The service once it runs.
    pub(crate) fn running(&self, sandbox: &Sandbox) -> Value {
        running(sandbox, &self.arn)["Service"].clone()
    }
}

/// An instance role that may read our secrets.
fn role(sandbox: &Sandbox) -> String {
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "Service": "tasks.apprunner.amazonaws.com" }, "Action": "sts:AssumeRole",
    }]});
    let input = json!({ "RoleName": "web-instance", "AssumeRolePolicyDocument": trust.to_string() });
    let role = string(&sandbox.call("iam", "CreateRole", &input), "/Role/Arn");
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "secretsmanager:GetSecretValue",
        "Resource": "arn:aws:secretsmanager:*:*:secret:sessionbackend/*",
    }]});
    let input = json!({ "RoleName": "web-instance", "PolicyName": "read", "PolicyDocument": policy.to_string() });
    sandbox.call("iam", "PutRolePolicy", &input);
    role
}

/// Variables of the user's own, odd characters among them.
pub(crate) fn foreign() -> serde_json::Map<String, Value> {
    (0..39)
        .map(|index| (format!("OWN_{index}"), json!(format!(" {index}=\"%20\u{e9}\n{{}}$PATH "))))
        .chain([("DATABASE_URL".to_owned(), json!("postgres://u:p@db.x.us-east-1.rds.amazonaws.com:5432/app"))])
        .collect()
}

fn service(
    sandbox: &Sandbox,
    name: &str,
    host: &str,
    connector: &str,
    role: &str,
    mut variables: serde_json::Map<String, Value>,
) -> String {
    variables.insert("REDIS_URL".to_owned(), json!(format!("rediss://:{PASSWORD}@{host}:6379/0")));
    let input = json!({
        "ServiceName": name,
        "SourceConfiguration": {
            "AutoDeploymentsEnabled": false,
            "ImageRepository": {
                "ImageIdentifier": "public.ecr.aws/example/web:latest", "ImageRepositoryType": "ECR_PUBLIC",
                "ImageConfiguration": { "Port": "8080", "RuntimeEnvironmentVariables": variables },
            },
        },
        "InstanceConfiguration": { "InstanceRoleArn": role },
        "HealthCheckConfiguration": {
            "Protocol": "HTTP", "Path": "/", "Interval": 3, "Timeout": 2, "HealthyThreshold": 2, "UnhealthyThreshold": 4,
        },
        "NetworkConfiguration": { "EgressConfiguration": { "EgressType": "VPC", "VpcConnectorArn": connector } },
    });
    let arn = string(&sandbox.call("apprunner", "CreateService", &input), "/Service/ServiceArn");
    running(sandbox, &arn);
    arn
}

/// An owner with its world.
pub(crate) struct Hand {
    pub(crate) owner: Owner,
    pub(crate) world: CloudWorld,
}

/// Servers nobody has asked yet: these tests are about the clouds, not about Redis.
pub(crate) struct Unasked;

impl Servers for Unasked {
    fn ask<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, Reading<Server>> {
        Box::pin(async { Reading::Absent })
    }
}

impl Hand {
    pub(crate) async fn new(sandbox: &Sandbox, name: &str) -> Self {
        Self::with(sandbox, name, Long { servers: Arc::new(Unasked), ..Long::default() }).await
    }

    pub(crate) async fn with(sandbox: &Sandbox, name: &str, long: Long) -> Self {
        let world = CloudWorld::new(sandbox.aws().await, Some(sandbox.upstash()), Inputs::default(), long);
        Self { owner: sandbox.owner(name), world }
    }

    pub(crate) async fn journal(&self) -> Journal {
        match self.world.journal(&self.owner).await {
            Reading::Present(journal) => journal,
            Reading::Absent => Journal::default(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn perform(&self, step: Step) -> Result<Option<Entry>, CloudError> {
        let journal = self.journal().await;
        self.world.perform(&self.owner, &step, &journal, now()).await
    }

    pub(crate) async fn write(&self, entry: Entry) -> Result<Option<Entry>, CloudError> {
        let expect = self.journal().await.sequence;
        self.perform(Step::Journal { expect, entry }).await
    }

    /// Performs a step, then writes down what it returned, as the engine does.
    pub(crate) async fn act(&self, step: Step) -> Entry {
        let entry = self.perform(step).await.unwrap().unwrap();
        self.write(entry.clone()).await.unwrap();
        entry
    }
}

pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

pub(crate) fn secret(text: &str) -> SecretString {
    text.into()
}
