//! Files of messages, one a line. Each file is one partition: its path with a fingerprint of its first bytes.
//!
//! A file may grow while it is read. A block ends behind a transaction where one is seen, else behind a line; a last
//! line without an end is given only when the caller reads to the end of the files and stops there.
//!
//! A log only grows. While a file is followed, one that is cut short, cut and grown again, or replaced by another one is
//! noticed: by its size, by the bytes before the end that was seen last, by the file that stands at its path. At a start
//! only its size and first `FINGERPRINT_BYTES` bytes are compared: what was rewritten behind those while no host ran
//! cannot be seen.

use super::pool::Pool;
use super::{Block, Partition, Position, Source, SourceError, Unit};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest message.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Bytes that a fingerprint covers at most.
const FINGERPRINT_BYTES: u64 = 1024;

/// The files of one source.
#[derive(Debug)]
pub struct Files {
    source_name: String,
    /// By partition number of the state.
    files: Vec<Option<Open>>,
    /// Offset behind the last whole transaction of a text, if it knows one.
    boundary: fn(&[u8]) -> Option<usize>,
    /// A last line without an end is a message.
    until_end: bool,
    pool: Pool<Vec<u8>>,
}

/// A file that is read.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    /// Length and sha256 of its first bytes, when it was opened.
    first: (u64, String),
    /// The end of what was given when nothing stood behind it, and the bytes before that.
    seen: Option<(Position, Vec<u8>)>,
}

/// Bytes before a seen end that must stay as they are.
const SEEN_BYTES: u64 = 64;
/// The byte order mark of UTF-8, and what takes its place: positions stay right, JSON passes over blanks.
const MARK: &[u8] = b"\xef\xbb\xbf";
const BLANKS: &[u8] = b"   ";

impl Open {
    /// What says that this is no longer the file that was read up to `offset`; `read` bytes stand behind that.
    fn changed(&self, offset: Position, read: usize) -> std::io::Result<Option<&'static str>> {
        let own = self.file.metadata()?;
        if own.len() < offset {
            return Ok(Some("it is shorter"));
        }
        if let Some((_, before)) = self.seen.as_ref().filter(|(end, _)| *end == offset && read > 0) {
            let mut now = vec![0; before.len()];
            let length = read_full(&self.file, &mut now, offset - before.len() as u64)?;
            if length < now.len() || now != *before {
                return Ok(Some("what stood before that differs"));
            }
        }
        // A file that was moved away keeps what it has; another one at its path would never be read.
        let is_other = |at: std::fs::Metadata| (at.dev(), at.ino()) != (own.dev(), own.ino());
        let replaced = read == 0 && self.path.metadata().is_ok_and(is_other);
        Ok(replaced.then_some("another file has taken its place"))
    }

    /// Whether its first bytes are those that it was opened with.
    fn begins_as_it_did(&self) -> std::io::Result<bool> {
        let mut bytes = vec![0; usize::try_from(self.first.0).unwrap_or(0)];
        let read = read_full(&self.file, &mut bytes, 0)?;
        Ok(read == bytes.len() && sha256(&bytes) == self.first.1)
    }

    /// Notes the end at `end`.
    fn note(&mut self, end: Position) -> std::io::Result<()> {
        if self.seen.as_ref().is_some_and(|(seen, _)| *seen == end) {
            return Ok(());
        }
        let length = end.min(SEEN_BYTES);
        let mut before = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = read_full(&self.file, &mut before, end - length)?;
        self.seen = (read == before.len()).then_some((end, before));
        Ok(())
    }
}

impl Files {
    /// A reader of the files in `partitions` that are of source `source_name`.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(
        folder: &Path,
        source_name: &str,
        partitions: &[Partition],
        boundary: fn(&[u8]) -> Option<usize>,
        until_end: bool,
    ) -> Result<Self, SourceError> {
        let mut files = Vec::new();
        for partition in partitions {
            files.push(if partition.source == source_name {
                let path = folder.join(&partition.name);
                let file = File::open(&path).map_err(|error| io(source_name, &path, error))?;
                let first = (partition.fingerprint_len, partition.fingerprint.clone());
                Some(Open { path, file, first, seen: None })
            } else {
                None
            });
        }
        let source_name = source_name.to_owned();
        Ok(Self { source_name, files, boundary, until_end, pool: Pool::default() })
    }

    fn too_large(&self, path: &Path, position: Position) -> SourceError {
        SourceError::TooLarge {
            source_name: self.source_name.clone(),
            path: path.display().to_string(),
            position,
            limit: MESSAGE_BYTES_MAX,
        }
    }
}

