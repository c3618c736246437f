//! Keeps notes: the subsystem of docs/subsystems.md.

use std::sync::{Arc, Mutex, PoisonError};

use doorward_subsystem::serde_json::{Value, json};
use doorward_subsystem::{Action, Call, Failure, NoSettings, Program, Progress, Settings, Subsystem};

struct Notes;

#[derive(serde::Deserialize)]
struct Add {
    note: String,
}

#[derive(serde::Deserialize)]
struct Count {
    to: u32,
}

impl Program for Notes {
    const NAME: &'static str = "notes";
    const CONFIG_PATH: &'static str = "/etc/doorward/notes.toml";
    type Settings = NoSettings;

    fn subsystem(_: Settings<Self>) -> Subsystem {
        let subsystem = Subsystem::new("example", "notes", env!("CARGO_PKG_VERSION"), "Keeps notes")
            .event("note-added", "Somebody added a note");
        let (publisher, notes) = (subsystem.publisher(), Arc::new(Mutex::new(Vec::<Value>::new())));
        let all = Arc::clone(&notes);
        let schema = json!({
            "type": "object", "required": ["note"], "additionalProperties": false,
            "properties": { "note": { "type": "string", "minLength": 1, "maxLength": 200 } },
        });
        subsystem
            .action(Action::read("list", "All notes", move |_: Call, _: Value| {
                let all = all.lock().unwrap_or_else(PoisonError::into_inner).clone();
                async move { Ok(json!({ "notes": all })) }
            }))
            .action(
                Action::write("add", "Adds a note", move |call: Call, args: Add| {
                    let user = &call.caller().user;
                    let added = add(&notes, user, &args.note);
                    if added.is_ok() {
                        // Nobody may listen: that is no failure of the action.
                        let _ = publisher.publish("note-added", &json!({ "by": user }));
                    }
                    async move { added }
                })
                .args(schema),
            )
            .action(Action::read_long("count", "Counts, and tells each step", count))
    }
}

fn add(notes: &Mutex<Vec<Value>>, user: &str, note: &str) -> Result<Value, Failure> {
    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    notes.push(json!({ "by": user, "note": note }));
    // The list of all is an answer, which is at most 1 MiB.
    if notes.len() > 1_000 || json!(*notes).to_string().len() > 900 << 10 {
        notes.pop();
        return Err(Failure::busy("there are enough notes"));
    }
    Ok(json!({ "count": notes.len() }))
}

async fn count(_: Call, args: Count, progress: Progress) -> Result<Value, Failure> {
    for step in 1..=args.to {
        progress.send(&json!({ "step": step })).await?;
    }
    Ok(json!({ "counted": args.to }))
}

fn main() -> std::process::ExitCode {
    doorward_subsystem::main::<Notes>()
}
