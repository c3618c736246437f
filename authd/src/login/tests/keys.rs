//! Logins by a key that certd knows, and by the kernel's word with a certificate beside it.

use super::*;

fn key_login(claimed: &str) -> Login {
    let proof = crate::certd::Proof::Challenge { signature: vec![1; 64], fingerprint: Vec::new() };
    let mut login = login(Claim::CertificateChallenge { username: claimed.into(), proof });
    let hint = Username::parse(claimed.into());
    assert!(matches!(login.begin(), Step::Prove(_, user) if user == hint));
    login
}

fn tls_login(claimed: &str) -> Login {
    let proof = crate::certd::Proof::Loaded { key: vec![1; 64], certificate: vec![1; 64] };
    let mut login = login(Claim::TlsCertificate { username: claimed.into(), proof });
    assert!(matches!(login.begin(), Step::Prove(_, Some(user)) if user == name(claimed)));
    login
}

fn proven(user: &str, full_access: bool) -> Event {
    let (fingerprint, uid) = (Fingerprint([7; 32]), (user == "alice").then_some(1000));
    Event::Proof(Some(Verified { user: name(user), fingerprint, full_access, uid }))
}

#[test]
fn a_key_lets_its_owner_in_after_account_management() {
    for claimed in ["", "alice"] {
        let mut login = key_login(claimed);
        let step = login.on(proven("alice", true));
        assert!(matches!(step, Step::Resolve(Who::Name(user)) if user == name("alice")));
        let known = || Event::Account(Some(account("alice", 1000, Some(Access::Full))));
        let step = login.on(known());
        assert!(matches!(step, Step::Converse(user, Task::Account) if user == name("alice")));
        let step = login.on(verdict(VerdictKind::Success, "alice"));
        assert!(matches!(step, Step::Resolve(Who::Name(user)) if user == name("alice")));
        let step = login.on(known());
        let proven = Proven { fingerprint: Fingerprint([7; 32]), full_access: true };
        assert!(matches!(step, Step::Grant(account, Some(key), None)
            if account.uid.as_u32() == 1000 && key == proven));
    }
}

#[test]
fn a_key_login_that_goes_wrong_anywhere_is_refused_with_its_cause() {
    let mut login = key_login("");
    assert_eq!(refused(&login.on(Event::Proof(None))), Some(Cause::NotProven));
    let mut login = key_login("bob");
    assert_eq!(refused(&login.on(proven("alice", true))), Some(Cause::OtherUser));
    let mut login = tls_login("bob");
    assert_eq!(refused(&login.on(proven("alice", true))), Some(Cause::OtherUser));
    for (found, cause) in [
        (None, Cause::UnknownUser),
        (Some(account("alice", 1000, None)), Cause::NoAccessGroup),
        (Some(account("bob", 1001, Some(Access::Full))), Cause::OtherUser),
        (Some(account("alice", 1001, Some(Access::Full))), Cause::OtherAccount),
    ] {
        let mut login = key_login("");
        login.on(proven("alice", true));
        assert_eq!(refused(&login.on(Event::Account(found))), Some(cause));
    }
    let mut login = key_login("");
    login.on(proven("alice", true));
    login.on(Event::Account(Some(account("alice", 1000, Some(Access::Limited)))));
    let step = login.on(verdict(VerdictKind::Denied, "alice"));
    assert_eq!(refused(&step), Some(Cause::PamDenied));
}

#[test]
fn a_name_that_becomes_somebody_elses_during_account_management_lets_no_key_in() {
    let mut login = key_login("");
    login.on(proven("alice", true));
    let account = |uid| Event::Account(Some(account("alice", uid, Some(Access::Limited))));
    login.on(account(1000));
    login.on(verdict(VerdictKind::Success, "alice"));
    assert_eq!(refused(&login.on(account(1001))), Some(Cause::OtherAccount));
}

#[test]
fn full_access_needs_a_key_that_gives_it_before_and_after_account_management() {
    let full = || Event::Account(Some(account("alice", 1000, Some(Access::Full))));
    let limited = || Event::Account(Some(account("alice", 1000, Some(Access::Limited))));
    let mut login = tls_login("alice");
    login.on(proven("alice", false));
    assert_eq!(refused(&login.on(full())), Some(Cause::FullAccess));

    let mut login = tls_login("alice");
    login.on(proven("alice", false));
    assert!(matches!(login.on(limited()), Step::Converse(_, Task::Account)));
    login.on(verdict(VerdictKind::Success, "alice"));
    assert_eq!(refused(&login.on(full())), Some(Cause::FullAccess), "joined the group meanwhile");

    let mut login = tls_login("alice");
    login.on(proven("alice", true));
    assert!(matches!(login.on(full()), Step::Converse(_, Task::Account)));
}

#[test]
fn root_comes_in_by_a_challenge_and_never_by_tls() {
    let root = || Event::Account(Some(account("root", 0, Some(Access::Full))));
    let mut login = tls_login("root");
    login.on(proven("root", true));
    assert_eq!(refused(&login.on(root())), Some(Cause::Root));
    let mut login = key_login("");
    login.on(proven("root", true));
    assert!(matches!(login.on(root()), Step::Converse(_, Task::Account)));
}

fn local_login_with_a_certificate(username: &str) -> Login {
    let loaded = Some(Proof::Loaded { key: vec![1; 64], certificate: vec![1; 500] });
    let mut login = login(Claim::LocalPeer { handle: vec![1], username: username.into(), loaded });
    assert!(matches!(login.begin(), Step::Identify(_)));
    login
}

#[test]
fn a_certificate_is_taken_where_the_kernels_word_does_not_do() {
    // The kernel names nobody, another user, one without an account, one who may not come in so.
    for (uid, found) in [
        (None, None),
        (Some(1001), Some(account("bob", 1001, Some(Access::Full)))),
        (Some(0), Some(account("root", 0, Some(Access::Full)))),
        (Some(1002), None),
        (Some(33), Some(account("alice", 33, Some(Access::Limited)))),
    ] {
        let mut login = local_login_with_a_certificate("alice");
        let mut step = login.on(Event::Peer(uid.and_then(Uid::new)));
        if uid.is_some() {
            step = login.on(Event::Account(found));
        }
        assert!(matches!(step, Step::Prove(_, Some(user)) if user == name("alice")), "{uid:?}");
        assert_eq!(login.method(), "tls_certificate");
        // From here on it is a login by certificate and nothing else.
        assert_eq!(login.uid(), None, "{uid:?}: another's, for the record");
        let step = login.on(Event::Proof(None));
        assert_eq!(refused(&step), Some(Cause::NotProven), "{uid:?}");
    }
}

#[test]
fn the_kernels_word_comes_first_and_needs_no_certificate() {
    let mut login = local_login_with_a_certificate("alice");
    login.on(Event::Peer(Uid::new(1000)));
    let step = login.on(Event::Account(Some(account("alice", 1000, Some(Access::Limited)))));
    assert!(matches!(step, Step::Converse(user, Task::Account) if user == name("alice")));
    assert_eq!(login.method(), "local_peer");
    // PAM's word about the account is for both.
    assert_eq!(refused(&login.on(verdict(VerdictKind::Denied, ""))), Some(Cause::PamDenied));
}

#[test]
fn a_certificate_without_a_name_is_nobodys() {
    let mut login = local_login_with_a_certificate("");
    assert_eq!(refused(&login.on(Event::Peer(None))), Some(Cause::NoSuchHandle));
}
