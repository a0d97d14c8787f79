//! `sessionbackend` as an operator: a real API server, the definition and exactly the permissions of `manifests/`, the
//! controller as a process beside it inside the VPC, and `kubectl` for everything a user does. What it says is kept beside
//! the manifests.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use control_plane::ControlPlane;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::sandbox::Sandbox;

/// The namespace of the controller, as in `manifests/`.
const SYSTEM: &str = "sessionbackend";
/// The namespace of the object, as in the examples.
pub const NAMESPACE: &str = "liberty";
/// The object.
const OBJECT: &str = "sessionbackend/liberty-social";
/// What the controller needs of `manifests/` where no kubelet runs it.
const PERMISSIONS: [&str; 4] = [
    include_str!("../../manifests/service-account.yaml"),
    include_str!("../../manifests/role.yaml"),
    include_str!("../../manifests/role-binding.yaml"),
    include_str!("../../manifests/leader-election.yaml"),
];
const DEFINITION: &str = include_str!("../../crds/sessionbackends.yaml");
/// For a `kubectl` that is not meant to wait.
const PROMPT: Duration = Duration::from_secs(30);

/// Why the cluster did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No control plane.
    #[error("{0}")]
    Plane(#[from] control_plane::Error),
    /// A process cannot be started.
    #[error("{what} cannot be started: {why}")]
    Start {
        /// Which.
        what: &'static str,
        /// Why.
        why: std::io::Error,
    },
    /// A command failed.
    #[error("kubectl {command}: {said}")]
    Kubectl {
        /// What was asked.
        command: String,
        /// What it said.
        said: String,
    },
}

/// The cluster of a story.
pub struct Cluster<'a> {
    sandbox: &'a Sandbox,
    vantage: String,
    binary: PathBuf,
    dir: PathBuf,
    /// Of whoever plays the user.
    admin: PathBuf,
    /// Of the controller.
    controller: PathBuf,
    /// Our own, ended with the story.
    plane: Option<ControlPlane>,
}

/// A running controller.
pub struct Controller {
    child: Child,
}

