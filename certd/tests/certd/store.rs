//! Export and import, which are root's.

use std::{path::Path, time::Instant};

use doorward_certd::registry::{Limits, OpenError, Registry, Watch};
use doorward_proto::certd::v1::{Entry, ExportRequest, ImportReply, store_client::StoreClient};
use tokio_stream::iter;
use tonic::{Code, Status, transport::Channel};

use crate::{
    fixture::{Fixture, PATIENCE, code, now, registration, start},
    openssl::{Form, Key},
};

const UNPROVEN: &str = "[policy]\nrequire_key_possession = false\n";

/// Says loudly that a test needs root.
pub fn not_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(&format!("{test}: needs root"));
    }
    !root
}

/// Past the harness's capture; a failure where no test may be skipped.
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("DOORWARD_NO_SKIP").is_none(),
        "skipped although DOORWARD_NO_SKIP is set: {why}"
    );
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("SKIPPED: {why}\n").as_bytes());
}

/// Opens the registry that a certd left in `state`, for 1,000 keys a user. Another test's fork() may hold
/// the lock until it calls exec().
pub fn open_registry(state: &Path) -> Result<Registry, OpenError> {
    let limits = Limits { per_user: 1000, total: 100_000 };
    let patience = Instant::now() + PATIENCE;
    loop {
        match Registry::open(state, limits, Watch::nothing()) {
            Err(error) if error.to_string().contains("another doorward-certd") => {
                assert!(Instant::now() < patience, "{error}");
                std::thread::yield_now();
            }
            opened => return opened,
        }
    }
}

async fn export(store: &mut StoreClient<Channel>) -> Result<Vec<Entry>, Status> {
    let mut stream = store.export(ExportRequest {}).await?.into_inner();
    let mut entries = Vec::new();
    while let Some(entry) = stream.message().await? {
        entries.push(entry);
    }
    Ok(entries)
}

async fn import(certd: &Fixture, entries: Vec<Entry>) -> ImportReply {
    certd.store().await.import(iter(entries)).await.expect("imported").into_inner()
}

#[tokio::test]
async fn only_root_has_the_whole_registry() {
    let certd = start("").await;
    let expected = if rustix::process::geteuid().is_root() { Code::Ok } else { Code::PermissionDenied };
    assert_eq!(code(&export(&mut certd.store().await).await), expected);
    let channel =
        crate::fixture::connect(certd.directory.path().join("authd.sock")).await.expect("connected");
    let by_authd = export(&mut StoreClient::new(channel)).await;
    assert_eq!(code(&by_authd), Code::PermissionDenied);
}

#[tokio::test]
async fn what_is_exported_can_be_imported_elsewhere_and_twice() {
    if not_root("what_is_exported_can_be_imported_elsewhere_and_twice") {
        return;
    }
    let (here, there) = (start(UNPROVEN).await, start("").await);
    let (kept, gone) = (Key::ed25519(), Key::rsa(2048));
    let mut gateway = here.gateway().await;
    let mut request = registration(here.as_user("alice"), kept.pem());
    request.certificate = kept.certificate("/CN=alice", &[]);
    request.nickname = "laptop".into();
    gateway.register(request).await.expect("registered");
    here.asker().await.log_in(&kept, Form::Ed25519, |_| ()).await.expect("logged in");
    gateway.register(registration(here.as_user("bob"), gone.pem())).await.expect("registered");
    gateway.revoke(here.as_full("wheel"), gone.pem(), "bob").await.expect("revoked");

    let entries = export(&mut here.store().await).await.expect("exported");
    assert_eq!(entries.len(), 2);
    let reply = import(&there, entries.clone()).await;
    assert_eq!((reply.added, reply.known, reply.refused.len()), (2, 0, 0), "{:?}", reply.refused);
    assert_eq!(export(&mut there.store().await).await.expect("exported"), entries);
    let reply = import(&there, entries.clone()).await;
    assert_eq!((reply.added, reply.known), (0, 2));
    let before = entries.into_iter().map(|entry| Entry { registered: 5, revoked: None, ..entry }).collect();
    let reply = import(&there, before).await;
    assert_eq!((reply.added, reply.known, reply.refused.len()), (0, 1, 1));
    assert!(reply.refused[0].contains("entry 2: the key was revoked"), "{}", reply.refused[0]);
    there.asker().await.log_in(&kept, Form::Ed25519, |_| ()).await.expect("logged in");
    let refused = there.asker().await.log_in(&gone, Form::Bare, |_| ()).await;
    assert_eq!(code(&refused), Code::Unauthenticated, "revoked there, revoked here");
}

