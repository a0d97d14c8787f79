//! A real Kubernetes API server and its store on loopback, for as long as this process lives: what a cluster test or a demo
//! talks to. No kubelet and no controller manager: nothing runs pods, collects garbage or empties deleted namespaces, so one
//! control plane serves many tests, each in a namespace of its own.

#![allow(clippy::disallowed_methods, reason = "waits by the clock of the machine, like the processes it starts")]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

mod assets;
mod audit;
mod identity;
mod port;
mod process;

use assets::Assets;
use identity::Identity;
use port::Port;
pub use process::Process;

/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks at something that is awaited.
const MOMENT: Duration = Duration::from_millis(50);

/// Why there is no control plane, or why it did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its programs cannot be had here.
    #[error("{0}")]
    Unavailable(String),
    /// A program does not start or does not become ready.
    #[error("{program} {problem}\n{log}")]
    NotReady {
        /// Which.
        program: &'static str,
        /// What is wrong.
        problem: String,
        /// The end of what it said.
        log: String,
    },
    /// A command of kubectl failed.
    #[error("kubectl {command}: {said}")]
    Kubectl {
        /// The command.
        command: String,
        /// What it said.
        said: String,
    },
    /// A file, a socket or a process of this machine.
    #[error("{what}: {source}")]
    Machine {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    fn machine(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Machine { what, source }
    }
}

/// A running control plane. Ended when dropped, and when this process ends in whatever way.
#[derive(Debug)]
pub struct ControlPlane {
    assets: Assets,
    folder: PathBuf,
    port: Port,
    identity: Identity,
    kubeconfig: PathBuf,
    namespaces: AtomicU32,
    marks: AtomicU32,
    // The API server is ended first: it complains at length about a store that is gone.
    api_server: Mutex<Option<Process>>,
    _store: Process,
}

impl ControlPlane {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where its programs cannot be had; else why it does not become ready.
    pub fn start() -> Result<Self, Error> {
        let assets = Assets::find()?;
        let folder = tempfile::Builder::new().prefix("control-plane-").tempdir();
        // Removed by the keeper of the store: a process that is killed removes nothing.
        let folder = folder.map_err(Error::machine("a folder for the control plane"))?.keep();
        let port = Port::hold().map_err(Error::machine("a port for the API server"))?;
        let identity = Identity::make(&folder)?;
        identity::write(&folder.join("audit.yaml"), audit::POLICY)?;
        let store = start_store(&assets, &folder)?;
        let kubeconfig = folder.join("kubeconfig");
        let this = Self {
            assets,
            port,
            identity,
            kubeconfig,
            namespaces: AtomicU32::new(0),
            marks: AtomicU32::new(0),
            api_server: Mutex::new(None),
            _store: store,
            folder,
        };
        this.write_kubeconfig(&this.kubeconfig, identity::ADMIN, "default")?;
        this.start_api_server()?;
        Ok(this)
    }

