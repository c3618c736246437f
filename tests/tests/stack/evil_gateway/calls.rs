//! What a taken-over gateway calls.

/// One call with arguments that give nobody the right to anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    CheckForged,
    CheckSessionName,
    CheckEnded,
    LookForged,
    LookEnded,
    EndSessionName,
    AssertSessionName,
    AssertEnded,
    ReportSessionName,
    ListSessionName,
    ListEnded,
    ListForged,
    LogsSessionName,
    LogsEnded,
    LogsForged,
    EndOtherSessionName,
    EndOtherEnded,
    EndOthersSessionName,
    WatchEnded,
    BeginTokenSessionName,
    BeginTokenEnded,
    BeginLocalForged,
    BeginLocalUsed,
    BeginLocalOtherUser,
    BeginLocalRoot,
    BeginLocalOtherConnection,
    BeginNothing,
    BeginWrongPassword,
    BeginEmptyPassword,
    BeginRootEmptyPassword,
    BeginAlmost,
    RespondForAnother,
    RespondWrong,
    RespondAgain,
    RespondNowhere,
    AbandonOwn,
    AbandonAny,
    Challenge,
    BeginForgedProof,
    BeginUnprovenKey,
    WatchPenalties,
    BeginApiByToken,
    BeginApiLocal,
    BeginApiWrongPassword,
    BeginApiAlmost,
    BeginApiElsewhere,
    BeginWishAstray,
    BeginJwtUnsigned,
    BeginJwtByPublicKey,
    BeginJwtForRoot,
    BeginJwtAstray,
    BeginKindUnknown,
    BeginKindUser,
    CheckChannelSessionName,
    Backends,
    Explain,
}

use Call::*;

/// Those that authd answers by itself, without PAM and without a new descriptor.
pub(super) const QUICK: &[Call] = &[
    CheckForged,
    CheckSessionName,
    CheckEnded,
    EndSessionName,
    AssertSessionName,
    AssertEnded,
    ReportSessionName,
    ListSessionName,
    ListEnded,
    LogsSessionName,
    LogsEnded,
    LogsForged,
    EndOtherSessionName,
    BeginTokenSessionName,
    BeginTokenEnded,
    BeginLocalForged,
    BeginLocalUsed,
    BeginNothing,
    RespondForAnother,
    RespondNowhere,
    AbandonOwn,
    BeginForgedProof,
    BeginUnprovenKey,
    Challenge,
];

/// The others: with a module's answer, a fresh handle, or a stream.
pub(super) const SLOW: &[Call] = &[
    ListForged,
    EndOtherEnded,
    EndOthersSessionName,
    WatchEnded,
    WatchPenalties,
    BeginLocalOtherUser,
    BeginLocalRoot,
    BeginLocalOtherConnection,
    BeginWrongPassword,
    BeginEmptyPassword,
    BeginRootEmptyPassword,
    BeginAlmost,
    RespondWrong,
    RespondAgain,
    AbandonAny,
    LookForged,
    LookEnded,
    BeginApiByToken,
    BeginApiLocal,
    BeginApiWrongPassword,
    BeginApiAlmost,
    BeginApiElsewhere,
    BeginWishAstray,
    BeginJwtUnsigned,
    BeginJwtByPublicKey,
    BeginJwtForRoot,
    BeginJwtAstray,
    BeginKindUnknown,
    BeginKindUser,
    CheckChannelSessionName,
    Backends,
    Explain,
];

/// The method that a call calls.
pub(super) fn method(call: Call) -> &'static str {
    match call {
        CheckForged | CheckSessionName | CheckEnded | LookForged | LookEnded | CheckChannelSessionName => {
            "Sessions/Check"
        }
        EndSessionName => "Sessions/End",
        AssertSessionName | AssertEnded => "Sessions/Assert",
        ReportSessionName => "Sessions/ReportActivity",
        ListSessionName | ListEnded | ListForged => "Sessions/List",
        LogsSessionName | LogsEnded | LogsForged => "Sessions/Logs",
        EndOtherSessionName | EndOtherEnded | EndOthersSessionName => "Sessions/EndOther",
        WatchEnded => "Sessions/WatchEnded",
        RespondForAnother | RespondWrong | RespondAgain | RespondNowhere => "Login/Respond",
        AbandonOwn | AbandonAny => "Login/Abandon",
        Challenge => "Login/Challenge",
        WatchPenalties => "Login/WatchPenalties",
        Backends => "Login/Backends",
        Explain => "Rights/Explain",
        BeginTokenSessionName
        | BeginTokenEnded
        | BeginLocalForged
        | BeginLocalUsed
        | BeginLocalOtherUser
        | BeginLocalRoot
        | BeginLocalOtherConnection
        | BeginNothing
        | BeginWrongPassword
        | BeginEmptyPassword
        | BeginRootEmptyPassword
        | BeginAlmost
        | BeginForgedProof
        | BeginUnprovenKey
        | BeginApiByToken
        | BeginApiLocal
        | BeginApiWrongPassword
        | BeginApiAlmost
        | BeginApiElsewhere
        | BeginWishAstray
        | BeginJwtUnsigned
        | BeginJwtByPublicKey
        | BeginJwtForRoot
        | BeginJwtAstray
        | BeginKindUnknown
        | BeginKindUser => "Login/Begin",
    }
}
