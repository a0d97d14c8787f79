//! The files of a sandbox's directory: who runs it and how it is reached.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// `DIR/sandbox.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ground {
    /// Of the daemon.
    pub(super) pid: i32,
    /// Where the AWS endpoint and `/_sandbox/` listen.
    pub(super) endpoint: SocketAddr,
    /// For `AWS_ENDPOINT_URL`.
    pub(super) aws_endpoint_url: String,
    /// For `UPSTASH_API_URL`.
    pub(super) upstash_api_url: String,
    /// Port of public HTTPS hosts.
    pub(super) public_port: u16,
    /// The certificate to trust.
    pub(super) ca_file: PathBuf,
    pub(super) account: String,
    pub(super) region: String,
    pub(super) upstash_email: String,
    pub(super) upstash_api_key: String,
}

impl Ground {
    /// Of the sandbox that runs in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self, String> {
        let none = || format!("no sandbox runs in {}: start one with `sandbox up`", dir.display());
        let path = dir.join("sandbox.json");
        // The file first: looking at the lock while a daemon starts would keep it from taking it.
        let text = std::fs::read(&path).map_err(|_| none())?;
        if lock(dir)?.is_some() {
            return Err(none());
        }
        serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Readers see the old file or the whole new one.
    pub(super) fn write(&self, dir: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(dir.join("sandbox.json.new"), text)?;
        std::fs::rename(dir.join("sandbox.json.new"), dir.join("sandbox.json"))
    }

    /// Of a sandbox that may have ended without forgetting.
    pub(super) fn left(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join("sandbox.json")).ok()?).ok()
    }

    pub(super) fn forget(dir: &Path) {
        let _ = std::fs::remove_file(dir.join("sandbox.json"));
    }
}

/// The daemon's hold on the directory; the kernel lets go of it when the daemon ends, however it ends.
/// `None` = a daemon holds it.
pub(super) fn lock(dir: &Path) -> Result<Option<File>, String> {
    let path = dir.join("lock");
    if !dir.exists() {
        std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| format!("{}: {e}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(format!("{}: {e}", path.display())),
    }
}