    /// The control plane of this process, started when it is asked for first. Nothing where its programs cannot be had: that
    /// is said on standard error, and is a failure where `CI=true`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn shared() -> Result<Option<&'static Self>, &'static Error> {
        static SHARED: OnceLock<Result<ControlPlane, Error>> = OnceLock::new();
        let must = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        let shared = SHARED.get_or_init(|| {
            Self::start().inspect_err(|error| {
                if let (Error::Unavailable(why), false) = (error, must) {
                    // Not the macro: a test harness would swallow the line of a test that passes.
                    let _ = writeln!(std::io::stderr(), "\nTESTS ON A CONTROL PLANE ARE SKIPPED: {why}\n");
                }
            })
        });
        match shared {
            Ok(shared) => Ok(Some(shared)),
            Err(Error::Unavailable(_)) if !must => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the API server is.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port.number())
    }

    /// The certificate its clients trust, in PEM.
    pub fn authority(&self) -> &str {
        &self.identity.certificate
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// `kubectl` as an administrator, with the words of `line` as its arguments.
    pub fn kubectl(&self, line: &str) -> Command {
        let mut command = self.kubectl_as(&self.kubeconfig);
        command.args(line.split_whitespace());
        command
    }

    /// `kubectl` as whom a kubeconfig says.
    pub fn kubectl_as(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(&self.assets.kubectl);
        // What kubectl remembers of a server it finds by port, and ports come again.
        command.arg("--cache-dir").arg(self.folder.join("cache")).arg("--kubeconfig").arg(kubeconfig);
        command.stdin(Stdio::null());
        command
    }

    /// What `kubectl` prints; it must succeed.
    ///
    /// # Errors
    /// What it complains about.
    pub fn must(&self, line: &str) -> Result<String, Error> {
        let output = self.kubectl(line).output().map_err(Error::machine("kubectl"))?;
        succeeded(line, &output)
    }

    /// What an administrator's `kubectl` prints with `input` on its standard input; it must succeed.
    ///
    /// # Errors
    /// What it complains about.
    pub fn must_with(&self, line: &str, input: &str) -> Result<String, Error> {
        let mut command = self.kubectl(line);
        let output = fed(&mut command, input).map_err(Error::machine("kubectl"))?;
        succeeded(line, &output)
    }

    /// Makes a namespace that nobody else uses.
    ///
    /// # Errors
    /// What kubectl complains about.
    pub fn namespace(&self, of: &str) -> Result<String, Error> {
        let name = format!("{of}-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        self.must(&format!("create namespace {name}"))?;
        Ok(name)
    }

    /// The kubeconfig of a service account, which is made where there is none; its token is good for hours.
    ///
    /// # Errors
    /// What kubectl complains about.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf, Error> {
        if self.must(&format!("-n {namespace} get serviceaccount {name}")).is_err() {
            self.must(&format!("-n {namespace} create serviceaccount {name}"))?;
        }
        let token = self.must(&format!("-n {namespace} create token {name} --duration 8h"))?;
        let path = self.folder.join(format!("{namespace}.{name}.kubeconfig"));
        self.write_kubeconfig(&path, token.trim(), namespace)?;
        Ok(path)
    }

    fn write_kubeconfig(&self, path: &Path, token: &str, namespace: &str) -> Result<(), Error> {
        let (server, authority) = (self.url(), self.identity.certificate_file.display().to_string());
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": { "server": server, "certificate-authority": authority } }],
            "users": [{ "name": "test", "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": namespace } }],
            "current-context": "test",
        });
        identity::write(path, &config.to_string())
    }

    /// Ends the API server at once, as a machine that fails does.
    pub fn stop_api_server(&self) {
        self.api_server.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Starts the API server where none runs, at the same port over the same store, and waits until it is ready.
    ///
    /// # Errors
    /// Why it does not become ready.
    pub fn start_api_server(&self) -> Result<(), Error> {
        let mut slot = self.api_server.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() {
            return Ok(());
        }
        let log = self.folder.join("api.log");
        let mut process = Process::start(&self.api_server_command(), &output(&log)?)?;
        let deadline = Instant::now() + PATIENCE;
        while !self.must("get --raw /readyz").is_ok_and(|said| said == "ok") {
            let problem = if process.has_ended() {
                "ended by itself".to_owned()
            } else if Instant::now() > deadline {
                format!("is not ready after {} s", PATIENCE.as_secs())
            } else {
                std::thread::sleep(MOMENT);
                continue;
            };
            return Err(Error::NotReady { program: "kube-apiserver", problem, log: complaints(&log) });
        }
        *slot = Some(process);
        Ok(())
    }

    /// Ends the API server and starts it anew.
    ///
    /// # Errors
    /// Why it does not become ready.
    pub fn restart_api_server(&self) -> Result<(), Error> {
        self.stop_api_server();
        self.start_api_server()
    }

    fn api_server_command(&self) -> Command {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let (certificate, key) =
            (self.identity.certificate_file.display().to_string(), self.identity.key_file.display().to_string());
        let options = [
            ("etcd-servers", format!("unix://{}", at("etcd.sock"))),
            ("secure-port", self.port.number().to_string()),
            ("bind-address", "127.0.0.1".to_owned()),
            ("permit-port-sharing", "true".to_owned()),
            // Else it looks for an address by the default route, which a machine need not have.
            ("advertise-address", "127.0.0.1".to_owned()),
            ("endpoint-reconciler-type", "none".to_owned()),
            ("tls-cert-file", certificate.clone()),
            ("tls-private-key-file", key.clone()),
            // A private EC key in PKCS 8 is refused here, a certificate is not.
            ("service-account-key-file", certificate),
            ("service-account-signing-key-file", key),
            ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
            ("authorization-mode", "RBAC".to_owned()),
            ("token-auth-file", self.identity.tokens_file.display().to_string()),
            ("service-cluster-ip-range", "10.0.0.0/24".to_owned()),
            // It waits for service accounts that only a controller manager makes.
            ("disable-admission-plugins", "ServiceAccount".to_owned()),
            ("audit-policy-file", at("audit.yaml")),
            ("audit-log-path", at("audit.log")),
        ];
        let mut command = Command::new(self.assets.folder.join("kube-apiserver"));
        command.args(options.map(|(name, value)| format!("--{name}={value}")));
        command
    }

    /// What the API server was asked by everybody but itself until now, each as an audit event; bodies of Secrets are left out.
    ///
    /// # Errors
    /// When the log cannot be read, or stays behind.
    pub fn audit(&self) -> Result<Vec<Value>, Error> {
        let mark = format!("/version?mark={}", self.marks.fetch_add(1, Ordering::Relaxed));
        // A line is written a moment after its answer.
        self.must(&format!("get --raw {mark}"))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(self.folder.join("audit.log"));
            let events = audit::events(&text.map_err(Error::machine("audit.log"))?);
            let is_mark = |event: &Value| event["requestURI"].as_str().is_some_and(|uri| uri == mark);
            if events.iter().any(is_mark) {
                return Ok(events);
            }
            if Instant::now() > deadline {
                let problem = "wrote no audit log of a request it answered".to_owned();
                return Err(Error::NotReady { program: "kube-apiserver", problem, log: String::new() });
            }
            std::thread::sleep(MOMENT);
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop_api_server();
    }
}

