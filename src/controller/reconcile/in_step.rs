//! An object that cannot be turned, in the middle of a migration: its copier goes on by what the journal knows, and where even
//! that cannot be had, a person is told so.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;

use super::{LATER, Visit, former};
use crate::api::{Reason, SessionBackendStatus, spec};
use crate::connect::Place;
use crate::controller::key;
use crate::controller::led::{How, Kept, Led};
use crate::controller::stopped::Stopped;
use crate::identity::MigrationId;
use crate::status::{EventKind, Transition};

impl Visit<'_> {
    /// Why the object cannot be turned, and what becomes of its stores meanwhile.
    pub(super) async fn with_its_stores_in_step(&self, stopped: Stopped) -> Stopped {
        let is_placed = self.context.places().contains_key(&key(self.object, &self.context.kind));
        // Without a journal there is nothing to go by; whoever lacks something was connected without it, if it helps.
        if stopped.reason == Reason::JournalLost || stopped.lack.is_some() && !is_placed {
            return stopped;
        }
        let kept = match self.stays_in_step().await {
            Ok(None) => return stopped,
            Ok(Some(kept)) => kept,
            Err(why) => {
                let last = former(self.object).and_then(|status| status.migration);
                let Some(open) = last.filter(|last| last.outcome.is_none()) else { return stopped };
                // A copier that runs does not ask the journal.
                let Some(kept) = self.at_work(MigrationId(open.id.clone())).await else {
                    tracing::warn!(object = self.name(), why, "the stores are not kept in step");
                    let what = format!(
                        "migration {} from {} to {} is open, and nobody keeps its stores in step until this is mended",
                        open.id, open.from, open.to
                    );
                    return self.not_in_step(stopped, &what).await;
                };
                kept
            }
        };
        let frozen = format!("migration {} goes no further until then", kept.migration.0);
        match kept.how {
            How::InStep => stopped.and(&format!("{frozen}, and both stores are kept in step meanwhile")),
            How::Begun => stopped.and(&format!("{frozen}, and its copier is starting")).within(BEGUN),
            How::Failing(why) => {
                tracing::warn!(object = self.name(), why, "the stores are not kept in step");
                let what = format!("{frozen}, and its stores are not in step, since its copier fails: {why}");
                self.not_in_step(stopped.within(LATER), &what).await
            }
        }
    }

    /// Says that two stores are not in step that should be, as an event only where that is new.
    async fn not_in_step(&self, stopped: Stopped, what: &str) -> Stopped {
        let is_known = self.before().await.is_some_and(|before| says(&before, what));
        if !is_known {
            let message = what.to_owned();
            let event = Transition { kind: EventKind::Warning, reason: "NotInStep".to_owned(), message };
            self.ledger().events(&[event]).await;
        }
        stopped.and(what)
    }

    /// How two stores are kept in step that have to be, or why that is not known.
    async fn stays_in_step(&self) -> Result<Option<Kept>, String> {
        let (leadership, stop) = (&self.context.leadership, &self.context.stop);
        let (key, uid) = (key(self.object, &self.context.kind), self.object.uid());
        match self.context.known(&key) {
            Some((known, object)) if known == uid => {
                let kept = object.lock().await.stay_in_step(leadership, stop).await;
                return kept.map_err(|error| error.to_string());
            }
            Some(_) | None => {}
        }
        let place = match self.context.placed(&key, uid.as_ref()).await {
            Some(place) => place,
            None => self.place().await?,
        };
        let led = Led::new(&place.world, leadership, stop);
        let kept = led.keep_in_step(&place.owner, &place.copiers).await.map_err(|error| error.to_string())?;
        if kept.is_some() {
            self.context.places().insert(key, (uid, place));
        } else {
            self.context.forget(&key).await;
        }
        Ok(kept)
    }

    /// What the copier of a migration does for the object, where it runs here.
    async fn at_work(&self, migration: MigrationId) -> Option<Kept> {
        let key = key(self.object, &self.context.kind);
        let copiers = match self.context.known(&key) {
            Some((_, object)) => Arc::clone(&object.lock().await.connection.copiers),
            None => Arc::clone(&self.context.places().get(&key)?.1.copiers),
        };
        let is_at_work = copiers.is_at_work(&migration);
        is_at_work.then(|| Kept { how: How::of(copiers.state(&migration)), migration })
    }

    /// Where the object lives. That is all of a refused spec that is believed, and only where nothing is wrong with it.
    async fn place(&self) -> Result<Arc<Place>, String> {
        let wrong = self.wrong();
        let is_sound = wrong.iter().all(|violation| !violation.field.starts_with(AWS));
        let spec = self.object.data.get("spec").and_then(|spec| spec.get("aws"));
        let spec: Option<spec::Aws> =
            spec.filter(|_| is_sound).and_then(|aws| serde_json::from_value(aws.clone()).ok());
        let Some(spec) = spec else { return Err(format!("{AWS} does not say where its journal is")) };
        if let Some(refused) = self.context.grants.role(&self.namespace, spec.role_arn.as_deref()) {
            return Err(refused.to_string());
        }
        let name = self.object.name_any();
        let place = self.context.clouds.place(&self.context.installation, &self.namespace, &name, &spec);
        Box::pin(place).await.map(Arc::new).map_err(|error| error.to_string())
    }
}

const AWS: &str = "spec.aws";
/// How long until a copier that has begun is asked again how it stands.
const BEGUN: Duration = Duration::from_secs(5);

/// Whether a status says this already.
fn says(status: &SessionBackendStatus, what: &str) -> bool {
    status.conditions.iter().any(|condition| condition.message.contains(what))
}
