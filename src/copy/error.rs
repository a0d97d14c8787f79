//! What can go wrong while keys move, in classes a planner can act on, each with what to do about it.
//!
//! Never contains a value or a password; key names only as prefixes up to their first separator.

use redis::{ErrorKind, RedisError, ServerError};
use serde::{Deserialize, Serialize};

/// Why a store did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Silence {
    /// No answer in time: usually no network path (a missing rule, route or connector drops packets).
    TimedOut,
    /// Somebody answered "nobody listens here".
    Refused,
    /// The connection was cut; Upstash does that to plain TCP on its TLS port.
    Reset,
    /// The name does not resolve.
    NotResolved,
    /// The TLS handshake failed: another protocol on this port, or a certificate that is not trusted.
    Tls,
    /// Anything else the network said.
    Other,
}

/// Why the credentials were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The store wants a password and was given none.
    NoAuth,
    /// The user or the password is wrong, or the user is disabled.
    WrongPass,
}

/// What stopped, or is holding up, the copier. `store` is host and port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CopyError {
    /// No connection, or it was lost. Tried again until it works.
    #[error("{store} does not answer ({why:?})")]
    Unreachable {
        /// Host and port.
        store: String,
        /// What the network said.
        why: Silence,
    },
    /// The store is there but not ready: loading, failing over, at its limit of connections. Tried again.
    #[error("{store} is not ready: {detail}")]
    Busy {
        /// Host and port.
        store: String,
        /// The store's words.
        detail: String,
    },
    /// The credentials were not accepted.
    #[error("{store} refuses the credentials ({why:?})")]
    Auth {
        /// Host and port.
        store: String,
        /// Missing or wrong.
        why: Refusal,
    },
    /// The store takes no more data.
    #[error("{store} is full: {detail}")]
    Full {
        /// Host and port.
        store: String,
        /// The store's words.
        detail: String,
    },
    /// The plan's number of requests is used up; the store answers nothing any more.
    #[error("the request quota of {store} is used up: {detail}")]
    Quota {
        /// Host and port.
        store: String,
        /// The store's words.
        detail: String,
    },
    /// A command that cannot be done without is not allowed.
    #[error("{store} does not permit {command}")]
    NotPermitted {
        /// Host and port.
        store: String,
        /// The command, without its arguments.
        command: String,
    },
    /// The target has keys that we did not write and that differ from the source's.
    #[error("the target already has {count} of the keys with other values (prefixes: {})", prefixes.join(", "))]
    TargetNotEmpty {
        /// How many differ.
        count: u64,
        /// Their prefixes, at most ten.
        prefixes: Vec<String>,
    },
    /// Keys that no rule matches, where the spec asks for a block.
    #[error("{count} keys match no rule (prefixes: {})", prefixes.join(", "))]
    UnmatchedKeys {
        /// How many there are.
        count: u64,
        /// Their prefixes, at most ten.
        prefixes: Vec<String>,
    },
    /// The store is a Celery broker too: a task that is copied as a key runs twice.
    #[error("{store} holds the queues of a Celery broker ({}), and a task that is copied as a key runs twice", names.join(", "))]
    Queues {
        /// Host and port.
        store: String,
        /// Which of the broker's names no rule leaves behind.
        names: Vec<String>,
    },
    /// The same names live in two databases that are mapped to one.
    #[error("{count} keys have the same name in two databases that go to one (prefixes: {})", prefixes.join(", "))]
    SameNames {
        /// How many there are.
        count: u64,
        /// Their prefixes, at most ten.
        prefixes: Vec<String>,
    },
    /// The store is a cluster, whose keys one connection does not see.
    #[error("{store} runs in cluster mode")]
    ClusterMode {
        /// Host and port.
        store: String,
    },
    /// Another runner is at work; this one waits and takes over when it is silent. Tried again.
    #[error("runner {by} drives this migration")]
    Held {
        /// Its name.
        by: String,
        /// How long ago it was alive.
        seconds: u64,
    },
    /// Another runner has taken over; this one has stopped writing.
    #[error("another runner has taken over ({by})")]
    Fenced {
        /// Its name; empty when our mark is simply gone.
        by: String,
    },
    /// A copy goes on with the rules it was begun with, or not at all: its base knows nothing of others' keys.
    #[error("the copy was begun with other rules than it would go on with (migration.keys, unmatched, databases)")]
    OtherRules,
    /// The copy is being ended; what an interrupted end has left of its base would judge wrongly.
    #[error("the copy of this migration is being ended")]
    Ending,
    /// Our mark vanished from a store in the middle of a migration: it was flushed, or restarted without its data.
    #[error("{store} has been emptied")]
    Emptied {
        /// Host and port.
        store: String,
    },
    /// The store throws keys away for lack of memory; that looks like deletion and must not be carried.
    #[error("{store} evicts keys ({evicted} so far)")]
    Evicting {
        /// Host and port.
        store: String,
        /// Its counter of evicted keys.
        evicted: u64,
    },
    /// A key that cannot be carried, whatever way is tried.
    #[error("a key with prefix {prefix} cannot be written to {store}: {detail}")]
    Refused {
        /// Host and port.
        store: String,
        /// Of the key's name.
        prefix: String,
        /// The store's words.
        detail: String,
    },
    /// The store said something that Redis does not say.
    #[error("{store} gave an unexpected answer to {command}: {detail}")]
    Unexpected {
        /// Host and port.
        store: String,
        /// The command, without its arguments.
        command: String,
        /// What was wrong with it, without values.
        detail: String,
    },
}

