//! The journal's secret: one state a version, written by compare-and-set, the vault of plain values beside it.
//! A write is refused unless the state is where the plan saw it; a read older than what this process knows is no reading.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use rand::Rng;
use rand::distr::Alphanumeric;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::aws::secretsmanager::{SERVICE, is_in_recovery};
use crate::error::{Class, CloudError};
use crate::identity::{Fingerprint, Owner};
use crate::journal::room::LIMIT;
use crate::journal::{Entry, Journal, Migration, Prior, Resource, VaultKey};
use crate::observed::Reading;

use super::{CloudWorld, refused, service};

const OPERATION: &str = "Journal";
/// How long the answers of Secrets Manager may be behind a write; longer than that there is no journal.
const STALE: Duration = Duration::from_mins(1);

/// The secret's content. No `Debug`: the vault is in clear.
#[derive(Serialize, Deserialize)]
struct Document {
    journal: Journal,
    #[serde(default)]
    vault: BTreeMap<VaultKey, String>,
    /// Makes two writers' identical entries differ, so that the request token tells them apart.
    nonce: String,
}

/// What is in the secret.
pub(super) struct Held {
    pub(super) journal: Journal,
    pub(super) vault: BTreeMap<VaultKey, SecretString>,
    nonce: String,
}

/// What a read of the secret found.
enum Found {
    Held(Box<Held>),
    /// There is none.
    Nothing,
    /// It waits in its recovery window.
    Deleted,
}

/// Where the vault keeps the password of something of ours.
pub(super) fn resource_key(resource: &Resource) -> VaultKey {
    VaultKey(String::from(resource.clone()))
}

/// An ElastiCache token: the alphabet every client takes in a URL unescaped.
pub(super) fn generate_token() -> SecretString {
    let token: String = rand::rng().sample_iter(Alphanumeric).take(64).map(char::from).collect();
    token.into()
}

/// What was read is behind what this process knows.
fn stale(known: u64, what: &str) -> Reading<Journal> {
    let message = format!("{what}, but this process knows sequence {known}: reading again");
    Reading::Unknown(CloudError::new(Class::Transient, SERVICE, "GetSecretValue", "", &message))
}

/// What it means that nothing has been found for so long, though this process knows the journal at sequence `known`.
fn vanished(owner: &Owner, known: u64, gone: Duration) -> Reading<Journal> {
    if gone < STALE { stale(known, "no journal was found") } else { destroyed(owner) }
}

/// The journal was there, and is not in its recovery window either.
fn destroyed(owner: &Owner) -> Reading<Journal> {
    let message = format!(
        "secret {} was deleted for good by somebody else; what it knew of a migration is lost: look which store each service \
         is told of, then begin anew: `apply` again, or in a cluster abandon the object, delete it and apply it again",
        owner.journal_secret()
    );
    Reading::Unknown(CloudError::new(Class::Rejected, SERVICE, "GetSecretValue", "", &message))
}

fn nonce() -> String {
    rand::rng().sample_iter(Alphanumeric).take(16).map(char::from).collect()
}

impl CloudWorld {
    pub(super) async fn read_journal(&self, owner: &Owner) -> Reading<Journal> {
        let found = match self.fetch(owner).await {
            Ok(found) => found,
            Err(error) => return Reading::Unknown(error),
        };
        let known = self.memory().sequence;
        match found {
            Found::Held(held) if held.journal.sequence < known => {
                stale(known, &format!("the journal was read at sequence {}", held.journal.sequence))
            }
            Found::Held(held) => {
                self.memory().vanished = None;
                self.remember(owner, &held.journal, &held.vault);
                Reading::Present(held.journal)
            }
            Found::Nothing if known > 0 => {
                let since = *self.memory().vanished.get_or_insert_with(Instant::now);
                vanished(owner, known, since.elapsed())
            }
            Found::Nothing | Found::Deleted => {
                let recovers = matches!(found, Found::Deleted);
                let mut memory = self.memory();
                // Where nothing was ever written nothing was forgotten since, either.
                let searched = if known == 0 { std::mem::take(&mut memory.searched) } else { BTreeSet::new() };
                *memory = super::Memory { recovers, searched, ..super::Memory::default() };
                Reading::Absent
            }
        }
    }

    /// Whether there is no journal, not even one in its recovery window; what cannot be read is there.
    pub async fn has_no_journal(&self, owner: &Owner) -> bool {
        matches!(self.fetch(owner).await, Ok(Found::Nothing))
    }

