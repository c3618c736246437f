//! One action: its name, its right, and the function that does it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bounds::{DEPTH_MAX, RESULT_MAX};
use crate::call::{Call, Progress};
use crate::failure::Failure;

/// A handler's answer, once it is there.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Vec<u8>, Failure>> + Send>>;
/// A handler: progress is not listened to where the action does not tell any.
pub(crate) type Handler = Arc<dyn Fn(Call, Value, Progress) -> Work + Send + Sync>;

/// What clients can call.
///
/// A handler is an async function of the call and its args, which are whatever type can be read from JSON
/// (`serde_json::Value` takes anything); a member `action` of args that are an object was taken out. What it returns
/// becomes JSON. It is dropped when nobody waits any more.
#[derive(Clone)]
pub struct Action {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) writes: bool,
    pub(crate) streams: bool,
    pub(crate) schema: Option<Value>,
    pub(crate) handler: Handler,
}

impl Action {
    /// It changes nothing: `GET` reaches it, and an assertion is good for any number of such calls.
    pub fn read<A, R, W>(
        name: &str,
        help: &str,
        handler: impl Fn(Call, A) -> W + Send + Sync + 'static,
    ) -> Action
    where
        A: DeserializeOwned,
        R: Serialize,
        W: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        Action::of(name, help, false, false, move |call, args, _| handler(call, args))
    }

    /// It changes something: an assertion is good for one such call.
    pub fn write<A, R, W>(
        name: &str,
        help: &str,
        handler: impl Fn(Call, A) -> W + Send + Sync + 'static,
    ) -> Action
    where
        A: DeserializeOwned,
        R: Serialize,
        W: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        Action::of(name, help, true, false, move |call, args, _| handler(call, args))
    }

    /// It reads for long, and tells how far it is.
    pub fn read_long<A, R, W>(
        name: &str,
        help: &str,
        handler: impl Fn(Call, A, Progress) -> W + Send + Sync + 'static,
    ) -> Action
    where
        A: DeserializeOwned,
        R: Serialize,
        W: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        Action::of(name, help, false, true, handler)
    }

    /// It changes something, takes long, and tells how far it is.
    pub fn write_long<A, R, W>(
        name: &str,
        help: &str,
        handler: impl Fn(Call, A, Progress) -> W + Send + Sync + 'static,
    ) -> Action
    where
        A: DeserializeOwned,
        R: Serialize,
        W: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        Action::of(name, help, true, true, handler)
    }

    /// The JSON Schema of its args: checked before the handler is asked, and told to whoever asks.
    #[must_use]
    pub fn args(mut self, schema: Value) -> Action {
        self.schema = Some(schema);
        self
    }

    fn of<A, R, W>(
        name: &str,
        help: &str,
        writes: bool,
        streams: bool,
        handler: impl Fn(Call, A, Progress) -> W + Send + Sync + 'static,
    ) -> Action
    where
        A: DeserializeOwned,
        R: Serialize,
        W: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        let handler: Handler =
            Arc::new(move |call, args, progress| match serde_json::from_value::<A>(args) {
                Ok(args) => {
                    let work = handler(call, args, progress);
                    Box::pin(async move { encoded(&work.await?) })
                }
                Err(error) => {
                    let sentence = format!("args: {}", without_values(&error.to_string()));
                    Box::pin(async move { Err(Failure::bad_args(sentence)) })
                }
            });
        Action { name: name.to_owned(), help: help.to_owned(), writes, streams, schema: None, handler }
    }
}

/// What is wrong, without repeating what was sent: that may be a secret, and this is logged.
fn without_values(error: &str) -> String {
    let about_names = ["missing field ", "unknown field ", "duplicate field "];
    if about_names.iter().any(|beginning| error.starts_with(beginning)) {
        return error.to_owned();
    }
    let wrong = ["invalid type", "invalid value", "invalid length", "unknown variant"];
    let wrong = wrong.iter().find(|beginning| error.starts_with(**beginning));
    match (wrong, error.rsplit_once(", expected ")) {
        (Some(wrong), Some((_, expected))) => format!("{wrong}, expected {expected}"),
        _ => "not of the form of this action".to_owned(),
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Action")
            .field("name", &self.name)
            .field("writes", &self.writes)
            .finish_non_exhaustive()
    }
}

/// A result as JSON, within its bounds; memory is not taken beyond them.
fn encoded(result: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let mut text = Bounded(Vec::new());
    serde_json::to_writer(&mut text, result)
        .map_err(|error| Failure::fault(format!("the result cannot be sent: {error}")))?;
    if depth(&text.0) > DEPTH_MAX {
        return Err(Failure::fault("the result is nested too deep"));
    }
    Ok(text.0)
}

struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RESULT_MAX {
            return Err(io::Error::other("longer than 1 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How deep JSON that serde_json wrote is nested.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_not_repeated() {
        for (error, told) in [
            ("missing field `a`", "missing field `a`"),
            ("unknown field `b`, expected `a`", "unknown field `b`, expected `a`"),
            ("duplicate field `a`", "duplicate field `a`"),
            ("invalid type: string \"x, expected y\", expected u64", "invalid type, expected u64"),
            ("invalid value: integer `7`, expected u8", "invalid value, expected u8"),
            ("invalid length 1, expected a tuple", "invalid length, expected a tuple"),
            ("unknown variant `x`, expected `a` or `b`", "unknown variant, expected `a` or `b`"),
            ("x is no name", "not of the form of this action"),
            ("invalid type: x", "not of the form of this action"),
        ] {
            assert_eq!(without_values(error), told);
        }
    }

    #[test]
    fn a_result_has_bounds() {
        assert_eq!(encoded(&json!({ "a": 1 })).expect("sent"), br#"{"a":1}"#);
        assert!(encoded(&"x".repeat(RESULT_MAX)).is_err());
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(encoded(&nested(DEPTH_MAX)).is_ok());
        assert!(encoded(&nested(DEPTH_MAX + 1)).is_err());
    }

    #[test]
    fn depth_is_not_misled_by_texts() {
        assert_eq!(depth(br#"{"a\"[[[":["\\",[1]]}"#), 3);
        assert_eq!(depth(b"7"), 0);
    }
}
