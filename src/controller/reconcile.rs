//! One reconciliation: understand the object, hear what people say, take one turn, write what it came to. Runs to its end
//! whatever fails: every exit leaves a status that says why.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject};
use kube::runtime::controller::Action;
use serde_json::{Value, json};
use tokio::sync::{Mutex, SemaphorePermit};
use tokio::time::Instant;

use super::ledger::Ledger;
use super::object::{Heard, Object, Turn};
use super::secrets::Secrets;
use super::stopped::Stopped;
use super::words::{Said, said};
use super::{Context, api, key, now};
use crate::api::admission::Violation;
use crate::api::{API_VERSION, KIND, Reason, SessionBackend, SessionBackendSpec, SessionBackendStatus};
use crate::connect::{Connection, Whose};
use crate::desired::Desired;
use crate::engine::World as _;
use crate::manifest::{Entry, understand};
use crate::metrics;
use crate::observed::{Lack, Reading};
use crate::status::{Aside, EventKind, Transition, says_the_same, transitions, unplanned};

/// After a write that somebody else's came before.
const SOON: Duration = Duration::from_millis(500);
/// After a failure that is not the object's.
const LATER: Duration = Duration::from_secs(15);
/// While a person has to do something.
const PERSON: Duration = Duration::from_mins(1);

/// What helps where the controller may not write an object any more.
const UNGRANTED: &str = "apply manifests/role.yaml and role-binding.yaml in the namespace again; in one that is being \
                         deleted take the finalizer off by hand, as docs/operating.md says";

/// Why a reconciliation ended early: nothing of it is lost, it is made again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {}

/// One reconciliation of one object.
pub(super) async fn reconcile(object: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, Error> {
    let _turn = Visit::new(&object, &context).turn_has_come().await;
    // What was to be looked at may have been edited, paused or deleted during the wait.
    let Some(object) = context.newest(&key(&object, &context.kind)) else { return Ok(Action::await_change()) };
    let visit = Visit::new(&object, &context);
    let began = Instant::now();
    // One object that breaks us must not keep the others from being worked on.
    let made = AssertUnwindSafe(Box::pin(visit.make())).catch_unwind().await;
    let (action, result) = if let Ok(made) = made {
        made
    } else {
        tracing::error!(object = visit.name(), "this is a defect: the visit ended in a panic");
        let stopped = Stopped::new(Reason::Defect, Reason::Defect.remedy());
        // Whatever broke the visit must not break what is said of it, too.
        drop(AssertUnwindSafe(Box::pin(visit.stop(&stopped))).catch_unwind().await);
        (Action::requeue(PERSON), "panicked")
    };
    metrics::reconciled(result, began.elapsed());
    Ok(action)
}

/// One look at one object.
struct Visit<'a> {
    object: &'a DynamicObject,
    context: &'a Context,
    namespace: String,
    objects: Api<DynamicObject>,
    said: Said,
}

impl<'a> Visit<'a> {
    fn new(object: &'a DynamicObject, context: &'a Context) -> Self {
        let namespace = object.namespace().unwrap_or_default();
        let objects = Api::namespaced_with(context.client.clone(), &namespace, &context.kind);
        Self { object, context, namespace, objects, said: said(object.annotations()) }
    }

