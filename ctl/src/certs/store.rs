//! The whole registry, for root: JSON lines out of certd and into it, on certd's own socket.

use std::{
    fs::File,
    io::{BufWriter, Read, Write},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use doorward_proto::certd::v1::{Entry, ExportRequest, ImportReply, store_client::StoreClient};
use futures_util::stream;
use nix::unistd::User;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;
use tonic::{Status, transport::Channel};

use super::sysadm;
use crate::{
    client::Fingerprint,
    error::Error,
    key::{Described, PublicKey, pem},
    output::{Output, printable},
    service,
};

/// A file is read up to here; 100,000 keys of 8,192 bits come to less.
const FILE_MAX: u64 = 256 * 1024 * 1024;
/// Between two entries of an export.
const NEXT_DEADLINE: Duration = Duration::from_secs(30);
/// A whole import: each batch of 64 is on disk before the next.
const IMPORT_DEADLINE: Duration = Duration::from_secs(600);

/// One entry as it stands in a line. Times are seconds since 1970, UTC.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    fingerprint: String,
    public_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(default)]
    nickname: String,
    #[serde(default)]
    email: String,
    registered: i64,
    #[serde(default)]
    registered_session: String,
    #[serde(default)]
    registered_method: String,
    proven: bool,
    #[serde(default)]
    last_used: Option<i64>,
    #[serde(default)]
    last_source: String,
    #[serde(default)]
    revoked: Option<i64>,
    #[serde(default)]
    revoked_by: String,
}

impl Line {
    fn from_wire(entry: Entry) -> Self {
        let key = PublicKey::from_der(entry.key);
        Self {
            user: entry.user,
            uid: entry.uid,
            fingerprint: key.fingerprint().to_string(),
            public_key: key.pem(),
            certificate: (!entry.certificate.is_empty()).then(|| pem("CERTIFICATE", &entry.certificate)),
            nickname: entry.nickname,
            email: entry.email,
            registered: entry.registered,
            registered_session: entry.registered_session,
            registered_method: entry.registered_method,
            proven: entry.proven,
            last_used: entry.last_used,
            last_source: entry.last_source,
            revoked: entry.revoked,
            revoked_by: entry.revoked_by,
        }
    }

    fn into_wire(self) -> Result<Entry, String> {
        let key =
            PublicKey::from_pem(self.public_key.as_bytes()).ok_or("its public_key is no PEM public key")?;
        let fingerprint: Fingerprint = self.fingerprint.parse()?;
        if fingerprint != key.fingerprint() {
            return Err(format!("its fingerprint is not that of its key, {}", key.fingerprint()));
        }
        let certificate = self.certificate.map(|text| CertificateDer::from_pem_slice(text.as_bytes()));
        let certificate = certificate.transpose().map_err(|_| "its certificate is no PEM certificate")?;
        Ok(Entry {
            fingerprint: fingerprint.bytes().to_vec(),
            key: key.der().to_vec(),
            certificate: certificate.map(|der| der.as_ref().to_vec()).unwrap_or_default(),
            user: self.user,
            uid: self.uid,
            nickname: self.nickname,
            email: self.email,
            registered: self.registered,
            registered_session: self.registered_session,
            registered_method: self.registered_method,
            proven: self.proven,
            last_used: self.last_used,
            last_source: self.last_source,
            revoked: self.revoked,
            revoked_by: self.revoked_by,
            ..Entry::default()
        })
    }
}

/// `certs export`.
pub(super) async fn export(socket: &Path) -> Result<(), Error> {
    let mut store = connect(socket).await?;
    let mut entries = store.export(ExportRequest {}).await.map_err(|status| refused(&status))?.into_inner();
    let mut out = BufWriter::new(std::io::stdout().lock());
    loop {
        let next = timeout(NEXT_DEADLINE, entries.message()).await;
        let next = next.map_err(|_| Error::unreachable("certd gave no entry for 30 seconds"))?;
        let Some(entry) = next.map_err(|status| refused(&status))? else { break };
        let written = serde_json::to_string(&Line::from_wire(entry))
            .map_err(std::io::Error::from)
            .and_then(|line| writeln!(out, "{line}"));
        // Also where the reader is gone: what it has is half a registry.
        written.map_err(|error| unwritten(&error))?;
    }
    out.flush().map_err(|error| unwritten(&error))
}

fn unwritten(error: &std::io::Error) -> Error {
    Error::Failed(format!("cannot write the registry: {error}"))
}

/// `certs import`. Nothing is sent before every line was understood.
pub(super) async fn import(socket: &Path, file: &Path, output: Output) -> Result<(), Error> {
    let text = read(file)?;
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = index + 1;
        let entry = serde_json::from_str::<Line>(line)
            .map_err(|error| error.to_string())
            .and_then(Line::into_wire)
            .map_err(|why| Error::Failed(format!("{}, line {number}: {why}", file.display())))?;
        entries.push((number, entry));
    }
    send(socket, entries, &[], output).await
}

/// `certs import-sysadm`. A line that cannot be read does not keep the others out.
pub(super) async fn import_sysadm(socket: &Path, file: &Path, output: Output) -> Result<(), Error> {
    let text = read(file)?;
    let now = now();
    let mut entries = Vec::new();
    let mut unread = Vec::new();
    for (number, read) in sysadm::entries(&text) {
        match read {
            Ok(key) => entries.push((number, key.into_wire(now))),
            Err(why) => unread.push(format!("line {number}: {why}")),
        }
    }
    if entries.is_empty() && unread.is_empty() {
        let path = file.display();
        return Err(Error::refused(format!("{path} holds no key: no entry below [{}]", sysadm::GROUP)));
    }
    send(socket, entries, &unread, output).await
}

