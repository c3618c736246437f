//! A good host gives no finding; one thing broken gives the one that says so.

use serde_json::json;

use super::super::facts::{Certificate, Jwt, Room};
use super::*;

const NOW: i64 = 1_800_000_000;

fn file(kind: Kind, uid: u32, mode: u32) -> File {
    File::There { kind, uid, gid: uid, mode, modified: NOW - 1000 }
}

/// A host as a package leaves it, seen by root.
fn good() -> Facts {
    let gateway = json!({
        "user": "g", "state_dir": "/var/g", "log": {"file": "/log/g.log"},
        "listen": {"unix": "/run/d/gateway.sock", "tls": ["0.0.0.0:12150", "[::]:12150"]}, "tls": {"certificate": "/tls/c", "key": "/tls/k"},
        "authd": {"socket": "/run/d/a/authd.sock", "peer_socket": "/run/d/a/peer.sock", "user": "a"},
        "certd": {"socket": "/run/d/c/certd.sock", "user": "c"},
        "subsystems": {"directory": "/etc/d/subsystems.d"},
        "registrations": {"wrong": [], "found": [
            {"file": "/etc/d/subsystems.d/s.toml", "namespace": "sysadm", "name": "systemmanager",
                "socket": "/run/d/s/sysinfo.sock", "uid": 104, "events": []},
            {"file": "/etc/d/subsystems.d/x.toml", "namespace": "example", "name": "x",
                "socket": "/run/x/x.sock", "uid": 105, "events": []},
        ]},
    });
    let authd = json!({
        "user": "a", "state_dir": "/var/a", "log": {"file": null},
        "socket": {"path": "/run/d/a/authd.sock", "peer_path": "/run/d/a/peer.sock",
            "assertion_key": "/run/d/a/assertion.pub"},
        "peers": {"gateway": "g", "gateway_socket": "/run/d/gateway.sock", "gateway_ports": [12150]},
        "local_login": {"mode": "kernel"},
        "certd": {"socket": "/run/d/c/authd.sock", "user": "c"},
        "pam": {"socket": "/run/d/p/pam.sock"},
        "access": {"full_groups": ["wheel", "sudo"], "limited_groups": ["operator"]},
        "subsystems": {"directory": "/etc/d/subsystems.d"},
    });
    let certd = json!({
        "user": "c", "state_dir": "/var/c", "log": {"file": null},
        "socket": {"path": "/run/d/c/certd.sock", "authd_path": "/run/d/c/authd.sock"},
        "peers": {"gateway": "g", "authd": "a"}, "assertion": {"key": "/run/d/a/assertion.pub"},
    });
    let sysinfo = json!({
        "user": "s", "state_dir": "/var/s", "log": {"file": null}, "socket": {"path": "/run/d/s/sysinfo.sock"},
        "peers": {"gateway": "g", "authd": "a"}, "assertion": {"key": "/run/d/a/assertion.pub"},
    });
    let ids = |uid| Some(Ids { uid, gid: uid });
    let mut files = vec![
        ("/etc/d", file(Kind::Directory, 0, 0o755)),
        ("/etc/d/gateway.toml", file(Kind::File, 0, 0o644)),
        ("/etc/d/authd.toml", file(Kind::File, 0, 0o640)),
        ("/etc/d/certd.toml", File::Missing),
        ("/etc/d/sysinfo.toml", file(Kind::File, 0, 0o644)),
        ("/etc/d/subsystems.d", file(Kind::Directory, 0, 0o755)),
        ("/etc/d/subsystems.d/s.toml", file(Kind::File, 0, 0o644)),
        ("/etc/d/subsystems.d/x.toml", file(Kind::File, 0, 0o644)),
        (
            "/run/d/s/sysinfo.sock",
            File::There { kind: Kind::Socket, uid: 104, gid: 101, mode: 0o660, modified: NOW },
        ),
        ("/run/x", file(Kind::Directory, 105, 0o755)),
        ("/run/x/x.sock", file(Kind::Socket, 105, 0o666)),
        ("/etc/pam.d/d", file(Kind::File, 0, 0o644)),
        ("/log", file(Kind::Directory, 101, 0o750)),
        ("/log/g.log", file(Kind::File, 101, 0o600)),
        ("/tls/c", file(Kind::File, 0, 0o644)),
        ("/tls/k", File::There { kind: Kind::File, uid: 0, gid: 101, mode: 0o640, modified: NOW }),
        ("/run/d/gateway.sock", file(Kind::Socket, 101, 0o666)),
        ("/run/d/a/authd.sock", file(Kind::Socket, 102, 0o660)),
        ("/run/d/a/peer.sock", file(Kind::Socket, 102, 0o660)),
        ("/run/d/c/certd.sock", file(Kind::Socket, 103, 0o660)),
        ("/run/d/c/authd.sock", file(Kind::Socket, 103, 0o660)),
        ("/run/d/p/pam.sock", file(Kind::Socket, 102, 0o600)),
    ];
    files.extend(
        ["/run/d", "/run/d/a", "/run/d/c", "/run/d/p", "/run/d/s"]
            .map(|at| (at, file(Kind::Directory, 0, 0o755))),
    );
    files.extend(
        [("/var/g", 101), ("/var/a", 102), ("/var/c", 103), ("/var/s", 104)]
            .map(|(at, uid)| (at, file(Kind::Directory, uid, 0o700))),
    );
    let listening = [
        ("/run/d/gateway.sock", 101),
        ("/run/d/a/authd.sock", 102),
        ("/run/d/c/certd.sock", 103),
        ("/run/d/c/authd.sock", 0),
        ("/run/d/s/sysinfo.sock", 104),
        ("/run/x/x.sock", 105),
    ];
    let room = Room { bytes: 10 << 30, files: 100_000 };
    Facts {
        root: true,
        now: NOW,
        directory: "/etc/d".into(),
        gateway: Ok(serde_json::from_value(gateway).expect("a configuration")),
        authd: Ok(serde_json::from_value(authd).expect("a configuration")),
        certd: Ok(serde_json::from_value(certd).expect("a configuration")),
        sysinfo: Some(Ok(serde_json::from_value(sysinfo).expect("a configuration"))),
        users: [("g", ids(101)), ("a", ids(102)), ("c", ids(103)), ("s", ids(104))]
            .map(|(name, ids)| (name.to_owned(), ids))
            .into(),
        groups: [("wheel", false), ("sudo", true), ("operator", false)]
            .map(|(name, is)| (name.to_owned(), is))
            .into(),
        files: files.into_iter().map(|(path, file)| (path.into(), file)).collect(),
        listeners: listening.into_iter().map(|(path, uid)| (path.into(), Ok(uid))).collect(),
        identify: Ok("host".to_owned()),
        pam: ("/etc/pam.d/d".into(), Ok("#%PAM\n@include common-auth\n-account required x.so\n".to_owned())),
        certificate: Some(Certificate {
            path: "/tls/c".into(),
            key: "/tls/k".into(),
            holds: Ok((NOW - DAY, NOW + 90 * DAY)),
            key_fits: Some(Ok(())),
            own: false,
        }),
        room: [("/var/g".into(), room)].into(),
    }
}

