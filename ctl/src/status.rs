//! `doorward status`: who answers, and whether the kept session is still good.

use serde_json::json;

use crate::{
    client::{Client, Endpoint, Server},
    error::Error,
    login,
    output::Output,
    token_file::Place,
};

/// Shows what is known of the gateway and the session. A session that is over is an answer, not a
/// failure.
pub(crate) async fn status(endpoint: &Endpoint, output: Output) -> Result<(), Error> {
    let place = Place::of(&endpoint.name())?;
    let mut client = Client::connect(endpoint).await?;
    let hostname = client.identify().await?;
    let (user, state) = match login::resume(&mut client, &place).await {
        Ok(Some(session)) => (Some(session.user), "valid".to_owned()),
        Ok(None) => (None, "none".to_owned()),
        Err(error @ Error::Refused { .. }) => (None, error.to_string()),
        Err(error) => return Err(error),
    };
    let server = match &client.server {
        Server::Uid(uid) => ("listens as", format!("uid {uid}"), json!({ "uid": uid })),
        Server::Key(key) => ("key", key.to_string(), json!({ "fingerprint": key.to_string() })),
    };
    client.close().await;
    let value = json!({
        "endpoint": endpoint.name(),
        "hostname": hostname,
        "server": server.2,
        "user": user,
        "valid": user.is_some(),
        "session": state,
    });
    let mut rows =
        vec![("gateway", endpoint.name()), ("host", hostname), (server.0, server.1), ("session", state)];
    rows.extend(user.map(|user| ("user", user)));
    output.result(&rows, &value)
}
