//! A key's content: as bytes where it is a string, else as the store's own dump beside the typed content.
//!
//! The digest is of the content, in one order whatever the encoding: dumps of equal hashes differ when their fields
//! were added in another order, so a dump can prove equality but never a difference.

use redis::{Cmd, Pipeline, Value};
use sha2::{Digest, Sha256};

use super::{
    key::first_eight,
    link::{bytes, int, items, strings},
};

/// The types whose content we can read and write command by command, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    Hash,
    List,
    Set,
    Zset,
    Stream,
    /// A module's; only its dump is known.
    Foreign,
}

impl Type {
    /// From the answer to `TYPE`; `None` for a string or nothing.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "string" | "none" | "" => None,
            "hash" => Some(Self::Hash),
            "list" => Some(Self::List),
            "set" => Some(Self::Set),
            "zset" => Some(Self::Zset),
            "stream" => Some(Self::Stream),
            _ => Some(Self::Foreign),
        }
    }

    /// How many elements it has.
    pub(crate) fn counting(self, name: &[u8]) -> Cmd {
        let mut command = redis::cmd(match self {
            Self::Hash => "HLEN",
            Self::List => "LLEN",
            Self::Set => "SCARD",
            Self::Zset => "ZCARD",
            Self::Stream => "XLEN",
            Self::Foreign => "EXISTS",
        });
        command.arg(name);
        command
    }

    /// How to read it page by page.
    pub(crate) const fn scanning(self) -> Option<&'static str> {
        match self {
            Self::Hash => Some("HSCAN"),
            Self::List => Some("LRANGE"),
            Self::Set => Some("SSCAN"),
            Self::Zset => Some("ZSCAN"),
            Self::Stream | Self::Foreign => None,
        }
    }

    /// The commands whose replies are the content.
    pub(crate) fn reading(self, name: &[u8]) -> Vec<Cmd> {
        let of = |what: &str, rest: &[&str]| {
            let mut command = redis::cmd(what);
            command.arg(name).arg(rest);
            command
        };
        match self {
            Self::Hash => vec![of("HGETALL", &[])],
            Self::List => vec![of("LRANGE", &["0", "-1"])],
            Self::Set => vec![of("SMEMBERS", &[])],
            Self::Zset => vec![of("ZRANGE", &["0", "-1", "WITHSCORES"])],
            Self::Stream => {
                let mut stream = redis::cmd("XINFO");
                stream.arg("STREAM").arg(name);
                let mut groups = redis::cmd("XINFO");
                groups.arg("GROUPS").arg(name);
                vec![of("XRANGE", &["-", "+"]), stream, groups]
            }
            Self::Foreign => Vec::new(),
        }
    }
}

/// A stream's consumer group: its name and the last id it delivered.
pub(crate) type Group = (Vec<u8>, Vec<u8>);

/// What is in a key that is no string. Pairs and members are sorted where the type has no order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    List(Vec<Vec<u8>>),
    Set(Vec<Vec<u8>>),
    Zset(Vec<(Vec<u8>, f64)>),
    Stream {
        entries: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
        last: Vec<u8>,
        groups: Vec<Group>,
    },
    /// Only the dump is known.
    Foreign,
}

impl Content {
    /// Understands the replies to [`Type::reading`]; `None` when they are of another shape (the key has changed its
    /// type between two commands).
    pub(crate) fn parse(kind: Type, replies: Vec<Value>) -> Option<Self> {
        let mut replies = replies.into_iter();
        let content = match kind {
            Type::Hash => {
                let mut pairs = in_pairs(strings(replies.next()?)?);
                pairs.sort();
                Self::Hash(pairs)
            }
            Type::List => Self::List(strings(replies.next()?)?),
            Type::Set => {
                let mut members = strings(replies.next()?)?;
                members.sort();
                Self::Set(members)
            }
            Type::Zset => Self::Zset(scored(strings(replies.next()?)?)?),
            Type::Stream => {
                let entries = items(replies.next()?)?.into_iter().map(stream_entry).collect::<Option<_>>()?;
                let last = field(&items(replies.next()?)?, b"last-generated-id")?;
                let groups = items(replies.next()?)?.into_iter().map(group).collect::<Option<_>>()?;
                Self::Stream { entries, last, groups }
            }
            Type::Foreign => Self::Foreign,
        };
        Some(content)
    }

