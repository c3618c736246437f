//! The Python that tests run the examples with, included by tests of several crates beside `skip`.

/// One that has all these packages; without one the test that asks is skipped, loudly.
pub(crate) fn with(packages: &[&str]) -> Option<String> {
    let named = std::env::var("DOORWARD_PYTHON").ok();
    let import = format!("import {}", packages.join(", "));
    let found = named.into_iter().chain(["/usr/bin/python3", "python3"].map(str::to_owned)).find(|python| {
        let tried = std::process::Command::new(python)
            .args(["-c", &import])
            .stderr(std::process::Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    });
    if found.is_none() {
        super::skip::because(&format!("no Python with {}", packages.join(", ")));
    }
    found
}
