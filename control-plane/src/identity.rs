//! Who the API server is and whom it knows: one key pair for TLS and for the tokens of service accounts, and one administrator.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};

use super::Error;

/// The token of the administrator; good for a server on loopback that lives as long as its starter.
pub(crate) const ADMIN: &str = "administrator";

#[derive(Debug)]
pub(crate) struct Identity {
    /// In PEM.
    pub(crate) certificate: String,
    /// The same in a file.
    pub(crate) certificate_file: PathBuf,
    /// Its private key.
    pub(crate) key_file: PathBuf,
    /// Token, name, id and groups of the users.
    pub(crate) tokens_file: PathBuf,
}

impl Identity {
    /// Made anew, in files of `folder`.
    pub(crate) fn make(folder: &Path) -> Result<Self, Error> {
        let failed = |error: rcgen::Error| Error::machine("a certificate")(std::io::Error::other(error));
        let key = KeyPair::generate().map_err(failed)?;
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        let identity = Self {
            certificate_file: folder.join("tls.crt"),
            key_file: folder.join("tls.key"),
            tokens_file: folder.join("tokens.csv"),
            certificate,
        };
        write(&identity.certificate_file, &identity.certificate)?;
        write(&identity.key_file, &key.serialize_pem())?;
        write(&identity.tokens_file, &format!("{ADMIN},administrator,administrator,\"system:masters\"\n"))?;
        Ok(identity)
    }
}

/// Writes a file nobody else may read.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let file = std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::machine(path.display().to_string()))
}
