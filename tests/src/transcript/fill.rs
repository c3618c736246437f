//! What stands for something else in a transcript: people, secrets, keys, and what earlier replies held.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cast::{CODE, COLOUR, Person};
use crate::keys::{Form, Key};
use crate::secrets;
use crate::stack::Stack;

/// What placeholders stand for at one line.
pub(super) struct Filler<'a> {
    pub(super) stack: &'a Stack,
    pub(super) local: bool,
    pub(super) keys: &'a BTreeMap<String, Key>,
    pub(super) known: &'a BTreeMap<String, String>,
}

impl Filler<'_> {
    /// A text that the client sends.
    pub(super) fn sent(&self, text: &str) -> Result<String, String> {
        let text = self.filled(text, |kind, name| match kind {
            "password" => Some(self.person(name).map(|person| person.password.clone())),
            "secret" => Some(Ok(secrets::register(name).to_owned())),
            "colour" => Some(Ok(COLOUR.to_owned())),
            "code" => Some(Ok(CODE.to_owned())),
            "proof" => Some(self.proof(Form::Usual, name)),
            "pkcs1" => Some(self.proof(Form::Pkcs1, name)),
            "bare" => Some(self.proof(Form::Bare, name)),
            known => self.known.get(known).filter(|_| name.is_empty()).cloned().map(Ok),
        })?;
        Ok(text)
    }

    /// A text that the client expects; names of what is to be remembered stay.
    pub(super) fn expected(&self, text: &str) -> Result<String, String> {
        self.filled(text, |_, _| None)
    }

    /// With every `<KIND:NAME>` and `<KIND>` replaced that stands for something.
    fn filled(
        &self,
        text: &str,
        more: impl Fn(&str, &str) -> Option<Result<String, String>>,
    ) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let Some(end) = rest.find('>') else { break };
            let inside = &rest[1..end];
            let (kind, name) = inside.split_once(':').unwrap_or((inside, ""));
            match self.of_all(kind, name).or_else(|| more(kind, name)) {
                Some(value) => {
                    out.push_str(&value?);
                    rest = &rest[end + 1..];
                }
                None => {
                    out.push('<');
                    rest = &rest[1..];
                }
            }
        }
        Ok(out + rest)
    }

    /// What stands for the same in both directions.
    fn of_all(&self, kind: &str, name: &str) -> Option<Result<String, String>> {
        Some(match kind {
            "user" => self.person(name).map(|person| person.name.clone()),
            "server" => Ok(self.server()),
            "pub" => self.key(name).map(Key::packed),
            "pem" => self.key(name).map(|key| in_json(key.pem())),
            "der" => self.key(name).map(|key| STANDARD.encode(key.der())),
            "fingerprint" => self.key(name).map(Key::fingerprint),
            "md5" => self.key(name).map(Key::md5),
            "cert" => self.key(name).map(|key| STANDARD.encode(key.certificate())),
            "certpem" => self.key(name).map(|key| in_json(&key.certificate())),
            _ => return None,
        })
    }

    fn person(&self, name: &str) -> Result<&Person, String> {
        self.stack.cast().called(name).ok_or_else(|| format!("nobody is called {name}"))
    }

    fn key(&self, name: &str) -> Result<&Key, String> {
        self.keys.get(name).ok_or_else(|| format!("no key is called {name}"))
    }

    fn server(&self) -> String {
        let fingerprint = self.stack.fingerprint().trim_start_matches("SHA256:");
        if self.local { "local" } else { fingerprint }.to_owned()
    }

    /// `KEY:LABEL:STRING` or `KEY:LABEL/SERVER:STRING`, `STRING` the name of what a reply held.
    fn proof(&self, form: Form, name: &str) -> Result<String, String> {
        let words: Vec<&str> = name.split(':').collect();
        let &[key, label, text] = words.as_slice() else {
            return Err(format!("KEY:LABEL:STRING, not {name}"));
        };
        let (label, server) = match label.split_once('/') {
            Some((label, server)) => (label, server.to_owned()),
            None => (label, self.server()),
        };
        let text = self.known.get(text).ok_or_else(|| format!("no reply held {text}"))?;
        let context = format!("doorward {label} v1 {server}");
        Ok(STANDARD.encode(self.key(key)?.prove(form, &context, text)))
    }
}

/// As it stands inside the quotes of a JSON string.
fn in_json(text: &str) -> String {
    text.replace('\n', "\\n")
}
