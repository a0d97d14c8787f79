//! Values of Secrets: from the environment where it has them, else from the Secret documents of the manifests.
//! They go from here to the clients that need them, and nowhere else.

use secrecy::SecretString;

use super::error::Error;
use super::object::Session;
use crate::api::admission::Violation;
use crate::manifest::{DEFAULT_NAMESPACE, Entry, Manifest, Reference, Secret, references, variable};

/// The values one object may use.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    session: &'a Session,
    manifest: &'a Manifest,
    entry: &'a Entry,
}

impl<'a> Values<'a> {
    /// Of `entry`.
    pub fn new(session: &'a Session, manifest: &'a Manifest, entry: &'a Entry) -> Self {
        Self { session, manifest, entry }
    }

    /// A key of the Secret that `field` refers to.
    ///
    /// # Errors
    /// When it is nowhere, or not fit to be used.
    pub fn get(&self, field: &str, secret: &str, key: &str) -> Result<SecretString, Error> {
        if let Some(value) = self.session.environment.secret(secret, key) {
            return Ok(value.clone());
        }
        let namespace = self.session.namespace(self.entry)?;
        let Some(found) = self.document(&namespace, secret) else {
            let reference =
                Reference { field: field.to_owned(), secret: secret.to_owned(), keys: vec![key.to_owned()] };
            let Violation { field, problem, remedy } = reference.not_found(&namespace);
            let remedy = format!("{remedy}: put it into the manifest, or set {}", variable(secret, key));
            return Err(self.refuse(Violation::new(field, problem, remedy)));
        };
        found.value(field, key).cloned().map_err(|violation| self.refuse(violation))
    }

    fn document(&self, namespace: &str, secret: &str) -> Option<&'a Secret> {
        let unnamed = || {
            // A Secret that names no namespace is in that of the objects that name none.
            let same = self.entry.object.metadata.namespace.is_none();
            same.then(|| self.manifest.secret(DEFAULT_NAMESPACE, secret)).flatten()
        };
        self.manifest.secret(namespace, secret).or_else(unnamed)
    }

    fn refuse(&self, violation: Violation) -> Error {
        let object = self.session.path(self.entry).unwrap_or_default();
        Error::Violation { object, violation: Box::new(violation) }
    }
}

/// What is said of the Secrets `entry` refers to and that are nowhere here: in a cluster they may exist.
///
/// # Errors
/// When one that is here is not fit to be used.
pub(super) fn missing(session: &Session, manifest: &Manifest, entry: &Entry) -> Result<Vec<String>, Error> {
    let namespace = session.namespace(entry)?;
    let values = Values::new(session, manifest, entry);
    let mut missing = Vec::new();
    for reference in references(&entry.object.spec) {
        let here = |key: &String| session.environment.secret(&reference.secret, key).is_some();
        if values.document(&namespace, &reference.secret).is_none() && !reference.keys.iter().all(here) {
            missing.push(reference.not_found(&namespace).to_string());
            continue;
        }
        for key in &reference.keys {
            values.get(&reference.field, &reference.secret, key)?;
        }
    }
    Ok(missing)
}
