//! What a handler may answer. No I/O.

use doorward_proto::channel::v1::{self as proto, message_reply::Outcome};
use serde_json::value::RawValue;

use crate::{
    backend::Failure,
    call::{Address, ChannelName, Error, Payload, Pk},
    subsystem::json,
};

/// The most pks of one answer, and the most publications.
const PKS_MAX: usize = 256;
const PUBLICATIONS_MAX: usize = 16;
/// The largest reply and the largest publication, in bytes of JSON.
const JSON_MAX: usize = 64 << 10;
/// The largest word that comes back when a connection is over, in bytes.
const PRESENCE_MAX: usize = 128;

/// What came of a custom message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// For the client alone, as a delivery on the channel.
    pub reply: Option<Payload>,
    /// On channels of the handler's own.
    pub publications: Vec<(Address, Payload)>,
}

/// What the client is subscribed to. What it did not ask for it does not get, whatever the handler says.
pub(super) fn subscriptions(at: &Address, reply: proto::CanSubscribeReply) -> Result<Vec<Address>, Failure> {
    if reply.pks.len() > PKS_MAX {
        return Err(Failure::contract("more than 256 pks"));
    }
    let pks = reply.pks.iter().map(|pk| Pk::parse(pk).ok_or_else(|| Failure::contract("a pk that is none")));
    let pks = pks.collect::<Result<Vec<_>, _>>()?;
    let allowed: Vec<_> = match &at.pk {
        Some(wanted) => pks.contains(wanted).then(|| at.clone()).into_iter().collect(),
        None => {
            let whole = reply.whole.then(|| at.clone());
            whole
                .into_iter()
                .chain(pks.into_iter().map(|pk| Address { pk: Some(pk), ..at.clone() }))
                .collect()
        }
    };
    if allowed.is_empty() { Err(refused()) } else { Ok(allowed) }
}

pub(super) fn permission(reply: proto::CanPublishReply) -> Result<(), Failure> {
    if reply.allowed { Ok(()) } else { Err(refused()) }
}

/// All of it is checked before anything of it is done. `own` says which other channels are the handler's.
pub(super) fn handled(
    at: &Address,
    own: impl Fn(&ChannelName) -> bool,
    reply: proto::MessageReply,
) -> Result<Handled, Failure> {
    match reply.outcome {
        Some(Outcome::Handled(handled)) => {
            if handled.publications.len() > PUBLICATIONS_MAX {
                return Err(Failure::contract("more than 16 publications"));
            }
            let reply = match handled.reply.is_empty() {
                true => None,
                false => Some(payload(handled.reply)?),
            };
            let publications = handled.publications.into_iter().map(|publication| {
                let pk = publication.pk.map(|pk| Pk::parse(&pk).ok_or(()));
                let pk = pk.transpose().map_err(|()| Failure::contract("a pk that is none"))?;
                let channel = match publication.channel.as_str() {
                    "" => at.channel.clone(),
                    other => ChannelName::parse(other)
                        .filter(|other| *other == at.channel || own(other))
                        .ok_or_else(|| Failure::contract("a channel that is not its own"))?,
                };
                Ok((Address { channel, pk, ..at.clone() }, payload(publication.message)?))
            });
            Ok(Handled { reply, publications: publications.collect::<Result<_, Failure>>()? })
        }
        Some(Outcome::Unsupported(_)) => Err(Failure::new(Error::NotFound, UNSUPPORTED)),
        Some(Outcome::Forbidden(_)) => Err(refused()),
        None => Err(Failure::contract("neither handled nor refused")),
    }
}

pub(super) fn presence(reply: proto::OnlineReply) -> Result<Vec<u8>, Failure> {
    match reply.presence.len() <= PRESENCE_MAX {
        true => Ok(reply.presence),
        false => Err(Failure::contract("a presence of more than 128 bytes")),
    }
}

fn payload(bytes: Vec<u8>) -> Result<Payload, Failure> {
    let json: Box<RawValue> = json(bytes, JSON_MAX)?;
    Ok(Payload(String::from(Box::<str>::from(json)).into()))
}

const REFUSED: &str = "the handler refuses";
const UNSUPPORTED: &str = "the handler knows no such action";

fn refused() -> Failure {
    Failure::new(Error::Forbidden, REFUSED)
}

