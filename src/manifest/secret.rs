//! Secrets as documents of a file, and the references of a spec to them.
//! A message names Secret and key, never the value or a part of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::DEFAULT_NAMESPACE;
use crate::api::admission::Violation;
use crate::api::{SessionBackendSpec, spec};
use crate::env::parse_url;
use crate::identity::{Address, digest};

/// How the problem of a Secret that is nowhere ends.
pub const NOT_FOUND: &str = "is not found";

/// A `v1` Secret.
#[derive(Clone, Debug)]
pub struct Secret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    data: BTreeMap<String, Entry>,
}

/// One value; `{:?}` prints none.
#[derive(Clone, Debug)]
enum Entry {
    Text(SecretString),
    NotUtf8,
}

/// A field of a spec that names a Secret, and the keys it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The field's path.
    pub field: String,
    /// The Secret's name, in the object's own namespace.
    pub secret: String,
    /// The keys that must be in it.
    pub keys: Vec<String>,
}

impl Secret {
    /// A Secret whose bytes were read elsewhere.
    #[must_use]
    pub fn new(namespace: &str, name: &str, data: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let data = data.into_iter().map(|(key, bytes)| (key, Entry::of(bytes))).collect();
        Self { namespace: namespace.to_owned(), name: name.to_owned(), data }
    }

    /// Reads a document.
    pub(super) fn read(value: &Value) -> Result<Self, Vec<Violation>> {
        let mut found = Vec::new();
        let known = ["apiVersion", "kind", "metadata", "type", "data", "stringData", "immutable"];
        for field in value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(field, _)| field)
            .filter(|field| !known.contains(&field.as_str()))
        {
            found.push(Violation::new(
                crate::error::presentable(field, 80),
                "is no field of a Secret",
                "use data (base64) or stringData",
            ));
        }
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let name = text("/metadata/name").unwrap_or_default().to_owned();
        if name.is_empty() {
            found.push(Violation::new("metadata.name", "is required", "add it: the name the spec refers to"));
        }
        let mut data = BTreeMap::new();
        for (section, is_encoded) in [("data", true), ("stringData", false)] {
            let Some(values) = value.get(section) else { continue };
            let Some(values) = values.as_object() else {
                found.push(Violation::new(section, "is no map", "write key: value lines below it"));
                continue;
            };
            for (key, value) in values {
                let field = format!("{section}.{}", crate::error::presentable(key, 80));
                let bytes = match (value.as_str(), is_encoded) {
                    (None, _) => Err(("is not text", "put the value in quotes")),
                    (Some(text), false) => Ok(text.as_bytes().to_vec()),
                    (Some(text), true) => {
                        base64::engine::general_purpose::STANDARD.decode(text.trim_ascii()).map_err(|_| {
                            ("is not base64 (value not shown)", "encode it, or write it in plain under stringData")
                        })
                    }
                };
                match bytes {
                    Ok(bytes) => {
                        data.insert(key.clone(), Entry::of(bytes));
                    }
                    Err((problem, remedy)) => found.push(Violation::new(field, problem, remedy)),
                }
            }
        }
        let namespace = text("/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE).to_owned();
        if found.is_empty() { Ok(Self { namespace, name, data }) } else { Err(found) }
    }

    /// What stands for everything in it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut parts = vec![self.name.as_bytes()];
        for (key, entry) in &self.data {
            parts.push(key.as_bytes());
            parts.push(match entry {
                Entry::Text(value) => value.expose_secret().as_bytes(),
                Entry::NotUtf8 => b"",
            });
        }
        digest(&parts, 16)
    }

    /// The value of `key`, as the field that refers to it may use it.
    ///
    /// # Errors
    /// When it is missing, empty, no UTF-8, or begins or ends with white space, which is never meant.
    pub fn value(&self, field: &str, key: &str) -> Result<&SecretString, Violation> {
        let refuse = |problem: &str, remedy: &str| {
            let problem = format!("key {key:?} of Secret {}/{} {problem}", self.namespace, self.name);
            Err(Violation::new(field, problem, remedy))
        };
        match self.data.get(key) {
            None => refuse("is missing", "add the key to the Secret"),
            Some(Entry::NotUtf8) => refuse("is not UTF-8 (value not shown)", "write it as text"),
            Some(Entry::Text(value)) if value.expose_secret().is_empty() => refuse("is empty", "write the value"),
            Some(Entry::Text(value)) if value.expose_secret().trim() != value.expose_secret() => {
                refuse("begins or ends with white space (value not shown)", "remove it; `echo -n` writes no newline")
            }
            Some(Entry::Text(value)) => Ok(value),
        }
    }
}

