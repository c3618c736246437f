//! Prints the link line, and nothing else.
//!
//! On Linux libpam is named by its exact file name, so no development package is needed to build. The
//! target is asked for by cargo's variable: `cfg!` would be the host's.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let library = match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("linux") => "dylib:+verbatim=libpam.so.0",
        Ok("freebsd") => "dylib=pam",
        other => panic!("PAM is declared for Linux and FreeBSD, not for {other:?}"),
    };
    println!("cargo:rustc-link-lib={library}");
}
