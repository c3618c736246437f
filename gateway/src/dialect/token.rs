//! The HTTP token API: which requests there are, what they ask, and how they are answered.
//!
//! Compatible with xivo-auth 0.1; the texts of errors are compared by its clients.

mod body;

use std::{borrow::Cow, sync::LazyLock};

use hyper::Method;
use percent_encoding::percent_decode_str;

pub use self::body::{backends, done, error, scopes, token, wish, wished_scopes};
use crate::call::{Secret, Token};

/// Every route stands below each of these.
const PREFIXES: [&str; 2] = ["/0.1", "/api/auth/0.1"];

/// The description of all routes for clients (OpenAPI 3.0).
pub const DOCUMENT: &str = include_str!("token/api.yml");

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Where tokens are asked for.
    Tokens,
    /// One token.
    Token,
    /// Questions about one token.
    Scopes,
    /// The names of back ends.
    Backends,
    /// The description of the API.
    Document,
    /// Whether all is well.
    Status,
}

/// What is asked for there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A new token.
    Issue,
    /// What a token is.
    Look,
    /// Whether it may do this.
    Check,
    /// Its end.
    Revoke,
    /// Whether it may do each of these.
    Scopes,
    /// See [`Route::Backends`].
    Backends,
    /// See [`Route::Document`].
    Document,
    /// See [`Route::Status`].
    Status,
}

/// The methods of a route, and what each means there.
type Methods = &'static [(Method, Asked)];

/// All of them: below a prefix, with `{token}` for a part that is one.
pub const ROUTES: &[(Route, &str, Methods)] = &[
    (Route::Tokens, "/token", &[(Method::POST, Asked::Issue)]),
    (
        Route::Token,
        "/token/{token}",
        &[(Method::GET, Asked::Look), (Method::HEAD, Asked::Check), (Method::DELETE, Asked::Revoke)],
    ),
    (Route::Scopes, "/token/{token}/scopes/check", &[(Method::POST, Asked::Scopes)]),
    (Route::Backends, "/backends", &[(Method::GET, Asked::Backends), (Method::HEAD, Asked::Backends)]),
    (Route::Document, "/api/api.yml", &[(Method::GET, Asked::Document), (Method::HEAD, Asked::Document)]),
    (Route::Status, "/status", &[(Method::HEAD, Asked::Status)]),
];

/// A path of this API.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub route: Route,
    /// The token in it, where there is one that can be one.
    pub token: Option<Token>,
    /// How it is written, without the token: for the log.
    pub template: &'static str,
    methods: Methods,
}

impl Found {
    /// What this method asks here.
    pub fn asked(&self, method: &Method) -> Option<Asked> {
        self.methods.iter().find(|(known, _)| known == method).map(|(_, asked)| *asked)
    }

    /// The methods that there are here, as `Allow` tells them (RFC 9110, 10.2.1).
    pub fn allow(&self) -> String {
        let mut allow: String = self.methods.iter().map(|(method, _)| format!("{method}, ")).collect();
        allow.push_str("OPTIONS");
        allow
    }
}

/// The route of a path; None: it is not of this API.
pub fn find(path: &str) -> Option<Found> {
    let rest = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix))?;
    static AROUND: LazyLock<Vec<Option<(&str, &str)>>> =
        LazyLock::new(|| ROUTES.iter().map(|(_, template, _)| template.split_once("{token}")).collect());
    ROUTES.iter().zip(&*AROUND).find_map(|((route, template, methods), around)| {
        let token = match around {
            None => (rest == *template).then_some(None),
            Some((before, after)) => {
                let part = rest.strip_prefix(before)?.strip_suffix(after)?;
                (!part.is_empty() && !part.contains('/')).then_some(Some(part))
            }
        }?;
        let token = token.and_then(|part| {
            let text = percent_decode_str(part).decode_utf8().ok()?;
            Token::parse(Secret::new(text.into_owned()))
        });
        Some(Found { route: *route, token, template, methods })
    })
}