impl Entry {
    fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or(Self::NotUtf8, |text| Self::Text(text.into()))
    }
}

/// Every Secret `spec` needs.
#[must_use]
pub fn references(spec: &SessionBackendSpec) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut needs = |field: &str, secret: &str, keys: &[&str]| {
        found.push(Reference {
            field: field.to_owned(),
            secret: secret.to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        });
    };
    let upstash = ["email", "apiKey"];
    let elasticache = ["username", "password"];
    let store = &spec.store;
    if let Some(secret) = store.upstash.as_ref().and_then(|upstash| upstash.api_key_secret_ref.as_ref()) {
        needs("spec.store.upstash.apiKeySecretRef", &secret.name, &upstash);
    }
    if let Some(secret) = store.elasti_cache.as_ref().and_then(|cache| cache.credentials_secret_ref.as_ref()) {
        needs("spec.store.elastiCache.credentialsSecretRef", &secret.name, &elasticache);
    }
    if let Some(external) = &store.external {
        let url = &external.url_secret_key_ref;
        needs("spec.store.external.urlSecretKeyRef", &url.name, &[&url.key]);
    }
    let Some(from) = spec.migration.as_ref().and_then(|migration| migration.from.as_ref()) else { return found };
    if let Some(secret) = from.upstash.as_ref().and_then(|upstash| upstash.api_key_secret_ref.as_ref()) {
        needs("spec.migration.from.upstash.apiKeySecretRef", &secret.name, &upstash);
    }
    if let Some(secret) = from.elasti_cache.as_ref().and_then(|cache| cache.credentials_secret_ref.as_ref()) {
        needs("spec.migration.from.elastiCache.credentialsSecretRef", &secret.name, &elasticache);
    }
    if let Some(external) = &from.external {
        let url = &external.url_secret_key_ref;
        needs("spec.migration.from.external.urlSecretKeyRef", &url.name, &[&url.key]);
    }
    found
}

impl Reference {
    /// The one of `all` at `field`, or one that needs `key` only.
    #[must_use]
    pub fn at(all: &[Self], field: &str, secret: &str, key: &str) -> Self {
        let known = all.iter().find(|known| known.field == field && known.secret == secret).cloned();
        known.unwrap_or_else(|| Self { field: field.to_owned(), secret: secret.to_owned(), keys: vec![key.to_owned()] })
    }

    /// What is said where the Secret is in neither the file nor the cluster.
    #[must_use]
    pub fn not_found(&self, namespace: &str) -> Violation {
        let word = if self.keys.len() == 1 { "key" } else { "keys" };
        let keys = self.keys.join(", ");
        Violation::new(
            &self.field,
            format!("Secret {namespace}/{} {NOT_FOUND}", self.secret),
            format!("create it with the {word} {keys}"),
        )
    }
}

/// The environment variable in which the command line also looks for a key of a Secret.
#[must_use]
pub fn variable(secret: &str, key: &str) -> String {
    let upper = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
    };
    format!("SESSIONBACKEND_SECRET_{}_{}", upper(secret), upper(key))
}

/// Address and password of an external store.
///
/// # Errors
/// When the value is no Redis URL, or its scheme is not what `external.tls` admits.
pub fn external_url(
    field: &str,
    external: &spec::External,
    value: &SecretString,
) -> Result<(Address, Option<SecretString>), Violation> {
    let key = &external.url_secret_key_ref;
    let named = format!("key {:?} of Secret {}", key.key.0, key.name);
    let (address, password) = parse_url(value.expose_secret())
        .map_err(|error| Violation::from_message(field, &format!("{named} {error}")))?;
    match external.tls {
        None | Some(spec::Tls::Required) if !address.tls => Err(Violation::new(
            field,
            format!("{named} is a redis:// URL, but TLS is required"),
            "use rediss://, or set tls: Preferred if the network is trusted",
        )),
        Some(spec::Tls::Disabled) if address.tls => Err(Violation::new(
            field,
            format!("{named} is a rediss:// URL, but tls is Disabled"),
            "use redis://, or set tls: Required",
        )),
        None | Some(spec::Tls::Required | spec::Tls::Preferred | spec::Tls::Disabled) => Ok((address, password)),
    }
}
