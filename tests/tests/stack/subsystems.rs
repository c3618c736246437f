//! Subsystems behind the real gateway: who may call them, who may not, and what a taken-over gateway can.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use doorward_proto::authd::v1::{AssertRequest, sessions_client::SessionsClient};
use doorward_proto::subsystem::v1::{
    CallReply, CallRequest, Failure, call_reply::Outcome, subsystem_client::SubsystemClient,
};
use doorward_tests::client::PATIENCE;
use doorward_tests::grpc::{channel, channel_to};
use doorward_tests::{Client, Options, Pam, Program, Role, Stack, skip};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

pub(crate) fn stack(pam: Pam) -> Option<Stack> {
    let mut stack = Stack::start(&Options::new(pam))?;
    stack.add_sysinfo();
    Some(stack)
}

/// Asks until it is so: registrations are looked at once a second.
pub(crate) async fn until(what: &str, mut asked: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !asked().await {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn up(client: &mut Client, name: &str) {
    until(name, async || client.ask("rpc/query", json!({})).await.expect("a list")[name].is_string()).await;
}

/// Somebody who has logged in after authd and the gateway have seen the registration of sysinfo.
pub(crate) async fn admitted(stack: &Stack, role: Role) -> (Client, String) {
    let began = Instant::now();
    loop {
        let (mut client, token) = logged_in(stack, role).await;
        if client.ask("sysadm/systemmanager", json!({"action": "load"})).await.is_ok() {
            return (client, token);
        }
        assert!(began.elapsed() < PATIENCE, "the registration is never seen");
        client.ask("rpc/auth_clear", json!({"reply": true})).await.expect("cleared");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn logged_in(stack: &Stack, role: Role) -> (Client, String) {
    let mut client = Client::unix(stack).await;
    let token = client.login(stack.person(role)).await.expect("the right password");
    (client, token)
}

async fn people_call_sysinfo(pam: Pam) {
    let Some(mut stack) = stack(pam) else { return };
    let (mut alice, _) = admitted(&stack, Role::Full).await;
    let (mut bob, _) = admitted(&stack, Role::Limited).await;
    let mut nobody = Client::unix(&stack).await;

    let memory = json!({"action": "memory"});
    assert_eq!(nobody.ask("sysadm/systemmanager", memory.clone()).await, Err(401));
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.ask("rpc/query", json!({})).await.expect("a list")["sysadm/systemmanager"], "read");
        let found = client.ask("SysAdm/SystemManager", json!({"action": "HOST"})).await.expect("an answer");
        assert_eq!(found["hostname"], rustix::system::uname().nodename().to_str().expect("UTF-8"), "{found}");
        assert_eq!(client.ask("sysadm/systemmanager", json!({"action": "halt"})).await, Err(404));
        assert_eq!(client.ask("sysadm/systemmanager", json!({"action": "memory", "x": 1})).await, Err(400));
        let told = client.ask("rpc/describe", json!({"name": "sysadm/systemmanager"})).await.expect("told");
        assert_eq!(told["actions"]["memory"]["right"], "read", "{told}");
    }
    // As clients of the original write it: no args, the whole object is.
    bob.send(r#"{"namespace":"sysadm","name":"systemmanager","id":"flat","action":"memory"}"#).await;
    let reply = bob.json().await;
    assert_eq!((&reply["name"], &reply["id"]), (&json!("response"), &json!("flat")), "{reply}");
    // The last state is told to who subscribes.
    let accepted = bob.ask("events/subscribe", json!("system-state")).await.expect("accepted");
    assert_eq!(accepted, json!({"subscribe": "system-state"}));
    let event = bob.json().await;
    assert_eq!((&event["namespace"], &event["name"]), (&json!("events"), &json!("system-state")));
    let priority = event["args"]["priority"].as_str().expect("text");
    let number = priority.split(' ').next().and_then(|number| number.parse::<u8>().ok());
    assert!(number.is_some_and(|number| number <= 10), "{event}");

    let calls = stack.sysinfo_records(&[("event", "call"), ("action", "host")]);
    let users: Vec<_> = calls.iter().map(|record| record["user"].clone()).collect();
    assert_eq!(users, [&*stack.person(Role::Full).name, &*stack.person(Role::Limited).name], "{calls:?}");

    // Down: nobody waits; back: by itself.
    stack.kill_sysinfo();
    until("gone", async || alice.ask("sysadm/systemmanager", memory.clone()).await == Err(503)).await;
    let listed = async |client: &mut Client| client.ask("rpc/query", json!({})).await.expect("a list");
    until("listed no more", async || listed(&mut alice).await["sysadm/systemmanager"].is_null()).await;
    assert_eq!(nobody.ask("sysadm/systemmanager", memory.clone()).await, Err(401));
    stack.start_sysinfo_again();
    up(&mut alice, "sysadm/systemmanager").await;
    alice.ask("sysadm/systemmanager", memory).await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_call_sysinfo_under_libpam_wrapper() {
    people_call_sysinfo(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_call_sysinfo_with_real_accounts() {
    people_call_sysinfo(Pam::Real).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_takes_effect_while_everything_runs() {
    let Some(stack) = stack(Pam::Wrapper) else { return };
    let (mut alice, _) = logged_in(&stack, Role::Full).await;
    let (mut bob, _) = admitted(&stack, Role::Limited).await;
    let memory = json!({"action": "memory"});
    bob.ask("sysadm/systemmanager", memory.clone()).await.expect("allowed by the registration");

    // Limited access loses what the registration gives no more; by a new login at once, else within a minute.
    stack.register_sysinfo("limited_acl = ['host']");
    until("refused", async || {
        let (mut bob, _) = logged_in(&stack, Role::Limited).await;
        bob.ask("sysadm/systemmanager", memory.clone()).await == Err(403)
    })
    .await;

    // Another's uid may not stand behind the name.
    stack.register_sysinfo("user = '1'");
    until("down", async || alice.ask("sysadm/systemmanager", memory.clone()).await == Err(503)).await;
    stack.await_log(Program::Gateway, &["sysadm/systemmanager", "is down"]);
    // Nor a name that it does not give itself.
    stack.register_sysinfo("name = 'users'");
    until("down", async || alice.ask("sysadm/users", memory.clone()).await == Err(503)).await;
    assert_eq!(alice.ask("sysadm/systemmanager", memory.clone()).await, Err(404));
    // A file that is wrong is none, and costs only its own.
    stack.register_sysinfo("namespace = 'rpc'");
    until("gone", async || alice.ask("sysadm/users", memory.clone()).await == Err(404)).await;
    assert!(alice.logged_in().await);

    stack.register_sysinfo("");
    up(&mut alice, "sysadm/systemmanager").await;
    stack.unregister("sysinfo");
    until("gone", async || alice.ask("sysadm/systemmanager", memory.clone()).await == Err(404)).await;
}

/// What the gateway's uid can say to a subsystem's socket.
struct Evil {
    subsystem: SubsystemClient<Channel>,
    authd: SessionsClient<Channel>,
}

impl Evil {
    async fn new(stack: &Stack, socket: &str) -> Self {
        let uid = stack.gateway_uid();
        let at_subsystem = channel_to(stack.path(socket), uid).await;
        Self {
            subsystem: SubsystemClient::new(at_subsystem.expect("the gateway may connect")),
            authd: SessionsClient::new(channel(stack, uid).await.expect("the gateway may connect")),
        }
    }

    async fn assertion(&mut self, token: &str, audience: &str) -> Result<String, tonic::Code> {
        let request = AssertRequest { token: token.to_owned(), audience: audience.to_owned() };
        self.authd.assert(request).await.map(|said| said.into_inner().jwt).map_err(|status| status.code())
    }

    async fn call(&mut self, assertion: &str, action: &str) -> Result<Value, u32> {
        let request = CallRequest {
            assertion: assertion.to_owned(),
            action: action.to_owned(),
            args: b"{}".to_vec(),
            request_id: "evil".to_owned(),
            deadline_ms: 5_000,
        };
        let CallReply { outcome } = self.subsystem.call(request).await.expect("an answer").into_inner();
        match outcome.expect("one of two") {
            Outcome::Result(bytes) => Ok(serde_json::from_slice(&bytes).expect("JSON")),
            Outcome::Failure(Failure { code, .. }) => Err(code),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_over_gateway_calls_as_nobody_but_who_is_in_session() {
    if !skip::root("connections as the gateway") {
        return;
    }
    let Some(stack) = stack(Pam::Real) else { return };
    let (mut bob, token) = admitted(&stack, Role::Limited).await;
    let mut evil = Evil::new(&stack, "run/sysinfo/sysinfo.sock").await;
    let own = "sysadm/systemmanager";

    let good = evil.assertion(&token, own).await.expect("bob is in session");
    evil.call(&good, "host").await.expect("bob may");
    for forged in ["", "a.b.c", &token, &format!("{good}x"), &good[..good.len() - 1]] {
        assert_eq!(evil.call(forged, "host").await, Err(401), "{forged}");
    }
    for audience in ["certd", "test/fake", "sysadm/systemmanage"] {
        let other = evil.assertion(&token, audience).await.expect("a signature");
        assert_eq!(evil.call(&other, "host").await, Err(401), "one for {audience}");
    }
    assert_eq!(evil.call(&good, "halt").await, Err(404), "what is not described is not there");

    // A registration that gives bob less holds there as well as at the gateway.
    stack.register_sysinfo("limited_acl = ['load']");
    until("refused", async || {
        let fresh = evil.assertion(&token, own).await.expect("bob is in session");
        evil.call(&fresh, "host").await == Err(403)
    })
    .await;
    // Not at once: what came before was more calls of one session than get a record each in a second.
    let bob_refused =
        [("event", "call_refused"), ("reason", "acl"), ("user", &*stack.person(Role::Limited).name)];
    until("recorded", async || !stack.sysinfo_records(&bob_refused).is_empty()).await;

    // Whoever logs out takes everything along but what was signed before, which is over in a minute.
    bob.ask("rpc/auth_clear", json!({"reply": true})).await.expect("cleared");
    assert_eq!(evil.assertion(&token, own).await, Err(tonic::Code::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_gateway_reaches_a_subsystem() {
    if !skip::root("connections as others") {
        return;
    }
    let Some(stack) = stack(Pam::Real) else { return };
    let socket = stack.path("run/sysinfo/sysinfo.sock");
    let found = std::fs::metadata(&socket).expect("there");
    assert_eq!(found.mode() & 0o777, 0o660);
    assert_eq!((found.uid(), found.gid()), (stack.subsystem_uid(), stack.gateway_uid()));
    for uid in [stack.person(Role::Full).uid, stack.authd_uid(), stack.certd_uid(), 65_534] {
        let refused = channel_to(socket.clone(), uid).await;
        assert!(refused.is_err(), "{uid}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subsystem_that_misbehaves_costs_only_its_own_answers() {
    let Some(stack) = stack(Pam::Wrapper) else { return };
    let mut fake = stack.add_fake("call_seconds = 2");
    let (mut alice, token) = logged_in(&stack, Role::Full).await;
    up(&mut alice, "test/fake").await;
    up(&mut alice, "sysadm/systemmanager").await;
    let mut other = Client::unix(&stack).await;
    other.ask("rpc/auth_token", json!({"token": token})).await.expect("taken up");
    let memory = json!({"action": "memory"});
    let told = |more: Value| {
        let mut args = json!({"action": "read"});
        args.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        args
    };

    let began = Instant::now();
    let hangs = alice.request("test/fake", told(json!({"hang": true}))).await;
    other.ask("sysadm/systemmanager", memory.clone()).await.expect("undisturbed");
    let reply = alice.json().await;
    assert_eq!((&reply["id"], &reply["args"]["code"]), (&json!(hangs), &json!(408)), "{reply}");
    assert!(began.elapsed() < Duration::from_secs(10));
    for (what, code) in [
        (json!({"garbage": "{"}), 500),
        (json!({"size": 10 << 20}), 500),
        (json!({"nothing": true}), 500),
        (json!({"code": 404}), 404),
        (json!({"crash": true}), 503),
    ] {
        assert_eq!(alice.ask("test/fake", told(what.clone())).await, Err(code), "{what}");
        other.ask("sysadm/systemmanager", memory.clone()).await.expect("undisturbed");
    }
    fake.start_again();
    up(&mut alice, "test/fake").await;
    alice.ask("test/fake", told(json!({}))).await.expect("an answer");
}

/// The end of whatever waits for an answer ends the work, within a second of it.
#[tokio::test(flavor = "multi_thread")]
async fn work_that_nobody_waits_for_is_stopped() {
    let Some(stack) = stack(Pam::Wrapper) else { return };
    let fake = stack.add_fake("");
    let (mut alice, token) = logged_in(&stack, Role::Full).await;
    up(&mut alice, "test/fake").await;
    let hang = json!({"action": "read", "hang": true});
    let dropped = |count: usize| {
        let fake = &fake;
        async move {
            until("dropped", async || fake.printed().matches("dropped read").count() == count).await;
        }
    };
    let begun = |count: usize| {
        let fake = &fake;
        async move {
            until("begun", async || fake.printed().matches("began read").count() == count).await;
        }
    };

    // Cancelled.
    let id = alice.request("test/fake", hang.clone()).await;
    begun(1).await;
    let asked = Instant::now();
    let cancel = alice.request("rpc/cancel", json!({"id": id})).await;
    for _ in 0..2 {
        let reply = alice.json().await;
        match reply["id"] == json!(id) {
            true => assert_eq!(reply["args"]["code"], json!(499), "{reply}"),
            false => assert_eq!((&reply["id"], &reply["args"]["cancelled"]), (&json!(cancel), &json!(1))),
        }
    }
    dropped(1).await;
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());

    // The client is gone.
    let mut other = Client::unix(&stack).await;
    other.ask("rpc/auth_token", json!({"token": token})).await.expect("taken up");
    other.request("test/fake", hang.clone()).await;
    begun(2).await;
    let gone = Instant::now();
    drop(other);
    dropped(2).await;
    assert!(gone.elapsed() < Duration::from_secs(15), "{:?}", gone.elapsed());

    // The session has ended elsewhere.
    let mut other = Client::unix(&stack).await;
    other.ask("rpc/auth_token", json!({"token": token})).await.expect("taken up");
    other.request("test/fake", hang).await;
    begun(3).await;
    let ended = Instant::now();
    alice.ask("rpc/auth_clear", json!({"reply": true})).await.expect("cleared");
    dropped(3).await;
    assert!(ended.elapsed() < Duration::from_secs(15), "{:?}", ended.elapsed());
}

/// A subsystem whose answers are wrong could fill the gateway's log: of all its faults there is a line a second.
#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_subsystem_do_not_fill_the_log() {
    const FAULTS: u64 = 200;
    let Some(stack) = stack(Pam::Wrapper) else { return };
    let _fake = stack.add_fake("");
    let (mut alice, _) = logged_in(&stack, Role::Full).await;
    up(&mut alice, "test/fake").await;
    let began = Instant::now();
    for _ in 0..FAULTS {
        let garbage = json!({"action": "read", "garbage": "{"});
        assert_eq!(alice.ask("test/fake", garbage).await, Err(500));
    }
    let seconds = began.elapsed().as_secs() + 2;
    // The next line counts those that had none.
    sleep(Duration::from_millis(1_100)).await;
    assert_eq!(alice.ask("test/fake", json!({"action": "read", "garbage": "{"})).await, Err(500));
    let line = stack.await_log(Program::Gateway, &["request failed", "test/fake", "unsaid="]);
    let log = stack.log(Program::Gateway);
    let lines: Vec<_> =
        log.lines().filter(|line| line.contains("request failed") && line.contains("test/fake")).collect();
    let said = u64::try_from(lines.iter().filter(|line| line.contains(" error ")).count()).expect("few");
    assert!(said <= seconds + 1, "{said} lines in {seconds} s");
    let unsaid =
        |line: &&str| doorward_tests::logs::value(line, "unsaid").and_then(|n| n.parse::<u64>().ok());
    assert_eq!(lines.iter().filter_map(unsaid).sum::<u64>() + said, FAULTS + 1, "{line}");
}
