//! The scripts that complete the command's words, in the shells themselves where those are there.

use std::process::{Command, Stdio};

use crate::{World, run};

/// What bash completes for words of which the last is being typed.
fn completed(world: &World, words: &[&str]) -> Vec<String> {
    let program = env!("CARGO_BIN_EXE_doorward");
    let script = format!(
        "source <('{program}' completion bash) && COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) && \
         _doorward doorward \"${{!#}}\" \"${{@: -2:1}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let mut command = Command::new("bash");
    command
        .args(["--norc", "--noprofile", "-c", &script, "bash"])
        .args(words)
        .current_dir(world.directory.path());
    let ran = run(command, "").expect(0);
    assert_eq!(ran.err, "");
    ran.out.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_options() {
    let there = Command::new("bash").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !there {
        assert!(std::env::var_os("DOORWARD_NO_SKIP").is_none(), "there is no bash");
        println!("SKIPPED: there is no bash");
        return;
    }
    let world = World::new();
    assert_eq!(completed(&world, &["doorward", "desc"]), ["describe"]);
    assert_eq!(completed(&world, &["doorward", "completion", "f"]), ["fish"]);
    assert_eq!(completed(&world, &["doorward", "call", "--args"]), ["--args-from"]);
    let commands = completed(&world, &["doorward", ""]);
    for command in ["login", "query", "call", "describe", "events", "completion", "doctor"] {
        assert!(commands.iter().any(|word| word == command), "{command} is not in {commands:?}");
    }
}

#[test]
fn every_shell_has_a_script_of_its_own() {
    let world = World::new();
    for (shell, begins) in
        [("bash", "_doorward() {"), ("zsh", "#compdef doorward"), ("fish", "# Print an optspec")]
    {
        let script = world.run(&["completion", shell], "").expect(0).out;
        assert!(script.starts_with(begins), "{shell}: {script:.100}");
        assert!(script.contains("describe"), "{shell}");
    }
}
