//! The server's certificate: the configured one, or an own one made at the first start.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use doorward_launch::{
    Identity, StartError,
    file::{self, FileError},
};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

/// An own certificate is made anew, with the same key, when it has less than this left.
const RENEW: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// An own certificate holds for this long; clients pin its key.
const VALID: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Clocks of other hosts may be behind.
const SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// Certificate and key, as PEM.
pub struct Pem {
    /// The chain, the server's own certificate first.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Zeroizing<Vec<u8>>,
    certificate_path: PathBuf,
    key_path: PathBuf,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pem [redacted]")
    }
}

/// A certificate that can be served.
#[derive(Debug)]
pub struct Served {
    pub(super) certified: Arc<CertifiedKey>,
    /// `SHA256:` and the base64 of the SHA-256 of the public key (SPKI, DER).
    pub fingerprint: String,
    pub(super) key_hash: [u8; 32],
    not_before: i64,
    not_after: i64,
}

/// Certificates with less than this left are worth a word.
const SOON: i64 = 14 * 24 * 60 * 60;

impl Served {
    /// What an operator should know about its dates, if anything. A client refuses what is out of date,
    /// so it can be served.
    pub fn complaint(&self, now: SystemTime) -> Option<&'static str> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        match () {
            () if now < self.not_before => Some("the TLS certificate is not valid yet: look at the clock"),
            () if now >= self.not_after => Some("the TLS certificate has expired: renew it"),
            () if self.not_after - now < SOON => Some("the TLS certificate expires in less than 14 days"),
            () => None,
        }
    }
}

/// Reads the configured files, which may be links.
///
/// # Errors
/// When they cannot be read or must not be used; says how to mend it.
pub fn read(certificate: &Path, key: &Path) -> Result<Pem, FileError> {
    Ok(Pem {
        certificate: file::read_linked_public(certificate)?,
        key: file::read_linked_key(key)?,
        certificate_path: certificate.to_owned(),
        key_path: key.to_owned(),
    })
}

/// The own certificate from the state directory, made if there is none. Called as the service's own
/// user: nothing here is read or written as root.
pub fn own(state: &Path, hostname: &str) -> Result<Pem, StartError> {
    let (certificate_path, key_path) = (state.join("tls.crt"), state.join("tls.key"));
    let failed = |error: rcgen::Error| StartError::failed("cannot make a TLS certificate", error);
    let pair = match file::read_key(&key_path) {
        Ok(pem) => {
            let text = std::str::from_utf8(&pem).map_err(|error| {
                StartError::failed(format!("{} is no PEM key", key_path.display()), error)
            })?;
            KeyPair::from_pem(text).map_err(|error| {
                StartError::failed(format!("{} is no PEM key: remove it", key_path.display()), error)
            })?
        }
        Err(error) if error.is_missing() => {
            let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
            let pem = Zeroizing::new(pair.serialize_pem());
            file::create_key(&key_path, pem.as_bytes(), Identity::current())?;
            pair
        }
        Err(error) => return Err(error.into()),
    };
    let certificate = match file::read_public(&certificate_path) {
        Ok(pem) if still_good(&pem, &pair) => pem,
        Ok(_) => make(&certificate_path, &pair, hostname).map_err(failed)??,
        Err(error) if error.is_missing() => make(&certificate_path, &pair, hostname).map_err(failed)??,
        Err(error) => return Err(error.into()),
    };
    let key = Zeroizing::new(pair.serialize_pem().into_bytes());
    Ok(Pem { certificate, key, certificate_path, key_path })
}

fn make(path: &Path, pair: &KeyPair, hostname: &str) -> Result<Result<Vec<u8>, StartError>, rcgen::Error> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    if let Ok(name) = hostname.try_into() {
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    for address in [std::net::Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()] {
        params.subject_alt_names.push(SanType::IpAddress(address));
    }
    params.distinguished_name.push(DnType::CommonName, hostname);
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + VALID).into();
    let pem = params.self_signed(pair)?.pem().into_bytes();
    Ok(file::create_public(path, &pem).map(|()| pem).map_err(StartError::from))
}

/// The certificate is of this key and has not nearly run out.
fn still_good(pem: &[u8], pair: &KeyPair) -> bool {
    use rcgen::PublicKeyData;
    let Ok(der) = CertificateDer::from_pem_slice(pem) else { return false };
    let Ok((_, certificate)) = parse_x509_certificate(&der) else { return false };
    certificate.public_key().raw == pair.subject_public_key_info()
        && certificate.validity().time_to_expiration().is_some_and(|left| left > RENEW)
}

/// Checks that key and certificate belong together.
///
/// # Errors
/// Says which file is wrong, and how to mend it.
pub fn load(pem: &Pem) -> Result<Served, StartError> {
    let (certificate, key) = (pem.certificate_path.display(), pem.key_path.display());
    let no_certificate = || format!("{certificate} holds no PEM certificate: name the file of the chain");
    let chain = CertificateDer::pem_slice_iter(&pem.certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| StartError::failed(no_certificate(), error))?;
    let leaf = chain.first().ok_or_else(|| StartError::failed(no_certificate(), "it has no such block"))?;
    let (_, parsed) = parse_x509_certificate(leaf)
        .map_err(|error| StartError::failed(no_certificate(), error.to_string()))?;
    let key_hash = <[u8; 32]>::try_from(digest(&SHA256, parsed.public_key().raw).as_ref())
        .expect("SHA-256 has 32 bytes");
    let fingerprint = format!("SHA256:{}", STANDARD.encode(key_hash));
    let (not_before, not_after) =
        (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let private = PrivateKeyDer::from_pem_slice(&pem.key)
        .map_err(|error| StartError::failed(format!("{key} holds no PEM private key"), error))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(chain, private, &provider).map_err(|error| {
        let what =
            format!("{key} is not the key of {certificate}, or no key for TLS: name those of one pair");
        StartError::failed(what, error)
    })?;
    Ok(Served { certified: Arc::new(certified), fingerprint, key_hash, not_before, not_after })
}
