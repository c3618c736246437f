//! Keys, certificates and signatures made by the openssl program: another implementation than the one
//! under test. Each test works in a temporary directory of its own.

#![allow(dead_code, unreachable_pub, reason = "shared by test binaries that use different parts")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// RSA PKCS#1 v1.5 type 1 without a digest: what `RSA_private_encrypt` makes.
    Bare,
    Pkcs1,
    Pss,
    Ecdsa256,
    Ecdsa384,
    Ed25519,
}

/// A private key in a temporary directory.
pub struct Key {
    directory: tempfile::TempDir,
    pem: std::sync::OnceLock<Vec<u8>>,
}

impl Key {
    /// `openssl genpkey` with these arguments, for example `["-algorithm", "ed25519"]`.
    pub fn generate(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let key = Self { directory, pem: std::sync::OnceLock::new() };
        let out = key.path("private.pem");
        run(Command::new("openssl").arg("genpkey").args(arguments).arg("-out").arg(out));
        key
    }

    pub fn rsa(bits: u32) -> Self {
        Self::generate(&["-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")])
    }

    pub fn rsa_exponent(bits: u32, exponent: u64) -> Self {
        Self::generate(&[
            "-algorithm",
            "RSA",
            "-pkeyopt",
            &format!("rsa_keygen_bits:{bits}"),
            "-pkeyopt",
            &format!("rsa_keygen_pubexp:{exponent}"),
        ])
    }

    pub fn curve(name: &str) -> Self {
        Self::generate(&["-algorithm", "EC", "-pkeyopt", &format!("ec_paramgen_curve:{name}")])
    }

    pub fn ed25519() -> Self {
        Self::generate(&["-algorithm", "ed25519"])
    }

    /// A key that makes proofs of this form.
    pub fn for_form(form: Form) -> Self {
        match form {
            Form::Bare | Form::Pkcs1 | Form::Pss => Self::rsa(2048),
            Form::Ecdsa256 => Self::curve("P-256"),
            Form::Ecdsa384 => Self::curve("P-384"),
            Form::Ed25519 => Self::ed25519(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The public key, PEM.
    pub fn pem(&self) -> Vec<u8> {
        self.pem.get_or_init(|| self.public(&["-outform", "PEM"])).clone()
    }

    /// The public key, DER.
    pub fn der(&self) -> Vec<u8> {
        self.public(&["-outform", "DER"])
    }

    /// `openssl pkey -pubout` with these arguments.
    pub fn public(&self, arguments: &[&str]) -> Vec<u8> {
        run(Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(self.path("private.pem"))
            .args(arguments))
    }

    /// A proof over a challenge: the bare form signs `text` alone, the others both.
    pub fn prove(&self, form: Form, context: &str, text: &str) -> Vec<u8> {
        let both = format!("{context}\n{text}");
        self.sign(form, if form == Form::Bare { text.as_bytes() } else { both.as_bytes() })
    }

    /// Signs exactly these bytes.
    pub fn sign(&self, form: Form, message: &[u8]) -> Vec<u8> {
        let file = self.path("message");
        fs::write(&file, message).expect("the message is written");
        let options: &[&str] = match form {
            Form::Bare => return self.rsautl(&file, &[]),
            Form::Pkcs1 => &["-rawin", "-digest", "sha256", "-pkeyopt", "rsa_padding_mode:pkcs1"],
            Form::Pss => &[
                "-rawin",
                "-digest",
                "sha256",
                "-pkeyopt",
                "rsa_padding_mode:pss",
                "-pkeyopt",
                "rsa_pss_saltlen:digest",
            ],
            Form::Ecdsa256 => &["-rawin", "-digest", "sha256"],
            Form::Ecdsa384 => &["-rawin", "-digest", "sha384"],
            Form::Ed25519 => &["-rawin"],
        };
        self.pkeyutl(&file, options)
    }

    /// The private RSA operation on a whole block, without any padding.
    pub fn raw(&self, block: &[u8]) -> Vec<u8> {
        let file = self.path("block");
        fs::write(&file, block).expect("the block is written");
        self.rsautl(&file, &["-raw"])
    }

    /// pkeyutl signs nothing longer than a hash without hashing it.
    fn rsautl(&self, file: &Path, options: &[&str]) -> Vec<u8> {
        run(Command::new("openssl")
            .args(["rsautl", "-sign", "-inkey"])
            .arg(self.path("private.pem"))
            .arg("-in")
            .arg(file)
            .args(options))
    }

    fn pkeyutl(&self, file: &Path, options: &[&str]) -> Vec<u8> {
        run(Command::new("openssl")
            .args(["pkeyutl", "-sign", "-inkey"])
            .arg(self.path("private.pem"))
            .arg("-in")
            .arg(file)
            .args(options))
    }

    /// A self-signed certificate, PEM, for 30 days from now, with further arguments of `openssl req`.
    pub fn certificate(&self, subject: &str, arguments: &[&str]) -> Vec<u8> {
        run(Command::new("openssl")
            .args(["req", "-x509", "-new", "-key"])
            .arg(self.path("private.pem"))
            .args(["-subj", subject])
            .args(arguments))
    }

    /// A self-signed certificate of version 1, PEM: `openssl x509 -req` without extensions.
    pub fn certificate_v1(&self, subject: &str) -> Vec<u8> {
        let request = self.path("request.pem");
        let private = self.path("private.pem");
        run(Command::new("openssl")
            .args(["req", "-new", "-subj", subject, "-key"])
            .arg(&private)
            .arg("-out")
            .arg(&request));
        run(Command::new("openssl").args(["x509", "-req", "-in"]).arg(&request).arg("-signkey").arg(&private))
    }
}

/// PEM to DER.
pub fn der_of(pem: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let text = std::str::from_utf8(pem).expect("PEM is ASCII");
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(body).expect("base64")
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("the openssl program is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
