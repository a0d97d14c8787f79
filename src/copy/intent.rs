//! Writes to the source. The base lives in the target, so it cannot move in the script that writes the source: such
//! writes are announced in the target, marked in the source in the script that writes them, and settled in the target.
//!
//! A successor finds out exactly which writes of a dead runner were carried out; it never guesses.

use super::{
    apply::{Applied, Mark, Op, Write, weight},
    base::{decode, encode},
    error::CopyError,
    fence::hold,
    link::bytes,
    reconcile::{Case, Found},
    run::Runner,
    typed::{apply_typed, needs_typed},
};
use crate::merge::{Act, Entry, Side};

/// Writes that are announced together.
const TOGETHER: usize = 100;
const BYTES_TOGETHER: usize = 1 << 20;

impl Runner {
    /// Writes what the source needs: announced, written and marked, settled. Returns what has moved.
    pub(crate) async fn write_source(&mut self, lane: usize, cases: Vec<Case>) -> Result<Vec<Found>, CopyError> {
        let offset = self.record.shift;
        let (fence, ours) = (self.fence.clone(), self.ours.clone());
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(Vec::new()) };
        let write = |case: &Case| {
            case.write(Side::Old, offset)
                .is_some_and(|write| needs_typed(here, Side::Old, &write, &case.expect(Side::Old)))
        };
        let (typed, plain): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(write);
        let mut groups: Vec<Vec<Case>> = typed.into_iter().map(|case| vec![case]).collect();
        if !plain.is_empty() {
            groups.push(plain);
        }
        let mut moved = Vec::new();
        while let Some(group) = groups.pop() {
            let Some(here) = self.lanes.get_mut(lane) else { return Ok(moved) };
            self.sequence += 1;
            let intent = encode_intent(self.sequence, &group);
            hold(&mut here.links.target, &fence, &ours.intent(here.from), &intent).await?;
            let mark = Mark::Applied { key: ours.applied(here.from), sequence: self.sequence };
            let ops: Vec<Op<'_>> = group
                .iter()
                .filter_map(|case| {
                    let write = case.write(Side::Old, offset)?;
                    Some(Op { name: &case.found.name, expect: case.expect(Side::Old), write, base: None })
                })
                .collect();
            let applied = match ops.as_slice() {
                [op] if needs_typed(here, Side::Old, &op.write, &op.expect) => {
                    vec![apply_typed(&mut here.links.source, &fence, op, &mark).await?]
                }
                ops => here.writers.source.apply(&mut here.links.source, &fence, ops, &mark).await?,
            };
            let done: Vec<_> = group
                .iter()
                .zip(&applied)
                .filter(|(_, applied)| **applied == Applied::Done)
                .map(|(case, _)| (case.found.hash, case.outcome.agreed))
                .collect();
            self.move_base(lane, &done).await?;
            let Some(here) = self.lanes.get_mut(lane) else { return Ok(moved) };
            hold(&mut here.links.target, &fence, &ours.intent(here.from), b"").await?;
            for (case, applied) in group.into_iter().zip(applied) {
                moved.extend(self.note_written(lane, case, &applied));
            }
        }
        Ok(moved)
    }

    /// Counts what became of a write to the source; returns the key that has to be looked at again.
    fn note_written(&mut self, lane: usize, case: Case, applied: &Applied) -> Option<Found> {
        match applied {
            Applied::Done => {
                self.rounds.target.carried += 1;
                self.count_case(&case);
                return None;
            }
            Applied::Moved => {
                // The target is written already; the rest will look like its change alone.
                if let (Some(conflict), true) = (case.outcome.conflict, case.outcome.new != Act::Keep) {
                    self.count_conflict(&case.found, conflict);
                }
            }
            Applied::NoDump => {
                if let Some(here) = self.lanes.get_mut(lane) {
                    here.no_dump.source = true;
                }
            }
        }
        Some(case.found)
    }

    /// Settles the writes to the source that were announced but not settled.
    pub(crate) async fn settle_intent(&mut self, lane: usize) -> Result<(), CopyError> {
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
        let key = self.ours.intent(here.from);
        let Some(intent) = bytes(here.links.target.ask("GET", redis::cmd("GET").arg(&key)).await?) else {
            return Ok(());
        };
        let applied = redis::cmd("GET").arg(self.ours.applied(here.from)).clone();
        let applied = bytes(here.links.source.ask("GET", &applied).await?).unwrap_or_default();
        let done = carried_out(&intent, &applied);
        self.move_base(lane, &done).await?;
        let Some(here) = self.lanes.get_mut(lane) else { return Ok(()) };
        hold(&mut here.links.target, &self.fence, &key, b"").await
    }
}

pub(crate) fn announced_together(cases: &[Case]) -> usize {
    let mut bytes = 0;
    let fits = |case: &&Case| {
        let ops = Op {
            name: &case.found.name,
            expect: case.expect(Side::Old),
            write: case.write(Side::Old, 0).unwrap_or(Write::Nothing),
            base: None,
        };
        bytes += weight(&ops);
        bytes <= BYTES_TOGETHER
    };
    cases.iter().take(TOGETHER).take_while(fits).count().max(1).min(cases.len())
}

/// The sequence number, then hash and agreed entry of each key.
fn encode_intent(sequence: u64, cases: &[Case]) -> Vec<u8> {
    let mut intent = sequence.to_be_bytes().to_vec();
    for case in cases {
        intent.extend(case.found.hash.to_be_bytes());
        match case.outcome.agreed {
            Some(entry) => {
                intent.push(1);
                intent.extend(encode(entry));
            }
            None => intent.extend([0; 17]),
        }
    }
    intent
}

/// The moves of an intent that the source's mark says were carried out.
fn carried_out(intent: &[u8], applied: &[u8]) -> Vec<(u64, Option<Entry>)> {
    let Some((sequence, entries)) = intent.split_at_checked(8) else { return Vec::new() };
    let sequence = u64::from_be_bytes(sequence.try_into().unwrap_or_default()).to_string();
    let Some(bits) = applied.strip_prefix(format!("{sequence}:").as_bytes()) else { return Vec::new() };
    let one = |entry: &[u8]| {
        let (hash, rest) = entry.split_at_checked(8)?;
        let (there, rest) = rest.split_first()?;
        let agreed = if *there == 1 { Some(decode(rest)?) } else { None };
        Some((u64::from_be_bytes(hash.try_into().ok()?), agreed))
    };
    let done = entries.chunks(25).zip(bits).filter(|(_, bit)| **bit == b'1');
    done.filter_map(|(entry, _)| one(entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::Deadline;

    #[test]
    fn only_what_the_source_marked_was_carried_out() {
        let entry = Entry { digest: 7, deadline: Deadline::at(1_000) };
        let mut intent = 42_u64.to_be_bytes().to_vec();
        for (hash, agreed) in [(1_u64, Some(entry)), (2, None), (3, Some(entry))] {
            intent.extend(hash.to_be_bytes());
            intent.push(u8::from(agreed.is_some()));
            intent.extend(agreed.map_or(vec![0; 16], encode));
        }
        assert_eq!(carried_out(&intent, b"42:110"), [(1, Some(entry)), (2, None)]);
        assert_eq!(carried_out(&intent, b"42:001"), [(3, Some(entry))]);
        assert_eq!(carried_out(&intent, b"41:111"), []);
        assert_eq!(carried_out(&intent, b""), []);
    }
}
