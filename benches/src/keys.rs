//! Clients' keys: what they sign, and many more that only lie in the registry.

use std::{io, sync::Arc};

use aws_lc_rs::{
    rand::{self, SystemRandom},
    rsa::KeyPair as RsaKeyPair,
    signature::RSA_PKCS1_SHA256,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_proto::certd::v1::{Entry, ExportRequest};
use doorward_tests::{
    grpc::Certd,
    keys::{Key, Kind, Quick},
};
use futures_util::future::BoxFuture;
use tokio_stream as stream;

use crate::{
    client::Socket,
    product::{Product, args_of, envelope},
    rounds::Work,
};

/// A key that signs what a challenge asks for.
#[derive(Clone)]
pub(crate) enum Signer {
    Ed25519(Arc<Quick>),
    Rsa(Arc<Rsa>),
}

pub(crate) struct Rsa {
    pair: RsaKeyPair,
    spki: Vec<u8>,
    fingerprint: String,
}

impl Signer {
    pub(crate) fn ed25519() -> Self {
        Self::Ed25519(Arc::new(Quick::generate()))
    }

    pub(crate) fn rsa() -> io::Result<Self> {
        let key = Key::generate(Kind::Rsa);
        let pair = RsaKeyPair::from_pkcs8(&key.private()).map_err(io::Error::other)?;
        Ok(Self::Rsa(Arc::new(Rsa { pair, spki: key.der(), fingerprint: key.fingerprint() })))
    }

    /// SubjectPublicKeyInfo, DER.
    pub(crate) fn spki(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.spki(),
            Self::Rsa(key) => key.spki.clone(),
        }
    }

    /// The members of a proof that save the server a search.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Ed25519(_) => String::new(),
            Self::Rsa(key) => format!(r#","fingerprint":"{}""#, key.fingerprint),
        }
    }

    /// The base64 of a signature over a challenge.
    pub(crate) fn prove(&self, challenge: &str) -> io::Result<String> {
        #[derive(serde::Deserialize)]
        struct Challenge<'a> {
            context: &'a str,
            test_string: &'a str,
        }
        let Challenge { context, test_string } = serde_json::from_str(challenge)?;
        Ok(STANDARD.encode(match self {
            Self::Ed25519(key) => key.prove(context, test_string),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.pair.public_modulus_len()];
                let message = format!("{context}\n{test_string}");
                let random = SystemRandom::new();
                key.pair
                    .sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature)
                    .map_err(io::Error::other)?;
                signature
            }
        }))
    }
}

/// Logs in by a key, again and again on the same connection: each login ends the session of the one before.
pub(crate) struct KeyLogin {
    pub(crate) socket: Socket,
    pub(crate) key: Signer,
    /// More members of the proof.
    pub(crate) hints: String,
}

impl Work for KeyLogin {
    fn once(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async {
            let challenge = args_of(&self.socket.succeed(&envelope("rpc", "auth_ssl", "{}")).await?)?;
            let proof = self.key.prove(&challenge)?;
            let args = format!(r#"{{"encrypted_string":"{proof}"{}}}"#, self.hints);
            self.socket.succeed(&envelope("rpc", "auth_ssl", &args)).await.map(drop)
        })
    }
}

/// An entry of the registry.
pub(crate) fn entry(spki: Vec<u8>, user: &str) -> Entry {
    Entry {
        key: spki,
        user: user.to_owned(),
        registered: 1_700_000_000,
        registered_method: "import".to_owned(),
        proven: true,
        ..Entry::default()
    }
}

/// Puts entries into a registry, as `doorward certs import` does.
pub(crate) async fn import(product: &Product, entries: Vec<Entry>) -> io::Result<()> {
    /// What certd takes well within the time that a client of the tests waits for an answer.
    const AT_A_TIME: usize = 2_000;
    let mut certd = Certd::connect(&product.stack, 0).await.map_err(io::Error::other)?;
    for entries in entries.chunks(AT_A_TIME) {
        let request = stream::iter(entries.to_vec());
        let reply = certd.store.import(request).await.map_err(io::Error::other)?.into_inner();
        if reply.added != entries.len() as u64 {
            let (many, taken) = (entries.len(), reply.added);
            return Err(io::Error::other(format!("of {many} keys {taken} were taken: {:?}", reply.refused)));
        }
    }
    Ok(())
}

/// Where certd says that a key was last used from.
pub(crate) async fn last_source(product: &Product, key: &Signer) -> io::Result<String> {
    let mut certd = Certd::connect(&product.stack, 0).await.map_err(io::Error::other)?;
    let export = certd.store.export(ExportRequest::default()).await.map_err(io::Error::other)?;
    let (mut entries, spki) = (export.into_inner(), key.spki());
    while let Some(entry) = entries.message().await.map_err(io::Error::other)? {
        if entry.key == spki {
            return Ok(entry.last_source);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Where the modulus of 2,048 bits is in a SubjectPublicKeyInfo of RSA.
const MODULUS: std::ops::Range<usize> = 33..289;
/// No modulus with a factor below is taken.
const SMALL: usize = 8_192;

/// So many keys of RSA-2048 that are different and that certd takes. Nobody can sign with them: they are not
/// products of two primes that anybody knows, which certd cannot know, and would take hours to make.
pub(crate) fn many_rsa(like: &Signer, count: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut first = like.spki();
    let modulus = first.get_mut(MODULUS).ok_or(io::ErrorKind::InvalidData)?;
    rand::fill(modulus).map_err(io::Error::other)?;
    let (head, tail) = modulus.split_at_mut(248);
    // In the upper half of 2,048 bits, and with room to count in the last eight bytes.
    if let Some(byte) = head.first_mut() {
        *byte |= 0x80;
    }
    tail.fill(0);
    // A sieve over the odd numbers from there on: one of eight is left.
    let span = count * 10 + 100_000;
    let mut taken_out = vec![false; span];
    for prime in
        (3..SMALL).step_by(2).filter(|n| (3..).step_by(2).take_while(|d| d * d <= *n).all(|d| n % d != 0))
    {
        let rest = modulus.iter().fold(0, |rest, byte| (rest * 256 + usize::from(*byte)) % prime);
        // first + 2 i + 1 is a multiple: i = -(rest + 1) / 2.
        let half = prime.div_ceil(2);
        let from = (prime - (rest + 1) % prime) % prime * half % prime;
        for place in (from..span).step_by(prime) {
            if let Some(out) = taken_out.get_mut(place) {
                *out = true;
            }
        }
    }
    let left = taken_out.iter().enumerate().filter(|(_, out)| !**out).map(|(place, _)| place);
    let keys: Vec<Vec<u8>> = left
        .take(count)
        .map(|place| {
            let mut spki = first.clone();
            let number = (2 * place as u64 + 1).to_be_bytes();
            spki.splice(MODULUS.end - 8..MODULUS.end, number);
            spki
        })
        .collect();
    if keys.len() == count { Ok(keys) } else { Err(io::Error::other("the sieve has left too few")) }
}
