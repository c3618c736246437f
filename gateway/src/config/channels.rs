//! What the configuration says of channels.

use std::path::PathBuf;

use doorward_launch::Misconfigured;
use serde::{Deserialize, Serialize};

use super::Config;
use crate::{
    call::{ChannelName, Facility},
    transport,
};

/// `[channels]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Channels {
    /// What carries messages.
    pub engine: Carrier,
    /// Who may do what there.
    pub file: PathBuf,
    /// Those that a path may name; `*`: any.
    pub facilities: Vec<String>,
    /// A message that is sent back as it is; empty: none.
    pub heartbeat: String,
}

/// `[channels] engine`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// This gateway itself, for its own clients.
    #[default]
    Memory,
    /// `[redis]`
    Redis,
}

impl Default for Channels {
    fn default() -> Self {
        Self {
            engine: Carrier::default(),
            file: "/etc/doorward/channels.toml".into(),
            facilities: vec!["events".to_owned()],
            heartbeat: "--heartbeat--".to_owned(),
        }
    }
}

impl Config {
    pub(super) fn check_channels(&self) -> Result<(), Misconfigured> {
        if !self.channels.file.is_absolute() {
            return Err(Misconfigured::at("channels.file", "must be an absolute path"));
        }
        let wrong = |name: &&String| *name != "*" && Facility::parse(name).is_none();
        if let Some(name) = self.channels.facilities.iter().find(wrong) {
            let sentence = format!("{name:?} is neither * nor 1 to 64 of A-Z a-z 0-9 _ -");
            return Err(Misconfigured::at("channels.facilities", sentence));
        }
        if self.channels.heartbeat.len() > 64 {
            return Err(Misconfigured::at("channels.heartbeat", "at most 64 bytes"));
        }
        for (name, kind) in &self.url_credentials {
            let key = format!("url_credentials.{name}");
            if kind == "password" || ChannelName::parse(kind).is_none() {
                return Err(Misconfigured::at(key, "must be jwt, token or the kind of an authenticator"));
            }
        }
        Ok(())
    }

    pub(crate) fn ways(&self) -> transport::Channels {
        transport::Channels {
            facility: Facility::default(),
            facilities: self.channels.facilities.clone(),
            heartbeat: self.channels.heartbeat.clone(),
            url_credentials: self.url_credentials.clone(),
        }
    }
}