impl CopyError {
    /// Trying again may help without anybody doing anything.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. } | Self::Held { .. })
    }

    /// What to do, in one sentence.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable { why, .. } => match why {
                Silence::TimedOut => "open the network path: connector, route, security group rule",
                Silence::Refused => "check host and port, and that the store is running",
                Silence::Reset => "check that TLS is switched on for this port",
                Silence::NotResolved => "check the host name, and that it resolves from here",
                Silence::Tls => "check that the port speaks TLS and that its certificate is trusted here",
                Silence::Other => "check the network between here and the store",
            },
            Self::Busy { .. } => "wait; if it stays, look at the store's own events and its limit of connections",
            Self::Auth { why, .. } => match why {
                Refusal::NoAuth => "give the store's password",
                Refusal::WrongPass => "give the user and password that are valid now",
            },
            Self::Full { .. } => "give the store more memory or a larger plan, then retry",
            Self::Quota { .. } => "raise the plan or wait until the quota is renewed, then retry",
            Self::NotPermitted { .. } => "allow the command for this user, or run with a user that has it",
            Self::TargetNotEmpty { .. } => {
                "empty the target of these keys, choose another database, or drop the prefix"
            }
            Self::UnmatchedKeys { .. } => "add a rule for each prefix, or set unmatched to Copy or Skip",
            Self::Queues { .. } => {
                "let the workers empty the queues, and leave them behind by rules in migration.keys, in this order: \
                 {prefix: celery-task-meta-, strategy: Copy}, {prefix: celery, strategy: Drop}, {prefix: unacked, \
                 strategy: Drop}, {prefix: _kombu.binding., strategy: Drop}; this version moves no queues"
            }
            Self::SameNames { .. } => "map the databases to different ones, or drop the prefix in one of them",
            Self::ClusterMode { .. } => "use a store without cluster mode; a cluster needs cluster clients",
            Self::Held { .. } => "leave it to that runner",
            Self::Fenced { .. } => "leave it to the other runner, or stop that one and start again",
            Self::OtherRules => {
                "put migration.keys, unmatched and databases back as they were, or abandon the migration and begin anew"
            }
            Self::Ending => "let it be cleared or withdrawn to the end, then begin a new migration",
            Self::Emptied { .. } => {
                "find out who emptied it, then retry: everything is carried back; nothing was deleted because of it"
            }
            Self::Evicting { .. } => "give the store more memory or the policy noeviction, then retry",
            Self::Refused { .. } => "drop or shorten the key, or raise the store's size limits, then retry",
            Self::Unexpected { .. } => "check that the address is that of a Redis server",
        }
    }
}

/// Sorts what the client or the server said. `command` is what we asked, without arguments.
pub(crate) fn classify(store: &str, command: &str, error: &RedisError) -> CopyError {
    let store = store.to_owned();
    if let Some(why) = silence(error) {
        return CopyError::Unreachable { store, why };
    }
    let text = format!("{} {}", error.code().unwrap_or_default(), error.detail().unwrap_or_default());
    sort_reply(store, command, text.trim())
}

/// Sorts an error reply.
pub(crate) fn classify_reply(store: &str, command: &str, error: &ServerError) -> CopyError {
    let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
    sort_reply(store.to_owned(), command, text.trim())
}

