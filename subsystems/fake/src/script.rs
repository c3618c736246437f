//! What it is to do: with a call, by the call's args; of itself, by a file.

use serde::Deserialize;
use serde_json::Value;

/// Args of a call. What is not there is not done; unknown members are left alone. The order is that of the fields.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Act {
    /// Nothing is printed of this call: where what calls cost is measured, two writes for each would be most of it.
    pub(crate) quiet: bool,
    /// Publishes events first.
    pub(crate) burst: Option<Burst>,
    /// Tells progress, where the call is a stream: this often,
    pub(crate) steps: u32,
    /// each after so long,
    pub(crate) step_ms: u64,
    /// with a text of this length in it,
    pub(crate) step_size: usize,
    /// or with these bytes in place of JSON.
    pub(crate) step_garbage: Option<String>,
    /// Waits.
    pub(crate) delay_ms: u64,
    /// Never answers.
    pub(crate) hang: bool,
    /// Ends the process.
    pub(crate) crash: bool,
    /// Answers with this gRPC status.
    pub(crate) status: Option<i32>,
    /// Answers without an outcome; a stream ends without one.
    pub(crate) nothing: bool,
    /// Answers with a failure of this code,
    pub(crate) code: Option<u32>,
    /// and these words.
    pub(crate) message: String,
    /// Answers with these bytes in place of JSON.
    pub(crate) garbage: Option<String>,
    /// Answers with bytes that are no UTF-8.
    pub(crate) not_utf8: bool,
    /// Answers with a text of this length.
    pub(crate) size: Option<usize>,
    /// Answers with lists in lists.
    pub(crate) depth: Option<usize>,
    /// Answers with this; else with all that the call brought.
    pub(crate) answer: Option<Value>,
}

/// Events, one after the other.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Burst {
    /// Their name, described or not.
    pub(crate) event: String,
    pub(crate) count: u32,
    /// How many in a second; without it as fast as they are taken.
    #[serde(default)]
    pub(crate) per_second: Option<u32>,
    /// The length of a text in each.
    #[serde(default)]
    pub(crate) size: usize,
    /// These bytes in place of JSON.
    #[serde(default)]
    pub(crate) garbage: Option<String>,
}

/// The file: what it says of itself. Whatever is there takes the place of what it would say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Script {
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) help: Option<String>,
    /// Waits before it describes itself.
    pub(crate) delay_ms: u64,
    /// Answers with this gRPC status in place of a description.
    pub(crate) status: Option<i32>,
    /// Never describes itself.
    pub(crate) hang: bool,
    pub(crate) actions: Option<Vec<Described>>,
    pub(crate) events: Option<Vec<String>>,
}

/// An action, as the file says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Described {
    pub(crate) name: String,
    /// `read`, `write`, or neither.
    #[serde(default)]
    pub(crate) right: String,
    #[serde(default)]
    pub(crate) help: String,
    #[serde(default)]
    pub(crate) streams: bool,
    #[serde(default)]
    pub(crate) schema: String,
}
