//! Who asks: the way a request came in, and what its token says. A request that came no known way may do nothing.

use super::access::{AccessFile, TokenFault};
use super::edge::Edge;
use super::error::ApiError;
use super::role::{Access, Role};
use crate::config::Auth;
use axum::http::{HeaderMap, header};
use std::net::IpAddr;
use std::sync::Arc;

/// How a request came in; put into its extensions by whoever took the connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Over the socket in the state directory, or from this process: the owner of the directory.
    Owner,
    /// Over the network.
    Remote {
        /// From where.
        address: IpAddr,
        /// The listening side with its limits.
        edge: Arc<Edge>,
    },
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The owner of the state directory.
    Owner,
    /// Someone on this machine, where the configuration asks for no token.
    Unasked,
    /// The holder of a token.
    Token {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// Its role.
        role: Role,
    },
    /// Someone without a token.
    Nobody,
    /// Someone with a token that does not count.
    Refused(TokenFault),
}

impl Caller {
    /// Who sent these headers over `peer`.
    pub(super) fn of(peer: Option<&Peer>, headers: &HeaderMap, access: &AccessFile) -> Self {
        match peer {
            None => Self::Nobody,
            Some(Peer::Owner) => Self::Owner,
            Some(Peer::Remote { edge, .. }) if edge.config.auth == Auth::Off => Self::Unasked,
            Some(Peer::Remote { .. }) => {
                let mut values = headers.get_all(header::AUTHORIZATION).iter();
                match (values.next(), values.next()) {
                    (None, _) => Self::Nobody,
                    (Some(value), None) => match bearer(value.as_bytes()) {
                        Some(token) => access.find(token).unwrap_or_else(Self::Refused),
                        None => Self::Refused(TokenFault::Malformed),
                    },
                    (Some(_), Some(_)) => Self::Refused(TokenFault::Malformed),
                }
            }
        }
    }

    /// Its role; none = it may only use open routes.
    #[must_use]
    pub const fn role(&self) -> Option<Role> {
        match self {
            Self::Owner | Self::Unasked => Some(Role::Admin),
            Self::Token { role, .. } => Some(*role),
            Self::Nobody | Self::Refused(_) => None,
        }
    }

    /// Its name in audits and logs.
    #[must_use]
    pub fn who(&self) -> String {
        match self {
            Self::Owner => "owner of the state directory".into(),
            Self::Unasked => "this machine, auth is off".into(),
            Self::Token { id, name, .. } if name.is_empty() => format!("token {id}"),
            Self::Token { id, name, .. } => format!("token {id} ({name})"),
            Self::Nobody | Self::Refused(_) => "nobody".into(),
        }
    }

    /// Whether it may use a route.
    pub(super) fn check(&self, access: Access) -> Result<(), ApiError> {
        let Access::Role(needed) = access else { return Ok(()) };
        match (self, self.role()) {
            (_, Some(role)) if role >= needed => Ok(()),
            (_, Some(role)) => Err(ApiError::Forbidden { role: role.name(), needed: needed.name() }),
            (Self::Refused(fault), None) => Err(ApiError::Unauthorized(Some(*fault))),
            (_, None) => Err(ApiError::Unauthorized(None)),
        }
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ")).then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_came_no_known_way_may_do_nothing() {
        let caller = Caller::of(None, &HeaderMap::new(), &AccessFile::none());
        assert!(caller.check(Access::Role(Role::Viewer)).is_err());
        assert!(caller.check(Access::Open).is_ok());
    }

    #[test]
    fn roles_hold_those_before_them() {
        for (at, role) in Role::ALL.into_iter().enumerate() {
            let caller = Caller::Token { id: "1".into(), name: String::new(), role };
            for (asked, needed) in Role::ALL.into_iter().enumerate() {
                assert_eq!(caller.check(Access::Role(needed)).is_ok(), asked <= at);
            }
        }
    }

    #[test]
    fn bearer_tokens_are_read() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"abc"), None);
    }
}
