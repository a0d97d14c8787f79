//! The plane as the control plane knows it: every call of the seam, passed to where it is done.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};

use crate::dataplane::{
    DataPlane, DeploymentFailure, DeploymentHandle, DeploymentSpec, PlaneError, StoreSpec, StoreUsage,
};
use crate::plane::Plane;
use crate::plane::address::Behind;
use crate::plane::front::Upstream;

impl DataPlane for Plane {
    fn public_port(&self) -> u16 {
        Self::public_port(self)
    }

    fn open_store(&self, spec: StoreSpec) -> BoxFuture<'_, Result<(), PlaneError>> {
        self.start_store(spec).boxed()
    }

    fn close_store<'a>(&'a self, id: &'a str) -> BoxFuture<'a, ()> {
        self.end_store(id).boxed()
    }

    fn set_passwords<'a>(&'a self, id: &'a str, passwords: Vec<String>) -> BoxFuture<'a, Result<(), PlaneError>> {
        async move { self.store(id)?.set_passwords(&passwords).await }.boxed()
    }

    fn deny_command<'a>(
        &'a self,
        id: &'a str,
        command: &'a str,
        denied: bool,
    ) -> BoxFuture<'a, Result<(), PlaneError>> {
        async move { self.store(id)?.deny(command, denied).await }.boxed()
    }

    fn set_latency<'a>(&'a self, id: &'a str, latency: Duration) -> BoxFuture<'a, ()> {
        async move {
            if let Ok(store) = self.store(id) {
                store.wire.set_latency(latency);
            }
        }
        .boxed()
    }

    fn freeze_store<'a>(&'a self, id: &'a str, frozen: bool) -> BoxFuture<'a, ()> {
        async move {
            if let Ok(store) = self.store(id) {
                store.freeze(frozen).await;
            }
        }
        .boxed()
    }

    fn ask_store<'a>(&'a self, id: &'a str, command: Vec<String>) -> BoxFuture<'a, Result<String, PlaneError>> {
        async move { self.store(id)?.ask(&command.iter().map(String::as_str).collect::<Vec<_>>()).await }.boxed()
    }

    fn usage<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<StoreUsage, PlaneError>> {
        async move { self.store(id)?.usage().await }.boxed()
    }

    fn add_public_host<'a>(&'a self, host: &'a str, backend: SocketAddr) -> BoxFuture<'a, Result<(), PlaneError>> {
        async move {
            self.front.routes.join(host, 0, &[Arc::new(Upstream::new(backend, true))]);
            self.directory.add_once(host, self.public_port, &Behind::Front)
        }
        .boxed()
    }

    fn deploy(&self, spec: DeploymentSpec) -> BoxFuture<'_, Result<DeploymentHandle, DeploymentFailure>> {
        self.start_deployment(spec).boxed()
    }

    fn shift<'a>(&'a self, to: &'a DeploymentHandle) -> BoxFuture<'a, ()> {
        self.shift_traffic(to).boxed()
    }

    fn retire(&self, deployment: DeploymentHandle) -> BoxFuture<'_, ()> {
        async move { self.end_deployment(deployment.id).await }.boxed()
    }

    fn stop_service<'a>(&'a self, service: &'a str) -> BoxFuture<'a, ()> {
        async move {
            let ids: Vec<_> =
                self.deployments().running.values().filter(|d| d.service == service).map(|d| d.id).collect();
            join_all(ids.into_iter().map(|id| self.end_deployment(id))).await;
        }
        .boxed()
    }
}
