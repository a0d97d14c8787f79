//! Reading the manifests of `-f`, and `validate`, which does nothing else.

use std::io::Read as _;
use std::path::Path;

use serde_json::json;

use super::args::Output;
use super::error::{self, Error};
use super::object::Session;
use super::{exit, output, secrets};
use crate::manifest::{self, Manifest};

/// Reads all files as one: a Secret may be in another file than the object that refers to it.
///
/// # Errors
/// When a file cannot be read, or everything that is wrong in them.
pub fn read(session: &Session) -> Result<Manifest, Error> {
    let texts: Vec<_> = session.files.iter().map(|path| one(path)).collect::<Result<_, _>>()?;
    manifest::read(&texts.join("\n---\n")).map_err(|mistakes| Error::Manifest { files: names(session), mistakes })
}

fn one(path: &Path) -> Result<String, Error> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|source| Error::File { path: path.display().to_string(), source })
}

fn names(session: &Session) -> String {
    session.files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// `validate`.
///
/// # Errors
/// Everything that is wrong.
pub fn validate(session: &Session) -> Result<u8, Error> {
    let manifest = match read(session) {
        Err(Error::Manifest { files, mistakes }) if session.output == Output::Json => {
            let all: Vec<_> = mistakes.iter().map(error::mistake).collect();
            output::document(vec![json!({ "valid": false, "files": files, "mistakes": all })]);
            return Ok(exit::ERROR);
        }
        read => read?,
    };
    let mut missing = Vec::new();
    for entry in &manifest.objects {
        missing.extend(secrets::missing(session, &manifest, entry)?);
    }
    let objects: Vec<_> = manifest.objects.iter().map(|entry| session.path(entry)).collect::<Result<_, _>>()?;
    let notes: Vec<_> = manifest.objects.iter().filter_map(|entry| elsewhere(&entry.object.spec.aws.region)).collect();
    match session.output {
        Output::Json => output::document(vec![
            json!({ "valid": true, "objects": objects, "missingSecrets": missing, "notes": notes }),
        ]),
        Output::Text => {
            for object in &objects {
                output::line(&format!("{object}: valid"));
            }
            for note in missing.iter().chain(&notes) {
                output::line(&format!("  note: {note}"));
            }
        }
    }
    Ok(exit::CONVERGED)
}

/// Where App Runner was when this version was made; a region that is none of these may be a typing mistake.
const REGIONS: [&str; 11] = [
    "ap-northeast-1",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "eu-central-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "us-east-1",
    "us-east-2",
    "us-west-2",
];

fn elsewhere(region: &str) -> Option<String> {
    let known = REGIONS.contains(&region);
    (!known).then(|| format!("spec.aws.region: this version does not know that App Runner is in {region}"))
}
