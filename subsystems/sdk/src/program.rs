//! What is an author's own in a daemon.

use std::sync::Arc;

use doorward_launch::{Confinement, Current, Misconfigured};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::subsystem::Subsystem;

/// What is an author's own in a daemon.
pub trait Program: Sized + 'static {
    /// The program, as it is called in the log; the default of `user` too.
    const NAME: &'static str;
    /// The configuration file if none is named.
    const CONFIG_PATH: &'static str;
    /// The table `[settings]`; its struct must have `#[serde(deny_unknown_fields, default)]`.
    type Settings: Default + Clone + std::fmt::Debug + DeserializeOwned + Serialize + Send + Sync + 'static;
    /// Whether changed settings hold after a reload (SIGHUP): then they are to be taken anew each time.
    const SETTINGS_RELOAD: bool = false;

    /// The subsystem. Called once, in the runtime.
    fn subsystem(settings: Settings<Self>) -> Subsystem;

    /// What settings must fulfil beyond their syntax. Touches nothing.
    ///
    /// # Errors
    /// The key that is wrong (`settings.KEY`), and why.
    fn check(_: &Self::Settings) -> Result<(), Misconfigured> {
        Ok(())
    }

    /// Adds to what the running process can reach on Linux: by default its state directory, and nothing else
    /// that has a name.
    fn confinement(confinement: Confinement, _: &Self::Settings) -> Confinement {
        confinement
    }
}

/// The settings that hold now.
pub type Settings<P> = Arc<Current<<P as Program>::Settings>>;

/// For a [`Program`] without settings.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoSettings {}
