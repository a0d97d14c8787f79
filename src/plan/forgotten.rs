//! What a copier of ours left in a store, where the journal knows of no migration: somebody destroyed the journal in the
//! middle of one. Which store has the sessions is then for a person to say, before anything is written about it.

use std::collections::BTreeSet;

use crate::desired::Target;
use crate::identity::{MigrationId, OUR_KEYS, StoreId};
use crate::observed::Reading;

use super::{Draft, Inputs, Reason};

/// The stores with keys of migrations that the journal does not know, while it knows of none.
pub(super) fn forgotten<'a>(inputs: &Inputs<'a>) -> impl Iterator<Item = (&'a StoreId, &'a BTreeSet<MigrationId>)> {
    let all = inputs.journal.migration.is_none().then_some(&inputs.observed.forgotten);
    let left = all.into_iter().flatten().filter_map(|(store, reading)| Some((store, reading.present()?)));
    left.filter(|(_, migrations)| !migrations.is_empty())
}

impl Draft<'_> {
    /// Whether a store has keys of a migration that nobody remembers. Nothing is begun then, and nothing is taken note of.
    pub(super) fn says_what_the_journal_forgot(&mut self) -> bool {
        let Inputs { owner, .. } = *self.inputs;
        let forgotten: Vec<_> = forgotten(self.inputs).collect();
        for (store, migrations) in &forgotten {
            let ids: Vec<_> = migrations.iter().map(ToString::to_string).collect();
            self.block(
                Reason::JournalLost,
                store.to_string(),
                format!(
                    "it has keys of the copier of migration {}, and secret {} does not know of that migration any more: nobody \
                     keeps its two stores in step",
                    ids.join(", "),
                    owner.journal_secret()
                ),
                format!(
                    "let every service use the store whose sessions count, and look whether its automatic deployments are as \
                     they should be; then, with no copier at work, remove those keys from every database of both stores \
                     (redis-cli -n <database> --scan --pattern '{OUR_KEYS}{}-*' | xargs redis-cli -n <database> DEL) and \
                     apply again",
                    owner.digest()
                ),
            );
        }
        !forgotten.is_empty()
    }

    /// A store that could not be asked: before something is copied it is asked again.
    pub(super) fn say_what_may_be_forgotten(&mut self, target: &Target) {
        let Inputs { observed, journal, .. } = *self.inputs;
        if journal.migration.is_none() && self.copied_from(target).is_some() {
            for (store, reading) in &observed.forgotten {
                if matches!(reading, Reading::Unknown(_)) {
                    self.unread(reading, &format!("what a copier may have left in {store}"));
                }
            }
        }
    }
}
