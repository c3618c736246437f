//! Every method of a subsystem, called by a gateway that was taken over, and by those who are nobody there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use doorward_proto::authd::v1::{AssertRequest, sessions_client::SessionsClient};
use doorward_proto::subsystem::v1::{
    CallRequest, DescribeRequest, EventsRequest, call_part, call_reply, subsystem_client::SubsystemClient,
};
use doorward_tests::grpc::{channel, channel_to};
use doorward_tests::{Pam, Role, Stack, skip};
use prost::Message;
use serde_json::json;
use tonic::{Code, transport::Channel};

use crate::subsystems::{admitted, stack};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Describe,
    Call,
    CallStream,
    Events,
}

const METHODS: [Method; 4] = [Method::Describe, Method::Call, Method::CallStream, Method::Events];
/// What sysinfo is called, and whom its assertions are for.
const OWN: &str = "sysadm/systemmanager";

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// Something that is the subsystem's own.
    Answer,
    /// A failure that it states.
    Failure(u32),
    /// Nothing: the connection, or the call, is refused.
    Refused(Code),
}

fn as_it_is_called(method: Method) -> String {
    format!("{method:?}")
}

#[test]
fn every_method_of_a_subsystem_is_called() {
    let files = prost_types::FileDescriptorSet::decode(doorward_proto::DESCRIPTORS).expect("descriptors");
    let package = files.file.iter().filter(|file| file.package() == "doorward.subsystem.v1");
    let all: BTreeSet<String> = package
        .flat_map(|file| &file.service)
        .flat_map(|service| service.method.iter().map(|method| method.name().to_owned()))
        .collect();
    assert_eq!(METHODS.map(as_it_is_called).into_iter().collect::<BTreeSet<_>>(), all);
}

async fn call(subsystem: &mut SubsystemClient<Channel>, method: Method, assertion: &str) -> Came {
    let request = CallRequest {
        assertion: assertion.to_owned(),
        action: "host".to_owned(),
        args: b"{}".to_vec(),
        request_id: "evil".to_owned(),
        deadline_ms: 5_000,
    };
    let came = match method {
        Method::Describe => subsystem.describe(DescribeRequest {}).await.map(|_| Came::Answer),
        Method::Call => subsystem.call(request).await.map(|reply| match reply.into_inner().outcome {
            Some(call_reply::Outcome::Failure(failure)) => Came::Failure(failure.code),
            Some(call_reply::Outcome::Result(_)) | None => Came::Answer,
        }),
        Method::CallStream => match subsystem.call_stream(request).await {
            Ok(stream) => {
                stream.into_inner().message().await.map(|part| match part.and_then(|part| part.part) {
                    Some(call_part::Part::Failure(failure)) => Came::Failure(failure.code),
                    Some(_) | None => Came::Answer,
                })
            }
            Err(status) => Err(status),
        },
        Method::Events => subsystem.events(EventsRequest {}).await.map(|_| Came::Answer),
    };
    came.unwrap_or_else(|status| Came::Refused(status.code()))
}

async fn at_sysinfo(stack: &Stack, uid: u32) -> Option<SubsystemClient<Channel>> {
    channel_to(stack.path("run/sysinfo/sysinfo.sock"), uid).await.ok().map(SubsystemClient::new)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_over_gateway_gets_nothing_without_somebodys_session() {
    if !skip::root("connections as the gateway") {
        return;
    }
    let Some(stack) = stack(Pam::Real) else { return };
    let (mut bob, token) = admitted(&stack, Role::Limited).await;
    let uid = stack.gateway_uid();
    let mut authd = SessionsClient::new(channel(&stack, uid).await.expect("the gateway may connect"));
    let mut assert = async |audience: &str| {
        let request = AssertRequest { token: token.clone(), audience: audience.to_owned() };
        authd.assert(request).await.map(|said| said.into_inner().jwt).map_err(|status| status.code())
    };
    let mut subsystem = at_sysinfo(&stack, uid).await.expect("the gateway may connect");

    let good = assert(OWN).await.expect("bob is in session");
    let mut bad = vec![String::new(), "a.b.c".to_owned(), token.clone(), format!("{good}x")];
    for audience in ["certd", "test/fake", "sysadm/systemmanage", "channel/room"] {
        bad.push(assert(audience).await.expect("a signature"));
    }
    // The claims of one under the signature of another.
    let (other, mut words) =
        (assert("certd").await.expect("a signature"), good.split('.').collect::<Vec<_>>());
    let signature = other.rsplit('.').next().expect("a signature").to_owned();
    words[2] = &signature;
    bad.push(words.join("."));
    for assertion in &bad {
        for method in [Method::Call, Method::CallStream] {
            let came = call(&mut subsystem, method, assertion).await;
            assert_eq!(came, Came::Failure(401), "{method:?} with {assertion}");
        }
    }
    // What says nothing of anybody is the gateway's to ask.
    for method in [Method::Describe, Method::Events] {
        assert_eq!(call(&mut subsystem, method, "").await, Came::Answer, "{method:?}");
    }
    assert_eq!(call(&mut subsystem, Method::Call, &good).await, Came::Answer);
    // With a word that is believed: an action that does not stream is none that streams.
    let came = call(&mut subsystem, Method::CallStream, &good).await;
    assert!(matches!(came, Came::Failure(400 | 404)), "{came:?}");

    // Who is gone is asserted no more.
    bob.ask("rpc/auth_clear", json!({"reply": true})).await.expect("cleared");
    assert_eq!(assert(OWN).await, Err(Code::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_answered_by_any_method_though_the_socket_were_open() {
    if !skip::root("connections as others") {
        return;
    }
    let Some(stack) = stack(Pam::Real) else { return };
    let (_bob, token) = admitted(&stack, Role::Limited).await;
    let mut authd =
        SessionsClient::new(channel(&stack, stack.gateway_uid()).await.expect("the gateway may connect"));
    let request = AssertRequest { token, audience: OWN.to_owned() };
    let good = authd.assert(request).await.expect("bob is in session").into_inner().jwt;
    let socket = stack.path("run/sysinfo/sysinfo.sock");
    let strangers = [
        stack.person(Role::Full).uid,
        stack.authd_uid(),
        stack.certd_uid(),
        stack.subsystem_uid(),
        0,
        65_534,
    ];
    for uid in strangers {
        // The mode keeps them out, but for those whose it is.
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("chmod of the socket");
        for method in METHODS {
            let Some(mut subsystem) = at_sysinfo(&stack, uid).await else { continue };
            let came = call(&mut subsystem, method, &good).await;
            assert!(matches!(came, Came::Refused(_)), "{uid} {method:?}: {came:?}");
        }
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o660)).expect("chmod of the socket");
    }
    let mut subsystem = at_sysinfo(&stack, stack.gateway_uid()).await.expect("the gateway may connect");
    assert_eq!(call(&mut subsystem, Method::Call, &good).await, Came::Answer, "and the word was good");
}
