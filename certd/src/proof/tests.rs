//! Proofs of possession: each kind of signature right, and wrong in one thing.

use super::*;
use crate::{
    challenge::{Purpose, ServerKey, context, server_key},
    openssl::{Form, Key},
};

const HASHED: [Form; 5] = [Form::Pkcs1, Form::Pss, Form::Ecdsa256, Form::Ecdsa384, Form::Ed25519];

fn text(letter: char) -> String {
    letter.to_string().repeat(128)
}

fn asked(letter: char, server: ServerKey) -> Asked {
    Asked { text: text(letter), context: context(&Purpose::Login, server) }
}

fn local() -> Asked {
    asked('a', ServerKey::Local)
}

fn public(key: &Key) -> PublicKey {
    PublicKey::parse(&key.pem()).expect("a key that is taken")
}

fn accepts(key: &Key, signature: &[u8]) -> bool {
    answered(&public(key), signature, &[local()], Forms::Login).is_some()
}

/// 00 01 FF .. FF 00 and the text, for 2,048 bits.
fn block(text: &[u8]) -> Vec<u8> {
    let mut block = vec![0, 1];
    block.resize(256 - 1 - text.len(), 0xff);
    block.push(0);
    block.extend_from_slice(text);
    block
}

#[test]
fn openssl_proves_by_every_form() {
    for form in [Form::Bare].into_iter().chain(HASHED) {
        let key = Key::for_form(form);
        let proof = key.prove(form, &local().context, &local().text);
        assert!(accepts(&key, &proof), "{form:?}");
        let among = [asked('b', ServerKey::Local), local(), asked('c', ServerKey::Local)];
        assert_eq!(answered(&public(&key), &proof, &among, Forms::Login), Some(1), "{form:?}");
        let registers = answered(&public(&key), &proof, &among, Forms::Registration).is_some();
        assert_eq!(registers, form != Form::Bare, "{form:?}");
        assert_eq!(answered(&public(&key), &proof, &[], Forms::Login), None);
    }
}

#[test]
fn larger_moduli_and_odd_sizes_prove_too() {
    for bits in [2049, 2050, 3072] {
        let key = Key::rsa(bits);
        for form in [Form::Bare, Form::Pkcs1, Form::Pss] {
            assert!(accepts(&key, &key.prove(form, &local().context, &local().text)), "{bits} {form:?}");
        }
    }
}

#[test]
fn another_key_text_context_purpose_or_server_is_refused() {
    let there = server_key(b"the server that relays");
    for form in HASHED {
        let key = Key::for_form(form);
        let proof = |context: &str, text: &str| key.prove(form, context, text);
        let context_here = local().context;
        assert!(!accepts(&Key::for_form(form), &proof(&context_here, &text('a'))), "{form:?}");
        assert!(!accepts(&key, &proof(&context_here, &text('b'))), "{form:?}");
        assert!(!accepts(&key, &proof(&context(&Purpose::Login, there), &text('a'))), "{form:?}");
        let other = context(&Purpose::Registration { session: "s".into() }, ServerKey::Local);
        assert!(!accepts(&key, &proof(&other, &text('a'))), "{form:?}");
        assert!(!accepts(&key, &key.sign(form, text('a').as_bytes())), "{form:?}: no context");
    }
}

#[test]
fn one_byte_more_less_or_changed_is_refused() {
    for form in [Form::Bare].into_iter().chain(HASHED) {
        let key = Key::for_form(form);
        let proof = key.prove(form, &local().context, &local().text);
        for tail in [b"\0".as_slice(), b"\x01", &proof] {
            assert!(!accepts(&key, &[&proof, tail].concat()), "{form:?}");
        }
        assert!(!accepts(&key, &[b"\0", proof.as_slice()].concat()), "{form:?}");
        assert!(!accepts(&key, &proof[1..]), "{form:?}");
        assert!(!accepts(&key, &proof[..proof.len() - 1]), "{form:?}");
        for place in 0..proof.len() {
            let mut changed = proof.clone();
            changed[place] ^= 1;
            assert!(!accepts(&key, &changed), "{form:?}: byte {place}");
        }
    }
}

