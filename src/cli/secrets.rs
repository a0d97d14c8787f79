//! Values of Secrets: from the environment where it has them, else from the Secret documents of the manifests.
//! They go from here to the clients that need them, and nowhere else.

use secrecy::SecretString;

use super::error::Error;
use super::object::Session;
use crate::api::admission::Violation;
use crate::connect::Values;
use crate::manifest::{DEFAULT_NAMESPACE, Entry, Manifest, Reference, Secret, references, variable};

/// The values one object may use.
#[derive(Clone, Debug)]
pub struct Documents<'a> {
    session: &'a Session,
    manifest: &'a Manifest,
    entry: &'a Entry,
    namespace: String,
}

impl<'a> Documents<'a> {
    /// Of `entry`.
    ///
    /// # Errors
    /// As [`Session::namespace`].
    pub fn new(session: &'a Session, manifest: &'a Manifest, entry: &'a Entry) -> Result<Self, Error> {
        Ok(Self { session, manifest, entry, namespace: session.namespace(entry)? })
    }

    fn document(&self, secret: &str) -> Option<&'a Secret> {
        let unnamed = || {
            // A Secret that names no namespace is in that of the objects that name none.
            let same = self.entry.object.metadata.namespace.is_none();
            same.then(|| self.manifest.secret(DEFAULT_NAMESPACE, secret)).flatten()
        };
        self.manifest.secret(&self.namespace, secret).or_else(unnamed)
    }
}

impl Values for Documents<'_> {
    fn get(&self, field: &str, secret: &str, key: &str) -> Result<SecretString, Violation> {
        if let Some(value) = self.session.environment.secret(secret, key) {
            return Ok(value.clone());
        }
        let Some(found) = self.document(secret) else {
            let reference = Reference::at(&references(&self.entry.object.spec), field, secret, key);
            let Violation { field, problem, remedy } = reference.not_found(&self.namespace);
            let variables: Vec<_> = reference.keys.iter().map(|key| variable(secret, key)).collect();
            let remedy = format!("{remedy}: put it into the manifest, or set {}", variables.join(" and "));
            return Err(Violation::new(field, problem, remedy));
        };
        found.value(field, key).cloned()
    }
}

/// What is said of the Secrets `entry` refers to and that are nowhere here: in a cluster they may exist.
///
/// # Errors
/// When one that is here is not fit to be used.
pub(super) fn missing(session: &Session, manifest: &Manifest, entry: &Entry) -> Result<Vec<String>, Error> {
    let values = Documents::new(session, manifest, entry)?;
    let object = session.path(entry)?;
    let mut missing = Vec::new();
    for reference in references(&entry.object.spec) {
        let here = |key: &String| session.environment.secret(&reference.secret, key).is_some();
        if values.document(&reference.secret).is_none() && !reference.keys.iter().all(here) {
            missing.push(reference.not_found(&values.namespace).to_string());
            continue;
        }
        for key in &reference.keys {
            values
                .get(&reference.field, &reference.secret, key)
                .map_err(|violation| Error::Violation { object: object.clone(), violation: Box::new(violation) })?;
        }
    }
    Ok(missing)
}
