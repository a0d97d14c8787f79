//! Something the spec refers to cannot be had: whoever may be using two stores must not lose a session by that.

use crate::journal::Migration;
use crate::observed::Lack;
use crate::step::CopyMode;

use super::forward::reached;
use super::{Draft, Phase};

impl Draft<'_> {
    /// Goes no further. What an open migration copies goes on being copied: the journal and its vault know both stores.
    pub(super) fn lacking(&mut self, lack: &Lack) {
        let Lack { reason, subject, message, remedy } = lack;
        let mut message = message.clone();
        if let Some(migration) = self.inputs.journal.open_migration() {
            self.phase(match migration {
                Migration { hold: Some(_), .. } => Phase::Held,
                Migration { rollback: Some(_), baked: None, .. } => Phase::RollingBack,
                _ => reached(migration),
            });
            message = format!("{message}; migration {} goes no further without it", migration.id);
            if migration.still_copies() {
                if migration.sealed.is_some() {
                    self.kept_in_step(migration);
                    message = format!("{message}, and both stores are kept in step meanwhile");
                } else {
                    self.copier(migration, CopyMode::Follow);
                }
            }
        }
        // Before what the copier may have to say: it is what a person can mend.
        self.block(*reason, subject, message, remedy);
        self.plan.blocks.rotate_right(1);
    }
}
