//! What happens after a call on a service was answered: the operation's life on the clock, the deployment on the data
//! plane, and the quiet way back to the previous configuration when it fails.

use std::time::Duration;

use super::spec;
use crate::cloud::Cloud;
use crate::dataplane::{DeploymentFailure, DeploymentHandle, DeploymentSpec, Journal};
use crate::fault::DeploymentFault as Fault;
use crate::state::apprunner::{Config, Service};

/// How long the vendor takes, at speed 1. Samples from its documentation and users, not promises.
mod takes {
    use std::time::Duration;
    pub(super) const PENDING: Duration = Duration::from_secs(3);
    /// Only when a service is created.
    pub(super) const BEFORE_PULL: Duration = Duration::from_secs(110);
    pub(super) const PULL: Duration = Duration::from_secs(30);
    pub(super) const PROVISION: Duration = Duration::from_secs(80);
    pub(super) const SETTLE: Duration = Duration::from_secs(20);
    pub(super) const GIVE_UP: Duration = Duration::from_mins(5);
    pub(super) const ROLLBACK: Duration = Duration::from_mins(2);
    pub(super) const SERVE_BEFORE_ROLLBACK: Duration = Duration::from_secs(30);
    pub(super) const PAUSE: Duration = Duration::from_mins(1);
    pub(super) const DELETE: Duration = Duration::from_mins(1);
    /// How long a connector's interfaces outlive it.
    pub(super) const INTERFACES: Duration = Duration::from_mins(2);
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Create,
    Update,
    Deploy,
    Resume,
    Pause,
    Delete,
}

/// One operation under way.
struct Running {
    cloud: Cloud,
    arn: String,
    name: String,
    id: String,
    work: Work,
}

/// How an operation ended badly.
enum Failure {
    /// Before anything new served.
    Early(String),
    /// While the new instances served.
    Late(String, DeploymentHandle),
    /// FAILED instead of rolled back.
    Final(String),
}

/// Runs an operation to its end.
pub(super) async fn run(cloud: Cloud, arn: String, id: String, work: Work) {
    let Some(name) = cloud.shared.read(|s| s.apprunner.services.get(&arn).map(|s| s.name.clone())) else { return };
    let operation = Running { cloud, arn, name, id, work };
    operation.hide();
    operation.cloud.shared.clock.pass(takes::PENDING).await;
    operation.set("IN_PROGRESS");
    operation.say(match work {
        Work::Create => "Service creation started.",
        Work::Update => "Service update started.",
        Work::Deploy => "Deployment started.",
        Work::Resume => "Service resume started.",
        Work::Pause => "Service pause started.",
        Work::Delete => "Service deletion started.",
    });
    operation.say("Service status is set to OPERATION_IN_PROGRESS.");
    if operation.fault(&[Fault::Stuck]) {
        return;
    }
    match work {
        Work::Pause => operation.stop("PAUSED", takes::PAUSE).await,
        Work::Delete => operation.stop("DELETED", takes::DELETE).await,
        Work::Create | Work::Update | Work::Deploy | Work::Resume => operation.deploy().await,
    }
}

/// The interfaces of a deleted connector stay for a while, and hold its groups.
pub(super) fn release_interfaces_later(cloud: &Cloud, connector: String) {
    let cloud = cloud.clone();
    cloud.clone().spawn(async move {
        cloud.shared.clock.pass(takes::INTERFACES).await;
        cloud.shared.change(|state| state.ec2.drop_interfaces(&connector));
    });
}

impl Running {
    fn say(&self, line: &str) {
        self.cloud.shared.event(&self.arn, &self.id, line);
    }

    fn fault(&self, kinds: &[Fault]) -> bool {
        self.cloud.shared.faults(|faults| faults.deployment(&self.name, kinds)).is_some()
    }

    /// ListOperations lags behind where a fault says so.
    fn hide(&self) {
        let Some(fault) = self.cloud.shared.faults(|f| f.deployment(&self.name, &[Fault::HideOperation])) else {
            return;
        };
        self.operation(|o| o.hidden = true);
        let (cloud, arn, id) = (self.cloud.clone(), self.arn.clone(), self.id.clone());
        self.cloud.spawn(async move {
            cloud.shared.clock.pass(Duration::from_secs(fault.seconds.unwrap_or(30))).await;
            cloud.shared.change(|state| {
                let service = state.apprunner.services.get_mut(&arn);
                if let Some(operation) = service.and_then(|s| s.operations.iter_mut().find(|o| o.id == id)) {
                    operation.hidden = false;
                }
            });
        });
    }

