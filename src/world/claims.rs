//! Who writes which variable of a service: one secret a service, written by compare-and-set, shared by all owners.
//! The existing claim wins. The secret stays when its last claim is released: deleting it would race with the next claim.
//! Tags on the service show the claims to people; nothing is decided on them, and that they could not be set stops nothing.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use secrecy::{ExposeSecret, SecretString};

use crate::aws::secretsmanager::{SERVICE, is_in_recovery};
use crate::desired::Desired;
use crate::error::{Class, CloudError};
use crate::identity::{Owner, digest};
use crate::observed::{Claims, Reading};

use super::{CloudWorld, reading, refused};

const PREFIX: &str = "sessionbackend/claims/";

/// The token of write number `sequence`: two writers of the same sequence collide.
fn token(name: &str, sequence: u64) -> String {
    digest(&[name.as_bytes(), b"claims", &sequence.to_be_bytes()], 16)
}

/// The secret's content. Two owners' identical writes would pass for one another, but their paths differ.
fn text(claims: &Claims) -> Result<SecretString, CloudError> {
    let text = serde_json::to_string(claims)
        .map_err(|error| CloudError::new(Class::Rejected, SERVICE, "Claim", "", &error.to_string()))?;
    Ok(text.into())
}

/// The claims with `variables` added for `holder`.
fn claimed(claims: Option<&Claims>, variables: &[String], holder: &str) -> Result<Claims, String> {
    let mut next = claims.cloned().unwrap_or_default();
    for variable in variables {
        let former = next.holders.insert(variable.clone(), holder.to_owned());
        if let Some(other) = former.filter(|former| former != holder) {
            return Err(format!("variable {variable} is claimed by {other}"));
        }
    }
    next.sequence += 1;
    Ok(next)
}

/// The claims without those of `holder`.
fn released(claims: &Claims, holder: &str) -> Claims {
    let holders = claims.holders.iter().filter(|(_, other)| *other != holder);
    Claims { sequence: claims.sequence + 1, holders: holders.map(|(k, v)| (k.clone(), v.clone())).collect() }
}

/// Claims by service, and why some of ours may not be among them.
pub(super) struct Searched {
    pub(super) readings: BTreeMap<String, Reading<Claims>>,
    pub(super) unsearched: Option<CloudError>,
}

impl CloudWorld {
    /// Claims by service. Of an object that is being deleted nothing says which services those were: all are looked at.
    pub(super) async fn all_claims(&self, owner: &Owner, desired: &Desired, services: &BTreeSet<String>) -> Searched {
        let mut asked = services.clone();
        let searching = match desired {
            Desired::Present(_) => false,
            Desired::Absent { .. } => true,
        };
        let mut unsearched = None;
        if searching {
            match self.aws.secretsmanager.names(PREFIX).await {
                Ok(names) => asked.extend(names.iter().filter_map(|name| service_of(name)).map(str::to_owned)),
                Err(error) => unsearched = Some(error),
            }
        }
        let readings = asked.into_iter().map(|service| async move {
            let claims = reading(self.claims(&service).await);
            (service, claims)
        });
        let mut all: BTreeMap<_, _> = join_all(readings).await.into_iter().collect();
        let path = owner.path();
        all.retain(|service, reading| {
            let concerns_us = match reading {
                Reading::Present(claims) => claims.holders.values().any(|holder| *holder == path),
                Reading::Absent => false,
                Reading::Unknown(_) | Reading::Hidden(_) => true,
            };
            concerns_us || services.contains(service)
        });
        Searched { readings: all, unsearched }
    }

    async fn claims(&self, service: &str) -> Result<Claims, CloudError> {
        let name = Owner::claims_secret(service);
        let text = self.aws.secretsmanager.get(&name.0).await.map_err(|error| {
            // Somebody deleted it by hand: for a reader it is gone, and the next claim restores it.
            if is_in_recovery(&error) { CloudError { class: Class::NotFound, ..error } } else { error }
        })?;
        serde_json::from_str(text.expose_secret()).map_err(|error| {
            let message = format!("secret {name} holds no claims of this version: {error}");
            CloudError::new(Class::Rejected, SERVICE, "GetSecretValue", "", &message)
        })
    }

