//! The last messages of this state on a topic, read from the ends of its partitions.
//!
//! Within a partition messages lie in the order of their ids, so the greatest of the last ones is the last that was delivered.
//! Other states and programs may write to the topic too; then it is looked further back, up to a limit.

use super::link::Link;
use super::target::{Deadline, Target};
use crate::label::outbox::Place;
use crate::sink::{Owner, SinkError};
use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, Headers as _};

/// The header with a message's id.
pub(super) const ID: &str = "id";
/// Offsets that are looked at from the end of a partition: at first, and at most.
const BACK: (i64, i64) = (1_000, 1_000_000);

/// What the ends say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Last {
    /// The last message of this state.
    pub(super) place: Option<Place>,
    /// A message of a later epoch is there.
    pub(super) newer: Option<u64>,
    /// No later one lies where was not looked.
    pub(super) is_sure: bool,
}

/// Looks at the ends of all partitions; `far` looks back as far as is needed.
pub(super) fn last_told(
    link: &mut Link,
    (target, owner): (&Target, &Owner),
    partitions: i32,
    far: bool,
) -> Result<Last, SinkError> {
    let mut last = Last { is_sure: true, ..Last::default() };
    let deadline = Deadline::of_call();
    for partition in 0..partitions {
        let (low, high) = link.ends(target, partition, deadline)?;
        let (mut back, mut end) = (BACK.0, high);
        while end > low {
            let begin = (high - back).max(low);
            let of_window = of_window(link, (target, owner), (partition, begin, end), deadline)?;
            last.newer = last.newer.max(of_window.newer);
            last.place = last.place.max(of_window.place);
            if of_window != Last::default() {
                break;
            }
            (end, back) = (begin, back * 10);
            if back > BACK.1 || !far {
                last.is_sure &= end <= low || !far;
                break;
            }
        }
    }
    Ok(last)
}

/// The last message of this state from `begin` to `end` of a partition.
fn of_window(
    link: &mut Link,
    (target, owner): (&Target, &Owner),
    (partition, begin, end): (i32, i64, i64),
    deadline: Deadline,
) -> Result<Last, SinkError> {
    let (mut last, mut next) = (Last::default(), begin);
    while next < end {
        let read = link.read(target, (partition, next), deadline, &mut |message| {
            if message.offset() < end
                && let Some((epoch, place)) = id_of(message).and_then(|id| place_in(id, &owner.state_id))
            {
                match epoch.cmp(&owner.epoch) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => last.place = last.place.max(Some(place)),
                    std::cmp::Ordering::Greater => last.newer = last.newer.max(Some(epoch)),
                }
            }
            message.offset() + 1 < end
        })?;
        next = read.next;
        if read.at_end {
            break;
        }
        if deadline.is_over() && next < end {
            return Err(target.away("the last messages of the topic are not read in time"));
        }
    }
    Ok(last)
}

fn id_of<'m>(message: &'m BorrowedMessage<'_>) -> Option<&'m str> {
    let headers = message.headers()?;
    let id = headers.iter().find(|header| header.key == ID)?;
    std::str::from_utf8(id.value?).ok()
}

/// Epoch and place in an id of this state.
fn place_in(id: &str, state_id: &str) -> Option<(u64, Place)> {
    let mut numbers = id.strip_prefix(state_id)?.strip_prefix('-')?.split('-');
    let epoch = numbers.next()?.parse().ok()?;
    let commit = numbers.next()?.parse().ok()?;
    let index = numbers.next()?.parse().ok()?;
    numbers.next().is_none().then_some((epoch, Place { commit, index }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_this_state_are_read_and_no_others() {
        assert_eq!(place_in("ab-2-77-3", "ab"), Some((2, Place { commit: 77, index: 3 })));
        for id in ["abc-2-77-3", "b-2-77-3", "ab-2-77", "ab-2-77-3-4", "ab-2-77-x", ""] {
            assert_eq!(place_in(id, "ab"), None, "{id}");
        }
    }
}
