//! How an object becomes known in this process: its spec understood, what it names granted, its Secrets read, its clouds
//! connected; and what of it goes on where one of these fails.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::Api;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Visit, former};
use crate::api::admission::Violation;
use crate::api::{API_VERSION, KIND, Reason, SessionBackend, SessionBackendSpec};
use crate::connect::{Connection, Place, Whose};
use crate::controller::object::Object;
use crate::controller::secrets::Secrets;
use crate::controller::stopped::Stopped;
use crate::controller::{key, now};
use crate::desired::Desired;
use crate::engine::World as _;
use crate::manifest::{Entry, understand};
use crate::observed::{Lack, Reading};

impl Visit<'_> {
    /// The object in this process, connected to its world as it is wanted now.
    pub(super) async fn known(&self) -> Result<Arc<Mutex<Object>>, Stopped> {
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
        let connect = async |former: Option<&Object>, placed: Option<&Place>| {
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
            let connected = match former {
                Some(former) => Box::pin(self.context.clouds.connect(whose, &found, Some(&former.connection))).await,
                None => Box::pin(self.context.clouds.connect_placed(placed, whose, &found)).await,
            };
            Ok(Some((connected.map_err(|error| Stopped::unconnected(&error))?, found)))
        };
        let uid = self.object.uid();
        let Some(known) = self.context.known(&key).filter(|(known, _)| *known == uid).map(|(_, known)| known) else {
            self.context.untell(&key);
            let placed = self.context.placed(&key, uid.as_ref()).await;
            let (connection, found) = match connect(None, placed.as_deref()).await {
                Ok(Some(made)) => made,
                Ok(None) => return Err(Stopped::new(Reason::Progressing, "")),
                Err(stopped) => self.without(whose, placed.as_deref(), stopped).await?,
            };
            self.remembers(&connection).await?;
            let mut object = Object::new(connection, found, now());
            object.written = former(self.object);
            return Ok(self.context.keep(&key, uid, object));
        };
        let mut object = known.lock().await;
        if !object.is_for(generation, &desired) || object.is_due(now()) {
            match connect(Some(&object), None).await {
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
        let last = former(self.object).and_then(|status| status.migration);
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
    pub(super) fn granted(&self, spec: &SessionBackendSpec, desired: &Desired) -> Result<(), Stopped> {
        let grants = &self.context.grants;
        if let Some(violation) = grants.role(&self.namespace, spec.aws.role_arn.as_deref()) {
            return Err(Stopped::new(Reason::NotGranted, violation.to_string()));
        }
        let Some(violation) = grants.service(&self.namespace, desired) else { return Ok(()) };
        Err(Stopped::lacking(Lack::new(Reason::NotGranted, violation)))
    }

    /// An object whose Secret is missing, connected without it: only where a migration is open, whose copier has to go on.
    async fn without(
        &self,
        whose: Whose<'_>,
        placed: Option<&Place>,
        stopped: Stopped,
    ) -> Result<(Connection, Secrets), Stopped> {
        let Some(lack) = stopped.lack.clone() else { return Err(stopped) };
        let nothing = Secrets::default();
        // What could not be read now may be readable soon: a copier that is needed must not wait for a person.
        let connected = Box::pin(self.context.clouds.connect_without(lack, placed, whose, &nothing)).await;
        let connection = connected.map_err(|error| Stopped::unconnected(&error))?;
        match connection.world.journal(&connection.owner).await {
            Reading::Present(journal) if journal.open_migration().is_some() => Ok((connection, nothing)),
            Reading::Present(_) | Reading::Absent | Reading::Hidden(_) => Err(stopped),
            Reading::Unknown(error) => Err(Stopped::new(Reason::of_class(error.class), error.to_string())),
        }
    }

    /// What the object says, as the command line would read it.
    pub(super) fn understood(&self) -> Result<Entry, Stopped> {
        let value = self.value();
        understand(value.clone()).map_err(|violations| {
            let all: Vec<_> = violations.iter().map(Violation::to_string).collect();
            let is_decodable = serde_json::from_value::<SessionBackend>(value).is_ok();
            let reason = if is_decodable { Reason::InvalidSpec } else { Reason::Undecodable };
            Stopped::new(reason, all.join("\n"))
        })
    }

    /// What is wrong with what the object says.
    pub(super) fn wrong(&self) -> Vec<Violation> {
        understand(self.value()).err().unwrap_or_default()
    }

    fn value(&self) -> Value {
        let mut value = json!({ "apiVersion": API_VERSION, "kind": KIND });
        let metadata = serde_json::to_value(&self.object.metadata).unwrap_or(Value::Null);
        value["metadata"] = metadata;
        if let Some(spec) = self.object.data.get("spec") {
            value["spec"] = spec.clone();
        }
        value
    }
}
