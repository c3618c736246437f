//! The program; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    doorward_subsystem::main::<doorward_sysinfo::Sysinfo>()
}
