//! What the file may say, and what is refused.

use super::*;

#[test]
fn the_example_has_every_key_with_its_default() {
    let text = include_str!("../../../packaging/etc/gateway.toml");
    example::check::<Config>(text, &["exempt", "pace", "every", "within"]);
}

fn refused(text: &str) -> Option<String> {
    let config: Config = toml_like(text);
    config.check().err().map(|wrong| wrong.key().unwrap_or_default().to_owned())
}

/// JSON has the same shape as the file, and its parser is here anyway.
fn toml_like(text: &str) -> Config {
    serde_json::from_str(text).expect("well formed")
}

#[test]
fn every_key_has_a_default() {
    let config = toml_like("{}");
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    config.check().expect("the defaults are good");
    assert_eq!(config.listen.tls.len(), 4);
    let parts = toml_like(r#"{"limits":{"in_flight":7},"timers":{},"listen":{"unix":""}}"#);
    assert_eq!((parts.limits.in_flight, parts.limits.per_source), (7, 8));
}

#[test]
fn every_key_says_when_it_takes_effect() {
    assert_eq!(doorward_launch::unlisted(&Config::default(), KEYS), Vec::<String>::new());
}

#[test]
fn certd_is_somebody_or_there_is_none() {
    let uid = |text: &str| toml_like(text).certd_uid();
    assert_eq!(uid(r#"{"certd":{"user":"12"}}"#).expect("a number"), Some(12));
    assert_eq!(uid(r#"{"certd":{"socket":"","user":"no such user"}}"#).expect("nobody is asked"), None);
    let refused = uid(r#"{"certd":{"user":"no such user"}}"#).expect_err("unknown");
    assert_eq!(refused.key(), Some("certd.user"));
    let config = toml_like(r#"{"certd":{"socket":"/c"}}"#);
    assert_eq!(config.backend(1, Some(2)).certd, Some(("/c".into(), 2)));
    assert_eq!(config.backend(1, None).certd, None);
}

#[test]
fn unknown_keys_are_refused() {
    for text in [
        r#"{"x":1}"#,
        r#"{"limits":{"x":1}}"#,
        r#"{"exempt":0}"#,
        r#"{"tls":{"ca":"x"}}"#,
        r#"{"http":{"trusted_proxies":["::/0"]}}"#,
    ] {
        assert!(serde_json::from_str::<Config>(text).is_err(), "{text}");
    }
}

#[test]
fn what_cannot_work_is_named() {
    for (text, key) in [
        (r#"{"tls":{"certificate":"/c"}}"#, "tls"),
        (r#"{"tls":{"key":"/k"}}"#, "tls"),
        (r#"{"listen":{"tls":[],"token":[],"unix":""}}"#, "listen"),
        (r#"{"listen":{"token_plain":["127.0.0.1:1","192.0.2.1:1"]}}"#, "listen.token_plain"),
        (r#"{"token_api":{"server_uuid":"x"}}"#, "token_api.server_uuid"),
        (r#"{"limits":{"token_body":1}}"#, "limits.token_body"),
        (r#"{"timers":{"body_seconds":0}}"#, "timers.body_seconds"),
        (r#"{"limits":{"in_flight":0}}"#, "limits.in_flight"),
        (r#"{"limits":{"in_flight":1025}}"#, "limits.in_flight"),
        (r#"{"limits":{"json_depth":128}}"#, "limits.json_depth"),
        (r#"{"limits":{"per_source":0}}"#, "limits.per_source"),
        (r#"{"limits":{"connections_per_source":0}}"#, "limits.connections_per_source"),
        (r#"{"limits":{"message_before_login":255}}"#, "limits.message_before_login"),
        (r#"{"limits":{"message_after_login":4096}}"#, "limits.message_after_login"),
        (r#"{"timers":{"login_seconds":0}}"#, "timers.login_seconds"),
        (r#"{"timers":{"login_seconds":86401}}"#, "timers.login_seconds"),
    ] {
        assert_eq!(refused(text).as_deref(), Some(key), "{text}");
    }
}
