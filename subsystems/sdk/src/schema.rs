//! The JSON Schema of an action's args: compiled once, asked before the handler is.
//!
//! Nothing is fetched: the crate is built without the parts that read files and URLs. Patterns are matched in
//! time linear in the text, since the text is a stranger's.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::bounds::SCHEMA_MAX;
use crate::failure::Failure;

/// A schema and its text, which is what the gateway is told.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) text: String,
    validator: Validator,
}

impl Schema {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence.
    pub(crate) fn new(schema: &Value) -> Result<Schema, String> {
        let text = schema.to_string();
        if text.len() > SCHEMA_MAX {
            return Err("is longer than 16 KiB".to_owned());
        }
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(schema)
            .map_err(|error| format!("cannot be used: {error}"))?;
        Ok(Schema { text, validator })
    }

    /// Whether the args are as they should be.
    ///
    /// # Errors
    /// Where the first thing is that is not.
    pub(crate) fn check(&self, args: &Value) -> Result<(), Failure> {
        self.validator.validate(args).map_err(|error| {
            let place = error.instance_path().to_string();
            // The value itself may be a secret that was typed in the wrong field.
            let what = error.masked_with("the value");
            Failure::bad_args(format!("args{place}: {what}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_by_its_place_and_without_the_value() {
        let schema = Schema::new(&json!({
            "type": "object",
            "properties": { "pin": { "type": "string", "pattern": "^[0-9]+$", "maxLength": 4 } },
            "required": ["pin"], "additionalProperties": false,
        }))
        .expect("a schema");
        assert_eq!(schema.check(&json!({ "pin": "12" })), Ok(()));
        for (args, says) in [
            (json!({ "pin": "secret" }), "args/pin: the value"),
            (json!({ "pin": 7 }), "args/pin: the value"),
            (json!({}), "\"pin\""),
            (json!({ "pin": "1", "x": 1 }), "'x'"),
            (json!(null), "args: the value"),
        ] {
            let failure = schema.check(&args).expect_err("refused");
            assert!(failure.sentence().contains(says), "{args}: {failure}");
            assert!(!failure.sentence().contains("secret"), "{failure}");
        }
    }

    #[test]
    fn a_schema_that_is_none_reads_elsewhere_or_looks_around_is_refused_at_the_start() {
        for schema in [
            json!({ "type": "no-such-type" }),
            json!({ "$ref": "https://example.org/schema.json" }),
            json!({ "$ref": "file:///etc/passwd" }),
            json!({ "pattern": "(a)\\1" }),
            json!({ "description": "x".repeat(SCHEMA_MAX) }),
        ] {
            assert!(Schema::new(&schema).is_err(), "{schema}");
        }
    }

    #[test]
    fn a_pattern_costs_no_more_than_its_text_is_long() {
        let schema = Schema::new(&json!({ "pattern": "^(a+)+$" })).expect("a schema");
        let began = std::time::Instant::now();
        assert!(schema.check(&json!("a".repeat(100_000) + "b")).is_err());
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
