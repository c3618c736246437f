//! One login from its claim to its end.
//!
//! Takes what happened, says what to do next. No I/O, no clock.

use std::time::Duration;

use crate::{
    account::{Access, Account, Uid, Username, Who},
    certd::{Proof, Verified},
    conversation::{Message, Round, Task, Verdict, VerdictKind, Word},
    error::AuthError,
    method::{Cause, Method, Opening, Otherwise, Policy},
    secret::{Answer, Credentials, Jwt, Malformed, Password, Token},
    session::{Dialect, Fingerprint, Proven},
    vouched::{Limit, Newcomer, Vouched},
};

/// Rounds of one conversation; a module that talks without end is stopped.
const ROUNDS_MAX: u32 = 256;
/// Messages kept for the next prompt.
const HELD_MAX: usize = 64;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// What the handle stands for.
    Peer(Option<Uid>),
    /// What certd says of the proof; None: no registered key was proven.
    Proof(Option<Verified>),
    /// Whom an issuer or a plug-in speaks for, or why for nobody.
    Vouched(Result<Vouched, Cause>),
    /// What the user database says; None: no such user.
    Account(Option<Account>),
    /// The worker's next word.
    Word(Word),
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Find out what the handle stands for.
    Identify(Vec<u8>),
    /// Ask certd whose key it is; the name is whom they say to be.
    Prove(Proof, Option<Username>),
    /// Find out whom an issuer's token is about.
    Verify(Jwt),
    /// Ask the plug-in authenticator of a kind whose these are.
    Ask(String, Credentials),
    /// Look an account up.
    Resolve(Who),
    /// Begin a PAM conversation about the user, and wait for its word.
    Converse(Username, Task),
    /// Wait for the worker's next word.
    Listen,
    /// Give the worker these answers, and wait for its next word.
    Answer(Vec<Answer>),
    /// Show these messages to the client and wait for its answers.
    Prompt(Vec<Message>),
    /// Take up the session of a token.
    TakeUp(Token),
    /// Open a session, with the key that was proven, if it was one, or within an issuer's word.
    Grant(Account, Option<Proven>, Option<Limit>),
    /// Open a session of somebody who has no account.
    Welcome(Box<Newcomer>),
    /// Refuse, no sooner than all refusals; `after` is what PAM asked for. None: at once.
    Refuse {
        /// Why, for the log.
        cause: Cause,
        /// The module's own wish for a delay.
        after: Option<Duration>,
    },
    /// End without an outcome.
    Fail(AuthError),
}

#[derive(Debug)]
enum State {
    /// Nothing happened yet.
    Fresh(Result<Opening, Cause>),
    /// Waits for what the kernel said.
    Identifying { claimed: Option<Username>, otherwise: Option<Otherwise> },
    /// Waits for what certd says.
    Proving { claimed: Option<Username> },
    /// Waits for whom an issuer or a plug-in speaks for.
    Vouching,
    /// Waits for the account of a uid or of a key's owner before PAM is asked about it.
    Admitting { claimed: Option<Username>, otherwise: Option<Otherwise> },
    /// PAM computes.
    Conversing(Talk),
    /// The password was right and PAM asks; waits for the account before anybody is told.
    Permitting { talk: Talk, round: Round },
    /// The client is to answer; one entry for each question of the round, None where it is asked.
    Prompted { talk: Talk, answers: Vec<Option<Answer>> },
    /// PAM let the user in; waits for the account as it is now.
    Confirming { user: Username },
    /// An outcome was reached.
    Over,
}

/// A conversation with PAM.
#[derive(Debug)]
struct Talk {
    user: Username,
    /// For the first hidden prompt, once.
    password: Option<Password>,
    /// Texts that were shown without a question: they go with the next prompt.
    held: Vec<Message>,
    rounds: u32,
    /// The account may log in, so its user may know that authentication succeeded.
    permitted: bool,
}

/// One login.
#[derive(Debug)]
pub struct Login {
    method: &'static Method,
    policy: Policy,
    state: State,
    /// Whose login it is: as claimed, then as known.
    user: Option<Username>,
    /// Their uid, once the user database knew them.
    uid: Option<Uid>,
    /// The registered key that was proven.
    key: Option<Verified>,
    /// What an issuer's word is good for, if it was by that.
    limit: Option<Limit>,
}

