//! Challenges that are open: random strings to be signed, each for one connection, purpose and server
//! key, once, for 30 seconds. Pure: time and random bytes come in as arguments.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::proof::Asked;

/// How long a challenge can be answered.
pub const VALID: Duration = Duration::from_secs(30);

/// Letters and digits in a challenge. Deployed clients copy an RSA result of 256 bytes into a buffer of
/// twice that length.
pub const TEXT_LENGTH: usize = 128;

/// At most open for one connection; one more displaces the oldest.
pub const PER_CONNECTION: usize = 4;

/// What an answer is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// `auth_ssl`.
    Login,
    /// `register_ssl_cert`, in the session that asked.
    Registration {
        /// The session's id.
        session: String,
    },
}

impl Purpose {
    fn label(&self) -> &'static str {
        match self {
            Self::Login => "auth_ssl",
            Self::Registration { .. } => "register",
        }
    }
}

/// SHA-256 of the TLS public key that the client sees, or the Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKey {
    /// Of the server's SubjectPublicKeyInfo.
    Tls([u8; 32]),
    /// No TLS.
    Local,
}

impl ServerKey {
    /// From the wire: 32 bytes, or none for the Unix socket.
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [] => Some(Self::Local),
            _ => bytes.try_into().ok().map(Self::Tls),
        }
    }
}

/// The context that is signed together with a challenge.
pub fn context(purpose: &Purpose, server: ServerKey) -> String {
    let server = match server {
        ServerKey::Tls(hash) => STANDARD.encode(hash),
        ServerKey::Local => "local".to_owned(),
    };
    format!("doorward {} v1 {server}", purpose.label())
}

/// A new random string; `random` fills a buffer.
///
/// # Errors
/// Those of `random`.
pub fn text<E>(mut random: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<String, E> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(TEXT_LENGTH);
    let mut bytes = [0; TEXT_LENGTH];
    while text.len() < TEXT_LENGTH {
        random(&mut bytes)?;
        // 248 = 4 x 62: larger values would make the first letters likelier.
        let letters = bytes.iter().filter(|b| **b < 248).filter_map(|b| ALPHABET.get(usize::from(b % 62)));
        text.extend(letters.take(TEXT_LENGTH - text.len()).map(|b| char::from(*b)));
    }
    Ok(text)
}

#[derive(Debug)]
struct Open {
    purpose: Purpose,
    asked: Asked,
    /// When it ends, and a number that no other has.
    end: (Instant, u64),
}

/// What one attempt to answer took out of the table.
#[derive(Debug, Default)]
pub struct Taken(Vec<Open>);

impl Taken {
    /// What may have been signed.
    pub fn asked(&self) -> Vec<Asked> {
        self.0.iter().map(|open| open.asked.clone()).collect()
    }

    /// Without the one that was answered.
    #[must_use]
    pub fn without(mut self, answered: usize) -> Self {
        if answered < self.0.len() {
            self.0.remove(answered);
        }
        self
    }
}

/// Every open challenge.
#[derive(Debug)]
pub struct Challenges {
    limit: usize,
    opened: u64,
    /// The challenges of each connection, oldest first; no connection without one.
    open: HashMap<String, VecDeque<Open>>,
    /// Whose challenge ends when: one entry for each that is open.
    ends: BTreeMap<(Instant, u64), String>,
}

impl Challenges {
    /// A table for `limit` challenges.
    pub fn new(limit: usize) -> Self {
        Self { limit, opened: 0, open: HashMap::new(), ends: BTreeMap::new() }
    }

    /// From now on for so many; those that are open stay until their time is over.
    pub fn limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Opens one for `connection`. Its oldest gives way when it has four, the oldest of all when the
    /// table is full.
    ///
    /// A source that connects again and again could fill the table, so nobody is refused: whoever answers
    /// within the time that filling it takes, logs in.
    pub fn open(
        &mut self,
        connection: &str,
        purpose: Purpose,
        server: ServerKey,
        text: String,
        now: Instant,
    ) -> Asked {
        self.expire(now);
        let held = self.open.get(connection).filter(|queue| queue.len() >= PER_CONNECTION);
        let displaced = match held.and_then(|queue| queue.front()) {
            Some(own) => Some(own.end),
            None if self.ends.len() >= self.limit => self.ends.first_key_value().map(|(end, _)| *end),
            None => None,
        };
        if let Some(end) = displaced {
            self.close(end);
        }
        self.opened += 1;
        let end = (now + VALID, self.opened);
        let asked = Asked { context: context(&purpose, server), text };
        self.ends.insert(end, connection.to_owned());
        let queue = self.open.entry(connection.to_owned()).or_default();
        queue.push_back(Open { purpose, asked: asked.clone(), end });
        asked
    }

