//! The keys in which Celery keeps its queues where Redis is its broker (kombu's names). A task that is copied as a key
//! runs twice, and one that is left behind never does: a copy must be told what becomes of them.

/// Names as they are, or, with a dot at the end, what they begin with.
pub const CELERY: [&str; 5] = ["celery", "unacked", "unacked_index", "unacked_mutex", "_kombu.binding."];

/// Between a queue's name and a priority.
const PRIORITY: &[u8] = b"celery\x06\x16";

/// Whether a key of this name is one of Celery's broker. Results (`celery-task-meta-…`) are none: they are data.
#[must_use]
pub fn is_celery(name: &[u8]) -> bool {
    let is = |known: &&str| {
        let known = known.as_bytes();
        if known.ends_with(b".") { name.starts_with(known) } else { name == known }
    };
    CELERY.iter().any(is) || name.starts_with(PRIORITY)
}

#[cfg(test)]
mod tests {
    use super::is_celery;

    #[test]
    fn queues_are_told_from_results_and_sessions() {
        for name in
            ["celery", "celery\u{6}\u{16}3", "unacked", "unacked_index", "unacked_mutex", "_kombu.binding.celery"]
        {
            assert!(is_celery(name.as_bytes()), "{name}");
        }
        for name in ["celery-task-meta-1", "celeryx", "unacked:1", "_kombu.bindings", "sess:celery", ""] {
            assert!(!is_celery(name.as_bytes()), "{name}");
        }
    }
}
