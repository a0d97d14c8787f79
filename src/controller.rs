//! The second runtime: the same engine as a Kubernetes controller. Watches `SessionBackend`s in the namespaces it was given,
//! turns each object's engine while it holds the lease, and writes what it finds into the object's status. Decides nothing
//! about clouds; keeps nothing that a restart would lose.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates};
use kube::{Client, ResourceExt as _};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::lease::{Election, Leadership};
use self::object::Object;
use crate::api::{SessionBackend, SessionBackendStatus};
use crate::clock::{Clock, Time as _};
use crate::connect::{Clouds, Place};
use crate::error::chain;
use crate::metrics;
use crate::probes::{self, Readiness};
use crate::stop::Stop;

mod api;
mod grants;
mod lease;
mod led;
mod ledger;
mod object;
mod reconcile;
mod secrets;
mod stopped;
mod words;

pub use grants::{Grant, Grants};
pub use ledger::{FINALIZER, finalizer};

/// What readiness says of the lease.
const LEASE: &str = "lease";
/// How long visits in flight may take once the word to stop has come: a cloud call has 30 s.
const GRACE: Duration = Duration::from_secs(45);
/// A watch that starts says nothing. After so long without a failure it has started: it is tried again within a minute.
const BLIND: Duration = Duration::from_secs(90);
/// How long the API server keeps an event.
const KEPT: Duration = Duration::from_hours(1);
/// Before the first list of a namespace has come.
const UNLISTED: &str = "the objects have not been listed yet";

/// How a controller is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Tells installations in one AWS account apart.
    pub installation: String,
    /// The namespace of the lease, and of the objects where no other is named; that of the credentials where it is not said.
    pub namespace: Option<String>,
    /// The namespaces of the objects.
    pub watch: Vec<String>,
    /// Where probes and metrics are served.
    pub listen: SocketAddr,
    /// Who this process is among the replicas; a name of its own where it is not said.
    pub identity: Option<String>,
    /// The lease of the replicas.
    pub lease: String,
    /// How many objects are worked on at once, in all namespaces; those that may have two stores in use come on
    /// top and never wait.
    pub concurrency: u16,
    /// Where Upstash's management API is, if it is elsewhere.
    pub upstash_url: Option<String>,
    /// What the objects of a namespace may name.
    pub grants: Grants,
}

/// Why a controller could not be run, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No credentials for a cluster.
    #[error("no cluster: {}; give a kubeconfig (KUBECONFIG), or run in a pod with a service account", chain(.0))]
    NoCluster(Box<kube::Error>),
    /// The probes cannot be served.
    #[error("probes and metrics cannot be served at {at}: {source}; choose another --listen")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Signals cannot be heard.
    #[error("signals cannot be listened to: {0}")]
    Signals(std::io::Error),
    /// The clients of the clouds cannot be set up.
    #[error("{0}; look at SSL_CERT_FILE")]
    Clouds(crate::connect::Error),
    /// Another replica acts.
    #[error("the lease {0} was lost; another replica acts, and this process starts anew")]
    Deposed(String),
}

/// What every reconciliation shares.
struct Context {
    client: Client,
    kind: ApiResource,
    clouds: Clouds,
    installation: String,
    grants: Grants,
    leadership: Leadership,
    stop: Stop,
    identity: String,
    /// One permit a visit.
    turns: Semaphore,
    /// What the watch of each namespace has seen last.
    seen: Mutex<HashMap<String, Store<DynamicObject>>>,
    objects: Mutex<HashMap<ObjectRef<DynamicObject>, Known>>,
    /// Where objects live whose spec cannot be understood.
    places: Mutex<HashMap<ObjectRef<DynamicObject>, Placed>>,
    /// Objects that another installation holds, which is said once an hour.
    foreign: Mutex<HashMap<ObjectRef<DynamicObject>, Foreign>>,
    /// What was last said of objects that have no world.
    told: Mutex<HashMap<ObjectRef<DynamicObject>, Told>>,
}

