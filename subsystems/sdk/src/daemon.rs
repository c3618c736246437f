//! A whole daemon for one subsystem: what doorward's own daemons have, for authors.

use std::marker::PhantomData;
use std::process::ExitCode;
use std::sync::Arc;

use doorward_launch::socket::{Bound, Owner, Sockets};
use doorward_launch::{
    Confinement, Control, Current, Daemon, Identity, Keys, Misconfigured, StartError, Takes, audit::Place,
    file, log,
};

use crate::config::Config;
use crate::program::Program;
use crate::serve::{Peers, serve};

/// A subsystem's whole `main`: options, configuration, socket, privileges dropped, confinement, log, signals,
/// and the subsystem, until it is asked to stop. Exit codes: 0 stopped on request, 1 failed, 2 wrong usage.
pub fn main<P: Program>() -> ExitCode {
    doorward_launch::run::<Host<P>>()
}

/// A [`Program`] as launch starts it.
struct Host<P>(PhantomData<P>);

/// What is had before privileges are dropped.
struct Parts {
    socket: Bound,
    gateway: Identity,
    authd: Identity,
}

impl<P: Program> Host<P> {
    const SETTINGS: Takes = if P::SETTINGS_RELOAD { Takes::Reload } else { Takes::Restart };
}

impl<P: Program> Daemon for Host<P> {
    const NAME: &'static str = P::NAME;
    const CONFIG_PATH: &'static str = P::CONFIG_PATH;
    type Config = Config<P>;
    type Parts = Parts;
    const KEYS: Keys = &[
        ("user", Takes::Restart),
        ("state_dir", Takes::Restart),
        ("log.level", Takes::Reload),
        ("log.file", Takes::Restart),
        ("audit.file", Takes::Restart),
        ("audit.reads", Takes::Restart),
        ("sandbox.landlock", Takes::Restart),
        ("sandbox.seccomp", Takes::Restart),
        ("sandbox.read", Takes::Restart),
        ("socket.path", Takes::Restart),
        ("peers.gateway", Takes::Restart),
        ("peers.authd", Takes::Restart),
        ("assertion.key", Takes::Restart),
        ("settings", Self::SETTINGS),
    ];

    fn user(config: &Config<P>) -> Option<&str> {
        Some(&config.user)
    }

    fn log(config: &Config<P>) -> &log::Settings {
        &config.log
    }

    fn confinement(config: &Config<P>) -> Confinement {
        let own =
            Confinement::new(&config.sandbox).keep(&config.state_dir).read_beside(&config.assertion.key);
        P::confinement(own, &config.settings)
    }

    fn audit(config: &Config<P>) -> Option<Place> {
        config.audit_place()
    }

    fn check(config: &Config<P>) -> Result<(), Misconfigured> {
        config.check()
    }

    fn bind(config: &Config<P>, service: &Identity, sockets: &mut Sockets) -> Result<Parts, StartError> {
        let doorward_launch::Peers { gateway, authd } =
            doorward_launch::Peers::resolve(service, &config.peers.gateway, &config.peers.authd)?;
        file::state_directory(&config.state_dir, service)?;
        let owner = Owner { uid: service.uid, gid: gateway.gid };
        Ok(Parts { socket: sockets.stream(&config.socket.path, 0o660, owner)?, gateway, authd })
    }

    async fn serve(config: Config<P>, parts: Parts, control: Control<Config<P>>) -> Result<(), StartError> {
        let settings = Arc::new(Current::new(config.settings));
        let subsystem = P::subsystem(Arc::clone(&settings));
        let listener = parts.socket.listen_unix(128)?;
        let peers =
            Peers { gateway: parts.gateway.uid, authd: parts.authd.uid, key: config.assertion.key.clone() };
        let stop = control.shutdown.clone();
        tracing::info!(socket = %config.socket.path.display(), gateway = peers.gateway, "ready");
        control.ready();

        let mut reloads = control.reloads();
        let renewal = async {
            while let Some(reload) = stop.run_until_cancelled(reloads.next()).await {
                settings.set(reload.config.settings.clone());
                reload.done(Ok(()));
            }
        };
        let serving =
            serve(subsystem, listener, peers, control.audit.clone(), config.audit.reads, stop.clone());
        let ((), served) = tokio::join!(renewal, serving);
        served
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::program::Settings;
    use crate::subsystem::Subsystem;

    #[derive(Debug)]
    struct Notes;

    #[derive(Debug, Clone, Default, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    struct Own {
        most: u32,
    }

    impl Program for Notes {
        const NAME: &'static str = "doorward-notes";
        const CONFIG_PATH: &'static str = "/etc/doorward/notes.toml";
        type Settings = Own;
        const SETTINGS_RELOAD: bool = true;

        fn subsystem(_: Settings<Self>) -> Subsystem {
            Subsystem::new("example", "notes", "1", "Keeps notes")
        }

        fn check(own: &Own) -> Result<(), Misconfigured> {
            if own.most > 9 { Err(Misconfigured::at("settings.most", "must be at most 9")) } else { Ok(()) }
        }
    }

    #[test]
    fn every_key_says_when_it_takes_effect() {
        let keys = <Host<Notes> as Daemon>::KEYS;
        assert_eq!(doorward_launch::unlisted(&Config::<Notes>::default(), keys), Vec::<String>::new());
        assert!(keys.contains(&("settings", Takes::Reload)));
    }

    #[test]
    fn what_is_missing_has_a_default_by_the_programs_name_and_what_is_unknown_is_refused() {
        let read = |text: &str| -> Result<Config<Notes>, String> {
            let config: Config<Notes> = toml::from_str(text).map_err(|error| error.to_string())?;
            config.check().map_err(|wrong| wrong.to_string())?;
            Ok(config)
        };
        let config = read("[socket]\n").expect("valid");
        assert_eq!(config.socket.path.to_str(), Some("/run/doorward/notes/notes.sock"));
        assert_eq!((config.user.as_str(), config.audit.reads), ("doorward-notes", true));
        assert_eq!(read("[settings]\nmost = 7").expect("valid").settings.most, 7);
        for (text, named) in [
            ("[settings]\nleast = 7", "least"),
            ("[settings]\nmost = 10", "settings.most"),
            ("[socket]\nway = '/x'", "way"),
            ("[socket]\npath = 'x'", "socket.path"),
            ("[audit]\nfile = 'x'", "audit.file"),
            ("state_dir = 'x'", "state_dir"),
        ] {
            let said = read(text).expect_err("refused");
            assert!(said.contains(named), "{text}: {said}");
        }
    }
}
