//! Who may do what: four roles, each with the rights of those before it, and what a route asks for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the holder of a token may do. Each role may do what those before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read labels, members, aggregates, rules, status and metrics.
    Viewer,
    /// Look at refused rows; pause, resume, replay.
    Operator,
    /// Bring rules in and switch them.
    Deployer,
    /// Make and revoke tokens; everything else.
    Admin,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Deployer, Self::Admin];

    /// Its name in files, answers and commands.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        }
    }
}

/// What a route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: whoever reaches the host.
    Open,
    /// A token of this role or a greater one.
    Role(Role),
}
