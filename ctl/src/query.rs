//! What there is to call: `doorward query`, and `doorward describe` of one of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    call::Target,
    client::{Endpoint, REPLY_DEADLINE},
    error::Error,
    login,
    output::{Output, columns, printable, write_out},
};

/// What is up and may be used, with the right to it.
pub(crate) async fn query(endpoint: &Endpoint, output: Output) -> Result<(), Error> {
    let reply = ask(endpoint, "query", &json!({})).await?;
    let unclear = || Error::unreachable("the gateway's answer to a query makes no sense");
    let members = reply.as_object().ok_or_else(unclear)?;
    let row = |(name, right): (&String, &Value)| Some([name.clone(), right.as_str()?.to_owned()]);
    let rows: Vec<_> = members.iter().map(row).collect::<Option<_>>().ok_or_else(unclear)?;
    output.list(["name", "right"], &rows, &reply)
}

/// What one of them can do.
pub(crate) async fn describe(endpoint: &Endpoint, target: &Target, output: Output) -> Result<(), Error> {
    let name = format!("{}/{}", target.namespace, target.name);
    let reply = ask(endpoint, "describe", &json!({ "name": name })).await.map_err(|error| match error {
        Error::Refused { code: Some(404), message } => Error::Refused {
            code: Some(404),
            message: format!("{message}: there is no {name}; `doorward query` says what there is"),
        },
        other => other,
    })?;
    if output.json {
        return output.value(&reply);
    }
    let description = Description::deserialize(&reply)
        .map_err(|_| Error::unreachable("the gateway's description makes no sense"))?;
    write_out(&description.page())
}

async fn ask(endpoint: &Endpoint, name: &str, args: &Value) -> Result<Value, Error> {
    let (mut client, _) = login::with_session(endpoint).await?;
    let reply = client.request("rpc", name, args, REPLY_DEADLINE).await;
    client.close().await;
    reply
}

/// As the gateway sends it.
#[derive(Deserialize)]
struct Description {
    namespace: String,
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    help: String,
    #[serde(default)]
    actions: BTreeMap<String, Action>,
    #[serde(default)]
    events: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Action {
    right: String,
    #[serde(default)]
    help: String,
    #[serde(default)]
    streams: bool,
    /// A JSON Schema.
    #[serde(default)]
    args: Option<Value>,
}

impl Description {
    fn page(&self) -> String {
        let head = format!("{}/{} {}", self.namespace, self.name, self.version);
        let mut text = printable(head.trim_end()) + "\n";
        if !self.help.is_empty() {
            text.push_str(&(printable(&self.help) + "\n"));
        }
        if !self.actions.is_empty() {
            text.push_str("\nActions:\n");
        }
        for (name, action) in &self.actions {
            let streams = if action.streams { ", tells its progress" } else { "" };
            text.push_str(&format!("  {} ({}{streams})\n", printable(name), printable(&action.right)));
            if !action.help.is_empty() {
                text.push_str(&format!("      {}\n", printable(&action.help)));
            }
            text.push_str(&action.args.as_ref().map(args).unwrap_or_default());
        }
        if !self.events.is_empty() {
            text.push_str("\nEvents:\n");
            let rows: Vec<_> =
                self.events.iter().map(|(name, help)| vec![name.clone(), help.clone()]).collect();
            text.extend(columns(&rows).lines().map(|line| format!("  {line}\n")));
        }
        text
    }
}

/// The properties of a schema of objects, one a line; any other schema as it is.
fn args(schema: &Value) -> String {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return match schema {
            Value::Object(members) if members.is_empty() => String::new(),
            other => format!("      args: {}\n", printable(&other.to_string())),
        };
    };
    let required = schema.get("required").and_then(Value::as_array);
    let row = |(name, property): (&String, &Value)| {
        let mut kind = match property.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            Some(other) => other.to_string(),
            None => "any".to_owned(),
        };
        if required.is_some_and(|names| names.iter().any(|required| required == name.as_str())) {
            kind.push_str(", required");
        }
        let choices = property.get("enum").or_else(|| property.get("const"));
        let choices = choices.map(|choices| format!("{choices} ")).unwrap_or_default();
        let help = property.get("description").and_then(Value::as_str).unwrap_or_default();
        vec![name.clone(), kind, format!("{choices}{help}")]
    };
    let rows: Vec<_> = properties.iter().filter(|(name, _)| *name != "action").map(row).collect();
    columns(&rows).lines().map(|line| format!("      {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(value: &Value) -> String {
        Description::deserialize(value).expect("a description").page()
    }

    #[test]
    fn a_description_is_a_page() {
        let value = json!({
            "namespace": "example", "name": "clock", "version": "1.2", "help": "Tells the time",
            "actions": {
                "now": {"right": "read", "help": "The time", "streams": false},
                "wait": {"right": "read/write", "help": "Waits", "streams": true, "args": {
                    "type": "object", "required": ["seconds"], "properties": {
                        "action": {"const": "wait"},
                        "seconds": {"type": "integer", "description": "How long"},
                        "unit": {"enum": ["s", "ms"]},
                    },
                }},
                "free": {"right": "read", "args": {"type": ["object", "null"]}},
            },
            "events": {"tick": "Each second", "alarm": ""},
        });
        let expected = "\
example/clock 1.2
Tells the time

Actions:
  free (read)
      args: {\"type\":[\"object\",\"null\"]}
  now (read)
      The time
  wait (read/write, tells its progress)
      Waits
      seconds  integer, required  How long
      unit     any                [\"s\",\"ms\"]

Events:
  alarm
  tick   Each second
";
        assert_eq!(page(&value), expected);
        assert_eq!(page(&json!({"namespace": "a", "name": "b"})), "a/b\n");
    }

    #[test]
    fn nothing_of_a_description_commands_the_terminal() {
        let hostile = "\u{1b}]0;x\u{7}\u{9b}31m\r\n\u{202e}txt\u{7f}\u{200b}";
        let schema =
            json!({"properties": {hostile: {"type": [hostile], "enum": [hostile], "description": hostile}}});
        let text = page(&json!({
            "namespace": hostile, "name": hostile, "version": hostile, "help": hostile,
            "actions": {
                hostile: {"right": hostile, "help": hostile, "args": schema},
                "b": {"right": "", "args": hostile},
            },
            "events": {hostile: hostile},
        }));
        assert!(text.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("txt")), "{text}");
    }
}