impl Source for Files {
    fn read(&mut self, partition: usize, offset: Position, bytes_max: usize) -> Result<Block, SourceError> {
        let Some(Some(open)) = self.files.get_mut(partition) else {
            return Ok(Block { partition, start: offset, bytes: Arc::default(), index: None, at_end: true });
        };
        let path = open.path.clone();
        let wrap = |error| io(&self.source_name, &path, error);
        let mut wanted = bytes_max;
        let mut bytes = self.pool.take();
        loop {
            // No more room than there is to read: most looks at a file that is followed find nothing.
            let size = open.file.metadata().map_err(wrap)?.len();
            let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
            bytes.resize(wanted.min(left.saturating_add(1)), 0);
            let read = read_full(&open.file, &mut bytes, offset).map_err(wrap)?;
            let at_end = read < bytes.len();
            bytes.truncate(read);
            if let Some(why) = open.changed(offset, read).map_err(wrap)? {
                return Err(SourceError::Replaced {
                    source_name: self.source_name.clone(),
                    path: path.display().to_string(),
                    position: offset,
                    why,
                });
            }
            if offset == 0 && (bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")) {
                let (source_name, path) = (self.source_name.clone(), path.display().to_string());
                return Err(SourceError::Utf16 { source_name, path });
            }
            blank_mark(&mut bytes, offset);
            let whole = match memchr::memrchr(b'\n', &bytes) {
                Some(line) if at_end => {
                    if self.until_end {
                        read
                    } else {
                        line + 1
                    }
                }
                Some(line) => (self.boundary)(bytes.get(..=line).unwrap_or(&[])).unwrap_or(line + 1),
                None if at_end && self.until_end => read,
                None if at_end => 0,
                None if wanted >= MESSAGE_BYTES_MAX => return Err(self.too_large(&path, offset)),
                None => {
                    wanted = (wanted * 4).min(MESSAGE_BYTES_MAX);
                    continue;
                }
            };
            bytes.truncate(whole);
            if at_end {
                open.note(offset + whole as u64).map_err(wrap)?;
            }
            return Ok(Block {
                partition,
                start: offset,
                bytes: self.pool.share(bytes),
                index: None,
                at_end,
            });
        }
    }

