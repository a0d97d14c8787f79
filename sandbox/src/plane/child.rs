//! Starts and ends real processes. Every child dies with the sandbox: it is started through `sandbox enter`, which
//! asks the kernel for that, and from one thread that lives as long as the sandbox (the kernel means the thread).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::dataplane::PlaneError;

/// What to start.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// The whole environment.
    pub(crate) env: BTreeMap<String, String>,
    /// A hosts file to see instead of the machine's.
    pub(crate) hosts: Option<PathBuf>,
    pub(crate) dir: PathBuf,
    pub(crate) output: Output,
}

/// Where standard output and error go.
#[derive(Debug)]
pub(crate) enum Output {
    /// To us, line by line.
    Piped,
    /// To this file.
    File(PathBuf),
}

type Order = (Launch, oneshot::Sender<io::Result<Child>>);

/// Starts children.
#[derive(Debug, Clone)]
pub(crate) struct Launcher(mpsc::UnboundedSender<Order>);

impl Launcher {
    /// `sandbox` is this program's own binary. To be called inside a runtime.
    pub(crate) fn new(sandbox: PathBuf) -> io::Result<Self> {
        let (sender, mut orders) = mpsc::unbounded_channel::<Order>();
        let runtime = Handle::current();
        std::thread::Builder::new().name("children".to_owned()).spawn(move || {
            let _guard = runtime.enter();
            while let Some((launch, reply)) = orders.blocking_recv() {
                // Nobody waits any more: dropping the child kills it.
                let _ = reply.send(spawn(&sandbox, &launch));
            }
        })?;
        Ok(Self(sender))
    }

    pub(crate) async fn start(&self, launch: Launch) -> io::Result<Child> {
        let (reply, started) = oneshot::channel();
        self.0.send((launch, reply)).map_err(|_| io::Error::other("the sandbox is ending"))?;
        started.await.map_err(|_| io::Error::other("the sandbox is ending"))?
    }
}

fn spawn(sandbox: &Path, launch: &Launch) -> io::Result<Child> {
    let mut command = Command::new(sandbox);
    command.arg("enter").arg("--parent").arg(std::process::id().to_string());
    if let Some(hosts) = &launch.hosts {
        command.arg("--hosts").arg(hosts);
    }
    command.arg("--").args(&launch.command).env_clear().envs(&launch.env).current_dir(&launch.dir);
    command.stdin(Stdio::null()).kill_on_drop(true).process_group(0);
    match &launch.output {
        Output::Piped => {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        Output::File(path) => {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
            command.stdout(file.try_clone()?).stderr(file);
        }
    }
    command.spawn()
}

/// Sends a signal to a child that has not been waited for.
pub(crate) fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // It may have ended a moment ago; then there is nothing to do.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// SIGTERM, then after `grace` SIGKILL to it and what it started. Returns its exit code, `None` if a signal ended it.
pub(crate) async fn end(child: &mut Child, grace: Duration) -> Option<i32> {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    signal(child, Signal::SIGTERM);
    let status = timeout(grace, child.wait()).await;
    if let Some(group) = group {
        // The group is the child's own; whatever it left behind goes too.
        let _ = killpg(group, Signal::SIGKILL);
    }
    match status {
        Ok(status) => status.ok().and_then(|s| s.code()),
        Err(_) => child.wait().await.ok().and_then(|s| s.code()),
    }
}

/// Where a program is, by the PATH of the sandbox, or what to install.
pub(crate) fn find(programs: &[&str], path: &str, package: &str) -> Result<PathBuf, PlaneError> {
    let mut candidates = programs.iter().flat_map(|p| std::env::split_paths(path).map(move |dir| dir.join(p)));
    candidates.find(|c| c.is_file()).ok_or_else(|| {
        PlaneError::Failed(format!(
            "{} is not on PATH: install {package} (Debian: apt-get install {package})",
            programs[0]
        ))
    })
}
