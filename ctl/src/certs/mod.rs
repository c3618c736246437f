//! `doorward certs`: registered keys, one's own through the gateway, the whole registry as root.

mod store;
mod sysadm;

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::{
    client::{Client, Endpoint, Fingerprint, REPLY_DEADLINE},
    error::Error,
    key::{Described, PrivateKey, PublicKey, pem},
    login,
    output::Output,
    proof::{self, Purpose},
};

const DEFAULT_STORE: &str = "/run/doorward/certd/certd.sock";

const NOT_REGISTERED: &str = "it takes a login with a password, or a local one, of the last 10 minutes; a \
                              proof, if the server asks for one; and a key that is nobody else's";
const NOT_REVOKED: &str = "it takes a login with a password, or a local one, of the last 10 minutes; and full \
                           access for the keys of others";

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show your registered keys; with full access, everybody's
    List,
    /// Register a key of yours. The session must have been opened by password, or locally without one,
    /// within the last 10 minutes. As root, with --user, somebody else's, without a session
    Register {
        /// The PEM file of the public key, or of a certificate
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Do not prove that the private key is yours, where the server does not ask for it
        #[arg(long, conflicts_with = "key")]
        unproven: bool,
        /// A name for the key
        #[arg(long, value_name = "TEXT", default_value = "")]
        nickname: String,
        /// An address that goes with it
        #[arg(long, value_name = "TEXT", default_value = "")]
        email: String,
        /// As root: whose key it is; it goes to certd itself, past the gateway
        #[arg(long, value_name = "NAME", conflicts_with_all = ["key", "unproven"])]
        user: Option<String>,
        #[command(flatten)]
        store: StoreOptions,
    },
    /// Revoke a key: it opens nothing any more, and what it opened ends
    Revoke {
        /// SHA256:..., or the PEM file of the public key or certificate
        #[arg(value_name = "FINGERPRINT|FILE")]
        which: String,
        /// Whose key, if not yours; needs full access
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// As root: write the whole registry to stdout, one JSON object a line
    Export(StoreOptions),
    /// As root: read what `export` wrote; keys that are registered already stay as they are
    Import {
        /// The file; `-` reads stdin
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        store: StoreOptions,
    },
    /// As root: read the keys out of the settings file of the original SysAdm server
    ImportSysadm {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        store: StoreOptions,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct StoreOptions {
    /// certd's socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_STORE)]
    certd: PathBuf,
}

impl Command {
    /// Whether a key of ours has anything to do here.
    pub(crate) fn takes_key(&self) -> bool {
        matches!(self, Self::Register { user: None, .. })
    }
}

/// What goes through the gateway.
pub(crate) async fn run(
    command: Command,
    endpoint: impl FnOnce() -> Result<Endpoint, Error>,
    key: Option<&PrivateKey>,
    output: Output,
) -> Result<(), Error> {
    match command {
        Command::List => list(&endpoint()?, output).await,
        Command::Register { file, user: Some(user), nickname, email, store, .. } => {
            store::register(&store.certd, &Described::read(&file)?, user, [nickname, email], output).await
        }
        Command::Register { file, unproven, nickname, email, user: None, .. } => {
            if key.is_none() && !unproven {
                return Err(Error::Usage(
                    "prove that the key is yours with --key FILE, its private half (or say --unproven, where \
                     the server takes that)"
                        .to_owned(),
                ));
            }
            let texts = [("nickname", nickname), ("email", email)];
            register(&endpoint()?, &Described::read(&file)?, key, texts, output).await
        }
        Command::Revoke { which, user } => revoke(&endpoint()?, &which, user.as_deref(), output).await,
        Command::Export(store) => store::export(&store.certd).await,
        Command::Import { file, store } => store::import(&store.certd, &file, output).await,
        Command::ImportSysadm { file, store } => store::import_sysadm(&store.certd, &file, output).await,
    }
}

/// The gateway gives no reason for a refusal; these are the usual ones.
fn with_reasons(error: Error, reasons: &str) -> Error {
    match error {
        Error::Refused { code: Some(403), message } => {
            Error::Refused { code: Some(403), message: format!("{message}: {reasons}") }
        }
        other => other,
    }
}

/// One of the actions of `rpc/settings`.
async fn settings(client: &mut Client, action: &str, mut args: Map<String, Value>) -> Result<Value, Error> {
    args.insert("action".to_owned(), action.into());
    client.request("rpc", "settings", &Value::Object(args), REPLY_DEADLINE).await
}

/// A key as the gateway lists it.
struct Listed {
    user: String,
    key: PublicKey,
    text: String,
}

impl Listed {
    fn from_wire(args: &Value) -> Result<Vec<Self>, Error> {
        let unclear = || Error::unreachable("the gateway's list of keys makes no sense");
        let mut listed = Vec::new();
        for (user, keys) in args.as_object().ok_or_else(unclear)? {
            for (key, text) in keys.as_object().ok_or_else(unclear)? {
                let key = PublicKey::from_wire(key).ok_or_else(unclear)?;
                let text = text.as_str().ok_or_else(unclear)?.to_owned();
                listed.push(Self { user: user.clone(), key, text });
            }
        }
        Ok(listed)
    }

    /// What follows a label in the text.
    fn said(&self, label: &str) -> &str {
        let lines = self.text.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| *found == label).map(|(_, said)| said.trim()).next().unwrap_or_default()
    }
}

async fn list(endpoint: &Endpoint, output: Output) -> Result<(), Error> {
    let (mut client, _) = login::with_session(endpoint).await?;
    let reply = settings(&mut client, "list_ssl_certs", Map::new()).await;
    client.close().await;
    let listed = Listed::from_wire(&reply?)?;
    if listed.is_empty() && !output.json {
        return output.result(&[("no key is registered", String::new())], &json!([]));
    }
    let head = ["user", "nickname", "fingerprint", "proven", "registered", "last used"];
    let cells = |entry: &Listed| {
        let [nickname, proven, registered, used] =
            ["Nickname", "Proven", "Date Registered", "Last Used"].map(|label| entry.said(label).to_owned());
        [entry.user.clone(), nickname, entry.key.fingerprint().to_string(), proven, registered, used]
    };
    let rows: Vec<_> = listed.iter().map(cells).collect();
    let value = listed.iter().map(|entry| {
        json!({
            "user": entry.user,
            "fingerprint": entry.key.fingerprint().to_string(),
            "nickname": entry.said("Nickname"),
            "email": entry.said("Email"),
            "registered": entry.said("Date Registered"),
            "proven": entry.said("Proven") == "yes",
            "last_used": entry.said("Last Used"),
            "public_key": entry.key.pem(),
            "text": entry.text,
        })
    });
    output.list(head, &rows, &value.collect())
}

async fn register(
    endpoint: &Endpoint,
    described: &Described,
    key: Option<&PrivateKey>,
    texts: [(&str, String); 2],
    output: Output,
) -> Result<(), Error> {
    if let Some(private) = key
        && *private.public() != described.key
    {
        return Err(Error::Usage(format!(
            "the key of --key is {}, the one to register is {}",
            private.public().fingerprint(),
            described.key.fingerprint()
        )));
    }
    let (mut client, session) = login::with_session(endpoint).await?;
    let mut args = Map::new();
    args.insert("pub_key".to_owned(), described.key.to_wire().into());
    if let Some(certificate) = &described.certificate {
        args.insert("certificate".to_owned(), STANDARD.encode(pem("CERTIFICATE", certificate)).into());
    }
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    args.extend(texts.map(|(name, text)| (name.to_owned(), text.into())));
    if let Some(private) = key {
        let challenge = settings(&mut client, "register_challenge", Map::new()).await;
        let challenge = challenge.map_err(|error| with_reasons(error, NOT_REGISTERED))?;
        let proof = proof::answer(&challenge, Purpose::Registration, &client.server, private)?;
        args.insert("proof".to_owned(), proof.into());
    }
    let reply = settings(&mut client, "register_ssl_cert", args).await;
    client.close().await;
    reply.map_err(|error| with_reasons(error, NOT_REGISTERED))?;
    let fingerprint = described.key.fingerprint().to_string();
    let value = json!({"user": session.user, "fingerprint": fingerprint, "proven": key.is_some()});
    output.result(&[("registered", fingerprint), ("for", session.user)], &value)
}

async fn revoke(endpoint: &Endpoint, which: &str, user: Option<&str>, output: Output) -> Result<(), Error> {
    let named = match which.parse::<Fingerprint>() {
        Ok(fingerprint) => Err(fingerprint),
        Err(problem) if which.starts_with("SHA256:") => return Err(Error::Usage(problem)),
        Err(_) => Ok(Described::read(Path::new(which))?.key),
    };
    let (mut client, _) = login::with_session(endpoint).await?;
    let key = match named {
        Ok(key) => key,
        Err(fingerprint) => by_fingerprint(&mut client, &fingerprint).await?,
    };
    let mut args = Map::new();
    args.insert("pub_key".to_owned(), key.to_wire().into());
    args.extend(user.map(|user| ("user".to_owned(), user.into())));
    let reply = settings(&mut client, "revoke_ssl_cert", args).await;
    client.close().await;
    reply.map_err(|error| match error {
        Error::Refused { code: Some(404), message } if user.is_none() => Error::Refused {
            code: Some(404),
            message: format!("{message}: no such key of yours; another's needs --user NAME"),
        },
        other => with_reasons(other, NOT_REVOKED),
    })?;
    let fingerprint = key.fingerprint().to_string();
    let value = json!({ "revoked": fingerprint });
    output.result(&[("revoked", fingerprint)], &value)
}

/// A request names the key itself; the list has it.
async fn by_fingerprint(client: &mut Client, wanted: &Fingerprint) -> Result<PublicKey, Error> {
    let reply = settings(client, "list_ssl_certs", Map::new()).await?;
    let found = Listed::from_wire(&reply)?.into_iter().find(|entry| entry.key.fingerprint() == *wanted);
    found.map(|entry| entry.key).ok_or_else(|| Error::refused(format!("no key {wanted} is registered here")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_makes_no_sense_is_refused() {
        for args in [json!([]), json!({"a": []}), json!({"a": {"x": ""}}), json!({"a": {"x": 1}})] {
            assert!(Listed::from_wire(&args).is_err(), "{args}");
        }
        assert!(Listed::from_wire(&json!({})).expect("an empty list").is_empty());
    }
}
