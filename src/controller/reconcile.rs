//! One reconciliation: understand the object, hear what people say, take one turn, write what it came to. Runs to its end
//! whatever fails: every exit leaves a status that says why.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject};
use kube::runtime::controller::Action;
use tokio::sync::{MutexGuard, SemaphorePermit};
use tokio::time::Instant;

use super::led::{How, Kept};
use super::ledger::{Ledger, finalizer};
use super::object::{Heard, Object, Turn};
use super::stopped::Stopped;
use super::words::{Said, said};
use super::{Context, Foreign, api, key, now};
use crate::api::{Reason, SessionBackendStatus};
use crate::metrics;
use crate::status::{Aside, EventKind, Transition, says_the_same, transitions, unplanned};

mod in_step;
mod known;

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
    let _turn = turn_has_come(&context, &object).await;
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

/// Waits until fewer than the allowed number of objects are worked on. Whoever may have two stores in use waits for nobody:
/// a hundred objects at rest behind a slow cloud must not hold up a migration.
async fn turn_has_come<'a>(context: &'a Context, object: &DynamicObject) -> Option<SemaphorePermit<'a>> {
    let is_attentive = match context.known(&key(object, &context.kind)) {
        Some((_, known)) => known.lock().await.is_attentive(),
        // After a restart the status is all there is to go by.
        None => former(object).and_then(|status| status.migration).is_some_and(|last| last.outcome.is_none()),
    };
    if is_attentive { None } else { context.turns.acquire().await.ok() }
}

/// The status as it was when the object was last seen.
fn former(object: &DynamicObject) -> Option<SessionBackendStatus> {
    serde_json::from_value(object.data.get("status")?.clone()).ok()
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

    fn ledger(&self) -> Ledger<'_> {
        Ledger {
            objects: &self.objects,
            client: &self.context.client,
            identity: &self.context.identity,
            installation: &self.context.installation,
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
        if let Some(holder) = ledger.other_holder() {
            return self.held_by(holder).await;
        }
        self.context.foreign().remove(&key(self.object, &self.context.kind));
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
            Err(stopped) => return self.stop(&self.with_its_stores_in_step(stopped).await).await,
        };
        let mut object = object.lock().await;
        if self.said.paused && self.is_deleted() {
            let kept = object.stay_in_step(&self.context.leadership, &self.context.stop).await;
            drop(object);
            let (action, result) = self.stop(&Stopped::new(Reason::Paused, Reason::Paused.remedy())).await;
            let why = match kept {
                Ok(None | Some(Kept { how: How::InStep | How::Begun, .. })) => return (action, result),
                Ok(Some(Kept { how: How::Failing(why), .. })) => why,
                Err(error) => error.to_string(),
            };
            tracing::warn!(object = self.name(), why, "the stores are not kept in step");
            return (Action::requeue(LATER), result);
        }
        self.hear(&mut object).await;
        let turn = object.turn(&self.said, &self.context.leadership, &self.context.stop).await;
        self.record(object, turn).await
    }

    /// Another installation holds the object: nothing of it is touched, and that is said once an hour.
    async fn held_by(&self, holder: &str) -> (Action, &'static str) {
        let key = key(self.object, &self.context.kind);
        let (uid, now) = (self.object.uid(), Instant::now());
        let is_told =
            self.context.foreign().get(&key).is_some_and(|foreign| foreign.is_told(uid.as_ref(), holder, now));
        if !is_told {
            let ledger = self.ledger();
            if !ledger.is_kept() {
                self.context.forget(&key).await;
            }
            let message = format!(
                "installation {holder} holds this object by its finalizer {}, and installation {} touches nothing of it: let \
                 only one of them watch namespace {}, by --watch-namespace; where {holder} is no more, take that finalizer off",
                finalizer(holder),
                self.context.installation,
                self.namespace
            );
            tracing::warn!(object = self.name(), "{message}");
            self.context.foreign().insert(key, Foreign { uid, holder: holder.to_owned(), told: now });
            ledger
                .events(&[Transition { kind: EventKind::Warning, reason: "HeldElsewhere".to_owned(), message }])
                .await;
        }
        (Action::requeue(PERSON), "foreign")
    }

    fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.object.name_any())
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
    async fn record(&self, mut object: MutexGuard<'_, Object>, turn: Turn) -> (Action, &'static str) {
        let Turn { status, is_partial, pause, released } = turn;
        if let Some(left) = released {
            object.connection.copiers.stop().await;
            drop(object);
            let note = if left.is_empty() { "nothing is left".to_owned() } else { left.join("; ") };
            return self.let_go("Released", &note).await;
        }
        if is_partial {
            return (Action::requeue(pause), "looking");
        }
        metrics::object(&self.namespace, &self.object.name_any(), &status);
        let told = object.written.clone();
        let before = told.as_ref().filter(|_| !object.is_overwritten(|| former(self.object), Instant::now()));
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
        let Stopped { reason, message, lack: _, within } = stopped;
        let key = key(self.object, &self.context.kind);
        let known = self.context.known(&key).map(|(_, known)| known);
        let before = self.before().await;
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
        let pause = if reason.ends_by_itself() { LATER } else { PERSON };
        (Action::requeue(within.map_or(pause, |within| within.min(pause))), "stopped")
    }

    /// What was last said of the object.
    async fn before(&self) -> Option<SessionBackendStatus> {
        let key = key(self.object, &self.context.kind);
        match self.context.known(&key) {
            Some((_, object)) => object.lock().await.written.clone(),
            None => self.context.told(&key, self.object.uid().as_ref()).or_else(|| former(self.object)),
        }
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
        self.context.forget(&key(self.object, &self.context.kind)).await;
        (Action::await_change(), "gone")
    }
}