/// `certs register --user`: root's word, so the key is unproven until its first login. It is the account's that
/// has the name now; where this host knows nobody of that name, whoever's who comes to have it.
pub(super) async fn register(
    socket: &Path,
    described: &Described,
    user: String,
    [nickname, email]: [String; 2],
    output: Output,
) -> Result<(), Error> {
    // Not knowing whose it is must not make it anybody's.
    let account = User::from_name(&user)
        .map_err(|error| Error::Failed(format!("cannot look {} up: {error}", printable(&user))))?;
    let entry = Entry {
        key: described.key.der().to_vec(),
        certificate: described.certificate.as_ref().map(|der| der.as_ref().to_vec()).unwrap_or_default(),
        user: user.clone(),
        uid: account.map(|found| found.uid.as_raw()),
        nickname,
        email,
        registered: now(),
        registered_method: "root".into(),
        ..Entry::default()
    };
    let mut store = connect(socket).await?;
    let reply = timeout(IMPORT_DEADLINE, store.import(stream::iter([entry]))).await;
    let reply = reply.map_err(|_| Error::unreachable("certd did not finish within 10 minutes"))?;
    let ImportReply { added, refused, .. } = reply.map_err(|status| self::refused(&status))?.into_inner();
    if let Some(why) = refused.first() {
        return Err(Error::refused(printable(why.strip_prefix("entry 1: ").unwrap_or(why))));
    }
    let fingerprint = described.key.fingerprint().to_string();
    let value = json!({"user": user, "fingerprint": fingerprint, "proven": false, "new": added > 0});
    let what = if added > 0 { "registered" } else { "registered before" };
    output.result(&[(what, fingerprint), ("for", user)], &value)
}

/// Seconds of UTC.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// Sends the entries, each with its line number, and says what became of them.
async fn send(
    socket: &Path,
    entries: Vec<(usize, Entry)>,
    unread: &[String],
    output: Output,
) -> Result<(), Error> {
    let (numbers, entries): (Vec<usize>, Vec<Entry>) = entries.into_iter().unzip();
    let mut store = connect(socket).await?;
    let reply = timeout(IMPORT_DEADLINE, store.import(stream::iter(entries))).await;
    let reply = reply.map_err(|_| Error::unreachable("certd did not finish within 10 minutes"))?;
    let ImportReply { added, known, refused } = reply.map_err(|status| self::refused(&status))?.into_inner();
    let lines: Vec<String> =
        unread.iter().cloned().chain(refused.iter().map(|why| by_line(why, &numbers))).collect();
    for line in &lines {
        // stderr may be gone; the counts and the exit code still tell.
        let _ = writeln!(std::io::stderr(), "doorward: {}", printable(line));
    }
    let taken = added.saturating_add(known);
    let left = (numbers.len() as u64).saturating_sub(taken) + unread.len() as u64;
    let rows = [("added", added.to_string()), ("known", known.to_string()), ("refused", left.to_string())];
    let value = json!({"added": added, "known": known, "refused": left, "why": lines});
    output.result(&rows, &value)?;
    if left == 0 { Ok(()) } else { Err(Error::refused(format!("{left} entries were not imported"))) }
}

/// certd counts entries; people count lines.
fn by_line(why: &str, numbers: &[usize]) -> String {
    let line = why.strip_prefix("entry ").and_then(|rest| {
        let (entry, why) = rest.split_once(": ")?;
        let number = numbers.get(entry.parse::<usize>().ok()?.checked_sub(1)?)?;
        Some(format!("line {number}: {why}"))
    });
    line.unwrap_or_else(|| why.to_owned())
}

async fn connect(socket: &Path) -> Result<StoreClient<Channel>, Error> {
    Ok(StoreClient::new(service::connect(socket, "certd").await?))
}

fn refused(status: &Status) -> Error {
    service::refused(status, "certd")
}

fn read(file: &Path) -> Result<String, Error> {
    let failed = |why: String| Error::Failed(format!("cannot read {}: {why}", file.display()));
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(FILE_MAX + 1).read_to_string(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text))
    };
    read.map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > FILE_MAX {
        return Err(failed("it is longer than 256 MiB".to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_is_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let key = crate::key::PrivateKey::generate_in(&directory.path().join("key")).expect("a key");
        let entry = Entry {
            key: key.public().der().to_vec(),
            fingerprint: key.public().fingerprint().bytes().to_vec(),
            user: "alice".into(),
            uid: Some(1001),
            certificate: vec![1, 2, 3],
            nickname: "n \"x\"\n".into(),
            email: "e".into(),
            registered: 1,
            registered_session: "s".into(),
            registered_method: "password".into(),
            proven: true,
            last_used: Some(2),
            last_source: "192.0.2.1".into(),
            revoked: Some(3),
            revoked_by: "root".into(),
            ..Entry::default()
        };
        let line = serde_json::to_string(&Line::from_wire(entry.clone())).expect("written");
        assert!(!line.contains('\n'));
        let read: Line = serde_json::from_str(&line).expect("read");
        assert_eq!(read.into_wire(), Ok(entry));
    }

    #[test]
    fn refusals_name_the_line() {
        assert_eq!(by_line("entry 2: no", &[3, 7]), "line 7: no");
        for other in ["entry 3: no", "entry 0: no", "entry x: no", "no"] {
            assert_eq!(by_line(other, &[3, 7]), other);
        }
    }
}
