//! The contract's examples, and the matcher against a slow one that is plainly right.

use super::*;

const HOLDER: Holder<'_> = Holder { auth_id: "123", session: "s-1" };

fn matches(pattern: &str, subject: &str) -> bool {
    Matcher::new(subject, HOLDER).matches(pattern)
}

fn entries(list: &[&str]) -> Vec<String> {
    list.iter().map(|entry| (*entry).to_owned()).collect()
}

#[test]
fn entries_match_as_tokens_md_says() {
    // In a file of their own, which the example in Python is tested with too: pattern, subject, whether it matches.
    let cases: Vec<(String, String, bool)> =
        serde_json::from_str(include_str!("cases.json")).expect("a list of cases");
    assert!(cases.len() > 40);
    for (pattern, subject, expected) in &cases {
        let (pattern, subject, expected) = (pattern.as_str(), subject.as_str(), *expected);
        assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        assert_eq!(slow::matches(pattern, subject, HOLDER), expected, "slowly: {pattern} {subject}");
    }
}

#[test]
fn a_holders_id_is_text_whatever_is_in_it() {
    for (auth_id, subject, expected) in [
        (".*", "a.b", false),
        (".*", "a..*", true),
        ("#", "a.b", false),
        ("#", "a.#", true),
        ("*", "a.b", false),
        ("me", "a.me", true),
        ("1.2", "a.1.2", true),
        ("", "a.", false),
        ("", "a.me", true),
        ("b\nc", "a.b\nc", false),
    ] {
        let holder = Holder { auth_id, session: "" };
        assert_eq!(Matcher::new(subject, holder).matches("a.me"), expected, "{auth_id:?} {subject:?}");
    }
}

#[test]
fn a_denial_beats_every_grant_and_the_place_of_what_decides_is_told() {
    let holder = HOLDER;
    for (list, decides, allowed) in [
        (&["a", "#"][..], Some(1), true),
        (&["!x.*", "#"], Some(0), false),
        (&["#", "!x.*"], Some(1), false),
        (&["#", "x.y", "!y.*"], Some(0), true),
        (&["!#", "x.y"], Some(0), false),
        (&["!a"], None, false),
        (&["a"], None, false),
        (&[], None, false),
    ] {
        let list = entries(list);
        assert_eq!(deciding(&list, "x.y", holder), decides, "{list:?}");
        assert_eq!(granted(&list, "x.y", holder), allowed, "{list:?}");
    }
    assert!(granted(&entries(&["#"]), "", holder));
    assert!(!granted(&entries(&["#", "!#"]), "", holder));
    assert!(!granted(&entries(&["*", "a.#"]), "", holder));
}

#[test]
fn an_entry_of_a_configuration_can_be_meant() {
    for (entry, says) in [
        ("confd.users.me.#.read", None),
        ("!confd.#", None),
        ("#", None),
        ("", Some("empty")),
        ("!", Some("empty")),
        ("!!a", Some("more than one")),
        ("a..b", Some("empty word")),
        (".a", Some("empty word")),
        ("a.", Some("empty word")),
        ("a\nb", Some("control character")),
        (&"x".repeat(257), Some("256")),
        (&"x".repeat(256), None),
    ] {
        match (well_formed(entry), says) {
            (Ok(()), None) => {}
            (Err(sentence), Some(says)) => assert!(sentence.contains(says), "{entry:?}: {sentence}"),
            other => panic!("{entry:?}: {other:?}"),
        }
    }
}

#[test]
fn what_is_made_to_cost_much_does_not() {
    let began = std::time::Instant::now();
    let subject = "a".repeat(2_000);
    for pattern in
        ["#*".repeat(2_000) + "z", "*a".repeat(2_000) + "z", "#.".repeat(2_000), "a*".repeat(2_000) + "#z"]
    {
        assert!(!matches(&pattern, &subject));
    }
    let holder = Holder { auth_id: "me", session: "" };
    let (pattern, subject) = (["me"; 500].join("."), ["me"; 499].join("."));
    assert!(!Matcher::new(&subject, holder).matches(&pattern));
    // Some 30 million steps, where going back would take longer than there is.
    assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("small")
    }

    fn text(&mut self, parts: &[&str], longest: usize) -> String {
        (0..self.below(longest + 1)).map(|_| parts[self.below(parts.len())]).collect()
    }
}

