//! The operator as a process: the real binary inside the sandbox, under the permissions of its service account.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use control_plane::Process;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::ground::{Ground, until};
use super::starter::Sandbox;

/// A running operator. Killed by its own id when dropped.
pub(crate) struct Operator {
    process: Process,
    at: SocketAddr,
    log: PathBuf,
}

/// How one is started.
pub(crate) struct Start<'a> {
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) namespace: &'a str,
    pub(crate) kubeconfig: &'a Path,
    pub(crate) identity: &'a str,
    pub(crate) options: &'a [String],
}

impl Operator {
    /// Starts one that is alone in its namespace, and waits until it is ready.
    pub(crate) fn alone(ground: &Ground) -> Self {
        let operator = Self::of(ground, "sessionbackend");
        operator.until_ready();
        operator
    }

    /// Starts one under a service account, which is its name among the replicas too.
    pub(crate) fn of(ground: &Ground, account: &str) -> Self {
        let kubeconfig = ground.plane.service_account_kubeconfig(&ground.namespace, account).unwrap();
        Self::start(&Start {
            sandbox: &ground.sandbox,
            namespace: &ground.namespace,
            kubeconfig: &kubeconfig,
            identity: account,
            options: &[],
        })
    }

    /// Starts one that is alone in its namespace with these options, and waits until it is ready.
    pub(crate) fn with(ground: &Ground, options: &[String]) -> Self {
        let account = "sessionbackend";
        let kubeconfig = ground.plane.service_account_kubeconfig(&ground.namespace, account).unwrap();
        let (sandbox, namespace) = (&ground.sandbox, &*ground.namespace);
        let operator = Self::start(&Start { sandbox, namespace, kubeconfig: &kubeconfig, identity: account, options });
        operator.until_ready();
        operator
    }

    /// Starts one and waits until it says where it listens.
    pub(crate) fn start(start: &Start<'_>) -> Self {
        let Start { sandbox, namespace, kubeconfig, identity, options } = start;
        // Another one to be measured, such as the one that is released.
        let binary = std::env::var("OPERATOR_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sessionbackend").to_owned());
        let words = ["exec", "--from", "internet", "--", &binary, "run", "--namespace", namespace];
        let mut command = sandbox.command(&words);
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--identity", identity]);
        command.args(*options);
        command.env("KUBECONFIG", kubeconfig).env("SESSIONBACKEND_LOG", "trace");
        let log = sandbox.dir.path().join(format!("operator-{identity}.log"));
        let mut process =
            Process::start(&command, &File::options().create(true).append(true).open(&log).unwrap()).unwrap();
        let from = lines(&log).len();
        let at = until("the operator starts", || {
            let lines = lines(&log);
            let started = lines[from..].iter().find(|line| line["message"] == "started");
            assert!(started.is_some() || !process.has_ended(), "{lines:#?}");
            started.and_then(|line| line["at"].as_str()?.parse().ok()).ok_or_else(|| format!("{lines:#?}"))
        });
        Self { process, at, log }
    }

    pub(crate) fn until_ready(&self) {
        until("the operator is ready", || match self.get("/readyz") {
            (200, _) => Ok(()),
            (_, why) => Err(why),
        });
    }

    /// Status and body of one of its probes.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut connection = TcpStream::connect(self.at).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(connection, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The sum of a metric over all series whose labels hold every one of `labels`, such as `code="Ok"`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let all = self.series(name).into_iter();
        all.filter(|(series, _)| labels.iter().all(|label| series.contains(label))).map(|(_, value)| value).sum()
    }

    /// The series of a metric as they are exposed, with their values.
    pub(crate) fn series(&self, name: &str) -> BTreeMap<String, u64> {
        let (_, text) = self.get("/metrics");
        let of = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (given, _) = series.split_once('{').unwrap_or((series, ""));
            (given == name).then(|| (series.to_owned(), value.parse::<f64>().unwrap() as u64))
        };
        text.lines().filter_map(of).collect()
    }

    /// The memory it holds, in KiB: `VmRSS`.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn leads(&self) -> bool {
        self.metric("sessionbackend_leader", &[]) == 1
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Its exit code, once it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        until("the operator ends", || if self.process.has_ended() { Ok(()) } else { Err("it runs".to_owned()) });
        self.process.wait().unwrap()
    }

    /// The last warnings it has logged.
    pub(crate) fn warnings(&self) -> Vec<Value> {
        let mut warnings = lines(&self.log);
        warnings.retain(|line| {
            line["level"] == "WARN" || line["message"].as_str().is_some_and(|said| said.contains("finalizer"))
        });
        warnings.split_off(warnings.len().saturating_sub(8))
    }

    /// The log as text.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

/// The complete lines of a log; what is no JSON was said by somebody else.
fn lines(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
