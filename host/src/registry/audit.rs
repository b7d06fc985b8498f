//! What commands are called in the audit, and what each is about.

use super::command::{Command, HOST};

impl Command {
    /// Its name in the audit.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Push(..) => "push",
            Self::Prepare { .. } => "prepare",
            Self::Adopt { .. } => "adopt",
            Self::Params(_) => "params set",
            Self::Keep { .. } => "preview",
            Self::Activate { .. } => "activate",
            Self::Rollback { .. } => "rollback",
            Self::Cancel { .. } => "cancel",
            Self::Pause { .. } => "pause",
            Self::Remove { .. } => "rm",
            Self::Forget { .. } => "forget",
            Self::Resume { .. } => "resume",
            Self::Retire { .. } => "retire",
            Self::GiveUp { .. } => "give up",
            Self::Sink { what, .. } => what,
        }
    }

    /// The rule that it is about.
    #[must_use]
    pub fn rule(&self) -> &str {
        match self {
            Self::Push(revision, _) | Self::Params(revision) => &revision.rule,
            Self::Prepare { rule, .. }
            | Self::Adopt { rule, .. }
            | Self::Keep { rule, .. }
            | Self::Activate { rule, .. }
            | Self::Rollback { rule, .. }
            | Self::Cancel { rule, .. }
            | Self::Pause { rule, .. }
            | Self::Resume { rule }
            | Self::Remove { rule }
            | Self::Forget { rule, .. }
            | Self::Retire { rule, .. }
            | Self::GiveUp { rule, .. } => rule,
            Self::Sink { .. } => "",
        }
    }

    /// The sink that it is about.
    pub(super) fn sink(&self) -> Option<String> {
        match self {
            Self::Sink { sink, .. } => Some(sink.clone()),
            _ => None,
        }
    }

    /// What it was given, as on the command line.
    pub(super) fn with(&self) -> String {
        let announces = |announce: &bool| announce.then(|| "--announce".to_owned());
        let (bound, announce) = match self {
            Self::Sink { of, .. } => return of.clone(),
            Self::Activate { bound, announce, .. } => (bound.as_ref(), announces(announce)),
            Self::Rollback { announce, .. } => (None, announces(announce)),
            Self::Pause { by, forced: true, .. } if by != HOST => (None, Some("--force".to_owned())),
            _ => (None, None),
        };
        let bound = bound.map(|b| format!("--preview {} --max-change {}%", b.preview, b.max_change_percent));
        bound.into_iter().chain(announce).collect::<Vec<_>>().join(" ")
    }
}
