//! Standard output. A reader that has gone away is no reason to stop a migration: what cannot be written is dropped.

use std::io::Write as _;

use serde::Serialize;
use serde_json::Value;

/// Text as it is.
pub fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// One line.
pub fn line(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// One JSON object on a line of its own.
pub fn json_line<T: Serialize>(value: &T) {
    if let Ok(json) = serde_json::to_string(value) {
        line(&json);
    }
}

/// One JSON document: the object itself, or a list where there are several.
pub fn document(mut documents: Vec<Value>) {
    let document = if documents.len() == 1 {
        documents.swap_remove(0)
    } else {
        serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": documents })
    };
    line(&format!("{document:#}"));
}
