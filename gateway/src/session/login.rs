//! Coming and going: logins, challenges for them, and giving a session back.

use std::time::Instant;

use doorward_proto::LOGIN_JWT_MAX;

use super::{Action, Again, Busy, Held, Hopeless, Login, Outcome, Refusal, Session, State, Ticket, Watch};
use crate::call::{
    Answer, AuthSsl, Call, Challenge, ChannelAuth, Credentials, Error, Purpose, Reply, Secret,
    username_is_well_formed,
};

/// After so many refused logins in a row a connection is closed.
const REFUSALS: u8 = 10;

/// The longest credentials of a kind of its own.
const CREDENTIALS_MAX: usize = 8 << 10;

/// What a login answers.
#[derive(Debug)]
pub(super) enum Answers {
    Nothing,
    /// The prompts of the conversation of this name.
    Conversation(String),
    /// The challenges of this connection.
    Challenges,
}

impl Session {
    pub(super) fn challenged(
        &mut self,
        result: Result<Challenge, Error>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if !matches!(self.busy, Busy::Challenge(_)) {
            return;
        }
        let Busy::Challenge(ticket) = std::mem::replace(&mut self.busy, Busy::No) else { return };
        self.clock.worked_for_nothing(now);
        let reply = match result {
            Ok(challenge) => {
                self.clock.challenge_opened(now);
                Reply::Answer(Answer::Challenge(challenge))
            }
            Err(error) => Reply::Error(error),
        };
        actions.push(Action::Reply(ticket, reply));
    }

    pub(super) fn log_in(&mut self, ticket: Ticket, call: Call, actions: &mut Vec<Action>) {
        let refusal = |why, method, username| Some(Refusal { why, method, username });
        let login = match call {
            Call::Auth(credentials) => self.by_credentials(credentials).map_err(Some),
            Call::AuthToken(token) => {
                token.map(Login::Token).ok_or_else(|| refusal(Hopeless::Token, "token", String::new()))
            }
            Call::AuthRespond(answers) => Ok(Login::Answers(answers)),
            Call::AuthSsl(AuthSsl::Proof(proof)) => proof
                .map(Login::CertificateProof)
                .ok_or_else(|| refusal(Hopeless::Proof, "certificate_challenge", String::new())),
            Call::ChannelAuth(auth) => by_channel(auth).map_err(Some),
            // No logins; nobody brings them here.
            Call::AuthSsl(AuthSsl::Challenge)
            | Call::Identify
            | Call::Query
            | Call::AuthClear { .. }
            | Call::Settings(_)
            | Call::Sessions(_)
            | Call::Listen(..)
            | Call::Subsystem(_)
            | Call::Describe(_)
            | Call::Cancel(_)
            | Call::Channel(_)
            | Call::Malformed(_)
            | Call::Logs(_)
            | Call::Absent => Err(None),
        };
        match login {
            Ok(login) => {
                let (answers, purpose, new) = match &login {
                    Login::Answers(answers) => {
                        (Answers::Conversation(answers.conversation.clone()), Purpose::Act, true)
                    }
                    Login::CertificateProof(_) => (Answers::Challenges, Purpose::Act, true),
                    Login::Password(_) | Login::LocalPeer { .. } | Login::TlsCertificate { .. } => {
                        (Answers::Nothing, Purpose::Act, true)
                    }
                    Login::Token(_) => (Answers::Nothing, Purpose::Act, false),
                    Login::Channel(ChannelAuth::Token(_)) => (Answers::Nothing, Purpose::Channel, false),
                    Login::Channel(
                        ChannelAuth::Password(_) | ChannelAuth::Jwt(_) | ChannelAuth::Model { .. },
                    ) => (Answers::Nothing, Purpose::Channel, true),
                };
                self.busy = Busy::Login(ticket, answers, purpose, new);
                actions.push(Action::Login(login));
            }
            Err(refusal) => {
                actions.extend(refusal.map(Action::Refused));
                actions.push(Action::Reply(ticket, Reply::Error(Error::Unauthorized)));
                self.refused(actions);
            }
        }
    }

