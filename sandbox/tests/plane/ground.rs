//! What the tests of the data plane stand on: a plane with a network that is a table, clients, and load.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sandbox::dataplane::{DeploymentSpec, Egress, HealthCheck, Journal, Network, Target, Vantage};
use sandbox::plane::{Plane, PlaneConfig};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const BINARY: &str = env!("CARGO_BIN_EXE_sandbox");
/// Longer than any healthy answer on a busy machine, shorter than a test may take.
const HANGS: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);

/// A plane of its own for one test.
pub(crate) struct Ground {
    pub(crate) plane: Arc<Plane>,
    world: Arc<World>,
    trust: Arc<rustls::ClientConfig>,
    _dir: tempfile::TempDir,
}

#[derive(Default)]
struct World {
    open: Mutex<HashSet<(Vantage, String)>>,
    lines: Mutex<Vec<String>>,
}

impl Network for World {
    fn path_open(&self, from: &Vantage, to: Target<'_>) -> bool {
        match to {
            Target::Store(id) => self.open.lock().unwrap().contains(&(from.clone(), id.to_owned())),
            Target::PublicHost(_) => true,
        }
    }
}

impl Journal for World {
    fn event(&self, _: &str, operation: &str, line: &str) {
        self.lines.lock().unwrap().push(format!("event {operation}: {line}"));
    }

    fn application(&self, _: &str, instance: &str, line: &str) {
        self.lines.lock().unwrap().push(format!("application {instance}: {line}"));
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) json: Value,
    pub(crate) text: String,
}

/// The command line of the tests' application.
pub(crate) fn python_app() -> String {
    format!("python3 {}/tests/plane/app.py", env!("CARGO_MANIFEST_DIR"))
}

