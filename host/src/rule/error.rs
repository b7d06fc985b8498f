//! What can be wrong with a rule: its file, its manifest, its code, or one answer that it gave.
//!
//! [`RuleError`] refuses a rule (or stops its use); [`Fault`] is one failed call, which becomes a bad image, an error of
//! a key, or, during the check of an upload, a refusal. Codes are stable and stand in the documentation.

/// One failed call of a guest, or an answer that the host does not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} [{code}]")]
pub struct Fault {
    /// Stable code, e.g. `out-of-fuel`.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The bytes are no core WebAssembly module, or one with features that rules may not use.
    #[error("rule file: {message}. Build it with `retag rule build`")]
    NotWasm {
        /// What the parser says.
        message: String,
    },
    /// The file or its manifest is larger than allowed.
    #[error("rule file: {what} has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// `file` or `manifest`.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// There is no custom section with a manifest.
    #[error(
        "rule file: no manifest (custom section `retag_1`). Is this a rule, built with the SDK's `#[rule]`?"
    )]
    NoManifest,
    /// There is more than one manifest.
    #[error("rule file: more than one manifest in section `retag_1`. One rule per crate: remove a `#[rule]`")]
    TwoManifests,
    /// The manifest is not the JSON that the ABI asks for.
    #[error(
        "rule file: the manifest cannot be read: {message}. Was it written by another version of the SDK?"
    )]
    ManifestJson {
        /// What the parser says, with line and column.
        message: String,
    },
    /// The manifest contradicts itself or a limit.
    #[error("rule {rule}: manifest: {message}")]
    Manifest {
        /// Name of the rule.
        rule: String,
        /// Which field, what is wrong, what to do.
        message: String,
    },
    /// The manifest asks for something that this host does not have.
    #[error("rule {rule}: {message}")]
    Unsupported {
        /// Name of the rule.
        rule: String,
        /// Which kind or feature.
        message: String,
    },
    /// The code imports something else than `retag_1.log` and `retag_1.fail`.
    #[error("rule {rule}: import `{import}` is not offered. {hint}")]
    UnknownImport {
        /// Name of the rule.
        rule: String,
        /// `module.name`.
        import: String,
        /// What usually causes it.
        hint: String,
    },
    /// An export is missing.
    #[error(
        "rule {rule}: export `{export}` is missing in the {part} module. Build it with `retag rule build`"
    )]
    MissingExport {
        /// Name of the rule.
        rule: String,
        /// `map` or `label`.
        part: &'static str,
        /// Name of the export.
        export: &'static str,
    },
    /// An export or import has another type than the ABI says.
    #[error(
        "rule {rule}: `{item}` has another type than {expected}. Was it built with another version of the SDK?"
    )]
    WrongSignature {
        /// Name of the rule.
        rule: String,
        /// Its name.
        item: String,
        /// What the ABI says.
        expected: &'static str,
    },
    /// Start, `reserve` and an empty batch take too much, or fail.
    #[error(
        "rule {rule}: start and an empty batch: {fault}. They may take a quarter of the fuel and of the memory"
    )]
    Start {
        /// Name of the rule.
        rule: String,
        /// What happened.
        fault: Fault,
    },
    /// The same images gave other contributions in another order, batch or instance.
    #[error(
        "rule {rule}: `{part}` is not pure: {message}. It may depend on its row or key alone: keep no state in statics"
    )]
    Impure {
        /// Name of the rule.
        rule: String,
        /// `map` or `label`.
        part: &'static str,
        /// Which row, which two runs.
        message: String,
    },
    /// A parameter that the configuration gives does not fit.
    #[error("rule {rule}: parameter `{param}`: {message}")]
    Param {
        /// Name of the rule.
        rule: String,
        /// Its name.
        param: String,
        /// What is wrong and what is expected.
        message: String,
    },
    /// The host called with columns or readings that are not the manifest's: an error of the host, never of the rule.
    #[error("rule {rule}: called with other input than its manifest says: {message}")]
    Caller {
        /// Name of the rule.
        rule: String,
        /// What differs.
        message: String,
    },
    /// A module takes too long to compile.
    #[error(
        "rule {rule}: takes longer than {seconds} s to compile, or earlier files still do. Is it a rule of this size on purpose?"
    )]
    CompileTime {
        /// Name of the rule.
        rule: String,
        /// The limit.
        seconds: u64,
    },
    /// The engine that runs rules cannot work here.
    #[error("rule engine: {message}")]
    Engine {
        /// What it says.
        message: String,
    },
}

impl RuleError {
    /// Stable code of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotWasm { .. } => "not-wasm",
            Self::TooLarge { what: "manifest", .. } => "manifest-too-large",
            Self::TooLarge { .. } => "file-too-large",
            Self::NoManifest => "no-manifest",
            Self::TwoManifests => "two-manifests",
            Self::ManifestJson { .. } => "manifest-not-json",
            Self::Manifest { .. } => "manifest-invalid",
            Self::Unsupported { .. } => "unsupported-feature",
            Self::UnknownImport { .. } => "unknown-import",
            Self::MissingExport { .. } => "missing-export",
            Self::WrongSignature { .. } => "wrong-signature",
            Self::Start { fault, .. } => fault.code,
            Self::Impure { .. } => "impure",
            Self::Param { .. } => "bad-param",
            Self::Caller { .. } => "bad-call",
            Self::CompileTime { .. } => "compile-timeout",
            Self::Engine { .. } => "engine",
        }
    }
}