impl<'a> Cluster<'a> {
    /// Starts a control plane, or takes the one `kubeconfig` names, and installs definition and permissions.
    ///
    /// # Errors
    /// When there is none, or it refuses something.
    pub async fn install(
        sandbox: &'a Sandbox,
        vantage: String,
        binary: PathBuf,
        dir: &Path,
        kubeconfig: Option<PathBuf>,
    ) -> Result<Cluster<'a>, ClusterError> {
        let (plane, admin) = if let Some(given) = kubeconfig {
            (None, given)
        } else {
            let started = tokio::task::spawn_blocking(ControlPlane::start).await;
            let lost = |why| ClusterError::Start { what: "the control plane", why: std::io::Error::other(why) };
            let plane = started.map_err(lost)??;
            let admin = plane.kubeconfig().to_owned();
            (Some(plane), admin)
        };
        let dir = dir.to_owned();
        let controller = dir.join("controller.kubeconfig");
        let cluster = Self { sandbox, vantage, binary, dir, admin, controller, plane };
        cluster.apply(DEFINITION, None).await?;
        let established = "wait --for=condition=Established crd/sessionbackends.sessionbackend.dev --timeout=30s";
        cluster.kubectl(established).await?;
        for namespace in [SYSTEM, NAMESPACE] {
            let made = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
            cluster.apply(&made.to_string(), None).await?;
        }
        cluster.apply(&PERMISSIONS.join("\n---\n"), Some(SYSTEM)).await?;
        cluster.apply(&PERMISSIONS[1..3].join("\n---\n"), Some(NAMESPACE)).await?;
        cluster.write_kubeconfig().await?;
        Ok(cluster)
    }

    /// The controller's own credentials: those of its service account, and nothing besides.
    async fn write_kubeconfig(&self) -> Result<(), ClusterError> {
        let view = self.kubectl("config view --raw --minify --flatten -o json").await?;
        let token = self.kubectl(&format!("-n {SYSTEM} create token sessionbackend --duration 4h")).await?;
        let mut config: Value = serde_json::from_str(&view).unwrap_or_default();
        config["users"][0]["user"] = json!({ "token": token.trim() });
        let written = std::fs::write(&self.controller, config.to_string());
        written.map_err(|why| ClusterError::Start { what: "the controller's kubeconfig", why })
    }

    /// Starts the controller; what it logs goes into its file, its lines about checks to `tell`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, tell: &mpsc::UnboundedSender<String>) -> Result<Controller, ClusterError> {
        let mut command = self.deployed(self.sandbox.exec(&self.vantage, &self.binary));
        command.env("SESSIONBACKEND_LOG", "sessionbackend=trace");
        let failed = |why| ClusterError::Start { what: "the controller", why };
        let mut child = command.spawn().map_err(failed)?;
        if let Some(stderr) = child.stderr.take() {
            let log = OpenOptions::new().create(true).append(true).open(self.dir.join("controller.log"));
            let (mut log, tell) = (log.map_err(failed)?, tell.clone());
            tokio::spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    // A log that cannot be written shows as an empty one, which fails the report.
                    let _ = writeln!(log, "{line}");
                    if let Some(told) = checks(&line) {
                        let _ = tell.send(told);
                    }
                }
            });
        }
        Ok(Controller { child })
    }

    /// The controller as it is deployed, but outside of the sandbox: it meets no cloud. What it logs is its standard error.
    pub fn outside(&self) -> Command {
        let mut command = self.deployed(Command::new(&self.binary));
        command.stdin(Stdio::null()).kill_on_drop(true).process_group(0);
        command
    }

    fn deployed(&self, mut command: Command) -> Command {
        command
            .args(["run", "--namespace", SYSTEM, "--watch-namespace", NAMESPACE, "--listen", "127.0.0.1:0"])
            // A controller that is started again in the same pod has the same name, and its lease.
            .args(["--identity", "demo", "--log-format", "json"])
            .env("KUBECONFIG", &self.controller)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Leaves the lease to whoever comes first.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn free_the_lease(&self) -> Result<(), ClusterError> {
        self.kubectl(&format!("-n {SYSTEM} delete lease sessionbackend --ignore-not-found")).await.map(drop)
    }

    /// `kubectl` with the words of `line`; what it prints.
    ///
    /// # Errors
    /// What it complains about.
    pub async fn kubectl(&self, line: &str) -> Result<String, ClusterError> {
        self.answer(line, self.command(line), None, PROMPT).await
    }

    /// Applies documents.
    ///
    /// # Errors
    /// What the API server refuses.
    pub async fn apply(&self, documents: &str, namespace: Option<&str>) -> Result<String, ClusterError> {
        let line = match namespace {
            Some(namespace) => format!("-n {namespace} apply --server-side -f -"),
            None => "apply --server-side -f -".to_owned(),
        };
        self.answer(&line, self.command(&line), Some(documents), PROMPT).await
    }

    /// Waits with `kubectl wait` until the object is as `what` says.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn wait(&self, what: &str, limit: Duration) -> Result<(), ClusterError> {
        let line = format!("-n {NAMESPACE} wait {OBJECT} --for={what} --timeout={}s", limit.as_secs());
        self.answer(&line, self.command(&line), None, limit + PROMPT).await.map(drop)
    }

    /// The object as the API server has it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn object(&self) -> Result<Value, ClusterError> {
        let text = self.kubectl(&format!("-n {NAMESPACE} get {OBJECT} -o json")).await?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Tells every line that a watching `kubectl` prints, until it is dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn watch(&self, line: &str, tell: &mpsc::UnboundedSender<String>) -> Result<Child, ClusterError> {
        let mut command = self.command(&format!("-n {NAMESPACE} {line}"));
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|why| ClusterError::Start { what: "kubectl", why })?;
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(pass_on(stdout, tell.clone()));
        }
        Ok(child)
    }

    /// Writes down everything the API server has of the object and its namespace, for whoever looks for secrets in it.
    /// Secrets themselves are left out: they are meant to hold them.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn record(&self) -> Result<(), ClusterError> {
        let line = format!("-n {NAMESPACE} get sessionbackends,events,leases,configmaps -o yaml");
        let objects = self.kubectl(&line).await?;
        let table = self.kubectl(&format!("-n {NAMESPACE} get sessionbackends -o wide")).await?;
        let written = std::fs::write(self.dir.join("cluster.yaml"), format!("{objects}\n---\n{table}"));
        written.map_err(|why| ClusterError::Start { what: "cluster.yaml", why })
    }

    fn command(&self, line: &str) -> Command {
        // kubectl may be the one that was built with the control plane.
        let mut command = if let Some(plane) = &self.plane {
            Command::from(plane.kubectl_as(&self.admin))
        } else {
            let mut command = Command::new("kubectl");
            command.arg("--kubeconfig").arg(&self.admin);
            command
        };
        command.args(line.split_whitespace()).stdin(Stdio::null()).kill_on_drop(true).process_group(0);
        command
    }

    async fn answer(
        &self,
        line: &str,
        mut command: Command,
        input: Option<&str>,
        limit: Duration,
    ) -> Result<String, ClusterError> {
        let failed = |said: String| ClusterError::Kubectl { command: line.to_owned(), said };
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(|why| ClusterError::Start { what: "kubectl", why })?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            stdin.write_all(input.as_bytes()).await.map_err(|why| failed(why.to_string()))?;
        }
        let output = tokio::time::timeout(limit, child.wait_with_output()).await;
        let output = output.map_err(|_| failed("no answer in time".to_owned()))?;
        let output = output.map_err(|why| failed(why.to_string()))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
        }
    }
}

impl Controller {
    /// The id of its process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it as a machine that fails does.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub async fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill().await
    }
}

async fn pass_on(from: impl AsyncRead + Unpin, tell: mpsc::UnboundedSender<String>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if tell.send(line).is_err() {
            return;
        }
    }
}

/// What a line of the controller's log says about checks, in the words of `apply`.
fn checks(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["checks"].as_str().map(str::to_owned)
}
