//! `retag rule build`: compiles a rule crate twice, once per part, and joins both modules in one file.
//!
//! The map module must not change when only labels do: profile, paths and the names of symbols are pinned, custom sections dropped.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::crate_info::{CrateInfo, TARGET, cargo, require_target, rustc_print};
use super::panic_location::{self, PanicLocation};
use crate::rule::{Limits, RuleEngine, RuleFile, push_custom_section, without_custom_sections};

/// Arguments of `retag rule build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the rule crate.
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// File to write; NAME.wasm in the crate's folder by default.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
}

/// What a build gave.
#[derive(Debug)]
pub struct Built {
    /// The file that was written.
    pub output: PathBuf,
    /// It, read back.
    pub file: RuleFile,
    /// Places of the rule's own source in the map module, `file:line:column`.
    pub panic_locations: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// Cargo or the target is missing, the crate does not compile, the file is no rule.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let built = build(&args.path, args.output.as_deref())?;
    for place in &built.panic_locations {
        eprintln!("warning: {place}: `map` can panic here, and the place is part of the map module");
    }
    if !built.panic_locations.is_empty() {
        eprintln!(
            "  A line that moves will then give a new namespace. Use checked arithmetic and `get` in `map`."
        );
    }
    println!("{}  {} bytes", built.output.display(), built.file.bytes);
    println!("map id  {}", built.file.map_id());
    Ok(())
}

/// Builds the crate in `folder`.
///
/// # Errors
/// As for [`run`].
pub fn build(folder: &Path, output: Option<&Path>) -> anyhow::Result<Built> {
    let info = CrateInfo::of(folder)?;
    require_target()?;
    let map = without_custom_sections(&compile(&info, "map")?)?;
    let mut wasm = compile(&info, "label")?;
    let locations = panic_location::find(&map, &format!("{RULE_ROOT}/"))?;
    push_custom_section(&mut wasm, retag_abi::MAP_SECTION, &map);
    let file = RuleFile::read(&wasm)?;
    RuleEngine::new()?.compile(file.clone(), Limits::default())?;
    let output = output.map_or_else(|| info.folder.join(format!("{}.wasm", info.name)), Path::to_owned);
    std::fs::write(&output, &wasm).with_context(|| format!("cannot write {}", output.display()))?;
    let place = |PanicLocation { file, line, column }| {
        format!("{}:{line}:{column}", file.trim_start_matches(RULE_ROOT).trim_start_matches('/'))
    };
    Ok(Built { output, file, panic_locations: locations.into_iter().map(place).collect() })
}

/// Folder of the rule in compiled code.
const RULE_ROOT: &str = "/rule";

/// Profile of both modules, whatever the crate's own says.
const PROFILE: [&str; 9] = [
    "opt-level=3",
    "lto=\"fat\"",
    "codegen-units=1",
    "panic=\"abort\"",
    "strip=true",
    "debug=false",
    "debug-assertions=false",
    "overflow-checks=false",
    "incremental=false",
];

/// Calls the compiler with a crate's name and version where cargo says which package it compiles, and with whole paths: where a
/// package lies, seen from another, would decide names and so the order of functions, though it means nothing to `map`. Nor
/// does the version of the rule itself. What a profile says of single packages does not count.
const WRAPPER: &str = "#!/bin/sh
case \" $* \" in *\" --target wasm32-unknown-unknown \"*) ;; *) exec \"$@\" ;; esac
metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION
if [ \"$CARGO_PKG_NAME\" = \"$RETAG_RULE\" ]; then metadata=rule; fi
for arg do
  shift
  case $arg in
    metadata=*) arg=metadata=$metadata ;;
    /*|-*) ;;
    *.rs) arg=$PWD/$arg ;;
  esac
  set -- \"$@\" \"$arg\"
done
exec \"$@\" -C opt-level=3 -C codegen-units=1 -C debug-assertions=off -C overflow-checks=off -C debuginfo=0
";

/// Writes [`WRAPPER`]; its place.
fn wrapper(folder: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let place = folder.join("rustc.sh");
    if std::fs::read(&place).ok().as_deref() != Some(WRAPPER.as_bytes()) {
        // Written beside and moved: another build may start it meanwhile.
        let new = folder.join(format!("rustc.sh.{}", std::process::id()));
        std::fs::write(&new, WRAPPER)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(&new, &place)?;
    }
    Ok(place)
}

/// Compiles one part in a target folder of its own; the module.
fn compile(info: &CrateInfo, part: &str) -> anyhow::Result<Vec<u8>> {
    let target_dir = info.target_dir.join("retag").join(part);
    let mut command = cargo();
    command.current_dir(&info.folder); // settings of cargo are those that lie there, wherever this was started
    command.args(["rustc", "--release", "--lib", "--crate-type", "cdylib", "--target", TARGET]);
    command.arg("--manifest-path").arg(info.folder.join("Cargo.toml"));
    command.arg("--target-dir").arg(&target_dir);
    for setting in PROFILE {
        command.arg("--config").arg(format!("profile.release.{setting}"));
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", remapped_paths(info)?);
    let folder = info.target_dir.join("retag");
    let wrapper = wrapper(&folder).with_context(|| format!("cannot write into {}", folder.display()))?;
    command.env("RUSTC_WRAPPER", wrapper).env("RETAG_RULE", &info.name);
    // The other part is cut off, so what only it uses seems unused; the native build tells what really is.
    command.args(["--", "--cfg", &format!("retag_part=\"{part}\""), "-A", "unused"]);
    let status = command.status().context("cargo cannot be started: install Rust from https://rustup.rs")?;
    if !status.success() {
        bail!("the {part} side of {} does not compile: see cargo's messages above", info.name);
    }
    let file = target_dir.join(TARGET).join("release").join(format!("{}.wasm", info.name.replace('-', "_")));
    std::fs::read(&file).with_context(|| format!("cargo left no {}: has the crate a [lib]?", file.display()))
}

/// No folder of this machine in the modules: equal sources give equal bytes anywhere, in any layout. Messages of the
/// compiler name files as they are.
fn remapped_paths(info: &CrateInfo) -> anyhow::Result<String> {
    let mut flags = vec!["--remap-path-scope=macro,debuginfo,coverage,object".to_owned()];
    let mut remap = |from: &Path, to: &str| {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    };
    remap(&cargo_home(), "/cargo");
    remap(&rustc_print("sysroot")?, "/rust");
    remap(&info.workspace_root, "/workspace");
    for (name, folder) in &info.packages {
        // Of those that fit the last one counts, and the innermost folder comes last.
        match *folder == info.folder {
            true => remap(folder, RULE_ROOT),
            false => remap(folder, &format!("/{name}")),
        }
    }
    Ok(flags.join("\u{1f}"))
}

fn cargo_home() -> PathBuf {
    let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).unwrap_or_default();
    std::env::var_os("CARGO_HOME").map_or_else(|| Path::new(&home).join(".cargo"), PathBuf::from)
}
