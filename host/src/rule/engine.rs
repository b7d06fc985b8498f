//! Compiles rules: one wasmtime engine for all, each rule checked before its code may see a row.
//!
//! Compiled off the data path. What a [`CompiledRule`] is made of never changes; mappers and labelers are its instances.

use std::path::Path;
use std::sync::Arc;

use retag_abi::contribution::Header;
use retag_abi::{ABI_NAME, EXPORT_LABEL, EXPORT_MAP, EXPORT_MEMORY, EXPORT_RESERVE, IMPORT_FAIL, IMPORT_LOG};
use serde_json::{Map, Value};
use wasmtime::{Config, Engine, ExternType, Linker, Module, OptLevel};

use super::answer::slice;
use super::cache::{CACHE_BYTES_MAX, ModuleCache};
use super::check;
use super::compiler::{COMPILE_TIME_MAX, compile};
use super::error::{Fault, RuleError};
use super::file::RuleFile;
use super::guest::{self, Guest, GuestLog, HostSide, Part};
use super::label::Labeler;
use super::limits::{Limits, STACK_BYTES};
use super::manifest::Manifest;
use super::map::Mapper;
use super::params::ParamValues;

/// Records, computed keys and heap as a guest returns them.
pub type RawContributions = (Vec<u8>, Vec<u8>, Vec<u8>);

/// Compiles and runs rules.
pub struct RuleEngine {
    engine: Engine,
    linker: Linker<HostSide>,
    cache: Option<ModuleCache>,
}

/// A checked rule, ready to run on any thread.
pub struct CompiledRule {
    /// What the rule says of itself.
    pub manifest: Arc<Manifest>,
    /// What it may use.
    pub limits: Limits,
    /// Fuel that `map` took per row on synthetic images; the start value of each mapper's own measure.
    pub fuel_per_row: u64,
    /// The file it was made of.
    pub file: RuleFile,
    pub(crate) map_part: Part,
    pub(crate) label_part: Part,
}

impl std::fmt::Debug for CompiledRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledRule")
            .field("name", &self.manifest.name)
            .field("limits", &self.limits)
            .finish()
    }
}

impl RuleEngine {
    /// An engine with metering on and everything that is not deterministic off.
    ///
    /// # Errors
    /// The machine is not supported.
    pub fn new() -> Result<Self, RuleError> {
        let mut config = Config::new();
        config
            .consume_fuel(true)
            .cranelift_nan_canonicalization(true)
            .cranelift_opt_level(OptLevel::Speed)
            .wasm_relaxed_simd(false)
            .wasm_memory64(false)
            .wasm_multi_memory(false)
            .wasm_tail_call(false)
            .wasm_wide_arithmetic(false)
            .max_wasm_stack(STACK_BYTES)
            .wasm_backtrace_max_frames(None);
        let engine = Engine::new(&config).map_err(|e| RuleError::Engine { message: e.to_string() })?;
        let mut linker = Linker::new(&engine);
        linker
            .func_wrap(ABI_NAME, IMPORT_LOG, guest::log)
            .and_then(|linker| linker.func_wrap(ABI_NAME, IMPORT_FAIL, guest::fail))
            .map_err(|e| RuleError::Engine { message: e.to_string() })?;
        Ok(Self { engine, linker, cache: None })
    }

    /// Keeps compiled code in the state directory `state`, as far as that is possible.
    #[must_use]
    pub fn with_cache(mut self, state: &Path) -> Self {
        self.cache = ModuleCache::open(state, &self.engine);
        self
    }

    /// Bounds what is kept; for after the last rule.
    pub fn trim_cache(&self) {
        if let Some(cache) = &self.cache {
            cache.trim(CACHE_BYTES_MAX);
        }
    }