    pub(super) async fn claim(
        &self,
        owner: &Owner,
        service: &str,
        variables: &[String],
        expect: Option<u64>,
    ) -> Result<(), CloudError> {
        let operation = "Claim";
        let name = Owner::claims_secret(service).0;
        let found = self.claims_at(service, expect, operation).await?;
        let next = claimed(found.as_ref(), variables, &owner.path())
            .map_err(|what| CloudError::new(Class::Exists, "sessionbackend", operation, "", &what))?;
        let (content, token) = (text(&next)?, token(&name, next.sequence));
        // Shown first: a process that ends after the claim was written leaves nobody who would come back to show it.
        self.show_claims(owner, service, variables).await;
        let outcome = if found.is_some() {
            self.aws.secretsmanager.put(&name, &content, &token).await
        } else {
            self.create_claims(service, &name, &content, &token, operation).await
        };
        let outcome = overtaken(outcome, operation);
        if outcome.as_ref().is_err_and(|error| !error.class.is_ambiguous()) {
            // Nothing was claimed: somebody else was faster, or it was refused.
            let path = owner.path();
            let holders = found.iter().flat_map(|found| &found.holders);
            let ours: Vec<_> = holders.filter(|(_, holder)| **holder == path).map(|(name, _)| name.clone()).collect();
            self.show_claims(owner, service, &ours).await;
        }
        outcome
    }

    async fn create_claims(
        &self,
        service: &str,
        name: &str,
        content: &SecretString,
        token: &str,
        operation: &str,
    ) -> Result<(), CloudError> {
        let description = format!("Who writes the variables of App Runner service {service}");
        let tags = [("sessionbackend.dev/claims".to_owned(), service.to_owned())];
        match self.aws.secretsmanager.create(name, &description, content, Some(token), &tags).await {
            Err(error) if is_in_recovery(&error) => {
                self.aws.secretsmanager.restore(name).await?;
                Err(refused(operation, &format!("secret {name} was in its recovery window and was restored")))
            }
            other => other.map(|_| ()),
        }
    }

    pub(super) async fn release(&self, owner: &Owner, service: &str, expect: u64) -> Result<(), CloudError> {
        let operation = "Release";
        let name = Owner::claims_secret(service).0;
        let Some(found) = self.claims_at(service, Some(expect), operation).await? else { return Ok(()) };
        let next = released(&found, &owner.path());
        self.show_claims(owner, service, &[]).await;
        overtaken(self.aws.secretsmanager.put(&name, &text(&next)?, &token(&name, next.sequence)).await, operation)
    }

    /// Sets the tags that show our claims on a service, and takes away those that show none of ours any more.
    async fn show_claims(&self, owner: &Owner, service: &str, variables: &[String]) {
        if let Err(error) = self.tag_claims(owner, service, variables).await {
            tracing::debug!(service, %error, "its tags do not show the claims");
        }
    }

    async fn tag_claims(&self, owner: &Owner, service: &str, variables: &[String]) -> Result<(), CloudError> {
        let listed = self.aws.apprunner.services().await?;
        let Some(arn) = super::observe::find(&listed, service, None) else { return Ok(()) };
        let found = self.aws.apprunner.tags(&arn).await?;
        let change = tags(owner, variables, &found);
        if !change.unset.is_empty() {
            self.aws.apprunner.untag(&arn, change.unset).await?;
        }
        if !change.set.is_empty() {
            self.aws.apprunner.tag(&arn, &change.set).await?;
        }
        Ok(())
    }

    /// The claims, which must be as the plan saw them.
    async fn claims_at(
        &self,
        service: &str,
        expect: Option<u64>,
        operation: &str,
    ) -> Result<Option<Claims>, CloudError> {
        let found = match self.claims(service).await {
            Ok(claims) => Some(claims),
            Err(error) if error.class == Class::NotFound => None,
            Err(error) => return Err(error),
        };
        let sequence = found.as_ref().map(|claims| claims.sequence);
        if sequence == expect {
            return Ok(found);
        }
        Err(refused(operation, &format!("the claims on service {service} have changed since they were seen")))
    }
}

/// A token used for other content, or a name taken in between: another writer was faster.
fn overtaken(outcome: Result<(), CloudError>, operation: &str) -> Result<(), CloudError> {
    match outcome {
        Err(error) if error.class == Class::Exists => {
            Err(refused(operation, "another writer has changed the claims; reading them again"))
        }
        other => other,
    }
}

const TAG: &str = "sessionbackend.dev/claim/";
/// Tags a resource can have, and the lengths of a key and a value.
const TAGS: usize = 50;
const KEY: usize = 128;
const VALUE: usize = 256;

