//! Keys of users: private key files, what they sign, and the public keys of both.
//!
//! A private key is read only from a file that nobody else can read, and leaves this process as
//! signatures alone.

use std::{
    fmt,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, engine::general_purpose::STANDARD};
use nix::unistd::Uid;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, unlinkat};
use rustls::{
    SignatureScheme,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, pem::PemObject},
    sign::SigningKey,
};
use zeroize::Zeroizing;

use crate::{client::Fingerprint, error::Error, file};

/// A key file is read up to here; RSA keys of 8,192 bits need a tenth of it.
const FILE_MAX: usize = 64 * 1024;

/// How each type of key signs. RSA with PSS: nobody has to parse what a padding of type 1 leaves open.
const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
];

/// A private key that can sign.
pub(crate) struct PrivateKey {
    signing: Arc<dyn SigningKey>,
    public: PublicKey,
}

impl PrivateKey {
    /// Reads a PEM file: PKCS#8, or the older forms of RSA and EC keys, without a passphrase.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let failed = |why: &str| Error::Failed(format!("cannot use the key {}: {why}", path.display()));
        let file = file::open(path, OFlags::empty()).map_err(|why| failed(&why))?;
        let stat = fstat(&file).map_err(|error| failed(&error.to_string()))?;
        let me = Uid::effective().as_raw();
        if stat.st_uid != me && stat.st_uid != 0 {
            return Err(failed(&format!("it belongs to uid {}, not to you", stat.st_uid)));
        }
        let mode = stat.st_mode & 0o7777;
        if mode & 0o077 != 0 {
            return Err(failed(&format!("its mode is {mode:04o} and others could read it; chmod 0600")));
        }
        let pem = file::contents(file, FILE_MAX).map_err(|why| failed(&why))?;
        if pem.windows(9).any(|window| window == b"ENCRYPTED") {
            return Err(failed(
                "it has a passphrase, which is not supported; `openssl pkey -in FILE -out NEW` makes a key \
                 file without one",
            ));
        }
        let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| failed("it holds no PEM private key"))?;
        Self::from_der(&Zeroizing::new(der)).map_err(failed)
    }

    fn from_der(der: &PrivateKeyDer<'static>) -> Result<Self, &'static str> {
        const TAKEN: &str = "taken are Ed25519, ECDSA P-256 and P-384, and RSA from 2048 to 8192 bits";
        let signing = any_supported_type(der).map_err(|_| TAKEN)?;
        let public = signing.public_key().ok_or(TAKEN)?;
        let public = PublicKey(public.as_ref().to_vec());
        signing.choose_scheme(&SCHEMES).ok_or(TAKEN)?;
        Ok(Self { signing, public })
    }

    /// Makes a new Ed25519 key in a file that must not exist yet.
    pub(crate) fn generate_in(path: &Path) -> Result<Self, Error> {
        let failed = || Error::Failed("cannot make a key: the system gives no random bytes".to_owned());
        let pair = Ed25519KeyPair::generate().map_err(|_| failed())?;
        // Version 1 of PKCS#8, without the public key: openssl before 3.2 reads no other.
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| failed())?;
        let der = Zeroizing::new(PrivateKeyDer::Pkcs8(pkcs8.as_ref().to_vec().into()));
        let key = Self::from_der(&der).map_err(|_| failed())?;
        let text = Zeroizing::new(pem("PRIVATE KEY", der.secret_der()));
        create(path, Mode::RUSR | Mode::WUSR, text.as_bytes())?;
        Ok(key)
    }

    /// Its public half.
    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Its private half, for TLS.
    pub(crate) fn for_tls(&self) -> Arc<dyn SigningKey> {
        self.signing.clone()
    }

    /// A signature in the form that goes with the type of the key.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signer = self.signing.choose_scheme(&SCHEMES);
        let signature = signer.and_then(|signer| signer.sign(message).ok());
        signature.ok_or_else(|| Error::Failed("the key does not sign".to_owned()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the private half of {}", self.public.fingerprint())
    }
}

/// A public key: the DER of its SubjectPublicKeyInfo. Whether it is fit to be registered is certd's to
/// say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicKey(Vec<u8>);

impl PublicKey {
    /// From PEM text.
    pub(crate) fn from_pem(text: &[u8]) -> Option<Self> {
        SubjectPublicKeyInfoDer::from_pem_slice(text).ok().map(|der| Self(der.as_ref().to_vec()))
    }

