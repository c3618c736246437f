//! The constants and the sizes of the structs, compared with the C header of this system.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

const HEADER: &str = "/usr/include/security/pam_appl.h";

/// False, with a word about it, where the header is missing and that is allowed.
fn header_is_there() -> bool {
    if Path::new(HEADER).exists() {
        return true;
    }
    assert!(std::env::var_os("DOORWARD_NO_SKIP").is_none(), "{HEADER} is missing: install libpam0g-dev");
    eprintln!("SKIPPED: {HEADER} is missing");
    false
}

/// Compiles a C program that prints `name value` lines, runs it, and returns them.
fn printed_by_c(body: &str) -> Vec<String> {
    let directory = std::env::temp_dir().join(format!("pam-sys-header-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("a directory of our own");
    let source = directory.join("constants.c");
    let program = directory.join("constants");
    std::fs::write(
        &source,
        format!("#include <stddef.h>\n#include <stdio.h>\n#include <security/pam_appl.h>\nint main(void) {{\n{body}return 0;\n}}\n"),
    )
    .expect("the source is written");
    let compiled = Command::new("cc").arg("-o").arg(&program).arg(&source).status().expect("cc runs");
    assert!(compiled.success());
    let output = Command::new(&program).output().expect("the program runs");
    std::fs::remove_dir_all(&directory).expect("the directory goes");
    String::from_utf8(output.stdout).expect("ASCII").lines().map(str::to_owned).collect()
}

#[test]
fn constants_and_layout_are_those_of_the_c_header() {
    if !header_is_there() {
        return;
    }
    let mut body = String::new();
    let mut expected = Vec::new();
    for (name, value) in pam_sys::CONSTANTS {
        body += &format!("printf(\"{name} %d\\n\", (int){name});\n");
        expected.push(format!("{name} {value}"));
    }
    let layout = [
        ("sizeof(struct pam_message)", size_of::<pam_sys::pam_message>()),
        ("sizeof(struct pam_response)", size_of::<pam_sys::pam_response>()),
        ("sizeof(struct pam_conv)", size_of::<pam_sys::pam_conv>()),
        ("offsetof(struct pam_message, msg)", std::mem::offset_of!(pam_sys::pam_message, msg)),
        (
            "offsetof(struct pam_response, resp_retcode)",
            std::mem::offset_of!(pam_sys::pam_response, resp_retcode),
        ),
        ("offsetof(struct pam_conv, appdata_ptr)", std::mem::offset_of!(pam_sys::pam_conv, appdata_ptr)),
    ];
    for (expression, value) in layout {
        body += &format!("printf(\"{expression} %zu\\n\", {expression});\n");
        expected.push(format!("{expression} {value}"));
    }
    assert!(pam_sys::CONSTANTS.len() > 50);
    assert_eq!(printed_by_c(&body), expected);
}