    /// A scan may name an element twice.
    pub(crate) fn without_doubles(mut self) -> Self {
        match &mut self {
            Self::Hash(pairs) => pairs.dedup_by(|one, other| one.0 == other.0),
            Self::Set(members) => members.dedup(),
            Self::Zset(scored) => scored.dedup_by(|one, other| one.0 == other.0),
            Self::List(_) | Self::Stream { .. } | Self::Foreign => {}
        }
        self
    }

    fn digest(&self, dump: Option<&[u8]>) -> u64 {
        let mut sum = Sum::default();
        match self {
            Self::Hash(pairs) => {
                sum.tag(b'h');
                for (field, value) in pairs {
                    sum.add(field).add(value);
                }
            }
            Self::List(all) => {
                sum.tag(b'l');
                for item in all {
                    sum.add(item);
                }
            }
            Self::Set(all) => {
                sum.tag(b'u');
                for item in all {
                    sum.add(item);
                }
            }
            Self::Zset(all) => {
                sum.tag(b'z');
                // Servers print scores differently (7.0 with 17 digits, later ones the shortest way).
                for (member, score) in all {
                    sum.add(member).add(&score.to_bits().to_be_bytes());
                }
            }
            Self::Stream { entries, last, groups } => {
                sum.tag(b'x').add(last);
                for (id, fields) in entries {
                    sum.add(id).add(&fields.len().to_be_bytes());
                    for field in fields {
                        sum.add(field);
                    }
                }
                for (name, last) in groups {
                    sum.add(name).add(last);
                }
            }
            Self::Foreign => {
                sum.tag(b'?').add(dump.unwrap_or_default());
            }
        }
        sum.first_eight()
    }

    /// The commands that make `name` hold this, after it was deleted. Empty where only a dump can.
    pub(crate) fn writing(&self, name: &[u8]) -> Pipeline {
        let mut commands = redis::pipe();
        match self {
            Self::Hash(pairs) => {
                for some in pairs.chunks(500) {
                    commands.cmd("HSET").arg(name);
                    for (field, value) in some {
                        commands.arg(field.as_slice()).arg(value.as_slice());
                    }
                }
            }
            Self::List(all) => all.chunks(500).for_each(|some| {
                commands.cmd("RPUSH").arg(name);
                for item in some {
                    commands.arg(item.as_slice());
                }
            }),
            Self::Set(all) => all.chunks(500).for_each(|some| {
                commands.cmd("SADD").arg(name);
                for item in some {
                    commands.arg(item.as_slice());
                }
            }),
            Self::Zset(all) => all.chunks(500).for_each(|some| {
                commands.cmd("ZADD").arg(name);
                for (member, score) in some {
                    commands.arg(score_text(*score)).arg(member.as_slice());
                }
            }),
            Self::Stream { entries, last, groups } => write_stream(&mut commands, name, entries, last, groups),
            Self::Foreign => {}
        }
        commands
    }
}

fn write_stream(
    commands: &mut Pipeline,
    name: &[u8],
    entries: &[(Vec<u8>, Vec<Vec<u8>>)],
    last: &[u8],
    groups: &[Group],
) {
    for (id, fields) in entries {
        commands.cmd("XADD").arg(name).arg(id.as_slice());
        for field in fields {
            commands.arg(field.as_slice());
        }
    }
    if entries.is_empty() {
        // A stream without entries exists only because of its groups or its past.
        commands.cmd("XGROUP").arg("CREATE").arg(name).arg("sessionbackend").arg("0").arg("MKSTREAM");
        commands.cmd("XGROUP").arg("DESTROY").arg(name).arg("sessionbackend");
    }
    commands.cmd("XSETID").arg(name).arg(last);
    for (group, delivered) in groups {
        commands.cmd("XGROUP").arg("CREATE").arg(name).arg(group.as_slice()).arg(delivered.as_slice());
    }
}

/// The value of a key.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Text(Vec<u8>),
    Typed { content: Content, dump: Option<Vec<u8>> },
}