    pub(super) async fn journal_is_gone(&self, owner: &Owner) -> Result<bool, CloudError> {
        Ok(match self.fetch(owner).await? {
            Found::Held(_) => false,
            Found::Nothing | Found::Deleted => true,
        })
    }

    /// The journal as it is this moment, which must be at `expect`: the last look before a call that needs a way back.
    pub(super) async fn journal_at(&self, owner: &Owner, expect: u64, operation: &str) -> Result<Held, CloudError> {
        match self.fetch(owner).await? {
            Found::Held(held) if held.journal.sequence == expect => Ok(*held),
            Found::Held(held) => Err(refused(
                operation,
                &format!("the journal is at sequence {}, the plan was made at {expect}", held.journal.sequence),
            )),
            Found::Nothing | Found::Deleted => {
                Err(refused(operation, &format!("there is no journal, the plan was made at sequence {expect}")))
            }
        }
    }

    /// Writes `entry` after sequence `expect`, with the plain values it needs to be undone.
    pub(super) async fn append(
        &self,
        owner: &Owner,
        expect: u64,
        entry: &Entry,
        now: Timestamp,
    ) -> Result<(), CloudError> {
        let held = match self.fetch(owner).await? {
            Found::Held(held) => Some(*held),
            Found::Nothing => None,
            Found::Deleted => {
                // A re-created object gets its journal back; what it says is for the next plan.
                self.aws.secretsmanager.restore(&owner.journal_secret().0).await?;
                return Err(refused(OPERATION, "the journal was in its recovery window and was restored"));
            }
        };
        let sequence = held.as_ref().map_or(0, |held| held.journal.sequence);
        if sequence != expect {
            return Err(refused(OPERATION, &format!("it is at sequence {sequence}, the plan was made at {expect}")));
        }
        let (former, mut vault) = held.map_or_else(Default::default, |held| (held.journal, held.vault));
        let next = former.apply(entry, now);
        let pending = self.memory().pending.clone();
        vault.extend(pending.iter().map(|(key, value)| (key.clone(), value.clone())));
        self.add_values(owner, entry, &mut vault).await?;
        let needed = needed(&next);
        vault.retain(|key, _| needed.contains(key));
        self.store(owner, expect == 0, &next, &vault).await?;
        self.memory().pending.retain(|key, _| !pending.contains_key(key));
        self.remember(owner, &next, &vault);
        Ok(())
    }

    /// What this process knows from now on: passwords by fingerprint, and how far the journal has come.
    fn remember(&self, owner: &Owner, journal: &Journal, vault: &BTreeMap<VaultKey, SecretString>) {
        let mut memory = self.memory();
        memory.sequence = memory.sequence.max(journal.sequence);
        for value in vault.values() {
            memory.passwords.insert(Fingerprint::of(owner, value.expose_secret()), value.clone());
        }
        memory.vault.clone_from(vault);
        let ids = journal.made.iter().filter_map(|(resource, made)| Some((resource.clone(), made.id.clone()?)));
        memory.made = ids.collect();
    }

    /// The journal's secret was deleted by a step of ours: its absence is no stale read any more.
    pub(super) fn forget_journal(&self) {
        self.memory().sequence = 0;
    }

