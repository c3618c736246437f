//! The reading order of the services: a module uses only modules below it in lib.rs's list.

use std::fs;
use std::path::Path;

use crate::source::{code, root, rust_files, words};

/// A use of one module of the crate by another.
#[derive(Debug, PartialEq, Eq)]
struct Use {
    line: usize,
    module: String,
}

/// The `mod name;` lines of a lib.rs that are compiled into the product, in order.
fn order(lib: &str) -> Vec<String> {
    let code = code(lib);
    let product = product(&code);
    let words = words(&product);
    let names = words.windows(3).filter(|w| w[0].1 == "mod" && w[2].1 == ";");
    names.map(|w| w[1].1.to_owned()).collect()
}

/// The code without items under `#[cfg(test)]`: tests may look upward.
fn product(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, item) = rest.split_at(at);
        out.push_str(before);
        let end = end_of_item(item);
        out.extend(item[..end].chars().filter(|&c| c == '\n'));
        rest = &item[end..];
    }
    out.push_str(rest);
    out
}

/// Where the item at the start of `item` ends: a `;` outside braces, or its last closing brace.
fn end_of_item(item: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// The top-level modules that a file uses by `crate::` or by `super::` up to the root.
///
/// `depth` is how many `super::` lead from the file's module to the crate's root.
fn uses(text: &str, depth: usize, modules: &[String]) -> Vec<Use> {
    let code = code(text);
    let product = product(&code);
    let words = words(&product);
    let word = |at: usize| words.get(at).map_or("", |w| w.1);
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let after = if word(at) == "crate" && word(at + 1) == "::" {
            Some(at + 2)
        } else if word(at) == "super" && (at == 0 || word(at - 1) != "::") {
            let ups =
                (0..).take_while(|n| word(at + 2 * n) == "super" && word(at + 2 * n + 1) == "::").count();
            (ups == depth && ups > 0).then_some(at + 2 * ups)
        } else {
            None
        };
        if let Some(after) = after {
            for at in heads(&words, after) {
                let (line, name) = words[at];
                if modules.iter().any(|module| module == name) {
                    found.push(Use { line, module: name.to_owned() });
                }
            }
        }
        at += 1;
    }
    found
}

/// The first names of a path or of each path in a `{...}` group.
fn heads(words: &[(usize, &str)], at: usize) -> Vec<usize> {
    if words.get(at).is_none_or(|w| w.1 != "{") {
        return vec![at];
    }
    let mut heads = vec![at + 1];
    let mut depth = 0;
    for (offset, (_, word)) in words[at..].iter().enumerate() {
        match *word {
            "{" => depth += 1,
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "," if depth == 1 => heads.push(at + offset + 1),
            _ => {}
        }
    }
    heads.retain(|&at| at < words.len());
    heads
}

fn check(package: &str) {
    let source = root().join(package).join("src");
    let lib = fs::read_to_string(source.join("lib.rs")).expect("lib.rs");
    let modules = order(&lib);
    assert!(modules.len() >= 5, "{package} has only {modules:?}: a list in reading order is expected");
    let mut wrong = Vec::new();
    for file in rust_files(&source) {
        let path = file.strip_prefix(&source).expect("below src").with_extension("");
        let mut parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
        if parts.last() == Some(&"mod") {
            parts.pop();
        }
        // A module of tests in a file of its own; like those below a product's code it may look upward.
        if parts.contains(&"tests") {
            continue;
        }
        let own = modules.iter().position(|module| parts.first() == Some(&module.as_str()));
        let Some(own) = own else { continue };
        let text = fs::read_to_string(&file).expect("a source file");
        for Use { line, module } in uses(&text, parts.len(), &modules) {
            if modules.iter().position(|m| *m == module) < Some(own) {
                let file =
                    Path::new(package).join("src").join(file.strip_prefix(&source).expect("below src"));
                wrong.push(format!("{}:{line}: {} uses {module}", file.display(), modules[own]));
            }
        }
    }
    assert!(wrong.is_empty(), "modules used by others below them in {package}:\n{}", wrong.join("\n"));
}

#[test]
fn gateway_modules_use_only_those_below_them() {
    check("gateway");
}

#[test]
fn authd_modules_use_only_those_below_them() {
    check("authd");
}

#[test]
fn certd_modules_use_only_those_below_them() {
    check("certd");
}

#[test]
fn launch_modules_use_only_those_below_them() {
    check("launch");
}

#[test]
fn modules_of_subsystems_use_only_those_below_them() {
    check("subsystems/sdk");
    check("subsystems/sysinfo");
}

#[test]
fn uses_are_found_however_they_are_written() {
    let modules: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
    let names = |text: &str, depth| -> Vec<String> {
        uses(text, depth, &modules).into_iter().map(|u| u.module).collect()
    };
    assert_eq!(names("use crate::a::X;", 1), ["a"]);
    assert_eq!(names("use crate::{a::{X, b}, c};", 1), ["a", "c"]);
    assert_eq!(names("fn f(x: crate::b::Y) { super::c::g() }", 1), ["b", "c"]);
    assert_eq!(names("use super::super::a; use super::b;", 2), ["a"]);
    assert_eq!(names("// crate::a\nlet s = \"crate::b\";", 1), Vec::<String>::new());
    assert_eq!(names("#[cfg(test)]\nmod tests { use crate::a; }\nuse crate::b;", 1), ["b"]);
    assert_eq!(order("mod a;\npub mod b;\n#[cfg(test)]\nmod fake;\n"), ["a", "b"]);
}
