//! The state's own rows in table `meta`; their keys begin with 0x00, which the pipeline's never do.

use super::CommitId;
use super::varint::{Malformed, Reader, put_i64, put_u64};
use std::collections::BTreeSet;

const VERSION: u8 = 1;

/// Key of the row that says which commit is the last.
pub(super) const LAST_COMMIT: &[u8] = b"\0commit";

/// What the last commit left, besides blocks and the pipeline's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LastCommit {
    pub(super) commit: CommitId,
    pub(super) engine_time_us: i64,
    /// Digest of each space, ascending.
    pub(super) digests: Vec<(u32, u64)>,
    /// Spaces whose cells are no longer read and go with the next fold of their page. Numbers are never reused.
    pub(super) dropped: BTreeSet<u32>,
}

impl LastCommit {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_u64(&mut out, self.commit);
        put_i64(&mut out, self.engine_time_us);
        put_u64(&mut out, self.digests.len() as u64);
        for (space, digest) in &self.digests {
            put_u64(&mut out, u64::from(*space));
            out.extend_from_slice(&digest.to_le_bytes());
        }
        put_u64(&mut out, self.dropped.len() as u64);
        self.dropped.iter().for_each(|space| put_u64(&mut out, u64::from(*space)));
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = versioned(bytes)?;
        let mut last = Self { commit: reader.u64()?, engine_time_us: reader.i64()?, ..Self::default() };
        for _ in 0..reader.usize()? {
            let space = reader.u32()?;
            let digest = reader.take(8)?.first_chunk::<8>().ok_or(Malformed("cut off"))?;
            last.digests.push((space, u64::from_le_bytes(*digest)));
        }
        for _ in 0..reader.usize()? {
            last.dropped.insert(reader.u32()?);
        }
        Ok(last)
    }
}

fn versioned(bytes: &[u8]) -> Result<Reader<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != VERSION {
        return Err(Malformed("written by a newer version of retag"));
    }
    Ok(reader)
}

/// Prefix of the rows that keep, per shard, the next ordinal as of its folded blocks.
pub(super) const SHARD_PREFIX: &[u8] = b"\0shard";

/// Key of a shard's row.
pub(super) fn shard_key(shard: u8) -> Vec<u8> {
    let mut key = SHARD_PREFIX.to_vec();
    key.push(shard);
    key
}

/// Value of a shard's row.
pub(super) fn encode_shard(next_ordinal: u32) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_u64(&mut out, u64::from(next_ordinal));
    out
}

/// Next ordinal in a shard's row.
pub(super) fn decode_shard(bytes: &[u8]) -> Result<u32, Malformed> {
    versioned(bytes)?.u32()
}

#[cfg(test)]
mod tests {
    use super::{LastCommit, decode_shard, encode_shard};

    #[test]
    fn the_last_commit_comes_back_and_cut_bytes_do_not() {
        let last = LastCommit {
            commit: 900,
            engine_time_us: -5,
            digests: vec![(1, u64::MAX), (700, 3)],
            dropped: [4, 9].into(),
        };
        let bytes = last.encode();
        assert_eq!(LastCommit::decode(&bytes), Ok(last));
        assert!((0..bytes.len()).all(|cut| LastCommit::decode(&bytes[..cut]).is_err()));
        assert_eq!(decode_shard(&encode_shard(u32::MAX)), Ok(u32::MAX));
    }
}
