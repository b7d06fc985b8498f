//! Tokens: `access.ndjson` in the state directory, append-only and fsynced, one event a line; its own audit.
//!
//! It lies beside the store, not in it: a state that is restored from an older copy does not revive a revoked token as
//! long as this file is kept. A token is `retag_ID_SECRET`; only the SHA-256 of the whole is stored, so the file lets
//! nobody in. A last line that was torn by a crash is cut; anything else that does not read is refused.

mod event;
mod token;

pub use event::{Created, Event};
pub use token::{About, NewToken, Token, TokenFault};

use super::caller::Caller;
use super::error::ApiError;
use super::role::Role;
use crate::clock;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// Name of the file in the state directory.
pub const FILE_NAME: &str = "access.ndjson";
/// Most tokens that are not revoked.
const TOKENS_MAX: usize = 1_000;
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Longest name of a token.
pub const NAME_CHARS_MAX: usize = 100;

/// The tokens of a state directory.
#[derive(Debug)]
pub struct AccessFile {
    path: PathBuf,
    tokens: RwLock<BTreeMap<String, Token>>,
    /// Taken before `tokens` and held while the disk is waited for: nobody who asks waits for that.
    journal: Mutex<Journal>,
}

/// The file that is written to.
#[derive(Debug, Default)]
struct Journal {
    /// The state directory; none = a place without tokens, where none can be made.
    dir: Option<PathBuf>,
    /// None = no token was made yet.
    file: Option<File>,
    /// Bytes of whole lines.
    length: u64,
    /// A write failed and could not be taken back.
    broken: bool,
}

impl AccessFile {
    /// A place without tokens, where none can be made.
    #[must_use]
    pub fn none() -> Self {
        Self::of(PathBuf::from(FILE_NAME), BTreeMap::new(), Journal::default())
    }

    fn of(path: PathBuf, tokens: BTreeMap<String, Token>, journal: Journal) -> Self {
        Self { path, tokens: RwLock::new(tokens), journal: Mutex::new(journal) }
    }

