//! The programs of a control plane, as `scripts/control-plane` finds or builds them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ChildStderr, Command, Stdio};

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
        let mut asked = Command::new(script);
        asked.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = asked.spawn().map_err(Error::machine(script))?;
        let last = child.stderr.take().map(passed_on).unwrap_or_default();
        let output = child.wait_with_output().map_err(Error::machine(script))?;
        if !output.status.success() {
            let why = last.strip_prefix("control-plane: ").unwrap_or(&last);
            return Err(Error::Unavailable(why.to_owned()));
        }
        tell(&last);
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

/// Passes on what the script says while it says it, but for its last line: where it fails that is why, and is said by
/// whoever skips or fails for it.
fn passed_on(stderr: ChildStderr) -> String {
    let mut last = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        tell(&last);
        last = line;
    }
    last
}

/// Past the test harness, which would keep it to itself.
fn tell(line: &str) {
    if !line.is_empty() {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}
