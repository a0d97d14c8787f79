//! On a real API server: what it admits and refuses of our definition, and the operator beside it as a process.
//! Where no API server can be had these tests say so and pass; with `CI=true` they fail.
#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::pedantic)]

mod admission;
mod canaries;
mod contested;
mod costs;
mod definition;
mod disturbed;
mod drift;
mod edits;
mod grants;
mod ground;
mod installations;
mod kills;
mod life;
mod operator;
mod plane;
mod replicas;
mod restart;
mod rights;
mod scale;
#[path = "../../sandbox/tests/support/starter.rs"]
#[allow(dead_code, reason = "these tests make no cache")]
mod starter;
mod stranded;
mod told;
mod verdict;
mod words;

use serde_json::{Value, json};

/// RFC 7386.
pub(crate) fn merge(base: &mut Value, patch: &Value) {
    let (Some(base), Some(patch)) = (base.as_object_mut(), patch.as_object()) else {
        *base = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            base.remove(key);
        } else if value.is_object() {
            merge(base.entry(key).or_insert(json!({})), value);
        } else {
            base.insert(key.clone(), value.clone());
        }
    }
}
