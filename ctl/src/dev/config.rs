//! The configuration files of certd, authd, sysinfo and the gateway, and what registers sysinfo.

use std::{fmt::Write, path::Path};

use crate::dev::plan::Plan;

/// Groups with limited access where authd's file names none.
const LIMITED_GROUPS: &str = "operator";

const WRITTEN: &str = "# Written by `doorward dev`, and again at its next start.\n";

/// certd.toml.
pub(super) fn certd(plan: &Plan) -> String {
    let layout = &plan.layout;
    let mut text = head(plan, plan.accounts.certd.uid, &layout.certd_state());
    text.push_str("\n[socket]\n");
    path(&mut text, "path", &layout.certd_socket());
    path(&mut text, "authd_path", &layout.certd_authd_socket());
    text.push_str("\n[peers]\n");
    entry(&mut text, "gateway", &quoted(&plan.accounts.gateway.uid.to_string()));
    entry(&mut text, "authd", &quoted(&plan.accounts.authd.uid.to_string()));
    text.push_str("\n[assertion]\n");
    path(&mut text, "key", &layout.assertion_key());
    text
}

/// authd.toml.
pub(super) fn authd(plan: &Plan) -> String {
    let layout = &plan.layout;
    let mut text = head(plan, plan.accounts.authd.uid, &layout.authd_state());
    text.push_str("\n[socket]\n");
    path(&mut text, "path", &layout.authd_socket());
    path(&mut text, "peer_path", &layout.peer_socket());
    path(&mut text, "assertion_key", &layout.assertion_key());
    text.push_str("\n[peers]\n");
    entry(&mut text, "gateway", &quoted(&plan.accounts.gateway.uid.to_string()));
    path(&mut text, "gateway_socket", &layout.gateway_socket());
    entry(&mut text, "gateway_ports", &format!("[{}]", plan.port));
    text.push_str("\n[certd]\n");
    path(&mut text, "socket", &layout.certd_authd_socket());
    entry(&mut text, "user", &quoted(&plan.accounts.certd.uid.to_string()));
    text.push_str("\n[pam]\n");
    path(&mut text, "socket", &layout.pam_socket());
    if let Some(delay) = plan.refusal_delay_ms {
        entry(&mut text, "refusal_delay_ms", &delay.to_string());
    }
    text.push_str("\n[subsystems]\n");
    path(&mut text, "directory", &layout.subsystems());
    if let Some(group) = &plan.access_group {
        text.push_str("\n[access]\n");
        entry(&mut text, "limited_groups", &format!("[{}, {}]", quoted(LIMITED_GROUPS), quoted(group)));
    }
    text
}

/// sysinfo.toml.
pub(super) fn sysinfo(plan: &Plan) -> String {
    let layout = &plan.layout;
    let mut text = head(plan, plan.accounts.sysinfo.uid, &layout.sysinfo_state());
    text.push_str("\n[socket]\n");
    path(&mut text, "path", &layout.sysinfo_socket());
    text.push_str("\n[peers]\n");
    entry(&mut text, "gateway", &quoted(&plan.accounts.gateway.uid.to_string()));
    entry(&mut text, "authd", &quoted(&plan.accounts.authd.uid.to_string()));
    text.push_str("\n[assertion]\n");
    path(&mut text, "key", &layout.assertion_key());
    text
}

/// subsystems.d/sysinfo.toml.
pub(super) fn registration(plan: &Plan) -> String {
    let mut text = WRITTEN.to_owned();
    entry(&mut text, "namespace", &quoted("sysadm"));
    entry(&mut text, "name", &quoted("systemmanager"));
    path(&mut text, "socket", &plan.layout.sysinfo_socket());
    entry(&mut text, "user", &quoted(&plan.accounts.sysinfo.uid.to_string()));
    entry(&mut text, "events", &format!("[{}]", quoted("system-state")));
    // It reads, and nothing else.
    entry(&mut text, "limited_acl", &format!("[{}]", quoted("*")));
    text
}

