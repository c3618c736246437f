//! Where one configuration says something else than another.

use std::{collections::BTreeSet, net::SocketAddr, path::Path};

use super::{super::facts::Facts, Found};

impl Found {
    /// What two files say of one thing is the same.
    pub(super) fn agreement(&mut self, facts: &Facts) {
        let (Ok(gateway), Ok(authd)) = (&facts.gateway, &facts.authd) else { return };
        let mut paths = vec![
            (
                "gateway.toml authd.socket",
                &gateway.authd.socket,
                "authd.toml socket.path",
                &authd.socket.path,
            ),
            (
                "gateway.toml authd.peer_socket",
                &gateway.authd.peer_socket,
                "authd.toml socket.peer_path",
                &authd.socket.peer_path,
            ),
            (
                "authd.toml peers.gateway_socket",
                &authd.peers.gateway_socket,
                "gateway.toml listen.unix",
                &gateway.listen.unix,
            ),
        ];
        let mut users = vec![
            ("gateway.toml authd.user", &gateway.authd.user, "authd.toml user", &authd.user),
            ("authd.toml peers.gateway", &authd.peers.gateway, "gateway.toml user", &gateway.user),
        ];
        let none = Path::new("");
        if authd.subsystems.directory != none {
            paths.push((
                "authd.toml subsystems.directory",
                &authd.subsystems.directory,
                "gateway.toml subsystems.directory",
                &gateway.subsystems.directory,
            ));
        }
        if let Ok(certd) = &facts.certd {
            if gateway.certd.socket != none {
                paths.push((
                    "gateway.toml certd.socket",
                    &gateway.certd.socket,
                    "certd.toml socket.path",
                    &certd.socket.path,
                ));
                users.push(("gateway.toml certd.user", &gateway.certd.user, "certd.toml user", &certd.user));
            }
            if authd.certd.socket != none {
                paths.push((
                    "authd.toml certd.socket",
                    &authd.certd.socket,
                    "certd.toml socket.authd_path",
                    &certd.socket.authd_path,
                ));
                users.push(("authd.toml certd.user", &authd.certd.user, "certd.toml user", &certd.user));
            }
            paths.push((
                "certd.toml assertion.key",
                &certd.assertion.key,
                "authd.toml socket.assertion_key",
                &authd.socket.assertion_key,
            ));
            users.push((
                "certd.toml peers.gateway",
                &certd.peers.gateway,
                "gateway.toml user",
                &gateway.user,
            ));
            users.push(("certd.toml peers.authd", &certd.peers.authd, "authd.toml user", &authd.user));
        }
        if let Some(Ok(sysinfo)) = &facts.sysinfo {
            paths.push((
                "sysinfo.toml assertion.key",
                &sysinfo.assertion.key,
                "authd.toml socket.assertion_key",
                &authd.socket.assertion_key,
            ));
            let peers = &sysinfo.peers;
            users.push(("sysinfo.toml peers.gateway", &peers.gateway, "gateway.toml user", &gateway.user));
            users.push(("sysinfo.toml peers.authd", &peers.authd, "authd.toml user", &authd.user));
        }
        for (one, first, other, second) in paths {
            if first != second {
                let (first, second) = (first.display(), second.display());
                self.error(one, format!("it is {first}, but {other} is {second}"), "make both the same");
            }
        }
        for (one, first, other, second) in users {
            let (known, same) = (facts.ids(first).zip(facts.ids(second)), first == second);
            if !same && known.is_none_or(|(first, second)| first.uid != second.uid) {
                self.error(one, format!("it is {first}, but {other} is {second}"), "make both the same");
            }
        }
    }

    /// Without its port authd believes no connection over loopback to be one to the gateway.
    pub(super) fn ports(&mut self, facts: &Facts) {
        let (Ok(gateway), Ok(authd)) = (&facts.gateway, &facts.authd) else { return };
        let known = &authd.peers.gateway_ports;
        let ports: BTreeSet<u16> = gateway.listen.tls.iter().map(SocketAddr::port).collect();
        for port in ports {
            if authd.local_login.mode == "kernel" && port != 0 && !known.contains(&port) {
                let what = format!(
                    "{port}, where the gateway listens, is not in it: no login without a password there"
                );
                let mend = format!("add {port} to it, and restart doorward-authd");
                self.warning("authd.toml peers.gateway_ports", what, mend);
            }
        }
    }
}
