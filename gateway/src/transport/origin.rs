//! Which web pages may talk to us: the rules on `Origin`, `Sec-Fetch-Site` and `Host`.
//!
//! A browser lets any page open a WebSocket to any host and tells only here where the page is from.

use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::{
    Uri,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    http::uri::Authority,
};

/// The Origin that SysAdm clients send.
const SYSADM_CLIENT: &str = "sysadm-client";

/// What configuration allows beside the built-in rules.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Origins, compared byte by byte.
    pub origins: Vec<String>,
    /// Host names, with a port or for every port.
    pub hosts: Vec<String>,
    /// Origins whose pages may use the token API from another site (CORS).
    pub token_origins: Vec<String>,
}

/// Whose pages a request can be from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    /// Of this site, and of those listed.
    Own,
    /// Of any site that may use the token API, too: that takes what no page has by itself.
    Token,
}

/// How the request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// TLS from another host.
    Remote,
    /// TLS from this host.
    Loopback,
    /// This host, without TLS.
    Plain,
    /// The Unix socket.
    Unix,
}

/// Refused, and nothing more is said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// A request that may be looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// Nothing says that a web page or a proxy stands between the local user and us.
    pub(super) direct: bool,
}

impl Rules {
    pub(super) fn judge(
        &self,
        path: Path,
        pages: Pages,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Admitted, Refused> {
        if pages == Pages::Token && self.shares_tokens_with(headers).is_some() {
            self.judge_host(path, host(uri, headers)?.as_ref())?;
            return Ok(Admitted { direct: false });
        }
        let cross_site = HeaderName::from_static("sec-fetch-site");
        if headers.get_all(cross_site).iter().any(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site"))
        {
            return Err(Refused);
        }
        let host = host(uri, headers)?;
        self.judge_host(path, host.as_ref())?;
        let listed = match only(headers, &header::ORIGIN)? {
            None => true,
            Some(origin) => {
                let listed = origin == SYSADM_CLIENT || self.origins.iter().any(|allowed| allowed == origin);
                if !listed && !host.is_some_and(|host| same_origin(path, origin, &host)) {
                    return Err(Refused);
                }
                listed
            }
        };
        Ok(Admitted { direct: listed && !forwarded(headers) })
    }

    /// The origin of a page that may use the token API, if this is from one.
    pub(super) fn shares_tokens_with<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        only(headers, &header::ORIGIN).ok().flatten()?;
        let origin = headers.get(header::ORIGIN)?;
        self.token_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then_some(origin)
    }

    fn judge_host(&self, path: Path, host: Option<&Authority>) -> Result<(), Refused> {
        match (path, host) {
            (Path::Remote, _) | (Path::Unix, None) => Ok(()),
            // A name that an attacker's DNS points at this host is no name of ours.
            (Path::Loopback | Path::Plain | Path::Unix, Some(host))
                if is_loopback(host.host()) || self.lists(host) =>
            {
                Ok(())
            }
            (Path::Loopback | Path::Plain | Path::Unix, _) => Err(Refused),
        }
    }

    fn lists(&self, host: &Authority) -> bool {
        self.hosts.iter().any(|allowed| {
            allowed.eq_ignore_ascii_case(host.as_str()) || allowed.eq_ignore_ascii_case(host.host())
        })
    }
}

/// The value of a header that may stand once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(HeaderValue::to_str), values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        (Some(_), _) => Err(Refused),
    }
}

/// The host that is meant; the request line and the header must not disagree about it.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<Option<Authority>, Refused> {
    let header = match only(headers, &header::HOST)? {
        None => None,
        Some(host) => Some(authority(host).ok_or(Refused)?),
    };
    match (uri.authority(), header) {
        (None, header) => Ok(header),
        (Some(line), None) => Ok(Some(line.clone())),
        (Some(line), Some(header)) if *line == header => Ok(Some(header)),
        (Some(_), Some(_)) => Err(Refused),
    }
}

/// A host and perhaps a port, and nothing else.
fn authority(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    let port = text.strip_prefix(authority.host())?;
    let port_is_one = port.is_empty() || (authority.port_u16().is_some() && port.starts_with(':'));
    (!authority.host().is_empty() && port_is_one).then_some(authority)
}

fn is_loopback(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
        None => host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
    }
}

/// The page was loaded from where it now connects to.
fn same_origin(path: Path, origin: &str, host: &Authority) -> bool {
    let (scheme, default_port) = match path {
        Path::Remote | Path::Loopback => ("https://", 443),
        Path::Plain | Path::Unix => ("http://", 80),
    };
    let Some(origin) = origin.strip_prefix(scheme).and_then(authority) else { return false };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    origin.host().eq_ignore_ascii_case(host.host()) && port(&origin) == port(host)
}

/// What proxies put in to say that somebody else is behind them; each name, and each beginning.
const BY_PROXIES: &[&str] = &[
    "forwarded",
    "via",
    "x-real-ip",
    "client-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-cluster-client-ip",
    "x-remote-user",
    "x-remote-addr",
    "remote-user",
    "cdn-loop",
    "max-forwards",
];
const BY_PROXIES_TOO: &[&str] =
    &["x-forwarded", "x-original-", "x-proxy", "x-envoy-", "x-real-", "proxy-", "x-auth-", "x-ssl-"];

/// A proxy says that somebody else is behind it.
fn forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        BY_PROXIES.contains(&name) || BY_PROXIES_TOO.iter().any(|beginning| name.starts_with(beginning))
    })
}

#[cfg(test)]
mod tests;
