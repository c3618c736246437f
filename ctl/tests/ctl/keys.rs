//! Keys: made, registered, logged in with, revoked. The openssl program makes those of other types.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};

use crate::World;

impl World {
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// An Ed25519 key of ours, its private and its public file.
    fn keygen(&self, name: &str) -> (String, String) {
        let path = self.path(name);
        self.run(&["keygen", &path], "").expect(0);
        (path.clone(), format!("{path}.pub"))
    }

    /// A key of openssl's.
    fn openssl_key(&self, name: &str, arguments: &[&str]) -> (String, String) {
        let (private, public) = (self.path(name), self.path(&format!("{name}.pub")));
        openssl(&[&["genpkey", "-out", &private], arguments].concat());
        fs::set_permissions(&private, Permissions::from_mode(0o600)).unwrap();
        openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]);
        (private, public)
    }

    fn register(&self, private: &str, public: &str) -> String {
        let ran = self.run(&["certs", "register", public, "--key", private, "--json"], "").expect(0);
        ran.json()["fingerprint"].as_str().unwrap().to_owned()
    }

    fn list(&self) -> Value {
        self.run(&["certs", "list", "--json"], "").expect(0).json()
    }
}

fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_new_key_is_its_owners_alone_and_never_overwritten() {
    let world = World::new();
    let path = world.path("k");
    let made = world.run(&["keygen", &path, "--json"], "").expect(0).json();
    assert_eq!(
        (made["private_key"].as_str(), made["public_key"].as_str()),
        (Some(&*path), Some(&*(path.clone() + ".pub")))
    );
    assert_eq!(fs::metadata(&path).unwrap().mode(), 0o100_600);
    assert_eq!(fs::metadata(path.clone() + ".pub").unwrap().mode(), 0o100_644);
    // Another implementation reads both, as one pair.
    let public = openssl(&["pkey", "-in", &path, "-pubout"]);
    assert_eq!(public, fs::read(path.clone() + ".pub").unwrap());
    let der = openssl(&["pkey", "-in", &path, "-pubout", "-outform", "DER"]);
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    use base64::{Engine, engine::general_purpose::STANDARD};
    assert_eq!(made["fingerprint"], format!("SHA256:{}", STANDARD.encode(sum)));

    let before = fs::read(&path).unwrap();
    world.run(&["keygen", &path], "").expect(1).says("exists");
    assert_eq!(fs::read(&path).unwrap(), before);
    // Half of a pair is not left behind.
    fs::write(world.path("other.pub"), "").unwrap();
    world.run(&["keygen", &world.path("other")], "").expect(1).says("other.pub");
    assert!(!Path::new(&world.path("other")).exists());
    symlink(world.path("aim"), world.path("link")).unwrap();
    world.run(&["keygen", &world.path("link")], "").expect(1);
    assert!(!Path::new(&world.path("aim")).exists());
}

#[test]
fn a_registered_key_opens_the_door_until_it_is_revoked() {
    let world = World::new();
    let (private, public) = world.keygen("k");
    world.run(&["login", "alice", "--key", &private], "").expect(1).says("is it registered");
    world.run(&["certs", "list"], "").expect(1).says("log in first");
    world.log_in();
    assert_eq!(world.list(), json!([]));
    assert_eq!(world.run(&["certs", "list"], "").expect(0).out, "no key is registered\n");
    let fingerprint = world.register(&private, &public);
    let listed = world.list();
    assert_eq!(listed[0]["fingerprint"], *fingerprint);
    assert_eq!(listed[0]["proven"], true);
    assert_eq!(listed[0]["public_key"], fs::read_to_string(&public).unwrap());
    let table = world.run(&["certs", "list"], "").expect(0).out;
    assert!(table.contains(&fingerprint) && !table.contains("BEGIN"), "{table}");
    world.run(&["logout"], "").expect(0);

    world.gateway.take_requests();
    for user in [Some("alice"), None] {
        let arguments = ["login", "--key", &private, "--json"].into_iter().chain(user);
        let ran = world.run(&arguments.collect::<Vec<_>>(), "").expect(0);
        let owner = format!("the owner of {fingerprint}");
        assert_eq!(ran.json()["user"], *user.unwrap_or(&owner));
        world.run(&["call", "rpc/query"], "").expect(0);
    }
    let requests = world.gateway.take_requests();
    assert_eq!(requests[1]["args"], json!({"username": "alice", "fingerprint": fingerprint}));
    assert_eq!(requests[2]["args"]["username"], "alice");
    world.run(&["login", "bob", "--key", &private], "").expect(1);
    world.run_tls(&["login", "alice", "--key", &private], "").expect(0);

    world.log_in();
    world.run(&["certs", "revoke", &fingerprint], "").expect(0);
    assert_eq!(world.list(), json!([]));
    world.run(&["login", "alice", "--key", &private], "").expect(1);
    world.run(&["certs", "revoke", &fingerprint], "").expect(1).says("is registered here");
    world.run(&["certs", "revoke", &public], "").expect(1).says("--user NAME");
}

