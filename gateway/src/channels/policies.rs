//! `channels.toml`: who may subscribe and publish where. What is not allowed there is refused, but for one thing:
//! everybody may hear what is said to themselves.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use doorward_launch::{Misconfigured, StartError, account};
use doorward_proto::acl::{Holder, deciding, well_formed};
use serde::Deserialize;

use crate::call::{Address, ChannelName, Identity, SessionId, USER, Verb, Who, as_word};

/// The most channels of a table, and the most entries of one list.
const CHANNELS_MAX: usize = 1_024;
const ENTRIES_MAX: usize = 64;
/// Where the gateway tells clients what belongs to no channel.
const RESERVED: [&str; 3] = ["system", "member", "facility"];

/// The whole table. Without a file it is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies(BTreeMap<ChannelName, Policy>);

/// One channel's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Policy {
    subscribe: Option<Rule>,
    publish: Option<Rule>,
    handler: Option<Arc<HandlerPlace>>,
}

/// Who may.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// Whoever has connected.
    Anyone,
    /// Whoever is logged in, of any kind.
    Member,
    Nobody,
    /// Whose own entries grant it.
    Acl,
    /// Whoever is logged in, as far as these entries grant it.
    Entries(Vec<String>),
}

/// Where a channel's handler listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerPlace {
    /// The channel.
    pub channel: ChannelName,
    /// The Unix socket.
    pub socket: PathBuf,
    /// Who must have called listen() there.
    pub uid: u32,
    /// How long it may take to answer.
    pub deadline: Duration,
}

/// What the table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// The handler says, of somebody who is logged in. A custom message it answers, too.
    Ask(Arc<HandlerPlace>),
    /// The channel takes no custom messages.
    Unsupported,
}

/// Who asks, as far as the table has to do with it.
#[derive(Debug, Clone, Copy)]
pub struct Asks<'a> {
    /// Who that is.
    pub who: &'a Who,
    /// The entries of the session.
    pub acl: &'a [String],
    /// Which one `my_session` is; None: nobody's.
    pub session: Option<SessionId>,
}

