//! One object of a manifest, and what a command needs to work on it: whose it is and the world it lives in.

use std::path::{Path, PathBuf};

use super::args::Output;
use super::environment::Environment;
use super::error::Error;
use super::files;
use super::secrets::Documents;
use crate::connect::{Clouds, Connection, Whose};
use crate::identity::DEFAULT_INSTALLATION;
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

    /// Commands in `text` with the manifests of this one in place of their FILE, ready to be run as they stand.
    #[must_use]
    pub fn pasteable(&self, text: &str) -> String {
        text.replace("-f FILE", &self.arguments())
    }

    /// The arguments by which another command means the same objects.
    fn arguments(&self) -> String {
        let mut arguments: Vec<_> = self.files.iter().map(|file| format!("-f {}", quoted(file))).collect();
        arguments.extend(self.namespace.iter().map(|namespace| format!("--namespace {namespace}")));
        if self.installation != DEFAULT_INSTALLATION {
            arguments.push(format!("--installation {}", self.installation));
        }
        arguments.join(" ")
    }

    /// Reads the manifests and connects each object to its account, one after another.
    ///
    /// # Errors
    /// When a manifest is wrong, a Secret is missing, or nobody says whose credentials these are.
    pub async fn objects(&self) -> Result<Vec<Connection>, Error> {
        let manifest = files::read(self)?;
        let clouds = Clouds::new(self.environment.upstash())
            .map_err(|error| Error::refused(error.to_string(), "look at SSL_CERT_FILE"))?;
        let mut objects = Vec::new();
        for entry in &manifest.objects {
            let whose = Whose {
                installation: &self.installation,
                namespace: &self.namespace(entry)?,
                name: name(&entry.object),
                generation: entry.object.metadata.generation,
                spec: &entry.object.spec,
                desired: &entry.desired,
            };
            let connected = Box::pin(clouds.connect(whose, &Documents::new(self, &manifest, entry)?, None)).await;
            objects.push(connected.map_err(|error| {
                Error::of_connection(self.path(entry), error).having_looked_at(&self.environment.looked_at())
            })?);
        }
        Ok(objects)
    }
}

/// A path as a shell reads it; standard input has no name another command could read again.
fn quoted(file: &Path) -> String {
    let text = file.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    match text.as_str() {
        "-" => "FILE".to_owned(),
        text if text.chars().all(plain) => text.to_owned(),
        text => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(files: &[&str]) -> Session {
        Session {
            environment: Environment::default(),
            output: Output::Text,
            installation: DEFAULT_INSTALLATION.to_owned(),
            namespace: None,
            files: files.iter().map(PathBuf::from).collect(),
        }
    }

    #[test]
    fn a_command_that_is_shown_can_be_run_as_it_stands() {
        let shown = "→ sessionbackend approve 1-1/switch -f FILE, then sessionbackend apply -f FILE";
        let two = session(&["service.yaml", "my secrets.yaml"]).pasteable(shown);
        assert_eq!(
            two,
            "→ sessionbackend approve 1-1/switch -f service.yaml -f 'my secrets.yaml', \
             then sessionbackend apply -f service.yaml -f 'my secrets.yaml'"
        );
        assert_eq!(session(&["-"]).pasteable(shown), shown);
        let elsewhere =
            Session { installation: "blue".into(), namespace: Some("liberty".into()), ..session(&["a.yaml"]) };
        assert_eq!(elsewhere.pasteable("apply -f FILE"), "apply -f a.yaml --namespace liberty --installation blue");
    }
}