/// An object, and the uid it is known under: a name can come again.
type Known = (Option<String>, Arc<tokio::sync::Mutex<Object>>);
/// Where an object lives, and its uid.
type Placed = (Option<String>, Arc<Place>);
/// An object that another installation holds.
struct Foreign {
    uid: Option<String>,
    holder: String,
    /// When that was said last.
    told: Instant,
}

impl Foreign {
    /// Whether this is said already, and can still be read.
    fn is_told(&self, uid: Option<&String>, holder: &str, now: Instant) -> bool {
        (self.uid.as_ref(), &*self.holder) == (uid, holder) && now.duration_since(self.told) < KEPT
    }
}
/// A status, and the uid of whom it was said.
type Told = (Option<String>, SessionBackendStatus);

impl Context {
    /// An object as the watch has seen it last; nothing where it is gone.
    fn newest(&self, key: &ObjectRef<DynamicObject>) -> Option<Arc<DynamicObject>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(key.namespace.as_deref().unwrap_or_default())?.get(key)
    }

    /// Ends what runs here for objects of `namespace` that a new list of it does not have any more.
    async fn forget_all_but(&self, namespace: &str, listed: &HashSet<ObjectRef<DynamicObject>>) {
        let mut known: Vec<_> = self.objects().keys().cloned().collect();
        known.extend(self.places().keys().cloned());
        let of_it = known.iter().filter(|key| key.namespace.as_deref() == Some(namespace));
        for key in of_it.filter(|key| !listed.contains(*key)) {
            self.forget(key).await;
        }
    }

    fn objects(&self) -> MutexGuard<'_, HashMap<ObjectRef<DynamicObject>, Known>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, HashMap<ObjectRef<DynamicObject>, Placed>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn foreign(&self) -> MutexGuard<'_, HashMap<ObjectRef<DynamicObject>, Foreign>> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, key: &ObjectRef<DynamicObject>) -> Option<Known> {
        self.objects().get(key).cloned()
    }

    fn keep(
        &self,
        key: &ObjectRef<DynamicObject>,
        uid: Option<String>,
        object: Object,
    ) -> Arc<tokio::sync::Mutex<Object>> {
        let object = Arc::new(tokio::sync::Mutex::new(object));
        self.untell(key);
        self.objects().insert(key.clone(), (uid, Arc::clone(&object)));
        // What ran there is the object's by now.
        self.places().remove(key);
        object
    }

    /// What was last said is what the status says.
    fn untell(&self, key: &ObjectRef<DynamicObject>) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Where an object lives that is to be connected. Another one that had its name is forgotten; what runs for this one
    /// goes on until somebody has taken it over.
    async fn placed(&self, key: &ObjectRef<DynamicObject>, uid: Option<&String>) -> Option<Arc<Place>> {
        let known = self.objects().get(key).map(|(of, _)| of.clone());
        let placed = self.places().get(key).cloned();
        let of = known.or_else(|| placed.as_ref().map(|(of, _)| of.clone()));
        if of.is_some_and(|of| of.as_ref() != uid) {
            self.forget(key).await;
            return None;
        }
        placed.map(|(_, place)| place)
    }

    fn told(&self, key: &ObjectRef<DynamicObject>, uid: Option<&String>) -> Option<SessionBackendStatus> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(key).filter(|(known, _)| known.as_ref() == uid).map(|(_, status)| status.clone())
    }

    fn tell(&self, key: ObjectRef<DynamicObject>, uid: Option<String>, status: SessionBackendStatus) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (uid, status));
    }

    /// Forgets an object, and ends what it runs in this process: whoever comes next need not wait for a copier's fence.
    async fn forget(&self, key: &ObjectRef<DynamicObject>) {
        metrics::forget(key.namespace.as_deref().unwrap_or_default(), &key.name);
        self.untell(key);
        self.foreign().remove(key);
        let (object, place) = (self.objects().remove(key), self.places().remove(key));
        if let Some((_, object)) = object {
            object.lock().await.connection.copiers.stop().await;
        }
        if let Some((_, place)) = place {
            place.copiers.stop().await;
        }
    }

    /// Ends what all objects run in this process.
    async fn end(&self) {
        let (all, places) = (std::mem::take(&mut *self.objects()), std::mem::take(&mut *self.places()));
        let objects = all.into_values().map(|(_, object)| async move {
            object.lock().await.connection.copiers.stop().await;
        });
        let places = places.into_values().map(|(_, place)| async move { place.copiers.stop().await });
        futures::join!(futures::future::join_all(objects), futures::future::join_all(places));
    }
}

