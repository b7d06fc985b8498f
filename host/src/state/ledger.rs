//! The ledger: exact sets of the change ids that were applied, so that a change sent again changes nothing (law 4).
//!
//! Ids come from `decode` by way of the pipeline and are kept at full width. Sixteen parts, chosen by hash of log and
//! place, can be owned by different workers. A commit writes its new ids as one record ([`encode_ids`]); at start the
//! records are read back into the parts. Nothing is ever forgotten here: retention drops whole records.

use hashbrown::{HashMap, HashTable};
use roaring::RoaringTreemap;

/// `Id::row` of the row that ends its transaction (`commit: true`).
pub const COMMIT_ROW: u32 = u32::MAX;
/// Number of parts. No worker count is ever stored: a worker owns some of the parts.
pub const PARTS: usize = 16;
/// Version of the records; a later one is refused by name.
const VERSION: u8 = 1;

/// A log of a producer (gtid source, or server and binlog file), interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u32);

/// Identity of a change within its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its log.
    pub log: LogId,
    /// gtid sequence number, or byte position in the binlog.
    pub at: u64,
    /// Row of its transaction or event, or [`COMMIT_ROW`].
    pub row: u32,
}

/// Why a ledger record cannot be read. The state cannot be trusted then: stop, and restore it from a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Written by a later version.
    #[error(
        "ledger record of version {0}, this host reads {VERSION}: start the version of the host that wrote the state"
    )]
    Version(u8),
    /// The record ends too early.
    #[error("ledger record is cut off: the state is damaged, restore it from a savepoint")]
    Truncated,
    /// A number or text that no writer writes, ids out of order, or bytes behind the end.
    #[error("ledger record is malformed at byte {0}: the state is damaged, restore it from a savepoint")]
    Malformed(usize),
}

/// The part that `id` belongs to. Neighbours share a part, so that sets of places stay dense.
#[must_use]
#[inline]
pub fn part_of(id: &Id) -> usize {
    let hash = mix(u64::from(id.log.0) << 48 ^ (id.at >> 16));
    // Four bits fit any usize.
    usize::try_from(hash >> 60).unwrap_or(0) % PARTS
}

/// The finalizer of SplitMix64.
#[inline]
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One of [`PARTS`] parts of the set.
#[derive(Debug, Default)]
pub struct LedgerPart {
    logs: HashMap<LogId, LogSet, IdentityHash>,
}

/// Ids of one log: nearly all changes are alone in their transaction, so commit rows need their place only.
#[derive(Debug, Default)]
struct LogSet {
    commits: RoaringTreemap,
    rows: HashTable<(u64, u32)>,
}

#[inline]
fn row_hash((at, row): &(u64, u32)) -> u64 {
    mix(at.rotate_left(20) ^ u64::from(*row))
}

impl LedgerPart {
    /// Whether `id` was entered.
    #[must_use]
    #[inline]
    pub fn contains(&self, id: &Id) -> bool {
        let Some(set) = self.logs.get(&id.log) else { return false };
        if id.row == COMMIT_ROW {
            return set.commits.contains(id.at);
        }
        let entry = (id.at, id.row);
        set.rows.find(row_hash(&entry), |known| *known == entry).is_some()
    }

    /// Enters `id`; false where it was there already.
    #[inline]
    pub fn insert(&mut self, id: &Id) -> bool {
        let set = self.logs.entry(id.log).or_default();
        if id.row == COMMIT_ROW {
            return set.commits.insert(id.at);
        }
        let entry = (id.at, id.row);
        let hash = row_hash(&entry);
        if set.rows.find(hash, |known| *known == entry).is_some() {
            return false;
        }
        set.rows.insert_unique(hash, entry, row_hash);
        true
    }