/// What is to be done so that the tags of a service show our claims.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tagging {
    set: BTreeMap<String, String>,
    unset: Vec<String>,
}

/// Only tags that show a claim of `owner` are touched. Where there is no room for all of them, none is set.
fn tags(owner: &Owner, variables: &[String], found: &BTreeMap<String, String>) -> Tagging {
    let short = |text: String, most: usize| if text.len() > most { digest(&[text.as_bytes()], 16) } else { text };
    let holder = short(owner.path(), VALUE);
    let wanted: BTreeMap<String, String> = variables
        .iter()
        .map(|variable| (format!("{TAG}{}", short(variable.clone(), KEY - TAG.len())), holder.clone()))
        .collect();
    let ours = |key: &str, value: &String| key.starts_with(TAG) && *value == holder;
    let unset: Vec<String> = found
        .iter()
        .filter(|(key, value)| ours(key, value) && !wanted.contains_key(*key))
        .map(|(key, _)| key.clone())
        .collect();
    let set: BTreeMap<_, _> = wanted.into_iter().filter(|(key, value)| found.get(key) != Some(value)).collect();
    let new = set.keys().filter(|key| !found.contains_key(*key)).count();
    let room = TAGS.saturating_sub(found.len() - unset.len());
    Tagging { set: if new > room { BTreeMap::new() } else { set }, unset }
}

fn service_of(secret: &str) -> Option<&str> {
    secret.strip_prefix(PREFIX)?.strip_suffix("/variables")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_existing_claim_wins() {
        let first = claimed(None, &["REDIS_URL".into()], "default/a/x").unwrap();
        assert_eq!(first.sequence, 1);
        let again = claimed(Some(&first), &["REDIS_URL".into(), "CELERY_BROKER_URL".into()], "default/a/x").unwrap();
        assert_eq!((again.sequence, again.holders.len()), (2, 2));
        let refused = claimed(Some(&first), &["REDIS_URL".into()], "default/b/y").unwrap_err();
        assert_eq!(refused, "variable REDIS_URL is claimed by default/a/x");
    }

    #[test]
    fn a_release_takes_only_our_own_claims() {
        let both = claimed(None, &["A".into()], "me").unwrap();
        let both = claimed(Some(&both), &["B".into()], "you").unwrap();
        let left = released(&both, "me");
        assert_eq!(left.holders, BTreeMap::from([("B".to_owned(), "you".to_owned())]));
        assert_eq!(left.sequence, 3);
    }

    #[test]
    fn a_service_is_found_again_by_its_secret() {
        assert_eq!(service_of(&Owner::claims_secret("liberty-web").0), Some("liberty-web"));
        assert_eq!(service_of("sessionbackend/default/default/x/journal"), None);
    }

    #[test]
    fn tags_show_our_claims_and_touch_no_others() {
        let owner = |name: &str| Owner {
            namespace: "team".into(),
            name: name.into(),
            installation: "default".into(),
            ..Owner::nobody()
        };
        let ours = owner("liberty");
        let key = |variable: &str| format!("{TAG}{variable}");
        let theirs = [("team".to_owned(), "web".to_owned()), (key("THEIRS"), "default/team/other".to_owned())];
        let found = BTreeMap::from(theirs.clone());
        let change = tags(&ours, &["REDIS_URL".into()], &found);
        assert_eq!(change.set, BTreeMap::from([(key("REDIS_URL"), ours.path())]));
        let shown: BTreeMap<_, _> = found.into_iter().chain(change.set).collect();
        assert_eq!(tags(&ours, &["REDIS_URL".into()], &shown), Tagging::default(), "nothing to do twice");
        assert_eq!(tags(&ours, &[], &shown), Tagging { unset: vec![key("REDIS_URL")], ..Tagging::default() });

        let full: BTreeMap<_, _> = (0..49).map(|number| (format!("own-{number}"), String::new())).collect();
        assert_eq!(tags(&ours, &["A".into()], &full).set.len(), 1);
        assert_eq!(tags(&ours, &["A".into(), "B".into()], &full), Tagging::default(), "all of them or none");
        let long = tags(&owner(&"x".repeat(300)), &["V".repeat(200)], &BTreeMap::new()).set;
        let (key, value) = long.first_key_value().unwrap();
        assert!(key.len() <= KEY && value.len() <= VALUE && key.starts_with(TAG), "{key} {value}");
    }
}
