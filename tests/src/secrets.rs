//! Every password, token and answer that a test sends or receives: none may be in any log.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

/// No secret is shorter.
const HEAD: usize = 8;

static SENT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Remembers a secret, and gives it back.
///
/// # Panics
/// When it is so short that any log could hold it by chance.
pub fn register(secret: &str) -> &str {
    assert!(secret.len() >= HEAD, "too short for a secret that logs are searched for: {secret:?}");
    SENT.lock().expect("no test panics while it holds the secrets").insert(secret.to_owned());
    secret
}

/// The remembered secrets that a text holds.
pub fn found_in(text: &str) -> Vec<String> {
    let sent = sent();
    search(text.as_bytes(), sent.iter().map(|secret| (secret.as_bytes().to_vec(), secret)))
}

/// The remembered secrets that a file holds: as text or, of a UUID, as its sixteen bytes.
pub fn found_in_bytes(bytes: &[u8]) -> Vec<String> {
    let sent = sent();
    let forms = |secret| [Some(String::into_bytes(String::clone(secret))), sixteen_bytes(secret)];
    search(
        bytes,
        sent.iter().flat_map(|secret| forms(secret).into_iter().flatten().map(move |form| (form, secret))),
    )
}

fn sent() -> BTreeSet<String> {
    SENT.lock().expect("no test panics while it holds the secrets").clone()
}

/// In one pass, since a long run has tens of thousands of secrets and a hundred megabytes of logs.
fn search<'a>(text: &[u8], forms: impl Iterator<Item = (Vec<u8>, &'a String)>) -> Vec<String> {
    let mut by_head = HashMap::<Vec<u8>, Vec<(Vec<u8>, &String)>>::new();
    for (form, secret) in forms {
        by_head.entry(form[..HEAD].to_vec()).or_default().push((form, secret));
    }
    let mut found = BTreeSet::new();
    for (at, head) in text.windows(HEAD).enumerate() {
        let candidates = by_head.get(head).into_iter().flatten();
        found.extend(candidates.filter(|(form, _)| text[at..].starts_with(form)).map(|(_, secret)| *secret));
    }
    found.into_iter().cloned().collect()
}

fn sixteen_bytes(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.split('-').collect();
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (text.len() == 36 && digits.len() == 32).then(|| (0..32).step_by(2).map(pair).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_again() {
        register("Zaunkoenig-1");
        assert_eq!(found_in("user=x password=Zaunkoenig-1\n"), ["Zaunkoenig-1"]);
        assert!(found_in("nothing to see").is_empty());
    }

    #[test]
    fn a_token_is_found_in_either_form() {
        register("0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b99");
        assert_eq!(found_in_bytes(b"x0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b99y").len(), 1);
        let bytes = b"x\x0f\x9d\x5f\x2c\x1b\x7e\x4c\x55\x9a\x0e\x2a\x6a\x4f\x0c\x9b\x99y";
        assert_eq!(found_in_bytes(bytes).len(), 1);
        assert!(found_in_bytes(&bytes[..16]).is_empty() && found_in_bytes(b"").is_empty());
    }
}