    /// Takes an id out again: the cycle that entered it was voided. False when it was not there.
    pub fn remove(&mut self, id: &Id) -> bool {
        let Some(set) = self.logs.get_mut(&id.log) else { return false };
        if id.row == COMMIT_ROW {
            return set.commits.remove(id.at);
        }
        let entry = (id.at, id.row);
        match set.rows.find_entry(row_hash(&entry), |known| *known == entry) {
            Ok(found) => {
                found.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// Number of ids.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.logs.values().map(|set| set.commits.len() + set.rows.len() as u64).sum()
    }

    /// Whether it has no id.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory in bytes, estimated. Walks all containers: for status, not for each change.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let set = |set: &LogSet| {
            (set.commits.serialized_size() + set.rows.capacity() * 17 + size_of::<LogSet>()) as u64
        };
        self.logs.values().map(set).sum()
    }
}

/// Hash of a log's number, which is small and dense.
type IdentityHash = std::hash::BuildHasherDefault<LogHasher>;

/// See [`IdentityHash`].
#[derive(Debug, Default)]
struct LogHasher(u64);

impl std::hash::Hasher for LogHasher {
    fn finish(&self) -> u64 {
        mix(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = u64::from(n);
    }
}

/// The names of the logs, and the latest commit time entered for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTable {
    logs: Vec<Log>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Log {
    producer: String,
    name: String,
    newest_ts: Option<i64>,
}

impl LogTable {
    /// The number of log `log` of `producer`, a new one if it was not known. Once per log and block, not per change.
    pub fn intern(&mut self, producer: &str, log: &str) -> LogId {
        let known = self.logs.iter().rposition(|l| l.name == log && l.producer == producer);
        let at = known.unwrap_or_else(|| {
            self.logs.push(Log { producer: producer.to_owned(), name: log.to_owned(), newest_ts: None });
            self.logs.len() - 1
        });
        LogId(u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// Producer and name of a log.
    #[must_use]
    pub fn name(&self, log: LogId) -> Option<(&str, &str)> {
        self.get(log).map(|log| (log.producer.as_str(), log.name.as_str()))
    }

    /// Number of logs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.logs.len()
    }

    /// Whether no log is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// Notes that a change with commit time `ts` (seconds) was entered.
    #[inline]
    pub fn enter(&mut self, log: LogId, ts: i64) {
        if let Some(log) = self.logs.get_mut(log.0 as usize) {
            log.newest_ts = log.newest_ts.max(Some(ts));
        }
    }

    /// The latest commit time entered for `log`, in seconds.
    #[must_use]
    pub fn newest_ts(&self, log: LogId) -> Option<i64> {
        self.get(log).and_then(|log| log.newest_ts)
    }

    /// Whether a change that is known by its id, but committed at `ts`, is another one: it is later than anything
    /// entered for its log, so the log was restarted under the same name. To be refused as `log-restarted`.
    #[must_use]
    #[inline]
    pub fn is_restarted(&self, log: LogId, ts: i64) -> bool {
        self.newest_ts(log).is_some_and(|newest| ts > newest)
    }

    fn get(&self, log: LogId) -> Option<&Log> {
        self.logs.get(log.0 as usize)
    }

    /// The table as bytes: version, number of logs, and for each its producer, name and latest time + 1 (0 = none).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(&mut out, self.logs.len() as u128);
        for log in &self.logs {
            for text in [&log.producer, &log.name] {
                put(&mut out, text.len() as u128);
                out.extend_from_slice(text.as_bytes());
            }
            let zigzag = |ts: i64| (ts.cast_unsigned() << 1) ^ (ts >> 63).cast_unsigned();
            put(&mut out, log.newest_ts.map_or(0, |ts| u128::from(zigzag(ts)) + 1));
        }
        out
    }

    /// The inverse of [`encode`](Self::encode).
    ///
    /// # Errors
    /// [`LedgerError`] on anything that `encode` does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut reader = Reader::new(bytes)?;
        let count = reader.number(u64::MAX.into())?;
        let mut logs = Vec::new();
        for _ in 0..count {
            let (producer, name) = (reader.text()?, reader.text()?);
            let newest_ts = match reader.number(u128::from(u64::MAX) + 1)? {
                0 => None,
                above => {
                    let zigzag = u64::try_from(above - 1).map_err(|_| LedgerError::Malformed(reader.at))?;
                    Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
                }
            };
            logs.push(Log { producer, name, newest_ts });
        }
        reader.end()?;
        Ok(Self { logs })
    }
}