    /// Waits until fewer than the allowed number of objects are worked on. Whoever may have two stores in use waits for nobody:
    /// a hundred objects at rest behind a slow cloud must not hold up a migration.
    async fn turn_has_come(&self) -> Option<SemaphorePermit<'a>> {
        let known = self.context.known(&key(self.object, &self.context.kind));
        let is_attentive = match known {
            Some((_, object)) => object.lock().await.is_attentive(),
            // After a restart the status is all there is to go by.
            None => self.former().and_then(|status| status.migration).is_some_and(|last| last.outcome.is_none()),
        };
        if is_attentive { None } else { self.context.turns.acquire().await.ok() }
    }

    fn ledger(&self) -> Ledger<'_> {
        Ledger {
            objects: &self.objects,
            client: &self.context.client,
            identity: &self.context.identity,
            leadership: &self.context.leadership,
            object: self.object,
            kind: &self.context.kind,
        }
    }

    fn is_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// The visit, and what it came to in a word.
    async fn make(&self) -> (Action, &'static str) {
        if !self.context.leadership.is_held() || self.context.stop.is_asked() {
            return (Action::requeue(LATER), "skipped");
        }
        let ledger = self.ledger();
        if self.is_deleted() && !ledger.is_kept() {
            self.context.forget(&key(self.object, &self.context.kind)).await;
            return (Action::await_change(), "gone");
        }
        if self.is_deleted() && self.said.abandon {
            let note = "let go as it was: nothing in the clouds was touched, and the claims stay";
            return self.let_go("Abandoned", note).await;
        }
        if !self.is_deleted() && !ledger.is_kept() {
            // What may not be touched is not held either: it can be deleted at once.
            let refused =
                self.understood().ok().and_then(|entry| self.granted(&entry.object.spec, &entry.desired).err());
            if let Some(stopped) = refused {
                return self.stop(&stopped).await;
            }
            if let Err(error) = ledger.keep().await {
                return self.not_kept(&error).await;
            }
        }
        let object = match self.known().await {
            Ok(object) => object,
            Err(stopped) => return self.stop(&stopped).await,
        };
        let mut object = object.lock().await;
        if self.said.paused && self.is_deleted() {
            drop(object);
            return self.stop(&Stopped::new(Reason::Paused, Reason::Paused.remedy())).await;
        }
        self.hear(&mut object).await;
        let turn = object.turn(&self.said, &self.context.leadership, &self.context.stop).await;
        self.record(&mut object, turn).await
    }

    fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.object.name_any())
    }

    /// The object in this process, connected to its world as it is wanted now.
    async fn known(&self) -> Result<Arc<Mutex<Object>>, Stopped> {
        let entry = self.understood()?;
        let desired = if self.is_deleted() { entry.desired.deleted() } else { entry.desired };
        let key = key(self.object, &self.context.kind);
        let generation = self.object.metadata.generation;
        let secrets: Api<Secret> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let whose = Whose {
            installation: &self.context.installation,
            namespace: &self.namespace,
            name: &self.object.name_any(),
            generation,
            spec: &entry.object.spec,
            desired: &desired,
        };
        let connect = async |former: Option<&Object>| {
            self.granted(&entry.object.spec, &desired)?;
            let found = Secrets::read(&secrets, &self.namespace, &entry.object.spec, &desired).await;
            let found = match found {
                // What is being deleted needs none, and the permission may have gone before it.
                Err(error) if self.is_deleted() && error.is_forbidden() => Secrets::default(),
                found => found.map_err(|error| Stopped::without_secrets(&error))?,
            };
            let is_known = former.filter(|former| former.is_for(generation, &desired));
            if is_known.is_some_and(|former| !found.differ_from(&former.secrets)) {
                return Ok(None);
            }
            let connected = self.context.clouds.connect(whose, &found, former.map(|former| &former.connection));
            Ok(Some((Box::pin(connected).await.map_err(|error| Stopped::unconnected(&error))?, found)))
        };
        let uid = self.object.uid();
        let Some(known) = self.context.known(&key).filter(|(known, _)| *known == uid).map(|(_, known)| known) else {
            // Another object had the name: what was begun for it is ended.
            self.context.forget(&key).await;
            let (connection, found) = match connect(None).await {
                Ok(Some(made)) => made,
                Ok(None) => return Err(Stopped::new(Reason::Progressing, "")),
                Err(stopped) => self.without(whose, stopped).await?,
            };
            self.remembers(&connection).await?;
            let mut object = Object::new(connection, found, now());
            object.written = self.former();
            return Ok(self.context.keep(key, uid, object));
        };
        let mut object = known.lock().await;
        if !object.is_for(generation, &desired) || object.is_due(now()) {
            match connect(Some(&object)).await {
                Ok(Some((connection, found))) => object.reconnect(connection, found, now()),
                Ok(None) => object.kept(now()),
                // It goes without as before; what is missing may be another thing by now.
                Err(stopped) if object.is_for(generation, &desired) && object.lacks() => {
                    object.kept(now());
                    if stopped.lack.is_some() {
                        object.connection.world.lacks(stopped.lack);
                    }
                }
                // Whoever keeps two stores in step goes on as he was; what is in the way is told.
                Err(stopped) if object.migrates() || object.is_for(generation, &desired) => {
                    object.kept_though(now(), stopped.reason, stopped.message);
                }
                Err(stopped) => return Err(stopped),
            }
        }
        drop(object);
        Ok(known)
    }

    /// An object whose status tells of an open migration has a journal: without it two stores would be taken for settled.
    async fn remembers(&self, connection: &Connection) -> Result<(), Stopped> {
        let last = self.former().and_then(|status| status.migration);
        let Some(open) = last.filter(|last| last.outcome.is_none() && !self.is_deleted()) else { return Ok(()) };
        if !connection.world.has_no_journal(&connection.owner).await {
            return Ok(());
        }
        let message = format!(
            "secret {} was deleted for good, and with it what is known of migration {} from {} to {}: {}",
            connection.owner.journal_secret(),
            open.id,
            open.from,
            open.to,
            Reason::JournalLost.remedy()
        );
        Err(Stopped::new(Reason::JournalLost, message))
    }

    /// Whether the controller may do for this namespace what the object asks for.
    fn granted(&self, spec: &SessionBackendSpec, desired: &Desired) -> Result<(), Stopped> {
        let grants = &self.context.grants;
        if let Some(violation) = grants.role(&self.namespace, spec.aws.role_arn.as_deref()) {
            return Err(Stopped::new(Reason::NotGranted, violation.to_string()));
        }
        let Some(violation) = grants.service(&self.namespace, desired) else { return Ok(()) };
        Err(Stopped::lacking(Lack::new(Reason::NotGranted, violation)))
    }

    /// An object whose Secret is missing, connected without it: only where a migration is open, whose copier has to go on.
    async fn without(&self, whose: Whose<'_>, stopped: Stopped) -> Result<(Connection, Secrets), Stopped> {
        let Some(lack) = stopped.lack.clone() else { return Err(stopped) };
        let nothing = Secrets::default();
        // What could not be read now may be readable soon: a copier that is needed must not wait for a person.
        let connected = Box::pin(self.context.clouds.connect_without(lack, whose, &nothing)).await;
        let connection = connected.map_err(|error| Stopped::unconnected(&error))?;
        match connection.world.journal(&connection.owner).await {
            Reading::Present(journal) if journal.open_migration().is_some() => Ok((connection, nothing)),
            Reading::Present(_) | Reading::Absent | Reading::Hidden(_) => Err(stopped),
            Reading::Unknown(error) => Err(Stopped::new(Reason::of_class(error.class), error.to_string())),
        }
    }

    /// What the object says, as the command line would read it.
    fn understood(&self) -> Result<Entry, Stopped> {
        let mut value = json!({ "apiVersion": API_VERSION, "kind": KIND });
        let metadata = serde_json::to_value(&self.object.metadata).unwrap_or(Value::Null);
        value["metadata"] = metadata;
        if let Some(spec) = self.object.data.get("spec") {
            value["spec"] = spec.clone();
        }
        understand(value.clone()).map_err(|violations| {
            let all: Vec<_> = violations.iter().map(Violation::to_string).collect();
            let is_decodable = serde_json::from_value::<SessionBackend>(value).is_ok();
            let reason = if is_decodable { Reason::InvalidSpec } else { Reason::Undecodable };
            Stopped::new(reason, all.join("\n"))
        })
    }

    /// The status as it was when the object was last seen.
    fn former(&self) -> Option<SessionBackendStatus> {
        serde_json::from_value(self.object.data.get("status")?.clone()).ok()
    }

    /// Takes up the words in the annotations. What cannot be written down now is tried again at the next visit; the turn is
    /// taken in any case.
    async fn hear(&self, object: &mut Object) {
        object.remarks.clone_from(&self.said.nonsense);
        object.hears(&self.said.words);
        for (annotation, id, word) in &self.said.words {
            if self.said.paused {
                object.remarks.push(format!(
                    "metadata.annotations[{annotation}]: is taken up when the object is not paused any more"
                ));
                continue;
            }
            match object.hear((annotation, id, word.clone()), &self.context.leadership, &self.context.stop).await {
                Ok(Heard::TakenUp) => {
                    tracing::info!(object = self.name(), annotation, migration = %id, "taken up");
                    let message = format!("{annotation}: migration {id}");
                    let event = Transition { kind: EventKind::Normal, reason: "WordTakenUp".to_owned(), message };
                    self.ledger().events(&[event]).await;
                    self.remove(annotation).await;
                }
                Ok(Heard::Before) => self.remove(annotation).await,
                Ok(Heard::No(why)) => {
                    object.remarks.push(format!("metadata.annotations[{annotation}]: {why}, or remove it"));
                }
                Err(error) => {
                    tracing::warn!(object = self.name(), %error, "a word could not be written down");
                    object
                        .remarks
                        .push(format!("metadata.annotations[{annotation}]: could not be written down yet: {error}"));
                }
            }
        }
    }

    /// Removes an annotation that was taken up; where that fails it is heard again, and known.
    async fn remove(&self, annotation: &str) {
        if let Err(error) = self.ledger().taken_up(annotation).await {
            tracing::debug!(object = self.name(), %error, annotation, "could not be removed");
        }
    }

    /// Writes what a turn came to.
    async fn record(&self, object: &mut Object, turn: Turn) -> (Action, &'static str) {
        let Turn { status, is_partial, pause, released } = turn;
        if let Some(left) = released {
            object.connection.copiers.stop().await;
            let note = if left.is_empty() { "nothing is left".to_owned() } else { left.join("; ") };
            return self.let_go("Released", &note).await;
        }
        if is_partial {
            return (Action::requeue(pause), "looking");
        }
        metrics::object(&self.namespace, &self.object.name_any(), &status);
        let told = object.written.clone();
        let before = told.as_ref().filter(|_| !object.is_overwritten(self.former(), Instant::now()));
        match self.write(before, told.as_ref(), &status).await {
            Ok(()) => {
                object.wrote(status, before);
                (Action::requeue(pause), "turned")
            }
            Err(error) => {
                tracing::warn!(object = self.name(), %error, "the status could not be written");
                (Action::requeue(pause.min(LATER)), "unwritten")
            }
        }
    }

    /// The finalizer could not be put on.
    async fn not_kept(&self, error: &api::Error) -> (Action, &'static str) {
        if error.is_conflict() || error.is_not_found() {
            // Seen before somebody else's write; the newer object is on its way.
            tracing::debug!(object = self.name(), %error, "the finalizer could not be put on");
            return (Action::requeue(SOON), "conflict");
        }
        let stopped = self.understood().err().filter(|_| error.is_invalid());
        self.stop(&stopped.unwrap_or_else(|| Stopped::by_the_api_server(error))).await
    }

    /// Writes that the object cannot be turned, and why.
    async fn stop(&self, stopped: &Stopped) -> (Action, &'static str) {
        let Stopped { reason, message, lack: _ } = stopped;
        let key = key(self.object, &self.context.kind);
        let known = self.context.known(&key).map(|(_, known)| known);
        let before = match &known {
            Some(object) => object.lock().await.written.clone(),
            None => self.context.told(&key, self.object.uid().as_ref()).or_else(|| self.former()),
        };
        let aside = Aside {
            generation: self.object.metadata.generation,
            previous: before.as_ref(),
            paused: *reason == Reason::Paused,
            ..Aside::default()
        };
        let status = unplanned(*reason, message, &aside, now());
        metrics::object(&self.namespace, &self.object.name_any(), &status);
        let written = self.write(before.as_ref(), before.as_ref(), &status).await;
        let is_refused = written.as_ref().is_err_and(api::Error::is_invalid);
        if is_refused {
            // The API server takes nothing of such an object: an event is all that can be said.
            self.ledger().events(&transitions(before.as_ref(), &status)).await;
        }
        let is_said = written.is_ok() || is_refused;
        match known {
            Some(object) if is_said => object.lock().await.wrote(status, before.as_ref()),
            None if is_said => self.context.tell(key, self.object.uid(), status),
            Some(_) | None => {}
        }
        if let Err(error) = written {
            tracing::warn!(object = self.name(), %error, "the status could not be written");
        }
        (Action::requeue(if reason.ends_by_itself() { LATER } else { PERSON }), "stopped")
    }

    /// Writes a status unless it says what is there `before`, and as events what is new to what was `told`.
    async fn write(
        &self,
        before: Option<&SessionBackendStatus>,
        told: Option<&SessionBackendStatus>,
        status: &SessionBackendStatus,
    ) -> Result<(), api::Error> {
        if before.is_some_and(|before| says_the_same(before, status)) {
            return Ok(());
        }
        self.ledger().status(status).await?;
        metrics::status_written();
        self.ledger().events(&transitions(told, status)).await;
        Ok(())
    }

    /// The last word about an object: what is left, and off with the finalizer.
    async fn let_go(&self, reason: &str, note: &str) -> (Action, &'static str) {
        let event = Transition { kind: EventKind::Normal, reason: reason.to_owned(), message: note.to_owned() };
        if let Err(error) = self.ledger().let_go().await {
            let remedy = if error.is_forbidden() { UNGRANTED } else { "none: it is tried again" };
            tracing::warn!(object = self.name(), %error, remedy, "the finalizer could not be taken off");
            let (pause, result) = if error.is_conflict() { (SOON, "conflict") } else { (LATER, "unwritten") };
            return (Action::requeue(pause), result);
        }
        self.ledger().events(&[event]).await;
        self.context.leave(&key(self.object, &self.context.kind));
        (Action::await_change(), "gone")
    }
}
