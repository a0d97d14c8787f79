//! A hosts file that running processes hold bind-mounted over /etc/hosts: written in place, same inode, and a line
//! never moves, so that a reader in the middle of a change sees every name that stays.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const HEAD: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// The names one vantage resolves. The file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct HostsFile {
    path: PathBuf,
    file: File,
    end: u64,
    lines: HashMap<String, (u64, usize)>,
}

impl HostsFile {
    pub(crate) fn create(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let mut head = HEAD.to_owned();
        if let Some(name) = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().filter(|n| !n.trim().is_empty()) {
            head.push_str("127.0.1.1 ");
            head.push_str(name.trim());
            head.push('\n');
        }
        file.write_all_at(head.as_bytes(), 0)?;
        Ok(Self { path, file, end: head.len() as u64, lines: HashMap::new() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes `host` resolve to `address`.
    pub(crate) fn add(&mut self, host: &str, address: Ipv4Addr) -> io::Result<()> {
        let line = format!("{address} {host}\n");
        self.file.write_all_at(line.as_bytes(), self.end)?;
        self.lines.insert(host.to_owned(), (self.end, line.len()));
        self.end += line.len() as u64;
        Ok(())
    }

    /// Makes `host` unknown.
    pub(crate) fn remove(&mut self, host: &str) -> io::Result<()> {
        let Some((at, length)) = self.lines.remove(host) else { return Ok(()) };
        self.file.write_all_at("#".repeat(length.saturating_sub(1)).as_bytes(), at)
    }
}

impl Drop for HostsFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn names_come_and_go_in_the_same_inode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let mut hosts = HostsFile::create(path.clone()).unwrap();
        let inode = std::fs::metadata(&path).unwrap().ino();
        hosts.add("a.example", Ipv4Addr::new(127, 64, 1, 1)).unwrap();
        hosts.add("b.example", Ipv4Addr::new(127, 64, 1, 2)).unwrap();
        hosts.remove("a.example").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(HEAD));
        assert!(!text.contains("a.example") && text.contains("\n127.64.1.2 b.example\n"), "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
    }
}