#[test]
fn generated_patterns_and_subjects_match_as_the_slow_matcher_says() {
    const PATTERN: [&str; 14] =
        ["a", "b", ".", ".", ".", "*", "*", "#", "me", "my_session", "\n", "é", "!", "1"];
    const SUBJECT: [&str; 11] = ["a", "b", ".", ".", "#", "me", "my_session", "\n", "é", "1", "a.b"];
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut matched = 0;
    for case in 0..40_000 {
        let auth_id = numbers.text(&["1", "a", ".", "#", "*", "me"], 2);
        let holder = Holder { auth_id: &auth_id, session: "b.1" };
        let pattern = numbers.text(&PATTERN, 7);
        // Half of the subjects are made of the pattern, so that many match.
        let subject = if case % 2 == 0 {
            numbers.text(&SUBJECT, 7)
        } else {
            let more = ["", "a", "b.a", "#", "é"];
            let mut subject = String::new();
            for symbol in pattern.split_inclusive('.') {
                let word = match symbol.trim_end_matches('.') {
                    "me" => auth_id.clone(),
                    word => word.replace(['*', '#'], more[numbers.below(more.len())]),
                };
                subject = subject + &word + if symbol.ends_with('.') { "." } else { "" };
            }
            subject
        };
        let expected = slow::matches(&pattern, &subject, holder);
        let found = Matcher::new(&subject, holder).matches(&pattern);
        assert_eq!(found, expected, "pattern {pattern:?} subject {subject:?} auth_id {auth_id:?}");
        matched += usize::from(found);
    }
    assert!(matched > 5_000, "only {matched} matched");
}

/// One matcher for many patterns carries nothing over from one to the next.
#[test]
fn one_matcher_is_asked_again() {
    let mut matcher = Matcher::new("a.b", HOLDER);
    for (pattern, expected) in [("a.*", true), ("*", false), ("#.b", true), ("b.*", false), ("a.b", true)] {
        assert_eq!(matcher.matches(pattern), expected, "{pattern}");
    }
}

/// The same language, written down without a thought of time: every `me` makes two patterns, and every
/// wildcard tries all lengths.
mod slow {
    use super::Holder;

    #[derive(Clone)]
    enum Symbol {
        Literal(char),
        Word { empty: bool },
        Anything,
    }

    pub(super) fn matches(pattern: &str, subject: &str, holder: Holder<'_>) -> bool {
        if subject.contains('\n') || (subject.is_empty() && pattern != "#") {
            return false;
        }
        let subject: Vec<char> = subject.chars().collect();
        pattern == "#" || patterns(pattern, holder).iter().any(|symbols| from(symbols, &subject))
    }

    fn patterns(pattern: &str, holder: Holder<'_>) -> Vec<Vec<Symbol>> {
        let literal = |text: &str| text.chars().map(Symbol::Literal).collect::<Vec<_>>();
        let mut all: Vec<Vec<Symbol>> = vec![Vec::new()];
        for (number, word) in pattern.split('.').enumerate() {
            let mut ways = match word {
                "me" => vec![literal("me"), literal(holder.auth_id)],
                "my_session" => vec![literal("my_session"), literal(holder.session)],
                word if !word.is_empty() && word.chars().all(|c| c == '*') => {
                    vec![vec![Symbol::Word { empty: false }]]
                }
                word => vec![
                    word.chars()
                        .map(|c| match c {
                            '*' => Symbol::Word { empty: true },
                            '#' => Symbol::Anything,
                            c => Symbol::Literal(c),
                        })
                        .collect(),
                ],
            };
            // A holder without an id is nobody's `me`.
            ways.retain(|way| !way.is_empty() || word.is_empty());
            let dot = if number > 0 { literal(".") } else { Vec::new() };
            all = all
                .iter()
                .flat_map(|before| {
                    let dot = &dot;
                    ways.iter().map(move |way| [before.as_slice(), dot, way].concat())
                })
                .collect();
        }
        all
    }

    fn from(symbols: &[Symbol], subject: &[char]) -> bool {
        let Some((symbol, rest)) = symbols.split_first() else { return subject.is_empty() };
        let lengths = match symbol {
            Symbol::Literal(c) => return subject.first() == Some(c) && from(rest, &subject[1..]),
            Symbol::Word { empty } => {
                let word = subject.iter().take_while(|c| !matches!(c, '.' | '#')).count();
                usize::from(!empty)..=word
            }
            Symbol::Anything => 1..=subject.len(),
        };
        lengths.into_iter().any(|length| from(rest, &subject[length..]))
    }
}