    /// What authd is asked for them, if there is anything that could come of it.
    fn by_credentials(&self, credentials: Credentials) -> Result<Login, Refusal> {
        let well_formed = credentials.well_formed();
        let Credentials { username, password } = &credentials;
        let no_password = password.expose().is_empty();
        let why = match () {
            () if !username.is_empty() && !username_is_well_formed(username) => Hopeless::User,
            () if !well_formed => Hopeless::Password,
            () if !no_password && username.is_empty() => Hopeless::User,
            () if !no_password => return Ok(Login::Password(credentials)),
            () if self.settings.local => return Ok(Login::LocalPeer { username: credentials.username }),
            () if self.settings.certificate && !username.is_empty() => {
                return Ok(Login::TlsCertificate { username: credentials.username });
            }
            () => Hopeless::NoPassword,
        };
        Err(Refusal { why, method: "password", username: credentials.username })
    }

    /// Once more; after too often it is over. The reply to the last one is said already.
    fn refused(&mut self, actions: &mut Vec<Action>) {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals >= REFUSALS {
            self.close(Action::SendAway("too many failed logins"), actions);
        }
    }

    pub(super) fn logged_in(
        &mut self,
        outcome: Result<Outcome, Error>,
        asked: Watch,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if !matches!(self.busy, Busy::Login(..)) {
            return;
        }
        let Busy::Login(ticket, answers, purpose, new) = std::mem::replace(&mut self.busy, Busy::No) else {
            return;
        };
        // Who answers prompts takes the time of people, within authd's limits for a conversation.
        if matches!(outcome, Ok(Outcome::Prompts(_))) || matches!(answers, Answers::Conversation(_)) {
            self.clock.worked(now);
        } else {
            self.clock.worked_for_nothing(now);
        }
        let reply = match outcome {
            Ok(Outcome::Granted(identity)) => {
                let seconds = identity.idle.map_or(0, |idle| idle.after.as_secs());
                let token = identity.token.clone();
                let session = identity.session;
                if new || self.holds() != Some(session) {
                    self.opened = (new && identity.is_channel).then(|| token.clone());
                }
                let old = std::mem::replace(
                    &mut self.state,
                    State::Held(Box::new(Held::new(identity, purpose, asked, now))),
                );
                // The same session, taken up again, may have lost rights since; and the same identity may have come
                // with fewer.
                self.stop_what_is_forbidden(actions);
                if self.ears.is_some() {
                    actions.push(Action::HearAgain(Again::ALL));
                }
                self.clock.logged_in();
                self.warning = None;
                self.refusals = 0;
                self.answers_are_over(&answers);
                let answer = Answer::Granted { token, seconds };
                if let State::Held(old) = old
                    && old.identity.session != session
                {
                    self.busy = Busy::Retire(ticket, answer);
                    actions.push(Action::Retire(old.identity.token));
                    return;
                }
                Reply::Answer(answer)
            }
            Ok(Outcome::Prompts(prompts)) => {
                self.prompted = true;
                self.clock.conversation_opened(&prompts.conversation, now);
                Reply::Answer(Answer::Prompts(prompts))
            }
            Ok(Outcome::NoSuchKind) => Reply::Error(Error::NoSuchKind),
            Ok(Outcome::Denied) => {
                self.answers_are_over(&answers);
                Reply::Error(Error::Unauthorized)
            }
            Err(error) => {
                if error == Error::Unauthorized {
                    self.answers_are_over(&answers);
                }
                Reply::Error(error)
            }
        };
        let refused = matches!(reply, Reply::Error(Error::Unauthorized | Error::NoSuchKind));
        actions.push(Action::Reply(ticket, reply));
        if refused {
            self.refused(actions);
        }
    }

