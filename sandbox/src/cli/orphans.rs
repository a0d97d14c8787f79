//! What a daemon that was killed can leave behind: processes that its instances started themselves (workers, a
//! program behind a shell). The kernel ends only the daemon's own children with it.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ends what is left of the session of a dead daemon. A process is taken for ours only if it is of that session,
/// which has lost its leader, and carries our certificate's path in its environment.
pub(super) fn end(dir: &Path, daemon: i32) {
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    let living: Vec<Process> = pids.filter_map(Process::read).collect();
    if daemon <= 1 || living.iter().any(|process| process.pid == daemon) {
        return;
    }
    let mark = dir.join("ca.pem").into_os_string().into_encoded_bytes();
    for Process { pid, .. } in living.into_iter().filter(|process| process.session == daemon) {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environment.windows(mark.len()).any(|window| window == mark) {
            // It may have ended by itself meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

struct Process {
    pid: i32,
    session: i32,
}

impl Process {
    /// `None` = it has ended, even if nobody has taken note of that yet.
    fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which can hold anything: state, parent, group, session.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().take(4).collect();
        let [state, _, _, session] = fields[..] else { return None };
        (state != "Z").then_some(Self { pid, session: session.parse().ok()? })
    }
}
