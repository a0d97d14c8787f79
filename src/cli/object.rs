//! One object of a manifest, and what a command needs to work on it: whose it is and the world it lives in.

use std::path::PathBuf;

use super::args::Output;
use super::connect::{self, Connection};
use super::environment::Environment;
use super::error::Error;
use super::files;
use crate::manifest::{DEFAULT_NAMESPACE, Entry, name};

/// What is the same for every object of a command.
#[derive(Clone, Debug)]
pub struct Session {
    /// The environment.
    pub environment: Environment,
    /// How to answer.
    pub output: Output,
    /// The installation.
    pub installation: String,
    /// The namespace of objects that name none.
    pub namespace: Option<String>,
    /// The manifests.
    pub files: Vec<PathBuf>,
}

impl Session {
    /// The namespace of `entry`.
    ///
    /// # Errors
    /// When it names another one than the command line does.
    pub fn namespace(&self, entry: &Entry) -> Result<String, Error> {
        let (own, given) = (entry.object.metadata.namespace.as_deref(), self.namespace.as_deref());
        if let (Some(own), Some(given)) = (own, given)
            && own != given
        {
            return Err(Error::refused(
                format!("{own}/{}: the command line says namespace {given}", name(&entry.object)),
                "leave --namespace out, or correct metadata.namespace",
            ));
        }
        Ok(own.or(given).unwrap_or(DEFAULT_NAMESPACE).to_owned())
    }

    /// `namespace/name` of `entry`.
    ///
    /// # Errors
    /// As [`Session::namespace`].
    pub fn path(&self, entry: &Entry) -> Result<String, Error> {
        Ok(format!("{}/{}", self.namespace(entry)?, name(&entry.object)))
    }

    /// Reads the manifests and connects each object to its account, one after another.
    ///
    /// # Errors
    /// When a manifest is wrong, a Secret is missing, or nobody says whose credentials these are.
    pub async fn objects(&self) -> Result<Vec<Connection>, Error> {
        let manifest = files::read(self)?;
        let mut objects = Vec::new();
        for entry in &manifest.objects {
            objects.push(connect::connect(self, &manifest, entry).await?);
        }
        Ok(objects)
    }
}