#[test]
fn values_out_of_range_are_refused() {
    let key = Key::rsa(2048);
    let Kind::Rsa { modulus, .. } = public(&key).kind().clone() else { panic!("an RSA key") };
    let proof = key.prove(Form::Bare, "", &text('a'));
    let bytes = |n: num_bigint::BigUint| {
        let bytes = n.to_bytes_be();
        [vec![0; 256_usize.saturating_sub(bytes.len())], bytes].concat()
    };
    let value = num_bigint::BigUint::from_bytes_be(&proof);
    for (name, forged) in [
        ("s = 0", vec![0; 256]),
        ("s = 1", bytes(1_u8.into())),
        ("s = n - 1", bytes(&modulus - 1_u8)),
        ("s = n", bytes(modulus.clone())),
        ("s = 2^2048 - 1", vec![0xff; 256]),
        ("s + n, longer", bytes(&value + &modulus * 256_u32)),
        ("empty", Vec::new()),
    ] {
        assert!(!accepts(&key, &forged), "{name}");
    }
    // The same value modulo n, in as many bytes, where it fits: no second signature for one string.
    let shifted = &value + &modulus;
    if shifted.bits() <= 2048 {
        assert!(!accepts(&key, &bytes(shifted)));
    }
}

#[test]
fn blocks_that_lenient_readers_take_are_refused() {
    let key = Key::rsa(2048);
    let signed = |block: Vec<u8>| {
        assert_eq!(block.len(), 256);
        accepts(&key, &key.raw(&block))
    };
    let good = block(text('a').as_bytes());
    assert!(signed(good.clone()), "the block itself is right");
    let changed = |place: usize, byte: u8| {
        let mut block = good.clone();
        block[place] = byte;
        block
    };
    // Type 2 and 0, a hole in the padding, another first byte (below n: openssl refuses larger ones).
    assert!(!signed(changed(1, 2)));
    assert!(!signed(changed(1, 0)));
    assert!(!signed(changed(40, 0xfe)));
    assert!(!signed(changed(40, 0)));
    // Short padding, then the text, then what an attacker fills in (Bleichenbacher 2006).
    let mut trailing = vec![0, 1];
    trailing.resize(10, 0xff);
    trailing.push(0);
    trailing.extend_from_slice(text('a').as_bytes());
    trailing.resize(256, 7);
    assert!(!signed(trailing));
    // The text, NUL, and more: the original compared up to the NUL.
    assert!(!signed(block(&[text('a').as_bytes(), b"\0tail"].concat())));
    assert!(!signed(block(&[b"\0".as_slice(), text('a').as_bytes()].concat())));
    assert!(!signed(block(&text('a').as_bytes()[1..])));
}

