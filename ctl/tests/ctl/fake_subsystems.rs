//! What the fake gateway's subsystems do, and its own rows that are about them.
//!
//! | request | |
//! | --- | --- |
//! | `test/steps` | a progress for each of `steps`, then `result`; with `hang` no result |
//! | `test/endless` | progress without end |
//! | `test/huge` | 10 MiB of progress, then 10 MiB of result |
//! | `test/others` | a progress and an answer of another id, an answer by another name, then its own |
//! | `rpc/logs` | 25 records, three in a reply |
//! | `events/subscribe` | `tick`: three at once; `hostile`: one; `revoked`, `expiring`: of the session; `quiet`: none; `unread`: the connection is closed |

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::fake_gateway::HOSTILE;

/// The calls of one connection that are under way.
#[derive(Default)]
pub(crate) struct Calls {
    hanging: Vec<Value>,
    /// What answers a cancel.
    at_cancel: Value,
    pub(crate) endless: Option<Value>,
    sent: u64,
}

impl Calls {
    /// One more progress of the one without end.
    pub(crate) fn more(&mut self) -> Message {
        self.sent += 1;
        let share = json!({"done": self.sent % 1_000, "total": 1_000, "message": HOSTILE});
        Message::text(progress(self.endless.as_ref().unwrap(), &share).to_string())
    }
}

fn progress(id: &Value, args: &Value) -> Value {
    json!({"namespace": "test", "name": "progress", "id": id, "args": args})
}

fn response(id: &Value, args: &Value) -> Value {
    json!({"namespace": "test", "name": "response", "id": id, "args": args})
}

fn error(id: &Value, code: u16, message: &str) -> Value {
    json!({"namespace": "test", "name": "error", "id": id, "args": {"code": code, "message": message}})
}

fn event(name: &str, args: &Value) -> Value {
    json!({"namespace": "events", "name": name, "id": "", "args": args})
}

/// What is sent; nothing is known here of other requests.
pub(crate) fn answer(request: &Value, session: bool, calls: &mut Calls) -> Option<Vec<Value>> {
    let (id, args) = (&request["id"], &request["args"]);
    let row = (request["namespace"].as_str()?, request["name"].as_str()?);
    if !session {
        return None;
    }
    Some(match row {
        ("test", "steps") => {
            let steps = args["steps"].as_array().cloned().unwrap_or_default();
            let mut told: Vec<_> = steps.iter().map(|step| progress(id, step)).collect();
            if args["hang"] == true {
                calls.hanging.push(id.clone());
                calls.at_cancel = args["at_cancel"].clone();
            } else {
                told.push(response(id, &args["result"]));
            }
            told
        }
        ("test", "endless") => {
            calls.endless = Some(id.clone());
            calls.hanging.push(id.clone());
            Vec::new()
        }
        ("test", "huge") => {
            let text = json!("\u{1b}".repeat((10 << 20) / "\\u001b".len()));
            vec![progress(id, &text), response(id, &text)]
        }
        ("test", "others") => vec![
            progress(&json!("doorward-77"), &json!({"percent": 7})),
            response(&json!("doorward-77"), &json!("not this")),
            response(&json!({"id": id}), &json!("nor this")),
            event("response-like", &json!("nor this")),
            json!({"namespace": "test", "name": "else", "id": id, "args": "nor this"}),
            response(id, &json!("this")),
        ],
        ("rpc", "cancel") => match &calls.at_cancel {
            Value::String(deaf) if deaf == "deaf" => Vec::new(),
            at_cancel => {
                let found = calls.hanging.iter().position(|hanging| *hanging == args["id"]);
                let mut told = vec![response(id, &json!({"cancelled": u64::from(found.is_some())}))];
                if let Some(found) = found {
                    let ended = calls.hanging.remove(found);
                    calls.endless = None;
                    told.push(match at_cancel {
                        Value::Null => error(&ended, 499, "Cancelled"),
                        result => response(&ended, result),
                    });
                }
                told
            }
        },
        ("rpc", "describe") if args["name"] == "test/steps" => vec![response(id, &description())],
        ("rpc", "describe") => vec![error(id, 404, "Not Found")],
        ("rpc", "logs") => vec![match logs(args) {
            Some(page) => response(id, &page),
            None => error(id, 400, "Bad Request: from is no moment"),
        }],
        ("events", "subscribe") => {
            let asked = args.as_array()?.iter().filter_map(Value::as_str);
            let known = ["tick", "hostile", "revoked", "expiring", "quiet", "unread"];
            let accepted: Vec<_> = asked.filter(|name| known.contains(name)).collect();
            if accepted.is_empty() {
                return Some(vec![error(id, 400, "Bad Request")]);
            }
            let mut told = vec![
                event("auth", &json!({"reason": "expiring", "seconds": 9})),
                event("unasked", &json!("nobody asked")),
                response(id, &json!({ "subscribe": accepted })),
            ];
            for name in accepted {
                match name {
                    "tick" => told.extend((1..=3).map(|n| event("tick", &json!({ "n": n })))),
                    "hostile" => told.push(event("hostile", &json!({ HOSTILE: [HOSTILE] }))),
                    "revoked" => told.push(event("auth", &json!({"reason": "revoked", "seconds": 0}))),
                    _ => {}
                }
            }
            told
        }
        _ => return None,
    })
}

/// Three records for each request, 25 in all; before 1970-01-02 without end and without a record.
fn logs(args: &Value) -> Option<Value> {
    let record = |n: u64| {
        json!({"time": "2026-11-25T23:10:59.123Z", "id": format!("9-{n}"), "event": "login",
            "service": "doorward-authd", "user": HOSTILE, "uid": n})
    };
    let from = match &args["after"] {
        Value::String(after) => after.parse().ok()?,
        _ if args["from"].as_u64()? < 86_400 => {
            return Some(json!({"records": [], "next": "0", "missing": [], "unread": []}));
        }
        _ => 0,
    };
    let records: Vec<_> =
        (from..25).take(3).take(args["most"].as_u64()?.try_into().ok()?).map(record).collect();
    let next = from + records.len() as u64;
    let next = if next < 25 { json!(next.to_string()) } else { Value::Null };
    Some(json!({"records": records, "next": next, "missing": ["certd"], "unread": ["gateway"]}))
}

fn description() -> Value {
    json!({
        "namespace": "test", "name": "steps", "version": "1.0", "help": format!("Walks{HOSTILE}"),
        "actions": {
            "_": {"right": "read", "help": "Walks", "streams": true, "args": {
                "type": "object", "properties": {"steps": {"type": "array", "description": "What to tell"}},
            }},
        },
        "events": {"tick": "Now and then"},
    })
}
