//! Looking over the target before anything is written there: what is in it already, and whose it is.
//!
//! What we wrote ourselves is in the stored base. Of the rest, what differs from the source is a block; what only the
//! target has is foreign and never touched; what is the same in both was not written by us either, and is remembered so
//! that it can be left where it was found.

use std::collections::HashMap;

use super::{
    Unmatched,
    apply::Fence,
    base::{discard, load_foreign, store_foreign},
    error::CopyError,
    fence::{ask_guarded, guarded},
    key::{Choice, Ours, Tally, hash},
    link::{Link, bytes},
    read::{read, scan},
    run::Runner,
    sweep::shift,
};
use crate::merge::{Entry, Side};

/// Keys in a stored piece of those that were found identical: sixteen bytes each.
const PIECE: usize = 1_000;

impl Runner {
    /// Where unmatched keys are a block they are one before anything is written.
    pub(crate) async fn refuse_unmatched(&mut self) -> Result<(), CopyError> {
        if self.spec.unmatched != Unmatched::Block {
            return Ok(());
        }
        let mut tally = Tally::default();
        for lane in &mut self.lanes {
            let mut cursor = 0;
            loop {
                let page = scan(&mut lane.links.source, cursor, None, 1_000).await?;
                let unmatched = page.names.iter().filter(|name| self.selection.choose(name) == Choice::Block);
                unmatched.for_each(|name| tally.add(name));
                cursor = page.cursor;
                if cursor == 0 {
                    break;
                }
            }
        }
        match tally.count {
            0 => Ok(()),
            count => Err(CopyError::UnmatchedKeys { count, prefixes: tally.prefixes }),
        }
    }

    pub(crate) async fn look_over_all(&mut self) -> Result<(), CopyError> {
        let mut tally = Tally::default();
        for at in 0..self.lanes.len() {
            self.look_over(at, &mut tally).await?;
        }
        if tally.count > 0 {
            return Err(CopyError::TargetNotEmpty { count: tally.count, prefixes: tally.prefixes });
        }
        Ok(())
    }

    /// Takes what is in the target for the base, as far as it is ours or the same as the source's.
    async fn look_over(&mut self, at: usize, tally: &mut Tally) -> Result<(), CopyError> {
        let owned = self.record.owned;
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
        let (foreign_key, from) = (self.ours.foreign(lane.from), lane.from);
        let mut found = HashMap::new();
        if owned {
            lane.base.foreign = load_foreign(&mut lane.links.target, &foreign_key).await?;
            found = load_identical(&mut lane.links.target, &self.ours, from).await?;
        }
        lane.base.begin(Side::New);
        let mut identical = Vec::new();
        let mut cursor = None;
        while cursor != Some(0) {
            for met in self.meet(at, &mut cursor).await? {
                let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
                let Met { hash, there, here, .. } = met;
                let known = lane.base.get(hash).map(|entry| entry.digest).or(found.get(&hash).copied());
                match (known, here) {
                    (Some(known), _) if known == there.digest => lane.base.set(hash, Some(there)),
                    // Somebody has changed what we wrote: the source's own value is carried again.
                    (Some(_), Some(_)) => lane.base.set(hash, Some(there)),
                    (None, Some(here)) if here.digest == there.digest => {
                        lane.base.set(hash, Some(there));
                        identical.push((hash, there.digest));
                    }
                    (None, Some(_)) => tally.add(&met.name),
                    (Some(_) | None, None) => {
                        lane.base.foreign.insert(hash);
                    }
                }
            }
        }
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
        if !owned {
            store_foreign(&mut lane.links.target, &self.fence, &foreign_key, &lane.base.foreign).await?;
            return store_identical(&mut lane.links.target, &self.fence, &self.ours, from, &identical).await;
        }
        // What the target has lost is carried again, and what is not ours any more is not ours to delete.
        let gone: Vec<_> = lane.base.missing(Side::New).into_iter().map(|hash| (hash, None)).collect();
        self.move_base(at, &gone).await
    }

    /// A page of what the target has and the rules move, but for what is known to be foreign or another pair's.
    async fn meet(&mut self, at: usize, cursor: &mut Option<u64>) -> Result<Vec<Met>, CopyError> {
        let offset = self.record.shift;
        let Some(lane) = self.lanes.get_mut(at) else {
            *cursor = Some(0);
            return Ok(Vec::new());
        };
        let page = scan(&mut lane.links.target, cursor.unwrap_or_default(), None, 500).await?;
        *cursor = Some(page.cursor);
        let to = lane.to;
        let of_another = |hash: u64| {
            let mut others = self.lanes.iter().enumerate().filter(|(other, lane)| *other != at && lane.to == to);
            self.record.owned && others.any(|(_, other)| other.base.contains(hash))
        };
        let Some(lane) = self.lanes.get(at) else { return Ok(Vec::new()) };
        let wanted = |name: &Vec<u8>| {
            let hash = hash(name);
            matches!(self.selection.choose(name), Choice::Move(_))
                && !lane.base.foreign.contains(&hash)
                && !of_another(hash)
        };
        let names: Vec<Vec<u8>> = page.names.into_iter().filter(wanted).collect();
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(Vec::new()) };
        let there = read(&mut lane.links.target, &names, shift(Side::New, offset)).await?;
        let here = read(&mut lane.links.source, &names, 0).await?;
        let met = names.into_iter().zip(there.seen).zip(here.seen).filter_map(|((name, there), here)| {
            Some(Met { hash: hash(&name), name, there: there?.entry, here: here.map(|here| here.entry) })
        });
        Ok(met.collect())
    }
}

/// A key of the target, with what the source has under its name.
struct Met {
    name: Vec<u8>,
    hash: u64,
    there: Entry,
    here: Option<Entry>,
}

/// Keeps which keys were found with which digests, instead of what an earlier try has left there.
async fn store_identical(
    target: &mut Link,
    fence: &Fence,
    ours: &Ours,
    from: u32,
    identical: &[(u64, u64)],
) -> Result<(), CopyError> {
    discard(target, fence, &ours.identicals(from), &[]).await?;
    let mut commands = redis::pipe();
    for (at, some) in identical.chunks(PIECE).enumerate() {
        let piece =
            some.iter().flat_map(|(hash, digest)| [hash.to_be_bytes(), digest.to_be_bytes()].concat()).collect();
        commands.add_command(guarded(fence, "SET", &[ours.identical(from, at).into_bytes()], &[piece]));
    }
    ask_guarded(target, "SET", &commands).await
}

/// The keys that were in the target before us with the source's own values: their digests by their hashes.
pub(crate) async fn load_identical(target: &mut Link, ours: &Ours, from: u32) -> Result<HashMap<u64, u64>, CopyError> {
    let mut identical = HashMap::new();
    for at in 0.. {
        let stored = bytes(target.ask("GET", redis::cmd("GET").arg(ours.identical(from, at))).await?);
        let Some(stored) = stored else { break };
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).unwrap_or_default();
        identical.extend(
            stored.chunks_exact(16).map(|pair| pair.split_at(8)).map(|(hash, digest)| (number(hash), number(digest))),
        );
    }
    Ok(identical)
}
