//! What holds where the file says nothing.

use std::collections::BTreeMap;

use doorward_launch::{audit, log, sandbox};

use super::{
    Authd, Certd, Channels, Config, Http, Limits, Listen, Redis, Subsystems, Timers, TlsFiles, TokenApi,
};
use crate::subsystem::Pace;

impl Default for Config {
    fn default() -> Self {
        Self {
            user: "doorward-gateway".to_owned(),
            state_dir: "/var/lib/doorward/gateway".into(),
            log: log::Settings::default(),
            sandbox: sandbox::Settings::default(),
            audit: audit::Settings::default(),
            listen: Listen::default(),
            tls: TlsFiles::default(),
            authd: Authd::default(),
            certd: Certd::default(),
            subsystems: Subsystems::default(),
            channels: Channels::default(),
            redis: Redis::default(),
            url_credentials: BTreeMap::new(),
            http: Http::default(),
            token_api: TokenApi::default(),
            limits: Limits::default(),
            timers: Timers::default(),
            exempt: root(),
        }
    }
}

pub(super) fn root() -> Option<u32> {
    Some(0)
}

impl Default for Listen {
    fn default() -> Self {
        use std::net::{Ipv4Addr, Ipv6Addr};
        let everywhere =
            |port: u16| [(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()];
        Self {
            tls: [12150, 12151].into_iter().flat_map(everywhere).collect(),
            token: everywhere(9497).into(),
            token_plain: Vec::new(),
            unix: "/run/doorward/gateway.sock".into(),
        }
    }
}

impl Default for Authd {
    fn default() -> Self {
        Self {
            socket: "/run/doorward/authd/authd.sock".into(),
            peer_socket: "/run/doorward/authd/peer.sock".into(),
            user: "doorward-authd".to_owned(),
        }
    }
}

impl Default for Certd {
    fn default() -> Self {
        Self { socket: "/run/doorward/certd/certd.sock".into(), user: "doorward-certd".to_owned() }
    }
}

impl Default for Subsystems {
    fn default() -> Self {
        Self { directory: "/etc/doorward/subsystems.d".into(), pace: Pace::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_before_login: 8 << 10,
            message_after_login: 128 << 10,
            json_depth: 32,
            in_flight: 32,
            subscriptions: 256,
            publishes: 100,
            connections: 16_384,
            connections_per_source: None,
            connections_before_login: 256,
            per_source: 8,
            plain_http: 1_024,
            token_body: 8 << 10,
            token_misses: 1_000,
        }
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            handshake_seconds: 10,
            login_seconds: 30,
            connection_idle_seconds: 600,
            keep_alive_seconds: 60,
            body_seconds: 30,
            write_seconds: 30,
        }
    }
}
