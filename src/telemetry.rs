//! The log: on standard error, asked for by a filter, and never with a secret. Dependencies log whole requests below INFO,
//! so their targets are capped there whatever the filter says.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// How a process logs.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// What is logged when nothing was asked for.
    pub default: &'static str,
    /// One JSON object a line.
    pub json: bool,
}

/// Starts the log with `filter`, such as `sessionbackend=debug`. A filter that cannot be read is said and ignored.
pub fn start(filter: Option<&str>, log: &Log) {
    let Log { default, json } = *log;
    let calm = calm(default, json);
    let default = calm.as_str();
    let asked = filter.filter(|filter| !filter.is_empty()).unwrap_or(default);
    let (directives, wrong) = match EnvFilter::try_new(asked) {
        Ok(directives) => (directives, None),
        Err(error) => (EnvFilter::new(default), Some(error)),
    };
    let coloured = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(coloured).with_writer(std::io::stderr);
    let filter = directives.and(filter_fn(is_ours_or_calm));
    let format = if json {
        lines.json().flatten_event(true).with_filter(filter).boxed()
    } else {
        lines.with_filter(filter).boxed()
    };
    if let Err(error) = tracing_subscriber::registry().with(format).try_init() {
        eprintln!("sessionbackend: no log: {error}");
    }
    if let Some(error) = wrong {
        tracing::warn!(%error, "the log filter cannot be read; logging {default}");
    }
}

/// What is logged when nothing was asked for. That no credentials were found is said by the call that needs them, in one
/// line; `aws_config` warns of it in many.
fn calm(default: &str, json: bool) -> String {
    if json { default.to_owned() } else { format!("{default},aws_config=error") }
}

/// Our own targets at any level, everybody else's down to INFO.
fn is_ours_or_calm(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let ours = target == "sessionbackend" || target.starts_with("sessionbackend::");
    ours || *metadata.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn people_are_not_warned_of_credentials_twice() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let filter = EnvFilter::new(calm("warn", false));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer.with_filter(filter)), || {
            tracing::warn!(target: "aws_config::meta::credentials::chain", "canary-provider");
            tracing::warn!(target: "hyper", "heard");
        });
        let said = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(said.contains("heard") && !said.contains("canary"), "{said}");
    }

    #[test]
    fn dependencies_say_nothing_below_info_whatever_is_asked_for() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let filter = EnvFilter::new("trace").and(filter_fn(is_ours_or_calm));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer.with_filter(filter)), || {
            tracing::trace!(target: "aws_smithy_runtime", "canary-request");
            tracing::debug!(target: "sessionbackendlike", "canary-stranger");
            tracing::info!(target: "hyper", "calm");
            tracing::trace!(target: "sessionbackend::world", "ours");
        });
        let said = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(said.contains("calm") && said.contains("ours"), "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
}
