//! The data plane: what really runs behind the emulated clouds. Redis servers, loopback addresses that know who
//! connects, service instances as processes, the HTTPS front. Decides nothing about states or permissions.

mod address;
mod authority;
mod child;
mod deployment;
mod front;
mod gate;
mod hosts;
mod image;
mod instance;
mod relay;
mod seam;
mod slice;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::dataplane::{
    DeploymentFailure, DeploymentHandle, DeploymentSpec, Journal, Network, PlaneError, StoreKind, StoreSpec, Vantage,
};
use crate::plane::address::{Behind, Directory};
use crate::plane::authority::Authority;
use crate::plane::child::Launcher;
use crate::plane::deployment::{Deployment, Site};
use crate::plane::front::{Front, Limits};
use crate::plane::image::Images;
use crate::plane::slice::Slice;
use crate::plane::store::{Ground, Store};

const HTTPS: u16 = 443;
/// Instead of 443 for who may not bind it. The slice is ours, so it is free unless something listens everywhere.
const HTTPS_UNPRIVILEGED: u16 = 8443;
/// ElastiCache Serverless offers its reader endpoint under the same name.
const SERVERLESS_READER: u16 = 6380;
/// When the whole sandbox ends, nobody waits for long requests.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// How a plane is set up.
#[derive(Debug, Clone)]
pub struct PlaneConfig {
    /// Files of this sandbox.
    pub dir: PathBuf,
    /// How long old and new instances serve side by side in a deployment (wall time).
    pub overlap: Duration,
    /// The longest a request may take; App Runner's is 120 s.
    pub request_limit: Duration,
    /// Whether the front passes upgrades on; App Runner's does not.
    pub web_sockets: bool,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// This program's binary, which starts children.
    pub launcher: PathBuf,
    /// Where programs are found, as in `PATH`.
    pub path: String,
    /// `HOME` of service instances.
    pub home: String,
}

/// A running data plane.
pub struct Plane {
    config: PlaneConfig,
    slice: Arc<Slice>,
    authority: Arc<Authority>,
    ca_file: PathBuf,
    public_port: u16,
    launcher: Launcher,
    server: PathBuf,
    journal: Arc<dyn Journal>,
    front: Arc<Front>,
    directory: Directory,
    images: RwLock<Images>,
    stores: Mutex<HashMap<String, Arc<Store>>>,
    deployments: Mutex<Deployments>,
    last: AtomicU64,
}

#[derive(Default)]
struct Deployments {
    running: HashMap<u64, Arc<Deployment>>,
    /// The deployment of each service that got traffic last.
    current: HashMap<String, u64>,
}

impl Plane {
    /// Takes addresses and makes the certificate authority; starts nothing yet. To be called inside a runtime.
    ///
    /// # Errors
    /// When no loopback slice is free, a directory cannot be written or no Redis server is installed.
    pub fn new(
        config: PlaneConfig,
        network: Arc<dyn Network>,
        journal: Arc<dyn Journal>,
    ) -> Result<Arc<Self>, PlaneError> {
        let io = |path: &Path, e: std::io::Error| PlaneError::Failed(format!("{}: {e}", path.display()));
        let server = child::find(&["redis-server", "valkey-server"], &config.path, "redis-server")?;
        let slice = Arc::new(Slice::take()?);
        let authority = Arc::new(Authority::new()?);
        let hosts_dir = config.dir.join("hosts");
        for dir in [&hosts_dir, &config.dir.join("stores")] {
            // Left over by a sandbox that was killed.
            let _ = std::fs::remove_dir_all(dir);
            std::fs::create_dir_all(dir).map_err(|e| io(dir, e))?;
        }
        let ca_file = config.dir.join("ca.pem");
        std::fs::write(&ca_file, authority.root_pem()).map_err(|e| io(&ca_file, e))?;
        let limits = Limits { request: config.request_limit, web_sockets: config.web_sockets };
        let front = Arc::new(Front::new(authority::server_config(authority.clone())?, limits));
        let door = front.clone();
        let directory = Directory::new(
            slice.clone(),
            network,
            Arc::new(move |stream, peer| drop(tokio::spawn(door.clone().serve(stream, peer)))),
            hosts_dir,
        );
        directory.shared_vantage(&Vantage::Internet)?;
        Ok(Arc::new(Self {
            public_port: public_port(slice.own()),
            launcher: Launcher::new(config.launcher.clone()).map_err(|e| io(&config.launcher, e))?,
            server,
            slice,
            authority,
            ca_file,
            journal,
            front,
            directory,
            config,
            images: RwLock::default(),
            stores: Mutex::default(),
            deployments: Mutex::default(),
            last: AtomicU64::new(0),
        }))
    }

