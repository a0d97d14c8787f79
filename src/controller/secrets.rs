//! The Secrets an object refers to, read by name in its own namespace: never listed, never watched. A change of their values is
//! noticed by what stands for them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1;
use kube::api::Api;
use secrecy::SecretString;

use super::api::{self, call};
use crate::api::SessionBackendSpec;
use crate::api::admission::Violation;
use crate::checks::Check;
use crate::connect::Values;
use crate::desired::Desired;
use crate::identity::digest;
use crate::manifest::{Reference, Secret, references};

/// The Secrets of one object, as they were read.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets {
    namespace: String,
    named: Vec<Reference>,
    found: BTreeMap<String, Secret>,
    digest: String,
}

impl Secrets {
    /// Reads those that `spec` and its checks name.
    ///
    /// # Errors
    /// When one cannot be read; that one is not there is for whoever needs it to say.
    pub(super) async fn read(
        secrets: &Api<v1::Secret>,
        namespace: &str,
        spec: &SessionBackendSpec,
        desired: &Desired,
    ) -> Result<Self, api::Error> {
        let named = references(spec);
        let mut names: BTreeSet<String> = named.iter().map(|reference| reference.secret.clone()).collect();
        if let Desired::Present(target) = desired {
            names.extend(target.checks.iter().flat_map(Check::secrets).map(|key| key.name.clone()));
        }
        let mut read = Self { namespace: namespace.to_owned(), named, ..Self::default() };
        let mut parts = Vec::new();
        for name in names {
            let Some(secret) = call("get", "secret", secrets.get_opt(&name)).await? else { continue };
            let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
            let secret = Secret::new(namespace, &name, data);
            parts.push(secret.fingerprint());
            read.found.insert(name, secret);
        }
        let parts: Vec<_> = parts.iter().map(String::as_bytes).collect();
        read.digest = digest(&parts, 16);
        Ok(read)
    }

    /// Whether other values were read than before.
    #[must_use]
    pub(super) fn differ_from(&self, former: &Self) -> bool {
        self.digest != former.digest
    }
}

impl Values for Secrets {
    fn get(&self, field: &str, secret: &str, key: &str) -> Result<SecretString, Violation> {
        let Some(found) = self.found.get(secret) else {
            return Err(Reference::at(&self.named, field, secret, key).not_found(&self.namespace));
        };
        found.value(field, key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn no_value_is_printed() {
        let secret = Secret::new("liberty", "upstash-api", [("apiKey".to_owned(), b"canary-0451".to_vec())]);
        let secrets = Secrets {
            namespace: "liberty".into(),
            found: BTreeMap::from([("upstash-api".into(), secret)]),
            ..Secrets::default()
        };
        assert_eq!(secrets.get("f", "upstash-api", "apiKey").unwrap().expose_secret(), "canary-0451");
        assert!(!format!("{secrets:?}").contains("canary"));
    }
}