    /// Compiles a rule and checks imports, exports, start-up cost and purity; measures the fuel per row.
    ///
    /// # Errors
    /// The first thing that is not as the ABI asks, by code.
    pub fn compile(&self, file: RuleFile, limits: Limits) -> Result<Arc<CompiledRule>, RuleError> {
        if limits.stack_bytes != STACK_BYTES {
            let message = format!("a stack of {} bytes: this host has {STACK_BYTES}", limits.stack_bytes);
            return Err(RuleError::Unsupported { rule: file.manifest.name, message });
        }
        let rule = &file.manifest.name;
        let (map_module, label_module) = self.modules(rule, &file)?;
        check_exports(rule, EXPORT_MAP, &map_module)?;
        check_exports(rule, EXPORT_LABEL, &label_module)?;
        let log = Arc::new(GuestLog::default());
        let map_part = self.part(rule, &map_module, EXPORT_MAP, limits, &log)?;
        let label_part = self.part(rule, &label_module, EXPORT_LABEL, limits, &log)?;
        let manifest = Arc::new(file.manifest.clone());
        let mut compiled = CompiledRule { manifest, limits, fuel_per_row: 0, file, map_part, label_part };
        let verdict = self.cache.as_ref().map(|cache| (cache, cache.verdict_key(&compiled.file, &limits)));
        if let Some(fuel_per_row) = verdict.as_ref().and_then(|(cache, key)| cache.verdict(key)) {
            compiled.fuel_per_row = fuel_per_row;
            return Ok(Arc::new(compiled));
        }
        compiled.fuel_per_row = check::start_and_fuel(&compiled)?;
        let compiled = Arc::new(compiled);
        check::purity(&compiled)?;
        if let Some((cache, key)) = verdict {
            cache.keep_verdict(&key, compiled.fuel_per_row);
        }
        Ok(compiled)
    }

    /// The map module and the label module; those that are not kept are compiled side by side.
    fn modules(&self, rule: &str, file: &RuleFile) -> Result<(Module, Module), RuleError> {
        let parts = [file.map_wasm.as_slice(), file.label_wasm.as_slice()];
        let parts = if file.one_module { &parts[1..] } else { &parts[..] };
        let mut modules: Vec<Option<Module>> = Vec::new();
        for wasm in parts {
            check_imports(rule, wasm)?;
            modules.push(self.cache.as_ref().and_then(|cache| cache.load(&self.engine, wasm)));
        }
        let missing = parts.iter().zip(&modules).filter(|(_, module)| module.is_none());
        let missing: Vec<&[u8]> = missing.map(|(wasm, _)| *wasm).collect();
        let compiled = compile(&self.engine, rule, &missing, COMPILE_TIME_MAX)?;
        if let Some(cache) = &self.cache {
            missing.iter().zip(&compiled).for_each(|(wasm, module)| cache.store(wasm, module));
        }
        let mut compiled = compiled.into_iter();
        let mut modules = modules.into_iter().filter_map(|module| module.or_else(|| compiled.next()));
        let first = modules.next();
        let second = modules.next().or_else(|| first.clone());
        let lost = || RuleError::Engine { message: "a module was compiled and is not there".into() };
        first.zip(second).ok_or_else(lost)
    }

    fn part(
        &self,
        rule: &str,
        module: &Module,
        export: &'static str,
        limits: Limits,
        log: &Arc<GuestLog>,
    ) -> Result<Part, RuleError> {
        let pre = self.linker.instantiate_pre(module).map_err(|error| RuleError::WrongSignature {
            rule: rule.into(),
            item: error.to_string(),
            expected: "log(i32, i32, i32) and fail(i32, i32)",
        })?;
        Ok(Part { pre, export, limits, log: Arc::clone(log) })
    }
}

impl CompiledRule {
    /// A mapper: one warm instance of the map side.
    ///
    /// # Errors
    /// The start code fails now although it passed the check.
    pub fn mapper(self: &Arc<Self>) -> Result<Mapper, RuleError> {
        Mapper::new(Arc::clone(self))
    }

