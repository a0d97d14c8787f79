//! The programs of a control plane, as `scripts/control-plane` finds or builds them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Error;

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Assets {
    /// The folder of `kube-apiserver` and `etcd`.
    pub(crate) folder: PathBuf,
    /// The command that is `kubectl`.
    pub(crate) kubectl: PathBuf,
}

impl Assets {
    /// Asks the script, which may build them; what it does meanwhile is seen on standard error.
    pub(crate) fn find() -> Result<Self, Error> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/control-plane");
        let output = Command::new(script).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.map_err(Error::machine(script))?;
        if !output.status.success() {
            let why = "no kube-apiserver and etcd; the line of scripts/control-plane above says how to have them";
            return Err(Error::Unavailable(why.to_owned()));
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let folder = PathBuf::from(said.lines().last().unwrap_or_default());
        let beside = folder.join("kubectl");
        let kubectl = if beside.exists() { beside } else { PathBuf::from("kubectl") };
        let there = Command::new(&kubectl).args(["version", "--client"]).stdout(Stdio::null()).status();
        if there.is_ok_and(|status| status.success()) {
            Ok(Self { folder, kubectl })
        } else {
            let why = format!("no kubectl on the PATH or in {}; install one", folder.display());
            Err(Error::Unavailable(why))
        }
    }
}
