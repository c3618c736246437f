//! Proxies that may say for whom they ask. What they say counts for penalties alone.

use std::{fmt, net::IpAddr, str::FromStr};

use hyper::header::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Hops of one request that are looked at.
const HOPS_MAX: usize = 16;

/// Whom the configuration trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Proxies(Vec<Proxy>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
enum Proxy {
    /// An address, or a network of so many leading bits.
    Network(IpAddr, u8),
    /// A user of this host.
    Uid(u32),
}

/// Why a text names no proxy.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no address, no network like 10.0.0.0/8 without bits beyond its length, and no uid:NUMBER")]
pub struct NoProxy(String);

impl TryFrom<String> for Proxy {
    type Error = NoProxy;

    fn try_from(text: String) -> Result<Self, NoProxy> {
        text.parse()
    }
}

impl From<Proxy> for String {
    fn from(proxy: Proxy) -> Self {
        proxy.to_string()
    }
}

impl FromStr for Proxy {
    type Err = NoProxy;

    fn from_str(text: &str) -> Result<Self, NoProxy> {
        let wrong = || NoProxy(text.to_owned());
        if let Some(uid) = text.strip_prefix("uid:") {
            return digits(uid).and_then(|uid| uid.parse().ok()).map(Self::Uid).ok_or_else(wrong);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let whole = width(address);
        let bits = match bits {
            Some(bits) if bits.len() <= 3 => {
                digits(bits).and_then(|bits| bits.parse().ok()).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
            None => whole,
        };
        // Everybody would be a proxy, and could say they are anybody.
        if bits == 0
            || bits > whole
            || cut(address, bits) != number(address)
            || address != address.to_canonical()
        {
            return Err(wrong());
        }
        Ok(Self::Network(address, bits))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address, bits) => write!(f, "{address}/{bits}"),
            Self::Uid(uid) => write!(f, "uid:{uid}"),
        }
    }
}

impl Proxies {
    /// Whether this is one of them.
    pub fn trust(&self, uid: Option<u32>, address: Option<IpAddr>) -> bool {
        self.0.iter().any(|proxy| match proxy {
            Proxy::Uid(own) => uid == Some(*own),
            Proxy::Network(..) => address.is_some_and(|address| proxy.contains(address)),
        })
    }

    /// Whether any connection from this address may be one of them, whoever owns it.
    pub fn trust_address(&self, address: IpAddr) -> bool {
        self.0.iter().any(|proxy| proxy.contains(address))
    }

    /// The client that a trusted proxy names: the last hop that is not a trusted proxy itself. What stands
    /// before it was said by that hop, and is worth nothing.
    pub fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let values: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
        let hops = values.iter().rev().flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        for hop in hops.take(HOPS_MAX) {
            // What is no address ends the chain: nothing beyond it can be trusted.
            let address = hop_address(hop)?;
            if !self.trust_address(address) {
                return Some(address);
            }
        }
        None
    }
}

impl Proxy {
    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::Network(network, bits) => {
                network.is_ipv4() == address.is_ipv4() && cut(address, *bits) == number(*network)
            }
            Self::Uid(_) => false,
        }
    }
}

/// The library's own parser takes a sign, too.
fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The number of an address with its leading bits only.
fn cut(address: IpAddr, bits: u8) -> u128 {
    let rest = u32::from(width(address).saturating_sub(bits));
    number(address).checked_shr(rest).and_then(|number| number.checked_shl(rest)).unwrap_or(0)
}

/// An address, as the header writes it: some proxies add the port.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let address = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0.parse().ok()?,
        None => match text.parse() {
            Ok(address) => address,
            Err(_) => {
                text.parse::<std::net::SocketAddrV4>().ok().map(|with_port| IpAddr::V4(*with_port.ip()))?
            }
        },
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn proxies(texts: &[&str]) -> Proxies {
        Proxies(texts.iter().map(|text| text.parse().expect("a proxy")).collect())
    }

    #[test]
    fn proxies_are_addresses_networks_and_users() {
        for (text, read) in [
            ("10.0.0.1", Some("10.0.0.1/32")),
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("fd00::/8", Some("fd00::/8")),
            ("::1", Some("::1/128")),
            ("uid:33", Some("uid:33")),
            ("10.0.0.1/8", None),
            ("0.0.0.0/0", None),
            ("::/0", None),
            ("10.0.0.0/33", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/0008", None),
            ("::ffff:10.0.0.1", None),
            ("fd00::/129", None),
            ("proxy.example", None),
            ("uid:", None),
            ("uid:-1", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Proxy>().ok().map(|proxy| proxy.to_string()).as_deref(), read, "{text}");
        }
    }

    #[test]
    fn only_those_are_trusted_who_are_listed() {
        let proxies = proxies(&["10.1.0.0/16", "fd00::1", "uid:33"]);
        for (uid, address, trusted) in [
            (33, None, true),
            (34, None, false),
            (33, Some("127.0.0.1"), true),
            (34, Some("127.0.0.1"), false),
            (0, Some("10.1.255.255"), true),
            (0, Some("::ffff:10.1.0.1"), true),
            (0, Some("10.2.0.0"), false),
            (0, Some("fd00::1"), true),
            (0, Some("fd00::2"), false),
        ] {
            let address = address.map(|address| address.parse().expect("an address"));
            assert_eq!(proxies.trust(Some(uid), address), trusted, "{uid} {address:?}");
        }
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_proxy() {
        let proxies = proxies(&["10.0.0.0/8"]);
        let cases: &[(&[&str], Option<&str>)] = &[
            (&[], None),
            (&["192.0.2.1"], Some("192.0.2.1")),
            (&["198.51.100.1, 192.0.2.1"], Some("192.0.2.1")),
            (&["198.51.100.1", "192.0.2.1"], Some("192.0.2.1")),
            (&["192.0.2.1, 10.0.0.9"], Some("192.0.2.1")),
            (&["192.0.2.1", "10.0.0.9,10.0.0.8"], Some("192.0.2.1")),
            (&["10.0.0.9"], None),
            (&["192.0.2.1, unknown"], None),
            (&["192.0.2.1, "], None),
            (&["192.0.2.1:443"], Some("192.0.2.1")),
            (&["[2001:db8::1]:443"], Some("2001:db8::1")),
            (&["2001:db8::1"], Some("2001:db8::1")),
            (&["::ffff:192.0.2.1"], Some("192.0.2.1")),
            (&["\u{e9}"], None),
        ];
        for (values, client) in cases {
            let mut headers = HeaderMap::new();
            for value in *values {
                headers.append(FORWARDED_FOR, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
            }
            let expected = client.map(|client| client.parse::<IpAddr>().expect("an address"));
            assert_eq!(proxies.client(&headers), expected, "{values:?}");
        }
        let mut long = HeaderMap::new();
        let hops = "10.0.0.1,".repeat(1_000) + "10.0.0.1";
        long.insert(FORWARDED_FOR, HeaderValue::from_str(&hops).expect("a value"));
        assert_eq!(proxies.client(&long), None);
    }
}
