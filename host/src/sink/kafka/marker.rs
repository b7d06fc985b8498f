//! What a sink remembers in its group: how far the topic is, written in the transaction of the messages themselves.
//!
//! The offset is the commit, for people; the metadata says all: `EPOCH:COMMIT:REACHED:HOST`. `REACHED` is the index of the last
//! message in its commit, or for label sets `whole` or `filling`; `HOST` is who wrote it.

use crate::label::outbox::Place;

/// How far the topic is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// Epoch of the state.
    pub(super) epoch: u64,
    /// Last commit of which something is there.
    pub(super) commit: u64,
    /// What is there.
    pub(super) reached: Reached,
    /// The process that wrote it.
    pub(super) host: String,
}

/// What is there of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// Messages up to this index.
    Index(u32),
    /// The label sets of all keys.
    Whole,
    /// Those of some keys.
    Filling,
}

impl Marker {
    pub(super) fn text(&self) -> String {
        let Self { epoch, commit, reached, host } = self;
        match reached {
            Reached::Index(index) => format!("{epoch}:{commit}:{index}:{host}"),
            Reached::Whole => format!("{epoch}:{commit}:whole:{host}"),
            Reached::Filling => format!("{epoch}:{commit}:filling:{host}"),
        }
    }

    /// None where it is not one of ours, as after a tool has set the group's offset.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':');
        let epoch = parts.next()?.parse().ok()?;
        let commit = parts.next()?.parse().ok()?;
        let reached = match parts.next()? {
            "whole" => Reached::Whole,
            "filling" => Reached::Filling,
            index => Reached::Index(index.parse().ok()?),
        };
        Some(Self { epoch, commit, reached, host: parts.next()?.to_owned() })
    }

    /// The last message that is there; none for label sets.
    pub(super) fn place(&self) -> Option<Place> {
        match self.reached {
            Reached::Index(index) => Some(Place { commit: self.commit, index }),
            Reached::Whole | Reached::Filling => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_what_was_written_and_nothing_else() {
        for (reached, text) in [
            (Reached::Index(3), "2:77:3:a1-b2"),
            (Reached::Whole, "2:77:whole:a1-b2"),
            (Reached::Filling, "2:77:filling:a1-b2"),
        ] {
            let marker = Marker { epoch: 2, commit: 77, reached, host: "a1-b2".into() };
            assert_eq!(marker.text(), text);
            assert_eq!(Marker::read(text), Some(marker));
        }
        for text in ["", "77", "1:2", "1:2:3", "1:2:x:host", "-1:2:3:host", "retag a/1 5"] {
            assert_eq!(Marker::read(text), None, "{text}");
        }
        let place = Marker::read("1:5:0:h").and_then(|marker| marker.place());
        assert_eq!(place, Some(Place { commit: 5, index: 0 }));
        assert_eq!(Marker::read("1:5:whole:h").and_then(|marker| marker.place()), None);
    }
}