/// What it is that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because<'a> {
    /// Everybody hears what is said to themselves.
    Own,
    /// The table has no such channel.
    NoChannel,
    /// The channel has no rule for it, and no handler.
    NoRule,
    /// The channel has no handler, so it takes no custom messages.
    NoHandler,
    /// The channel has no rule for it, and a handler.
    Handler,
    /// It takes somebody who is logged in.
    NotLoggedIn,
    /// The rule is this word.
    Word(&'static str),
    /// The rule is `acl`: the place of the session's entry; None: none says anything of it.
    OwnEntries(Option<usize>),
    /// The rule is a list, and this its entry; None: none says anything of it.
    TableEntries(Option<&'a str>),
}

impl HandlerPlace {
    /// Whether it is one service that root gave both channels to.
    pub fn is_same_service(&self, other: &Self) -> bool {
        (&self.socket, self.uid) == (&other.socket, other.uid)
    }
}

impl Policies {
    /// Reads the table; a file that is not there is an empty one.
    ///
    /// # Errors
    /// With the sentence for whoever has to mend it.
    pub fn read(path: &Path) -> Result<Self, StartError> {
        Ok(doorward_launch::table(path, Self::check)?.unwrap_or_default())
    }

    fn check(file: File) -> Result<Self, Misconfigured> {
        if file.channels.len() > CHANNELS_MAX {
            return Err(Misconfigured::at("channels", format!("at most {CHANNELS_MAX}")));
        }
        let mut policies = BTreeMap::new();
        for (name, channel) in file.channels {
            let at = |key: &str| format!("channels.{name}{key}");
            let Some(name) = ChannelName::parse(&name) else {
                return Err(Misconfigured::at(at(""), "a channel is called by 1 to 64 of A-Z a-z 0-9 _ -"));
            };
            if RESERVED.contains(&name.as_str()) {
                let sentence =
                    "is where the gateway itself says things to clients, so no channel can be called so";
                return Err(Misconfigured::at(at(""), sentence));
            }
            let handler = match channel.handler {
                Some(handler) => Some(Arc::new(handler.check(&name)?)),
                None => None,
            };
            let subscribe = channel.subscribe.map(|rule| rule.check(&at(".subscribe"))).transpose()?;
            let publish = channel.publish.map(|rule| rule.check(&at(".publish"))).transpose()?;
            policies.insert(name, Policy { subscribe, publish, handler });
        }
        Ok(Self(policies))
    }

    /// Whether somebody, or nobody in particular, may do this there.
    pub fn decide(&self, who: Option<&Identity>, at: &Address, verb: &Verb) -> Decision {
        self.explain(who.map(Asks::of), at, verb).0
    }

    /// The same, and what it is that says so.
    pub fn explain<'a>(
        &'a self,
        who: Option<Asks<'a>>,
        at: &Address,
        verb: &Verb,
    ) -> (Decision, Because<'a>) {
        let policy = self.0.get(&at.channel);
        let handler = policy.and_then(|policy| policy.handler.as_ref());
        if matches!(verb, Verb::Action(_)) && handler.is_none() {
            return (Decision::Unsupported, Because::NoHandler);
        }
        if *verb == Verb::Subscribe && who.is_some_and(|asks| asks.who.is_own(at)) {
            return (Decision::Allow, Because::Own);
        }
        let Some(policy) = policy else { return (Decision::Deny, Because::NoChannel) };
        let rule = match verb {
            Verb::Subscribe => policy.subscribe.as_ref(),
            Verb::Publish | Verb::Action(_) => policy.publish.as_ref(),
        };
        let Some(rule) = rule else {
            return match (handler, who) {
                (None, _) => (Decision::Deny, Because::NoRule),
                (Some(_), None) => (Decision::Deny, Because::NotLoggedIn),
                (Some(place), Some(_)) => (Decision::Ask(Arc::clone(place)), Because::Handler),
            };
        };
        let (allowed, because) = match (rule, who) {
            (Rule::Nobody, _) => (false, Because::Word("nobody")),
            (Rule::Anyone, _) => (true, Because::Word("anyone")),
            (Rule::Member, Some(_)) => (true, Because::Word("member")),
            (Rule::Acl, Some(asks)) => {
                let (granted, place) = grant(asks.acl, asks, at, verb, true);
                (granted, Because::OwnEntries(place))
            }
            (Rule::Entries(entries), Some(asks)) => {
                let (granted, place) = grant(entries, asks, at, verb, names(asks.who, at));
                (
                    granted,
                    Because::TableEntries(place.and_then(|place| entries.get(place)).map(String::as_str)),
                )
            }
            (Rule::Member | Rule::Acl | Rule::Entries(_), None) => (false, Because::NotLoggedIn),
        };
        match (allowed, verb, handler, who) {
            (false, ..) => (Decision::Deny, because),
            (true, Verb::Subscribe | Verb::Publish, ..) => (Decision::Allow, because),
            // A handler is told who is asking, by authd's word.
            (true, Verb::Action(_), Some(place), Some(_)) => (Decision::Ask(Arc::clone(place)), because),
            (true, Verb::Action(_), ..) => (Decision::Deny, Because::NotLoggedIn),
        }
    }

    /// Whether it has exactly this handler.
    pub fn has(&self, place: &HandlerPlace) -> bool {
        let handler = self.0.get(&place.channel).and_then(|policy| policy.handler.as_ref());
        handler.is_some_and(|handler| **handler == *place)
    }

    /// Every channel is left to its handler.
    #[cfg(test)]
    pub(super) fn of_handlers(places: &[Arc<HandlerPlace>]) -> Self {
        let policy = |place: &Arc<HandlerPlace>| {
            let handler = Some(Arc::clone(place));
            (place.channel.clone(), Policy { subscribe: None, publish: None, handler })
        };
        Self(places.iter().map(policy).collect())
    }

    /// Every handler that there is.
    pub fn handlers(&self) -> impl Iterator<Item = &Arc<HandlerPlace>> {
        self.0.values().filter_map(|policy| policy.handler.as_ref())
    }
}