    /// An address of this sandbox alone, for the clouds' endpoint.
    pub fn own_address(&self) -> Ipv4Addr {
        self.slice.own()
    }

    /// The port of public HTTPS hosts: 443, or another for who may not bind it; a ServiceUrl then carries it.
    pub fn public_port(&self) -> u16 {
        self.public_port
    }

    /// The certificate to trust.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Registers a local command as an image; replaces one of the same name.
    ///
    /// # Errors
    /// Says what is wrong with the command line.
    pub fn add_image(&self, name: &str, command: &str) -> Result<(), String> {
        self.images.write().unwrap_or_else(PoisonError::into_inner).add(name, command)
    }

    /// Registered images.
    pub fn images(&self) -> BTreeMap<String, Vec<String>> {
        self.images.read().unwrap_or_else(PoisonError::into_inner).list().clone()
    }

    /// The hosts file by which a command sees the world as the internet, a VPC or the current instances of a service
    /// do: `internet`, `vpc:ID`, `service:NAME`.
    ///
    /// # Errors
    /// Says what is wrong with `from` and what it can be.
    pub fn hosts_file(&self, from: &str) -> Result<PathBuf, PlaneError> {
        if from == "internet" {
            return self.directory.shared_vantage(&Vantage::Internet);
        }
        if let Some(id) = from.strip_prefix("vpc:") {
            return self.directory.shared_vantage(&Vantage::Vpc(id.to_owned()));
        }
        let Some(name) = from.strip_prefix("service:") else {
            return Err(PlaneError::Failed(format!("--from {from}: must be internet, vpc:ID or service:NAME")));
        };
        let deployments = self.deployments();
        let mut current = deployments.current.values().filter_map(|id| deployments.running.get(id));
        current
            .find(|d| d.service_name == name || d.service == name)
            .map(|d| d.hosts.clone())
            .ok_or_else(|| PlaneError::Failed(format!("--from {from}: no service of that name has running instances")))
    }

    /// What runs, for people and tests: stores, deployments, images. No secret is in it.
    pub fn describe(&self) -> Value {
        let stores: Vec<Value> = self.stores().values().map(|store| store.describe()).collect();
        let deployments: Vec<Value> = self.deployments().running.values().map(|d| d.describe()).collect();
        let images: Vec<Value> = self
            .images()
            .into_iter()
            .map(|(name, command)| json!({ "name": name, "command": command.join(" ") }))
            .collect();
        json!({ "stores": stores, "deployments": deployments, "images": images })
    }

    /// Ends all processes.
    pub async fn end(&self) {
        let deployments: Vec<_> = self.deployments().running.drain().map(|(_, deployment)| deployment).collect();
        let stores: Vec<_> = self.stores().drain().map(|(_, store)| store).collect();
        let all = async {
            join_all(deployments.iter().map(|d| d.end())).await;
            join_all(stores.iter().map(|s| s.end())).await;
        };
        // What is left then is killed as our child.
        let _ = tokio::time::timeout(LAST_GRACE, all).await;
    }

