//! What lies where in Redis (docs/redis.md).
//!
//! Keys are spread over buckets; all of a bucket lies in one slot of a cluster, so that one script changes it at once:
//! - `{PREFIX:BUCKET}:facts`, a hash: whose the bucket is, how far it is, and what else there is of it;
//! - `{PREFIX:BUCKET}:ENTITY`, a hash: by key its record, the label set with its version;
//! - `{PREFIX:BUCKET}:ENTITY:LABEL` and `…:LABEL=VALUE`, sets: who carries it.

use crate::sink::Version;
use crate::sink::label_set::{Stored, read_record};

/// Names of what a sink writes.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) prefix: String,
    pub(super) buckets: u16,
}

impl Layout {
    /// The bucket of a key: CRC-32 (ISO-HDLC, as of zlib) of its text, modulo the number of buckets.
    pub(super) fn bucket(&self, key: &str) -> u16 {
        let bucket = crc32fast::hash(key.as_bytes()) % u32::from(self.buckets.max(1));
        u16::try_from(bucket).unwrap_or(0) // less than a u16
    }

    pub(super) fn facts(&self, bucket: u16) -> String {
        format!("{{{}:{bucket}}}:facts", self.prefix)
    }

    pub(super) fn records(&self, bucket: u16, entity: &str) -> String {
        format!("{{{}:{bucket}}}:{entity}", self.prefix)
    }

    /// What names of sets of members begin with.
    pub(super) fn members(&self, bucket: u16, entity: &str) -> String {
        format!("{}:", self.records(bucket, entity))
    }
}

/// What a bucket says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) state: Option<String>,
    pub(super) epoch: Option<u64>,
    pub(super) commit: u64,
    pub(super) whole: bool,
    pub(super) buckets: Option<u16>,
}

impl Facts {
    /// The fields that are read, in the order of [`Facts::read`].
    pub(super) const FIELDS: [&str; 5] = ["state", "epoch", "commit", "whole", "buckets"];

    pub(super) fn read(fields: &[Option<String>]) -> Self {
        let field = |n: usize| fields.get(n).cloned().flatten();
        Self {
            state: field(0),
            epoch: field(1).and_then(|text| text.parse().ok()),
            commit: field(2).and_then(|text| text.parse().ok()).unwrap_or(0),
            whole: field(3).as_deref() == Some("1"),
            buckets: field(4).and_then(|text| text.parse().ok()),
        }
    }
}

/// A record as it is stored; one that is not ours has no labels and is older than anything.
pub(super) fn stored(entity: &str, key: &str, record: &[u8]) -> Stored {
    let (version, labels) = read_record(record).unwrap_or((Version::default(), Default::default()));
    Stored { entity: entity.to_owned(), key: key.to_owned(), labels, version }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_bucket_share_their_slot_and_the_bucket_is_the_crc_that_everybody_has() {
        let layout = Layout { prefix: "retag".into(), buckets: 256 };
        // Python: zlib.crc32(b"42") % 256
        assert_eq!(layout.bucket("42"), 0x88);
        let names = [layout.facts(7), layout.records(7, "user"), layout.members(7, "user") + "never_paid"];
        assert_eq!(names, ["{retag:7}:facts", "{retag:7}:user", "{retag:7}:user:never_paid"]);
    }

    #[test]
    fn facts_are_read_as_far_as_they_are_there() {
        assert_eq!(Facts::read(&[None, None, None, None, None]), Facts::default());
        let fields = ["abc", "2", "77", "1", "256"].map(|text| Some(text.to_owned()));
        let facts =
            Facts { state: Some("abc".into()), epoch: Some(2), commit: 77, whole: true, buckets: Some(256) };
        assert_eq!(Facts::read(&fields), facts);
    }
}
