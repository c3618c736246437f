//! What the fake gateway's channels do.
//!
//! | channel | |
//! | --- | --- |
//! | `room` | told between others: one message, an interruption and its end, one more; takes what is published |
//! | `quiet` | nothing is said there |
//! | `revoked` | the session ends |
//! | `slow` | the connection is closed |
//! | `down` | interrupted from the start, then one message; nothing can be published |
//! | any other | nobody may |

use serde_json::{Value, json};

use crate::fake_gateway::HOSTILE;

fn refused(channel: &Value, error: &str, code: u16) -> Value {
    json!({"channel": channel, "message": {"error": error, "code": code}})
}

/// What is sent for a message of this dialect.
pub(crate) fn answer(request: &Value, session: bool) -> Option<Vec<Value>> {
    let action = request["action"].as_str().filter(|_| request["namespace"].is_null())?;
    let (channel, pk) = (&request["channel"], &request["pk"]);
    let at = |mut told: Value| {
        if !pk.is_null() {
            told["pk"] = pk.clone();
        }
        told
    };
    let delivery = |message: Value| at(json!({"channel": channel, "message": message}));
    let interrupted = refused(&json!("system"), "delivery interrupted", 503);
    let resumed = json!({"channel": "system", "message": {"name": "delivery resumed", "code": 200}});
    let subscribed = at(json!({"name": "subscribed", "channel": channel, "status": 1}));
    let auth =
        json!({"namespace": "events", "name": "auth", "id": "", "args": {"reason": "revoked", "seconds": 0}});
    Some(match (action, channel.as_str()?, session) {
        ("subscribe", "room", true) => vec![
            subscribed,
            delivery(json!({"n": 1, "error": "no error", "code": 400})),
            json!({"channel": channel, "pk": "another", "message": "not this"}),
            json!({"channel": "another", "message": "nor this"}),
            interrupted,
            resumed,
            delivery(json!(HOSTILE)),
        ],
        ("subscribe", "quiet" | "slow", true) => vec![subscribed],
        ("subscribe", "revoked", true) => vec![subscribed, auth],
        ("subscribe", "down", true) => vec![interrupted, subscribed, delivery(json!(null))],
        ("publish", "room", true) => vec![
            json!({"id": "another", "name": "published", "channel": channel}),
            json!({"id": request["id"], "name": "published", "channel": channel}),
        ],
        ("publish", "down", true) => vec![refused(channel, "Service Unavailable", 503)],
        _ => vec![refused(channel, &format!("{action} permission denied"), 403)],
    })
}
