//! `doorward acl`: for root, what authd's configuration lets somebody do, and which entry says so.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use doorward_proto::authd::v1::{
    Access, Dialect, ExplainRequest, Explanation, GivenEntry, rights_client::RightsClient,
};
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::Code;

use crate::{error::Error, output::Output, service};

pub(crate) const DEFAULT_SOCKET: &str = "/run/doorward/authd/authd.sock";
/// authd gives up on its user database before.
const REPLY_DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// As root: whether a user may do something, which ACL entry decides, and where it comes from
    #[command(after_help = "Exit codes: 0 granted, 1 not granted, 2 it cannot be said.")]
    Explain {
        /// Who; no session is needed, and none is looked at
        user: String,
        /// What is required, for example sysadm.rpc.query._
        subject: String,
        /// What a token of the HTTP token API would be granted, in place of a login
        #[arg(long)]
        token: bool,
        /// authd's socket
        #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
        authd: PathBuf,
    },
}

/// The answer is the exit code: whatever keeps it from being known is 2.
pub(crate) async fn run(command: Command, output: Output) -> ExitCode {
    let Command::Explain { user, subject, token, authd } = command;
    let dialect = if token { Dialect::Token } else { Dialect::Sysadm };
    let request = ExplainRequest { user: user.clone(), subject: subject.clone(), dialect: dialect.into() };
    let said = async {
        let mut rights = RightsClient::new(service::connect(&authd, "authd").await?);
        let answer = timeout(REPLY_DEADLINE, rights.explain(request)).await;
        let answer = answer.map_err(|_| Error::unreachable("authd did not answer within 20 seconds"))?;
        let explanation = answer
            .map_err(|status| match status.code() {
                Code::NotFound => Error::refused(format!("there is no user {user}")),
                _ => service::refused(&status, "authd"),
            })?
            .into_inner();
        output.result(&rows(&user, &subject, &explanation), &value(&user, &subject, token, &explanation))?;
        Ok(explanation.allowed)
    };
    match said.await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let error: Error = error;
            output.error(&error);
            ExitCode::from(2)
        }
    }
}

fn rows(user: &str, subject: &str, explanation: &Explanation) -> Vec<(&'static str, String)> {
    let (entry, from) = match decisive(explanation) {
        Some(given) => (given.entry.clone(), given.origin.clone()),
        None => (format!("none of {} says anything of it", explanation.entries.len()), String::new()),
    };
    let class = match explanation.access() {
        Access::Full => "full",
        Access::Limited => "limited",
        Access::Unspecified => "none: in no access group",
    };
    let mut rows = vec![
        ("user", user.to_owned()),
        ("access", class.to_owned()),
        ("subject", subject.to_owned()),
        ("granted", if explanation.allowed { "yes" } else { "no" }.to_owned()),
        ("entry", entry),
    ];
    if !from.is_empty() {
        rows.push(("from", from));
    }
    rows
}

fn value(user: &str, subject: &str, token: bool, explanation: &Explanation) -> Value {
    let given = |given: &GivenEntry| json!({"entry": given.entry, "from": given.origin});
    json!({
        "user": user,
        "subject": subject,
        "dialect": if token { "token" } else { "sysadm" },
        "access": match explanation.access() {
            Access::Full => json!("full"),
            Access::Limited => json!("limited"),
            Access::Unspecified => Value::Null,
        },
        "granted": explanation.allowed,
        "decided_by": decisive(explanation).map(given),
        "entries": explanation.entries.iter().map(given).collect::<Vec<_>>(),
    })
}

fn decisive(explanation: &Explanation) -> Option<&GivenEntry> {
    explanation.entries.get(usize::try_from(explanation.decided_by?).ok()?)
}
