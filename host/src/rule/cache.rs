//! Compiled modules on disk, so that a start does not compile what an earlier one has compiled, and verdicts, so that it does not
//! check what it has checked (decision 6).
//!
//! A module's entry is machine code that will run, so it is believed only if it is what this host wrote: its folder is the
//! owner's alone, its name is made of everything that the code follows from, its content is checked before it is used.
//! Whatever is wrong with an entry, or with the whole folder, the module is compiled instead; nothing here fails.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, Module};

use super::file::RuleFile;
use super::limits::Limits;
use crate::clock;

/// Most bytes of all entries; those that were not used for longest are removed.
pub const CACHE_BYTES_MAX: u64 = 256 << 20;
/// Most bytes of one entry; the code of a larger module is not kept.
const ENTRY_BYTES_MAX: u64 = 64 << 20;
/// First bytes of an entry; another form of entries gets another one.
const MAGIC: &[u8; 8] = b"retagwc1";
/// Bytes of a sha256.
const SUM: usize = 32;

/// A folder of compiled modules.
#[derive(Debug)]
pub(super) struct ModuleCache {
    folder: PathBuf,
    /// sha256 of the compiler's version and of all its settings.
    compiler: [u8; SUM],
    /// Which build of this program runs: length, time and place of its file. Empty = not known, so no verdict is kept.
    program: Vec<u8>,
    /// Held by who writes an entry: all use one temporary name, so that a killed start leaves one file at most.
    writing: Mutex<()>,
}

/// Feeds what wasmtime hashes of an engine into a sha256.
struct IntoSha(Sha256);

impl Hasher for IntoSha {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0 // the sha256 is taken instead
    }
}

impl ModuleCache {
    /// The cache in the state directory `state`; none where its folder cannot be made, or is not the owner's alone.
    pub(super) fn open(state: &Path, engine: &Engine) -> Option<Self> {
        let folder = state.join("cache");
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return None,
            _ => {}
        }
        // Not through a link: the folder itself.
        let (found, owner) = (fs::symlink_metadata(&folder).ok()?, fs::metadata(state).ok()?.uid());
        if !found.is_dir() || found.mode() & 0o077 != 0 || found.uid() != owner {
            return None;
        }
        let mut hasher = IntoSha(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let (compiler, program) = (hasher.0.finalize().into(), this_program().unwrap_or_default());
        Some(Self { folder, compiler, program, writing: Mutex::default() })
    }

    /// The module that `wasm` compiles to, if an entry holds it.
    pub(super) fn load(&self, engine: &Engine, wasm: &[u8]) -> Option<Module> {
        let (code, file) = self.read(&self.key(wasm))?;
        // SAFETY: `deserialize` asks for bytes that `Module::serialize` gave, unchanged. An entry under the name of a module is
        // written by `store` alone, with such bytes; the folder admits no other user, and whoever acts as this one can change the state
        // and the rules as well. Damage of any kind (a torn write, a bad disk, an entry under another's name) is found
        // by the checksum over name and content; it is taken of the very bytes that are used, in memory. Another
        // version or setting of wasmtime has another name, and `deserialize` itself refuses it once more.
        #[allow(unsafe_code)]
        let module = unsafe { Module::deserialize(engine, &code) }.ok()?;
        touch(&file);
        Some(module)
    }

