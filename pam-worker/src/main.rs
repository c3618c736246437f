//! doorward-pam-worker: started by doorward-pam-guard, see doorward-pam-guard(8).

fn main() -> std::process::ExitCode {
    doorward_pam_worker::run()
}