/// A version of the tests' application.
pub(crate) fn deployment(operation: &str, version: &str, instances: u32) -> DeploymentSpec {
    let env = [("VERSION", version), ("GREETING", "good morning"), ("PORT", "8080")];
    DeploymentSpec {
        service: "arn:aws:apprunner:us-east-1:123456789012:service/web/1".to_owned(),
        service_name: "web".to_owned(),
        host: "web.awsapprunner.com".to_owned(),
        operation: operation.to_owned(),
        image: "app".to_owned(),
        start_command: None,
        env: env.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        port: 8080,
        instances,
        health: HealthCheck {
            http_path: Some("/".to_owned()),
            interval: Duration::from_millis(100),
            timeout: Duration::from_secs(2),
            healthy: 1,
            unhealthy: 5,
        },
        egress: Egress::Default,
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the condition must come true");
}

impl Ground {
    /// To be called inside a runtime.
    pub(crate) fn new() -> Self {
        Self::with_web_sockets(true)
    }

    pub(crate) fn with_web_sockets(web_sockets: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Arc::new(World::default());
        let config = PlaneConfig {
            dir: dir.path().to_owned(),
            overlap: Duration::from_secs(1),
            request_limit: Duration::from_secs(4),
            web_sockets,
            grace: Duration::from_secs(5),
            launcher: PathBuf::from(BINARY),
            path: std::env::var("PATH").unwrap(),
            home: std::env::var("HOME").unwrap_or_default(),
        };
        let plane = Plane::new(config, world.clone(), world.clone()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(plane.ca_file()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let trust =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let trust = Arc::new(trust.with_root_certificates(roots).with_no_client_auth());
        Self { plane, world, trust, _dir: dir }
    }

    pub(crate) fn allow(&self, from: Vantage, store: &str) {
        self.world.open.lock().unwrap().insert((from, store.to_owned()));
    }

    pub(crate) fn journal(&self) -> Vec<String> {
        self.world.lines.lock().unwrap().clone()
    }

    fn entered(&self, from: &str, command: &[&str]) -> Command {
        let hosts = self.plane.hosts_file(from).unwrap();
        let mut entered = Command::new(BINARY);
        entered.arg("enter").arg("--hosts").arg(hosts).arg("--").args(command);
        entered.env("SSL_CERT_FILE", self.plane.ca_file()).stdin(Stdio::null()).kill_on_drop(true);
        entered
    }

    /// What redis-cli prints, standing at `from`. A path that hangs fails the test.
    pub(crate) async fn redis_cli(&self, from: &str, to: &[&str], words: &[&str]) -> String {
        let output = self.entered(from, &[&["redis-cli"], to, words].concat()).output();
        let output = timeout(PATIENCE, output).await.expect("redis-cli hangs").unwrap();
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    /// Does PING get neither an answer nor an error?
    pub(crate) async fn hangs(&self, from: &str, to: &[&str]) -> bool {
        timeout(HANGS, self.entered(from, &[&["redis-cli"], to, &["PING"]].concat()).output()).await.is_err()
    }

    pub(crate) fn resolve(&self, from: &str, host: &str) -> Ipv4Addr {
        let hosts = std::fs::read_to_string(self.plane.hosts_file(from).unwrap()).unwrap();
        let line = hosts.lines().find(|l| l.ends_with(&format!(" {host}")));
        line.unwrap_or_else(|| panic!("{host} does not resolve")).split(' ').next().unwrap().parse().unwrap()
    }

    async fn tls(&self, host: &str) -> std::io::Result<BufStream<TlsStream<TcpStream>>> {
        // A name nobody serves shares the address of one that is, as behind one load balancer.
        let address = self.resolve("internet", "web.awsapprunner.com");
        let stream = TcpStream::connect((address, self.plane.public_port())).await?;
        let name = ServerName::try_from(host.to_owned()).unwrap();
        Ok(BufStream::new(TlsConnector::from(self.trust.clone()).connect(name, stream).await?))
    }

    pub(crate) async fn get(&self, host: &str, path: &str) -> std::io::Result<Answer> {
        let mut stream = self.tls(host).await?;
        request(&mut stream, "GET", host, path).await
    }

    /// Sends `bytes` through an upgraded connection and returns what comes back.
    /// The error is the status by which the upgrade was refused.
    pub(crate) async fn echo_over_upgrade(&self, host: &str, bytes: &[u8]) -> Result<Vec<u8>, u16> {
        let mut stream = self.tls(host).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let (status, _) = read_head(&mut stream).await.unwrap();
        if status != 101 {
            return Err(status);
        }
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut back = vec![0; bytes.len()];
        timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
        Ok(back)
    }

    /// Keep-alive clients that ask without a pause until told to finish.
    pub(crate) fn load(&self, host: &'static str, clients: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let address = self.resolve("internet", host);
        let clients = (0..clients).map(|number| {
            let (stop, trust, port) = (stop.clone(), self.trust.clone(), self.plane.public_port());
            tokio::spawn(async move {
                let mut report = Report::default();
                let stream = TcpStream::connect((address, port)).await.unwrap();
                let name = ServerName::try_from(host).unwrap();
                let mut stream = BufStream::new(TlsConnector::from(trust).connect(name, stream).await.unwrap());
                while !stop.load(Ordering::Relaxed) {
                    let method = if number % 2 == 0 { "GET" } else { "POST" };
                    match request(&mut stream, method, host, "/").await {
                        Ok(answer) if answer.status == 200 => {
                            let version = answer.json["version"].as_str().unwrap_or_default().to_owned();
                            *report.versions.entry(version).or_default() += 1;
                        }
                        Ok(answer) => report.failed.push(format!("{} {}", answer.status, answer.text)),
                        Err(error) => {
                            report.failed.push(error.to_string());
                            break;
                        }
                    }
                }
                report
            })
        });
        Load { clients: clients.collect(), stop }
    }
}

pub(crate) struct Load {
    clients: Vec<JoinHandle<Report>>,
    stop: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) versions: BTreeMap<String, u32>,
    pub(crate) failed: Vec<String>,
}

impl Load {
    pub(crate) async fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Report::default();
        for client in self.clients {
            let report = timeout(PATIENCE, client).await.expect("a client hangs").unwrap();
            report.versions.into_iter().for_each(|(version, count)| *all.versions.entry(version).or_default() += count);
            all.failed.extend(report.failed);
        }
        all
    }
}

type Stream = BufStream<TlsStream<TcpStream>>;

async fn request(stream: &mut Stream, method: &str, host: &str, path: &str) -> std::io::Result<Answer> {
    let body = if method == "POST" { "some body" } else { "" };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    let (status, length) = read_head(stream).await?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let text = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { status, json: serde_json::from_str(&text).unwrap_or_default(), text })
}

async fn read_head(stream: &mut Stream) -> std::io::Result<(u16, usize)> {
    let (mut status, mut length, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::Error::other("closed before the end of the head"));
        }
        let lower = line.trim().to_ascii_lowercase();
        if lower.is_empty() {
            return Ok((status, length));
        }
        if let Some(rest) = lower.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().unwrap_or_default();
        } else if let Some(rest) = lower.strip_prefix("content-length: ") {
            length = rest.parse().unwrap_or_default();
        }
    }
}