    /// What an entry holds, and its file; none where it is not what was written under that name.
    fn read(&self, key: &[u8; SUM]) -> Option<(Vec<u8>, File)> {
        let mut file = File::open(self.path(key)).ok()?;
        if file.metadata().ok()?.len() > ENTRY_BYTES_MAX {
            return None;
        }
        let mut bytes = Vec::new();
        (&mut file).take(ENTRY_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let (sum, content) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<SUM>()?;
        if sum[..] != checksum(key, content)[..] {
            return None;
        }
        let from = bytes.len() - content.len();
        Some((bytes.split_off(from), file))
    }

    /// Keeps the code that `wasm` was compiled to; where that fails, the next start compiles it again.
    pub(super) fn store(&self, wasm: &[u8], module: &Module) {
        let Ok(code) = module.serialize() else { return };
        if code.len() as u64 + (MAGIC.len() + SUM) as u64 > ENTRY_BYTES_MAX {
            return;
        }
        self.write(&self.key(wasm), &code);
    }

    fn write(&self, key: &[u8; SUM], content: &[u8]) {
        let (path, new) = (self.path(key), self.folder.join("new"));
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let write = || -> std::io::Result<()> {
            let _ = fs::remove_file(&new); // of a start that was killed; mostly there is none
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            for part in [&MAGIC[..], &checksum(key, content), content] {
                file.write_all(part)?;
            }
            fs::rename(&new, &path)
        };
        if write().is_err() {
            let _ = fs::remove_file(&new); // a full disk, for one: leave no half of an entry on it
        }
    }

    /// Name of the verdict on a file that this very program checked under `limits`.
    pub(super) fn verdict_key(&self, file: &RuleFile, limits: &Limits) -> [u8; SUM] {
        let mut hash = Sha256::new().chain_update(self.compiler).chain_update(&self.program);
        for part in [&file.map_wasm, &file.label_wasm] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.chain_update(format!("{limits:?}")).finalize().into()
    }

    /// The fuel per row of a file that this very program found good.
    pub(super) fn verdict(&self, key: &[u8; SUM]) -> Option<u64> {
        let (content, file) = self.read(key)?;
        touch(&file);
        content.try_into().ok().map(u64::from_le_bytes)
    }

    /// Keeps that a file was found good.
    pub(super) fn keep_verdict(&self, key: &[u8; SUM], fuel_per_row: u64) {
        if !self.program.is_empty() {
            self.write(key, &fuel_per_row.to_le_bytes());
        }
    }

    /// Removes the entries that were not used for longest, until the rest takes at most `bytes_max`.
    pub(super) fn trim(&self, bytes_max: u64) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .filter_map(|entry| {
                let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((meta.modified().ok()?, meta.len(), entry.path()))
            })
            .collect();
        files.sort_unstable();
        let mut bytes: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files {
            if bytes <= bytes_max {
                break;
            }
            let _ = fs::remove_file(path); // tried again at the next start
            bytes -= length;
        }
    }

    /// sha256 of all that the code follows from.
    fn key(&self, wasm: &[u8]) -> [u8; SUM] {
        Sha256::new().chain_update(self.compiler).chain_update(wasm).finalize().into()
    }

    fn path(&self, key: &[u8; SUM]) -> PathBuf {
        let name: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(name)
    }
}

/// When an entry was used last decides how long it stays; without that it only goes earlier.
fn touch(file: &File) {
    let _ = file.set_modified(now());
}

/// Another build of this program has another length, time or place.
fn this_program() -> Option<Vec<u8>> {
    let path = std::env::current_exe().ok()?;
    let found = fs::metadata(&path).ok()?;
    let facts = (found.len(), found.mtime(), found.mtime_nsec(), found.dev(), found.ino());
    Some(format!("{facts:?} {}", path.display()).into_bytes())
}

