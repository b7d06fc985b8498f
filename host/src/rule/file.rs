//! A rule file: one `.wasm`, read without running it: its manifest, its map module, its label module, their identities.
//!
//! Two modules: the file is the label module and carries the map module whole in section `retag_1.map`. One module: it
//! serves both, and each change of it is a new namespace.

use retag_abi::{ABI_NAME, MAP_SECTION};
use sha2::{Digest, Sha256};
use wasmparser::{Encoding, Parser, Payload};

use super::error::RuleError;
use super::limits::{Limits, MANIFEST_BYTES_MAX, RULE_FILE_BYTES_MAX};
use super::manifest::Manifest;

/// Version of the normal form of values (design section 4): another one gives other sums for the same messages.
pub const NORMAL_FORM_VERSION: u32 = 1;

/// A rule file, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFile {
    /// What the rule says of itself.
    pub manifest: Manifest,
    /// The module with `label`.
    pub label_wasm: Vec<u8>,
    /// The module with `map`.
    pub map_wasm: Vec<u8>,
    /// Both are the same module.
    pub one_module: bool,
    /// Length of the whole file in bytes.
    pub bytes: usize,
}

impl RuleFile {
    /// Takes a rule file apart and checks its manifest; runs nothing.
    ///
    /// # Errors
    /// Not a core module, too large, no or several manifests, a manifest that is not valid.
    pub fn read(bytes: &[u8]) -> Result<Self, RuleError> {
        if bytes.len() > RULE_FILE_BYTES_MAX {
            return Err(RuleError::TooLarge { what: "file", bytes: bytes.len(), limit: RULE_FILE_BYTES_MAX });
        }
        let sections = Sections::of(bytes)?;
        let manifest = read_manifest(&sections.manifest)?;
        manifest.validate()?;
        let (map_wasm, one_module) = match sections.map {
            Some(map) => (without_custom_sections(map)?, false),
            None => (bytes.to_vec(), true),
        };
        Ok(Self { manifest, label_wasm: bytes.to_vec(), map_wasm, one_module, bytes: bytes.len() })
    }

    /// sha256 of a whole file, in hex: what its bytes are kept under.
    #[must_use]
    pub fn file_id(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }

    /// sha256 of the map module without custom sections, in hex.
    #[must_use]
    pub fn map_id(&self) -> String {
        module_id(&self.map_wasm)
    }

    /// Identity of the aggregates that this rule feeds under `limits`: everything that gives `map` its meaning.
    /// `source_settings` names the settings of the source that alter values.
    #[must_use]
    pub fn namespace_id(&self, limits: &Limits, source_settings: &str) -> String {
        let numbers =
            format!("{} {} {} {NORMAL_FORM_VERSION}", limits.fuel, limits.memory_bytes, limits.stack_bytes);
        hash_parts(&[
            &self.manifest.name,
            &self.map_id(),
            &self.manifest.map_side(),
            &numbers,
            source_settings,
        ])
    }

    /// Identity of the label side: its module without custom sections, labels and parameters' names and types.
    #[must_use]
    pub fn label_id(&self) -> String {
        hash_parts(&[&module_id(&self.label_wasm), &self.manifest.label_side()])
    }
}

/// The custom sections of a file that mean something here.
struct Sections<'a> {
    manifest: Vec<u8>,
    map: Option<&'a [u8]>,
}

impl<'a> Sections<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, RuleError> {
        let mut found = Self { manifest: Vec::new(), map: None };
        let mut twice = false;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(not_wasm)? {
                Payload::Version { encoding: Encoding::Component, .. } => {
                    return Err(RuleError::NotWasm {
                        message: "this is a component, not a core module".into(),
                    });
                }
                Payload::CustomSection(section) if section.name() == ABI_NAME => {
                    found.manifest.extend_from_slice(section.data());
                }
                Payload::CustomSection(section) if section.name() == MAP_SECTION => {
                    twice |= found.map.replace(section.data()).is_some();
                }
                _ => {}
            }
        }
        if twice {
            return Err(RuleError::NotWasm { message: "more than one map module".into() });
        }
        Ok(found)
    }
}

fn not_wasm(error: impl std::fmt::Display) -> RuleError {
    let text = error.to_string();
    let said = text.lines().next().unwrap_or_default(); // bytes that it did not expect follow, one in a line
    let said = said.trim_end_matches(" - expected=[");
    RuleError::NotWasm { message: format!("not a WebAssembly module ({said})") }
}

/// Exactly one JSON value: linkers join sections of one name silently.
fn read_manifest(bytes: &[u8]) -> Result<Manifest, RuleError> {
    if bytes.is_empty() {
        return Err(RuleError::NoManifest);
    }
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(RuleError::TooLarge { what: "manifest", bytes: bytes.len(), limit: MANIFEST_BYTES_MAX });
    }
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<serde_json::Value>();
    let json = |error: serde_json::Error| RuleError::ManifestJson { message: error.to_string() };
    let first = values.next().ok_or(RuleError::NoManifest)?.map_err(json)?;
    if values.next().is_some() {
        return Err(RuleError::TwoManifests);
    }
    serde_json::from_value(first).map_err(json)
}

/// The module without its custom sections; section lengths in their shortest form.
///
/// # Errors
/// `bytes` is not a module.
pub fn without_custom_sections(bytes: &[u8]) -> Result<Vec<u8>, RuleError> {
    let mut out = bytes.get(..8).ok_or_else(|| not_wasm("cut short"))?.to_vec();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(not_wasm)?;
        if let Some((id, range)) = payload.as_section().filter(|(id, _)| *id != 0) {
            let content = bytes.get(range).ok_or_else(|| not_wasm("cut short"))?;
            push_section(&mut out, id, content);
        }
    }
    Ok(out)
}

/// Appends custom section `name` to a module.
pub fn push_custom_section(module: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut content = Vec::with_capacity(data.len() + name.len() + 5);
    push_length(&mut content, name.len());
    content.extend_from_slice(name.as_bytes());
    content.extend_from_slice(data);
    push_section(module, 0, &content);
}

fn push_section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    push_length(module, content.len());
    module.extend_from_slice(content);
}

/// Unsigned LEB128.
fn push_length(out: &mut Vec<u8>, mut n: usize) {
    loop {
        let low = u8::try_from(n & 0x7f).unwrap_or(0);
        n >>= 7;
        if n == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// sha256 of a module without custom sections; of the bytes as they are where they are no module.
fn module_id(bytes: &[u8]) -> String {
    match without_custom_sections(bytes) {
        Ok(bare) => hex(&Sha256::digest(bare)),
        Err(_) => hex(&Sha256::digest(bytes)),
    }
}

/// sha256 over the parts, each behind its length.
fn hash_parts(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The imports of a module: (module, name).
///
/// # Errors
/// `wasm` is not a module.
pub fn imports(wasm: &[u8]) -> Result<Vec<(String, String)>, RuleError> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::ImportSection(section) = payload.map_err(not_wasm)? {
            for import in section.into_imports() {
                let import = import.map_err(not_wasm)?;
                found.push((import.module.to_owned(), import.name.to_owned()));
            }
        }
    }
    Ok(found)
}

/// The exports of a module, by name.
///
/// # Errors
/// `wasm` is not a module.
pub fn exports(wasm: &[u8]) -> Result<Vec<String>, RuleError> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::ExportSection(section) = payload.map_err(not_wasm)? {
            for export in section {
                found.push(export.map_err(not_wasm)?.name.to_owned());
            }
        }
    }
    Ok(found)
}
