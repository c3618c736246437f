//! Every transcript, over every transport, with both kinds of PAM; and by a client that is not ours.

use doorward_tests::transcript::{Transcript, Transport, all};
use doorward_tests::{Options, Pam, Stack, python, skip};

/// Short, so that the transcript of a module that hangs takes no longer.
fn options(pam: Pam) -> Options {
    Options::new(pam).authd("pam.silent_seconds", 5)
}

/// Replays all that suit the stack; `over` says what for a transcript's own transport.
async fn replay_all(pam: Pam, over: impl Fn(&Transport) -> Option<Transport>) {
    let mut differences = Vec::new();
    let mut played = 0;
    let mut left: Vec<Transcript> = all().into_iter().filter(|transcript| transcript.suits(pam)).collect();
    while !left.is_empty() {
        let first = left.remove(0);
        // One stack for all that need the same one.
        let Some(mut stack) = Stack::start(&first.adjust(options(pam))) else { return };
        let (same, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|t| t.shares_stack_with(&first));
        left = others;
        for transcript in std::iter::once(&first).chain(&same) {
            let transports: Vec<Transport> = transcript.over().iter().filter_map(&over).collect();
            // Real passwords are hashed slowly: the short form takes one transport, and another next time.
            let few = pam == Pam::Real && !skip::long();
            let some = transports.iter().cycle().skip(played).take(if few { 1 } else { transports.len() });
            for transport in some {
                differences.extend(transcript.replay(&mut stack, transport).await.err());
                played += 1;
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    assert!(played >= 30, "only {played} transcripts were replayed");
}

/// What this run can: another user's connection needs root.
fn possible(transport: &Transport) -> Option<Transport> {
    if matches!(transport, Transport::UnixAs(_) | Transport::TlsAs(_))
        && !skip::root("a connection as another user")
    {
        return None;
    }
    Some(transport.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transcript_is_answered_under_libpam_wrapper() {
    replay_all(Pam::Wrapper, possible).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transcript_is_answered_with_real_accounts() {
    replay_all(Pam::Real, possible).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_python_client_gets_every_reply() {
    let Some(interpreter) = python::interpreter() else {
        skip::skipped("no Python with the package websockets (python3-websockets, or DOORWARD_PYTHON)");
        return;
    };
    let python = |transport: &Transport| match transport {
        Transport::Tls => Some(Transport::Python { interpreter: interpreter.clone(), unix: false }),
        Transport::Unix => Some(Transport::Python { interpreter: interpreter.clone(), unix: true }),
        Transport::UnixAs(_) | Transport::TlsAs(_) | Transport::Python { .. } => None,
    };
    replay_all(Pam::Wrapper, python).await;
}
