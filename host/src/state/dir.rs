//! The state directory: owned by one process at a time, named by a random id, with a format version and an epoch.

use super::error::StoreError;
use crate::clock;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The format that this version writes, and the newest it reads. Format 2 has counted sets in rows and sets that
/// overflowed; all that format 1 holds reads the same in it, so that opening a directory of format 1 only says so.
const FORMAT: u64 = 2;
/// The file that names the processes that had the directory.
const HOSTS: &str = "hosts";
/// Stands in for processes of versions that did not keep count.
const EARLIER: &str = "earlier";
/// Most processes that are remembered; one whose marker lies longer behind is not known any more.
const HOSTS_MAX: usize = 4_096;
/// Between two looks at a directory that somebody has.
const PAUSE: Duration = Duration::from_millis(20);

/// An open state directory; the lock goes with it.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    id: String,
    epoch: u64,
    _lock: File,
}

fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { doing, path: path.to_path_buf(), source }
}

impl StateDir {
    /// Opens the directory, or makes it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] with the other process, [`StoreError::NewerFormat`], [`StoreError::Io`] with the path,
    /// [`StoreError::Corrupt`] for a `format` file that is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // What it holds is row values: nobody else's. One that is there already is as its owner made it.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io("make the directory", path))?;
        let lock = lock(path)?;
        let file = path.join("format");
        let (id, epoch) = match fs::read_to_string(&file) {
            Ok(text) => {
                let (format, id, epoch) = parse(path, &text)?;
                if format < FORMAT {
                    write(path, &file, (&id, epoch))?; // before anything else, so that an older retag refuses it
                }
                (id, epoch)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                // It is written before there is a store.
                if path.join("store").exists() {
                    let (place, reason) =
                        (file.display().to_string(), "it is gone beside a store".to_owned());
                    return Err(StoreError::Corrupt { place, reason });
                }
                replace(path, &path.join(HOSTS), "")?; // nobody has had it
                let (id, epoch) = (format!("{:016x}", random()), 1);
                write(path, &file, (&id, epoch))?;
                (id, epoch)
            }
            Err(e) => return Err(io("read", &file)(e)),
        };
        Ok(Self { path: path.to_path_buf(), id, epoch, _lock: lock })
    }

    /// As [`StateDir::open`]; a process that only reads the stopped directory has it for a moment, and is waited for.
    ///
    /// # Errors
    /// As [`StateDir::open`].
    pub fn open_when_read(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        let begin = clock::moment();
        loop {
            match Self::open(path) {
                Err(StoreError::InUse { .. }) if begin.elapsed() < patience => std::thread::sleep(PAUSE),
                opened => return opened,
            }
        }
    }

    /// Remembers that this process has the directory, and tells which ones had it, the last of them this one. A copy of the
    /// directory does not know the processes that had the original since, nor the original those of the copy. Empty where the
    /// directory is older than this file: then it is not known who had it.
    ///
    /// # Errors
    /// [`StoreError::Io`] with the path.
    pub fn enlist(&self) -> Result<Vec<String>, StoreError> {
        let file = self.path.join(HOSTS);
        let text = match fs::read_to_string(&file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => EARLIER.to_owned(),
            text => text.map_err(io("read", &file))?,
        };
        let mut hosts: Vec<String> = text.lines().map(str::to_owned).collect();
        hosts.push(this_process());
        hosts.drain(..hosts.len().saturating_sub(HOSTS_MAX));
        replace(&self.path, &file, &(hosts.join("\n") + "\n"))?;
        Ok(if hosts.iter().any(|host| host == EARLIER) { Vec::new() } else { hosts })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the embedded store lives.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Random id of this state, 16 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Starts at 1; a restore starts a greater one.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// This process, told apart from all others.
#[must_use]
pub fn this_process() -> String {
    format!("{:x}-{:x}", std::process::id(), clock::wall_us())
}

/// Takes the lock, and writes into it who holds it.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().map(|_| text.trim()).filter(|pid| !pid.is_empty());
            let pid = pid.unwrap_or("unknown").to_owned();
            return Err(StoreError::InUse { dir: dir.to_path_buf(), pid });
        }
        Err(TryLockError::Error(e)) => return Err(io("lock", &path)(e)),
    }
    let mut write = || {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        writeln!(file, "{}", std::process::id())
    };
    write().map_err(io("write", &path))?;
    Ok(file)
}

/// Writes the `format` file, whole or not at all.
fn write(dir: &Path, file: &Path, (id, epoch): (&str, u64)) -> Result<(), StoreError> {
    replace(dir, file, &format!("format = {FORMAT}\nid = {id}\nepoch = {epoch}\n"))
}

fn replace(dir: &Path, file: &Path, text: &str) -> Result<(), StoreError> {
    let new = file.with_extension("new");
    let write = || {
        let mut out = File::create(&new)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&new, file)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io("write", file))
}

/// Format, id and epoch.
fn parse(dir: &Path, text: &str) -> Result<(u64, String, u64), StoreError> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == name));
        line.map(|(_, value)| value.trim())
    };
    let number = |name| value(name).and_then(|text| text.parse::<u64>().ok());
    let corrupt = |reason: &str| StoreError::Corrupt {
        place: dir.join("format").display().to_string(),
        reason: reason.to_owned(),
    };
    let found = number("format").ok_or_else(|| corrupt("it says no format"))?;
    if found > FORMAT {
        return Err(StoreError::NewerFormat { dir: dir.to_path_buf(), found, known: FORMAT });
    }
    let is_id = |id: &&str| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let id = value("id").filter(is_id).ok_or_else(|| corrupt("it says no id of 16 hexadecimal digits"))?;
    let epoch = number("epoch").ok_or_else(|| corrupt("it says no epoch"))?;
    Ok((found, id.to_owned(), epoch))
}

/// 64 random bits: the system's, or the seed that the standard library's hash tables start from.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => std::hash::RandomState::new().build_hasher().finish(),
    }
}
