//! Messages that take time or an accident to come about, word by word: transcripts have the others.

use std::time::Duration;

use super::{encode_ended, encode_expiring, encode_facility_refused, encode_no_credentials, encode_notice};
use crate::{call::EndReason, hub::Notice};

fn error(channel: &str, text: &str, code: u16) -> String {
    format!(r#"{{"channel":"{channel}","message":{{"error":"{text}","code":{code}}}}}"#)
}

#[test]
fn the_end_of_a_session_is_told_in_the_words_of_its_reason() {
    for (reason, text) in [
        (EndReason::Idle, "session expired"),
        (EndReason::Expired, "session expired"),
        (EndReason::Cleared, "session revoked"),
        (EndReason::Revoked, "session revoked"),
    ] {
        assert_eq!(String::from_utf8(encode_ended(reason)), Ok(error("system", text, 401)), "{reason:?}");
    }
}

#[test]
fn what_is_left_of_a_session_is_told_in_seconds_that_are_not_over() {
    for (left, seconds) in [(60_000, 60), (59_001, 60), (59_000, 59), (1, 1)] {
        let told =
            format!(r#"{{"channel":"system","message":{{"name":"session expiring","seconds":{seconds}}}}}"#);
        assert_eq!(String::from_utf8(encode_expiring(Duration::from_millis(left))), Ok(told));
    }
}

#[test]
fn an_interruption_is_told_with_its_end_and_what_is_for_us_is_not() {
    let told = |notice| encode_notice(notice).map(|text| String::from_utf8(text).expect("UTF-8"));
    assert_eq!(told(Notice::Interrupted), Some(error("system", "delivery interrupted", 503)));
    let resumed = r#"{"channel":"system","message":{"name":"delivery resumed","code":200}}"#;
    assert_eq!(told(Notice::Resumed).as_deref(), Some(resumed));
    assert_eq!(told(Notice::LookAgain), None);
}

#[test]
fn the_other_warnings_are_the_contracts_words() {
    assert_eq!(
        String::from_utf8(encode_no_credentials()),
        Ok(error("member", "no credentials received", 401))
    );
    assert_eq!(
        String::from_utf8(encode_facility_refused()),
        Ok(error("facility", "facility name not allowed", 403))
    );
}
