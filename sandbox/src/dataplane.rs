//! The seam between the clouds' control planes and what really runs: Redis servers, processes, relays.
//! The control plane decides (states, permissions, paths); the data plane acts. Neither looks into the other:
//! everything they say to each other is a type of this file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;

/// Whose store it is: decides which commands the server refuses and who may reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreKind {
    /// Private to a VPC; commands of the node-based service are refused.
    ElastiCache,
    /// As [`StoreKind::ElastiCache`], with the longer list of refused commands of ElastiCache Serverless.
    ElastiCacheServerless,
    /// Public, TLS, one database.
    Upstash,
    /// A plain Redis somewhere on the internet.
    External,
}

/// A store as the data plane has to open it.
#[derive(Clone)]
pub struct StoreSpec {
    /// The control plane's id of the store, unique over all kinds.
    pub id: String,
    /// The vendor.
    pub kind: StoreKind,
    /// Every DNS name it answers to.
    pub hosts: Vec<String>,
    /// The vendor's port.
    pub port: u16,
    /// Whether clients must speak TLS.
    pub tls: bool,
    /// Passwords of the user `default`; empty = none needed.
    pub passwords: Vec<String>,
    /// How many databases `SELECT` knows.
    pub databases: u32,
    /// The server's limit of connections; `None` = the server's default.
    pub max_clients: Option<u32>,
}

impl std::fmt::Debug for StoreSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreSpec")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("hosts", &self.hosts)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("passwords", &self.passwords.len())
            .field("databases", &self.databases)
            .field("max_clients", &self.max_clients)
            .finish()
    }
}

/// What a real server counted since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Commands processed.
    pub commands: u64,
    /// Connections open now.
    pub connections: u64,
    /// Keys in all databases.
    pub keys: u64,
    /// Bytes of data.
    pub used_memory: u64,
}

/// How new instances prove that they are up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// `None` = a TCP connection is enough.
    pub http_path: Option<String>,
    /// Between two probes, wall time.
    pub interval: Duration,
    /// Of one probe, wall time.
    pub timeout: Duration,
    /// Successes in a row that make an instance healthy.
    pub healthy: u32,
    /// Failures in a row that make the deployment fail.
    pub unhealthy: u32,
}

/// Where a deployment's outbound traffic goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Egress {
    /// The internet, no VPC.
    Default,
    /// Everything through the connector's subnets.
    Vpc {
        /// ARN of the VPC connector.
        connector: String,
    },
}

/// One version of a service to run.
#[derive(Clone)]
pub struct DeploymentSpec {
    /// ARN of the service.
    pub service: String,
    /// Its name.
    pub service_name: String,
    /// The ServiceUrl: host only.
    pub host: String,
    /// Operation id, as in the log streams.
    pub operation: String,
    /// Image identifier, as the service names it.
    pub image: String,
    /// Start command of the service, if it overrides the image's.
    pub start_command: Option<String>,
    /// The whole environment, references resolved, PORT included.
    pub env: BTreeMap<String, String>,
    /// The container's port; the plane maps it.
    pub port: u16,
    /// How many instances.
    pub instances: u32,
    /// The gate before traffic.
    pub health: HealthCheck,
    /// Outbound path.
    pub egress: Egress,
}

impl std::fmt::Debug for DeploymentSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeploymentSpec")
            .field("service_name", &self.service_name)
            .field("operation", &self.operation)
            .field("image", &self.image)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("port", &self.port)
            .field("instances", &self.instances)
            .field("egress", &self.egress)
            .finish_non_exhaustive()
    }
}

/// Names a deployment the plane runs; the processes stay the plane's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeploymentHandle {
    /// ARN of the service.
    pub service: String,
    /// The plane's own number, never used twice.
    pub id: u64,
}

/// Who opens a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Vantage {
    /// A machine on the internet.
    Internet,
    /// A machine inside the VPC of that id, such as a bastion.
    Vpc(String),
    /// An instance of a deployment.
    Deployment {
        /// ARN of the service.
        service: String,
        /// The egress of that deployment (old and new instances can differ).
        egress: Egress,
    },
}