    /// Whoever is under a penalty hears it once, and is gone.
    pub(super) fn penalised(&mut self, seconds: u64, actions: &mut Vec<Action>) {
        if let Busy::Login(ticket, ..) | Busy::Challenge(ticket) = self.busy {
            self.busy = Busy::No;
            actions.push(Action::Reply(ticket, Reply::Error(Error::Forbidden)));
            self.close(Action::Penalty(seconds), actions);
        }
    }

    pub(super) fn retired(&mut self, actions: &mut Vec<Action>) {
        if !matches!(self.busy, Busy::Retire(..)) {
            return;
        }
        if let Busy::Retire(ticket, answer) = std::mem::replace(&mut self.busy, Busy::No) {
            actions.push(Action::Reply(ticket, Reply::Answer(answer)));
        }
    }

    /// What a login answered is closed, whatever came of it.
    pub(super) fn answers_are_over(&mut self, answers: &Answers) {
        match answers {
            Answers::Nothing => {}
            Answers::Conversation(name) => self.clock.conversation_ended(name),
            Answers::Challenges => self.clock.challenges_ended(),
        }
    }

    pub(super) fn clear(
        &mut self,
        ticket: Ticket,
        answer: Option<Answer>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        match std::mem::replace(&mut self.state, State::Anonymous) {
            State::Held(held) => {
                self.nobody_now(now);
                // Who asked for it is a newcomer once more: for no longer than at first.
                self.clock.logged_out(now);
                self.busy = Busy::Clear(ticket, answer);
                actions.push(Action::Clear(held.identity.token));
            }
            State::Anonymous | State::Closed => actions.push(done(ticket, answer, Ok(()))),
        }
    }

    pub(super) fn cleared(&mut self, result: Result<(), Error>, actions: &mut Vec<Action>) {
        if !matches!(self.busy, Busy::Clear(..)) {
            return;
        }
        if let Busy::Clear(ticket, answer) = std::mem::replace(&mut self.busy, Busy::No) {
            actions.push(done(ticket, answer, result));
        }
    }
}

/// What authd is asked for them, if there is anything that could come of it.
fn by_channel(auth: ChannelAuth) -> Result<Login, Refusal> {
    let refusal = |why, method| Refusal { why, method, username: String::new() };
    let is_jwt = |jwt: &Secret| jwt.expose().len() <= LOGIN_JWT_MAX && jwt.expose().split('.').count() == 3;
    match auth {
        ChannelAuth::Password(credentials) => {
            let why = match () {
                () if credentials.username.is_empty() => Hopeless::User,
                () if !username_is_well_formed(&credentials.username) => Hopeless::User,
                () if credentials.password.expose().is_empty() => Hopeless::NoPassword,
                () if !credentials.well_formed() => Hopeless::Password,
                () => return Ok(Login::Channel(ChannelAuth::Password(credentials))),
            };
            Err(Refusal { why, method: "password", username: credentials.username })
        }
        ChannelAuth::Token(None) => Err(refusal(Hopeless::Token, "token")),
        ChannelAuth::Jwt(jwt) if !is_jwt(&jwt) => Err(refusal(Hopeless::Token, "jwt")),
        ChannelAuth::Model { credentials, .. } if credentials.expose().len() > CREDENTIALS_MAX => {
            Err(refusal(Hopeless::Token, "model"))
        }
        auth @ (ChannelAuth::Token(Some(_)) | ChannelAuth::Jwt(_) | ChannelAuth::Model { .. }) => {
            Ok(Login::Channel(auth))
        }
    }
}

fn done(ticket: Ticket, answer: Option<Answer>, result: Result<(), Error>) -> Action {
    match (answer, result) {
        (None, _) => Action::NoReply(ticket),
        (Some(answer), Ok(())) => Action::Reply(ticket, Reply::Answer(answer)),
        (Some(_), Err(error)) => Action::Reply(ticket, Reply::Error(error)),
    }
}
