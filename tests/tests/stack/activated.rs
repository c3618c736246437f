//! As under systemd: root opens the sockets, the services get them and never are root.

use std::os::unix::net::UnixStream;

use doorward_tests::keys::Quick;
use doorward_tests::{Client, Options, Pam, Program, Role, Stack};
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

        // The kernel's word on a connection that was accepted from a socket which systemd made.
        let mut client = Client::unix_as(&stack, alice.uid).await;
        client.ask("rpc/auth", json!({})).await.unwrap_or_else(|code| panic!("local, round {round}: {code}"));
        client.close().await;

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