    fn service(&self, change: impl FnOnce(&mut Service)) {
        self.cloud.shared.change(|state| state.apprunner.services.get_mut(&self.arn).map(change));
    }

    fn operation(&self, change: impl FnOnce(&mut crate::state::apprunner::Operation)) {
        self.service(|s| {
            s.operations.iter_mut().find(|o| o.id == self.id).map(change);
        });
    }

    fn set(&self, status: &'static str) {
        let now = self.cloud.shared.clock.now();
        self.operation(|o| {
            o.status = status;
            o.updated = now;
            if !matches!(status, "PENDING" | "IN_PROGRESS" | "ROLLBACK_IN_PROGRESS") {
                o.ended = Some(now);
            }
        });
    }

    /// The operation's end and the service's status change at once, as one look at the service sees them.
    fn end(&self, operation: &'static str, service: &'static str, change: impl FnOnce(&mut Service)) {
        let now = self.cloud.shared.clock.now();
        self.service(|s| {
            change(s);
            s.status = service;
            s.updated = now;
            if let Some(o) = s.operations.iter_mut().find(|o| o.id == self.id) {
                (o.status, o.updated, o.ended) = (operation, now, Some(now));
            }
        });
        self.say(&format!("Service status is set to {service}."));
    }

    async fn stop(&self, status: &'static str, time: Duration) {
        self.cloud.shared.clock.pass(time).await;
        if status == "DELETED" && self.fault(&[Fault::Fail]) {
            self.end("FAILED", "DELETE_FAILED", |_| {});
            return;
        }
        self.cloud.plane.stop_service(&self.arn).await;
        let now = self.cloud.shared.clock.now();
        self.end("SUCCEEDED", status, |s| {
            s.deployment = None;
            if status == "DELETED" {
                s.deleted = Some(now);
            }
        });
    }

    async fn deploy(&self) {
        match self.forward().await {
            Ok(handle) => {
                let mut old = None;
                self.end("SUCCEEDED", "RUNNING", |s| {
                    s.active = Some(s.desired.clone());
                    old = s.deployment.replace(handle);
                });
                self.retire(old);
            }
            Err(failure) => self.back(failure).await,
        }
    }

    fn retire(&self, handle: Option<DeploymentHandle>) {
        let plane = self.cloud.plane.clone();
        if let Some(handle) = handle {
            self.cloud.spawn(async move { plane.retire(handle).await });
        }
    }

    /// Pull, provision, health check, traffic.
    async fn forward(&self) -> Result<DeploymentHandle, Failure> {
        let clock = &self.cloud.shared.clock;
        let wanted = self.cloud.shared.read(|s| s.apprunner.services.get(&self.arn).map(|s| s.desired.clone()));
        let Some(wanted) = wanted else { return Err(Failure::Final("the service is gone".into())) };
        let spec = self.spec(&wanted).map_err(Failure::Early)?;
        if self.work == Work::Create {
            clock.pass(takes::BEFORE_PULL).await;
        }
        clock.pass(takes::PULL).await;
        self.say("Successfully pulled your application image from ECR.");
        self.say("Provisioning instances and deploying image.");
        clock.pass(if self.work == Work::Create { takes::PULL } else { takes::PROVISION }).await;
        if self.fault(&[Fault::Fail]) {
            return Err(Failure::Final("Internal failure.".into()));
        }
        let (protocol, port) = (if spec.health.http_path.is_some() { "HTTP" } else { "TCP" }, spec.port);
        let handle = self.cloud.plane.deploy(spec).await.map_err(|failure| self.explain(&failure, protocol, port))?;
        if self.fault(&[Fault::Rollback]) {
            self.cloud.plane.retire(handle).await;
            let failure = DeploymentFailure::Unhealthy(String::new());
            return Err(self.explain(&failure, protocol, port));
        }
        self.say("Health check is successful. Routing traffic to application.");
        self.cloud.plane.shift(&handle).await;
        if self.fault(&[Fault::RollbackAfterShift]) {
            clock.pass(takes::SERVE_BEFORE_ROLLBACK).await;
            return Err(Failure::Late("Health check failed.".into(), handle));
        }
        clock.pass(takes::SETTLE).await;
        self.say(match self.work {
            Work::Update => "New configuration is deployed.",
            Work::Create | Work::Deploy | Work::Resume | Work::Pause | Work::Delete => {
                "New application and configuration is deployed."
            }
        });
        Ok(handle)
    }