    /// A labeler: one warm instance of the label side, with its parameters.
    ///
    /// # Errors
    /// The start code fails now although it passed the check.
    pub fn labeler(self: &Arc<Self>, params: &ParamValues) -> Result<Labeler, RuleError> {
        Labeler::new(Arc::clone(self), params)
    }

    /// The parameters that a configuration gives, over the defaults; decimals are text.
    ///
    /// # Errors
    /// An unknown name (with the nearest known one), or a value that is not of its type.
    pub fn params(&self, given: &Map<String, Value>) -> Result<ParamValues, RuleError> {
        ParamValues::new(&self.manifest, given)
    }

    /// What `map` returns for the bytes of a batch, in a fresh instance with fuel R and not checked further: records,
    /// computed keys and heap. For comparing two builds of a rule.
    ///
    /// # Errors
    /// The call fails or points outside the guest's memory.
    pub fn map_bytes(&self, batch: &[u8]) -> Result<RawContributions, Fault> {
        let mut guest = Guest::new(&self.map_part, self.limits.fuel)?;
        let at = guest.input(batch.len(), |place| place.copy_from_slice(batch))?;
        let header = guest.run(at, batch.len())?;
        let memory = guest.memory();
        let header = Header::read(slice(memory, header, "header")?);
        let header = header.ok_or_else(|| Fault::new("bad-length", "the output header is cut short"))?;
        let part = |place, what| slice(memory, place, what).map(<[u8]>::to_vec);
        Ok((part(header.records, "records")?, part(header.keys, "keys")?, part(header.heap, "heap")?))
    }

    /// What the rule logged.
    #[must_use]
    pub fn log(&self) -> &GuestLog {
        &self.map_part.log
    }
}

/// Imports by name, before anything is compiled, so that the message can say what caused one.
fn check_imports(rule: &str, wasm: &[u8]) -> Result<(), RuleError> {
    for (module, name) in super::file::imports(wasm)? {
        if module == ABI_NAME && (name == IMPORT_LOG || name == IMPORT_FAIL) {
            continue;
        }
        let hint = match module.as_str() {
            "wasi_snapshot_preview1" | "wasi_unstable" => {
                "Build for wasm32-unknown-unknown, not for WASI: a rule has no files, clock or environment"
            }
            "__wbindgen_placeholder__" | "__wbindgen_externref_xform__" | "wbg" => {
                "A dependency uses wasm-bindgen (often getrandom or chrono): turn its `js` feature off"
            }
            "env" => "A dependency calls C code or an undefined symbol: a rule is Rust without the C library",
            ABI_NAME => "Only `log` and `fail` are offered: was it built for a later ABI?",
            _ => "Only `retag_1.log` and `retag_1.fail` are offered",
        };
        return Err(RuleError::UnknownImport {
            rule: rule.into(),
            import: format!("{module}.{name}"),
            hint: hint.into(),
        });
    }
    Ok(())
}

fn check_exports(rule: &str, part: &'static str, module: &Module) -> Result<(), RuleError> {
    let wrong =
        |item: &str, expected| RuleError::WrongSignature { rule: rule.into(), item: item.into(), expected };
    for (export, expected) in
        [(EXPORT_MEMORY, "a memory"), (EXPORT_RESERVE, "(i32) -> i32"), (part, "(i32, i32) -> i64")]
    {
        let Some(found) = module.get_export(export) else {
            return Err(RuleError::MissingExport { rule: rule.into(), part, export });
        };
        let fits = match (&found, export) {
            (ExternType::Memory(memory), EXPORT_MEMORY) => !memory.is_shared() && !memory.is_64(),
            (ExternType::Func(func), _) => signature(func) == expected,
            _ => false,
        };
        if !fits {
            return Err(wrong(export, expected));
        }
    }
    Ok(())
}

fn signature(func: &wasmtime::FuncType) -> String {
    let list = |types: Vec<String>| types.join(", ");
    let results = list(func.results().map(|t| t.to_string()).collect());
    format!("({}) -> {results}", list(func.params().map(|t| t.to_string()).collect()))
}
