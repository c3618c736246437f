//! How a stack is to differ from the default one.

/// Which PAM is behind the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pam {
    /// The system's libpam with service files of the tests' own and libpam-wrapper's modules, accounts by
    /// libnss-wrapper: no root, no real account.
    Wrapper,
    /// The system's PAM with real accounts; needs root.
    Real,
}

/// Settings on top of those that every stack gets.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) pam: Pam,
    pub(crate) authd: toml::Table,
    pub(crate) certd: toml::Table,
    pub(crate) gateway: toml::Table,
    pub(crate) channels: toml::Table,
    pub(crate) guard: Vec<String>,
    pub(crate) activated: bool,
    pub(crate) gateway_alone: bool,
    pub(crate) wall_clock: bool,
}

impl Options {
    /// The default stack: quick refusals and none too many, everything else as shipped.
    pub fn new(pam: Pam) -> Self {
        let none = toml::Table::new;
        let options = Self {
            pam,
            authd: none(),
            certd: none(),
            gateway: none(),
            channels: none(),
            guard: Vec::new(),
            activated: false,
            gateway_alone: false,
            wall_clock: false,
        };
        let options = options.authd("pam.refusal_delay_ms", 50).certd("limits.refusal_step_ms", 50);
        // Most tests fail more often than is forgiven; those about penalties say how often is too often.
        options.authd("penalty.failures", 0).authd("penalty.account_delay_ms", 0)
    }

    /// Sets a key of authd.toml, `section.key` or `key`.
    #[must_use]
    pub fn authd(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        set(&mut self.authd, key, value.into());
        self
    }

    /// Sets a key of certd.toml.
    #[must_use]
    pub fn certd(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        set(&mut self.certd, key, value.into());
        self
    }

    /// Sets a key of gateway.toml.
    #[must_use]
    pub fn gateway(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        set(&mut self.gateway, key, value.into());
        self
    }

    /// What `channels.toml` says: a table for each channel.
    #[must_use]
    pub fn channels(mut self, channels: toml::Table) -> Self {
        self.channels = channels;
        self
    }

    /// As under systemd: root opens the sockets and passes them to services that never are root.
    /// With `Pam::Real` only.
    #[must_use]
    pub fn activated(mut self) -> Self {
        self.activated = true;
        self
    }

    /// The same, and the gateway has a network namespace of its own, as with `PrivateNetwork=`.
    #[must_use]
    pub fn gateway_alone(mut self) -> Self {
        self.gateway_alone = true;
        self.activated()
    }

    /// The time of day of certd, authd and gateway is what [`crate::Stack::set_wall_clock`] says. With
    /// `Pam::Wrapper` only.
    #[must_use]
    pub fn wall_clock(mut self) -> Self {
        self.wall_clock = true;
        self
    }

    /// Adds arguments to the guard's command line.
    #[must_use]
    pub fn guard(mut self, arguments: &[&str]) -> Self {
        self.guard.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }
}

/// Sets `section.key` unless it is there already.
pub(crate) fn set_default(table: &mut toml::Table, key: &str, value: impl Into<toml::Value>) {
    let (section, name) = key.split_once('.').unwrap_or(("", key));
    let there = match section {
        "" => table.contains_key(name),
        section => table.get(section).and_then(toml::Value::as_table).is_some_and(|t| t.contains_key(name)),
    };
    if !there {
        set(table, key, value.into());
    }
}

pub(crate) fn set(table: &mut toml::Table, key: &str, value: toml::Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, name)) => {
            let inner = table.entry(section).or_insert_with(|| toml::Table::new().into());
            inner.as_table_mut().expect("a section").insert(name.to_owned(), value);
        }
    }
}