    /// Opens the file of a state directory whose lock the caller holds. It is made with the first token.
    ///
    /// # Errors
    /// [`ApiError::Access`]: it cannot be read or written, or a line in it does not read.
    pub fn open(dir: &Path) -> Result<Self, ApiError> {
        let path = dir.join(FILE_NAME);
        let failed = |doing: &'static str| {
            let path = path.clone();
            move |error: std::io::Error| ApiError::Access { path, reason: format!("cannot {doing}: {error}") }
        };
        let mut tokens = BTreeMap::new();
        let mut journal = Journal { dir: Some(dir.to_owned()), ..Journal::default() };
        let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::of(path, tokens, journal));
            }
            Err(error) => return Err(failed("open")(error)),
        };
        let meta = file.metadata().map_err(failed("read"))?;
        if meta.permissions().mode() & 0o777 != 0o600 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed("protect"))?;
        }
        if meta.len() > FILE_BYTES_MAX {
            return Err(ApiError::Access { path, reason: format!("more than {FILE_BYTES_MAX} bytes") });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read"))?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            // A crash tore the last line before it was answered: nobody holds what it says.
            file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(failed("cut"))?;
            bytes.truncate(whole);
        }
        for (number, line) in (1..).zip(bytes.split_inclusive(|b| *b == b'\n')) {
            let event = serde_json::from_slice::<Event>(line).map_err(|e| e.to_string());
            event.and_then(|event| apply(&mut tokens, event)).map_err(|reason| ApiError::Access {
                path: path.clone(),
                reason: format!("line {number} does not read: {reason}"),
            })?;
        }
        (journal.file, journal.length) = (Some(file), whole as u64);
        Ok(Self::of(path, tokens, journal))
    }

    /// Makes a token; the answer is the only place where it is ever shown.
    ///
    /// # Errors
    /// A name that is too long, too many tokens, a file that cannot be written.
    pub fn create(
        &self,
        by: &Caller,
        role: Role,
        name: &str,
        lives_us: Option<i64>,
    ) -> Result<NewToken, ApiError> {
        if name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return Err(ApiError::BadRequest(format!(
                "name: at most {NAME_CHARS_MAX} characters, none of them a control character"
            )));
        }
        let now = clock::wall_us();
        let mut journal = self.journal();
        // Those that ended by themselves take no place.
        if self.tokens().values().filter(|token| token.state(now) == "valid").count() >= TOKENS_MAX {
            return Err(ApiError::TooManyTokens { limit: TOKENS_MAX });
        }
        let (id, text) = token::make().map_err(|error| self.failed(&error))?;
        let created = Created {
            id,
            name: name.to_owned(),
            role,
            sha256: token::hash(text.as_bytes()),
            time_us: now,
            expires_us: lives_us.map(|lives| now.saturating_add(lives)),
            by: by.who(),
        };
        self.append(&mut journal, Event::Created(created.clone()))?;
        let token = Token::of(created);
        Ok(NewToken { about: token.about(now), token: text })
    }

    /// Takes a token's rights away; from the moment of the answer it opens nothing.
    ///
    /// # Errors
    /// No token of that id, the one that asks, a file that cannot be written.
    pub fn revoke(&self, by: &Caller, id: &str) -> Result<About, ApiError> {
        if matches!(by, Caller::Token { id: own, .. } if own == id) {
            return Err(ApiError::OwnToken);
        }
        let now = clock::wall_us();
        let mut journal = self.journal();
        let unknown = || ApiError::UnknownToken { id: id.chars().take(40).collect() };
        let counts = self.tokens().get(id).map(|token| token.revoked.is_none());
        if counts.ok_or_else(unknown)? {
            self.append(&mut journal, Event::Revoked { id: id.to_owned(), time_us: now, by: by.who() })?;
        }
        self.tokens().get(id).map(|token| token.about(now)).ok_or_else(unknown)
    }

    /// All tokens that were ever made, without their secrets, the oldest first.
    pub fn all(&self) -> Vec<About> {
        let now = clock::wall_us();
        let mut all: Vec<_> = self.tokens().values().map(|token| token.about(now)).collect();
        all.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
        all
    }

    /// Who holds this token, or why it does not count.
    pub(super) fn find(&self, text: &[u8]) -> Result<Caller, TokenFault> {
        let tokens = self.tokens();
        let token = token::id_of(text).and_then(|id| tokens.get(id));
        token::check(token, text, clock::wall_us())?;
        let token = token.ok_or(TokenFault::Unknown)?;
        Ok(Caller::Token { id: token.id.clone(), name: token.name.clone(), role: token.role })
    }

    /// Who was let in by a token still is: it was neither revoked nor has it ended since.
    pub(super) fn still_counts(&self, caller: &Caller) -> bool {
        let Caller::Token { id, .. } = caller else { return true };
        self.tokens().get(id).is_some_and(|token| token.state(clock::wall_us()) == "valid")
    }

    fn append(&self, journal: &mut Journal, event: Event) -> Result<(), ApiError> {
        if journal.broken {
            return Err(self.failed("an earlier write failed; restart the host"));
        }
        let mut line = serde_json::to_vec(&event).map_err(|e| self.failed(&e.to_string()))?;
        line.push(b'\n');
        let length = journal.length;
        let file = match (&mut journal.file, &journal.dir) {
            (Some(file), _) => file,
            (none, Some(dir)) => none.insert(make(&self.path, dir).map_err(|e| self.failed(&e.to_string()))?),
            (None, None) => return Err(self.failed("no state directory")),
        };
        let mut write = || {
            file.seek(SeekFrom::Start(length))?;
            file.write_all(&line)?;
            file.sync_all()
        };
        if let Err(error) = write() {
            // Half a line must not stay in front of the next one.
            journal.broken = file.set_len(length).and_then(|()| file.sync_all()).is_err();
            return Err(self.failed(&error.to_string()));
        }
        journal.length += line.len() as u64;
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        apply(&mut tokens, event).map_err(|reason| self.failed(&reason))
    }

    fn failed(&self, reason: &str) -> ApiError {
        ApiError::Access { path: self.path.clone(), reason: reason.to_owned() }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> RwLockReadGuard<'_, BTreeMap<String, Token>> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make(path: &Path, dir: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Lays an event over the tokens.
fn apply(tokens: &mut BTreeMap<String, Token>, event: Event) -> Result<(), String> {
    match event {
        Event::Created(created) => {
            if tokens.contains_key(&created.id) {
                return Err(format!("token {} is made twice", created.id));
            }
            tokens.insert(created.id.clone(), Token::of(created));
        }
        Event::Revoked { id, time_us, by } => {
            let token = tokens.get_mut(&id).ok_or_else(|| format!("token {id} was never made"))?;
            token.revoked.get_or_insert((time_us, by));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