#[test]
fn keys_of_every_type_prove_themselves() {
    let world = World::new();
    world.log_in();
    for (name, arguments) in [
        ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..]),
        ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
        ("ed25519", &["-algorithm", "ed25519"]),
    ] {
        let (private, public) = world.openssl_key(name, arguments);
        world.register(&private, &public);
        world.run_tls(&["login", "alice", "--key", &private], "").expect(0);
    }
    // The older forms of key files.
    let (rsa, ec) = (world.path("rsa"), world.path("p256"));
    for (kind, key) in [("rsa", &rsa), ("ec", &ec)] {
        let old = format!("{key}.old");
        let arguments = [kind, "-in", key, "-out", &old];
        openssl(&if kind == "rsa" {
            [&arguments[..], &["-traditional"]].concat()
        } else {
            arguments.to_vec()
        });
        fs::set_permissions(&old, Permissions::from_mode(0o600)).unwrap();
        assert!(!fs::read_to_string(&old).unwrap().contains("BEGIN PRIVATE"));
        world.run(&["login", "alice", "--key", &old], "").expect(0);
    }
    for (name, arguments, why) in [
        ("p521", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"][..], "taken are"),
        ("ed448", &["-algorithm", "ed448"], "taken are"),
        ("locked", &["-algorithm", "ed25519", "-aes256", "-pass", "pass:x"], "passphrase"),
    ] {
        let private = world.path(name);
        openssl(&[&["genpkey", "-out", &private], arguments].concat());
        fs::set_permissions(&private, Permissions::from_mode(0o600)).unwrap();
        world.run(&["login", "alice", "--key", &private], "").expect(1).says(why);
    }
}

#[test]
fn nothing_is_signed_for_another_server() {
    let world = World::new();
    let (private, public) = world.keygen("k");
    world.log_in();
    world.register(&private, &public);
    world.gateway.relay();
    world.gateway.take_requests();
    world.run_tls(&["login", "alice", "--key", &private], "").expect(1).says("nothing was signed");
    world.run(&["login", "alice", "--key", &private], "").expect(1).says("nothing was signed");
    world.run(&["certs", "register", &public, "--key", &private], "").expect(1).says("nothing was signed");
    let sent = world.gateway.take_requests();
    assert!(
        sent.iter().all(|r| r["args"].get("encrypted_string").is_none() && r["args"].get("proof").is_none())
    );
}

#[test]
fn possession_is_proven_or_waived_in_so_many_words() {
    let world = World::new();
    let (private, public) = world.keygen("k");
    let (other, _) = world.keygen("other");
    world.log_in();
    world.run(&["certs", "register", &public], "").expect(2).says("--unproven");
    world.run(&["certs", "register", &public, "--key", &other], "").expect(2).says("the one to register");
    world.run(&["certs", "register", &private, "--key", &private], "").expect(1).says("private key");
    world.run(&["certs", "register", &public, "--unproven"], "").expect(1).says("403");
    world.gateway.allow_unproven();
    world.run(&["certs", "register", &public, "--unproven", "--nickname", "n 1"], "").expect(0);
    let listed = world.list();
    assert_eq!((&listed[0]["proven"], &listed[0]["nickname"]), (&json!(false), &json!("n 1")));
}

#[test]
fn anothers_key_is_revoked_by_naming_him() {
    let world = World::new();
    let (private, public) = world.keygen("k");
    world.log_in();
    let fingerprint = world.register(&private, &public);
    world.gateway.give_keys("bob");
    world.run(&["certs", "revoke", &fingerprint], "").expect(1).says("--user NAME");
    world.run(&["certs", "revoke", &fingerprint, "--user", "bob"], "").expect(0);
    assert_eq!(world.gateway.keys(), []);
    world.run(&["certs", "revoke", "SHA256:x"], "").expect(2).says("base64 of 32 bytes");
}

#[test]
fn a_certificate_is_shown_to_the_server_and_opens_the_door() {
    let world = World::new();
    let (private, _) = world.openssl_key("k", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let certificate = world.path("c.pem");
    openssl(&["req", "-x509", "-key", &private, "-subj", "/CN=alice", "-days", "1", "-out", &certificate]);
    let shown = ["--cert", &certificate, "--key", &private];
    let run = |arguments: &[&str], input| world.run_tls(&[arguments, &shown].concat(), input);
    run(&["login", "alice"], "").expect(1).says("401");
    run(&["login", "alice", "--password-stdin"], "right\n").expect(0);
    run(&["certs", "register", &certificate], "").expect(0);
    let [(owner, Some(sent))] = &world.gateway.keys()[..] else { panic!("one key with a certificate") };
    use base64::{Engine, engine::general_purpose::STANDARD};
    assert_eq!(owner, "alice");
    assert_eq!(STANDARD.decode(sent).unwrap(), fs::read(&certificate).unwrap());
    run(&["logout"], "").expect(0);
    run(&["login", "alice"], "").expect(0);
    run(&["call", "rpc/query"], "").expect(0);
    run(&["login", "carol"], "").expect(1);

    world.run(&["status", "--cert", &certificate, "--key", &private], "").expect(2).says("--url");
    world.run_tls(&["status", "--cert", &certificate], "").expect(2);
    world.run_tls(&["status", "--key", &private], "").expect(2).says("--key goes with");
    let (other, _) = world.keygen("other");
    let wrong = ["status", "--cert", &certificate, "--key", &other];
    world.run_tls(&wrong, "").expect(2).says("not for the key");
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let world = World::new();
    let (private, _) = world.keygen("k");
    fs::set_permissions(&private, Permissions::from_mode(0o640)).unwrap();
    world.run(&["login", "alice", "--key", &private], "").expect(1).says("chmod 0600");
    world.run(&["login", "alice", "--key", &world.path("none")], "").expect(1).says("cannot use the key");
    world.run(&["login", "alice", "--key", "/dev/null"], "").expect(1).says("no regular file");
    assert_eq!(world.gateway.take_requests(), Vec::<Value>::new());
}