/// To whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target<'a> {
    /// A store, by [`StoreSpec::id`].
    Store(&'a str),
    /// A host of the public internet.
    PublicHost(&'a str),
}

/// Decides at connect time whether packets arrive.
pub trait Network: Send + Sync {
    /// `false` = the connection attempt hangs, as a missing rule or route does.
    fn path_open(&self, from: &Vantage, to: Target<'_>) -> bool;
}

/// Takes what a service says into its log groups.
pub trait Journal: Send + Sync {
    /// A line of the platform about an operation (stream `deployment/<operation>` and `events`).
    fn event(&self, service: &str, operation: &str, line: &str);
    /// A line the application printed (stream `instance/<id>`).
    fn application(&self, service: &str, instance: &str, line: &str);
}

/// Why new instances did not come up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeploymentFailure {
    /// Nothing is registered under that identifier.
    #[error("no image {0} is registered")]
    NoSuchImage(String),
    /// The process ended before it was healthy.
    #[error("the application ended, exit code {code:?}")]
    Exited {
        /// As the process returned it; `None` = killed by a signal.
        code: Option<i32>,
    },
    /// The health check never passed.
    #[error("the health check failed: {0}")]
    Unhealthy(String),
}

/// What the data plane could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaneError {
    /// No store of that id is open.
    #[error("no store {0} is open")]
    NoSuchStore(String),
    /// A store of that id is open already.
    #[error("store {0} is open already")]
    StoreExists(String),
    /// The server or the operating system refused.
    #[error("{0}")]
    Failed(String),
}

/// What really runs. One implementation runs processes; tests may count calls.
pub trait DataPlane: Send + Sync + 'static {
    /// The port of public HTTPS hosts: 443 where it may be bound.
    fn public_port(&self) -> u16;
    /// Starts a server and makes its names resolvable.
    fn open_store(&self, spec: StoreSpec) -> BoxFuture<'_, Result<(), PlaneError>>;
    /// Ends the server; its names stop resolving.
    fn close_store<'a>(&'a self, id: &'a str) -> BoxFuture<'a, ()>;
    /// Replaces the passwords live; connections that are open stay, as with the vendors.
    fn set_passwords<'a>(&'a self, id: &'a str, passwords: Vec<String>) -> BoxFuture<'a, Result<(), PlaneError>>;
    /// A fault: the server refuses a command (or accepts it again).
    fn deny_command<'a>(&'a self, id: &'a str, command: &'a str, denied: bool)
    -> BoxFuture<'a, Result<(), PlaneError>>;
    /// A fault: added each way.
    fn set_latency<'a>(&'a self, id: &'a str, latency: Duration) -> BoxFuture<'a, ()>;
    /// A fault: the server stops (and goes on).
    fn freeze_store<'a>(&'a self, id: &'a str, frozen: bool) -> BoxFuture<'a, ()>;
    /// What the server answers to a command of the sandbox's own user.
    fn ask_store<'a>(&'a self, id: &'a str, command: Vec<String>) -> BoxFuture<'a, Result<String, PlaneError>>;
    /// What the server counted.
    fn usage<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<StoreUsage, PlaneError>>;
    /// Makes a public HTTPS host: TLS ends at the plane, plain HTTP/1.1 goes on to `backend` with the Host header kept.
    fn add_public_host<'a>(&'a self, host: &'a str, backend: SocketAddr) -> BoxFuture<'a, Result<(), PlaneError>>;
    /// Starts new instances and waits until they are healthy; no traffic yet.
    fn deploy(&self, spec: DeploymentSpec) -> BoxFuture<'_, Result<DeploymentHandle, DeploymentFailure>>;
    /// Traffic to all routed deployments of the service and this one; returns after the overlap, when only this one
    /// gets new requests.
    fn shift<'a>(&'a self, to: &'a DeploymentHandle) -> BoxFuture<'a, ()>;
    /// Requests in flight finish, then the instances end.
    fn retire(&self, deployment: DeploymentHandle) -> BoxFuture<'_, ()>;
    /// Ends all instances of a service (pause, delete).
    fn stop_service<'a>(&'a self, service: &'a str) -> BoxFuture<'a, ()>;
}
