//! `exec` and `enter`: become another command, in a mount namespace of its own where /etc/hosts knows the emulated
//! names. Runs before any thread exists, because the kernel lets only a single-threaded process do this.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getegid, geteuid, getppid};
use serde_json::json;

use super::client;
use super::ground::Ground;
use crate::plane::trust;

/// What would lead a client past the sandbox: proxies of the machine, which know nothing of the emulated names, and
/// the user's own ways to real credentials and endpoints.
const ELSEWHERE: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

#[derive(Debug, Args)]
pub(super) struct Exec {
    /// Where the command runs: internet, vpc:ID, or service:NAME (beside the current instances of a service).
    #[arg(long, default_value = "internet")]
    from: String,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Enter {
    /// The hosts file to see as /etc/hosts.
    #[arg(long)]
    hosts: Option<PathBuf>,
    /// Die with the process of that id, which must be the parent.
    #[arg(long)]
    parent: Option<i32>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(super) fn exec(dir: &Path, exec: &Exec) -> Result<ExitCode, String> {
    let ground = Ground::read(dir)?;
    let answer = client::get(ground.endpoint, "POST", "hosts", &json!({ "from": exec.from }))?;
    let hosts = answer["hosts"].as_str().ok_or("the sandbox named no hosts file")?;
    see(Path::new(hosts))?;
    let without: Vec<String> = super::environment()
        .into_keys()
        .filter(|name| ELSEWHERE.contains(&name.as_str()) || name.starts_with("AWS_ENDPOINT_URL_"))
        .collect();
    Err(become_command(&exec.command, &environment(&ground, dir), &without))
}

/// What a client of the clouds is told. Credentials are those of the emulator and open nothing else.
fn environment(ground: &Ground, dir: &Path) -> BTreeMap<String, String> {
    let mut env = trust(&ground.ca_file);
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    set("SANDBOX_DIR", &dir.display().to_string());
    set("AWS_ENDPOINT_URL", &ground.aws_endpoint_url);
    set("AWS_ACCESS_KEY_ID", "AKIASANDBOX0000000000");
    set("AWS_SECRET_ACCESS_KEY", "sandbox");
    set("AWS_REGION", &ground.region);
    set("AWS_DEFAULT_REGION", &ground.region);
    set("AWS_EC2_METADATA_DISABLED", "true");
    if ground.public_port != 443 {
        set("UPSTASH_API_URL", &ground.upstash_api_url);
    }
    env
}

pub(super) fn enter(enter: &Enter) -> Result<ExitCode, String> {
    if let Some(hosts) = &enter.hosts {
        see(hosts)?;
    }
    // After the namespaces: the kernel forgets the wish when credentials change.
    if let Some(parent) = enter.parent {
        set_pdeathsig(Signal::SIGKILL).map_err(|e| format!("prctl(PR_SET_PDEATHSIG): {e}"))?;
        if getppid().as_raw() != parent {
            return Err("the sandbox ended meanwhile".to_owned());
        }
    }
    Err(become_command(&enter.command, &BTreeMap::new(), &[]))
}

/// Returns only when it fails.
fn become_command(command: &[String], env: &BTreeMap<String, String>, without: &[String]) -> String {
    let Some((program, arguments)) = command.split_first() else { return "no command was given".to_owned() };
    let mut become_it = Command::new(program);
    become_it.args(arguments).envs(env);
    for name in without {
        become_it.env_remove(name);
    }
    let error = become_it.exec();
    format!("{program}: {error}")
}

/// Binds `hosts` over /etc/hosts for this process and its children only.
fn see(hosts: &Path) -> Result<(), String> {
    let none: Option<&str> = None;
    own_mounts()?;
    let shut = mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none);
    shut.map_err(|e| format!("mount(/, private): {e}"))?;
    mount(Some(hosts), "/etc/hosts", none, MsFlags::MS_BIND, none)
        .map_err(|e| format!("{} cannot be mounted over /etc/hosts: {e}", hosts.display()))
}

fn own_mounts() -> Result<(), String> {
    // As the owner of the mounts first; else as the owner of a user namespace, where the same user stays who it is.
    if unshare(CloneFlags::CLONE_NEWNS).is_ok() {
        return Ok(());
    }
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|e| {
        format!(
            "a private mount namespace is not allowed here ({e}): run as root, or allow user namespaces \
             (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns; \
             in a container: --cap-add SYS_ADMIN)"
        )
    })?;
    let write = |file: &str, text: String| std::fs::write(file, text).map_err(|e| format!("{file}: {e}"));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    write("/proc/self/gid_map", format!("{group} {group} 1"))
}
