//! Files of messages, one a line. Each file is one partition: its path with a fingerprint of its first bytes.
//!
//! A file may grow while it is read. A block ends behind a transaction where one is seen, else behind a line; a last
//! line without an end is given only when the caller reads to the end of the files and stops there.

use super::{Block, Partition, Position, Source, SourceError};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
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
    files: Vec<Option<(PathBuf, File)>>,
    /// Offset behind the last whole transaction of a text, if it knows one.
    boundary: fn(&[u8]) -> Option<usize>,
    /// A last line without an end is a message.
    until_end: bool,
    /// Buffers of blocks given out: those that nobody holds any more are filled again.
    pool: Vec<Arc<Vec<u8>>>,
}

/// Most buffers that are kept for another use: two cycles of 64 MiB in blocks of 1 MiB.
const POOL_MAX: usize = 128;

/// A buffer that nobody holds, else a new one.
fn take_buffer(pool: &mut Vec<Arc<Vec<u8>>>) -> Vec<u8> {
    let free = pool.iter().position(|buffer| Arc::strong_count(buffer) == 1);
    let buffer = free.map(|n| pool.swap_remove(n));
    buffer.and_then(|buffer| Arc::try_unwrap(buffer).ok()).unwrap_or_default()
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
                Some((path, file))
            } else {
                None
            });
        }
        let (source_name, pool) = (source_name.to_owned(), Vec::new());
        Ok(Self { source_name, files, boundary, until_end, pool })
    }
}

impl Source for Files {
    fn read(&mut self, partition: usize, offset: Position, bytes_max: usize) -> Result<Block, SourceError> {
        let Some(Some((path, file))) = self.files.get(partition) else {
            return Ok(Block { partition, start: offset, bytes: Arc::default(), at_end: true });
        };
        let mut wanted = bytes_max;
        let mut bytes = take_buffer(&mut self.pool);
        loop {
            bytes.resize(wanted, 0);
            let read =
                read_full(file, &mut bytes, offset).map_err(|error| io(&self.source_name, path, error))?;
            bytes.truncate(read);
            let at_end = read < wanted;
            if read == 0 && file.metadata().is_ok_and(|data| data.len() < offset) {
                return Err(SourceError::Replaced {
                    source_name: self.source_name.clone(),
                    path: path.display().to_string(),
                    position: offset,
                    why: "it is shorter",
                });
            }
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
                None if wanted >= MESSAGE_BYTES_MAX => {
                    return Err(SourceError::TooLarge {
                        source_name: self.source_name.clone(),
                        path: path.display().to_string(),
                        position: offset,
                        limit: MESSAGE_BYTES_MAX,
                    });
                }
                None => {
                    wanted = (wanted * 4).min(MESSAGE_BYTES_MAX);
                    continue;
                }
            };
            bytes.truncate(whole);
            let bytes = Arc::new(bytes);
            if self.pool.len() < POOL_MAX {
                self.pool.push(bytes.clone());
            }
            return Ok(Block { partition, start: offset, bytes, at_end });
        }
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
        let matched = match found.iter().position(|name| *name == partition.name) {
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
        });
    }
    Ok(partitions)
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
    let hash = Sha256::digest(&first);
    Ok((size, read as u64, hash.iter().map(|byte| format!("{byte:02x}")).collect()))
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
            let name = path.strip_prefix(folder).unwrap_or(&path);
            let name = name.components().collect::<PathBuf>().to_string_lossy().into_owned();
            if !names.contains(&name) {
                names.push(name);
            }
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
}
