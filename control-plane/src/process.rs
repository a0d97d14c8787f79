//! A process that does not outlive this one, however this one ends: a shell keeps it, and ends it when the pipe to us closes.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Error;

/// Starts what follows `$1`, says its process id, and ends it when standard input closes; then removes the folder `$1`. The
/// second removal is for what another process wrote into it meanwhile.
const KEEPER: &str = r#"
folder=$1
shift
exec 3<&0
"$@" </dev/null >&2 3<&- &
kept=$!
echo $kept
exec >&- 2>/dev/null
{ read -r _; kill -9 $kept; } <&3 &
watch=$!
exec 3<&-
wait $kept
code=$?
kill $watch
[ -z "$folder" ] || rm -rf "$folder" || rm -rf "$folder"
exit $code
"#;

/// A kept process. Ended by its own id when dropped.
#[derive(Debug)]
pub struct Process {
    keeper: Child,
    pid: Pid,
    // Closed only with this process, or when the kept one is not needed any more.
    rope: Option<ChildStdin>,
}

impl Process {
    /// Starts a command; everything it says goes to `output`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &Command, output: &File) -> Result<Self, Error> {
        Self::start_in(command, output, Path::new(""))
    }

    /// The same, and `folder` is removed when it has ended.
    pub(crate) fn start_in(command: &Command, output: &File, folder: &Path) -> Result<Self, Error> {
        let failed = |source| Error::machine(command.get_program().to_string_lossy())(source);
        let log = output.try_clone().map_err(failed)?;
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(folder).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => keeper.env(name, value),
                None => keeper.env_remove(name),
            };
        }
        // A group of its own: Ctrl-C in a terminal is for us, and we let go of the rope.
        keeper.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut keeper = keeper.spawn().map_err(failed)?;
        let rope = keeper.stdin.take();
        let mut line = String::new();
        if let Some(said) = keeper.stdout.take() {
            BufReader::new(said).read_line(&mut line).map_err(failed)?;
        }
        let pid = line.trim().parse().map_err(|_| failed(std::io::Error::other("its keeper named no process")))?;
        Ok(Self { keeper, pid: Pid::from_raw(pid), rope })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        // The keeper has not buried it while it lives itself, so the id is still its own.
        if !self.has_ended() {
            let _ = kill(self.pid, signal);
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.keeper.try_wait(), Ok(None))
    }

    /// Waits until it has ended; its exit code, above 128 where a signal ended it.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> std::io::Result<Option<i32>> {
        self.keeper.wait().map(|status| status.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        drop(self.rope.take());
        let _ = self.keeper.wait();
    }
}
