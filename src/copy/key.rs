//! Names: which keys move, which are ours, and how a name is hashed and reported. Pure.

use sha2::{Digest, Sha256};

use super::{CopySpec, KeyRule, Strategy, Unmatched};
use crate::broker::is_celery;
use crate::identity::OUR_KEYS;
use crate::merge::Kind;

/// The names of our own keys in the stores.
#[derive(Clone, Debug)]
pub(crate) struct Ours {
    root: String,
}

impl Ours {
    pub(crate) fn new(migration: &str) -> Self {
        Self { root: format!("{OUR_KEYS}{migration}:") }
    }

    /// Matches all of them, for SCAN. A migration's name has no glob characters (it is a DNS label).
    pub(crate) fn pattern(&self) -> String {
        format!("{}*", self.root)
    }

    /// Who may write. One in every database that is written, all equal.
    pub(crate) fn fence(&self) -> String {
        format!("{}fence", self.root)
    }

    /// When that runner was last alive; beside the endpoint's own database only.
    pub(crate) fn heartbeat(&self) -> String {
        format!("{}heartbeat", self.root)
    }

    /// What a successor must know.
    pub(crate) fn record(&self) -> String {
        format!("{}record", self.root)
    }

    /// What people may want to know.
    pub(crate) fn progress(&self) -> String {
        format!("{}progress", self.root)
    }

    /// A bucket of the base of the keys that come from database `from`; in the target.
    pub(crate) fn base(&self, from: u32, bucket: u32) -> String {
        format!("{}base:{from}:{bucket:x}", self.root)
    }

    /// Keys found in the target before we wrote anything; in the target.
    pub(crate) fn foreign(&self, from: u32) -> String {
        format!("{}foreign:{from}", self.root)
    }

    /// Keys found in the target with the source's own values, with those values' digests, a piece of them; in the target.
    pub(crate) fn identical(&self, from: u32, piece: usize) -> String {
        format!("{}identical:{from}:{piece:x}", self.root)
    }

    /// Matches all of those pieces.
    pub(crate) fn identicals(&self, from: u32) -> String {
        format!("{}identical:{from}:*", self.root)
    }

    /// For which `retry` the source was last marked: what is left to know when the target has lost its record.
    pub(crate) fn attempt(&self) -> String {
        format!("{}attempt", self.root)
    }

    /// What is about to be written to the source; in the target.
    pub(crate) fn intent(&self, from: u32) -> String {
        format!("{}intent:{from}", self.root)
    }

    /// Which intent was carried out, and which keys of it; in the source, written in the same script as the keys.
    pub(crate) fn applied(&self, from: u32) -> String {
        format!("{}applied:{from}", self.root)
    }
}

/// What becomes of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Move(Kind),
    /// Ours, or dropped by a rule.
    Leave,
    /// No rule matches it, and it stays behind.
    Skip,
    /// No rule matches it, and that is a block.
    Block,
    /// A broker's queue, which must not be copied as a key.
    Queue,
}

/// The rules, applied to names.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    rules: Vec<KeyRule>,
    unmatched: Unmatched,
}

impl Selection {
    pub(crate) fn new(spec: &CopySpec) -> Self {
        Self { rules: spec.keys.clone(), unmatched: spec.unmatched }
    }

    pub(crate) fn choose(&self, name: &[u8]) -> Choice {
        if name.starts_with(OUR_KEYS.as_bytes()) {
            return Choice::Leave;
        }
        match self.by_rules(name) {
            Choice::Move(_) if is_celery(name) => Choice::Queue,
            choice => choice,
        }
    }

    fn by_rules(&self, name: &[u8]) -> Choice {
        match self.rules.iter().find(|rule| name.starts_with(&rule.prefix)) {
            Some(KeyRule { strategy: Strategy::Copy, kind, .. }) => Choice::Move(*kind),
            Some(KeyRule { strategy: Strategy::Drop, .. }) => Choice::Leave,
            None => match self.unmatched {
                Unmatched::Copy => Choice::Move(Kind::Session),
                Unmatched::Skip => Choice::Skip,
                Unmatched::Block => Choice::Block,
            },
        }
    }
}

