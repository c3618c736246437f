//! Looks: runs each service's own check of its file, and asks the kernel, the user database and the gateway.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::unistd::{Group, User};
use rustix::fs::OFlags;
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};
use zeroize::Zeroizing;

use super::{
    Options,
    facts::{Access, Certificate, Facts, File, Gateway, Ids, Kind, Registered, Room, Service},
};
use crate::{
    client::{Client, Endpoint},
    error::Error,
    file,
    program::Programs,
};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// In the order in which PAM looks.
#[cfg(not(target_os = "freebsd"))]
const PAM_SERVICES: [&str; 1] = ["/etc/pam.d/doorward"];
#[cfg(target_os = "freebsd")]
const PAM_SERVICES: [&str; 2] = ["/etc/pam.d/doorward", "/usr/local/etc/pam.d/doorward"];
/// Larger files are neither certificates nor PAM services.
const FILE_MAX: usize = 1 << 20;

/// Everything that the checks need.
pub(super) async fn gather(options: &Options) -> Result<Facts, Error> {
    let directory = options.config_dir.clone();
    let programs = Programs::find()?;
    let pam = options.pam_service.clone().unwrap_or_else(pam_service);
    let mut facts = Facts {
        root: rustix::process::geteuid().is_root(),
        now: seconds(SystemTime::now()),
        gateway: config(&programs, &directory, Service::Gateway).await,
        authd: config(&programs, &directory, Service::Authd).await,
        certd: config(&programs, &directory, Service::Certd).await,
        sysinfo: None,
        directory,
        users: BTreeMap::new(),
        groups: BTreeMap::new(),
        files: BTreeMap::new(),
        listeners: BTreeMap::new(),
        identify: Err("it has no Unix socket".to_owned()),
        pam: (pam.clone(), text(&pam)),
        certificate: None,
        room: BTreeMap::new(),
    };
    if facts.registered().iter().any(Registered::is_sysinfo) {
        facts.sysinfo = Some(config(&programs, &facts.directory, Service::Sysinfo).await);
    }
    names(&mut facts);
    facts.certificate = facts.gateway.as_ref().ok().and_then(certificate);
    files(&mut facts);
    listeners(&mut facts).await;
    if let Ok(gateway) = &facts.gateway {
        facts.identify = identify(&gateway.listen.unix).await;
    }
    Ok(facts)
}

