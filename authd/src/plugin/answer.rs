//! What a plug-in says, and what of it counts. Pure.

use std::{sync::Arc, time::Duration};

use doorward_proto::authenticator::v1::{self as wire, authenticate_reply::Outcome};

use crate::{
    rights::{beyond, common, too_heavy, too_many},
    session::Identity,
    vouched::{Newcomer, is_id},
};

/// The longest key of a plug-in's own, in bytes.
const PK_MAX: usize = 128;
/// The longest name, in characters.
const NAME_MAX: usize = 128;
/// The longest entry, in bytes.
const ENTRY_MAX: usize = doorward_proto::acl::ENTRY_MAX;
/// Who is to live longer than this has its time in another unit.
const LIFE_MAX: u64 = 315_360_000;
/// What is kept of why somebody was refused, in characters.
const WHY_MAX: usize = 200;

/// What a plug-in says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is somebody, who was given so many entries that nobody may have.
    Somebody(Newcomer, usize),
    /// It is nobody: why, for the log.
    Nobody(String),
}

/// Reads an answer whole, at `now` (seconds of UTC).
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(
    reply: wire::AuthenticateReply,
    kind: &str,
    acl_max: &[String],
    now: u64,
) -> Result<Answer, &'static str> {
    let identity = match reply.outcome {
        Some(Outcome::Identity(identity)) => identity,
        Some(Outcome::Refused(refused)) => {
            return Ok(Answer::Nobody(refused.why.chars().take(WHY_MAX).collect()));
        }
        None => return Err("it says nothing"),
    };
    let wire::Identity { pk, uuid: id, name, acl, expires, only_one } = identity;
    if !(1..=PK_MAX).contains(&pk.len()) || pk.contains(char::is_control) {
        return Err("its pk");
    }
    if !is_id(&id) {
        return Err("its uuid");
    }
    if name.chars().count() > NAME_MAX || name.contains(char::is_control) {
        return Err("its name");
    }
    if too_many(&acl) || acl.iter().any(|entry| entry.len() > ENTRY_MAX) {
        return Err("its acl");
    }
    let life = match expires {
        0 => None,
        over if over <= now => return Ok(Answer::Nobody("what it has is over".into())),
        ends if ends - now > LIFE_MAX => return Err("its expires"),
        ends => Some(Duration::from_secs(ends - now)),
    };
    let given: Vec<String> = acl.iter().filter(|entry| beyond(entry).is_none()).cloned().collect();
    let dropped = acl.len() - given.len();
    let acl = common(&given, acl_max, &id);
    // No service would read an assertion with more.
    if too_heavy(&acl) {
        return Err("its acl, which is too long as a whole");
    }
    let name = if name.is_empty() { id.clone() } else { name };
    let who = Identity::Other { kind: kind.to_owned(), id, pk, name };
    Ok(Answer::Somebody(Newcomer { who, acl: Arc::from(acl), life, only_one }, dropped))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn owned(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn terminal() -> wire::Identity {
        wire::Identity {
            pk: "7".into(),
            uuid: "t-7".into(),
            name: "Terminal 7".into(),
            acl: owned(&["ws.group.3.subscribe"]),
            expires: NOW + 100,
            only_one: true,
        }
    }

    fn answer(identity: wire::Identity) -> Result<Answer, &'static str> {
        let reply = wire::AuthenticateReply { outcome: Some(Outcome::Identity(identity)) };
        read(reply, "terminal", &owned(&["ws.group.#"]), NOW)
    }

    fn somebody(identity: wire::Identity) -> (Newcomer, usize) {
        match answer(identity) {
            Ok(Answer::Somebody(newcomer, dropped)) => (newcomer, dropped),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn somebody_is_of_the_configured_kind_and_has_no_more_than_the_maximum() {
        let (newcomer, dropped) = somebody(terminal());
        let Identity::Other { kind, id, pk, name } = newcomer.who else { panic!("never a user") };
        assert_eq!((kind, id, pk, name), ("terminal".into(), "t-7".into(), "7".into(), "Terminal 7".into()));
        assert_eq!((newcomer.life, newcomer.only_one, dropped), (Some(Duration::from_secs(100)), true, 0));
        assert_eq!(*newcomer.acl, owned(&["ws.group.3.subscribe"]));
        for (acl, left, dropped) in [
            (&["#"][..], &[][..], 1),
            (&["sysadm.#", "*.rpc.query._", "ws.group.1.subscribe"], &["ws.group.1.subscribe"], 2),
            (&["ws.#"], &["ws.group.#"], 0),
            (&["ws.other.#", "confd.#"], &[], 0),
            (&["ws.group.#", "!ws.group.9.#"], &["ws.group.#", "!ws.group.9.#"], 0),
        ] {
            let (newcomer, count) = somebody(wire::Identity { acl: owned(acl), ..terminal() });
            assert_eq!((&newcomer.acl[..], count), (&owned(left)[..], dropped), "{acl:?}");
        }
        let (newcomer, _) = somebody(wire::Identity { expires: 0, name: String::new(), ..terminal() });
        assert_eq!(newcomer.life, None);
        assert!(matches!(newcomer.who, Identity::Other { name, .. } if name == "t-7"));
    }

    #[test]
    fn an_answer_that_is_wrong_in_one_thing_is_none() {
        for (wrong, says) in [
            (wire::Identity { pk: String::new(), ..terminal() }, "its pk"),
            (wire::Identity { pk: "x".repeat(129), ..terminal() }, "its pk"),
            (wire::Identity { pk: "a\nb".into(), ..terminal() }, "its pk"),
            (wire::Identity { uuid: String::new(), ..terminal() }, "its uuid"),
            (wire::Identity { uuid: "user/root".into(), ..terminal() }, "its uuid"),
            (wire::Identity { uuid: "x".repeat(65), ..terminal() }, "its uuid"),
            (wire::Identity { uuid: "1000".into(), ..terminal() }, "its uuid"),
            (wire::Identity { uuid: "*".into(), ..terminal() }, "its uuid"),
            (wire::Identity { name: "ä".repeat(129), ..terminal() }, "its name"),
            (wire::Identity { name: "\u{1b}[2J".into(), ..terminal() }, "its name"),
            (wire::Identity { acl: vec!["ws.a.x".into(); 300], ..terminal() }, "its acl"),
            (wire::Identity { acl: vec!["!ws.a.x".into(); 33], ..terminal() }, "its acl"),
            (wire::Identity { acl: vec!["x".repeat(257)], ..terminal() }, "its acl"),
            (wire::Identity { expires: NOW * 1000, ..terminal() }, "its expires"),
            (wire::Identity { expires: u64::MAX, ..terminal() }, "its expires"),
        ] {
            assert_eq!(answer(wrong), Err(says));
        }
        let long = (0..100).map(|n| format!("ws.group.{n}{}.subscribe", "x".repeat(200))).collect();
        assert_eq!(
            answer(wire::Identity { acl: long, ..terminal() }),
            Err("its acl, which is too long as a whole")
        );
        assert!(read(wire::AuthenticateReply { outcome: None }, "terminal", &[], NOW).is_err());
    }

    #[test]
    fn who_is_over_is_nobody() {
        for expires in [1, NOW - 1, NOW] {
            assert!(matches!(answer(wire::Identity { expires, ..terminal() }), Ok(Answer::Nobody(_))));
        }
        let refused = wire::Refused { why: "x".repeat(10_000) };
        let reply = wire::AuthenticateReply { outcome: Some(Outcome::Refused(refused)) };
        let told = read(reply, "terminal", &[], NOW);
        assert_eq!(told, Ok(Answer::Nobody("x".repeat(200))));
    }
}
