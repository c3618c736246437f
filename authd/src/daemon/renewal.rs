//! What a running authd takes over: a new configuration, and which subsystems there are.

use std::{collections::BTreeSet, sync::Arc};

use doorward_launch::{
    Current, Identity, Misconfigured, Reloads, StartError,
    registrations::{Registrations, Watch},
};
use doorward_peercred::{Diagnosis, Listeners};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{listeners, policy};
use crate::{
    config::{self, Config},
    driver::Logins,
    rights::{Acls, Holders},
};

/// Logins and sessions that are there keep what they began with; what a session may do is looked up at each
/// check, so a group that gives no access any more ends it there.
pub(super) struct Renewal {
    pub(super) logins: Arc<Logins>,
    pub(super) holders: Arc<Holders>,
    pub(super) own_uids: Vec<u32>,
    pub(super) accepted_from: Arc<Current<Listeners>>,
    /// As at the start: to change them takes a restart.
    pub(super) gateway: (Identity, config::Peers),
    /// Whom to ask whose a local connection is.
    pub(super) kernel: Diagnosis,
    /// Of the plug-ins that are there: likewise.
    pub(super) kinds: Vec<String>,
    pub(super) registered: Registered,
}

impl Renewal {
    /// One task for both, so that neither undoes what the other brought.
    pub(super) async fn run(mut self, mut reloads: Reloads<Config>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                reload = reloads.next() => {
                    let outcome = self.take_over(&reload.config);
                    reload.done(outcome.map_err(StartError::from));
                }
                () = self.registered.changed() => self.holders.acls.set(self.registered.acls()),
            }
        }
    }

    fn take_over(&mut self, config: &Config) -> Result<(), Misconfigured> {
        // Its default may be a plug-in that only the new file has: then nothing of it holds.
        let rules = config.token_rules(&self.kinds)?;
        self.holders.sessions.bound(config.bounds());
        self.holders.accounts.give_access_by(config.groups());
        self.registered.configured = config.acls();
        self.holders.acls.set(self.registered.acls());
        let (gateway, peers) = &self.gateway;
        let listeners = listeners(config.local_login.mode, peers, *gateway, self.kernel.clone());
        self.accepted_from.set(listeners);
        let policy = policy(config, self.own_uids.clone());
        self.logins.take_over(policy, rules, config.refusal_delay(), config.conversations());
        Ok(())
    }
}

/// What registrations of subsystems give to limited access, beside what the configuration gives.
pub(super) struct Registered {
    watch: Watch,
    found: Registrations,
    configured: Acls,
    told: BTreeSet<String>,
}

impl Registered {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            watch: Watch::new(&config.subsystems.directory),
            found: Registrations::default(),
            configured: config.acls(),
            told: BTreeSet::new(),
        }
    }

    /// Waits for what the directory holds to be another than before; at once the first time. Dropped, it has
    /// missed nothing.
    pub(super) async fn changed(&mut self) {
        self.found = self.watch.changed().await;
    }

    /// The entries as they are now. What is wrong is told once, and again when it comes back.
    pub(super) fn acls(&mut self) -> Acls {
        let (acls, without) = self.configured.clone().with(&self.found.found);
        let wrong: BTreeSet<String> = self.found.wrong.iter().cloned().chain(without).collect();
        for sentence in wrong.difference(&self.told) {
            warn!(wrong = sentence, "a registration of a subsystem is not taken");
        }
        self.told = wrong;
        acls
    }
}
