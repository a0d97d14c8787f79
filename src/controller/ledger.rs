//! What the controller writes to the API server about an object: its status, its finalizer, the annotations it has taken up,
//! and events. Nothing is decided here, and a failed event never stops anything.

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::api::{self, call};
use super::lease::Leadership;
use crate::api::{API_VERSION, KIND, SessionBackendStatus};
use crate::clock::{Clock, Time as _};
use crate::error::presentable;
use crate::identity::DEFAULT_INSTALLATION;
use crate::status::{EventKind, Transition};

/// Who owns the fields of a status.
const FIELD_MANAGER: &str = "sessionbackend";
/// Keeps an object until what it claims is let go: that of the default installation.
pub const FINALIZER: &str = "sessionbackend.dev/release";
const RESOURCE: &str = "sessionbackend";
/// The API server takes 1,024 bytes; what is cut gets an ellipsis of three.
const NOTE: usize = 1024 - '…'.len_utf8();

/// The finalizer of an installation: two of them that watch one namespace must not let go of each other's objects.
#[must_use]
pub fn finalizer(installation: &str) -> String {
    if installation == DEFAULT_INSTALLATION { FINALIZER.to_owned() } else { format!("{installation}.{FINALIZER}") }
}

/// The installation whose finalizer that is, if it is one of ours.
fn installation(finalizer: &str) -> Option<&str> {
    match finalizer.strip_suffix(FINALIZER)? {
        "" => Some(DEFAULT_INSTALLATION),
        named => named.strip_suffix('.'),
    }
}

/// Where one object is written.
pub(super) struct Ledger<'a> {
    /// The objects of its namespace.
    pub(super) objects: &'a Api<DynamicObject>,
    /// Where events go.
    pub(super) client: &'a Client,
    /// Who says them.
    pub(super) identity: &'a str,
    /// For whom.
    pub(super) installation: &'a str,
    /// Whether this process may act.
    pub(super) leadership: &'a Leadership,
    /// The object as it was last seen.
    pub(super) object: &'a DynamicObject,
    /// Its kind.
    pub(super) kind: &'a kube::api::ApiResource,
}

impl Ledger<'_> {
    /// Writes the status, by server-side apply: fields that are not in it any more go.
    ///
    /// # Errors
    /// When it cannot be written; a conflict when the object was made anew under the same name.
    pub(super) async fn status(&self, status: &SessionBackendStatus) -> Result<(), api::Error> {
        let applied = json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": { "name": self.object.name_any(), "uid": self.object.uid() },
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let name = self.object.name_any();
        self.may("patch", "sessionbackend status")?;
        call("patch", "sessionbackend status", self.objects.patch_status(&name, &parameters, &Patch::Apply(&applied)))
            .await
            .map(drop)
    }

    /// Whether the finalizer is on the object.
    #[must_use]
    pub(super) fn is_kept(&self) -> bool {
        self.holders().any(|holder| holder == self.installation)
    }

    /// Another installation whose finalizer is on the object.
    #[must_use]
    pub(super) fn other_holder(&self) -> Option<&str> {
        self.holders().find(|holder| *holder != self.installation)
    }

    fn holders(&self) -> impl Iterator<Item = &str> {
        self.object.finalizers().iter().filter_map(|finalizer| installation(finalizer))
    }

    /// Puts the finalizer on.
    ///
    /// # Errors
    /// When it cannot be written; a conflict when the object has changed since it was seen.
    pub(super) async fn keep(&self) -> Result<(), api::Error> {
        let mut finalizers = self.object.finalizers().to_vec();
        finalizers.push(finalizer(self.installation));
        self.merge(json!({ "finalizers": finalizers })).await
    }

    /// Takes the finalizer off: the object goes.
    ///
    /// # Errors
    /// When it cannot be written; a conflict when the object has changed since it was seen.
    pub(super) async fn let_go(&self) -> Result<(), api::Error> {
        let ours = finalizer(self.installation);
        let others: Vec<_> = self.object.finalizers().iter().filter(|finalizer| **finalizer != ours).collect();
        match self.merge(json!({ "finalizers": others })).await {
            Err(error) if error.is_not_found() => Ok(()),
            written => written,
        }
    }

    /// Removes an annotation that was taken up, unless it says something else by now.
    ///
    /// # Errors
    /// When it cannot be written; a conflict when the object has changed since it was seen.
    pub(super) async fn taken_up(&self, annotation: &str) -> Result<(), api::Error> {
        self.merge(json!({ "annotations": { annotation: null } })).await
    }

    /// Changes metadata of the object as it was seen: with its version, so that nobody's write in between is lost.
    async fn merge(&self, mut metadata: Value) -> Result<(), api::Error> {
        metadata["resourceVersion"] = json!(self.object.resource_version());
        metadata["uid"] = json!(self.object.uid());
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        self.may("patch", RESOURCE)?;
        call("patch", RESOURCE, self.objects.patch(&self.object.name_any(), &PatchParams::default(), &patch))
            .await
            .map(drop)
    }

    /// Whoever was frozen past his lease writes nothing.
    fn may(&self, verb: &'static str, resource: &'static str) -> Result<(), api::Error> {
        if self.leadership.is_held() { Ok(()) } else { Err(api::Error::Deposed { verb, resource }) }
    }

    /// Publishes what has changed, each as an event of its own. kube's recorder would make a series of those with the same
    /// reason, with the words of the first.
    pub(super) async fn events(&self, transitions: &[Transition]) {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.object.namespace().unwrap_or_default());
        for transition in transitions {
            if self.may("create", "event").is_err() {
                return;
            }
            let event = self.event(transition, Clock.now());
            if let Err(error) = call("create", "event", events.create(&PostParams::default(), &event)).await {
                tracing::warn!(%error, reason = transition.reason, "an event could not be published");
            }
        }
    }

    fn event(&self, Transition { kind, reason, message }: &Transition, now: Timestamp) -> Event {
        Event {
            metadata: ObjectMeta {
                // A name has at most 253 characters.
                name: Some(format!("{:.230}.{:x}", self.object.name_any(), now.as_nanosecond())),
                namespace: self.object.namespace(),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(match kind {
                EventKind::Normal => "Normal".to_owned(),
                EventKind::Warning => "Warning".to_owned(),
            }),
            reason: Some(reason.clone()),
            note: Some(presentable(message, NOTE)).filter(|note| !note.is_empty()),
            action: Some("Reconcile".to_owned()),
            regarding: Some(self.object.object_ref(self.kind)),
            reporting_controller: Some(FIELD_MANAGER.to_owned()),
            reporting_instance: Some(self.identity.to_owned()),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalizer_names_its_installation() {
        for of in [DEFAULT_INSTALLATION, "staging", "a"] {
            assert_eq!(installation(&finalizer(of)), Some(of));
        }
        assert_eq!(
            (finalizer("default"), finalizer("staging").split('/').next()),
            (FINALIZER.to_owned(), Some("staging.sessionbackend.dev"))
        );
        for other in [
            "foregroundDeletion",
            "example.com/release",
            "notsessionbackend.dev/release",
            "sessionbackend.dev/released",
        ] {
            assert_eq!(installation(other), None, "{other}");
        }
    }
}
