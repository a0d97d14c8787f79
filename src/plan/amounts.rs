//! Whether what is to be copied fits: commands into the new store's quota, bytes into its memory, and what evicts keys.

use crate::desired::Target;
use crate::observed::{CommandQuota, Store};
use crate::price;

use super::{Draft, Reason};

impl Draft<'_> {
    pub(super) fn say_what_amounts_stop(&mut self, target: &Target, store: &Store) {
        let source = self.inputs.observed.source.present().filter(|source| source.id != store.id);
        let Some(from) = source.and_then(|source| source.server.present()) else { return };
        let keys: u64 = from.keys.values().sum();
        if let Some(left) = store.quota.map(CommandQuota::left) {
            let share = u64::from(target.migration.consent.quota_share);
            let needed = price::copying(keys);
            if needed > left / 100 * share {
                self.block(
                    Reason::QuotaShare,
                    "spec.migration.consent.quotaShare",
                    format!(
                        "copying {keys} keys takes some {needed} commands, more than {share} % of the {left} left on {}",
                        store.id
                    ),
                    Reason::QuotaShare.remedy(),
                );
            }
        }
        if from.evicted > 0 {
            self.note(format!("the store in use has evicted {} keys: sessions are being lost already", from.evicted));
        }
        let Some(server) = store.server.present() else { return };
        let needed = from.used_memory.saturating_add(from.used_memory / 4);
        if server.max_memory != 0 && server.max_memory < needed {
            self.block(
                Reason::WouldNotFit,
                "spec.store",
                format!(
                    "it allows {} bytes and the store in use holds {}; 25 % more are needed",
                    server.max_memory, from.used_memory
                ),
                Reason::WouldNotFit.remedy(),
            );
        }
        let policy = &server.eviction_policy;
        if policy.starts_with("allkeys") {
            let message =
                format!("{} may evict sessions before they expire: its maxmemory-policy is {policy}", store.id);
            if target.migration.consent.data_loss {
                self.note(message);
            } else {
                self.block(Reason::UnsafeEviction, "spec.store", message, Reason::UnsafeEviction.remedy());
            }
        }
    }
}