    fn read_again(
        &mut self,
        partition: usize,
        offset: Position,
        (bytes_max, until): (usize, Position),
    ) -> Result<Block, SourceError> {
        let mut bytes = self.pool.take();
        let Some(Some(open)) = self.files.get(partition) else {
            return Ok(Block { partition, start: offset, bytes: Arc::default(), index: None, at_end: true });
        };
        let path = open.path.clone();
        let wrap = |error| io(&self.source_name, &path, error);
        let replaced = |why| SourceError::Replaced {
            source_name: self.source_name.clone(),
            path: path.display().to_string(),
            position: until,
            why,
        };
        if offset == 0 && !open.begins_as_it_did().map_err(wrap)? {
            return Err(replaced("its first bytes differ"));
        }
        let left = usize::try_from(until.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut wanted = bytes_max.min(left);
        loop {
            bytes.resize(wanted, 0);
            if read_full(&open.file, &mut bytes, offset).map_err(wrap)? < wanted {
                return Err(replaced("it is shorter"));
            }
            blank_mark(&mut bytes, offset);
            let whole = match memchr::memrchr(b'\n', &bytes) {
                _ if wanted == left => wanted, // `until` ends a message, with a line's end or without
                Some(line) => (self.boundary)(bytes.get(..=line).unwrap_or(&[])).unwrap_or(line + 1),
                None if wanted >= MESSAGE_BYTES_MAX => return Err(self.too_large(&path, offset)),
                None => {
                    wanted = (wanted * 4).min(MESSAGE_BYTES_MAX).min(left);
                    continue;
                }
            };
            bytes.truncate(whole);
            return Ok(Block {
                partition,
                start: offset,
                bytes: self.pool.share(bytes),
                index: None,
                at_end: whole == left,
            });
        }
    }
}

/// A byte order mark is no part of a message.
fn blank_mark(bytes: &mut [u8], offset: Position) {
    if let Some(mark) = bytes.get_mut(..MARK.len()).filter(|mark| offset == 0 && *mark == MARK) {
        mark.copy_from_slice(BLANKS);
    }
}

fn read_full(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn io(source_name: &str, path: &Path, error: std::io::Error) -> SourceError {
    SourceError::Io { source_name: source_name.to_owned(), path: path.display().to_string(), error }
}

/// Finds a source's files and matches them with the partitions that the state knows (`known`, with their positions);
/// returns all partitions: the known ones first, in their order, then the new ones by name.
///
/// # Errors
/// A pattern without a file, a file that is gone, or one that was replaced.
pub fn discover(
    folder: &Path,
    source_name: &str,
    patterns: &[String],
    known: &[(Partition, Position)],
) -> Result<Vec<Partition>, SourceError> {
    let mut found = expand(folder, source_name, patterns)?;
    let mut partitions = Vec::new();
    for (partition, position) in known {
        // Earlier versions stored the path as it was written.
        let name = name_of(folder, &folder.join(&partition.name));
        let matched = match found.iter().position(|found| *found == name) {
            Some(same_name) => found.remove(same_name),
            None => {
                renamed(folder, source_name, partition, &mut found)?.ok_or_else(|| SourceError::Gone {
                    source_name: source_name.to_owned(),
                    path: partition.name.clone(),
                    position: *position,
                })?
            }
        };
        partitions.push(verify(folder, partition, *position, matched)?);
    }
    for name in found {
        let (size, length, fingerprint) = look(folder, source_name, &name, FINGERPRINT_BYTES)?;
        partitions.push(Partition {
            source: source_name.to_owned(),
            name,
            fingerprint,
            fingerprint_len: length,
            first_size: size,
            begins: 0,
            unit: Unit::Bytes,
        });
    }
    Ok(partitions)
}

/// Whether the file of a partition still holds what was read of it, from its beginning on. What is no file is not looked at.
///
/// # Errors
/// It is not there, or not the one that was read.
pub fn holds(folder: &Path, partition: &Partition, position: Position) -> Result<(), SourceError> {
    if partition.unit != Unit::Bytes {
        return Ok(());
    }
    verify(folder, partition, position, partition.name.clone()).map(drop)
}

/// The same file under another name: the fingerprint is equal and the old path is gone.
fn renamed(
    folder: &Path,
    source_name: &str,
    partition: &Partition,
    found: &mut Vec<String>,
) -> Result<Option<String>, SourceError> {
    if folder.join(&partition.name).exists() || partition.fingerprint_len == 0 {
        return Ok(None);
    }
    for n in 0..found.len() {
        let Some(name) = found.get(n) else { continue };
        let (_, length, fingerprint) = look(folder, source_name, name, partition.fingerprint_len)?;
        if length == partition.fingerprint_len && fingerprint == partition.fingerprint {
            return Ok(Some(found.remove(n)));
        }
    }
    Ok(None)
}

fn verify(
    folder: &Path,
    partition: &Partition,
    position: Position,
    name: String,
) -> Result<Partition, SourceError> {
    let source_name = &partition.source;
    let (size, length, fingerprint) = look(folder, source_name, &name, partition.fingerprint_len)?;
    let why = if size < position {
        "it is shorter"
    } else if length != partition.fingerprint_len || fingerprint != partition.fingerprint {
        "its first bytes differ"
    } else {
        let (_, fingerprint_len, fingerprint) = look(folder, source_name, &name, FINGERPRINT_BYTES)?;
        return Ok(Partition { name, fingerprint, fingerprint_len, ..partition.clone() });
    };
    Err(SourceError::Replaced { source_name: source_name.clone(), path: name, position, why })
}

/// Size of a file, and length and sha256 of its first bytes.
fn look(folder: &Path, source_name: &str, name: &str, bytes: u64) -> Result<(u64, u64, String), SourceError> {
    let path = folder.join(name);
    let wrap = |error| io(source_name, &path, error);
    let file = File::open(&path).map_err(wrap)?;
    let size = file.metadata().map_err(wrap)?.len();
    let length = size.min(bytes);
    let mut first = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = read_full(&file, &mut first, 0).map_err(wrap)?;
    first.truncate(read);
    Ok((size, read as u64, sha256(&first)))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A partition's name: its path from the configuration's folder, or from the root where it lies elsewhere, however the
/// paths of both were written. The file's own name stays, so that a link is not its target.
fn name_of(folder: &Path, path: &Path) -> String {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let whole = match (parent.canonicalize(), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    };
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.strip_prefix(&folder).unwrap_or(&whole).to_string_lossy().into_owned()
}

/// Files that match the patterns, by name, each once.
fn expand(folder: &Path, source_name: &str, patterns: &[String]) -> Result<Vec<String>, SourceError> {
    let mut names = Vec::new();
    for pattern in patterns {
        // Only the pattern is a glob; the folder's own name may hold brackets.
        let absolute = Path::new(&glob::Pattern::escape(&folder.to_string_lossy())).join(pattern);
        let paths = glob::glob(&absolute.to_string_lossy()).map_err(|error| SourceError::Pattern {
            source_name: source_name.to_owned(),
            pattern: pattern.clone(),
            error: error.to_string(),
        })?;
        let mut matched = false;
        for path in paths.flatten().filter(|path| path.is_file()) {
            matched = true;
            let name = name_of(folder, &path);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if !matched && folder.join(pattern).symlink_metadata().is_ok() {
            let (source_name, pattern) = (source_name.to_owned(), pattern.clone());
            return Err(SourceError::NotAFile { source_name, pattern });
        }
        if !matched {
            return Err(SourceError::NoFile {
                source_name: source_name.to_owned(),
                pattern: pattern.clone(),
            });
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_boundary(_: &[u8]) -> Option<usize> {
        None
    }

    fn partitions(folder: &Path, known: &[(Partition, Position)]) -> Result<Vec<Partition>, SourceError> {
        discover(folder, "orders", &["*.json".into()], known)
    }

    #[test]
    fn a_block_holds_whole_lines_and_a_last_piece_waits_for_its_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.json"), b"11\n22\n33").unwrap();
        let found = partitions(folder.path(), &[]).unwrap();
        let mut follow = Files::open(folder.path(), "orders", &found, no_boundary, false).unwrap();
        let block = follow.read(0, 0, 5).unwrap();
        assert_eq!((block.bytes.as_slice(), block.at_end), (&b"11\n"[..], false));
        let block = follow.read(0, 3, 100).unwrap();
        assert_eq!((block.bytes.as_slice(), block.at_end), (&b"22\n"[..], true));
        assert!(follow.read(0, 6, 100).unwrap().bytes.is_empty());
        let mut to_end = Files::open(folder.path(), "orders", &found, no_boundary, true).unwrap();
        assert_eq!(to_end.read(0, 6, 100).unwrap().bytes.as_slice(), b"33");
    }

    #[test]
    fn a_replaced_or_shortened_file_is_refused_and_a_renamed_one_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, b"11\n22\n").unwrap();
        let known: Vec<_> = partitions(folder.path(), &[]).unwrap().into_iter().map(|p| (p, 6)).collect();

        std::fs::write(&path, b"11\n22\n33\n").unwrap();
        let grown = partitions(folder.path(), &known).unwrap();
        assert_eq!((grown[0].fingerprint_len, grown[0].first_size), (9, 6));

        std::fs::rename(&path, folder.path().join("b.json")).unwrap();
        assert_eq!(partitions(folder.path(), &known).unwrap()[0].name, "b.json");

        std::fs::write(folder.path().join("b.json"), b"99\n22\n33\n").unwrap();
        assert!(matches!(partitions(folder.path(), &known), Err(SourceError::Gone { .. })));
        std::fs::rename(folder.path().join("b.json"), &path).unwrap();
        let error = partitions(folder.path(), &known).unwrap_err();
        assert!(error.to_string().starts_with("file-replaced"), "{error}");
        std::fs::write(&path, b"11\n").unwrap();
        assert!(matches!(partitions(folder.path(), &known), Err(SourceError::Replaced { .. })));
    }

    #[test]
    fn a_file_is_found_however_its_path_is_written() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a [b]");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("a.json"), b"11\n").unwrap();
        let found =
            discover(&folder, "orders", &["./a.json".into(), "a.json".into(), "*".into()], &[]).unwrap();
        assert_eq!(found.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["a.json"]);
        // Names as earlier versions stored them.
        for stored in ["./a.json".to_owned(), folder.join("a.json").display().to_string()] {
            let known = [(Partition { name: stored, ..found[0].clone() }, 3)];
            assert_eq!(discover(&folder, "orders", &["*".into()], &known).unwrap(), found);
        }
        // Elsewhere, and through a link: one name too.
        std::fs::write(parent.path().join("b.json"), b"22\n").unwrap();
        std::os::unix::fs::symlink(parent.path(), folder.join("link")).unwrap();
        let patterns = ["../b.json".into(), "link/b.json".into()];
        let found = discover(&folder, "orders", &patterns, &[]).unwrap();
        let expect = parent.path().canonicalize().unwrap().join("b.json").display().to_string();
        assert_eq!(found.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), [expect]);
    }

    #[test]
    fn a_file_cut_short_while_it_is_followed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.json"), b"11\n22\n").unwrap();
        let found = partitions(folder.path(), &[]).unwrap();
        let mut follow = Files::open(folder.path(), "orders", &found, no_boundary, false).unwrap();
        assert_eq!(follow.read(0, 0, 100).unwrap().end(), 6);
        std::fs::write(folder.path().join("a.json"), b"11\n").unwrap();
        assert!(matches!(follow.read(0, 6, 100), Err(SourceError::Replaced { .. })));
    }

