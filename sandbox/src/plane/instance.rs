//! One instance of a deployment: a process, its health, its output. Ends and restarts it as the platform does;
//! whether requests reach it is the front's business, by the health it sets.

mod health;
mod output;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::dataplane::{DeploymentFailure, HealthCheck, Journal};
use crate::plane::child::{self, Launch, Launcher, Output};
use crate::plane::front::Upstream;
use crate::plane::store::hex;

/// Between the end of an instance and the start of its replacement.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// All that is needed to start an instance, again and again.
pub(crate) struct Recipe {
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) hosts: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) health: HealthCheck,
    pub(crate) grace: Duration,
    pub(crate) launcher: Launcher,
    pub(crate) journal: Arc<dyn Journal>,
}

/// One place in a deployment; the process in it may be replaced.
pub(crate) struct Instance {
    pub(crate) upstream: Arc<Upstream>,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

impl Instance {
    /// Starts the process on `port` and waits until it is healthy.
    pub(crate) async fn start(recipe: Arc<Recipe>, port: u16) -> Result<Self, DeploymentFailure> {
        let upstream = Arc::new(Upstream::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), false));
        let mut run = Run { recipe, port, upstream: upstream.clone() };
        let mut child = run.launch().await?;
        if let Err(failure) = run.become_healthy(&mut child).await {
            child::end(&mut child, run.recipe.grace.min(Duration::from_secs(2))).await;
            return Err(failure);
        }
        upstream.set_healthy(true);
        let (stop, stopping) = watch::channel(false);
        let (end, ended) = watch::channel(false);
        tokio::spawn(async move {
            run.keep_alive(child, stopping).await;
            let _ = end.send(true);
        });
        Ok(Self { upstream, stop, ended })
    }

    /// Requests in flight finish within `limit`, then SIGTERM, then SIGKILL.
    pub(crate) async fn drain_and_end(&self, limit: Duration) {
        let _ = timeout(limit, self.upstream.drained()).await;
        self.end().await;
    }

    /// SIGTERM, then SIGKILL; returns when the process is gone.
    pub(crate) async fn end(&self) {
        self.upstream.set_healthy(false);
        let _ = self.stop.send(true);
        let mut ended = self.ended.clone();
        // An error means that its task is gone, and the process with it.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

struct Run {
    recipe: Arc<Recipe>,
    port: u16,
    upstream: Arc<Upstream>,
}

impl Run {
    async fn launch(&mut self) -> Result<Child, DeploymentFailure> {
        let recipe = &self.recipe;
        let id = hex(&rand::random::<[u8; 16]>());
        let mut env = recipe.env.clone();
        env.insert("PORT".to_owned(), self.port.to_string());
        let launch = Launch {
            command: recipe.command.clone(),
            env,
            hosts: Some(recipe.hosts.clone()),
            dir: recipe.dir.clone(),
            output: Output::Piped,
        };
        let mut child = recipe.launcher.start(launch).await.map_err(|e| {
            recipe.journal.application(&recipe.service, &id, &format!("cannot start: {e}"));
            DeploymentFailure::Exited { code: None }
        })?;
        output::follow(&mut child, recipe.journal.clone(), &recipe.service, &id);
        Ok(child)
    }

    async fn become_healthy(&self, child: &mut Child) -> Result<(), DeploymentFailure> {
        tokio::select! {
            ended = child.wait() => Err(DeploymentFailure::Exited { code: ended.ok().and_then(|s| s.code()) }),
            verdict = health::starts(self.upstream.address(), &self.recipe.health) => {
                verdict.map_err(DeploymentFailure::Unhealthy)
            }
        }
    }

    /// Until told to stop: replaces a process that ended or became unhealthy.
    async fn keep_alive(&mut self, mut child: Child, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = told(&mut stopping) => break,
                ended = child.wait() => {
                    let code = ended.ok().and_then(|s| s.code()).map_or("none".to_owned(), |c| c.to_string());
                    self.event(&format!(
                        "Your application stopped or failed to start. See logs for more information. Container exit code: {code}"
                    ));
                }
                reason = health::fails(self.upstream.address(), &self.recipe.health) => {
                    self.event(&reason);
                    self.upstream.set_healthy(false);
                    child::end(&mut child, self.recipe.grace).await;
                }
            }
            self.upstream.set_healthy(false);
            match self.replace(&mut stopping).await {
                Some(replacement) => child = replacement,
                None => return,
            }
        }
        child::end(&mut child, self.recipe.grace).await;
    }

    /// A healthy process in the place of the one that is gone; `None` when told to stop meanwhile.
    async fn replace(&mut self, stopping: &mut watch::Receiver<bool>) -> Option<Child> {
        loop {
            tokio::select! {
                () = told(stopping) => return None,
                () = sleep(RESTART_AFTER) => {}
            }
            let Ok(mut child) = self.launch().await else { continue };
            tokio::select! {
                () = told(stopping) => {
                    child::end(&mut child, self.recipe.grace).await;
                    return None;
                }
                healthy = self.become_healthy(&mut child) => match healthy {
                    Ok(()) => {
                        self.upstream.set_healthy(true);
                        return Some(child);
                    }
                    Err(failure) => {
                        self.event(&format!("A new instance did not start: {failure}"));
                        child::end(&mut child, self.recipe.grace).await;
                    }
                }
            }
        }
    }

    fn event(&self, line: &str) {
        self.recipe.journal.event(&self.recipe.service, &self.recipe.operation, line);
    }
}

/// Returns when the instance is to end; also when nobody can say so any more.
async fn told(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}
