//! Change ids (design section 7): `gtid:SOURCE` + sequence number, or `position:SERVER:FILE` + byte position, each with
//! the row. An id exists iff the message says both where its event stands and which row of it this is.

use super::message::Identity;
use crate::decode::{COMMIT_ROW, ChangeId, IdForm};

/// An id whose log has no index yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawId<'a> {
    pub(super) form: IdForm,
    /// gtid source, or binlog file.
    pub(super) source: &'a [u8],
    /// Server id's token; empty for gtids.
    pub(super) server: &'a [u8],
    pub(super) at: u64,
    pub(super) row: u32,
}

/// The id of a message, if it has one. A gtid wins over a position: it survives a failover.
#[inline]
pub(super) fn read<'a>(identity: &Identity<'a>) -> Option<RawId<'a>> {
    let row = if identity.commit { COMMIT_ROW } else { identity.xoffset.filter(|row| *row != COMMIT_ROW)? };
    if let Some((source, at)) = identity.gtid.and_then(split_gtid) {
        return Some(RawId { form: IdForm::Gtid, source, server: b"", at, row });
    }
    let (source, at) = split_last(identity.position?, b':')?;
    Some(RawId { form: IdForm::Position, source, server: identity.server?, at, row })
}

/// MySQL's `uuid:seq` (also with a tag: `uuid:tag:seq`), MariaDB's `domain-server-seq`.
fn split_gtid(gtid: &[u8]) -> Option<(&[u8], u64)> {
    match memchr::memrchr(b':', gtid) {
        Some(_) => split_last(gtid, b':'),
        None => split_last(gtid, b'-').filter(|(source, _)| source.contains(&b'-')),
    }
}

fn split_last(text: &[u8], separator: u8) -> Option<(&[u8], u64)> {
    let at = text.iter().rposition(|byte| *byte == separator)?;
    let (source, number) = (text.get(..at)?, text.get(at + 1..)?);
    if source.is_empty() { None } else { Some((source, unsigned(number)?)) }
}

/// An unsigned number of decimal digits only.
#[inline]
pub(super) fn unsigned(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { value.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// The log named last: nearly always the next message's log too.
#[derive(Debug, Default)]
pub(super) struct LogCursor {
    last: Option<(IdForm, Vec<u8>, Vec<u8>, u32)>,
}

impl LogCursor {
    /// Forgets the log of the block before.
    pub(super) fn reset(&mut self) {
        self.last = None;
    }

    /// The id with its log's index in `logs`, which gets the log's name where it is new.
    pub(super) fn intern(&mut self, id: &RawId<'_>, logs: &mut Vec<String>) -> ChangeId {
        let log = match &self.last {
            Some((form, source, server, log))
                if *form == id.form && source == id.source && server == id.server =>
            {
                *log
            }
            _ => self.search(id, logs),
        };
        ChangeId { log, at: id.at, row: id.row }
    }

    fn search(&mut self, id: &RawId<'_>, logs: &mut Vec<String>) -> u32 {
        let source = String::from_utf8_lossy(id.source);
        let name = match id.form {
            IdForm::Position => format!("position:{}:{source}", String::from_utf8_lossy(id.server)),
            IdForm::Gtid | IdForm::None => format!("gtid:{source}"),
        };
        let at = logs.iter().position(|known| *known == name).unwrap_or_else(|| {
            logs.push(name);
            logs.len() - 1
        });
        let log = u32::try_from(at).unwrap_or(u32::MAX);
        self.last = Some((id.form, id.source.to_vec(), id.server.to_vec(), log));
        log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_needs_a_place_and_a_row() {
        let full = Identity {
            gtid: Some(b"3e11fa47-71ca-11e1-9e33-c80aa9429562:77"),
            position: Some(b"bin.000031:884120"),
            server: Some(b"101"),
            xoffset: Some(3),
            commit: false,
        };
        let id = read(&full).unwrap();
        assert_eq!((id.form, id.at, id.row), (IdForm::Gtid, 77, 3));
        let id = read(&Identity { gtid: None, commit: true, xoffset: None, ..full }).unwrap();
        assert_eq!(
            (id.form, id.source, id.at, id.row),
            (IdForm::Position, &b"bin.000031"[..], 884_120, COMMIT_ROW)
        );
        assert_eq!(read(&Identity { xoffset: None, ..full }), None);
        assert_eq!(read(&Identity { gtid: None, server: None, ..full }), None);
        assert_eq!(read(&Identity { gtid: None, position: None, ..full }), None);
        let maria = read(&Identity { gtid: Some(b"0-101-5"), ..full }).unwrap();
        assert_eq!((maria.source, maria.at), (&b"0-101"[..], 5));
        let unreadable = read(&Identity { gtid: Some(b"nonsense"), ..full }).unwrap();
        assert_eq!(unreadable.form, IdForm::Position);
    }

    #[test]
    fn logs_are_named_once() {
        let (mut cursor, mut logs) = (LogCursor::default(), Vec::new());
        let id = |source| RawId { form: IdForm::Position, source, server: b"7", at: 1, row: 0 };
        let seen = [&b"a"[..], b"a", b"b", b"a"].map(|source| cursor.intern(&id(source), &mut logs).log);
        assert_eq!(seen, [0, 0, 1, 0]);
        assert_eq!(logs, ["position:7:a", "position:7:b"]);
    }
}
