//! `acl explain`, against a fake authd.

use doorward_proto::authd::v1::{
    Access, Dialect, ExplainRequest, Explanation, GivenEntry,
    rights_server::{Rights, RightsServer},
};
use serde_json::json;
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status, transport::Server};

use crate::{World, listening};

struct FakeAuthd;

#[tonic::async_trait]
impl Rights for FakeAuthd {
    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<Explanation>, Status> {
        let request = request.into_inner();
        let given = |entry: &str, origin: &str| GivenEntry { entry: entry.into(), origin: origin.into() };
        let limited = given("sysadm.rpc.query.#", "access.limited_acl (group operator)");
        let denied = given("!a.\u{1b}[2J", "access.group_acl (group staff)");
        let explanation = match (request.user.as_str(), request.dialect(), request.subject.as_str()) {
            ("bob", Dialect::Sysadm, "sysadm.rpc.query._") => {
                Explanation { allowed: true, decided_by: Some(0), ..Explanation::default() }
            }
            ("bob", Dialect::Sysadm, _) => Explanation { decided_by: Some(1), ..Explanation::default() },
            ("bob", _, _) => return Ok(Response::new(Explanation::default())),
            ("mallory", ..) => return Err(Status::permission_denied("no")),
            // What no authd of ours says.
            ("odd", ..) => Explanation { decided_by: Some(7), access: 9, ..Explanation::default() },
            _ => return Err(Status::not_found("not found")),
        };
        let access = if explanation.access == 0 { Access::Limited.into() } else { explanation.access };
        Ok(Response::new(Explanation { access, entries: vec![limited, denied], ..explanation }))
    }
}

fn serve(world: &World) -> (Runtime, String) {
    let path = world.directory.path().join("authd.sock");
    let runtime = listening::grpc(&path, Server::builder().add_service(RightsServer::new(FakeAuthd)));
    (runtime, path.display().to_string())
}

#[test]
fn the_exit_code_is_the_answer_and_the_entry_that_decides_is_named() {
    let world = World::new();
    let (_runtime, authd) = serve(&world);
    let explain = |user: &str, subject: &str, more: &[&str]| {
        let args = [&["acl", "explain", user, subject, "--authd", &authd], more].concat();
        world.run(&args, "")
    };
    let granted = explain("bob", "sysadm.rpc.query._", &[]).expect(0).out;
    for words in ["limited", "yes", "sysadm.rpc.query.#", "access.limited_acl (group operator)"] {
        assert!(granted.contains(words), "{words} is not in {granted}");
    }
    let denied = explain("bob", "a.b", &[]).expect(1).out;
    assert!(denied.contains("access.group_acl (group staff)") && !denied.contains('\u{1b}'), "{denied}");
    let nothing = explain("bob", "a.b", &["--token"]).expect(1).out;
    assert!(nothing.contains("none of 0") && nothing.contains("in no access group"), "{nothing}");
    explain("odd", "a.b", &[]).expect(1);
}

#[test]
fn programs_get_every_entry_and_what_cannot_be_said_is_2() {
    let world = World::new();
    let (_runtime, authd) = serve(&world);
    let explain = |user: &str| {
        world.run(&["acl", "explain", user, "sysadm.rpc.query._", "--authd", &authd, "--json"], "")
    };
    let value = explain("bob").expect(0).json();
    assert_eq!((&value["granted"], &value["access"]), (&json!(true), &json!("limited")));
    let from = json!({"entry": "sysadm.rpc.query.#", "from": "access.limited_acl (group operator)"});
    assert_eq!((&value["decided_by"], &value["entries"][0]), (&from, &from));
    assert_eq!(value["entries"].as_array().unwrap().len(), 2);
    explain("nobody").expect(2).says("there is no user nobody");
    explain("mallory").expect(2).says("only root");
    let elsewhere = world.directory.path().join("none.sock").display().to_string();
    let args = ["acl", "explain", "bob", "a", "--authd", &elsewhere];
    world.run(&args, "").expect(2).says("no authd at");
    world.run(&["acl", "explain", "bob"], "").expect(2);
}