#[test]
fn a_good_host_gives_no_finding() {
    assert_eq!(examine(&good()), []);
}

#[test]
fn where_nobody_asks_certd_nothing_of_it_is_missed() {
    let mut facts = good();
    for file in
        facts.files.iter_mut().filter(|(path, _)| path.starts_with("/run/d/c") || path.starts_with("/var/c"))
    {
        *file.1 = File::Missing;
    }
    facts.listeners.retain(|path, _| !path.starts_with("/run/d/c"));
    facts.authd.as_mut().expect("read").certd.socket = "".into();
    let found = examine(&facts);
    assert!(found.iter().any(|finding| finding.place.contains("/run/d/c")), "the gateway asks it: {found:?}");
    facts.gateway.as_mut().expect("read").certd.socket = "".into();
    assert_eq!(examine(&facts), []);
}

#[test]
fn what_is_missing_on_a_host_where_nothing_runs_yet_is_no_error() {
    let mut facts = good();
    for (path, file) in &mut facts.files {
        if path.starts_with("/run") || path.starts_with("/var") {
            *file = File::Missing;
        }
    }
    facts.listeners.clear();
    let found = examine(&facts);
    assert!(found.iter().all(|finding| finding.grade == Grade::Warning), "{found:?}");
}

#[test]
fn one_thing_broken_is_one_finding_that_says_how_to_mend_it() {
    type Break = fn(&mut Facts);
    fn set(facts: &mut Facts, path: &str, file: File) {
        facts.files.insert(path.into(), file);
    }
    fn gateway(facts: &mut Facts) -> &mut super::super::facts::Gateway {
        facts.gateway.as_mut().expect("read")
    }
    /// With a key of authd's own (uid 102), if it is there.
    fn issuer(facts: &mut Facts, algorithm: &str, mode: Option<u32>) {
        let jwt = Jwt { algorithm: algorithm.into(), key_file: Some("/jwt".into()), jwks_file: None };
        facts.authd.as_mut().expect("read").jwt.push(jwt);
        set(facts, "/jwt", mode.map_or(File::Missing, |mode| file(Kind::File, 102, mode)));
    }
    fn sysinfo(facts: &mut Facts) -> &mut super::super::facts::Sysinfo {
        facts.sysinfo.as_mut().expect("registered").as_mut().expect("read")
    }
    let table: &[(Break, Grade, &str, &str)] = &[
        (
            |f| f.gateway = Err("/etc/d/gateway.toml:3: unknown field".into()),
            Grade::Error,
            "/etc/d/gateway.toml",
            "--check-config",
        ),
        (|f| f.certd = Err("x".into()), Grade::Error, "/etc/d/certd.toml", "doorward-certd"),
        (
            |f| set(f, "/etc/d/authd.toml", file(Kind::File, 0, 0o646)),
            Grade::Error,
            "/etc/d/authd.toml",
            "chmod go-w /etc/d/authd.toml",
        ),
        (
            |f| set(f, "/etc/d/authd.toml", file(Kind::File, 7, 0o644)),
            Grade::Error,
            "/etc/d/authd.toml",
            "chown root",
        ),
        (|f| set(f, "/etc/d", file(Kind::Directory, 0, 0o777)), Grade::Error, "/etc/d", "chmod go-w /etc/d"),
        (
            |f| {
                let _ = f.users.insert("a".into(), None);
            },
            Grade::Error,
            "user a",
            "useradd --system",
        ),
        (
            |f| {
                f.users.insert("x".into(), Some(Ids { uid: 0, gid: 0 }));
            },
            Grade::Error,
            "user x",
            "of the service's own",
        ),
        (
            |f| f.authd.as_mut().expect("read").peers.gateway_socket = "/other".into(),
            Grade::Error,
            "authd.toml peers.gateway_socket",
            "the same",
        ),
        (
            |f| f.certd.as_mut().expect("read").peers.authd = "nobody".into(),
            Grade::Error,
            "certd.toml peers.authd",
            "the same",
        ),
        (
            |f| {
                f.groups.insert("sudo".into(), false);
            },
            Grade::Error,
            "authd.toml access",
            "groupadd --system wheel",
        ),
        (
            |f| {
                f.groups.insert("sudo".into(), false);
                f.groups.insert("operator".into(), true);
            },
            Grade::Warning,
            "authd.toml access.full_groups",
            "groupadd",
        ),
        (
            |f| {
                let authd = f.authd.as_mut().expect("read");
                authd.token_api.group_acl.insert("robots".into(), serde::de::IgnoredAny);
                f.groups.insert("robots".into(), false);
            },
            Grade::Warning,
            "authd.toml token_api.group_acl",
            "groupadd --system robots",
        ),
        (|f| set(f, "/etc/pam.d/d", File::Missing), Grade::Error, "/etc/pam.d/d", "install"),
        (|f| set(f, "/etc/pam.d/d", file(Kind::File, 0, 0o666)), Grade::Error, "/etc/pam.d/d", "chmod go-w"),
        (
            |f| f.pam.1 = Ok("auth required x.so\n# account y\n".into()),
            Grade::Error,
            "/etc/pam.d/d",
            "common-account",
        ),
        (
            |f| set(f, "/var/a", file(Kind::Directory, 101, 0o700)),
            Grade::Error,
            "/var/a",
            "chown -R a /var/a",
        ),
        (|f| set(f, "/var/a", file(Kind::Directory, 102, 0o750)), Grade::Error, "/var/a", "chmod 700 /var/a"),
        (|f| set(f, "/var/a", File::Hidden("no".into())), Grade::Unseen, "/var/a", "as root"),
        (|f| set(f, "/log", file(Kind::Directory, 0, 0o755)), Grade::Warning, "/log", "install -d -o g"),
        (|f| set(f, "/log", File::Missing), Grade::Error, "/log", "install -d -o g"),
        (
            |f| set(f, "/log/g.log", file(Kind::File, 0, 0o600)),
            Grade::Warning,
            "/log/g.log",
            "chown g /log/g.log",
        ),
        (
            |f| set(f, "/run/d/a/authd.sock", file(Kind::Socket, 102, 0o666)),
            Grade::Error,
            "/run/d/a/authd.sock",
            "restart",
        ),
        (
            |f| set(f, "/run/d/a/authd.sock", file(Kind::Socket, 101, 0o660)),
            Grade::Error,
            "/run/d/a/authd.sock",
            "restart",
        ),
        (
            |f| set(f, "/run/d/a/authd.sock", file(Kind::File, 102, 0o660)),
            Grade::Error,
            "/run/d/a/authd.sock",
            "rm /run",
        ),
        (|f| set(f, "/run/d/p/pam.sock", File::Missing), Grade::Warning, "/run/d/p/pam.sock", "start"),
        (
            |f| set(f, "/run/d/a", file(Kind::Directory, 102, 0o755)),
            Grade::Warning,
            "/run/d/a",
            "chown root /run/d/a",
        ),
        (
            |f| set(f, "/run/d/a", file(Kind::Directory, 7, 0o755)),
            Grade::Error,
            "/run/d/a",
            "chown root /run/d/a",
        ),
        (
            |f| set(f, "/run/d/a", file(Kind::Directory, 0, 0o775)),
            Grade::Error,
            "/run/d/a",
            "chmod go-w /run/d/a",
        ),
        (
            |f| {
                f.listeners.insert("/run/d/a/authd.sock".into(), Err("refused".into()));
            },
            Grade::Error,
            "/run/d/a/authd.sock",
            "start",
        ),
        (
            |f| {
                f.listeners.insert("/run/d/a/authd.sock".into(), Ok(666));
            },
            Grade::Error,
            "/run/d/a/authd.sock",
            "ss -xlp",
        ),
        (|f| f.now = NOW + 80 * DAY, Grade::Warning, "/tls/c", "reload"),
        (|f| f.now = NOW + 90 * DAY, Grade::Error, "/tls/c", "renew"),
        (
            |f| f.certificate.as_mut().expect("one").holds = Ok((NOW + 1, NOW + 100 * DAY)),
            Grade::Error,
            "/tls/c",
            "clock",
        ),
        (
            |f| f.certificate.as_mut().expect("one").key_fits = Some(Err("no".into())),
            Grade::Error,
            "/tls/k",
            "one pair",
        ),
        (|f| f.certificate.as_mut().expect("one").key_fits = None, Grade::Unseen, "/tls/k", "as root"),
        (|f| set(f, "/tls/k", file(Kind::File, 101, 0o644)), Grade::Error, "/tls/k", "chmod o= /tls/k"),
        (|f| issuer(f, "HS256", None), Grade::Error, "/jwt", "another in [[jwt]]"),
        (|f| issuer(f, "HS256", Some(0o644)), Grade::Error, "/jwt", "chown a /jwt && chmod 600 /jwt"),
        (|f| issuer(f, "HS256", Some(0o640)), Grade::Error, "/jwt", "chown a /jwt && chmod 600 /jwt"),
        (|f| issuer(f, "EdDSA", Some(0o666)), Grade::Error, "/jwt", "chmod go-w /jwt"),
        (
            |f| {
                issuer(f, "EdDSA", None);
                set(f, "/jwt", file(Kind::File, 0, 0o600));
            },
            Grade::Error,
            "/jwt",
            "chmod g+r /jwt",
        ),
        (
            |f| set(f, "/tls/k", file(Kind::File, 0, 0o600)),
            Grade::Warning,
            "/tls/k",
            "chgrp 101 /tls/k && chmod 640 /tls/k",
        ),
        (
            |f| {
                f.certificate = None;
                f.now = BEGINNING - 1;
            },
            Grade::Error,
            "clock",
            "timedatectl",
        ),
        (
            |f| {
                f.certificate = None;
                f.now = NOW - 2 * DAY;
            },
            Grade::Error,
            "clock",
            "timedatectl",
        ),
        (
            |f| f.identify = Err("refused".into()),
            Grade::Error,
            "/run/d/gateway.sock",
            "start doorward-gateway",
        ),
        (
            |f| {
                f.room.insert("/var/g".into(), Room { bytes: 1 << 20, files: 100_000 });
            },
            Grade::Error,
            "/var/g",
            "make room",
        ),
        (
            |f| {
                f.room.insert("/var/g".into(), Room { bytes: 10 << 30, files: 3 });
            },
            Grade::Error,
            "/var/g",
            "make room",
        ),
        (
            |f| {
                f.room.insert("/var/g".into(), Room { bytes: 100 << 20, files: 100_000 });
            },
            Grade::Warning,
            "/var/g",
            "make room",
        ),
        (
            |f| gateway(f).registrations.wrong.push("/etc/d/subsystems.d/y.toml:1: name: no".into()),
            Grade::Error,
            "/etc/d/subsystems.d",
            "within 2 seconds",
        ),
        (
            |f| set(f, "/etc/d/subsystems.d", file(Kind::Directory, 0, 0o777)),
            Grade::Error,
            "/etc/d/subsystems.d",
            "chmod go-w",
        ),
        (
            |f| set(f, "/etc/d/subsystems.d/x.toml", file(Kind::File, 105, 0o644)),
            Grade::Error,
            "/etc/d/subsystems.d/x.toml",
            "chown root",
        ),
        (
            |f| f.authd.as_mut().expect("read").subsystems.directory = "/other".into(),
            Grade::Error,
            "authd.toml subsystems.directory",
            "the same",
        ),
        (|f| set(f, "/run/x/x.sock", File::Missing), Grade::Warning, "/run/x/x.sock", "subsystems.d/x.toml"),
        (|f| set(f, "/run/x/x.sock", file(Kind::File, 105, 0o666)), Grade::Error, "/run/x/x.sock", "rm /run"),
        (
            |f| set(f, "/run/x/x.sock", file(Kind::Socket, 105, 0o660)),
            Grade::Error,
            "/run/x/x.sock",
            "chgrp g /run/x/x.sock",
        ),
        (
            |f| f.authd.as_mut().expect("one").peers.gateway_ports = vec![12151],
            Grade::Warning,
            "authd.toml peers.gateway_ports",
            "add 12150",
        ),
        (
            |f| {
                f.listeners.insert("/run/x/x.sock".into(), Err("refused".into()));
            },
            Grade::Error,
            "/run/x/x.sock",
            "start what is example/x",
        ),
        (
            |f| {
                f.listeners.insert("/run/x/x.sock".into(), Ok(666));
            },
            Grade::Error,
            "/run/x/x.sock",
            "ss -xlp",
        ),
        (
            |f| set(f, "/run/x", file(Kind::Directory, 666, 0o755)),
            Grade::Error,
            "/run/x",
            "chown root /run/x",
        ),
        (
            |f| set(f, "/run/x", file(Kind::Directory, 105, 0o777)),
            Grade::Error,
            "/run/x",
            "chmod go-w /run/x",
        ),
        (
            |f| {
                let x = gateway(f).registrations.found.last_mut().expect("two");
                x.uid = 0;
                f.listeners.insert("/run/x/x.sock".into(), Ok(0));
                set(f, "/run/x", file(Kind::Directory, 0, 0o755));
            },
            Grade::Warning,
            "/etc/d/subsystems.d/x.toml",
            "a user of its own",
        ),
        (
            |f| {
                let x = gateway(f).registrations.found.last_mut().expect("two");
                x.uid = 102;
                f.listeners.insert("/run/x/x.sock".into(), Ok(102));
                set(f, "/run/x", file(Kind::Directory, 0, 0o755));
            },
            Grade::Error,
            "/etc/d/subsystems.d/x.toml",
            "a user of its own",
        ),
        (
            |f| f.sysinfo = Some(Err("line 1: no".into())),
            Grade::Error,
            "/etc/d/sysinfo.toml",
            "doorward-sysinfo --check-config",
        ),
        (
            |f| sysinfo(f).socket.path = "/run/other".into(),
            Grade::Error,
            "sysinfo.toml socket.path",
            "the same",
        ),
        (|f| sysinfo(f).peers.gateway = "a".into(), Grade::Error, "sysinfo.toml peers.gateway", "the same"),
        (|f| sysinfo(f).assertion.key = "/x".into(), Grade::Error, "sysinfo.toml assertion.key", "the same"),
        (
            |f| {
                f.users.insert("t".into(), Some(Ids { uid: 106, gid: 106 }));
                sysinfo(f).user = "t".into();
                set(f, "/var/s", file(Kind::Directory, 106, 0o700));
            },
            Grade::Error,
            "/etc/d/subsystems.d/s.toml",
            "user = \"t\"",
        ),
        (
            |f| set(f, "/var/s", file(Kind::Directory, 101, 0o700)),
            Grade::Error,
            "/var/s",
            "chown -R s /var/s",
        ),
    ];
    for (index, (break_it, grade, place, mend)) in table.iter().enumerate() {
        let mut facts = good();
        break_it(&mut facts);
        let found = examine(&facts);
        let [finding] = found.as_slice() else { panic!("{index} {place}: {found:#?}") };
        assert_eq!((finding.grade, finding.place.as_str()), (*grade, *place), "{index}: {finding:?}");
        assert!(finding.mend.contains(mend), "{index} {mend}: {finding:?}");
        assert!(!finding.what.is_empty());
    }
}

#[test]
fn two_services_with_one_user_are_told() {
    let mut facts = good();
    facts.users.insert("c".into(), Some(Ids { uid: 102, gid: 102 }));
    let found = examine(&facts);
    assert!(found.iter().any(|finding| finding.what.contains("the same user: no separation")), "{found:?}");
}