#[test]
fn digest_infos_with_other_hashes_or_ber_are_refused() {
    let key = Key::rsa(2048);
    let message = local().message();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &message);
    const SHA256: &[u8] = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
    let signed = |info: &[u8]| accepts(&key, &key.raw(&block(info)));
    let info = |head: &[u8]| [head, hash.as_ref()].concat();
    assert!(signed(&info(SHA256)), "the right one");
    // SHA-512's name, NULL left out, long lengths, an indefinite one, bytes after the hash.
    assert!(!signed(&info(b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x20")));
    assert!(!signed(&info(b"\x30\x2f\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x04\x20")));
    assert!(!signed(&info(
        b"\x30\x81\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
    )));
    assert!(!signed(&info(
        b"\x30\x32\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x81\x20"
    )));
    assert!(!signed(&[info(SHA256), b"\0".to_vec()].concat()));
    assert!(!signed(hash.as_ref()), "a hash without a name");
    let other_hash = |form: Form, digest: &str| {
        let file = key.path("other");
        std::fs::write(&file, &message).expect("written");
        let padding = if form == Form::Pss { "rsa_padding_mode:pss" } else { "rsa_padding_mode:pkcs1" };
        let output = std::process::Command::new("openssl")
            .args(["pkeyutl", "-sign", "-rawin", "-digest", digest, "-pkeyopt", padding, "-inkey"])
            .arg(key.path("private.pem"))
            .arg("-in")
            .arg(&file)
            .output()
            .expect("openssl runs");
        assert!(output.status.success());
        output.stdout
    };
    for digest in ["sha1", "sha384", "sha512"] {
        assert!(!accepts(&key, &other_hash(Form::Pkcs1, digest)), "{digest}");
        assert!(!accepts(&key, &other_hash(Form::Pss, digest)), "{digest}");
    }
}

#[test]
fn an_exponent_of_three_is_forgeable_under_lenient_rules_and_so_no_key() {
    // The check that keeps e = 3 out is the key's: see key::tests. Here: nothing of the proof's own
    // checks depends on it, a perfect cube of a prefix is refused under any exponent.
    let key = Key::rsa_exponent(2048, 3);
    assert!(PublicKey::parse(&key.pem()).is_err());
    let prefix = num_bigint::BigUint::from_bytes_be(&{
        let mut block = vec![0, 1];
        block.resize(10, 0xff);
        block.push(0);
        block.extend_from_slice(text('a').as_bytes());
        block.resize(256, 0);
        block
    });
    let mut root = prefix.cbrt();
    root += 1_u8;
    let bytes = root.to_bytes_be();
    let forged = [vec![0; 256 - bytes.len()], bytes].concat();
    let key = public_with_exponent_3(&key);
    assert!(rsa::recover(&key, 3, &forged).is_some_and(|block| block.starts_with(&[0, 1, 0xff, 0xff])));
    let block = rsa::recover(&key, 3, &forged).expect("in range");
    assert!(!rsa::is_type_1_of(&block, text('a').as_bytes()));
}

fn public_with_exponent_3(key: &Key) -> num_bigint::BigUint {
    // The modulus is 256 bytes before the 3 bytes of INTEGER 3.
    let der = key.der();
    num_bigint::BigUint::from_bytes_be(&der[der.len() - 3 - 256..der.len() - 3])
}

#[test]
fn a_short_block_is_no_panic() {
    assert!(!rsa::is_type_1_of(&[], b"text"));
    assert!(!rsa::is_type_1_of(&[0, 1, 0], b""));
    assert!(rsa::hashed_form(&[]).is_none());
}

#[test]
fn a_block_of_pss_may_begin_as_one_of_pkcs1_does() {
    let of = |block: &[u8]| rsa::hashed_form(block).map(|form| format!("{form:?}"));
    let random = |first: [u8; 2]| [&first, &[0x5a; 254][..], &[0xbc]].concat();
    assert!(of(&random([7, 9])).is_some());
    assert_eq!(of(&random([0, 1])), of(&random([7, 9])));
    let pkcs1 = [&[0, 1], &[0xff; 8][..], &[0], &[0x5a; 245], &[0xbc]].concat();
    assert!(of(&pkcs1).is_some() && of(&pkcs1) != of(&random([0, 1])), "whatever its hash ends with");
}

proptest::proptest! {
    #[test]
    fn no_bytes_prove_anything(signature: Vec<u8>, fill in proptest::collection::vec(0_u8.., 256)) {
        static KEYS: std::sync::LazyLock<Vec<PublicKey>> = std::sync::LazyLock::new(|| {
            [Form::Bare, Form::Ecdsa256, Form::Ecdsa384, Form::Ed25519]
                .map(|form| public(&Key::for_form(form)))
                .into()
        });
        for key in KEYS.iter() {
            for bytes in [signature.as_slice(), &fill, fill.get(..64).expect("256 bytes")] {
                proptest::prop_assert!(answered(key, bytes, &[local()], Forms::Login).is_none());
            }
        }
    }
}
