//! `log`: the calls the emulated clouds have had.

use std::path::Path;

use clap::Args;
use serde_json::Value;

use super::ground::Ground;
use super::{Format, client};

#[derive(Debug, Args)]
pub(super) struct Log {
    /// How to print it.
    #[arg(short, long, default_value = "text")]
    output: Format,
    /// Only calls that may have changed something.
    #[arg(long)]
    mutating: bool,
}

pub(super) fn log(dir: &Path, log: &Log) -> Result<(), String> {
    let ground = Ground::read(dir)?;
    let calls = client::get(ground.endpoint, "GET", "log", &Value::Null)?;
    let calls = calls.as_array().map(Vec::as_slice).unwrap_or_default();
    let calls = calls.iter().filter(|call| !log.mutating || call["mutating"] == true);
    match log.output {
        Format::Json => say!("{}", Value::Array(calls.cloned().collect())),
        Format::Text => calls.for_each(|call| {
            let text = |name: &str| call[name].as_str().unwrap_or_default().to_owned();
            say!(
                "{} {:14} {:32} {:40} {}",
                text("time"),
                text("service"),
                text("operation"),
                text("resource"),
                text("outcome")
            );
        }),
    }
    Ok(())
}