fn start_store(assets: &Assets, folder: &Path) -> Result<Process, Error> {
    let options = [
        ("unsafe-no-fsync", "true".to_owned()),
        ("log-level", "warn".to_owned()),
        ("data-dir", folder.join("etcd").display().to_string()),
        ("listen-client-urls", format!("unix://{}", folder.join("etcd.sock").display())),
        // Nobody follows it; it must name a host.
        ("advertise-client-urls", "http://127.0.0.1:1".to_owned()),
        ("listen-peer-urls", "http://127.0.0.1:0".to_owned()),
    ];
    let mut command = Command::new(assets.folder.join("etcd"));
    command.args(options.map(|(name, value)| format!("--{name}={value}")));
    Process::start_in(&command, &output(&folder.join("etcd.log"))?, folder)
}

fn output(path: &Path) -> Result<File, Error> {
    File::options().create(true).append(true).open(path).map_err(Error::machine(path.display().to_string()))
}

/// The last errors of an API server's log.
fn complaints(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let bad: Vec<_> = text.lines().filter(|line| line.starts_with(['E', 'F', 'e'])).collect();
    bad[bad.len().saturating_sub(10)..].join("\n")
}

/// Runs a command with `input` on its standard input.
///
/// # Errors
/// When it cannot be run.
pub fn fed(command: &mut Command, input: &str) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes())?;
    }
    child.wait_with_output()
}

fn succeeded(line: &str, output: &Output) -> Result<String, Error> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(Error::Kubectl { command: line.to_owned(), said: text(&output.stderr) })
    }
}
