//! Telling authd which sessions were used: one call a second, and none while nothing is used.

use std::{sync::Arc, time::Duration};

use doorward_proto::authd::v1::{Activity, ActivityReport, sessions_client::SessionsClient};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use super::{held::Table, wire};

/// An idle deadline is exact to this.
const EVERY: Duration = Duration::from_secs(1);
/// So many entries stay well below the largest request.
const ENTRIES: usize = 1_000;

/// Reports as long as there is something to report; never ends.
pub(super) async fn run(client: SessionsClient<Channel>, table: Arc<Table>, deadline: Duration) {
    loop {
        table.some_use().await;
        sleep(EVERY).await;
        report(client.clone(), &table, deadline).await;
    }
}

/// Reports what there is now. What authd does not take is kept for the next time.
pub(super) async fn report(mut client: SessionsClient<Channel>, table: &Table, deadline: Duration) {
    let used = table.take_used();
    for entries in used.chunks(ENTRIES) {
        let activities = entries
            .iter()
            .map(|held| Activity {
                token: held.token.expose().to_owned(),
                used_ms_ago: wire::milliseconds(table.since(held.last_use())),
            })
            .collect();
        let call = timeout(deadline, client.report_activity(ActivityReport { activities })).await;
        let error = match call {
            Ok(Ok(_)) => continue,
            Ok(Err(status)) => super::Failure::from(status).detail,
            Err(_) => "no answer within the deadline".to_owned(),
        };
        tracing::debug!(error, "authd did not take the activity report");
        table.put_back(entries);
    }
}
