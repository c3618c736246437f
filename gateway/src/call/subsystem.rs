//! Requests for subsystems, and what clients are told of one.

use std::{fmt, sync::Arc};

use doorward_launch::registrations::is_word;

use super::{Error, Right};

/// The name of a subsystem in its canonical form: `namespace/name`, lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubsystemName {
    text: Arc<str>,
    /// The length of the namespace.
    namespace: usize,
}

impl SubsystemName {
    /// From a client's spelling, of which ASCII case does not count. None: no subsystem can be called so.
    pub fn parse(namespace: &str, name: &str) -> Option<Self> {
        let mut text = String::with_capacity(namespace.len() + 1 + name.len());
        for part in [namespace, "/", name] {
            text.push_str(part);
        }
        text.make_ascii_lowercase();
        let (first, second) = text.split_at_checked(namespace.len())?;
        let plain = is_word(first) && is_word(second.strip_prefix('/')?);
        plain.then(|| Self { namespace: namespace.len(), text: text.into() })
    }

    /// The two with a slash between them.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.text.get(..self.namespace).unwrap_or_default()
    }

    /// The name in it.
    pub fn name(&self) -> &str {
        self.text.get(self.namespace + 1..).unwrap_or_default()
    }
}

impl fmt::Debug for SubsystemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a client asks of a subsystem, if there is one.
pub struct SubsystemRequest {
    /// Which.
    pub name: SubsystemName,
    /// Canonical: lower case. None: no action is named. What is wrong with it is told only where there is such
    /// a subsystem.
    pub action: Result<Option<Box<str>>, Error>,
    /// JSON, as the client wrote it.
    pub args: String,
    /// The client came in a way that reaches only actions that read.
    pub reads_only: bool,
}

/// Args can hold anything, so they are not shown.
impl fmt::Debug for SubsystemRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, action, reads_only, .. } = self;
        f.debug_struct("SubsystemRequest")
            .field("name", name)
            .field("action", action)
            .field("reads_only", reads_only)
            .finish_non_exhaustive()
    }
}

/// What a session may use of something, for `rpc/describe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// What clients call it.
    pub name: SubsystemName,
    /// Whatever its author calls it.
    pub version: Arc<str>,
    /// One line.
    pub help: Arc<str>,
    /// Those that the session may call.
    pub actions: Vec<DescribedAction>,
    /// Each with its line.
    pub events: Vec<(Arc<str>, Arc<str>)>,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedAction {
    /// Canonical: lower case.
    pub name: Arc<str>,
    /// What it can do.
    pub right: Right,
    /// One line.
    pub help: Arc<str>,
    /// It reports progress.
    pub streams: bool,
    /// A JSON Schema of its args.
    pub args: Option<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_two_words_in_lower_case() {
        let name = SubsystemName::parse("SysAdm", "systemManager").expect("a name");
        assert_eq!((name.namespace(), name.name()), ("sysadm", "systemmanager"));
        assert_eq!(name.as_str(), "sysadm/systemmanager");
        let long = "x".repeat(65);
        for (namespace, name) in [
            ("", "a"),
            ("a", ""),
            ("a/b", "c"),
            ("a", "b/c"),
            ("a b", "c"),
            ("a", "\u{212a}"),
            ("me", "a"),
            (&*long, "a"),
        ] {
            assert_eq!(SubsystemName::parse(namespace, name), None, "{namespace} {name}");
        }
    }
}
