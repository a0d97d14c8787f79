//! The control plane of this process with our definition on it, and how it is asked.

use std::sync::OnceLock;

use axum::http;
use control_plane::ControlPlane;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use super::ground::until;

/// The collection of our objects.
pub(crate) const OBJECTS: &str = "sessionbackends";

/// The shared control plane, our definition established; nothing where there is none.
pub(crate) fn plane() -> Option<&'static ControlPlane> {
    static DEFINED: OnceLock<()> = OnceLock::new();
    let plane = ControlPlane::shared().unwrap_or_else(|error| panic!("{error}"))?;
    DEFINED.get_or_init(|| define(plane, &sessionbackend::api::crd_yaml().unwrap()));
    Some(plane)
}

/// Installs a definition as a person does, and waits until the API server serves it.
pub(crate) fn define(plane: &ControlPlane, definition: &str) {
    plane.must_with("apply --server-side --validate=strict -f -", definition).unwrap();
    let name = format!("customresourcedefinition/{OBJECTS}.sessionbackend.dev");
    // kubectl gives up where there is no condition at all yet.
    until("the definition is established", || {
        let line = format!("wait --for=condition=Established --timeout=60s {name}");
        plane.must(&line).map_err(|error| error.to_string())
    });
}

/// A client of the API server as an administrator, for one runtime.
pub(crate) async fn client(plane: &ControlPlane) -> Client {
    let kubeconfig = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// One request about our objects; its answer, or the server's refusal.
pub(crate) async fn ask(client: &Client, method: &str, path: &str, body: &Value) -> Result<Value, kube::core::Status> {
    let request = http::Request::builder().method(method).uri(format!("/apis/sessionbackend.dev/v1alpha1/{path}"));
    let request = request.header("content-type", "application/json").body(serde_json::to_vec(body).unwrap()).unwrap();
    match client.request::<Value>(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(other) => panic!("{method} {path}: {other}"),
    }
}
