//! A request of plain HTTP as a client sends it, as far as the reading of it is ours. Whatever it is, it becomes a
//! request or an error, and what is told of that is JSON.
#![no_main]

use doorward_gateway::{
    call::{Credentials, Reply, Secret},
    dialect::{rest, token},
};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};

libfuzzer_sys::fuzz_target!(|input: (&str, &str, Vec<&[u8]>, &[u8])| {
    let (path, query, values, body) = input;
    let mut headers = HeaderMap::new();
    for value in values.into_iter().take(4).filter_map(|value| HeaderValue::from_bytes(value).ok()) {
        headers.append(AUTHORIZATION, value.clone());
        headers.append(CONTENT_TYPE, value);
    }
    let _ = (rest::authorization(&headers), rest::is_json(&headers));
    if let Some(row) = rest::row(path)
        && let Err(error) = rest::decode(row, body, 32)
    {
        let (status, told) = rest::encode(&Reply::Error(error));
        assert!((400..600).contains(&status));
        assert!(told.starts_with(b"{") && told.ends_with(b"}"));
    }
    if let Some(found) = token::find(path) {
        // The log has the template alone.
        assert_eq!(found.token.is_some(), found.token.is_some() && found.template.contains("{token}"));
    }
    let _ = token::scope(Some(query));
    let credentials = Credentials { username: String::new(), password: Secret::new(String::new()) };
    let _ = token::wish(body, 32, credentials);
    if let Ok(scopes) = token::wished_scopes(body, 32) {
        let answers = scopes.into_iter().map(|scope| (scope, false)).collect();
        assert!(token::scopes(answers).ends_with(b"}"));
    }
});
