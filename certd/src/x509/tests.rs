//! Certificates in, policy out; hostile ones refused.

use super::*;
use crate::openssl::{Key, der_of};

fn today() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_secs()).expect("before the end of time")
}

#[test]
fn versions_one_and_three_are_taken_in_pem_and_der() {
    let key = Key::curve("P-256");
    for (pem, subject) in [
        (key.certificate_v1("/CN=alice"), "CN=alice"),
        (key.certificate("/CN=alice/O=x", &[]), "CN=alice, O=x"),
    ] {
        let accepted = policy(&pem, today() + 5).expect("taken");
        assert_eq!(accepted.key.spki(), key.der());
        assert_eq!(accepted.subject, subject);
        assert_eq!(policy(&der_of(&pem), today() + 5), Ok(accepted));
    }
}

#[test]
fn the_time_is_an_argument() {
    let pem = Key::ed25519().certificate("/CN=x", &["-days", "30"]);
    let accepted = read(&pem).expect("taken");
    assert_eq!(accepted.not_after - accepted.not_before, 30 * 86_400);
    for (now, verdict) in [
        (accepted.not_before - 1, Err(Refused::NotYet)),
        (accepted.not_before, Ok(())),
        (accepted.not_after, Ok(())),
        (accepted.not_after + 1, Err(Refused::Expired)),
        (i64::MIN, Err(Refused::NotYet)),
        (i64::MAX, Err(Refused::Expired)),
    ] {
        assert_eq!(policy(&pem, now).map(drop), verdict);
    }
}

#[test]
fn a_refusal_says_why() {
    let pem = Key::ed25519().certificate("/CN=x", &[]);
    let der = der_of(&pem);
    let refused = |given: &[u8]| read(given).expect_err("refused");
    assert!(matches!(refused(&[pem.clone(), pem.clone()].concat()), Refused::Pem(_)));
    assert!(matches!(refused(&[pem.as_slice(), b"x"].concat()), Refused::Pem(_)));
    assert_eq!(refused(&[der.as_slice(), &der].concat()), Refused::Trailing);
    assert_eq!(refused(&[der.as_slice(), b"\0"].concat()), Refused::Trailing);
    assert_eq!(refused(&vec![0x30; DER_MAX + 1]), Refused::TooLong);
    assert_eq!(refused(&vec![b'x'; GIVEN_MAX + 1]), Refused::TooLong);
    assert_eq!(refused(b""), Refused::Unreadable);
    assert_eq!(refused(&Key::ed25519().der()), Refused::Unreadable);
    // [0] { INTEGER 2 } is version 3; 3 is version 4.
    let place = der.windows(5).position(|w| w == b"\xa0\x03\x02\x01\x02").expect("a version");
    let mut fourth = der.clone();
    fourth[place + 4] = 3;
    assert_eq!(refused(&fourth), Refused::Version);
    for (key, why) in [
        (Key::rsa(1024), key::Refused::Size(1024)),
        (Key::rsa_exponent(2048, 3), key::Refused::Exponent),
        (Key::curve("P-521"), key::Refused::Type),
    ] {
        assert_eq!(refused(&key.certificate("/CN=x", &[])), Refused::Key(why));
    }
}

#[test]
fn a_large_certificate_is_refused_and_a_large_one_that_fits_is_read() {
    let key = Key::ed25519();
    let names = |count: usize| {
        let list: Vec<String> = (0..count).map(|n| format!("DNS:host-{n:04}.example.org")).collect();
        format!("subjectAltName={}", list.join(","))
    };
    assert!(read(&key.certificate("/CN=x", &["-addext", &names(500)])).is_ok());
    assert_eq!(read(&key.certificate("/CN=x", &["-addext", &names(900)])), Err(Refused::TooLong));
}

#[test]
fn a_subject_cannot_break_a_line() {
    let subject = "/CN=two\nlines\u{1b}[31m";
    let accepted = read(&Key::ed25519().certificate(subject, &["-utf8"])).expect("taken");
    assert!(accepted.subject.bytes().all(|b| (b' '..=b'~').contains(&b)), "{}", accepted.subject);
    let long = Key::ed25519().certificate(
        &format!("/CN={}/OU={}/O={}", "a".repeat(64), "b".repeat(64), "c".repeat(64)),
        &["-multivalue-rdn"],
    );
    assert!(read(&long).expect("taken").subject.len() <= SUBJECT_MAX);
}

#[test]
fn no_truncation_or_flipped_bit_makes_the_reader_panic() {
    let der = der_of(&Key::ed25519().certificate("/CN=x", &[]));
    for length in 0..der.len() {
        assert!(read(&der[..length]).is_err(), "{length}");
    }
    for bit in 0..der.len() * 8 {
        let mut flipped = der.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = policy(&flipped, today());
    }
}

#[test]
fn deep_nesting_and_lying_lengths_end_quickly() {
    let nested: Vec<u8> = std::iter::repeat_n([0x30, 0x80], DER_MAX / 2).flatten().collect();
    assert!(read(&nested).is_err());
    let nested: Vec<u8> = (0..DER_MAX / 4)
        .flat_map(|level| {
            let left = u16::try_from(DER_MAX - 4 - level * 4).unwrap_or(0).to_be_bytes();
            [0x30, 0x82, left[0], left[1]]
        })
        .collect();
    assert!(read(&nested).is_err());
    assert!(read(b"\x30\x84\xff\xff\xff\xff\x30").is_err());
    assert!(read(b"\x30\x88\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        let _ = read(&bytes);
        let _ = read(&[b"\x30\x82".as_slice(), &bytes].concat());
    }
}

/// A listing reads 64 of them for each request, on the threads that everybody is served by.
#[test]
fn a_certificate_is_read_without_looking_for_weaknesses_of_its_key() {
    let key = Key::rsa(4096);
    let (certificate, public) = (der_of(&key.certificate("/CN=x", &[])), key.pem());
    // The quickest: the machine may do something else during any other.
    let time = |work: &dyn Fn()| {
        let once = || {
            let started = std::time::Instant::now();
            work();
            started.elapsed()
        };
        (0..20).map(|_| once()).min().expect("some")
    };
    let read = time(&|| drop(read(&certificate).expect("taken")));
    let fit = time(&|| drop(PublicKey::parse(&public).expect("taken")));
    assert!(read * 5 < fit, "{read:?}, and the search takes {fit:?}");
}
