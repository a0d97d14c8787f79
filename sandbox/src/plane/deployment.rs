//! A deployment: all instances of one version of a service, seen from one vantage of their own.
//! Starts them together, ends them together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use serde_json::{Value, json};

use crate::dataplane::{DeploymentFailure, DeploymentSpec, Journal};
use crate::plane::address::VantageId;
use crate::plane::child::Launcher;
use crate::plane::front::Upstream;
use crate::plane::instance::{Instance, Recipe};
use crate::plane::slice::Slice;

/// Running instances.
pub(crate) struct Deployment {
    pub(crate) id: u64,
    pub(crate) service: String,
    pub(crate) service_name: String,
    pub(crate) host: String,
    pub(crate) vantage: VantageId,
    pub(crate) hosts: PathBuf,
    instances: Vec<Instance>,
}

/// Around a deployment.
pub(crate) struct Site {
    pub(crate) id: u64,
    pub(crate) vantage: VantageId,
    pub(crate) hosts: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) command: Vec<String>,
    /// What the image itself brings: PATH, the trusted certificates.
    pub(crate) image_env: BTreeMap<String, String>,
    pub(crate) grace: Duration,
    pub(crate) launcher: Launcher,
    pub(crate) journal: Arc<dyn Journal>,
}

impl Deployment {
    /// Starts all instances and waits until every one is healthy; if one is not, all are ended again.
    pub(crate) async fn start(spec: DeploymentSpec, site: Site, slice: &Slice) -> Result<Self, DeploymentFailure> {
        let mut env = site.image_env;
        env.extend(spec.env);
        let recipe = Arc::new(Recipe {
            service: spec.service.clone(),
            operation: spec.operation,
            command: site.command,
            env,
            hosts: site.hosts.clone(),
            dir: site.dir,
            health: spec.health,
            grace: site.grace,
            launcher: site.launcher,
            journal: site.journal,
        });
        let mut starting = Vec::new();
        for _ in 0..spec.instances.max(1) {
            let port = slice.instance_port().map_err(|e| DeploymentFailure::Unhealthy(e.to_string()))?;
            starting.push(Instance::start(recipe.clone(), port));
        }
        // The first failure drops the others' futures, and with them their processes.
        let instances = try_join_all(starting).await?;
        Ok(Self {
            id: site.id,
            service: spec.service,
            service_name: spec.service_name,
            host: spec.host,
            vantage: site.vantage,
            hosts: site.hosts,
            instances,
        })
    }

    pub(crate) fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.instances.iter().map(|i| i.upstream.clone()).collect()
    }

    pub(crate) fn describe(&self) -> Value {
        let healthy = self.instances.iter().filter(|i| i.upstream.is_healthy()).count();
        let in_flight: u32 = self.instances.iter().map(|i| i.upstream.in_flight()).sum();
        json!({
            "id": self.id, "service": self.service_name, "host": self.host, "instances": self.instances.len(),
            "healthy": healthy, "inFlight": in_flight,
        })
    }

    pub(crate) async fn drain_and_end(&self, limit: Duration) {
        join_all(self.instances.iter().map(|i| i.drain_and_end(limit))).await;
    }

    pub(crate) async fn end(&self) {
        join_all(self.instances.iter().map(Instance::end)).await;
    }
}
