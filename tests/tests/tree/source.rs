//! Rust source reduced to what the checks look at, and the files of the tree.
//!
//! Not a parser: comments, strings and character literals become blanks, and what is left is looked
//! through word by word. Good enough for names, and it cannot be misled by text in a comment.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// Every Rust file below `dir`, without build output, sorted.
pub(crate) fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("a directory entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                // Build output, and hidden directories, hold files that are not ours.
                if name != "target" && !name.starts_with('.') {
                    dirs.push(path);
                }
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The same text, of the same length in lines, with comments and literals blanked.
pub(crate) fn code(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = bytes.get(at) {
        let rest = &bytes[at..];
        let end = at + skipped(rest, at.checked_sub(1).map(|before| bytes[before]));
        if end == at {
            out.push(c);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// How many characters a comment or literal at the start of `rest` takes; 0: there is none.
fn skipped(rest: &[char], before: Option<char>) -> usize {
    let is = |text: &str| rest.iter().zip(text.chars()).filter(|(a, b)| **a == *b).count() == text.len();
    if is("//") {
        return rest.iter().position(|&c| c == '\n').unwrap_or(rest.len());
    }
    if is("/*") {
        return block_comment(rest);
    }
    if before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        && let Some(length) = raw_string(rest)
    {
        return length;
    }
    match rest.first() {
        Some('"') => quoted(rest, '"'),
        // A lifetime has no closing quote two characters on.
        Some('\'') if rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'') => quoted(rest, '\''),
        _ => 0,
    }
}

fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match (rest[at], rest.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[char]) -> Option<usize> {
    let mut at = rest.iter().take(2).position(|&c| c == 'r')? + 1;
    if at == 2 && rest[0] != 'b' && rest[0] != 'c' {
        return None;
    }
    let hashes = rest[at..].iter().take_while(|&&c| c == '#').count();
    at += hashes;
    if rest.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while at < rest.len() {
        if rest[at] == '"' && rest[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(rest.len())
}

/// The words (identifiers and single other characters) of code that [`code`] made, with their lines.
pub(crate) fn words(code: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (word, after) = rest.split_at(length);
            words.push((number + 1, word));
            rest = after.trim_start();
        }
    }
    words
}

#[test]
fn comments_and_literals_are_blanked_and_nothing_else() {
    for (text, expected) in [
        ("a // unsafe", "a "),
        ("a /* x /* y */ z */ b", "a  b"),
        ("f(\"unsafe \\\" still\") g", "f() g"),
        ("f(r#\"un\"safe\"#, br\"x\") g", "f(, ) g"),
        ("let c = '\"'; unsafe", "let c = ; unsafe"),
        ("fn f<'a>(x: &'a str) {'\\''}", "fn f<'a>(x: &'a str) {}"),
        ("xr\"s\"", "xr"),
    ] {
        let squeeze = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
        let blanked = code(text);
        assert_eq!(blanked.chars().count(), text.chars().count());
        assert_eq!(words(&blanked), words(&code(expected)), "{text} -> {}", squeeze(&blanked));
    }
}