/// gateway.toml.
pub(super) fn gateway(plan: &Plan) -> String {
    let layout = &plan.layout;
    let mut text = head(plan, plan.accounts.gateway.uid, &layout.gateway_state());
    text.push_str("\n[listen]\n");
    entry(&mut text, "tls", &format!("[{}]", quoted(&format!("127.0.0.1:{}", plan.port))));
    entry(&mut text, "token", "[]");
    entry(&mut text, "token_plain", &format!("[{}]", quoted(&format!("127.0.0.1:{}", plan.token_port))));
    path(&mut text, "unix", &layout.gateway_socket());
    text.push_str("\n[authd]\n");
    path(&mut text, "socket", &layout.authd_socket());
    path(&mut text, "peer_socket", &layout.peer_socket());
    entry(&mut text, "user", &quoted(&plan.accounts.authd.uid.to_string()));
    text.push_str("\n[certd]\n");
    path(&mut text, "socket", &layout.certd_socket());
    entry(&mut text, "user", &quoted(&plan.accounts.certd.uid.to_string()));
    text.push_str("\n[subsystems]\n");
    path(&mut text, "directory", &layout.subsystems());
    text.push_str("\n[channels]\n");
    path(&mut text, "file", &layout.channels());
    if let Some(socket) = &plan.redis {
        entry(&mut text, "engine", &quoted("redis"));
        text.push_str("\n[redis]\n");
        path(&mut text, "socket", socket);
        entry(&mut text, "socket_user", &quoted(&plan.accounts.guard.uid.to_string()));
        entry(&mut text, "prefix", &quoted("doorward"));
    }
    text
}

/// channels.toml: one to try it with.
pub(super) fn channels() -> String {
    format!("{WRITTEN}[channels.lobby]\nsubscribe = \"member\"\npublish = \"member\"\n")
}

fn head(plan: &Plan, uid: u32, state: &Path) -> String {
    let mut text = WRITTEN.to_owned();
    // Without root a service stays who it is.
    if plan.accounts.separated() {
        entry(&mut text, "user", &quoted(&uid.to_string()));
    }
    path(&mut text, "state_dir", state);
    text
}

fn path(text: &mut String, key: &str, path: &Path) {
    entry(text, key, &quoted(&path.to_string_lossy()));
}

fn entry(text: &mut String, key: &str, value: &str) {
    text.push_str(key);
    text.push_str(" = ");
    text.push_str(value);
    text.push('\n');
}