impl Login {
    /// A login by `method` that begins with `opening`.
    pub fn new(method: &'static Method, opening: Result<Opening, Cause>, policy: Policy) -> Self {
        let user = match &opening {
            Ok(Opening::Converse { user, .. }) => Some(user.clone()),
            Ok(Opening::Identify { user, .. } | Opening::Prove { user, .. }) => user.clone(),
            Ok(Opening::TakeUp(_) | Opening::Verify(_) | Opening::Ask { .. }) | Err(_) => None,
        };
        Self { method, policy, state: State::Fresh(opening), user, uid: None, key: None, limit: None }
    }

    /// The method's name.
    pub fn method(&self) -> &'static str {
        self.method.name
    }

    /// Whose login it is, as far as is known.
    pub fn user(&self) -> Option<&Username> {
        self.user.as_ref()
    }

    /// Their uid, if the user database was asked and knows them.
    pub fn uid(&self) -> Option<u32> {
        self.uid.map(|uid| uid.as_u32())
    }

    /// The registered key that was proven.
    pub fn key(&self) -> Option<Fingerprint> {
        self.key.as_ref().map(|key| key.fingerprint)
    }

    /// Whether its credentials are known to be right, so that what is asked now is no guess.
    pub fn authenticated(&self) -> bool {
        matches!(&self.state, State::Prompted { talk, .. } if talk.permitted)
    }

    /// The first step.
    pub fn begin(&mut self) -> Step {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Fresh(Ok(Opening::Converse { user, password })) => {
                self.converse(user, Some(password), Task::Login)
            }
            State::Fresh(Ok(Opening::Identify { handle, user, otherwise })) => {
                self.state = State::Identifying { claimed: user, otherwise };
                Step::Identify(handle)
            }
            State::Fresh(Ok(Opening::Prove { proof, user })) => {
                self.state = State::Proving { claimed: user.clone() };
                Step::Prove(proof, user)
            }
            State::Fresh(Ok(Opening::TakeUp(token))) => Step::TakeUp(token),
            State::Fresh(Ok(Opening::Verify(jwt))) => {
                self.state = State::Vouching;
                Step::Verify(jwt)
            }
            State::Fresh(Ok(Opening::Ask { kind, credentials })) => {
                self.state = State::Vouching;
                Step::Ask(kind, credentials)
            }
            // Nothing about any account can be learnt from the time this takes.
            State::Fresh(Err(cause @ Cause::NoSuchToken)) => Step::Refuse { cause, after: None },
            State::Fresh(Err(cause)) => self.refuse(cause),
            _ => self.out_of_order(),
        }
    }

    /// The step after an event.
    pub fn on(&mut self, event: Event) -> Step {
        match &event {
            Event::Peer(Some(uid)) => self.uid = Some(*uid),
            // Another one later is another account: see `admits`.
            Event::Account(Some(account)) => self.uid = self.uid.or(Some(account.uid)),
            Event::Peer(None)
            | Event::Account(None)
            | Event::Proof(_)
            | Event::Vouched(_)
            | Event::Word(_) => {}
        }
        match (std::mem::replace(&mut self.state, State::Over), event) {
            (State::Identifying { claimed, otherwise }, Event::Peer(None)) => {
                self.refuse_or(Cause::NoSuchHandle, claimed, otherwise)
            }
            (State::Identifying { claimed, otherwise }, Event::Peer(Some(uid))) => {
                self.state = State::Admitting { claimed, otherwise };
                Step::Resolve(Who::Uid(uid))
            }
            (State::Proving { .. }, Event::Proof(None)) => self.refuse(Cause::NotProven),
            (State::Proving { claimed }, Event::Proof(Some(verified))) => self.proven(verified, claimed),
            (State::Vouching, Event::Vouched(Err(cause))) => self.refuse(cause),
            (State::Vouching, Event::Vouched(Ok(Vouched::Other(newcomer)))) => {
                Step::Welcome(Box::new(newcomer))
            }
            (State::Vouching, Event::Vouched(Ok(Vouched::User(user, limit)))) => {
                self.user = Some(user.clone());
                self.limit = Some(limit);
                self.state = State::Admitting { claimed: Some(user.clone()), otherwise: None };
                Step::Resolve(Who::Name(user))
            }
            (State::Admitting { claimed, otherwise }, Event::Account(account)) => {
                match self.admitted(account, claimed.as_ref()) {
                    Ok(user) => self.converse(user, None, Task::Account),
                    Err(cause) => self.refuse_or(cause, claimed, otherwise),
                }
            }
            (State::Conversing(talk), Event::Word(word)) => self.word(talk, word),
            (State::Permitting { talk, round }, Event::Account(account)) => self.permit(talk, round, account),
            (State::Confirming { user }, Event::Account(account)) => self.confirm(account, &user),
            _ => self.out_of_order(),
        }
    }

    /// The client's answers to the prompt.
    ///
    /// # Errors
    /// [`AuthError::NoConversation`] when no prompt is open: the first answer closes it. A wrong number
    /// or form leaves it open.
    pub fn answered(&mut self, given: Vec<Result<Answer, Malformed>>) -> Result<Step, AuthError> {
        let State::Prompted { answers, .. } = &self.state else { return Err(AuthError::NoConversation) };
        let given: Result<Vec<_>, _> = given.into_iter().collect();
        let given = given.map_err(|_| AuthError::BadRequest("an answer is too long or has a NUL in it"))?;
        if given.len() != answers.iter().filter(|answer| answer.is_none()).count() {
            return Err(AuthError::BadRequest("one answer is needed for each question"));
        }
        let mut given = given.into_iter();
        let merged: Vec<_> =
            answers.iter().filter_map(|answer| answer.clone().or_else(|| given.next())).collect();
        if !crate::conversation::Conversation::fit(&merged) {
            return Err(AuthError::BadRequest("the answers are too long together"));
        }
        if let State::Prompted { talk, .. } = std::mem::replace(&mut self.state, State::Over) {
            self.state = State::Conversing(talk);
        }
        Ok(Step::Answer(merged))
    }

    fn converse(&mut self, user: Username, password: Option<Password>, task: Task) -> Step {
        self.user = Some(user.clone());
        // Account management alone follows on an account that was let in.
        let permitted = task == Task::Account;
        let talk = Talk { user: user.clone(), password, held: Vec::new(), rounds: 0, permitted };
        self.state = State::Conversing(talk);
        Step::Converse(user, task)
    }

    fn proven(&mut self, verified: Verified, claimed: Option<Username>) -> Step {
        self.user = Some(verified.user.clone());
        if claimed.is_some_and(|claimed| claimed != verified.user) {
            return self.refuse(Cause::OtherUser);
        }
        let user = verified.user.clone();
        self.key = Some(verified);
        self.state = State::Admitting { claimed: Some(user.clone()), otherwise: None };
        Step::Resolve(Who::Name(user))
    }

    /// The user whom PAM is asked about, if the account is theirs and may come in.
    fn admitted(&self, account: Option<Account>, claimed: Option<&Username>) -> Result<Username, Cause> {
        let account = account.ok_or(Cause::UnknownUser)?;
        if claimed.is_some_and(|claimed| *claimed != account.name) {
            return Err(Cause::OtherUser);
        }
        self.admits(&account)?;
        Ok(account.name)
    }

    /// Goes on the other way, where there is one. It must prove who the user is by itself: nothing of what
    /// was found until now is kept.
    fn refuse_or(&mut self, cause: Cause, claimed: Option<Username>, otherwise: Option<Otherwise>) -> Step {
        let (Some(user), Some(Otherwise { method, proof })) = (claimed, otherwise) else {
            return self.refuse(cause);
        };
        (self.method, self.uid) = (method, None);
        self.state = State::Proving { claimed: Some(user.clone()) };
        Step::Prove(proof, Some(user))
    }

    fn confirm(&mut self, account: Option<Account>, user: &Username) -> Step {
        // Unknown users are denied here, whatever PAM says of them.
        let Some(account) = account else { return self.refuse(Cause::UnknownUser) };
        if account.name != *user {
            return self.refuse(Cause::UserChanged);
        }
        match self.admits(&account) {
            Ok(()) => Step::Grant(account, self.key.as_ref().map(Verified::proven), self.limit.take()),
            Err(cause) => self.refuse(cause),
        }
    }

    /// Whether the account, as it is now, may come in by this method and this key.
    fn admits(&self, account: &Account) -> Result<(), Cause> {
        let limited = self.key.as_ref().is_some_and(|key| !key.full_access);
        if limited && account.access == Some(Access::Full) {
            return Err(Cause::FullAccess);
        }
        // A name is not an account: the one of the uid that the kernel named, or that PAM was asked about, may be
        // gone meanwhile, or have its name from a second user database.
        let another = self.uid.is_some_and(|uid| uid != account.uid);
        if another || self.key.as_ref().is_some_and(|key| !key.is_of(account)) {
            return Err(Cause::OtherAccount);
        }
        (self.method.admits)(account, &self.policy)
    }

    fn word(&mut self, talk: Talk, word: Word) -> Step {
        match word {
            Word::Round(round) => self.round(talk, round),
            Word::Verdict(verdict) => self.verdict(talk, verdict),
            // The guard or systemd closes what is over its own maximum before a word is said.
            Word::Gone { spoke: false } => {
                let what = "the conversation was closed before its first word";
                Step::Fail(AuthError::PamUnreachable(std::io::Error::other(what)))
            }
            Word::Gone { spoke: true } => self.refuse(Cause::WorkerDied),
            Word::Silent => Step::Fail(AuthError::PamTimedOut("silent for too long")),
            Word::Overdue => Step::Fail(AuthError::PamTimedOut("the conversation took too long")),
            Word::Malformed(what) => {
                tracing::warn!(what, "a PAM worker broke the protocol");
                self.refuse(Cause::Protocol)
            }
        }
    }

    /// A prompt after authentication, such as for a new password, tells that the password was right. Who may
    /// not log in is refused in its place: like a wrong password, by the same delay from the moment that
    /// PAM was given the password, and the lookup is within that delay. Prompts before it depend on what
    /// PAM knows of the name, not on access groups; those without access get them as unknown users do.
    fn permit(&mut self, mut talk: Talk, round: Round, account: Option<Account>) -> Step {
        let Some(account) = account else { return self.refuse(Cause::UnknownUser) };
        if account.name != talk.user {
            return self.refuse(Cause::UserChanged);
        }
        match self.admits(&account) {
            Ok(()) => {
                talk.permitted = true;
                self.round(talk, round)
            }
            Err(cause) => self.refuse(cause),
        }
    }

    fn round(&mut self, mut talk: Talk, round: Round) -> Step {
        if round.authenticated && round.asks() && !talk.permitted {
            let who = Who::Name(talk.user.clone());
            self.state = State::Permitting { talk, round };
            return Step::Resolve(who);
        }
        talk.rounds += 1;
        if talk.rounds > ROUNDS_MAX {
            return self.refuse(Cause::Protocol);
        }
        let mut answers = Vec::new();
        for message in round.messages {
            if !message.asks() {
                if talk.held.len() < HELD_MAX {
                    talk.held.push(message);
                }
                continue;
            }
            let password = match message.style {
                crate::conversation::Style::Hidden => talk.password.take(),
                _ => None,
            };
            if password.is_none() {
                talk.held.push(message);
            }
            answers.push(password.map(Password::into_answer));
        }
        if answers.is_empty() {
            self.state = State::Conversing(talk);
            return Step::Listen;
        }
        if answers.iter().all(Option::is_some) {
            self.state = State::Conversing(talk);
            return Step::Answer(answers.into_iter().flatten().collect());
        }
        if self.policy.dialect == Dialect::Token {
            // A request that is answered once, by a program: there is nobody to ask.
            return self.refuse(Cause::AskedMore);
        }
        let shown = std::mem::take(&mut talk.held);
        self.state = State::Prompted { talk, answers };
        Step::Prompt(shown)
    }

    fn verdict(&mut self, talk: Talk, verdict: Verdict) -> Step {
        let cause = match verdict.kind {
            VerdictKind::Success if verdict.user == talk.user.as_str() => {
                // By name: the user that PAM let in, as the database has them now.
                self.state = State::Confirming { user: talk.user.clone() };
                return Step::Resolve(Who::Name(talk.user));
            }
            VerdictKind::Success | VerdictKind::UserChanged => Cause::UserChanged,
            VerdictKind::Denied => Cause::PamDenied,
            VerdictKind::PasswordExpired => Cause::PasswordExpired,
            VerdictKind::Fault => Cause::PamFault,
            VerdictKind::Protocol => Cause::Protocol,
            VerdictKind::ServiceRefused => return Step::Fail(AuthError::PamServiceRefused),
        };
        Step::Refuse { cause, after: Some(verdict.fail_delay) }
    }

    fn refuse(&mut self, cause: Cause) -> Step {
        Step::Refuse { cause, after: Some(Duration::ZERO) }
    }

    /// Events come from the driver alone, in the order of its steps; anything else is a defect, closed.
    fn out_of_order(&mut self) -> Step {
        Step::Fail(AuthError::Gone("the login"))
    }
}

/// How long after the start of PAM's work a refusal is answered. The same for every cause: `longest` is
/// the longest delay that any module asked for until now, because which modules ask depends on the
/// cause (one whose user is locked asks for none). `random` spreads it by half of `configured`.
pub fn refusal_delay(configured: Duration, longest: Duration, random: u32) -> Duration {
    let least = (configured - configured / 4).max(longest);
    least + (configured / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
