//! `retag rule init`: a working rule crate in a new folder, with the SDK vendored into it by relative path, so that it
//! builds in any folder, on a colleague's machine and in CI.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::vendor;

/// Arguments of `retag rule init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the rule, and of the folder: letters, digits, `-` and `_`.
    pub name: PathBuf,
}

/// Words of Rust, its own crates, and the crates that are vendored.
const TAKEN: [&str; 51] = [
    "abstract",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "use",
    "where",
    "while",
    "core",
    "std",
    "retag_sdk",
    "retag_abi",
];

/// File in the new crate → its template; `{{name}}` and the like are filled in.
const TEMPLATES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("template/lib.rs.txt")),
    ("scenarios/first.scenario", include_str!("template/first.scenario.txt")),
    ("README.md", include_str!("template/README.md.txt")),
    (".gitignore", include_str!("template/gitignore.txt")),
    ("rustfmt.toml", include_str!("template/rustfmt.toml.txt")),
];

/// Runs the command.
///
/// # Errors
/// The name is no name, the folder exists, a file cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    init(&args.name)?;
    let folder = args.name.display();
    println!("{folder}: a rule that builds. Next:");
    println!("  cd {folder}");
    println!("  retag rule test     # native tests, then the scenarios through Wasm");
    println!("  retag rule build    # the .wasm file to run");
    Ok(())
}

/// Writes the crate into `folder`, whose last part is the rule's name.
///
/// # Errors
/// As for [`run`].
pub fn init(folder: &Path) -> anyhow::Result<()> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let first = name.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    if !first || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_') {
        bail!("`{name}` is no name for a rule: it starts with a-z and goes on with a-z, 0-9, - and _");
    }
    if TAKEN.contains(&name.replace('-', "_").as_str()) {
        bail!("`{name}` means something to Rust or is a crate of the SDK: take another name");
    }
    if folder.exists() {
        bail!("{} exists: take another name, or remove it first", folder.display());
    }
    for (path, template) in TEMPLATES {
        write(&folder.join(path), &fill(template, name))?;
    }
    for (path, text) in vendor::files()? {
        write(&folder.join("vendor").join(path), &text)?;
    }
    write(&folder.join("Cargo.lock"), vendor::lock_file()?)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn fill(template: &str, name: &str) -> String {
    let snake = name.replace('-', "_");
    let camel: String = snake
        .split('_')
        .map(|part| {
            let (first, rest) = part.split_at(part.len().min(1));
            first.to_ascii_uppercase() + rest
        })
        .collect();
    template.replace("{{name}}", name).replace("{{rule}}", &snake).replace("{{Rule}}", &camel)
}