    fn deployments(&self) -> MutexGuard<'_, Deployments> {
        self.deployments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stores(&self) -> MutexGuard<'_, HashMap<String, Arc<Store>>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, id: &str) -> Result<Arc<Store>, PlaneError> {
        self.stores().get(id).cloned().ok_or_else(|| PlaneError::NoSuchStore(id.to_owned()))
    }

    async fn start_store(&self, spec: StoreSpec) -> Result<(), PlaneError> {
        if self.stores().contains_key(&spec.id) {
            return Err(PlaneError::StoreExists(spec.id));
        }
        let dir = self.config.dir.join("stores");
        let (slice, authority, launcher) = (&*self.slice, &*self.authority, &self.launcher);
        let ground = Ground { slice, authority, launcher, server: &self.server, dir: &dir };
        let store = Arc::new(Store::start(spec, &ground).await?);
        self.stores().insert(store.spec.id.clone(), store.clone());
        let behind = Behind::Store { id: store.spec.id.clone(), wire: store.wire.clone() };
        for host in &store.spec.hosts {
            for port in ports(&store.spec) {
                self.directory.add(host, port, &behind)?;
            }
        }
        Ok(())
    }

    async fn end_store(&self, id: &str) {
        let Some(store) = self.stores().remove(id) else { return };
        for host in &store.spec.hosts {
            ports(&store.spec).for_each(|port| self.directory.remove(host, port));
        }
        store.end().await;
    }

    async fn start_deployment(&self, spec: DeploymentSpec) -> Result<DeploymentHandle, DeploymentFailure> {
        let command = self.command(&spec)?;
        let plane = |e: PlaneError| DeploymentFailure::Unhealthy(e.to_string());
        self.directory.add_once(&spec.host, self.public_port, &Behind::Front).map_err(plane)?;
        let seen_as = Vantage::Deployment { service: spec.service.clone(), egress: spec.egress.clone() };
        let (vantage, hosts) = self.directory.open_vantage(seen_as).map_err(plane)?;
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let site = Site {
            id,
            vantage,
            hosts,
            dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            command,
            image_env: self.image_env(),
            grace: self.config.grace,
            launcher: self.launcher.clone(),
            journal: self.journal.clone(),
        };
        let service = spec.service.clone();
        match Deployment::start(spec, site, &self.slice).await {
            Ok(deployment) => {
                self.deployments().running.insert(id, Arc::new(deployment));
                Ok(DeploymentHandle { service, id })
            }
            Err(failure) => {
                self.directory.close_vantage(vantage);
                Err(failure)
            }
        }
    }

    fn command(&self, spec: &DeploymentSpec) -> Result<Vec<String>, DeploymentFailure> {
        if let Some(line) = spec.start_command.as_deref().filter(|line| !line.trim().is_empty()) {
            return image::words(line).map_err(DeploymentFailure::Unhealthy);
        }
        let images = self.images.read().unwrap_or_else(PoisonError::into_inner);
        images.command(&spec.image).cloned().ok_or_else(|| DeploymentFailure::NoSuchImage(spec.image.clone()))
    }

    /// What every image has of its own: programs, a home, the roots it trusts.
    fn image_env(&self) -> BTreeMap<String, String> {
        let mut env = trust(&self.ca_file);
        env.insert("PATH".to_owned(), self.config.path.clone());
        env.insert("HOME".to_owned(), self.config.home.clone());
        env
    }

    async fn shift_traffic(&self, to: &DeploymentHandle) {
        let Some(deployment) = self.deployments().running.get(&to.id).cloned() else { return };
        let routes = &self.front.routes;
        let beside_others = routes.join(&deployment.host, deployment.id, &deployment.upstreams());
        self.deployments().current.insert(deployment.service.clone(), deployment.id);
        if beside_others {
            sleep(self.config.overlap).await;
        }
        routes.keep_only(&deployment.host, deployment.id);
    }

    async fn end_deployment(&self, id: u64) {
        let Some(deployment) = self.deployments().running.get(&id).cloned() else { return };
        self.front.routes.leave(&deployment.host, id);
        deployment.drain_and_end(self.front.request_limit()).await;
        self.directory.close_vantage(deployment.vantage);
        let mut deployments = self.deployments();
        deployments.running.remove(&id);
        deployments.current.retain(|_, current| *current != id);
    }
}

/// Variables by which OpenSSL, Node, Python, curl and the AWS CLI find the certificate to trust.
pub fn trust(ca_file: &Path) -> BTreeMap<String, String> {
    ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"]
        .into_iter()
        .map(|name| (name.to_owned(), ca_file.display().to_string()))
        .collect()
}

fn ports(spec: &StoreSpec) -> impl Iterator<Item = u16> + use<> {
    let reader = (spec.kind == StoreKind::ElastiCacheServerless).then_some(SERVERLESS_READER);
    std::iter::once(spec.port).chain(reader)
}

fn public_port(address: Ipv4Addr) -> u16 {
    match TcpListener::bind((address, HTTPS)) {
        Ok(_) => HTTPS,
        Err(_) => HTTPS_UNPRIVILEGED,
    }
}