/// Runs until it is asked to stop, or another replica acts.
///
/// # Errors
/// When it cannot begin, or has lost the lease.
pub async fn run(options: Options) -> Result<(), Error> {
    let Options { installation, namespace, watch, listen, identity, lease, concurrency, upstash_url, grants } = options;
    let stop = Stop::on_signals(|text| tracing::info!("{text}")).map_err(Error::Signals)?;
    let clouds = Clouds::new(upstash_url.as_deref()).map_err(Error::Clouds)?;
    let readiness = Readiness::default();
    readiness.set(LEASE, Some("not asked for yet".to_owned()));
    let at = probes::serve(listen, readiness.clone()).await.map_err(|source| Error::Listen { at: listen, source })?;
    let client = Client::try_default().await.map_err(|error| Error::NoCluster(Box::new(error)))?;
    let own = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let watch = if watch.is_empty() { vec![own.clone()] } else { watch };
    let identity = identity.unwrap_or_else(|| format!("sessionbackend-{:016x}", rand::random::<u64>()));
    tracing::info!(%at, namespace = own, watch = watch.join(","), identity, installation, "started");

    let election = Election::new(Api::namespaced(client.clone(), &own), &lease, &identity);
    let trouble = |error: Option<&api::Error>| readiness.set(LEASE, error.map(ToString::to_string));
    metrics::leads(false);
    tokio::select! {
        () = election.win(trouble) => {}
        () = stop.asked() => return Ok(()),
    }
    metrics::leads(true);
    tracing::info!(identity, "this replica acts");
    let context = Arc::new(Context {
        identity,
        kind: ApiResource::erase::<SessionBackend>(&()),
        client,
        clouds,
        installation,
        grants,
        leadership: election.leadership(),
        stop: stop.clone(),
        turns: Semaphore::new(usize::from(concurrency)),
        seen: Mutex::default(),
        objects: Mutex::default(),
        places: Mutex::default(),
        foreign: Mutex::default(),
        told: Mutex::default(),
    });
    let controllers = futures::future::join_all(
        watch.iter().map(|namespace| control(Arc::clone(&context), namespace, readiness.clone())),
    );
    let deposed = tokio::select! {
        _ = controllers => false,
        () = election.keep() => true,
    };
    if deposed {
        // What the copiers still do is fenced off; the process ends at once and starts anew.
        metrics::leads(false);
        return Err(Error::Deposed(lease));
    }
    context.end().await;
    election.resign().await;
    tracing::info!("ended");
    Ok(())
}