    /// From a certificate.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(Self(parsed.tbs_certificate.subject_pki.raw.to_vec()))
    }

    /// From the DER of a SubjectPublicKeyInfo.
    pub(crate) fn from_der(der: Vec<u8>) -> Self {
        Self(der)
    }

    /// PEM text, 64 columns.
    pub(crate) fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.0)
    }

    /// As a request names a key: base64 of the PEM text.
    pub(crate) fn to_wire(&self) -> String {
        STANDARD.encode(self.pem())
    }

    /// As a reply names a key.
    pub(crate) fn from_wire(text: &str) -> Option<Self> {
        Self::from_pem(&STANDARD.decode(text).ok()?)
    }

    /// SHA-256 of it, its identity.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_spki(&self.0)
    }

    /// The DER.
    pub(crate) fn der(&self) -> &[u8] {
        &self.0
    }
}

/// What a file says about a public key: the key, and the certificate where it is one.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) key: PublicKey,
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

impl Described {
    /// Reads the PEM file of a public key or of a certificate.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let failed = |why: &str| Error::Failed(format!("cannot use {}: {why}", path.display()));
        let text = file::open(path, OFlags::empty()).and_then(|file| file::contents(file, FILE_MAX));
        let text = text.map_err(|why| failed(&why))?;
        if let Some(key) = PublicKey::from_pem(&text) {
            return Ok(Self { key, certificate: None });
        }
        if let Ok(certificate) = CertificateDer::from_pem_slice(&text) {
            let key = PublicKey::of(&certificate).ok_or_else(|| failed("its certificate cannot be read"))?;
            return Ok(Self { key, certificate: Some(certificate) });
        }
        if PrivateKeyDer::from_pem_slice(&text).is_ok() {
            return Err(failed(
                "it is a private key; name the file of its public key (`openssl pkey -in FILE -pubout`)",
            ));
        }
        Err(failed("it holds neither a PEM public key nor a PEM certificate"))
    }
}

/// PEM text of one block.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(STANDARD.encode(der));
    // Reserved once: growing would leave copies of a secret behind.
    let mut text = String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40);
    text.extend(["-----BEGIN ", label, "-----\n"]);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        text.extend([line, "\n"]);
        rest = after;
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

/// `doorward keygen`: the private key in `path`, the public one beside it.
pub(crate) fn keygen(path: &Path, output: crate::output::Output) -> Result<(), Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    let public_path = PathBuf::from(name);
    let key = PrivateKey::generate_in(path)?;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    if let Err(error) = create(&public_path, mode, key.public().pem().as_bytes()) {
        // Half of a pair is of no use, and would be in the way of the next attempt.
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    let fingerprint = key.public().fingerprint().to_string();
    let (private, public) = (path.display().to_string(), public_path.display().to_string());
    let value = serde_json::json!({
        "private_key": private, "public_key": public, "fingerprint": fingerprint,
    });
    let rows = [("private key", private), ("public key", public), ("fingerprint", fingerprint)];
    output.result(&rows, &value)
}

/// Makes a file that must not exist, whole or not at all.
fn create(path: &Path, mode: Mode, contents: &[u8]) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Failed(format!("cannot make {}: {error}", path.display()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, mode).map_err(|error| failed(error.into()))?;
    // The umask is for what we make for ourselves; a public key is for others too.
    let done = rustix::fs::fchmod(&file, mode).map_err(std::io::Error::from);
    let mut file = File::from(file);
    let done = done.and_then(|()| file.write_all(contents)).and_then(|()| file.sync_all());
    done.map_err(|error| {
        let _ = unlinkat(CWD, path, AtFlags::empty());
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_read_back_and_never_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        let made = PrivateKey::generate_in(&path).expect("made");
        let read = PrivateKey::read(&path).expect("read");
        assert_eq!(made.public(), read.public());
        let error = PrivateKey::generate_in(&path).expect_err("exists");
        assert!(error.to_string().contains("exists"), "{error}");
        assert_eq!(PrivateKey::read(&path).expect("unchanged").public(), made.public());
    }

    fn a_key() -> PrivateKey {
        let directory = tempfile::tempdir().expect("a directory");
        PrivateKey::generate_in(&directory.path().join("key")).expect("a key")
    }

    #[test]
    fn a_public_key_is_read_as_it_is_written() {
        let key = a_key();
        let wire = key.public().to_wire();
        assert_eq!(PublicKey::from_wire(&wire).as_ref(), Some(key.public()));
        assert!(key.public().pem().lines().all(|line| line.len() <= 64));
        assert!(PublicKey::from_wire("AAAA").is_none() && PublicKey::from_wire("-").is_none());
    }

    #[test]
    fn no_secret_is_shown() {
        let key = a_key();
        assert_eq!(format!("{key:?}"), format!("the private half of {}", key.public().fingerprint()));
    }
}
