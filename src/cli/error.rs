//! Why a command could not be carried out. Each names the file, field or call, and what to do; none holds a secret.

use std::fmt::Write as _;

use crate::api::Reason;
use crate::api::admission::Violation;
use crate::connect;
use crate::error::CloudError;
use crate::manifest::Mistake;

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No runtime.
    #[error("the asynchronous runtime cannot be started: {0}")]
    Runtime(#[source] std::io::Error),
    /// Signals.
    #[error("signals cannot be listened to: {0}")]
    Signals(#[source] std::io::Error),
    /// A file that cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Manifests with mistakes.
    #[error("{} in {files}", crate::render::plural(.mistakes.len(), "mistake"))]
    Manifest {
        /// The files.
        files: String,
        /// All of them.
        mistakes: Vec<Mistake>,
    },
    /// Something a manifest refers to.
    #[error("{object}: {violation}")]
    Violation {
        /// Whose.
        object: String,
        /// What is wrong.
        violation: Box<Violation>,
    },
    /// A call that failed before there was anything to plan.
    #[error("{object}: {error}")]
    Cloud {
        /// Whose.
        object: String,
        /// What failed.
        error: Box<CloudError>,
    },
    /// What was asked for cannot be done now.
    #[error("{what}")]
    Refused {
        /// Why.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The controller.
    #[error("{0}")]
    Controller(#[source] crate::controller::Error),
    /// The definition cannot be printed.
    #[error("the custom resource definition cannot be written: {0}")]
    Schema(#[source] serde_yaml::Error),
}

impl Error {
    /// For people, with everything that is wrong and what to do.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("sessionbackend: {self}\n");
        match self {
            Self::Manifest { mistakes, .. } => {
                for mistake in mistakes {
                    let _ = writeln!(text, "  {mistake}");
                }
            }
            Self::Cloud { error, .. } => {
                let _ = writeln!(text, "  → {}", Reason::of_class(error.class).remedy());
            }
            Self::Refused { remedy, .. } => {
                let _ = writeln!(text, "  → {remedy}");
            }
            Self::Runtime(_)
            | Self::Signals(_)
            | Self::File { .. }
            | Self::Violation { .. }
            | Self::Controller(_)
            | Self::Schema(_) => {}
        }
        text
    }

    /// Why `object` has no world.
    pub(super) fn of_connection(object: Result<String, Self>, error: connect::Error) -> Self {
        match (object, error) {
            (Ok(object), connect::Error::Violation(violation)) => {
                Self::Violation { object, violation: Box::new(violation) }
            }
            (Ok(object), connect::Error::Cloud(error)) => Self::Cloud { object, error: Box::new(error) },
            (Err(error), _) => error,
        }
    }

    /// That what was asked for cannot be done.
    pub(super) fn refused(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), remedy: remedy.into() }
    }
}