    fn explain(&self, failure: &DeploymentFailure, protocol: &str, port: u16) -> Failure {
        Failure::Early(match failure {
            DeploymentFailure::NoSuchImage(image) => {
                self.say(
                    "Failed to pull your application image. Be sure you configure your service with a valid access \
                          role to your ECR repository.",
                );
                format!("Failed to pull image {image}.")
            }
            DeploymentFailure::Exited { code } => {
                let code = code.map_or("137".to_owned(), |code| code.to_string());
                self.say(&format!(
                    "Your application stopped or failed to start. See logs for more information. Container exit code: {code}"
                ));
                format!("Container exit code: {code}")
            }
            DeploymentFailure::Unhealthy(_) => {
                self.say(&format!(
                    "Health check failed on protocol `{protocol}` [Port: '{port}']. Check your configured port number."
                ));
                "Health check failed.".to_owned()
            }
        })
    }

    /// A failed create stays failed; a failed update returns to the previous configuration and says RUNNING.
    async fn back(&self, failure: Failure) {
        let clock = &self.cloud.shared.clock;
        let (reason, late, last) = match failure {
            Failure::Early(reason) => (reason, None, false),
            Failure::Late(reason, handle) => (reason, Some(handle), false),
            Failure::Final(reason) => (reason, None, true),
        };
        let id = self.id.replace('-', "");
        self.say("Failed to deploy your application image.");
        self.say(&format!("Deployment with ID : {id} failed. Failure reason : {reason}"));
        if self.work == Work::Create {
            clock.pass(takes::GIVE_UP).await;
            self.say("Service creation failed. For details, see service logs.");
            self.end("FAILED", "CREATE_FAILED", |_| {});
            return;
        }
        if late.is_none() && !last {
            clock.pass(takes::GIVE_UP).await;
        }
        self.say(if self.work == Work::Update {
            "Service update failed. For details, see service logs."
        } else {
            "Deployment failed. For details, see service logs."
        });
        if self.work == Work::Resume {
            self.end("FAILED", "PAUSED", |_| {});
            return;
        }
        if last {
            self.end("FAILED", "RUNNING", restore);
            return;
        }
        self.set("ROLLBACK_IN_PROGRESS");
        clock.pass(takes::ROLLBACK).await;
        let Some(new) = late else {
            self.end("ROLLBACK_SUCCEEDED", "RUNNING", restore);
            return;
        };
        self.return_traffic(new).await;
    }

    /// The old configuration is deployed anew, its references resolved again, while the new instances still serve.
    async fn return_traffic(&self, new: DeploymentHandle) {
        let active = self.cloud.shared.read(|s| s.apprunner.services.get(&self.arn).and_then(|s| s.active.clone()));
        let spec = active.ok_or_else(String::new).and_then(|config| self.spec(&config));
        let handle = match spec {
            Ok(spec) => self.cloud.plane.deploy(spec).await.map_err(|failure| failure.to_string()),
            Err(reason) => Err(reason),
        };
        match handle {
            Ok(handle) => {
                self.cloud.plane.shift(&handle).await;
                let mut old = None;
                self.end("ROLLBACK_SUCCEEDED", "RUNNING", |s| {
                    restore(s);
                    old = s.deployment.replace(handle);
                });
                self.retire(old);
                self.retire(Some(new));
            }
            Err(reason) => {
                self.say(&format!("Rollback failed. {reason}"));
                let mut old = None;
                self.end("ROLLBACK_FAILED", "RUNNING", |s| old = s.deployment.replace(new));
                self.retire(old);
            }
        }
    }

    fn spec(&self, config: &Config) -> Result<DeploymentSpec, String> {
        let speed = self.cloud.shared.clock.speed();
        let spec = self.cloud.shared.change(|state| spec::of(state, &self.arn, &self.id, config, speed));
        if let Err(reason) = &spec {
            self.say(&format!("Failed to retrieve a secret for the application. {reason}"));
        }
        spec
    }
}

fn restore(service: &mut Service) {
    if let Some(active) = &service.active {
        service.desired = active.clone();
    }
}