/// A commit's new ids as one record; sorts `ids`, and writes an id that stands there twice once.
///
/// Version, then for each log its number (less the one before) and its number of ids, then for each id its place (less
/// the one before) × 2 + 1 and its row, or place × 2 alone for a commit row. Numbers are LEB128 varints.
#[must_use]
pub fn encode_ids(ids: &mut [Id]) -> Vec<u8> {
    ids.sort(); // long runs in order, one for each block: merged, not sorted anew
    let mut out = Vec::with_capacity(ids.len() * 2 + 16);
    out.push(VERSION);
    let mut last_log = 0;
    for of_log in ids.chunk_by(|a, b| a.log == b.log) {
        let Some(first) = of_log.first() else { continue };
        put(&mut out, u128::from(first.log.0 - last_log));
        last_log = first.log.0;
        let distinct = || of_log.chunk_by(|a, b| a == b).filter_map(<[Id]>::first);
        put(&mut out, distinct().count() as u128);
        let mut last = 0;
        for id in distinct() {
            let has_row = id.row != COMMIT_ROW;
            put(&mut out, u128::from(id.at - last) << 1 | u128::from(has_row));
            if has_row {
                put(&mut out, u128::from(id.row));
            }
            last = id.at;
        }
    }
    out
}

/// The inverse of [`encode_ids`]; the ids are in order.
///
/// # Errors
/// [`LedgerError`] on anything that `encode_ids` does not write.
pub fn decode_ids(bytes: &[u8]) -> Result<Vec<Id>, LedgerError> {
    let mut reader = Reader::new(bytes)?;
    let mut ids: Vec<Id> = Vec::new();
    let mut log = 0_u32;
    while reader.at < bytes.len() {
        let malformed = LedgerError::Malformed(reader.at);
        let step = u32::try_from(reader.number(u32::MAX.into())?).map_err(|_| malformed)?;
        log = log.checked_add(step).ok_or(malformed)?;
        let count = reader.number(u64::MAX.into())?;
        let mut at = 0_u64;
        for _ in 0..count {
            let malformed = LedgerError::Malformed(reader.at);
            let place = reader.number(u128::from(u64::MAX) << 1 | 1)?;
            at = at.checked_add(u64::try_from(place >> 1).map_err(|_| malformed)?).ok_or(malformed)?;
            let row = match place & 1 {
                0 => COMMIT_ROW,
                _ => u32::try_from(reader.number(u128::from(COMMIT_ROW) - 1)?).map_err(|_| malformed)?,
            };
            let id = Id { log: LogId(log), at, row };
            if ids.last().is_some_and(|last| *last >= id) {
                return Err(malformed);
            }
            ids.push(id);
        }
    }
    Ok(ids)
}

