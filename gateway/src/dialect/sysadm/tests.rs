//! Envelopes, one line each, and then whatever proptest thinks of.

use proptest::prelude::*;

use super::*;
use crate::call::EndReason;

const DEPTH: usize = 32;
const TOKEN: &str = "0af6c1a8-9c4d-4f0a-9a53-0123456789ab";

/// What the reply repeats, and the code of the refusal; 0 for a request that was understood.
fn check(text: &str, namespace: &str, id: &str, expected: u16) {
    let decoded = decode(text, DEPTH);
    assert_eq!((&*decoded.echo.namespace, &*decoded.echo.id), (namespace, id), "{text}");
    assert_eq!(decoded.request.err().map_or(0, |error| error.code()), expected, "{text}");
}

fn refusal(text: &str) -> String {
    match decode(text, DEPTH).request {
        Err(error) => String::from_utf8(encode(&Envelope::default(), &Reply::Error(error))).expect("UTF-8"),
        Ok(request) => panic!("{text} was understood as {request:?}"),
    }
}

fn call(text: &str) -> Call {
    decode(text, DEPTH).request.expect(text).call
}

#[test]
fn replies_repeat_what_was_written() {
    check(r#"{"namespace":"rpc","name":"query","id":"a","args":{}}"#, r#""rpc""#, r#""a""#, 0);
    check(r#"{"namespace":"RpC","name":"QUERY"}"#, r#""RpC""#, r#""""#, 0);
    check(r#"{"namespace":"r\u0070c","name":"query"}"#, r#""r\u0070c""#, r#""""#, 0);
    check(r#"{"namespace":"rpc","name":"query","id":null}"#, r#""rpc""#, "null", 0);
    check(r#"{"namespace":"rpc","name":"query","id":1.50}"#, r#""rpc""#, "1.50", 0);
    check(
        r#"{"namespace":"rpc","name":"query","id":{"b" :1,"a":[ ]}}"#,
        r#""rpc""#,
        r#"{"b" :1,"a":[ ]}"#,
        0,
    );
    check(r#"{"namespace":"rpc","name":"query","id":"\ud800"}"#, r#""rpc""#, r#""\ud800""#, 0);
    check(
        r#"{"namespace":"rpc","name":"query","id":123456789012345678901234567890}"#,
        r#""rpc""#,
        "123456789012345678901234567890",
        0,
    );
    check(r#" {"id":"\u00e9","name":"x","namespace":"y"} "#, r#""y""#, r#""\u00e9""#, 0);
}

#[test]
fn errors_repeat_what_could_be_read() {
    check("", r#""rpc""#, r#""""#, 400);
    check("x", r#""rpc""#, r#""""#, 400);
    check("[]", r#""rpc""#, r#""""#, 400);
    check(r#""text""#, r#""rpc""#, r#""""#, 400);
    check(r#"{"namespace":"a","name":"b"} x"#, r#""rpc""#, r#""""#, 400);
    check(r#"{"id":7}"#, r#""rpc""#, "7", 400);
    check(r#"{"id":7,"namespace":"a"}"#, r#""a""#, "7", 400);
    check(r#"{"id":7,"name":"a"}"#, r#""rpc""#, "7", 400);
    check(r#"{"id":7,"namespace":1,"name":"a"}"#, r#""rpc""#, "7", 400);
    check(r#"{"id":7,"namespace":null,"name":"a"}"#, r#""rpc""#, "7", 400);
    check(r#"{"id":7,"namespace":"","name":"a"}"#, r#""""#, "7", 400);
    check(r#"{"id":7,"namespace":"\ud800","name":"a"}"#, r#""rpc""#, "7", 400);
    check(r#"{"id":7,"namespace":"a","name":""}"#, r#""a""#, "7", 400);
    check(r#"{"id":7,"namespace":"a","name":"b","args":1,"args":2}"#, r#""a""#, "7", 400);
    check(r#"{"id":7,"namespace":"a","name":"b","id":8}"#, r#""a""#, "7", 400);
    check(r#"{"namespace":"a","name":"b","extra":1,"extra":2}"#, r#""a""#, r#""""#, 0);
}

#[test]
fn nesting_has_a_limit() {
    let nested = |n: usize| {
        let (open, close) = ("[".repeat(n), "]".repeat(n));
        format!(r#"{{"namespace":"rpc","name":"query","args":{open}{close}}}"#)
    };
    check(&nested(30), r#""rpc""#, r#""""#, 0);
    check(&nested(31), r#""rpc""#, r#""""#, 0);
    check(&nested(32), r#""rpc""#, r#""""#, 400);
    check(&nested(100_000), r#""rpc""#, r#""""#, 400);
}

#[test]
fn a_bad_request_says_which_field_and_what() {
    for (text, expected) in [
        ("x", "the message is not JSON"),
        ("[]", "the message is not an object"),
        (&"[".repeat(33), "nested too deeply"),
        ("{}", "namespace is missing"),
        (r#"{"namespace":1}"#, "namespace must be a string"),
        (r#"{"namespace":""}"#, "namespace is empty"),
        (r#"{"namespace":"rpc"}"#, "name is missing"),
        (r#"{"namespace":"rpc","name":[]}"#, "name must be a string"),
        (r#"{"namespace":"rpc","name":"a","name":"b"}"#, "name is given twice"),
        (r#"{"namespace":"rpc","name":"auth","args":""}"#, "args must be an object"),
        (r#"{"namespace":"rpc","name":"auth","args":{"username":1}}"#, "username must be a string"),
        (r#"{"namespace":"rpc","name":"auth","args":{"password":null}}"#, "password must be a string"),
        (
            r#"{"namespace":"rpc","name":"auth","args":{"username":"a","username":"b"}}"#,
            "username is given twice",
        ),
        (r#"{"namespace":"rpc","name":"auth_token","args":[]}"#, "args must be an object"),
        (r#"{"namespace":"rpc","name":"auth_token","args":{"token":1}}"#, "token must be a string"),
        (r#"{"namespace":"rpc","name":"auth_respond","args":{}}"#, "conversation is missing"),
        (
            r#"{"namespace":"rpc","name":"auth_respond","args":{"conversation":1}}"#,
            "conversation must be a string",
        ),
        (r#"{"namespace":"rpc","name":"auth_respond","args":{"conversation":"c"}}"#, "answers is missing"),
        (
            r#"{"namespace":"rpc","name":"auth_respond","args":{"conversation":"c","answers":"a"}}"#,
            "answers must be an array of strings",
        ),
        (
            r#"{"namespace":"rpc","name":"auth_respond","args":{"conversation":"c","answers":[1]}}"#,
            "answers must be an array of strings",
        ),
        (
            r#"{"namespace":"rpc","name":"auth_respond","args":{"conversation":"c","answers":["\u0000"]}}"#,
            "an answer is too long or holds NUL",
        ),
    ] {
        let expected = format!(
            r#"{{"args":{{"code":400,"message":"Bad Request: {expected}"}},"id":"","name":"error","namespace":"rpc"}}"#
        );
        assert_eq!(refusal(text), expected, "{text}");
    }
}

#[test]
fn calls_are_what_their_rows_say() {
    assert!(matches!(call(r#"{"namespace":"rpc","name":"identify","args":""}"#), Call::Identify));
    assert!(matches!(call(r#"{"namespace":"Rpc","name":"Query","args":[1]}"#), Call::Query));
    assert!(matches!(call(r#"{"namespace":"sysadm","name":"fs"}"#), Call::Subsystem(_)));
    assert!(matches!(call(r#"{"namespace":"sysadm","name":"f s"}"#), Call::Absent));
    for (text, reply) in [
        (r#"{"namespace":"rpc","name":"auth_clear"}"#, false),
        (r#"{"namespace":"rpc","name":"auth_clear","args":""}"#, false),
        (r#"{"namespace":"rpc","name":"auth_clear","args":{"reply":1}}"#, false),
        (r#"{"namespace":"rpc","name":"auth_clear","args":{"reply":true}}"#, true),
        (r#"{"namespace":"rpc","name":"auth_clear","reply":true}"#, true),
    ] {
        assert!(matches!(call(text), Call::AuthClear { reply: found } if found == reply), "{text}");
    }
}

#[test]
fn credentials_come_from_args_or_from_the_object_itself() {
    for (text, username, password) in [
        (r#"{"namespace":"rpc","name":"auth","args":{"username":"u","password":"p"}}"#, "u", "p"),
        (r#"{"namespace":"rpc","name":"auth","username":"u","password":"p"}"#, "u", "p"),
        (
            r#"{"namespace":"rpc","name":"auth","args":{"username":"\u00fc\n","password":"\"\\"}}"#,
            "ü\n",
            "\"\\",
        ),
        (r#"{"namespace":"rpc","name":"auth","args":{}}"#, "", ""),
    ] {
        let Call::Auth(credentials) = call(text) else { panic!("{text}") };
        assert_eq!((&*credentials.username, credentials.password.expose()), (username, password), "{text}");
    }
}

#[test]
fn tokens_and_answers_are_read() {
    let token = |token: &str| {
        let text = format!(r#"{{"namespace":"rpc","name":"auth_token","args":{{"token":"{token}"}}}}"#);
        let Call::AuthToken(token) = call(&text) else { panic!("{text}") };
        token.map(|token| token.expose().to_owned())
    };
    assert_eq!(token(TOKEN).as_deref(), Some(TOKEN));
    assert_eq!(token(""), None);
    assert_eq!(token("operator"), None);
    let absent = call(r#"{"namespace":"rpc","name":"auth_token","args":{}}"#);
    assert!(matches!(absent, Call::AuthToken(None)));

    let respond = |answers: &str| {
        let text = format!(
            r#"{{"namespace":"rpc","name":"auth_respond","args":{{"conversation":"c","answers":{answers}}}}}"#
        );
        match decode(&text, DEPTH).request {
            Ok(Request { call: Call::AuthRespond(answers), .. }) => Some(answers.answers.len()),
            _ => None,
        }
    };
    assert_eq!(respond("[]"), Some(0));
    assert_eq!(respond(r#"["a","b"]"#), Some(2));
    let many = |n: usize| format!("[{}]", vec![r#""a""#; n].join(","));
    assert_eq!([31, 32, 33].map(|n| respond(&many(n))), [Some(31), Some(32), None]);
    let long = |n: usize| format!(r#"["{}"]"#, "a".repeat(n));
    assert_eq!([511, 512, 513].map(|n| respond(&long(n))), [Some(1), Some(1), None]);
}

/// `challenge`, `refused` (no proof), or the parts of the proof; the code where the args are wrong.
fn auth_ssl_of(args: &str) -> String {
    let text = format!(r#"{{"namespace":"rpc","name":"auth_ssl","args":{args}}}"#);
    match decode(&text, DEPTH).request {
        Ok(Request { call: Call::AuthSsl(AuthSsl::Challenge), .. }) => "challenge".to_owned(),
        Ok(Request { call: Call::AuthSsl(AuthSsl::Proof(None)), .. }) => "refused".to_owned(),
        Ok(Request { call: Call::AuthSsl(AuthSsl::Proof(Some(proof))), .. }) => {
            let first = proof.fingerprint.map(|fingerprint| fingerprint[0]);
            format!("{:?} {} {first:?}", proof.signature, proof.username)
        }
        Ok(request) => panic!("{args}: {request:?}"),
        Err(error) => error.code().to_string(),
    }
}

#[test]
fn the_stages_of_auth_ssl_are_told_apart() {
    let hash = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s";
    for (args, expected) in [
        (r#""""#, "challenge"),
        ("{}", "challenge"),
        (r#"{"username":"u"}"#, "challenge"),
        (r#"{"fingerprint":"not one"}"#, "challenge"),
        (r#"{"md5_key":"x"}"#, "challenge"),
        (r#"{"encrypted_string":"AAEC"}"#, "[0, 1, 2]  None"),
        (r#"{"encrypted_string":"AA\nEC","username":"u"}"#, "[0, 1, 2] u None"),
        (r#"{"encrypted_string":"AAEC","fingerprint":""}"#, "[0, 1, 2]  None"),
        (r#"{"encrypted_string":""}"#, "refused"),
        (r#"{"encrypted_string":"AAE"}"#, "refused"),
        (r#"{"encrypted_string":"?"}"#, "refused"),
        (r#"{"encrypted_string":"AAEC","username":"a/b"}"#, "refused"),
        (r#"{"encrypted_string":"AAEC","fingerprint":"MD5:AAEC"}"#, "refused"),
        (r#"{"encrypted_string":"AAEC","fingerprint":"SHA256:AAEC"}"#, "refused"),
        (r#""x""#, "400"),
        ("[]", "400"),
        ("null", "400"),
        (r#"{"encrypted_string":1}"#, "400"),
        (r#"{"username":1}"#, "400"),
        (r#"{"fingerprint":[]}"#, "400"),
        (r#"{"encrypted_string":"AAEC","encrypted_string":"AAED"}"#, "400"),
    ] {
        assert_eq!(auth_ssl_of(args), expected, "{args}");
    }
    for padding in ["", "="] {
        let args = format!(r#"{{"encrypted_string":"AAEC","fingerprint":"SHA256:{hash}{padding}"}}"#);
        assert_eq!(auth_ssl_of(&args), "[0, 1, 2]  Some(171)");
    }
    let absent = decode(r#"{"namespace":"rpc","name":"auth_ssl"}"#, DEPTH).request.expect("a request");
    assert!(matches!(absent.call, Call::AuthSsl(AuthSsl::Challenge)));
}

#[test]
fn replies_are_written_in_the_order_that_clients_know() {
    let echo = || decode(r#"{"namespace":"RPC","name":"query","id":[1]}"#, DEPTH).echo;
    let write = |reply: Reply| String::from_utf8(encode(&echo(), &reply)).expect("UTF-8");
    let token = Token::parse(Secret::new(TOKEN.to_owned())).expect("a token");
    for (reply, args, name) in [
        (Answer::Done, "{}".to_owned(), "response"),
        (
            Answer::Server { hostname: "h\"\u{1}".into() },
            r#"{"hostname":"h\"\u0001","type":"server"}"#.to_owned(),
            "response",
        ),
        (Answer::Granted { token, seconds: 300 }, format!(r#"["{TOKEN}",300]"#), "response"),
        (Answer::Rows([].into()), "{}".to_owned(), "response"),
        (
            Answer::Challenge(crate::call::Challenge { test_string: "s".into(), context: "c\"".into() }),
            r#"{"context":"c\"","test_string":"s"}"#.to_owned(),
            "response",
        ),
        (Answer::Keys(vec![]), "{}".to_owned(), "response"),
        (Answer::Checksums(vec![]), r#"{"md5_keys":[]}"#.to_owned(), "response"),
        (
            Answer::Rows([("rpc/settings".into(), Right::Write), ("sysadm/fs".into(), Right::Read)].into()),
            r#"{"rpc/settings":"read/write","sysadm/fs":"read"}"#.to_owned(),
            "response",
        ),
        (
            Answer::Prompts(crate::call::Prompts {
                conversation: "c".into(),
                prompts: [Style::Hidden, Style::Visible, Style::Info, Style::Error]
                    .map(|style| crate::call::Prompt { style, text: "T\n".into() })
                    .into(),
            }),
            [
                r#"{"conversation":"c","prompts":[{"style":"hidden","text":"T\n"},"#,
                r#"{"style":"visible","text":"T\n"},{"style":"info","text":"T\n"},"#,
                r#"{"style":"error","text":"T\n"}]}"#,
            ]
            .concat(),
            "response",
        ),
    ] {
        let expected = format!(r#"{{"args":{args},"id":[1],"name":"{name}","namespace":"RPC"}}"#);
        assert_eq!(write(Reply::Answer(reply)), expected);
    }
    for (error, code, message) in [
        (Error::Unauthorized, 401, "Unauthorized"),
        (Error::Forbidden, 403, "Forbidden"),
        (Error::NotFound, 404, "Not Found"),
        (Error::TimedOut, 408, "Request Timeout"),
        (Error::TooLarge, 413, "Payload Too Large"),
        (Error::TooMany, 429, "Too Many Requests"),
        (Error::Fault, 500, "Internal Server Error"),
        (Error::Unavailable, 503, "Service Unavailable"),
    ] {
        let args = format!(r#"{{"code":{code},"message":"{message}"}}"#);
        let expected = format!(r#"{{"args":{args},"id":[1],"name":"error","namespace":"RPC"}}"#);
        assert_eq!(write(Reply::Error(error)), expected);
    }
}

#[test]
fn the_end_of_a_session_is_an_event() {
    for (reason, word) in
        [(EndReason::Expired, "expired"), (EndReason::Revoked, "revoked"), (EndReason::Cleared, "revoked")]
    {
        let text = String::from_utf8(encode_ended(reason)).expect("UTF-8");
        let expected = format!(
            r#"{{"args":{{"reason":"{word}","seconds":0}},"id":"","name":"auth","namespace":"events"}}"#
        );
        assert_eq!(text, expected);
    }
}

/// Every message has exactly one reply, which is an envelope again and says what the message said.
fn has_a_reply(text: &str) -> Result<(), TestCaseError> {
    let decoded = decode(text, DEPTH);
    let reply = Reply::Error(decoded.request.err().unwrap_or(Error::NotFound));
    let reply = encode(&decoded.echo, &reply);
    let reply: serde_json::Value = serde_json::from_slice(&reply)
        .or_else(|error| {
            // An id with a lone surrogate is repeated as it came, and serde_json reads none of those.
            if text.contains("\\u") { Ok(serde_json::Value::Null) } else { Err(error) }
        })
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    if let (Ok(request), false) = (serde_json::from_str::<serde_json::Value>(text), reply.is_null())
        && let Some(id) = request.get("id")
        && decoded_once(text)
    {
        prop_assert_eq!(reply.get("id"), Some(id));
    }
    Ok(())
}

fn decoded_once(text: &str) -> bool {
    text.matches("\"id\"").count() == 1 && !json::deeper_than(text, DEPTH)
}

proptest! {
    #[test]
    fn any_text_has_one_reply(text in "\\PC{0,200}") {
        has_a_reply(&text)?;
    }

    #[test]
    fn any_near_envelope_has_one_reply(parts in proptest::collection::vec(
        proptest::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u00", "\\ud800", " ", "\u{0}", "1", "-", "e9",
            "null", "true", "\"id\"", "\"id\":1", "\"namespace\":", "\"name\":", "\"args\":", "\"rpc\"",
            "\"auth\"", "\"auth_respond\"", "\"auth_token\"", "\"query\"", "\"settings\"", "\"auth_ssl\"", "{\"namespace\":\"rpc\",",
            "\"username\":", "\"password\":", "\"answers\":", "\"conversation\":", "\u{10ffff}",
        ]), 0..40)) {
        has_a_reply(&parts.concat())?;
    }

    #[test]
    fn any_value_is_repeated(id in json_value(), args in json_value(), row in 0_usize..10) {
        let name = [
            "identify", "auth", "auth_respond", "auth_token", "auth_clear", "query", "auth_ssl", "settings", "x", "",
        ][row];
        let text = serde_json::json!({"namespace": "rpc", "name": name, "id": id, "args": args}).to_string();
        has_a_reply(&text)?;
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "\\PC{0,8}".prop_map(serde_json::Value::String),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::vec(
                (
                    proptest::sample::select(vec![
                        "username",
                        "password",
                        "token",
                        "answers",
                        "action",
                        "pub_key",
                        "encrypted_string",
                        "fingerprint",
                        "x"
                    ]),
                    inner
                ),
                0..4
            )
            .prop_map(|members| serde_json::Value::Object(
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}
