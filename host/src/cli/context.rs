//! `retag context add|use|ls|rm`: hosts by name, in a file of the user's (0600). A context names where its token is; the
//! token itself is never written there.

use super::place;
use super::print::{Form, Out, Table, or_dash};
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Add a host, or replace one; the first is used at once.
    Add {
        /// Its name.
        name: String,
        /// Its URL: https://HOST[:PORT].
        url: String,
        /// Environment variable that holds the token.
        #[arg(long, value_name = "VARIABLE", conflicts_with = "token_file")]
        token_env: Option<String>,
        /// File (0600) that holds the token.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// PEM file of the authorities to trust instead of the system's.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// Send the token over plain HTTP too.
        #[arg(long)]
        insecure: bool,
    },
    /// Use this host where a command says no other.
    Use {
        /// Its name; with --none commands go to this machine's host again.
        #[arg(required_unless_present = "none")]
        name: Option<String>,
        /// Use none.
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
    /// List the hosts.
    Ls {
        /// Form of the answer.
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
    },
    /// Remove a host.
    Rm {
        /// Its name.
        name: String,
    },
}

/// The file.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    /// The one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) current: Option<String>,
    #[serde(default)]
    pub(super) contexts: BTreeMap<String, Named>,
}

/// A host.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) url: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) insecure: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<Secret>,
}

/// Where a token is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum Secret {
    /// In the environment.
    Env {
        /// Variable.
        env: String,
    },
    /// In a file.
    File {
        /// Path.
        file: PathBuf,
    },
}

impl Contexts {
    /// Reads the user's file; none = no contexts.
    pub(super) fn read() -> anyhow::Result<Self> {
        let Some(path) = path() else { return Ok(Self::default()) };
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| {
                format!("{}: repair it, or remove it and add the contexts again", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Replaces the user's file as a whole.
    fn write(&self) -> anyhow::Result<()> {
        let path = path().context("no place for contexts: set RETAG_CONTEXTS to a file, or HOME")?;
        let text = toml::to_string(self).context("contexts that cannot be written")?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let make = || {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let new = path.with_extension("new");
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)
        };
        make().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// `RETAG_CONTEXTS`, else in the user's folder of configurations.
fn path() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    variable("RETAG_CONTEXTS").or_else(|| {
        let folder = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
        Some(folder.join("retag").join("contexts.toml"))
    })
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut contexts = Contexts::read()?;
    match &args.what {
        What::Add { name, url, token_env, token_file, ca, insecure } => {
            if name.contains("://") || name.is_empty() {
                bail!("`{name}` is no name of a context: a name comes first, then the URL");
            }
            place::parse(url)?;
            let absolute = |path: &PathBuf| std::path::absolute(path);
            let token = match (token_env, token_file) {
                (Some(env), _) => Some(Secret::Env { env: env.clone() }),
                (None, Some(file)) => Some(Secret::File { file: absolute(file)? }),
                (None, None) => None,
            };
            let ca = ca.as_ref().map(absolute).transpose()?;
            contexts
                .contexts
                .insert(name.clone(), Named { url: url.clone(), insecure: *insecure, ca, token });
            contexts.current.get_or_insert_with(|| name.clone());
            contexts.write()
        }
        What::Use { name, .. } => {
            if let Some(name) = name {
                known(&contexts, name)?;
            }
            contexts.current.clone_from(name);
            contexts.write()
        }
        What::Rm { name } => {
            known(&contexts, name)?;
            contexts.contexts.remove(name);
            contexts.current = contexts.current.filter(|current| current != name);
            contexts.write()
        }
        What::Ls { output } => list(&contexts, *output),
    }
}

fn known(contexts: &Contexts, name: &str) -> anyhow::Result<()> {
    if contexts.contexts.contains_key(name) {
        return Ok(());
    }
    let names: Vec<&str> = contexts.contexts.keys().map(String::as_str).collect();
    bail!(
        "no context `{name}`; there are: {}",
        if names.is_empty() { "none".into() } else { names.join(", ") }
    )
}

fn list(contexts: &Contexts, form: Form) -> anyhow::Result<()> {
    let mut out = Out::new();
    if form == Form::Table {
        let mut table = Table::new(["CONTEXT", "URL", "TOKEN", "IN USE"]);
        for (name, context) in &contexts.contexts {
            let token = context.token.as_ref().map(|secret| match secret {
                Secret::Env { env } => format!("${env}"),
                Secret::File { file } => file.display().to_string(),
            });
            let used = contexts.current.as_ref() == Some(name);
            table.row([
                name.clone(),
                context.url.clone(),
                or_dash(token.as_deref()),
                if used { "yes" } else { "" }.into(),
            ]);
        }
        table.print(&mut out)?;
    } else {
        out.json(contexts, form)?;
    }
    out.flush()
}
