//! Whether the process that holds something is gone: certain where it ran on this machine, and worth knowing, since every
//! second in which nobody keeps two stores in step is a second in which people's changes can meet.
//!
//! A runner's name says where it lives (machine, boot, namespace of process ids, user), its process id and when that
//! process began. Of one that lives elsewhere, or where `/proc` does not tell, nothing is known.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::identity::digest;

/// A name for this process, never given before.
pub(super) fn name() -> String {
    let (pid, chance) = (std::process::id(), rand::random::<u32>());
    match (place(), life(pid)) {
        (Some(place), Life::Since(began)) => format!("{place}-{pid}-{began}-{chance:08x}"),
        _ => format!("{pid}-{chance:08x}"),
    }
}

/// Whether the process that gave itself this name is gone for certain.
pub(super) fn is_gone(name: &str) -> bool {
    let [there, pid, began, _] = name.split('-').collect::<Vec<_>>()[..] else { return false };
    let (Ok(pid), Ok(began)) = (pid.parse::<u32>(), began.parse::<u64>()) else { return false };
    place().is_some_and(|here| here == there)
        && match life(pid) {
            Life::Over => true,
            // Another process by the same number.
            Life::Since(other) => other != began,
            Life::Unknown => false,
        }
}

/// Processes of two places cannot see each other; of another user's they may be shown none.
fn place() -> Option<String> {
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let user = std::fs::metadata("/proc/self").ok()?.uid();
    Some(digest(&[&boot, namespace.as_os_str().as_encoded_bytes(), &user.to_le_bytes()], 6))
}

enum Life {
    /// It began so many ticks after the machine.
    Since(u64),
    Over,
    Unknown,
}

fn life(pid: u32) -> Life {
    let path = Path::new("/proc").join(pid.to_string()).join("stat");
    match std::fs::read_to_string(path) {
        Ok(stat) => read(&stat),
        Err(error) if error.kind() == ErrorKind::NotFound => Life::Over,
        Err(_) => Life::Unknown,
    }
}

/// Fields 3 and 22; the second, a name in brackets, may hold anything.
fn read(stat: &str) -> Life {
    let Some((_, fields)) = stat.rsplit_once(')') else { return Life::Unknown };
    let fields: Vec<_> = fields.split_whitespace().collect();
    match (fields.first(), fields.get(19).and_then(|began| began.parse().ok())) {
        (Some(&("Z" | "X")), _) => Life::Over,
        (_, Some(began)) => Life::Since(began),
        _ => Life::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn who_gave_himself_a_name_is_alive_and_names_are_unique() {
        let (one, two) = (name(), name());
        assert!(one != two && !is_gone(&one) && !is_gone(&two));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_killed_process_is_gone_also_before_anybody_has_asked_for_its_end() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let Life::Since(began) = life(child.id()) else { panic!("it runs") };
        let name = format!("{}-{}-{began}-0", place().unwrap(), child.id());
        assert!(!is_gone(&name));
        child.kill().unwrap();
        while !is_gone(&name) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_gone(&name));
    }

    #[test]
    fn of_a_process_elsewhere_or_of_another_kind_of_name_nothing_is_known() {
        let pid = std::process::id();
        for name in [format!("000000000000-{pid}-1-0"), format!("{pid}-0badcafe"), String::new(), "a-b-c-d".to_owned()]
        {
            assert!(!is_gone(&name), "{name}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_number_given_to_another_process_is_another_life() {
        assert!(is_gone(&format!("{}-{}-1-0", place().unwrap(), std::process::id())));
    }
}
