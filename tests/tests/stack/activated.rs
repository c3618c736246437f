//! As under systemd: root opens the sockets, the services get them and never are root.

use std::os::unix::net::UnixStream;

use doorward_tests::keys::Quick;
use doorward_tests::{Client, Options, Pam, Program, Role, Stack, secrets};
use rustix::net::sockopt::socket_peercred;
use serde_json::json;

use crate::support::{log_in_with, register};

fn stack() -> Option<Stack> {
    Stack::start(&Options::new(Pam::Real).activated())
}

fn listens_as(stack: &Stack, name: &str) -> u32 {
    let socket = UnixStream::connect(stack.path(name)).expect("somebody listens");
    socket_peercred(&socket).expect("the kernel says who").uid.as_raw()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_socket_is_the_services_own_in_the_eyes_of_its_clients() {
    let Some(stack) = stack() else { return };
    // Root made them and listened; each service listened again, as itself.
    assert_eq!(listens_as(&stack, "run/certd/certd.sock"), stack.certd_uid());
    assert_eq!(listens_as(&stack, "run/certd/authd.sock"), stack.certd_uid());
    assert_eq!(listens_as(&stack, "run/authd/authd.sock"), stack.authd_uid());
    assert_eq!(listens_as(&stack, "run/gateway.sock"), stack.gateway_uid());
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_logs_in_over_passed_sockets_also_after_restarts() {
    let Some(mut stack) = stack() else { return };
    let (alice, bob) = (stack.person(Role::Full).clone(), stack.person(Role::Limited).clone());
    for round in 0..2 {
        let mut client = Client::tls(&stack).await;
        client.login(&bob).await.unwrap_or_else(|code| panic!("password, round {round}: {code}"));
        let key = Quick::generate();
        register(&mut client, &key, "").await.expect("bob's key");
        client.close().await;

        // The kernel's word on a connection that was accepted from a socket which systemd made; authd asks for
        // it from a network of its own.
        for mut client in [Client::unix_as(&stack, alice.uid).await, Client::tls_as(&stack, alice.uid).await]
        {
            let outcome = client.ask("rpc/auth", json!({})).await;
            outcome.unwrap_or_else(|code| panic!("local, round {round}: {code}"));
            client.close().await;
        }

        let mut client = Client::tls(&stack).await;
        log_in_with(&mut client, &key).await.unwrap_or_else(|code| panic!("key, round {round}: {code}"));
        client.close().await;
        if round == 0 {
            for program in [Program::Gateway, Program::Authd, Program::Certd] {
                stack.stop(program);
            }
            for program in [Program::Certd, Program::Authd, Program::Gateway] {
                stack.start_again(program);
            }
        }
    }
}

/// With `PrivateNetwork=`, as the unit has it, the gateway cannot ask the kernel whose a connection over loopback
/// is. Counted by its address, one user's failures would keep every user of the host out.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_a_network_tells_users_on_loopback_apart() {
    let options = Options::new(Pam::Real).gateway_alone().authd("penalty.failures", 1);
    let Some(stack) = Stack::start(&options) else { return };
    let (alice, bob) = (stack.person(Role::Full).clone(), stack.person(Role::Limited).clone());
    let mut bad = Client::tls_as(&stack, bob.uid).await;
    let guess = json!({"username": alice.name, "password": secrets::register("wrong-Goldammer-1")});
    assert_eq!(bad.ask("rpc/auth", guess).await, Err(401));
    assert_eq!(bad.login(&bob).await, Err(403));
    stack.await_record(Program::Authd, &[("event", "penalty"), ("reported_source", "127.0.0.1")]);
    let mut good = Client::tls_as(&stack, alice.uid).await;
    good.ask("rpc/auth", json!({})).await.expect("another user is not concerned");
    good.close().await;
    let mut good = Client::tls(&stack).await;
    good.login(&bob).await.expect("nor is root");
    good.close().await;
    let line = stack.await_log(Program::Authd, &["penalty", "too many failed logins"]);
    assert!(line.contains(&format!("uid:{}", bob.uid)), "{line}");
}
