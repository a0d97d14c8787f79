//! Keys that came into the store that is being left after both were sealed, and that nobody carries: they go with it, which
//! is said as long as there is time to do something about it.

use crate::journal::{Migration, Uncarried};
use crate::render::plural;

use super::Draft;
use super::copying::uncarried;

impl Draft<'_> {
    /// Says how many there are, and of what kind.
    pub(super) fn say_what_is_not_carried(&mut self, migration: &Migration) {
        let left = if migration.rollback.is_some() { Some(&migration.to) } else { migration.from.as_ref() };
        let seen = self.inputs.observed.copy.present().map(|copy| uncarried(migration, copy));
        let kept = migration.copied.map(|copied| copied.uncarried);
        let (Some(left), Some(found)) = (left, kept.or(seen).filter(|found| !found.is_nothing())) else { return };
        self.note(format!(
            "{} came into {} after the stores were sealed and are not carried from it ({}); let the workers empty the queues and move the rest by hand before it is retired, what is left then is lost",
            all(found),
            left.id,
            kinds(found)
        ));
    }
}

fn all(found: Uncarried) -> String {
    roughly(found.queues.saturating_add(found.unmatched))
}

/// In words, by kind.
#[must_use]
pub fn kinds(found: Uncarried) -> String {
    let of = |count: u64, what: &str| (count > 0).then(|| format!("{} {what}", roughly(count)));
    let each =
        [of(found.queues, "of a broker's queues"), of(found.unmatched, "that no rule of migration.keys matches")];
    each.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A number of keys that does not change with every look.
fn roughly(count: u64) -> String {
    match count {
        0..10 => plural(usize::try_from(count).unwrap_or(usize::MAX), "key"),
        10..100 => "10 keys or more".to_owned(),
        100..1000 => "100 keys or more".to_owned(),
        _ => "1,000 keys or more".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_and_the_words_do_not_move_with_every_key() {
        let of = |queues, unmatched| kinds(Uncarried { queues, unmatched });
        assert_eq!(of(1, 0), "1 key of a broker's queues");
        assert_eq!(of(2, 30), "2 keys of a broker's queues, 10 keys or more that no rule of migration.keys matches");
        assert_eq!(of(0, 31), of(0, 99));
    }
}
