//! Who holds a session: a user of this host, or somebody for whom it has no account.

/// The kind of the users of this host.
pub const USER: &str = "user";

/// Who holds a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A local user.
    User {
        /// The name as the user database writes it.
        name: String,
        /// The uid at login; a name that comes to mean another uid ends the session.
        uid: u32,
    },
    /// Somebody whom an issuer or a plug-in authenticator of the configuration knows. Has no uid and no groups,
    /// is never root, and may do what the session was given.
    Other {
        /// As the configuration names it; never [`USER`].
        kind: String,
        /// What clients call it by.
        id: String,
        /// The authenticator's own key of it.
        pk: String,
        /// For people.
        name: String,
    },
}

/// Whose sessions are counted together. Users come first in the order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// Whoever has this name.
    User(String),
    /// One identity of a kind.
    Other {
        /// The kind.
        kind: String,
        /// What clients call it by.
        id: String,
    },
}

impl Identity {
    /// What sort of identity it is.
    pub fn kind(&self) -> &str {
        match self {
            Self::User { .. } => USER,
            Self::Other { kind, .. } => kind,
        }
    }

    /// The uid of a local user.
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::User { uid, .. } => Some(*uid),
            Self::Other { .. } => None,
        }
    }

    /// What ACL entries mean by `me`: of a local user the uid in decimal.
    pub fn auth_id(&self) -> String {
        match self {
            Self::User { uid, .. } => uid.to_string(),
            Self::Other { id, .. } => id.clone(),
        }
    }

    /// How it is written where users are: the name of a user, which has no `/`, or the kind and the id.
    pub fn shown(&self) -> String {
        match self {
            Self::User { name, .. } => name.clone(),
            Self::Other { kind, id, .. } => format!("{kind}/{id}"),
        }
    }

    /// Whose sessions this one is counted with.
    pub fn owner(&self) -> Owner {
        match self {
            Self::User { name, .. } => Owner::User(name.clone()),
            Self::Other { kind, id, .. } => Owner::Other { kind: kind.clone(), id: id.clone() },
        }
    }

    /// Whether it is the user of this name, whatever the uid.
    pub fn is_user(&self, named: &str) -> bool {
        matches!(self, Self::User { name, .. } if name == named)
    }
}
