//! Who may call what, over the socket.

use doorward_launch::Identity;
use doorward_proto::authd::v1 as wire;
use tonic::Code;

use crate::bench::{Bench, ONE, code, password, users};

/// The gateway is somebody else here: the caller is root, or a stranger.
async fn elsewhere() -> Bench {
    Bench::start_for(Identity { uid: 54_322, gid: Identity::current().gid }, users(), |_| ()).await
}

#[tokio::test]
async fn root_may_end_and_watch_and_nothing_else_and_strangers_not_even_connect() {
    let bench = elsewhere().await;
    if !rustix::process::geteuid().is_root() {
        let refused = crate::bench::dial(&bench.config.socket.path).await;
        // The connection is made and closed unread; tonic may see it only at the first call.
        if let Ok(channel) = refused {
            let mut sessions = wire::sessions_client::SessionsClient::new(channel);
            let answer = sessions.end(wire::EndRequest { token: ONE.into() }).await;
            assert_ne!(code(answer), Code::Ok);
        }
        return;
    }
    let (mut login, mut sessions) = (bench.login().await, bench.sessions().await);
    let token = || ONE.to_owned();
    let denied = [
        code(login.begin(password(ONE, "alice", "pw")).await),
        code(login.respond(wire::RespondRequest::default()).await),
        code(login.challenge(wire::ChallengeRequest::default()).await),
        code(login.abandon(wire::AbandonRequest::default()).await),
        code(login.backends(wire::BackendsRequest {}).await),
        code(sessions.check(wire::CheckRequest { token: token(), ..Default::default() }).await),
        code(sessions.report_activity(wire::ActivityReport::default()).await),
        code(sessions.assert(wire::AssertRequest { token: token(), audience: "certd".into() }).await),
    ];
    assert_eq!(denied, [Code::PermissionDenied; 8]);
    assert_eq!(code(sessions.end(wire::EndRequest { token: token() }).await), Code::Ok);
    assert_eq!(code(sessions.watch_ended(wire::WatchEndedRequest {}).await), Code::Ok);
}
