//! What the file may say, and what is refused.

use super::*;
use crate::session::AtLimit;

#[test]
fn the_example_has_every_key_with_its_default() {
    let text = include_str!("../../../packaging/etc/authd.toml");
    example::check::<Config>(text, &[]);
}

#[test]
fn the_defaults_are_a_configuration() {
    assert_eq!(Config::default().check(), Ok(()));
}

#[test]
fn every_key_says_when_it_takes_effect() {
    assert_eq!(doorward_launch::unlisted(&Config::default(), KEYS), Vec::<String>::new());
}

#[test]
fn there_may_be_no_certd() {
    let mut config = Config::default();
    config.certd.socket = PathBuf::new();
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn what_cannot_be_is_refused_with_its_key() {
    type Change = fn(&mut Config);
    let wrong: &[(&str, Change)] = &[
        ("state_dir", |c| c.state_dir = "var".into()),
        ("certd.socket", |c| c.certd.socket = "certd.sock".into()),
        ("audit.file", |c| c.audit.file = Some("audit.jsonl".into())),
        ("audit.required", |c| {
            c.audit = Audit { file: Some(PathBuf::new()), required: true };
        }),
        ("pam.silent_seconds", |c| c.pam.silent_seconds = 0),
        ("pam.total_seconds", |c| c.pam.total_seconds = 301),
        ("pam.refusal_delay_ms", |c| c.pam.refusal_delay_ms = 10_001),
        ("local_login.uid_min", |c| c.local_login.uid_min = 0),
        ("peers.gateway_ports", |c| c.peers.gateway_ports.clear()),
        ("sessions.total", |c| c.sessions.total = 0),
        ("penalty.failures", |c| c.penalty.failures = 11),
        ("penalty.longest_seconds", |c| c.penalty.longest_seconds = 59),
        ("penalty.account_delay_ms", |c| c.penalty.account_delay_ms = 5_001),
        ("access.limited_acl", |c| c.access.limited_acl.push("a\nb".into())),
        ("access.limited_acl", |c| c.access.limited_acl = vec!["a".repeat(200); 50]),
        // In an assertion these take twice the room.
        ("access.limited_acl", |c| c.access.limited_acl = vec!["\"".repeat(200); 25]),
        ("subsystems.directory", |c| c.subsystems.directory = "subsystems.d".into()),
        ("access.group_acl.staff", |c| {
            c.access.group_acl.insert("staff".into(), vec!["a.#".into(), "a..b".into()]);
        }),
        ("access.group_acl", |c| {
            c.access.group_acl.insert(String::new(), Vec::new());
        }),
        ("token_api.acl", |c| c.token_api.acl.push(String::new())),
        ("token_api.acl", |c| {
            c.token_api.group_acl.insert("a".into(), vec!["a".repeat(256); 200]);
        }),
        ("token_api.group_acl.robots", |c| {
            c.token_api.group_acl.insert("robots".into(), vec!["!".into()]);
        }),
        ("token_api.longest_seconds", |c| c.token_api.longest_seconds = 0),
        ("token_api.longest_seconds", |c| c.token_api.longest_seconds = u32::MAX),
        ("token_api.default_seconds", |c| c.token_api.longest_seconds = 7_199),
        ("token_api.default_seconds", |c| c.token_api.default_seconds = 0),
        ("token_api.default_backend", |c| c.token_api.default_backend = "ldap".into()),
        ("token_api.default_backend", |c| c.token_api.backends.clear()),
        ("token_api.backends", |c| {
            c.token_api.backends.insert("a\nb".into(), Backend::Password);
        }),
        ("access.full_groups", |c| c.access.full_groups.push(String::new())),
    ];
    for (key, change) in wrong {
        let mut config = Config::default();
        change(&mut config);
        assert_eq!(config.check().expect_err("refused").key(), Some(*key));
    }
}

#[test]
fn groups_and_back_ends_are_tables_of_chosen_names() {
    let text = r#"
        [access.group_acl]
        "staff" = ["sysadm.rpc.settings.#"]
        [token_api]
        default_backend = "xivo_user"
        [token_api.backends]
        xivo_user = "password"
        other = "password"
        [token_api.group_acl]
        robots = ["confd.#"]
        [sessions]
        at_limit = "end_oldest"
    "#;
    let config: Config = toml::from_str(text).expect("understood");
    assert_eq!(config.check(), Ok(()));
    assert_eq!(config.groups().further, ["staff"]);
    assert_eq!(config.groups().tokens, ["robots"]);
    assert_eq!(
        config.token_rules(&config.kinds()).expect("good").backends,
        ["xivo_user", "other"],
        "the default first"
    );
    assert_eq!(config.bounds().at_limit, AtLimit::EndOldest);
    assert_eq!(doorward_launch::unlisted(&config, KEYS), Vec::<String>::new());
    assert!(toml::from_str::<Config>("[token_api.backends]\npam = \"kerberos\"").is_err());
}

/// What stands for `change`, in a configuration with one issuer and one authenticator that are good.
fn with_others(change: impl FnOnce(&mut Config)) -> Result<(), doorward_launch::Misconfigured> {
    let text = r#"
        [[jwt]]
        kind = "gate"
        issuer = "https://id.example"
        algorithm = "EdDSA"
        jwks_file = "/etc/doorward/gates.json"
        [[jwt]]
        kind = "user"
        algorithm = "HS256"
        key_file = "/etc/doorward/people.key"
        [[authenticator]]
        kind = "terminal"
        socket = "/run/terminals/auth.sock"
        user = "terminals"
        acl_max = ["ws.group.#", "!ws.group.9.#"]
    "#;
    let mut config: Config = toml::from_str(text).expect("understood");
    change(&mut config);
    assert_eq!(doorward_launch::unlisted(&config, KEYS), Vec::<String>::new());
    config.check()
}

#[test]
fn other_identities_have_a_kind_each_and_a_maximum_that_is_none_of_the_hosts() {
    assert_eq!(with_others(|_| ()), Ok(()));
    let defaults = |config: &mut Config| {
        let plugin = &config.authenticator[0];
        assert_eq!((plugin.seconds, plugin.concurrent), (5, 16));
        let maximum: Vec<_> = config.issuers().iter().map(|issuer| issuer.acl_max.to_vec()).collect();
        assert_eq!(maximum, [vec![], vec!["ws.#".to_owned()]]);
        assert_eq!(config.others().keys().collect::<Vec<_>>(), ["gate", "terminal"]);
        assert_eq!(
            config.token_rules(&config.kinds()).expect("good").backends,
            ["pam", "wazo_user", "xivo_user", "terminal"]
        );
        config.token_api.default_backend = "terminal".into();
    };
    assert_eq!(with_others(defaults), Ok(()));
    type Change = fn(&mut Config);
    let wrong: &[(&str, Change)] = &[
        ("jwt.kind", |c| c.jwt[0].kind = "Gate".into()),
        ("jwt.kind", |c| c.jwt[0].kind = "system".into()),
        ("jwt.kind", |c| c.jwt[0].kind = String::new()),
        ("jwt.issuer", |c| c.jwt[1].issuer = c.jwt[0].issuer.clone()),
        ("jwt.issuer", |c| c.jwt[0].issuer = None),
        ("jwt.issuer", |c| c.jwt[0].issuer = Some(String::new())),
        ("jwt.kind", |c| c.jwt[1].kind = "gate".into()),
        ("jwt.key_file", |c| c.jwt[0].jwks_file = None),
        ("jwt.key_file", |c| c.jwt[0].key_file = Some("/x".into())),
        ("jwt.key_file", |c| c.jwt[0].jwks_file = Some("gates.json".into())),
        ("jwt.user_claim", |c| c.jwt[0].user_claim = String::new()),
        ("jwt.acl_max", |c| c.jwt[0].acl_max = Some(vec!["#".into()])),
        ("jwt.acl_max", |c| c.jwt[1].acl_max = Some(vec!["sysadm.rpc.query._".into()])),
        ("jwt.acl_max", |c| c.jwt[1].acl_max = Some(vec!["a".repeat(256); 40])),
        ("authenticator.kind", |c| c.authenticator[0].kind = "user".into()),
        ("authenticator.kind", |c| c.authenticator[0].kind = "jwt".into()),
        ("authenticator.kind", |c| c.authenticator[0].kind = "pam".into()),
        ("authenticator.kind", |c| c.authenticator[0].kind = "gate".into()),
        ("authenticator.kind", |c| {
            let again = c.authenticator[0].clone();
            c.authenticator.push(again);
        }),
        ("authenticator.socket", |c| c.authenticator[0].socket = "auth.sock".into()),
        ("authenticator.acl_max", |c| c.authenticator[0].acl_max.push("*.#".into())),
        ("authenticator.acl_max", |c| c.authenticator[0].acl_max.push("me.x".into())),
        ("authenticator.seconds", |c| c.authenticator[0].seconds = 0),
        ("authenticator.concurrent", |c| c.authenticator[0].concurrent = 0),
    ];
    for (key, change) in wrong {
        assert_eq!(with_others(change).expect_err("refused").key(), Some(*key));
    }
    let none = "[[jwt]]\nkind = \"user\"\nalgorithm = \"none\"\nkey_file = \"/x\"";
    assert!(toml::from_str::<Config>(none).is_err());
}