/// Sorts an error that a script caught and returned as text.
pub(crate) fn sort_reply(store: String, command: &str, text: &str) -> CopyError {
    let has = |needle: &str| text.contains(needle);
    // A refused command is quoted with its arguments; those can be values.
    let detail = text.split(", with args").next().unwrap_or_default().trim_start_matches("ERR ").to_owned();
    if has("max requests limit exceeded") || has("max daily request limit exceeded") {
        return CopyError::Quota { store, detail };
    }
    if has("DB capacity quota exceeded") || text.starts_with("OOM") || has("OOM command not allowed") {
        return CopyError::Full { store, detail };
    }
    if has("max concurrent connections exceeded") || has("max number of clients reached") {
        return CopyError::Busy { store, detail };
    }
    if text.starts_with("NOAUTH") || has("without any password configured") {
        let why = if text.starts_with("NOAUTH") { Refusal::NoAuth } else { Refusal::WrongPass };
        return CopyError::Auth { store, why };
    }
    if text.starts_with("WRONGPASS") || has("invalid password") {
        return CopyError::Auth { store, why: Refusal::WrongPass };
    }
    let code = text.split_whitespace().next().unwrap_or_default();
    if ["LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "BUSY", "CLUSTERDOWN", "UNKILLABLE"].contains(&code) {
        return CopyError::Busy { store, detail };
    }
    if code == "MOVED" || code == "ASK" || code == "CROSSSLOT" {
        return CopyError::ClusterMode { store };
    }
    if code == "NOPERM"
        || has("can't run this command")
        || has("unknown command")
        || has("unknown subcommand")
        || has("not available")
    {
        return CopyError::NotPermitted { store, command: command.to_owned() };
    }
    CopyError::Unexpected { store, command: command.to_owned(), detail }
}

fn silence(error: &RedisError) -> Option<Silence> {
    if error.kind() == ErrorKind::Parse {
        // TLS bytes read as RESP.
        return Some(Silence::Tls);
    }
    if error.kind() != ErrorKind::Io {
        return None;
    }
    let text = error.to_string().to_lowercase();
    let why = if error.is_timeout() || text.contains("timed out") || text.contains("timeout") {
        Silence::TimedOut
    } else if text.contains("refused") {
        Silence::Refused
    } else if ["certificate", "tls", "corrupt message", "invalid peer", "handshake"]
        .iter()
        .any(|word| text.contains(word))
    {
        Silence::Tls
    } else if text.contains("lookup") || text.contains("resolve") || text.contains("not known") {
        Silence::NotResolved
    } else if ["reset", "broken pipe", "eof", "closed", "terminated", "aborted"].iter().any(|word| text.contains(word))
    {
        Silence::Reset
    } else {
        Silence::Other
    };
    Some(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(text: &str) -> CopyError {
        sort_reply("h:1".into(), "SET", text)
    }

    #[test]
    fn the_vendors_words_become_classes() {
        let quota = "ERR max requests limit exceeded. Limit: 500000, Usage: 500000. See https://upstash.com/docs";
        assert!(matches!(sorted(quota), CopyError::Quota { .. }));
        assert!(matches!(sorted("ERR max daily request limit exceeded. Limit: 10000"), CopyError::Quota { .. }));
        assert!(matches!(sorted("ERR DB capacity quota exceeded"), CopyError::Full { .. }));
        assert!(matches!(
            sorted("OOM command not allowed when used memory > 'maxmemory'. script: 0a, on @user_script:3."),
            CopyError::Full { .. }
        ));
        assert!(matches!(sorted("ERR max concurrent connections exceeded"), CopyError::Busy { .. }));
        let auth = |why| CopyError::Auth { store: "h:1".into(), why };
        assert_eq!(sorted("NOAUTH Authentication required."), auth(Refusal::NoAuth));
        assert_eq!(sorted("WRONGPASS invalid username-password pair or user is disabled."), auth(Refusal::WrongPass));
        assert!(matches!(sorted("LOADING Redis is loading the dataset in memory"), CopyError::Busy { .. }));
        assert!(matches!(
            sorted("NOPERM User default has no permissions to run the 'set' command"),
            CopyError::NotPermitted { .. }
        ));
        assert!(matches!(sorted("MOVED 3999 10.0.0.1:6379"), CopyError::ClusterMode { .. }));
    }

    #[test]
    fn arguments_of_a_refused_command_are_not_repeated() {
        let error = sorted("ERR wrong thing, with args beginning with: 'sess:1' 'hunter2'");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
