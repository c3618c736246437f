//! Keys, signatures and certificates of clients, made by the openssl program: another implementation than
//! the one under test, and the one that operators have.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// RSA of 2,048 bits.
    Rsa,
    /// RSA of 1,024 bits, which nobody should take.
    Rsa1024,
    /// RSA of 2,048 bits with the exponent 3, which nobody should take either.
    RsaExponent3,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The key's own: PSS for RSA.
    Usual,
    /// RSA PKCS#1 v1.5 with SHA-256.
    Pkcs1,
    /// RSA PKCS#1 v1.5 type 1 of the bare text, without a digest: what deployed clients make.
    Bare,
}

/// A private key in a directory of its own.
#[derive(Debug)]
pub struct Key {
    kind: Kind,
    dir: TempDir,
    pem: String,
}

impl Kind {
    /// By the word that transcripts use.
    pub fn called(word: &str) -> Option<Self> {
        Some(match word {
            "rsa" => Self::Rsa,
            "rsa1024" => Self::Rsa1024,
            "rsa-e3" => Self::RsaExponent3,
            "p256" => Self::P256,
            "p384" => Self::P384,
            "ed25519" => Self::Ed25519,
            _ => return None,
        })
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Rsa => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            Self::Rsa1024 => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
            Self::RsaExponent3 => {
                &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"]
            }
            Self::P256 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Self::P384 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            Self::Ed25519 => &["-algorithm", "ed25519"],
        }
    }
}

impl Key {
    /// A new one.
    ///
    /// # Panics
    /// Without the openssl program.
    pub fn generate(kind: Kind) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let private = dir.path().join("private.pem");
        openssl(["genpkey"].iter().chain(kind.options()), &[("-out", &private)]);
        let pem = text(openssl(&["pkey", "-pubout"], &[("-in", &private)]));
        Self { kind, dir, pem }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The public key, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The public key, DER.
    pub fn der(&self) -> Vec<u8> {
        der(&self.pem)
    }

    /// What the settings call `pub_key`: base64 of the PEM.
    pub fn packed(&self) -> String {
        STANDARD.encode(&self.pem)
    }

    /// `SHA256:<base64>`
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD.encode(digest(&SHA256, &self.der())))
    }

    /// The base64 of the MD5 of the PEM.
    pub fn md5(&self) -> String {
        let file = self.path("public.pem");
        fs::write(&file, &self.pem).expect("a file in our directory");
        STANDARD.encode(openssl(&["dgst", "-md5", "-binary"], &[("", &file)]))
    }

    /// The private key, PKCS#8 in DER.
    pub fn private(&self) -> Vec<u8> {
        der(&fs::read_to_string(self.private_path()).expect("the private key"))
    }

    /// Where the private key is, in PEM.
    pub fn private_path(&self) -> PathBuf {
        self.path("private.pem")
    }

    /// A self-signed certificate, PEM, the same at each call.
    pub fn certificate(&self) -> String {
        let file = self.certificate_path();
        if !file.exists() {
            let options = ["req", "-x509", "-new", "-days", "2", "-subj", "/CN=doorward tests"];
            openssl(&options, &[("-key", &self.private_path()), ("-out", &file)]);
        }
        fs::read_to_string(file).expect("the certificate")
    }

    /// Makes that certificate one of X.509 v1, as the openssl program does where no extension is asked for.
    ///
    /// # Panics
    /// When there is one already, or openssl makes another version.
    pub fn make_certificate_v1(&self) {
        let (file, request) = (self.certificate_path(), self.path("request.pem"));
        assert!(!file.exists(), "there is a certificate");
        let private = self.private_path();
        openssl(["req", "-new", "-subj", "/CN=doorward tests"], &[("-key", &private), ("-out", &request)]);
        let sign = [("-in", &request), ("-signkey", &private), ("-out", &file)];
        openssl(["x509", "-req", "-days", "2"], &sign);
        let made = der(&self.certificate());
        let (_, parsed) = x509_parser::parse_x509_certificate(&made).expect("a certificate");
        assert_eq!(parsed.version().0, 0, "v1 is what was asked for");
    }

    /// Where it is; made by [`Key::certificate`].
    pub fn certificate_path(&self) -> PathBuf {
        self.path("certificate.pem")
    }

    /// A proof over a challenge; the bare form signs the text alone.
    pub fn prove(&self, form: Form, context: &str, text: &str) -> Vec<u8> {
        let message = self.path("message");
        let both = format!("{context}\n{text}");
        fs::write(&message, if form == Form::Bare { text } else { &both }).expect("a file in our directory");
        let options: &[&str] = match (form, self.kind) {
            // pkeyutl signs nothing longer than a digest without making one.
            (Form::Bare, _) => &["rsautl", "-sign"],
            (Form::Pkcs1, _) => &["pkeyutl", "-sign", "-rawin", "-digest", "sha256"],
            (Form::Usual, Kind::Rsa | Kind::Rsa1024 | Kind::RsaExponent3) => &[
                "pkeyutl",
                "-sign",
                "-rawin",
                "-digest",
                "sha256",
                "-pkeyopt",
                "rsa_padding_mode:pss",
                "-pkeyopt",
                "rsa_pss_saltlen:digest",
            ],
            (Form::Usual, Kind::P256) => &["pkeyutl", "-sign", "-rawin", "-digest", "sha256"],
            (Form::Usual, Kind::P384) => &["pkeyutl", "-sign", "-rawin", "-digest", "sha384"],
            (Form::Usual, Kind::Ed25519) => &["pkeyutl", "-sign", "-rawin"],
        };
        openssl(options, &[("-inkey", &self.private_path()), ("-in", &message)])
    }
}

/// PEM to DER.
pub fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).expect("base64 in PEM")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("openssl prints PEM")
}

/// Runs it with these words, and options that name files.
fn openssl<I>(words: I, files: &[(&str, &PathBuf)]) -> Vec<u8>
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let mut command = Command::new("openssl");
    command.args(words.into_iter().map(|word| word.as_ref().to_owned()));
    for (option, file) in files {
        if !option.is_empty() {
            command.arg(option);
        }
        command.arg(file);
    }
    let output = command.output().expect("the openssl program is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// An Ed25519 key that signs here, for tests that need many signatures and no other implementation.
#[derive(Debug)]
pub struct Quick(Ed25519KeyPair);

impl Quick {
    /// A new one.
    ///
    /// # Panics
    /// Without random bytes.
    pub fn generate() -> Self {
        Self(Ed25519KeyPair::generate().expect("random bytes"))
    }

    /// SubjectPublicKeyInfo, DER (RFC 8410).
    pub fn spki(&self) -> Vec<u8> {
        [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", self.0.public_key().as_ref()].concat()
    }

    /// What the settings call `pub_key`, here base64 of DER.
    pub fn packed(&self) -> String {
        STANDARD.encode(self.spki())
    }

    /// A proof over a challenge.
    pub fn prove(&self, context: &str, text: &str) -> Vec<u8> {
        self.sign(format!("{context}\n{text}").as_bytes())
    }

    /// A signature of these bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}
