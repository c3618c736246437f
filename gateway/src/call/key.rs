//! Registered keys: logins by them, requests about them, and what is known of them.

/// A stage of `rpc/auth_ssl`.
#[derive(Debug)]
pub enum AuthSsl {
    /// The first: a string to be signed. Hints change nothing and are not kept.
    Challenge,
    /// The second: the signature; nothing where the text given cannot be one.
    Proof(Option<KeyProof>),
}

/// An answer to a challenge.
#[derive(Debug)]
pub struct KeyProof {
    /// In whatever form; certd knows them.
    pub signature: Vec<u8>,
    /// Whose key it is; empty: not said.
    pub username: String,
    /// Which key it is: SHA-256 of its SPKI (DER).
    pub fingerprint: Option<[u8; 32]>,
}

/// The actions of `rpc/settings`.
#[derive(Debug)]
pub enum KeyRequest {
    /// `list_ssl_certs`
    List,
    /// `list_ssl_checksums`
    Checksums,
    /// `register_challenge`
    Challenge,
    /// `register_ssl_cert`
    Register(Box<Registration>),
    /// `revoke_ssl_cert`
    Revoke {
        /// PEM or DER.
        public_key: Vec<u8>,
        /// Empty: the caller.
        user: String,
    },
}

/// A key to be registered.
#[derive(Debug)]
pub struct Registration {
    /// PEM or DER.
    pub public_key: Vec<u8>,
    /// PEM or DER; empty: none.
    pub certificate: Vec<u8>,
    /// For people; may be empty.
    pub nickname: String,
    /// For people; may be empty.
    pub email: String,
    /// A signature over the registration challenge; empty: none.
    pub proof: Vec<u8>,
}

/// What a client showed in the TLS handshake, where it also showed that it has the private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SubjectPublicKeyInfo, DER.
    pub key: Vec<u8>,
    /// DER.
    pub certificate: Vec<u8>,
}

/// SHA-256 of the server's TLS public key (SPKI, DER), as this client sees it; none on the Unix socket.
pub type ServerKey = Option<[u8; 32]>;

/// A challenge.
#[derive(Debug)]
pub struct Challenge {
    /// 128 letters and digits.
    pub test_string: String,
    /// What is signed together with it.
    pub context: String,
}

/// A registered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Whose it is.
    pub user: String,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    /// SHA-256 of it.
    pub fingerprint: [u8; 32],
    /// For people.
    pub nickname: String,
    /// For people.
    pub email: String,
    /// Seconds of UTC.
    pub registered: i64,
    /// Its holder has shown that he has the private key.
    pub proven: bool,
    /// Seconds of UTC, and from where.
    pub last_used: Option<(i64, String)>,
    /// What was registered with it.
    pub certificate: Option<KeyCertificate>,
}

/// The certificate of a registered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCertificate {
    /// Its DER.
    pub der: Vec<u8>,
    /// For people.
    pub subject: String,
    /// Seconds of UTC.
    pub not_before: i64,
    /// Seconds of UTC.
    pub not_after: i64,
}
