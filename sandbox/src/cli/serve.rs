//! `serve`: the daemon. Ties the control planes to the data plane, listens, and ends everything on a signal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::ground::{Ground, lock};
use super::{Setup, environment};
use crate::cloud::{Cloud, Settings, Shared};
use crate::plane::{Plane, PlaneConfig};
use crate::wire::{self, Extra};

/// The emulated AWS endpoint; the address is this sandbox's alone.
const ENDPOINT_PORT: u16 = 4566;

pub(super) fn serve(dir: &Path, setup: &Setup) -> Result<(), String> {
    let Some(_held) = lock(dir)? else {
        return Err(format!("a sandbox runs in {} already", dir.display()));
    };
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
    allow_many_files();
    // A session of its own: a terminal that closes must not take the daemon along, and what it leaves behind when
    // it is killed can be told by it.
    let _ = nix::unistd::setsid();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())?;
    let ended = runtime.block_on(run(dir, setup));
    Ground::forget(dir);
    ended
}

async fn run(dir: &Path, setup: &Setup) -> Result<(), String> {
    let env = environment();
    let config = PlaneConfig {
        dir: dir.to_owned(),
        overlap: setup.overlap,
        request_limit: setup.request_limit,
        web_sockets: !setup.refuse_web_sockets,
        grace: setup.grace,
        launcher: PathBuf::from("/proc/self/exe"),
        path: env.get("PATH").cloned().unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned()),
        home: env.get("HOME").cloned().unwrap_or_else(|| "/".to_owned()),
    };
    let settings = Settings { speed: setup.speed, ..Settings::default() };
    let shared = Shared::new(settings.clone());
    let plane = Plane::new(config, shared.clone(), shared.clone()).map_err(|e| e.to_string())?;
    for (name, command) in &setup.images {
        plane.add_image(name, command)?;
    }
    let cloud = Cloud::new(shared, plane.clone());
    let listener = TcpListener::bind((plane.own_address(), ENDPOINT_PORT)).await;
    let listener = listener.map_err(|e| format!("{}:{ENDPOINT_PORT}: {e}", plane.own_address()))?;
    let endpoint = listener.local_addr().map_err(|e| e.to_string())?;
    let (mut term, mut int) = (listen_for(SignalKind::terminate())?, listen_for(SignalKind::interrupt())?);
    let serving = wire::serve(listener, cloud, routes(plane.clone()));
    let ready = ground(&settings, endpoint, &plane).write(dir).map_err(|e| format!("{}: {e}", dir.display()));
    ready?;
    let ended = tokio::select! {
        ended = serving => ended.map_err(|e| e.to_string()),
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
    };
    plane.end().await;
    ended
}

/// A closed gate and a client each cost a few descriptors; 1024, the usual soft limit, is soon spent.
fn allow_many_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn listen_for(kind: SignalKind) -> Result<tokio::signal::unix::Signal, String> {
    signal(kind).map_err(|e| format!("signals: {e}"))
}

fn ground(settings: &Settings, endpoint: std::net::SocketAddr, plane: &Plane) -> Ground {
    let port = plane.public_port();
    let port_text = if port == 443 { String::new() } else { format!(":{port}") };
    Ground {
        pid: i32::try_from(std::process::id()).unwrap_or_default(),
        endpoint,
        aws_endpoint_url: format!("http://{endpoint}"),
        upstash_api_url: format!("https://{}{port_text}", wire::UPSTASH_HOST),
        public_port: port,
        ca_file: plane.ca_file().to_owned(),
        account: settings.account.clone(),
        region: settings.region.clone(),
        upstash_email: settings.upstash_email.clone(),
        upstash_api_key: settings.upstash_key.clone(),
    }
}

/// The data plane's part below `/_sandbox/`.
fn routes(plane: Arc<Plane>) -> Extra {
    Arc::new(move |route, input| {
        let plane = plane.clone();
        async move {
            match route.as_str() {
                "hosts" => Some(hosts(&plane, &input)),
                "image" => Some(image(&plane, &input)),
                "state" => Some(Ok(plane.describe())),
                _ => None,
            }
        }
        .boxed()
    })
}

fn hosts(plane: &Plane, input: &Value) -> Result<Value, String> {
    let from = input["from"].as_str().unwrap_or("internet");
    plane.hosts_file(from).map(|path| json!({ "hosts": path })).map_err(|e| e.to_string())
}

fn image(plane: &Plane, input: &Value) -> Result<Value, String> {
    if let (Some(name), Some(command)) = (input["name"].as_str(), input["command"].as_str()) {
        plane.add_image(name, command)?;
    }
    Ok(json!(plane.images()))
}
