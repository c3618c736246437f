//! What the file may say, and what is refused.

use super::*;

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
    assert_eq!(config.token_api.rules().backends, ["xivo_user", "other"], "the default first");
    assert_eq!(config.bounds().at_limit, AtLimit::EndOldest);
    assert_eq!(doorward_launch::unlisted(&config, KEYS), Vec::<String>::new());
    assert!(toml::from_str::<Config>("[token_api.backends]\npam = \"kerberos\"").is_err());
}