    /// Takes what `connection` has open for `purpose`. An attempt that fails uses all of it up; after one
    /// that succeeds the others are given back.
    pub fn take(&mut self, connection: &str, purpose: &Purpose, now: Instant) -> Taken {
        self.expire(now);
        let Some(queue) = self.open.get_mut(connection) else {
            return Taken::default();
        };
        let (taken, kept): (Vec<_>, Vec<_>) = queue.drain(..).partition(|open| open.purpose == *purpose);
        queue.extend(kept);
        if queue.is_empty() {
            self.open.remove(connection);
        }
        for open in &taken {
            self.ends.remove(&open.end);
        }
        Taken(taken)
    }

    /// Opens again what a successful attempt did not answer, as far as there is room.
    pub fn give_back(&mut self, connection: &str, taken: Taken, now: Instant) {
        self.expire(now);
        for open in taken.0.into_iter().rev().filter(|open| open.end.0 > now) {
            let held = self.open.get(connection).map_or(0, VecDeque::len);
            if held < PER_CONNECTION && self.ends.len() < self.limit {
                self.ends.insert(open.end, connection.to_owned());
                // They are older than whatever was opened meanwhile.
                self.open.entry(connection.to_owned()).or_default().push_front(open);
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((&end, _)) = self.ends.first_key_value().filter(|(end, _)| end.0 <= now) {
            self.close(end);
        }
    }

    fn close(&mut self, end: (Instant, u64)) {
        let Some(connection) = self.ends.remove(&end) else { return };
        if let Some(queue) = self.open.get_mut(&connection) {
            queue.retain(|open| open.end != end);
            if queue.is_empty() {
                self.open.remove(&connection);
            }
        }
    }
}

/// SHA-256 of a server key in DER, as `server_key` carries it.
#[cfg(test)]
pub(crate) fn server_key(spki: &[u8]) -> ServerKey {
    ServerKey::Tls(crate::key::Fingerprint::of(spki).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(table: &mut Challenges, connection: &str, purpose: Purpose, name: &str, now: Instant) -> Asked {
        table.open(connection, purpose, ServerKey::Local, name.to_owned(), now)
    }

    fn taken(table: &mut Challenges, connection: &str, purpose: &Purpose, now: Instant) -> Vec<String> {
        table.take(connection, purpose, now).asked().into_iter().map(|asked| asked.text).collect()
    }

    fn registration(session: &str) -> Purpose {
        Purpose::Registration { session: session.to_owned() }
    }

    #[test]
    fn a_challenge_serves_its_connection_and_purpose_once() {
        let (mut table, now) = (Challenges::new(10), Instant::now());
        open(&mut table, "a", Purpose::Login, "1", now);
        open(&mut table, "a", registration("s"), "2", now);
        assert!(taken(&mut table, "b", &Purpose::Login, now).is_empty());
        assert!(taken(&mut table, "a", &registration("other"), now).is_empty());
        assert_eq!(taken(&mut table, "a", &Purpose::Login, now), ["1"]);
        assert!(taken(&mut table, "a", &Purpose::Login, now).is_empty());
        assert_eq!(taken(&mut table, "a", &registration("s"), now), ["2"]);
        assert_eq!((table.ends.len(), table.open.len()), (0, 0));
    }

    #[test]
    fn it_ends_after_thirty_seconds() {
        let (mut table, now) = (Challenges::new(10), Instant::now());
        open(&mut table, "a", Purpose::Login, "1", now);
        let later = now + VALID - Duration::from_millis(1);
        open(&mut table, "a", Purpose::Login, "2", later);
        assert_eq!(taken(&mut table, "a", &Purpose::Login, now + VALID), ["2"]);
        open(&mut table, "a", Purpose::Login, "3", now + VALID);
        assert!(taken(&mut table, "a", &Purpose::Login, now + 2 * VALID).is_empty());
        assert_eq!((table.ends.len(), table.open.len()), (0, 0));
    }

    #[test]
    fn the_fifth_displaces_the_oldest() {
        let (mut table, now) = (Challenges::new(4), Instant::now());
        for name in ["1", "2", "3", "4", "5"] {
            open(&mut table, "a", Purpose::Login, name, now);
        }
        assert_eq!(table.ends.len(), 4);
        assert_eq!(taken(&mut table, "a", &Purpose::Login, now), ["2", "3", "4", "5"]);
    }

    #[test]
    fn a_success_leaves_the_others_open_until_their_own_end() {
        let (mut table, now) = (Challenges::new(10), Instant::now());
        for (name, after) in [("1", 0), ("2", 1), ("3", 2)] {
            open(&mut table, "a", Purpose::Login, name, now + Duration::from_secs(after));
        }
        let taken_now = table.take("a", &Purpose::Login, now + Duration::from_secs(2));
        open(&mut table, "a", Purpose::Login, "4", now + Duration::from_secs(3));
        table.give_back("a", taken_now.without(1), now + VALID);
        assert_eq!(taken(&mut table, "a", &Purpose::Login, now + VALID), ["3", "4"]);
        assert_eq!((table.ends.len(), table.open.len()), (0, 0));
    }

    #[test]
    fn what_is_given_back_displaces_nothing() {
        let (mut table, now) = (Challenges::new(10), Instant::now());
        open(&mut table, "a", Purpose::Login, "1", now);
        open(&mut table, "a", Purpose::Login, "2", now);
        let taken_now = table.take("a", &Purpose::Login, now);
        for name in ["3", "4", "5"] {
            open(&mut table, "a", Purpose::Login, name, now);
        }
        table.give_back("a", taken_now, now);
        assert_eq!(taken(&mut table, "a", &Purpose::Login, now), ["2", "3", "4", "5"]);
        assert_eq!((table.ends.len(), table.open.len()), (0, 0));
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_of_all_gives_way() {
        let (mut table, now) = (Challenges::new(3), Instant::now());
        for connection in ["a", "b", "c", "d"] {
            open(&mut table, connection, Purpose::Login, "x", now);
        }
        assert_eq!((table.ends.len(), table.open.len()), (3, 3));
        assert!(taken(&mut table, "a", &Purpose::Login, now).is_empty());
        for connection in ["b", "c", "d"] {
            assert_eq!(taken(&mut table, connection, &Purpose::Login, now), ["x"]);
        }
        open(&mut table, "e", Purpose::Login, "x", now);
        open(&mut table, "f", Purpose::Login, "x", now + VALID);
        assert_eq!((table.ends.len(), table.open.len()), (1, 1), "what ended has left");
    }

    #[test]
    fn many_connections_of_one_source_shut_nobody_out() {
        let (mut table, now) = (Challenges::new(1000), Instant::now());
        for number in 0..5000 {
            open(&mut table, &format!("flood {number}"), Purpose::Login, "x", now);
        }
        open(&mut table, "somebody", Purpose::Login, "his", now);
        for number in 5000..5900 {
            open(&mut table, &format!("flood {number}"), Purpose::Login, "x", now);
        }
        assert_eq!(taken(&mut table, "somebody", &Purpose::Login, now), ["his"]);
        assert!(table.ends.len() <= 1000 && table.open.len() <= 1000);
    }

    #[test]
    fn one_connection_cannot_use_the_table_up() {
        let (mut table, now) = (Challenges::new(8), Instant::now());
        for _ in 0..1000 {
            open(&mut table, "flood", Purpose::Login, "x", now);
            open(&mut table, "quick", Purpose::Login, "x", now);
            table.take("quick", &Purpose::Login, now);
        }
        assert_eq!((table.ends.len(), table.open.len()), (4, 1));
        open(&mut table, "other", Purpose::Login, "x", now);
    }

    #[test]
    fn a_text_is_128_letters_and_digits_without_bias() {
        // Bytes from 248 on are skipped: with them alone nothing would come out, so mix them in.
        let mut next = 0_u8;
        let text = text(|buffer: &mut [u8]| {
            for byte in buffer {
                *byte = next;
                next = next.wrapping_add(1);
            }
            Ok::<_, ()>(())
        })
        .expect("random bytes");
        assert_eq!(text.len(), TEXT_LENGTH);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(text.starts_with("ABC") && text.contains("789ABC"));
    }

    #[test]
    fn a_context_names_purpose_and_server() {
        assert_eq!(context(&Purpose::Login, ServerKey::Local), "doorward auth_ssl v1 local");
        assert_eq!(
            context(&registration("s"), server_key(b"")),
            "doorward register v1 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
        assert_eq!(ServerKey::from_wire(&[0; 31]), None);
    }
}
