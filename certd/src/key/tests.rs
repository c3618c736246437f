//! Keys in every form that clients send, and what is no key.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;
use crate::openssl::{Form, Key};

fn refused(given: &[u8]) -> Refused {
    PublicKey::parse(given).expect_err("refused")
}

#[test]
fn a_key_has_one_fingerprint_however_it_is_sent() {
    for (form, class) in [(Form::Bare, 256), (Form::Ecdsa256, 72), (Form::Ecdsa384, 104), (Form::Ed25519, 64)]
    {
        let made = Key::for_form(form);
        let (pem, der) = (made.pem(), made.der());
        let key = PublicKey::parse(&pem).expect("PEM is taken");
        assert_eq!(key.spki(), der);
        assert_eq!(key.class(), SignatureClass(class));
        let sent = [
            der.clone(),
            STANDARD.encode(&der).into_bytes(),
            STANDARD.encode(&pem).into_bytes(),
            [b"\r\n", pem.as_slice(), b"\n"].concat(),
        ];
        for given in sent {
            assert_eq!(PublicKey::parse(&given).expect("taken").fingerprint(), key.fingerprint());
        }
    }
}

#[test]
fn a_fingerprint_is_written_as_openssh_and_openssl_users_know_it() {
    let fingerprint = Fingerprint::of(b"");
    assert_eq!(fingerprint.to_string(), "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert_eq!(Fingerprint::from_wire(&fingerprint.0), Some(fingerprint));
    assert_eq!(Fingerprint::from_wire(&[0; 31]), None);
}

#[test]
fn more_than_one_key_or_bytes_after_it_are_refused() {
    let made = Key::ed25519();
    let (pem, der) = (made.pem(), made.der());
    assert!(matches!(refused(&[pem.clone(), pem.clone()].concat()), Refused::Pem(_)));
    for tail in [b"\0".as_slice(), b"x", &der] {
        assert!(PublicKey::parse(&[&der, tail].concat()).is_err());
    }
    let rsa = Key::rsa(2048).der();
    for tail in [b"\0".as_slice(), b"x", &rsa] {
        assert_eq!(refused(&[&rsa, tail].concat()), Refused::NotCanonical);
    }
}

#[test]
fn what_is_no_key_is_refused() {
    for (given, why) in [
        (b"".as_slice(), Refused::Unreadable),
        (b"not a key", Refused::Unreadable),
        (b"KEY/../x", Refused::Unreadable),
        (b"AAAA", Refused::Unreadable),
        (b"\x30", Refused::NotCanonical),
        (b"\x30\x80\0\0", Refused::NotCanonical),
        (&[b'A'; GIVEN_MAX + 1], Refused::TooLong),
    ] {
        assert_eq!(refused(given), why, "{given:x?}");
    }
    let certificate = Key::ed25519().certificate("/CN=x", &[]);
    assert!(matches!(refused(&certificate), Refused::Pem(_)));
}

#[test]
fn sizes_exponents_and_types_out_of_bounds_are_refused() {
    assert_eq!(refused(&Key::rsa(1024).pem()), Refused::Size(1024));
    assert_eq!(refused(&Key::rsa_exponent(2048, 3).pem()), Refused::Exponent);
    assert_eq!(refused(&Key::rsa_exponent(2048, 17).pem()), Refused::Exponent);
    assert_eq!(refused(&Key::curve("P-521").pem()), Refused::Type);
    assert_eq!(refused(&Key::curve("secp256k1").pem()), Refused::Type);
    assert_eq!(refused(&Key::generate(&["-algorithm", "x25519"]).pem()), Refused::Type);
    assert_eq!(refused(&Key::curve("P-256").public(&["-ec_conv_form", "compressed"])), Refused::Type);
    let good = Key::rsa_exponent(2048, 4_294_967_297);
    assert!(PublicKey::parse(&good.pem()).is_ok());
}

#[test]
fn exponents_that_openssl_does_not_make_are_refused() {
    let der = Key::rsa(2048).der();
    // The key ends with INTEGER 01 00 01.
    assert!(der.ends_with(b"\x02\x03\x01\x00\x01"));
    for exponent in [[0, 0, 1], [1, 0, 0], [0, 0, 0], [0x80, 0, 1], [0, 0xff, 0xff]] {
        let forged = [&der[..der.len() - 3], &exponent].concat();
        assert!(
            matches!(refused(&forged), Refused::Exponent | Refused::NotCanonical),
            "{exponent:x?}: {:?}",
            refused(&forged)
        );
    }
    // The same length with the value 0x10000: canonical, but even.
    assert_eq!(refused(&[&der[..der.len() - 3], &[1, 0, 0]].concat()), Refused::Exponent);
}

#[test]
fn encodings_that_der_does_not_allow_are_refused() {
    let der = Key::rsa(2048).der();
    assert!(der.starts_with(b"\x30\x82\x01\x22\x30\x0d"));
    // A length in three bytes, an indefinite one, NULL left out, a parameter that is not NULL.
    let long = [b"\x30\x83\x00\x01\x22", &der[4..]].concat();
    let indefinite = [b"\x30\x80", &der[4..], b"\0\0"].concat();
    let no_null = [b"\x30\x82\x01\x20\x30\x0b", &der[6..17], &der[19..]].concat();
    let mut other_parameter = der.clone();
    other_parameter[17] = 0x04;
    // An unused bit in the bit string.
    let mut unused = der.clone();
    assert_eq!(unused[23], 0);
    unused[23] = 1;
    // A modulus with one zero byte more than its sign needs, lengths adjusted all the way up.
    let mut padded = der.clone();
    padded.insert(der.len() - 5 - 257, 0);
    padded[3] += 1;
    padded[22] += 1;
    padded[27] += 1;
    padded[31] += 1;
    for forged in [long, indefinite, no_null, other_parameter, unused, padded] {
        assert_eq!(refused(&forged), Refused::NotCanonical, "{:x?}", &forged[..40]);
    }
}

#[test]
fn points_off_the_curve_are_refused() {
    for name in ["P-256", "P-384"] {
        let mut der = Key::curve(name).der();
        *der.last_mut().expect("a byte") ^= 1;
        assert_eq!(refused(&der), Refused::Weak("the point is not on the curve"));
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused_or_another_key() {
    for made in [Key::rsa(2048), Key::curve("P-256"), Key::ed25519()] {
        let der = made.der();
        let key = PublicKey::parse(&der).expect("taken");
        for length in 0..der.len() {
            assert!(PublicKey::parse(&der[..length]).is_err(), "{length} bytes");
        }
        for bit in 0..der.len() * 8 {
            let mut flipped = der.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = PublicKey::parse(&flipped) {
                assert_eq!(other.spki(), flipped);
                assert_ne!(other.fingerprint(), key.fingerprint());
            }
        }
    }
}

#[test]
fn lengths_of_signatures_name_the_keys_that_can_have_made_them() {
    for (length, class) in [
        (0, None),
        (63, None),
        (64, Some(64)),
        (65, Some(72)),
        (70, Some(72)),
        (72, Some(72)),
        (73, None),
        (102, Some(104)),
        (105, None),
        (128, None),
        (255, None),
        (256, Some(256)),
        (1024, Some(1024)),
        (1025, None),
    ] {
        assert_eq!(SignatureClass::of_length(length), class.map(SignatureClass), "{length}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, cut in 0_usize..300) {
        let _ = PublicKey::parse(&bytes);
        let _ = PublicKey::parse(&[b"\x30".as_slice(), &bytes].concat());
        let head = b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\x82\x01\x0f\x00\x30\x82\x01\x0a\x02\x82\x01\x01\x00";
        let _ = PublicKey::parse(&[&head[..cut.min(head.len())], &bytes].concat());
    }
}