/// Watches one namespace until it is asked to stop.
async fn control(context: Arc<Context>, namespace: &str, readiness: Readiness) {
    let kind = context.kind.clone();
    let objects: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
    let writer = reflector::store::Writer::new(kind.clone());
    let reader = writer.as_reader();
    context.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.to_owned(), reader.clone());
    let subject = format!("namespace {namespace}");
    readiness.set(&subject, Some(UNLISTED.to_owned()));
    let listed = Arc::new(AtomicBool::new(false));
    let (told, gone, place) = (Arc::clone(&listed), Arc::clone(&context), namespace.to_owned());
    let mut list = HashSet::new();
    // Objects are taken as they are: one that cannot be understood must not keep the others from being listed.
    let seen = watcher(objects, watcher::Config::default().timeout(290))
        .inspect(move |event| {
            match event {
                Ok(watcher::Event::Init) => list.clear(),
                Ok(watcher::Event::InitApply(object)) => drop(list.insert(key(object, &gone.kind))),
                Ok(watcher::Event::InitDone) => {
                    told.store(true, Ordering::SeqCst);
                    // Of what went while nobody watched no event tells.
                    let (gone, place, list) = (Arc::clone(&gone), place.clone(), std::mem::take(&mut list));
                    tokio::spawn(async move { gone.forget_all_but(&place, &list).await });
                }
                Ok(watcher::Event::Delete(object)) => {
                    // Without our finalizer nobody asked us; what runs here for it is ended all the same.
                    let (gone, key) = (Arc::clone(&gone), key(object, &gone.kind));
                    tokio::spawn(async move { gone.forget(&key).await });
                }
                Ok(watcher::Event::Apply(_)) | Err(_) => {}
            }
            match news(event) {
                Some(News::Well) => readiness.set(&subject, None),
                Some(News::Lacking(why)) => readiness.set(&subject, Some(why)),
                Some(News::Blind(why)) => readiness.set_for(&subject, why, BLIND),
                None => {}
            }
        })
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .default_backoff()
        .applied_objects()
        // Our own writes of status change neither.
        .predicate_filter(predicates::generation.combine(predicates::annotations), PredicateConfig::default());
    let stop = context.stop.clone();
    let asked = stop.clone();
    let running = Controller::for_stream_with(seen, reader, kind)
        .graceful_shutdown_on(async move { asked.asked().await })
        .run(reconcile::reconcile, |_, _, _| Action::requeue(Duration::from_secs(5)), context)
        .for_each(|_| std::future::ready(()));
    // Visits in flight are finished; a namespace that was never listed has none, and waits for its list for ever.
    let patience = async {
        stop.asked().await;
        if listed.load(Ordering::SeqCst) {
            Clock.sleep(GRACE).await;
        }
    };
    tokio::select! {
        () = running => {}
        () = patience => {}
    }
}

/// What an event of the watch says about readiness.
enum News {
    /// The objects are seen.
    Well,
    /// They are not, and why; it is said when they are.
    Lacking(String),
    /// They were seen once and are not any more, and why.
    Blind(String),
}

/// What is to be said of an event of the watch, if anything.
fn news(event: &Result<watcher::Event<DynamicObject>, watcher::Error>) -> Option<News> {
    let error = match event {
        Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => return Some(News::Lacking(UNLISTED.to_owned())),
        Ok(watcher::Event::InitDone | watcher::Event::Apply(_) | watcher::Event::Delete(_)) => return Some(News::Well),
        Err(error) => error,
    };
    let code = match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => api::code(error),
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::WatchFailed(_) | watcher::Error::NoResourceVersion => None,
    };
    if code == Some(404) {
        let install = "the CustomResourceDefinition sessionbackends.sessionbackend.dev is not installed; \
                       `sessionbackend crd | kubectl apply -f -` installs it";
        return Some(News::Lacking(install.to_owned()));
    }
    match error {
        watcher::Error::InitialListFailed(error) => {
            Some(News::Lacking(format!("the objects cannot be listed: {}", api::said(error))))
        }
        watcher::Error::WatchStartFailed(error) if code == Some(403) => {
            Some(News::Blind(format!("the objects cannot be watched: {}", api::said(error))))
        }
        // A watch that breaks off is begun again where it was, and says nothing of it.
        error => {
            tracing::warn!(error = api::said(error), "the watch is begun again");
            None
        }
    }
}

/// Reads the clock for whoever needs no other.
fn now() -> jiff::Timestamp {
    Clock.now()
}

/// The key of an object in this process.
fn key(object: &DynamicObject, kind: &ApiResource) -> ObjectRef<DynamicObject> {
    ObjectRef::from_obj_with(object, kind.clone()).within(&object.namespace().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_an_object_is_said_again_once_its_event_is_gone() {
        let (uid, told) = (Some("u-1".to_owned()), Instant::now());
        let foreign = Foreign { uid: uid.clone(), holder: "blue".to_owned(), told };
        let minutes = |minutes| told + Duration::from_mins(minutes);
        assert!(foreign.is_told(uid.as_ref(), "blue", minutes(59)));
        assert!(!foreign.is_told(uid.as_ref(), "blue", minutes(60)));
        assert!(!foreign.is_told(uid.as_ref(), "green", told), "somebody else holds it");
        assert!(!foreign.is_told(None, "blue", told), "it is another object");
    }
}