fn checksum(key: &[u8; SUM], code: &[u8]) -> [u8; SUM] {
    Sha256::new().chain_update(key).chain_update(code).finalize().into()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(clock::wall_us()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn wasm(answer: u32) -> Vec<u8> {
        wat::parse_str(format!("(module (func (export \"f\") (result i32) i32.const {answer}))")).unwrap()
    }

    fn answer(module: &Module) -> i32 {
        let mut store = wasmtime::Store::new(module.engine(), ());
        let instance = wasmtime::Instance::new(&mut store, module, &[]).unwrap();
        instance.get_typed_func::<(), i32>(&mut store, "f").unwrap().call(&mut store, ()).unwrap()
    }

    fn entries(cache: &ModuleCache) -> Vec<PathBuf> {
        let mut paths: Vec<_> = fs::read_dir(&cache.folder).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        paths
    }

    #[test]
    fn what_was_stored_comes_back_and_nothing_else_does() {
        let (dir, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        let cache = ModuleCache::open(dir.path(), &engine).unwrap();
        assert_eq!(fs::metadata(&cache.folder).unwrap().mode() & 0o777, 0o700);
        assert!(cache.load(&engine, &wasm(1)).is_none());
        cache.store(&wasm(1), &Module::new(&engine, wasm(1)).unwrap());
        assert_eq!(cache.load(&engine, &wasm(1)).map(|module| answer(&module)), Some(1));
        assert!(cache.load(&engine, &wasm(2)).is_none());
        let other = Engine::new(wasmtime::Config::new().consume_fuel(true)).unwrap();
        let of_other = ModuleCache::open(dir.path(), &other).unwrap();
        assert!(of_other.load(&other, &wasm(1)).is_none(), "code of other settings");
    }

    #[test]
    fn a_verdict_is_of_one_file_under_limits_by_one_program() {
        let (dir, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        let mut cache = ModuleCache::open(dir.path(), &engine).unwrap();
        let file = |n| RuleFile {
            manifest: serde_json::from_str(
                r#"{"abi":"retag_1","name":"payer","entity":"user","version":"1.0.0","key":{"type":"u64"},
                    "tables":[],"aggregates":[],"labels":[]}"#,
            )
            .unwrap(),
            map_wasm: wasm(1),
            label_wasm: wasm(n),
            one_module: false,
            bytes: 1,
        };
        let limits = Limits::default();
        let key = cache.verdict_key(&file(1), &limits);
        assert_eq!(cache.verdict(&key), None);
        cache.keep_verdict(&key, 17);
        assert_eq!(cache.verdict(&key), Some(17));
        assert_eq!(cache.verdict(&cache.verdict_key(&file(2), &limits)), None, "another file");
        let other = Limits { fuel: limits.fuel + 1, ..limits };
        assert_eq!(cache.verdict(&cache.verdict_key(&file(1), &other)), None, "other limits");
        cache.program.push(b'x');
        assert_eq!(cache.verdict(&cache.verdict_key(&file(1), &limits)), None, "another program");
        let path = entries(&cache).pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(cache.verdict(&key), None, "a flipped bit");
        cache.program.clear();
        let unknown = cache.verdict_key(&file(1), &limits);
        cache.keep_verdict(&unknown, 17);
        assert_eq!(cache.verdict(&unknown), None, "a program that does not know itself");
    }

    #[test]
    fn entries_written_at_once_are_all_kept() {
        let (dir, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        let cache = ModuleCache::open(dir.path(), &engine).unwrap();
        let modules: Vec<Module> = (0..8).map(|n| Module::new(&engine, wasm(n)).unwrap()).collect();
        std::thread::scope(|scope| {
            for (n, module) in (0..).zip(&modules) {
                let cache = &cache;
                scope.spawn(move || cache.store(&wasm(n), module));
            }
        });
        assert_eq!(entries(&cache).len(), 8);
    }

    #[test]
    fn a_damaged_entry_is_none() {
        let (dir, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        let cache = ModuleCache::open(dir.path(), &engine).unwrap();
        cache.store(&wasm(1), &Module::new(&engine, wasm(1)).unwrap());
        let path = entries(&cache).pop().unwrap();
        let whole = fs::read(&path).unwrap();
        let check = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).unwrap();
            assert!(cache.load(&engine, &wasm(1)).is_none(), "{what}");
        };
        for at in (0..whole.len()).step_by(whole.len() / 200 + 1).chain([0, 8, 40, whole.len() - 1]) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            check(&bytes, &format!("byte {at} flipped"));
            check(&whole[..at], &format!("cut at {at}"));
        }
        check(&[&whole[..], b"x"].concat(), "longer");
        cache.store(&wasm(2), &Module::new(&engine, wasm(2)).unwrap());
        let other = entries(&cache).into_iter().find(|other| *other != path).unwrap();
        check(&fs::read(other).unwrap(), "the entry of another module");
        fs::write(&path, whole).unwrap();
        assert_eq!(cache.load(&engine, &wasm(1)).map(|module| answer(&module)), Some(1));
    }

    #[test]
    fn a_folder_that_others_can_enter_is_not_used() {
        let (dir, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        let folder = ModuleCache::open(dir.path(), &engine).unwrap().folder;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(ModuleCache::open(dir.path(), &engine).is_none());
        fs::remove_dir(&folder).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &folder).unwrap();
        assert!(ModuleCache::open(dir.path(), &engine).is_none());
        fs::remove_file(&folder).unwrap();
        fs::write(&folder, "no folder").unwrap();
        assert!(ModuleCache::open(dir.path(), &engine).is_none());
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let (dir, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        let cache = ModuleCache::open(dir.path(), &engine).unwrap();
        for n in 1..=3 {
            cache.store(&wasm(n), &Module::new(&engine, wasm(n)).unwrap());
            let file = File::options().write(true).open(cache.path(&cache.key(&wasm(n)))).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(n.into())).unwrap();
        }
        assert!(cache.load(&engine, &wasm(1)).is_some()); // used now
        let bytes: u64 = entries(&cache).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        cache.trim(bytes);
        assert_eq!(entries(&cache).len(), 3);
        cache.trim(bytes - 1);
        let left = [1, 2, 3].map(|n| cache.load(&engine, &wasm(n)).is_some());
        assert_eq!(left, [true, false, true]);
        cache.trim(0);
        assert!(entries(&cache).is_empty());
    }
}