impl Payload {
    pub(crate) fn digest(&self) -> u64 {
        match self {
            Self::Text(text) => {
                let mut sum = Sum::default();
                sum.tag(b's').add(text);
                sum.first_eight()
            }
            Self::Typed { content, dump } => content.digest(dump.as_deref()),
        }
    }

    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Typed { dump, .. } => dump.as_ref().map_or(1_024, Vec::len),
        }
    }
}

// === parts ===

#[derive(Default)]
struct Sum(Sha256);

impl Sum {
    fn tag(&mut self, tag: u8) -> &mut Self {
        self.0.update([tag]);
        self
    }

    /// With its length, so that no two sequences look alike.
    fn add(&mut self, part: &[u8]) -> &mut Self {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    fn first_eight(self) -> u64 {
        first_eight(&self.0.finalize())
    }
}

fn in_pairs(flat: Vec<Vec<u8>>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut flat = flat.into_iter();
    std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect()
}

fn scored(flat: Vec<Vec<u8>>) -> Option<Vec<(Vec<u8>, f64)>> {
    let parse = |score: &[u8]| std::str::from_utf8(score).ok()?.parse::<f64>().ok();
    let mut all: Vec<(Vec<u8>, f64)> =
        in_pairs(flat).into_iter().map(|(member, score)| Some((member, parse(&score)?))).collect::<Option<_>>()?;
    all.sort_by(|one, other| one.0.cmp(&other.0));
    Some(all)
}

/// As Redis reads it: `inf` is its word, and Rust prints enough digits to come back to the same number.
fn score_text(score: f64) -> String {
    if score.is_infinite() { if score > 0.0 { "+inf".into() } else { "-inf".into() } } else { score.to_string() }
}

fn stream_entry(entry: Value) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let mut parts = items(entry)?.into_iter();
    Some((bytes(parts.next()?)?, strings(parts.next()?)?))
}

fn group(info: Value) -> Option<Group> {
    let info = items(info)?;
    Some((field(&info, b"name")?, field(&info, b"last-delivered-id")?))
}

fn field(flat: &[Value], name: &[u8]) -> Option<Vec<u8>> {
    let at = flat.iter().position(|item| matches!(item, Value::BulkString(text) if text == name))?;
    let value = flat.get(at + 1)?;
    bytes(value.clone()).or_else(|| int(value).map(|number| number.to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn digest(kind: Type, flat: &[&str]) -> u64 {
        let replies = vec![Value::Array(flat.iter().map(|text| bulk(text)).collect())];
        Payload::Typed { content: Content::parse(kind, replies).unwrap(), dump: None }.digest()
    }

    #[test]
    fn order_matters_only_where_the_type_has_one() {
        assert_eq!(digest(Type::Hash, &["a", "1", "b", "2"]), digest(Type::Hash, &["b", "2", "a", "1"]));
        assert_ne!(digest(Type::Hash, &["a", "1", "b", "2"]), digest(Type::Hash, &["a", "2", "b", "1"]));
        assert_eq!(digest(Type::Set, &["a", "b"]), digest(Type::Set, &["b", "a"]));
        assert_ne!(digest(Type::List, &["a", "b"]), digest(Type::List, &["b", "a"]));
        assert_ne!(digest(Type::List, &["a", "b"]), digest(Type::Set, &["a", "b"]));
        assert_ne!(digest(Type::List, &["ab", "c"]), digest(Type::List, &["a", "bc"]));
    }

    #[test]
    fn scores_are_numbers_not_text() {
        assert_eq!(digest(Type::Zset, &["m", "0.10000000000000001"]), digest(Type::Zset, &["m", "0.1"]));
        assert_ne!(digest(Type::Zset, &["m", "0.1"]), digest(Type::Zset, &["m", "0.2"]));
        assert_eq!(score_text(f64::NEG_INFINITY), "-inf");
    }

    #[test]
    fn a_string_is_not_a_list_of_it() {
        assert_ne!(Payload::Text(b"a".to_vec()).digest(), digest(Type::List, &["a"]));
        assert_eq!(Content::parse(Type::Hash, vec![Value::Int(1)]), None);
    }
}
