//! Settings of librdkafka in the configuration, for sources and sinks: what they may be, and where secrets stand.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Settings that the host sets itself, and why.
pub(super) type Taken = (&'static [&'static str], &'static str);

/// One setting of librdkafka.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged, expecting = "text, a number, true or false, { env = \"NAME\" } or { file = \"path\" }")]
pub enum Setting {
    /// True or false.
    Flag(bool),
    /// A number.
    Number(i64),
    /// Text.
    Text(String),
    /// What stands somewhere else, as secrets do.
    Reference(Reference),
}

impl Setting {
    /// The value; what stands somewhere else is read now, from the environment or from a file as seen from `folder`.
    ///
    /// # Errors
    /// Where it should stand and does not.
    pub fn value(&self, folder: &Path) -> Result<String, String> {
        match self {
            Self::Flag(flag) => Ok(flag.to_string()),
            Self::Number(number) => Ok(number.to_string()),
            Self::Text(text) => Ok(text.clone()),
            Self::Reference(Reference::Env(name)) => std::env::var(name)
                .map_err(|_| format!("there is no environment variable {name} with text in it; set it")),
            Self::Reference(Reference::File(path)) => match std::fs::read_to_string(folder.join(path)) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(format!("{}: {error}", path.display())),
            },
        }
    }
}

/// Where a value stands.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// In this variable of the environment.
    Env(String),
    /// In this file, without the line's end.
    File(PathBuf),
}

/// Whether a setting of librdkafka holds a secret.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    ["password", "secret", "ssl.key.pem", "oauthbearer.config"].iter().any(|part| key.contains(part))
}

/// Settings that would break the source or sink in `section`, and secrets that stand in the open.
///
/// # Errors
/// The key and what to do.
pub(super) fn check(
    section: &str,
    settings: &BTreeMap<String, Setting>,
    taken: &[Taken],
) -> Result<(), String> {
    for (key, setting) in settings {
        let at = |what: &str| Err(format!("{section}.librdkafka.\"{key}\": {what}"));
        if let Some((_, why)) =
            taken.iter().find(|(keys, _)| keys.contains(&key.trim_start_matches("topic.")))
        {
            return at(&format!("not to be set here: {why}"));
        }
        if is_secret(key) && !matches!(setting, Setting::Reference(_)) {
            return at(
                "a secret does not stand in the configuration: { env = \"NAME\" } or { file = \"path\" }",
            );
        }
    }
    Ok(())
}

/// The values of settings; secrets are read now, from the environment and from files as seen from `folder`.
///
/// # Errors
/// The key, and where its value should stand and does not.
pub fn values(settings: &BTreeMap<String, Setting>, folder: &Path) -> Result<Vec<(String, String)>, String> {
    let value = |(key, setting): (&String, &Setting)| {
        let value = setting.value(folder).map_err(|why| format!("librdkafka.\"{key}\": {why}"))?;
        Ok((key.clone(), value))
    };
    settings.iter().map(value).collect()
}
