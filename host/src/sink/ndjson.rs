//! A file with one message a line, each exactly once.
//!
//! At start a torn last line is cut off; the id of the last whole line says where delivery goes on. Every delivery ends
//! with an fsync.

use super::message::{Message, Summary, parse_id};
use super::{Owner, Sink, SinkError};
use crate::failpoint;
use crate::label::outbox::Place;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

/// How far back a whole line is looked for.
const TAIL_BYTES: u64 = 64 * 1024;

/// The sink.
#[derive(Debug)]
pub struct Ndjson {
    sink: String,
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
}

impl Ndjson {
    /// Opens the file, made when it does not exist.
    ///
    /// # Errors
    /// A path that is no file, or cannot be opened for writing; a file that another process has.
    pub fn open(sink: &str, path: PathBuf) -> Result<Self, SinkError> {
        // Before it is opened: that alone does something to a pipe or a device.
        if path.metadata().is_ok_and(|data| !data.is_file()) {
            return Err(SinkError::NoFile { sink: sink.to_owned(), path });
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file =
            file.map_err(|error| SinkError::Io { sink: sink.to_owned(), path: path.clone(), error })?;
        if file.try_lock().is_err() {
            return Err(SinkError::InUse { sink: sink.to_owned(), path });
        }
        Ok(Self { sink: sink.to_owned(), path, file, buffer: Vec::new() })
    }

    fn io(&self, error: std::io::Error) -> SinkError {
        SinkError::Io { sink: self.sink.clone(), path: self.path.clone(), error }
    }

    /// The end of the file: its last whole line, and what stands behind that without a line end, with its place.
    fn tail(&mut self) -> std::io::Result<(Vec<u8>, Vec<u8>, u64)> {
        let size = self.file.seek(SeekFrom::End(0))?;
        let from = size.saturating_sub(TAIL_BYTES);
        self.file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        (&mut self.file).take(TAIL_BYTES).read_to_end(&mut tail)?;
        let whole = memchr::memrchr(b'\n', &tail).map_or(0, |end| end + 1);
        let torn = tail.split_off(whole);
        tail.pop();
        let start = memchr::memrchr(b'\n', &tail).map_or(0, |end| end + 1);
        Ok((tail.split_off(start), torn, from + whole as u64))
    }

    fn not_ours(&self) -> SinkError {
        SinkError::NotOurs { sink: self.sink.clone(), path: self.path.clone() }
    }
}

impl Sink for Ndjson {
    fn resume(&mut self, owner: &Owner) -> Result<Option<Place>, SinkError> {
        let state_id = owner.state_id.as_str();
        let (line, torn, torn_at) = self.tail().map_err(|error| self.io(error))?;
        // Nothing is cut before it is known to be ours.
        let begin = format!("{{\"id\":\"{state_id}-");
        let is_ours = torn.starts_with(begin.as_bytes()) || begin.as_bytes().starts_with(&torn);
        if line.is_empty() && !is_ours {
            return Err(self.not_ours());
        }
        let message: Option<serde_json::Value> = serde_json::from_slice(&line).ok();
        let id = message.as_ref().and_then(|m| m.get("id")?.as_str()).and_then(parse_id);
        if !line.is_empty() && (id.is_none() || !is_ours) {
            return Err(self.not_ours());
        }
        if let Some(message) = id.filter(|(found, _)| *found != state_id) {
            let (found, expected) = (message.0.to_owned(), state_id.to_owned());
            let (sink, path) = (self.sink.clone(), self.path.clone());
            return Err(SinkError::Foreign { sink, path, found, expected });
        }
        if !torn.is_empty() {
            let cut = self.file.set_len(torn_at).and_then(|()| self.file.sync_data());
            cut.map_err(|error| self.io(error))?;
        }
        self.file.seek(SeekFrom::End(0)).map_err(|error| self.io(error))?;
        Ok(id.map(|(_, place)| place))
    }

    fn deliver<'m>(&mut self, messages: &mut dyn Iterator<Item = Message<'m>>) -> Result<(), SinkError> {
        self.buffer.clear();
        for message in messages {
            serde_json::to_writer(&mut self.buffer, &message).map_err(|error| self.io(error.into()))?;
            self.buffer.push(b'\n');
        }
        self.write()
    }

    fn summarize(&mut self, summary: &Summary<'_>) -> Result<(), SinkError> {
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, summary).map_err(|error| self.io(error.into()))?;
        self.buffer.push(b'\n');
        self.write()
    }
}

impl Ndjson {
    /// Writes what is in the buffer, for good.
    fn write(&mut self) -> Result<(), SinkError> {
        let buffer = std::mem::take(&mut self.buffer);
        failpoint::tear(&mut self.file, &buffer);
        let written = self.file.write_all(&buffer).and_then(|()| self.file.sync_data());
        self.buffer = buffer;
        written.map_err(|error| self.io(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(state_id: &str) -> Owner {
        Owner { state_id: state_id.to_owned(), epoch: 1, ..Owner::default() }
    }

    fn message(index: u32) -> Message<'static> {
        Message {
            id: format!("abc-1-5-{index}"),
            entity: "user",
            key: "42".into(),
            label: "never_paid",
            op: "set",
            value: None,
            previous: None,
            cause: "change",
            rule: "payer",
            revision: 1,
            epoch: 1,
            commit: 5,
            index,
            time: "1970-01-01T00:00:00.000000Z",
        }
    }

    #[test]
    fn a_torn_last_line_is_cut_and_delivery_goes_on_behind_the_last_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.ndjson");
        let mut sink = Ndjson::open("out", path.clone()).unwrap();
        assert_eq!(sink.resume(&owner("abc")).unwrap(), None);
        sink.deliver(&mut [message(0), message(1)].into_iter()).unwrap();
        drop(sink);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"id\":\"abc-1-5"].concat()).unwrap();

        let mut sink = Ndjson::open("out", path.clone()).unwrap();
        assert_eq!(sink.resume(&owner("abc")).unwrap(), Some(Place { commit: 5, index: 1 }));
        sink.deliver(&mut [message(2)].into_iter()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let ids: Vec<_> = text
            .lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["id"].clone())
            .collect();
        assert_eq!(ids, ["abc-1-5-0", "abc-1-5-1", "abc-1-5-2"]);
    }

    #[test]
    fn a_file_of_another_state_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.ndjson");
        Ndjson::open("out", path.clone()).unwrap().deliver(&mut std::iter::once(message(0))).unwrap();
        assert!(matches!(
            Ndjson::open("out", path.clone()).unwrap().resume(&owner("xyz")),
            Err(SinkError::Foreign { .. })
        ));
        for foreign in [&b"hello\n"[..], b"hello", b"{\"a\":1,\n\"b\":2}"] {
            std::fs::write(&path, foreign).unwrap();
            let refused = Ndjson::open("out", path.clone()).unwrap().resume(&owner("abc"));
            assert!(matches!(refused, Err(SinkError::NotOurs { .. })));
            assert_eq!(std::fs::read(&path).unwrap(), foreign, "a file that is not ours stays as it is");
        }
        std::fs::write(&path, b"hello\n").unwrap();
        assert!(matches!(
            Ndjson::open("out", path).unwrap().resume(&owner("abc")),
            Err(SinkError::NotOurs { .. })
        ));
    }
}