/// Stands for everything that says which keys move where. Stable, as it is compared with what another version stored.
pub(crate) fn rules(spec: &CopySpec) -> String {
    let mut sum = Sha256::new();
    let mut add = |part: &[u8]| {
        sum.update((part.len() as u64).to_be_bytes());
        sum.update(part);
    };
    for KeyRule { prefix, strategy, kind } in &spec.keys {
        add(prefix);
        add(match strategy {
            Strategy::Copy => b"copy",
            Strategy::Drop => b"drop",
        });
        add(match kind {
            Kind::Session => b"session",
            Kind::Data => b"data",
        });
    }
    add(match spec.unmatched {
        Unmatched::Copy => b"copy",
        Unmatched::Skip => b"skip",
        Unmatched::Block => b"block",
    });
    for (from, to) in spec.pairs() {
        add(&from.to_be_bytes());
        add(&to.to_be_bytes());
    }
    format!("{:016x}", first_eight(&sum.finalize()))
}

/// Stands for a name in maps and in the stored base. Stable: a successor of another version must find it again.
pub(crate) fn hash(name: &[u8]) -> u64 {
    first_eight(&Sha256::digest(name))
}

/// Eight bytes of a digest.
pub(crate) fn first_eight(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// What may be said about a name: up to its first separator, printable, short.
pub(crate) fn prefix(name: &[u8]) -> String {
    let end = name.iter().position(|byte| b":/.|-_".contains(byte)).map_or(0, |at| at + 1);
    if end == 0 {
        return "(no prefix)".into();
    }
    let shown = name.get(..end.min(32)).unwrap_or_default();
    String::from_utf8_lossy(shown).escape_debug().to_string()
}

/// Counts names and keeps some of their prefixes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) prefixes: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, name: &[u8]) {
        self.count += 1;
        let prefix = prefix(name);
        if self.prefixes.len() < 10 && !self.prefixes.contains(&prefix) {
            self.prefixes.push(prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::Endpoint;

    #[test]
    fn the_first_rule_that_matches_decides_and_ours_never_move() {
        let mut spec = CopySpec::new("m", "r", Endpoint::new("a", 1), Endpoint::new("b", 1));
        let rule = |prefix: &str, strategy, kind| KeyRule { prefix: prefix.into(), strategy, kind };
        spec.keys = vec![
            rule("asgi:keep:", Strategy::Copy, Kind::Data),
            rule("asgi:", Strategy::Drop, Kind::Session),
            rule("sess:", Strategy::Copy, Kind::Session),
        ];
        spec.unmatched = Unmatched::Block;
        let selection = Selection::new(&spec);
        assert_eq!(selection.choose(b"asgi:keep:1"), Choice::Move(Kind::Data));
        assert_eq!(selection.choose(b"asgi:1"), Choice::Leave);
        assert_eq!(selection.choose(b"sess:\xff\0"), Choice::Move(Kind::Session));
        assert_eq!(selection.choose(b"cart:1"), Choice::Block);
        assert_eq!(selection.choose(Ours::new("other").fence().as_bytes()), Choice::Leave);
    }

    #[test]
    fn rules_are_known_again_and_every_part_of_them_counts() {
        let spec = CopySpec::new("m", "r", Endpoint::new("a", 1), Endpoint::new("b", 1));
        let rule = KeyRule { prefix: b"sess:".to_vec(), strategy: Strategy::Copy, kind: Kind::Session };
        let with = |keys: Vec<KeyRule>| rules(&CopySpec { keys, ..spec.clone() });
        // A successor of another version must find the same: this text is stored.
        assert_eq!(rules(&spec), "59e819a6131e6723");
        let all = [
            rules(&spec),
            with(vec![rule.clone()]),
            with(vec![KeyRule { strategy: Strategy::Drop, ..rule.clone() }]),
            with(vec![KeyRule { kind: Kind::Data, ..rule.clone() }]),
            with(vec![KeyRule { prefix: b"sess".to_vec(), ..rule }]),
            rules(&CopySpec { unmatched: Unmatched::Skip, ..spec.clone() }),
            rules(&CopySpec { databases: vec![(1, 0)], ..spec.clone() }),
        ];
        assert_eq!(std::collections::BTreeSet::from(all.clone()).len(), all.len());
        let same = CopySpec { runner: "other".into(), databases: vec![(0, 0)], attempt: 3, ..spec.clone() };
        assert_eq!(rules(&same), rules(&spec));
    }

    #[test]
    fn a_prefix_tells_no_identity() {
        assert_eq!(prefix(b"sess:4711"), "sess:");
        assert_eq!(prefix(b"4711abc"), "(no prefix)");
        assert_eq!(prefix(b"\xff\0:1"), "\u{fffd}\\0:");
    }
}