#[tokio::test]
async fn an_import_is_checked_entry_by_entry() {
    if not_root("an_import_is_checked_entry_by_entry") {
        return;
    }
    let certd = start("").await;
    let key = Key::ed25519().der();
    let good = Entry { key: key.clone(), user: "alice".into(), registered: 5, ..Default::default() };
    let cases = [
        (Entry { key: Key::rsa(1024).der(), ..good.clone() }, "1024 bits"),
        (Entry { key: Vec::new(), ..good.clone() }, "neither PEM nor DER"),
        (Entry { fingerprint: vec![1; 32], ..good.clone() }, "fingerprint"),
        (Entry { user: String::new(), ..good.clone() }, "name"),
        (Entry { user: "root".into(), ..good.clone() }, "root"),
        (Entry { nickname: "a\nb".into(), ..good.clone() }, "nickname"),
        (Entry { certificate: b"x".to_vec(), ..good.clone() }, "certificate"),
        (Entry { registered: -1, ..good.clone() }, "time"),
        (Entry { last_used: Some(now() + 100_000), ..good.clone() }, "time"),
        (Entry { last_source: "a b".into(), ..good.clone() }, "source"),
        (Entry { uid: Some(u32::MAX), ..good.clone() }, "uid"),
    ];
    let expected: Vec<_> = cases.iter().map(|(_, why)| *why).collect();
    let mut entries: Vec<_> = cases.into_iter().map(|(entry, _)| entry).collect();
    entries.push(good.clone());
    entries.push(Entry { user: "bob".into(), ..good });
    let reply = import(&certd, entries).await;
    assert_eq!((reply.added, reply.known), (1, 0));
    assert_eq!(reply.refused.len(), expected.len() + 1);
    for (number, (said, why)) in reply.refused.iter().zip(expected).enumerate() {
        assert!(said.starts_with(&format!("entry {}:", number + 1)) && said.contains(why), "{said}");
    }
    assert!(reply.refused[11].contains("another user"), "{}", reply.refused[11]);
}

#[tokio::test]
async fn refusals_are_told_up_to_a_hundred() {
    if not_root("refusals_are_told_up_to_a_hundred") {
        return;
    }
    let certd = start("").await;
    let reply = import(&certd, vec![Entry::default(); 300]).await;
    assert_eq!((reply.added, reply.refused.len()), (0, 100));
}

#[tokio::test]
async fn an_import_is_taken_in_its_order() {
    if not_root("an_import_is_taken_in_its_order") {
        return;
    }
    let certd = start("").await;
    let of = |user: &str, key: &Key| Entry { key: key.der(), user: user.into(), ..Entry::default() };
    let keys: Vec<_> = (0..30).map(|_| Key::ed25519()).collect();
    let reply =
        import(&certd, keys.iter().flat_map(|key| [of("alice", key), of("bob", key)]).collect()).await;
    assert_eq!((reply.added, reply.known, reply.refused.len()), (30, 0, 30));
    let exported = export(&mut certd.store().await).await.expect("exported");
    let expected: Vec<_> = keys.iter().map(|key| ("alice", key.der())).collect();
    let found: Vec<_> = exported.iter().map(|entry| (entry.user.as_str(), entry.key.clone())).collect();
    assert_eq!(found, expected);
}