    #[test]
    fn a_pattern_without_a_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = partitions(folder.path(), &[]).unwrap_err();
        assert!(error.to_string().contains("*.json"), "{error}");
    }

    /// Follows a.json, whose first two lines are read, while `change` happens to it.
    fn followed(change: impl Fn(&Path)) -> Result<Block, SourceError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, b"11\n22\n").unwrap();
        let found = partitions(folder.path(), &[]).unwrap();
        let mut follow = Files::open(folder.path(), "orders", &found, no_boundary, false).unwrap();
        assert_eq!(follow.read(0, 0, 100).unwrap().end(), 6);
        assert_eq!(follow.read(0, 6, 100).unwrap().end(), 6);
        change(&path);
        follow.read(0, 6, 100)
    }

    #[test]
    fn a_file_that_changes_in_another_way_than_growing_is_refused_while_it_is_followed() {
        let grown = followed(|path| std::fs::write(path, b"11\n22\n33\n").unwrap()).unwrap();
        assert_eq!(grown.bytes.as_slice(), b"33\n");
        let moved = |path: &Path| std::fs::rename(path, path.with_extension("old")).unwrap();
        assert!(followed(moved).unwrap().bytes.is_empty());
        let why = |change: &dyn Fn(&Path)| followed(change).unwrap_err().to_string();
        let regrown = why(&|path| std::fs::write(path, b"44\n55\n66\n").unwrap());
        assert!(regrown.starts_with("file-replaced") && regrown.contains("differs"), "{regrown}");
        let replaced = why(&|path| {
            moved(path);
            std::fs::write(path, b"11\n22\n33\n").unwrap();
        });
        assert!(replaced.contains("another file has taken its place"), "{replaced}");
    }

    #[test]
    fn what_was_read_is_read_again_up_to_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, b"11\n22\n33").unwrap();
        let found = partitions(folder.path(), &[]).unwrap();
        let mut files = Files::open(folder.path(), "orders", &found, no_boundary, false).unwrap();
        let mut again = |offset, bytes_max, until| {
            let block = files.read_again(0, offset, (bytes_max, until));
            block.map(|block| (block.bytes.to_vec(), block.at_end)).map_err(|error| error.to_string())
        };
        assert_eq!(again(0, 4, 8), Ok((b"11\n".to_vec(), false)));
        assert_eq!(again(0, 1, 8), Ok((b"11\n".to_vec(), false)), "a line that is longer than asked for");
        // The last line had no end when it was read; what stands behind it now is not its own.
        std::fs::write(&path, b"11\n22\n33\n44\n").unwrap();
        assert_eq!(again(6, 100, 8), Ok((b"33".to_vec(), true)));
        assert_eq!(again(3, 100, 8), Ok((b"22\n33".to_vec(), true)));
        std::fs::write(&path, b"11\n2").unwrap();
        assert!(again(3, 100, 8).unwrap_err().contains("it is shorter"));
        std::fs::write(&path, b"x1\n22\n33\n").unwrap();
        assert!(again(0, 4, 8).unwrap_err().contains("its first bytes differ"));
        assert!(holds(folder.path(), &found[0], 8).unwrap_err().to_string().contains("differ"));
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_at_the_start_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, b"\xef\xbb\xbf11\n\xef\xbb\xbf22\n").unwrap();
        let found = partitions(folder.path(), &[]).unwrap();
        let mut files = Files::open(folder.path(), "orders", &found, no_boundary, false).unwrap();
        assert_eq!(files.read(0, 0, 100).unwrap().bytes.as_slice(), b"   11\n\xef\xbb\xbf22\n");
        assert_eq!(files.read(0, 6, 100).unwrap().bytes.as_slice(), b"\xef\xbb\xbf22\n");
        std::fs::write(&path, b"\xff\xfe1\0\n\0").unwrap();
        let mut files = Files::open(folder.path(), "orders", &found, no_boundary, false).unwrap();
        let error = files.read(0, 0, 100).unwrap_err().to_string();
        assert!(error.contains("byte order mark") && error.contains("UTF-8"), "{error}");
    }
}