/// An answer like any other, of which the log need not hear.
pub(super) fn is_answer(failure: &Failure) -> bool {
    [REFUSED, UNSUPPORTED].contains(&failure.detail.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{ChannelName, Facility};

    fn at(pk: Option<&str>) -> Address {
        Address {
            channel: ChannelName::parse("group").expect("a name"),
            pk: pk.map(|pk| Pk::parse(pk).expect("a pk")),
            facility: Facility::parse("terminals").expect("a name"),
        }
    }

    fn subscribes(asked: Option<&str>, pks: &[&str], whole: bool) -> Result<Vec<Address>, Error> {
        let pks = pks.iter().map(|pk| (*pk).to_owned()).collect();
        subscriptions(&at(asked), proto::CanSubscribeReply { pks, whole }).map_err(|failure| failure.error)
    }

    #[test]
    fn a_client_gets_what_it_asked_for_and_nothing_of_others() {
        assert_eq!(subscribes(Some("3"), &["3"], false), Ok(vec![at(Some("3"))]));
        assert_eq!(subscribes(Some("3"), &["1", "3", "4"], true), Ok(vec![at(Some("3"))]));
        for (pks, whole) in [(&[][..], false), (&[], true), (&["4"], true), (&["33", "03", " 3"], false)] {
            assert_eq!(subscribes(Some("3"), pks, whole), Err(Error::Forbidden), "{pks:?}");
        }
        assert_eq!(subscribes(None, &["1", "2"], false), Ok(vec![at(Some("1")), at(Some("2"))]));
        assert_eq!(subscribes(None, &["1"], true), Ok(vec![at(None), at(Some("1"))]));
        assert_eq!(subscribes(None, &[], false), Err(Error::Forbidden));
    }

    #[test]
    fn an_answer_beyond_its_bounds_is_a_fault_as_a_whole() {
        let many: Vec<_> = (0..257).map(|number| number.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(subscribes(None, &many, false), Err(Error::Fault));
        assert_eq!(subscribes(None, &many[1..], false).map(|all| all.len()), Ok(256));
        for wrong in ["", "a:b", "a\n"] {
            assert_eq!(subscribes(Some("3"), &["3", wrong], false), Err(Error::Fault), "{wrong:?}");
        }
    }

    fn says(
        channel: &str,
        reply: &[u8],
        publications: Vec<(Option<&str>, Vec<u8>)>,
    ) -> Result<Handled, Error> {
        let publications = publications.into_iter().map(|(pk, message)| proto::Publication {
            pk: pk.map(ToOwned::to_owned),
            message,
            channel: channel.to_owned(),
        });
        let handled = proto::Handled { reply: reply.to_vec(), publications: publications.collect() };
        let reply = proto::MessageReply { outcome: Some(Outcome::Handled(handled)) };
        let own = |channel: &ChannelName| channel.as_str() == "terminal";
        super::handled(&at(Some("3")), own, reply).map_err(|failure| failure.error)
    }

    fn handles(reply: &[u8], publications: Vec<(Option<&str>, Vec<u8>)>) -> Result<Handled, Error> {
        says("", reply, publications)
    }

    #[test]
    fn other_channels_take_publications_if_they_are_the_handlers_too() {
        let one = || vec![(Some("9"), b"1".to_vec())];
        let got = says("terminal", b"", one()).expect("its own");
        let there = ChannelName::parse("terminal").expect("a name");
        assert_eq!(got.publications, [(Address { channel: there, ..at(Some("9")) }, Payload("1".into()))]);
        assert_eq!(says("group", b"", one()).map(|got| got.publications[0].0.clone()), Ok(at(Some("9"))));
        for other in ["user", "Terminal", "terminal:7", "a b", &"x".repeat(65)] {
            assert_eq!(says(other, b"{}", one()), Err(Error::Fault), "{other}");
        }
    }

    #[test]
    fn publications_are_in_the_facility_of_the_request_and_on_its_channel_unless_another_is_named() {
        let got = handles(b"{}", vec![(None, b"1".to_vec()), (Some("9"), b"[2]".to_vec())]).expect("good");
        assert_eq!(got.reply, Some(Payload("{}".into())));
        let expected = [(at(None), Payload("1".into())), (at(Some("9")), Payload("[2]".into()))];
        assert_eq!(got.publications, expected);
        assert_eq!(handles(b"", vec![]), Ok(Handled::default()));
    }

    #[test]
    fn nothing_is_done_of_what_is_wrong_in_part() {
        let one = || (None, b"1".to_vec());
        assert!(handles(b"", vec![one(); 16]).is_ok());
        assert_eq!(handles(b"", vec![one(); 17]), Err(Error::Fault));
        for garbage in [&b"{"[..], b"\xff", b"1 2"] {
            assert_eq!(handles(garbage, vec![]), Err(Error::Fault));
            assert_eq!(handles(b"{}", vec![one(), (None, garbage.to_vec())]), Err(Error::Fault));
        }
        let large = format!("\"{}\"", "x".repeat(64 << 10)).into_bytes();
        assert_eq!(handles(&large, vec![]), Err(Error::Fault));
        assert_eq!(handles(b"", vec![(Some("a:b"), b"1".to_vec())]), Err(Error::Fault));
        assert_eq!(handles(b"", vec![(None, Vec::new())]), Err(Error::Fault), "nothing is no JSON");
    }

    #[test]
    fn refusals_are_answers_and_faults_are_not() {
        let outcome = |outcome| {
            handled(&at(None), |_| false, proto::MessageReply { outcome }).expect_err("not handled")
        };
        let unsupported = outcome(Some(Outcome::Unsupported(proto::Unsupported {})));
        let forbidden = outcome(Some(Outcome::Forbidden(proto::Forbidden {})));
        assert_eq!((&unsupported.error, &forbidden.error), (&Error::NotFound, &Error::Forbidden));
        assert!(is_answer(&unsupported) && is_answer(&forbidden));
        assert!(!is_answer(&outcome(None)) && !is_answer(&Failure::late("x")));
        assert!(presence(proto::OnlineReply { presence: vec![0; 128] }).is_ok());
        assert!(presence(proto::OnlineReply { presence: vec![0; 129] }).is_err());
    }
}
