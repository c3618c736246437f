//! Every password, token and answer that a test sends or receives: none may be in any log.

use std::collections::BTreeSet;
use std::sync::Mutex;

static SENT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Remembers a secret, and gives it back.
///
/// # Panics
/// When it is so short that any log could hold it by chance.
pub fn register(secret: &str) -> &str {
    assert!(secret.len() >= 8, "too short for a secret that logs are searched for: {secret:?}");
    SENT.lock().expect("no test panics while it holds the secrets").insert(secret.to_owned());
    secret
}

/// The remembered secrets that a text holds.
pub fn found_in(text: &str) -> Vec<String> {
    let sent = SENT.lock().expect("no test panics while it holds the secrets");
    sent.iter().filter(|secret| text.contains(secret.as_str())).cloned().collect()
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
}