/// The first `scope` of a query (application/x-www-form-urlencoded). What is no UTF-8 in it is replaced, by
/// something that no entry but the widest grants.
pub fn scope(query: Option<&str>) -> Option<Cow<'_, str>> {
    let value = query?.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode_str(name).decode_utf8_lossy() == "scope").then_some(value)
    })?;
    let spaces = value.replace('+', " ");
    Some(Cow::Owned(percent_decode_str(&spaces).decode_utf8_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0af6c1a8-9c4d-4f0a-9a53-0123456789ab";

    fn route(path: &str) -> Option<(Route, bool)> {
        find(path).map(|found| (found.route, found.token.is_some()))
    }

    #[test]
    fn every_route_is_found_under_both_prefixes_and_nothing_else() {
        for prefix in PREFIXES {
            for (path, expected) in [
                ("/token".to_owned(), Some((Route::Tokens, false))),
                (format!("/token/{TOKEN}"), Some((Route::Token, true))),
                (format!("/token/%30{}", &TOKEN[1..]), Some((Route::Token, true))),
                ("/token/x".into(), Some((Route::Token, false))),
                ("/token/%ff".into(), Some((Route::Token, false))),
                (format!("/token/{TOKEN}/scopes/check"), Some((Route::Scopes, true))),
                ("/backends".into(), Some((Route::Backends, false))),
                ("/api/api.yml".into(), Some((Route::Document, false))),
                ("/status".into(), Some((Route::Status, false))),
                ("/token/".into(), None),
                (format!("/token/{TOKEN}/"), None),
                (format!("/token/{TOKEN}/scopes"), None),
                ("/token//scopes/check".into(), None),
                (String::new(), None),
                ("/tokens".into(), None),
            ] {
                assert_eq!(route(&format!("{prefix}{path}")), expected, "{prefix}{path}");
            }
        }
        for path in ["/token", "/0.2/token", "/api/0.1/token", "/0.1token", "/api/auth/token"] {
            assert_eq!(route(path), None, "{path}");
        }
    }

    #[test]
    fn methods_are_told() {
        let found = find(&format!("/0.1/token/{TOKEN}")).expect("a route");
        assert_eq!(found.allow(), "GET, HEAD, DELETE, OPTIONS");
        assert_eq!(found.asked(&Method::HEAD), Some(Asked::Check));
        assert_eq!(found.asked(&Method::POST), None);
    }

    #[test]
    fn the_first_scope_counts_and_an_empty_one_is_one() {
        for (query, expected) in [
            (None, None),
            (Some(""), None),
            (Some("x=1"), None),
            (Some("scope"), Some("")),
            (Some("scope="), Some("")),
            (Some("scope=a.b"), Some("a.b")),
            (Some("x=1&scope=a.%23&scope=b"), Some("a.#")),
            (Some("%73cope=a+b%2B"), Some("a b+")),
            (Some("scope=%zz"), Some("%zz")),
            (Some("scope=%ff"), Some("\u{fffd}")),
            (Some("Scope=a"), None),
        ] {
            assert_eq!(scope(query).as_deref(), expected, "{query:?}");
        }
    }

    #[test]
    fn the_document_describes_every_route_and_method_and_no_other() {
        let mut described = Vec::new();
        let mut path = None;
        for line in DOCUMENT.lines().skip_while(|line| *line != "paths:").skip(1) {
            match line.len() - line.trim_start().len() {
                0 if !line.is_empty() => break,
                2 => path = line.trim().strip_suffix(':').map(str::to_owned),
                4 => {
                    let word = line.trim().trim_end_matches(':').to_ascii_uppercase();
                    if let Some(path) = path.clone().filter(|_| word != "PARAMETERS") {
                        described.push((path, word));
                    }
                }
                _ => {}
            }
        }
        // Every GET can be asked as HEAD (RFC 9110, 9.3.2), which need not be said.
        let needless = |methods: &[(Method, Asked)], method: &Method, asked: Asked| {
            *method == Method::HEAD && methods.contains(&(Method::GET, asked))
        };
        let mut served: Vec<_> = ROUTES
            .iter()
            .flat_map(|(_, path, methods)| {
                let told = methods.iter().filter(|(method, asked)| !needless(methods, method, *asked));
                told.map(|(method, _)| ((*path).to_owned(), method.to_string()))
            })
            .collect();
        described.sort();
        served.sort();
        assert_eq!(described, served);
    }
}