#[inline]
fn put(out: &mut Vec<u8>, mut number: u128) {
    loop {
        // The low seven bits.
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, LedgerError> {
        match bytes.first() {
            Some(&VERSION) => Ok(Self { bytes, at: 1 }),
            Some(&version) => Err(LedgerError::Version(version)),
            None => Err(LedgerError::Truncated),
        }
    }

    #[inline]
    fn number(&mut self, max: u128) -> Result<u128, LedgerError> {
        let (start, mut number) = (self.at, 0_u128);
        for shift in (0..77).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(LedgerError::Truncated)?;
            self.at += 1;
            number |= u128::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || shift == 0;
                return if number <= max && shortest {
                    Ok(number)
                } else {
                    Err(LedgerError::Malformed(start))
                };
            }
        }
        Err(LedgerError::Malformed(start))
    }

    fn text(&mut self) -> Result<String, LedgerError> {
        let length = usize::try_from(self.number(u64::MAX.into())?).map_err(|_| LedgerError::Truncated)?;
        let end = self.at.checked_add(length).ok_or(LedgerError::Truncated)?;
        let text = self.bytes.get(self.at..end).ok_or(LedgerError::Truncated)?;
        let text = std::str::from_utf8(text).map_err(|_| LedgerError::Malformed(self.at))?;
        self.at = end;
        Ok(text.to_owned())
    }

    fn end(&self) -> Result<(), LedgerError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(LedgerError::Malformed(self.at)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashSet};

    fn id() -> impl Strategy<Value = Id> {
        let at = prop_oneof![0_u64..40, Just(u64::MAX), any::<u64>(), (0_u64..200_000)];
        let row = prop_oneof![3 => Just(COMMIT_ROW), 2 => 0_u32..4, 1 => any::<u32>()];
        (prop_oneof![4 => 0_u32..3, 1 => any::<u32>()], at, row).prop_map(|(log, at, row)| Id {
            log: LogId(log),
            at,
            row,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn parts_are_the_set_of_what_was_inserted(ids in vec(id(), 0..400), others in vec(id(), 0..100)) {
            let mut parts: Vec<LedgerPart> = (0..PARTS).map(|_| LedgerPart::default()).collect();
            let mut model = HashSet::new();
            for id in &ids {
                prop_assert_eq!(parts[part_of(id)].contains(id), model.contains(id));
                prop_assert_eq!(parts[part_of(id)].insert(id), model.insert(*id));
            }
            for id in ids.iter().chain(&others) {
                prop_assert_eq!(parts[part_of(id)].contains(id), model.contains(id));
            }
            prop_assert_eq!(parts.iter().map(LedgerPart::len).sum::<u64>(), model.len() as u64);
        }

        #[test]
        fn ids_survive_their_record(ids in vec(id(), 0..400)) {
            let expect: Vec<Id> = ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
            let bytes = encode_ids(&mut ids.clone());
            prop_assert_eq!(decode_ids(&bytes).unwrap(), expect);
        }

        #[test]
        fn garbage_is_an_error_or_the_one_record_of_its_ids(bytes in vec(any::<u8>(), 0..60)) {
            for bytes in [bytes.clone(), [&[VERSION][..], &bytes].concat()] {
                if let Ok(mut ids) = decode_ids(&bytes) {
                    prop_assert_eq!(decode_ids(&encode_ids(&mut ids)).unwrap(), ids);
                }
                if let Ok(table) = LogTable::decode(&bytes) {
                    prop_assert_eq!(table.encode(), bytes);
                }
            }
        }

        #[test]
        fn a_cut_or_changed_record_never_panics(ids in vec(id(), 1..50), cut in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let mut bytes = encode_ids(&mut ids.clone());
            let at = cut.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            drop(decode_ids(&bytes));
            bytes.truncate(at);
            prop_assert_ne!(decode_ids(&bytes).map(|ids| ids.len()), Ok(usize::MAX));
        }
    }

    #[test]
    fn logs_keep_their_numbers_and_times() {
        let mut table = LogTable::default();
        let a = table.intern("orders", "gtid:a");
        let b = table.intern("users", "gtid:a");
        assert_eq!((a, b, table.intern("orders", "gtid:a")), (LogId(0), LogId(1), a));
        assert_eq!(table.name(b), Some(("users", "gtid:a")));
        assert_eq!(table.name(LogId(2)), None);
        assert!(!table.is_restarted(a, 5), "nothing was entered yet");
        for ts in [7, -3, 5] {
            table.enter(a, ts);
        }
        assert_eq!(table.newest_ts(a), Some(7));
        assert!(table.is_restarted(a, 8) && !table.is_restarted(a, 7) && !table.is_restarted(b, 8));
        table.enter(b, i64::MIN);
        assert_eq!(LogTable::decode(&table.encode()), Ok(table.clone()));
        let bytes = table.encode();
        for cut in 0..bytes.len() {
            assert!(LogTable::decode(&bytes[..cut]).is_err());
        }
        assert_eq!(LogTable::decode(&[2]), Err(LedgerError::Version(2)));
    }

    #[test]
    fn dense_ids_take_a_byte_and_all_parts_are_used() {
        let id = |at| Id { log: LogId(0), at, row: COMMIT_ROW };
        let mut ids: Vec<Id> = (0..100_000).map(id).collect();
        assert!(encode_ids(&mut ids).len() < 100_020, "one byte each where places are dense");
        let parts: HashSet<usize> = (0..1000).map(|n| part_of(&id(n << 16))).collect();
        assert_eq!(parts.len(), PARTS);
        assert!(parts.iter().all(|part| *part < PARTS));
    }
}