impl<'a> Asks<'a> {
    fn of(identity: &'a Identity) -> Self {
        Self { who: &identity.who, acl: &identity.acl, session: Some(identity.session) }
    }
}

/// Whether `me` in the table's entries is this identity: ids of different kinds can be the same text.
fn names(who: &Who, at: &Address) -> bool {
    *who.kind == *USER || *who.kind == *at.channel.as_str()
}

/// Whether these entries grant it, and the place of the one that says so. `me`: that word is this identity, and
/// nobody otherwise.
fn grant(entries: &[String], asks: Asks<'_>, at: &Address, verb: &Verb, me: bool) -> (bool, Option<usize>) {
    // As pks are written in what is asked, so that no id reaches into another part of it.
    let auth_id = if me { as_word(&asks.who.auth_id) } else { String::new() };
    let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
    let session = asks.session.map(|session| &*session.0.hyphenated().encode_lower(&mut buffer));
    let holder = Holder { auth_id: &auth_id, session: session.unwrap_or_default() };
    let place = deciding(entries, &at.subject(verb), holder);
    (place.and_then(|place| entries.get(place)).is_some_and(|entry| !entry.starts_with('!')), place)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    channels: BTreeMap<String, Channel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Channel {
    subscribe: Option<RuleText>,
    publish: Option<RuleText>,
    handler: Option<HandlerText>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RuleText {
    Word(String),
    Entries(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HandlerText {
    socket: PathBuf,
    user: String,
    #[serde(default = "seconds")]
    seconds: u64,
}

fn seconds() -> u64 {
    5
}

impl RuleText {
    fn check(self, key: &str) -> Result<Rule, Misconfigured> {
        let wrong = |sentence: String| Err(Misconfigured::at(key, sentence));
        match self {
            Self::Word(word) => match word.as_str() {
                "anyone" => Ok(Rule::Anyone),
                "member" => Ok(Rule::Member),
                "nobody" => Ok(Rule::Nobody),
                "acl" => Ok(Rule::Acl),
                _ => wrong(format!("{word:?} is none of anyone, member, nobody, acl, nor a list of entries")),
            },
            Self::Entries(entries) if entries.len() > ENTRIES_MAX => wrong(format!("at most {ENTRIES_MAX}")),
            Self::Entries(entries) => {
                for entry in &entries {
                    if let Err(why) = well_formed(entry) {
                        return wrong(format!("{entry:?} {why}"));
                    }
                    // Nothing else is ever asked here, so it is a mistake.
                    if !entry.strip_prefix('!').unwrap_or(entry).starts_with("ws.") {
                        return wrong(format!("{entry:?} does not begin with ws."));
                    }
                }
                Ok(Rule::Entries(entries))
            }
        }
    }
}

impl HandlerText {
    fn check(self, channel: &ChannelName) -> Result<HandlerPlace, Misconfigured> {
        let at = |key: &str| format!("channels.{}.handler.{key}", channel.as_str());
        if !self.socket.is_absolute() {
            return Err(Misconfigured::at(at("socket"), "must be an absolute path"));
        }
        let account = account::resolve(&self.user);
        let uid = account.map_err(|failure| Misconfigured::at(at("user"), failure.to_string()))?.uid;
        // No service that clients reach is root's. Who is root all the same, as tests are, calls only itself.
        if uid == 0 && !rustix::process::geteuid().is_root() {
            let sentence = "must not be root: a handler has an account of its own";
            return Err(Misconfigured::at(at("user"), sentence));
        }
        if !(1..=30).contains(&self.seconds) {
            return Err(Misconfigured::at(at("seconds"), "must be from 1 to 30"));
        }
        let deadline = Duration::from_secs(self.seconds);
        Ok(HandlerPlace { channel: channel.clone(), socket: self.socket, uid, deadline })
    }
}

#[cfg(test)]
mod tests;
