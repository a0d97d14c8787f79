//! Why a command could not be carried out. Each names the file, field or call, and what to do; none holds a secret.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::api::Reason;
use crate::api::admission::Violation;
use crate::aws::classify::{LOOKED_AT, NO_CREDENTIALS};
use crate::connect;
use crate::error::{Class, CloudError};
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
    #[error("{}", controller(.0))]
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
        if let Self::Manifest { mistakes, .. } = self {
            for mistake in mistakes {
                let _ = writeln!(text, "  {mistake}");
            }
        }
        if let Some(remedy) = self.remedy() {
            let _ = writeln!(text, "  → {remedy}");
        }
        text
    }

    /// The same for scripts.
    #[must_use]
    pub fn json(&self) -> Value {
        let mistakes = match self {
            Self::Manifest { mistakes, .. } => mistakes.iter().map(mistake).collect(),
            _ => Vec::new(),
        };
        json!({ "error": self.to_string(), "remedy": self.remedy(), "mistakes": mistakes })
    }

    fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Cloud { error, .. } if error.message.starts_with(NO_CREDENTIALS) => {
                "aws sso login, export AWS_PROFILE=…, or AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY".to_owned()
            }
            // Only what drives an object tries again; here there is none yet.
            Self::Cloud { error, .. } if error.class == Class::Transient => {
                "check network, proxy and spec.aws.region, then say it again".to_owned()
            }
            Self::Cloud { error, .. } => Reason::of_class(error.class).remedy().to_owned(),
            Self::Refused { remedy, .. } => remedy.clone(),
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::IsADirectory => {
                "give files; -f can be repeated".to_owned()
            }
            Self::Runtime(_)
            | Self::Signals(_)
            | Self::File { .. }
            | Self::Manifest { .. }
            | Self::Violation { .. }
            | Self::Controller(_)
            | Self::Schema(_) => return None,
        })
    }

    /// The same, with where credentials were looked for instead of where they can be in general.
    #[must_use]
    pub(super) fn having_looked_at(mut self, places: &str) -> Self {
        if let Self::Cloud { error, .. } = &mut self {
            error.message = error.message.replace(LOOKED_AT, places);
        }
        self
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

/// One mistake of a manifest, for scripts.
pub(super) fn mistake(mistake: &Mistake) -> Value {
    json!({
        "document": mistake.document,
        "field": mistake.violation.field,
        "problem": mistake.violation.problem,
        "remedy": mistake.violation.remedy,
    })
}

/// Outside a cluster the client tells of every place it looked at; that there is none is enough.
fn controller(error: &crate::controller::Error) -> String {
    let text = error.to_string();
    match error {
        crate::controller::Error::NoCluster(_) if text.contains("No such file") => {
            "no cluster: no kubeconfig at KUBECONFIG or ~/.kube/config, and not in a pod; set KUBECONFIG".to_owned()
        }
        _ => text,
    }
}