    async fn fetch(&self, owner: &Owner) -> Result<Found, CloudError> {
        let name = owner.journal_secret();
        let text = match self.aws.secretsmanager.get(&name.0).await {
            Ok(text) => text,
            Err(error) if is_in_recovery(&error) => return Ok(Found::Deleted),
            Err(error) if error.class == Class::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        parse(&text).map(|held| Found::Held(Box::new(held))).map_err(|what| {
            let message = format!("secret {name} is no journal of this version ({what}); nothing is done until it is");
            CloudError::new(Class::Rejected, SERVICE, "GetSecretValue", "", &message)
        })
    }

    async fn store(
        &self,
        owner: &Owner,
        create: bool,
        next: &Journal,
        vault: &BTreeMap<VaultKey, SecretString>,
    ) -> Result<(), CloudError> {
        let nonce = nonce();
        let text = write(next, vault, &nonce)?;
        let (name, token) = (owner.journal_secret().0, owner.journal_token(next.sequence));
        let outcome = if create {
            let description = format!("Journal of SessionBackend {owner}; deleting it loses the way back");
            let created = self.aws.secretsmanager.create(&name, &description, &text, Some(&token), &owner.tags()).await;
            created.map(|_| ())
        } else {
            self.aws.secretsmanager.put(&name, &text, &token).await
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if error.class == Class::Exists => {
                Err(refused(OPERATION, &format!("another writer has written sequence {}", next.sequence)))
            }
            Err(error) if error.class.is_ambiguous() => self.settle(owner, next.sequence, &nonce, error).await,
            Err(error) => Err(error),
        }
    }

    /// A reply was lost: the nonce tells whether the entry is there, and whether it is ours.
    async fn settle(&self, owner: &Owner, sequence: u64, nonce: &str, lost: CloudError) -> Result<(), CloudError> {
        for attempt in 1..=3 {
            tokio::time::sleep(crate::aws::deadlines::pause(Class::Transient, attempt)).await;
            if let Ok(Found::Held(held)) = self.fetch(owner).await {
                if held.nonce == nonce {
                    return Ok(());
                }
                if held.journal.sequence >= sequence {
                    return Err(refused(OPERATION, &format!("another writer has written sequence {sequence}")));
                }
            }
        }
        Err(lost)
    }

    /// The plain values that go into the vault with `entry`.
    async fn add_values(
        &self,
        owner: &Owner,
        entry: &Entry,
        vault: &mut BTreeMap<VaultKey, SecretString>,
    ) -> Result<(), CloudError> {
        match entry {
            Entry::Intend(resource @ Resource::ReplicationGroup(_)) => {
                // Before the create call: AWS takes the token and never returns it.
                vault.entry(resource_key(resource)).or_insert_with(generate_token);
                Ok(())
            }
            Entry::Begin(migration) => self.add_migration(owner, migration, vault).await,
            Entry::Intend(_)
            | Entry::Made(..)
            | Entry::Gone(_)
            | Entry::Baseline(_)
            | Entry::Approve(..)
            | Entry::Sealed
            | Entry::Moving(..)
            | Entry::Moved(..)
            | Entry::NotMoved(..)
            | Entry::Dropped(..)
            | Entry::Copied(_)
            | Entry::Drained
            | Entry::Validated(_)
            | Entry::EgressValidated(_)
            | Entry::Baked(_)
            | Entry::BackValidated(_)
            | Entry::RollBack { .. }
            | Entry::Hold { .. }
            | Entry::End(..)
            | Entry::Retry
            | Entry::Abort
            | Entry::Settle(_) => Ok(()),
        }
    }

    async fn add_migration(
        &self,
        owner: &Owner,
        migration: &Migration,
        vault: &mut BTreeMap<VaultKey, SecretString>,
    ) -> Result<(), CloudError> {
        for record in migration.sides() {
            if let Some(key) = &record.password {
                let password = self.password(record.credential.as_ref(), OPERATION)?.ok_or_else(|| {
                    refused(OPERATION, &format!("the vault is to keep a password of {}, but it has none", record.id))
                })?;
                vault.insert(key.clone(), password);
            }
        }
        for moved in &migration.services {
            let plain = moved.undo.variables.iter().filter_map(|(name, prior)| match prior {
                Prior::Plain(key, fingerprint) => Some((name, key, fingerprint)),
                Prior::Absent | Prior::Reference(_) => None,
            });
            let plain: Vec<_> = plain.collect();
            if plain.is_empty() {
                continue;
            }
            let live = self.aws.apprunner.service(&moved.arn).await?;
            for (name, key, fingerprint) in plain {
                let value =
                    service::plain_value(&live, name).filter(|value| Fingerprint::of(owner, value) == *fingerprint);
                let value = value.ok_or_else(|| {
                    refused(
                        OPERATION,
                        &format!("variable {name} of service {} has changed since it was seen", moved.service),
                    )
                })?;
                vault.insert(key.clone(), SecretString::from(value.to_owned()));
            }
        }
        Ok(())
    }
}

/// What the vault must keep for `journal`: the way back of its migration, and the passwords of what we made.
fn needed(journal: &Journal) -> BTreeSet<VaultKey> {
    let mut keys: BTreeSet<VaultKey> = journal.made.keys().map(resource_key).collect();
    if let Some(migration) = &journal.migration {
        keys.extend(migration.sides().filter_map(|record| record.password.clone()));
        for prior in migration.services.iter().flat_map(|moved| moved.undo.variables.values()) {
            match prior {
                Prior::Plain(key, _) => {
                    keys.insert(key.clone());
                }
                Prior::Absent | Prior::Reference(_) => {}
            }
        }
    }
    keys
}

fn write(journal: &Journal, vault: &BTreeMap<VaultKey, SecretString>, nonce: &str) -> Result<SecretString, CloudError> {
    let wrong = |class, what: &str| CloudError::new(class, SERVICE, "PutSecretValue", "", what);
    let document = Document {
        journal: journal.clone(),
        vault: vault.iter().map(|(key, value)| (key.clone(), value.expose_secret().to_owned())).collect(),
        nonce: nonce.to_owned(),
    };
    let text = serde_json::to_string(&document)
        .map_err(|error| wrong(Class::Rejected, &format!("the journal cannot be written: {}", place(&error))))?;
    if text.len() > LIMIT {
        let what = format!("the journal would have {} bytes, a secret takes {LIMIT}", text.len());
        return Err(wrong(Class::Quota, &what));
    }
    Ok(text.into())
}

fn parse(text: &SecretString) -> Result<Held, String> {
    let document: Document = serde_json::from_str(text.expose_secret()).map_err(|error| place(&error))?;
    let vault = document.vault.into_iter().map(|(key, value)| (key, value.into())).collect();
    Ok(Held { journal: document.journal, vault, nonce: document.nonce })
}

/// Where JSON is wrong. Not serde's own message: it quotes what it found, and that may be a password.
fn place(error: &serde_json::Error) -> String {
    format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(pairs: &[(&str, &str)]) -> BTreeMap<VaultKey, SecretString> {
        pairs.iter().map(|(key, value)| (VaultKey((*key).into()), SecretString::from(*value))).collect()
    }

    #[test]
    fn journal_and_vault_survive_the_secret() {
        let journal = Journal::default().apply(&Entry::Retry, Timestamp::UNIX_EPOCH);
        let text = write(&journal, &vault(&[("k", "canary-word")]), "n").unwrap();
        let held = parse(&text).unwrap();
        assert_eq!(held.journal, journal);
        assert_eq!(held.vault[&VaultKey("k".into())].expose_secret(), "canary-word");
        assert!(!format!("{text:?}").contains("canary-word"));
    }

    #[test]
    fn what_is_wrong_with_a_journal_is_said_without_its_content() {
        let text = SecretString::from(r#"{"journal":{"sequence":"canary-word"},"nonce":"n"}"#);
        let Err(what) = parse(&text) else { panic!("parsed") };
        assert!(what.contains("line 1") && !what.contains("canary-word"), "{what}");
    }

    #[test]
    fn a_journal_that_is_not_found_is_read_again_for_a_minute_and_then_said_to_be_destroyed() {
        let owner = Owner::nobody();
        let said = |gone| match vanished(&owner, 7, gone) {
            Reading::Unknown(error) => error,
            other => panic!("{other:?}"),
        };
        for gone in [Duration::ZERO, STALE.saturating_sub(Duration::from_millis(1))] {
            let error = said(gone);
            assert!(error.class.is_temporary() && error.message.contains("knows sequence 7"), "{error}");
        }
        for gone in [STALE, Duration::from_hours(1)] {
            let error = said(gone);
            assert_eq!(error.class, Class::Rejected, "nothing is begun anew by itself");
            for part in
                [owner.journal_secret().0.as_str(), "deleted for good", "which store each service", "`apply` again"]
            {
                assert!(error.message.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn a_journal_too_large_for_a_secret_is_refused_before_the_call() {
        let large = "x".repeat(LIMIT);
        let error = write(&Journal::default(), &vault(&[("k", &large)]), "n").unwrap_err();
        assert_eq!(error.class, Class::Quota);
    }

    #[test]
    fn the_vault_keeps_the_passwords_of_what_was_made_and_nothing_else() {
        let made = Resource::ReplicationGroup("sb-cache".into());
        let journal = Journal::default().apply(&Entry::Intend(made.clone()), Timestamp::UNIX_EPOCH);
        assert_eq!(needed(&journal), BTreeSet::from([resource_key(&made)]));
        let journal = journal.apply(&Entry::Gone(made), Timestamp::UNIX_EPOCH);
        assert!(needed(&journal).is_empty());
    }

    #[test]
    fn tokens_are_of_the_length_and_alphabet_elasticache_takes_and_never_the_same() {
        let (a, b) = (generate_token(), generate_token());
        assert_eq!(a.expose_secret().len(), 64);
        assert!(a.expose_secret().chars().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(a.expose_secret(), b.expose_secret());
    }
}
