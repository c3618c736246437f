//! As whom an address or a user is counted: by bounds and penalties, whose sources must be dear to change.

mod subordinate;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

use subordinate::Subordinates;

/// The address that stands for whoever can come from `address`.
///
/// - All of loopback is one: every user of the host has 127.0.0.0/8 to choose from. Those of whom the kernel says who
///   they are are counted by uid, so these are whoever hides that, and those of whom it cannot be asked.
/// - IPv4 that was mapped into IPv6 (RFC 4291, 2.5.5.2) or translated (RFC 6052, 2.1: `64:ff9b::/96`) is IPv4.
/// - Other IPv6 is its network of 64 bits: one subscriber has as many of the rest as they like.
pub fn counted(address: IpAddr) -> IpAddr {
    const TRANSLATED: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];
    let address = match address.to_canonical() {
        IpAddr::V6(v6) if v6.segments().starts_with(&TRANSLATED) => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        address => address,
    };
    match address {
        _ if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// /etc/subuid, which is read again when it has changed, at most once a second.
static SUBORDINATES: LazyLock<Subordinates> = LazyLock::new(|| Subordinates::of(Path::new("/etc/subuid")));

/// The uid that stands for whoever can come as `uid`: a user to whom root gave subordinate uids (/etc/subuid,
/// subuid(5)) runs programs under any of them, so all that one user was given are one, the first. Where the file
/// cannot be read each uid is itself.
pub fn counted_uid(uid: u32) -> u32 {
    SUBORDINATES.given(Instant::now()).counted(uid)
}

/// Whether root gave this uid to another user as a subordinate one (/etc/subuid, subuid(5)): whoever has the uid by
/// then is that user, or the account that has the number, too.
pub fn is_subordinate_uid(uid: u32) -> bool {
    SUBORDINATES.given(Instant::now()).has(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_host_or_all_of_loopback() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("64:ff9b::192.0.2.1", "192.0.2.1"),
            ("64:ff9b::127.0.0.2", "127.0.0.1"),
            ("64:ff9b:1::192.0.2.1", "64:ff9b:1::"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
            ("fe80::1", "fe80::"),
            ("::", "::"),
            ("::2", "::"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.255.255.255", "127.0.0.1"),
            ("::ffff:127.9.9.9", "127.0.0.1"),
            ("::1", "127.0.0.1"),
            ("128.0.0.1", "128.0.0.1"),
        ] {
            let of = |text: &str| text.parse::<IpAddr>().expect("an address");
            assert_eq!(counted(of(address)), of(expected), "{address}");
            assert_eq!(counted(counted(of(address))), of(expected), "{address}, as it is kept");
        }
    }
}
