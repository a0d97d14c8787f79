//! Looking over the target before anything is written there: what is in it already, and whose it is.
//!
//! What differs from the source is a block; what only the target has is foreign and never touched; what is the same in
//! both was not written by us either, and is remembered so that it can be left where it was found.

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
    run::{Lane, Runner},
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
        let mut unclaimed = HashMap::new();
        for at in 0..self.lanes.len() {
            self.look_over(at, &mut tally, &mut unclaimed).await?;
        }
        if tally.count > 0 {
            return Err(CopyError::TargetNotEmpty { count: tally.count, prefixes: tally.prefixes });
        }
        // Written by an earlier runner, gone from every source since: the first pair deletes it.
        for ((to, hash), entry) in unclaimed {
            let claims = |lane: &&mut Lane| lane.to == to;
            let claimed =
                |lane: &Lane| lane.to == to && (lane.base.contains(hash) || lane.base.foreign.contains(&hash));
            if !self.lanes.iter().any(claimed)
                && let Some(lane) = self.lanes.iter_mut().find(claims)
            {
                lane.base.set(hash, Some(entry));
            }
        }
        Ok(())
    }

    /// Takes what is in the target for the base. What is there before we ever wrote, and differs, is not ours.
    async fn look_over(
        &mut self,
        at: usize,
        tally: &mut Tally,
        unclaimed: &mut HashMap<(u32, u64), Entry>,
    ) -> Result<(), CopyError> {
        let (owned, offset) = (self.record.owned, self.record.shift);
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
        let foreign_key = self.ours.foreign(lane.from);
        if owned {
            lane.base.foreign = load_foreign(&mut lane.links.target, &foreign_key).await?;
        }
        let selection = &self.selection;
        let mut identical = Vec::new();
        let mut cursor = 0;
        loop {
            let page = scan(&mut lane.links.target, cursor, None, 500).await?;
            let moves = |name: &Vec<u8>| matches!(selection.choose(name), Choice::Move(_));
            let names: Vec<Vec<u8>> = page.names.into_iter().filter(moves).collect();
            let there = read(&mut lane.links.target, &names, shift(Side::New, offset)).await?;
            let here = read(&mut lane.links.source, &names, 0).await?;
            for ((name, there), here) in names.iter().zip(there.seen).zip(here.seen) {
                let hash = hash(name);
                let Some(there) = there.filter(|_| !lane.base.foreign.contains(&hash)) else { continue };
                match here {
                    Some(_) if owned => lane.base.set(hash, Some(there.entry)),
                    None if owned => {
                        unclaimed.insert((lane.to, hash), there.entry);
                    }
                    Some(here) if here.entry.digest == there.entry.digest => {
                        lane.base.set(hash, Some(there.entry));
                        identical.push((hash, there.entry.digest));
                    }
                    Some(_) => tally.add(name),
                    None => {
                        lane.base.foreign.insert(hash);
                    }
                }
            }
            cursor = page.cursor;
            if cursor == 0 {
                break;
            }
        }
        if !owned {
            store_foreign(&mut lane.links.target, &self.fence, &foreign_key, &lane.base.foreign).await?;
            store_identical(&mut lane.links.target, &self.fence, &self.ours, lane.from, &identical).await?;
        }
        Ok(())
    }
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