/// A TOML string: a name may hold anything.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a String does not fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::{accounts::Accounts, plan::tests::plan};

    fn keys(text: &str) -> Vec<String> {
        let table: toml::Table = text.parse().expect(text);
        let mut keys = Vec::new();
        for (name, value) in &table {
            match value {
                toml::Value::Table(inner) => keys.extend(inner.keys().map(|key| format!("{name}.{key}"))),
                _ => keys.push(name.clone()),
            }
        }
        keys.sort();
        keys
    }

    fn list(value: &toml::Value) -> Vec<&str> {
        value.as_array().expect("a list").iter().map(|item| item.as_str().expect("a string")).collect()
    }

    #[test]
    fn certd_gets_the_keys_it_knows() {
        let text = certd(&plan());
        let expected = [
            "assertion.key",
            "peers.authd",
            "peers.gateway",
            "socket.authd_path",
            "socket.path",
            "state_dir",
            "user",
        ];
        assert_eq!(keys(&text), expected);
        let table: toml::Table = text.parse().expect("TOML");
        assert_eq!(table["user"].as_str(), Some("61100"));
        assert_eq!(table["peers"]["authd"].as_str(), Some("61200"));
        assert_eq!(table["peers"]["gateway"].as_str(), Some("61300"));
    }

    #[test]
    fn authd_gets_the_keys_it_knows() {
        let mut plan = plan();
        let always = [
            "certd.socket",
            "certd.user",
            "pam.socket",
            "peers.gateway",
            "peers.gateway_ports",
            "peers.gateway_socket",
            "socket.assertion_key",
            "socket.path",
            "socket.peer_path",
            "state_dir",
            "subsystems.directory",
            "user",
        ];
        assert_eq!(keys(&authd(&plan)), always);
        plan.access_group = Some("friends".to_owned());
        plan.refusal_delay_ms = Some(5);
        let table: toml::Table = authd(&plan).parse().expect("TOML");
        assert_eq!(list(&table["access"]["limited_groups"]), ["operator", "friends"]);
        assert_eq!(table["pam"]["refusal_delay_ms"].as_integer(), Some(5));
        assert_eq!(table["user"].as_str(), Some("61200"));
        assert_eq!(table["peers"]["gateway"].as_str(), Some("61300"));
    }

    #[test]
    fn the_gateway_gets_the_keys_it_knows_and_stays_on_loopback() {
        let mut plan = plan();
        plan.port = 4711;
        let text = gateway(&plan);
        let expected = [
            "authd.peer_socket",
            "authd.socket",
            "authd.user",
            "certd.socket",
            "certd.user",
            "channels.file",
            "listen.tls",
            "listen.token",
            "listen.token_plain",
            "listen.unix",
            "state_dir",
            "subsystems.directory",
            "user",
        ];
        assert_eq!(keys(&text), expected);
        let table: toml::Table = text.parse().expect("TOML");
        assert_eq!(list(&table["listen"]["tls"]), ["127.0.0.1:4711"]);
        assert_eq!(list(&table["listen"]["token_plain"]), ["127.0.0.1:0"]);
        assert_eq!(table["authd"]["user"].as_str(), Some("61200"));
        plan.redis = Some("/tmp/redis.sock".into());
        let table: toml::Table = gateway(&plan).parse().expect("TOML");
        assert_eq!(table["channels"]["engine"].as_str(), Some("redis"));
        assert_eq!(table["redis"]["socket"].as_str(), Some("/tmp/redis.sock"));
    }

    #[test]
    fn sysinfo_is_registered_where_it_listens_and_as_whom_it_runs() {
        let plan = plan();
        let own: toml::Table = sysinfo(&plan).parse().expect("TOML");
        let registered: toml::Table = registration(&plan).parse().expect("TOML");
        assert_eq!(registered["socket"], own["socket"]["path"]);
        assert_eq!((&registered["user"], own["user"].as_str()), (&own["user"], Some("61400")));
        assert_eq!(own["peers"]["gateway"].as_str(), Some("61300"));
        assert_eq!(own["peers"]["authd"].as_str(), Some("61200"));
        let expected = ["events", "limited_acl", "name", "namespace", "socket", "user"];
        assert_eq!(keys(&registration(&plan)), expected);
    }

    #[test]
    fn without_separation_no_user_is_named() {
        let mut plan = plan();
        plan.accounts = Accounts::all(&plan.accounts.authd);
        assert!(!keys(&certd(&plan)).contains(&"user".to_owned()));
        assert!(!keys(&authd(&plan)).contains(&"user".to_owned()));
        assert!(!keys(&sysinfo(&plan)).contains(&"user".to_owned()));
        assert!(!keys(&gateway(&plan)).contains(&"user".to_owned()));
        // Whose socket it is, is said in any case.
        assert!(keys(&registration(&plan)).contains(&"user".to_owned()));
    }

    #[test]
    fn any_name_is_quoted() {
        for name in ["plain", "a \"b\" \\ c", "line\nbreak\u{7f}\u{85}", "Grüße", ""] {
            let table: toml::Table = format!("x = {}", quoted(name)).parse().expect(name);
            assert_eq!(table["x"].as_str(), Some(name));
        }
    }
}
