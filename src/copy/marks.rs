//! The marks a session finds in the stores and leaves there before it does anything: what they say about the runner
//! before, and about what the stores have lost since. Touches no key but ours.

use super::{
    CopySpec,
    apply::Fence,
    error::CopyError,
    fence::{Ending, Record, hold, plant, write_record},
    key::{Ours, rules},
    link::{Link, int},
    run::Lane,
};

/// How much of what an earlier runner left is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anew {
    /// All of it.
    No,
    /// The base, where both stores still have the key.
    Base,
    /// Nothing: the target has lost it.
    Everything,
}

/// Nobody goes on with a copy that is being ended, or with other rules than its own.
pub(crate) fn refuse(record: &Record, spec: &CopySpec) -> Result<(), CopyError> {
    if record.ending != Ending::No {
        return Err(CopyError::Ending);
    }
    match &record.rules {
        Some(made_with) if *made_with != rules(spec) => Err(CopyError::OtherRules),
        Some(_) | None => Ok(()),
    }
}

/// Plants the fence wherever this session may write, and finds out whether the stores still have what they must have.
///
/// From the seal on it is in the source too, before anything is read: the runner we replace must not write there any
/// more either. A source that has it although the target has no record tells that the target has lost everything.
pub(crate) async fn mark(
    control: &mut Link,
    lanes: &mut [Lane],
    spec: &CopySpec,
    ours: &Ours,
    fence: &Fence,
    record: Option<Record>,
) -> Result<(Record, Anew), CopyError> {
    if let Some(record) = &record {
        refuse(record, spec)?;
    }
    let lost = if record.is_some() { None } else { last_attempt(lanes, ours, fence).await? };
    let mut record = record.unwrap_or_default();
    let later = spec.attempt > lost.unwrap_or(record.attempt) || record.doubted;
    if lost.is_some() && !later {
        return Err(CopyError::Emptied { store: spec.to.name() });
    }
    for lane in lanes.iter_mut().filter(|lane| lane.to != spec.to.database) {
        plant(control, ours, &mut lane.links.target, fence).await?;
    }
    if record.sealed && later {
        // Before the fence is back in a source that was emptied: it would vouch for every key that is missing there.
        record.doubted = true;
        write_record(control, ours, fence, &record).await?;
    }
    if record.sealed || lost.is_some() {
        for lane in lanes {
            if !later && !has_fence(&mut lane.links.source, fence).await? {
                return Err(CopyError::Emptied { store: lane.links.source.store().into() });
            }
            plant(control, ours, &mut lane.links.source, fence).await?;
            hold_attempt(&mut lane.links.source, ours, fence, lost.unwrap_or(record.attempt)).await?;
        }
    }
    let anew = match (lost, record.sealed && later) {
        (Some(_), _) => Anew::Everything,
        (None, true) => Anew::Base,
        (None, false) => Anew::No,
    };
    Ok((record, anew))
}

/// For which `retry` the source was last marked; `None` where it is not marked at all.
async fn last_attempt(lanes: &mut [Lane], ours: &Ours, fence: &Fence) -> Result<Option<u32>, CopyError> {
    let mut last = None;
    for lane in lanes {
        if has_fence(&mut lane.links.source, fence).await? {
            let attempt = lane.links.source.ask("GET", redis::cmd("GET").arg(ours.attempt())).await?;
            last = last.max(Some(int(&attempt).and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or_default()));
        }
    }
    Ok(last)
}

/// Tells the source for which `retry` it is written.
pub(crate) async fn hold_attempt(link: &mut Link, ours: &Ours, fence: &Fence, attempt: u32) -> Result<(), CopyError> {
    hold(link, fence, &ours.attempt(), attempt.to_string().as_bytes()).await
}

pub(crate) async fn has_fence(link: &mut Link, fence: &Fence) -> Result<bool, CopyError> {
    let exists = link.ask("EXISTS", redis::cmd("EXISTS").arg(&fence.key)).await?;
    Ok(int(&exists) == Some(1))
}