/// The one that the PAM worker takes: the first that is there.
fn pam_service() -> PathBuf {
    let all = PAM_SERVICES.map(PathBuf::from);
    all.iter().find(|path| path.exists()).unwrap_or(&all[0]).clone()
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// The configuration as the service itself reads and checks it, with its defaults.
async fn config<C: DeserializeOwned>(
    programs: &Programs,
    directory: &Path,
    service: Service,
) -> Result<C, String> {
    let name = service.program();
    let said = programs.ask((name, service.file()), directory, "--show-config", &[]).await?;
    serde_json::from_slice(&said).map_err(|error| format!("{name} is of another version: {error}"))
}

/// Users and groups that the configurations name.
fn names(facts: &mut Facts) {
    let mut users: BTreeSet<String> = BTreeSet::new();
    let mut groups: BTreeSet<String> = BTreeSet::new();
    if let Ok(config) = &facts.gateway {
        users.extend([config.user.clone(), config.authd.user.clone()]);
        if config.certd.socket != Path::new("") {
            users.insert(config.certd.user.clone());
        }
    }
    if let Ok(config) = &facts.authd {
        users.extend([config.user.clone(), config.peers.gateway.clone()]);
        let Access { full_groups, limited_groups, group_acl } = &config.access;
        let named = full_groups.iter().chain(limited_groups).chain(group_acl.keys());
        groups.extend(named.chain(config.token_api.group_acl.keys()).cloned());
    }
    if let Ok(config) = &facts.certd {
        users.extend([config.user.clone(), config.peers.gateway.clone(), config.peers.authd.clone()]);
    }
    if let Some(Ok(config)) = &facts.sysinfo {
        users.extend([config.user.clone(), config.peers.gateway.clone(), config.peers.authd.clone()]);
    }
    facts.users = users.into_iter().map(|name| (name.clone(), ids(&name))).collect();
    let exists = |name: &str| Group::from_name(name).is_ok_and(|group| group.is_some());
    facts.groups = groups.into_iter().map(|name| (name.clone(), exists(&name))).collect();
}

/// As the services read it: a number needs no account.
fn ids(name: &str) -> Option<Ids> {
    let of = |user: User| Ids { uid: user.uid.as_raw(), gid: user.gid.as_raw() };
    match name.parse::<u32>() {
        Ok(uid) => {
            let account = User::from_uid(uid.into()).ok().flatten();
            Some(account.map_or(Ids { uid, gid: uid }, of))
        }
        Err(_) => User::from_name(name).ok().flatten().map(of),
    }
}

fn files(facts: &mut Facts) {
    let mut paths: BTreeSet<PathBuf> = BTreeSet::from([facts.directory.clone(), facts.pam.0.clone()]);
    paths.extend(Service::ALL.map(|service| facts.directory.join(service.file())));
    let mut states = Vec::new();
    for (_, _, state, log) in facts.services() {
        states.push(state.clone());
        if let Some(file) = &log.file {
            paths.extend([Some(file.clone()), file.parent().map(Path::to_owned)].into_iter().flatten());
        }
    }
    if let Ok(gateway) = &facts.gateway {
        paths.insert(gateway.state_dir.join("listening.json"));
        paths.insert(gateway.subsystems.directory.clone());
    }
    for socket in facts.sockets() {
        paths.extend(socket.path.parent().map(Path::to_owned));
        paths.insert(socket.path);
    }
    for registered in facts.registered() {
        paths.extend([registered.socket.clone(), registered.file.clone()]);
        paths.extend(registered.socket.parent().map(Path::to_owned));
    }
    // What a link names is what is read.
    let issuers = facts.authd.iter().flat_map(|authd| &authd.jwt);
    let followed = facts.certificate.iter().flat_map(|found| [&found.path, &found.key]);
    let followed = followed.chain(issuers.flat_map(|issuer| issuer.key_file.iter().chain(&issuer.jwks_file)));
    let followed: Vec<_> = followed.map(|path| (path.clone(), look(path, true))).collect();
    for state in &states {
        if let Ok(room) = rustix::fs::statvfs(state) {
            let (bytes, files) = (room.f_bavail.saturating_mul(room.f_frsize), room.f_favail);
            // A file system without a table of files says 0 of 0.
            let files = if room.f_files == 0 { u64::MAX } else { files };
            facts.room.insert(state.clone(), Room { bytes, files });
        }
    }
    paths.extend(states);
    facts.files = paths.into_iter().map(|path| (path.clone(), look(&path, false))).collect();
    facts.files.extend(followed);
}

fn look(path: &Path, follow: bool) -> File {
    match if follow { fs::metadata(path) } else { fs::symlink_metadata(path) } {
        Ok(found) => {
            let of = found.file_type();
            let kind = match () {
                () if of.is_file() => Kind::File,
                () if of.is_dir() => Kind::Directory,
                () if of.is_socket() => Kind::Socket,
                () => Kind::Other,
            };
            let mode = found.mode() & 0o7777;
            File::There { kind, uid: found.uid(), gid: found.gid(), mode, modified: found.mtime() }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => File::Missing,
        Err(error) => File::Hidden(error.to_string()),
    }
}

/// A file's bytes. Whoever is doctored must not hold up root, who looks: files of the kernel's, which have no size, are
/// not read either.
fn bytes(path: &Path, links: OFlags) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = file::open(path, links)?;
    match file.metadata() {
        Ok(found) if found.len() == 0 => Err("it is empty".to_owned()),
        Ok(_) => file::contents(file, FILE_MAX),
        Err(error) => Err(error.to_string()),
    }
}

fn text(path: &Path) -> Result<String, String> {
    bytes(path, OFlags::empty()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The certificate that is configured, or the gateway's own, which may not be there yet.
fn certificate(gateway: &Gateway) -> Option<Certificate> {
    let (path, key, own) = match (&gateway.tls.certificate, &gateway.tls.key) {
        (Some(path), Some(key)) => (path.clone(), key.clone(), false),
        _ => (gateway.state_dir.join("tls.crt"), gateway.state_dir.join("tls.key"), true),
    };
    if own && matches!(look(&path, true), File::Missing | File::Hidden(_)) {
        return None;
    }
    // Nobody else puts links into the gateway's own directory.
    let links = if own { OFlags::NOFOLLOW } else { OFlags::empty() };
    let pem = bytes(&path, links);
    let holds = pem.as_ref().map_err(Clone::clone).and_then(|pem| {
        let der = CertificateDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|error| error.to_string())?;
        let validity = parsed.validity();
        Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
    });
    let key_fits = match (&pem, bytes(&key, links)) {
        (Ok(pem), Ok(secret)) => Some(fits(pem, &secret)),
        _ if matches!(look(&key, true), File::Missing) => Some(Err("it does not exist".to_owned())),
        _ => None,
    };
    Some(Certificate { path, key, holds, key_fits, own })
}

fn fits(pem: &[u8], secret: &[u8]) -> Result<(), String> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(secret).map_err(|error| error.to_string())?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Who listens on the sockets that we may connect to, and answers: where a service manager holds the socket, a connection
/// alone says nothing about the service.
async fn listeners(facts: &mut Facts) {
    // The gateway does not speak HTTP/2; it is asked who it is.
    let door = facts.gateway.as_ref().ok().map(|gateway| gateway.listen.unix.clone());
    let own = facts.sockets().into_iter().filter(|socket| socket.stream).map(|socket| socket.path);
    let paths: BTreeSet<_> = own.chain(facts.registered().iter().map(|one| one.socket.clone())).collect();
    for path in paths {
        if !matches!(look(&path, false), File::There { kind: Kind::Socket, .. }) {
            continue;
        }
        let answer = match timeout(CONNECT_DEADLINE, UnixStream::connect(&path)).await {
            Ok(Ok(stream)) if Some(&path) == door.as_ref() => peer(&stream),
            Ok(Ok(stream)) => answers(stream).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match answer {
            // Not for us: no finding.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            answer => {
                facts.listeners.insert(path, answer.map_err(|error| error.to_string()));
            }
        }
    }
}

fn peer(stream: &UnixStream) -> io::Result<u32> {
    stream.peer_cred().map(|peer| peer.uid())
}

/// Begins HTTP/2 (RFC 9113, section 3.4). Whoever is there answers, or closes the connection if we are none of its peers.
async fn answers(mut stream: UnixStream) -> io::Result<u32> {
    const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answered = timeout(CONNECT_DEADLINE, async {
        // Closed already is an answer, too.
        let _ = stream.write_all(BEGINNING).await;
        let _ = stream.read(&mut [0; 1]).await;
    });
    let late = format!("connected, but not a word within {} s", CONNECT_DEADLINE.as_secs());
    answered.await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, late))?;
    peer(&stream)
}

async fn identify(socket: &Path) -> Result<String, String> {
    let endpoint = Endpoint::Unix(socket.to_owned());
    let asked = async {
        let mut client = Client::connect(&endpoint).await?;
        let hostname = client.identify().await?;
        client.close().await;
        Ok::<_, Error>(hostname)
    };
    match timeout(CONNECT_DEADLINE, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("nothing for 5 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn who_looks_is_held_up_by_no_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "text").expect("written");
        fs::write(at("large"), vec![b'x'; FILE_MAX + 1]).expect("written");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .expect("a FIFO");
        // No end and no size.
        symlink("/proc/self/environ", at("kernel")).expect("a link");
        symlink("/dev/zero", at("zero")).expect("a link");
        symlink("file", at("link")).expect("a link");
        for name in ["large", "fifo", "kernel", "zero", "missing"] {
            bytes(&at(name), OFlags::empty()).expect_err(name);
        }
        assert_eq!(text(&at("link")).expect("read"), "text");
        bytes(&at("link"), OFlags::NOFOLLOW).expect_err("a link");
        assert_eq!(bytes(&at("file"), OFlags::NOFOLLOW).expect("read").as_slice(), b"text");
    }
}
