//! How a command ends: the sentence for the person and the exit code for the script.

use std::process::ExitCode;

/// Why a command did not do what it was asked to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The gateway answered and said no, or we refuse to go on with what it showed us.
    #[error("{message}")]
    Refused {
        /// The gateway's error code, where it was the gateway that refused.
        code: Option<u16>,
        message: String,
    },
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Nothing answered, or what answered does not speak our language, or its back end is away.
    #[error("{message}")]
    Unreachable { code: Option<u16>, message: String },
    /// Something on this machine, in our own files or processes, is not as it must be.
    #[error("{0}")]
    Failed(String),
    /// A signal ended us.
    #[error("interrupted")]
    Interrupted,
    /// A signal made us end what was under way.
    #[error("{0}")]
    Cancelled(String),
}

impl Error {
    /// A refusal of our own.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused { code: None, message: message.into() }
    }

    /// No usable gateway at the other end.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::Unreachable { code: None, message: message.into() }
    }

    /// An error reply. 408 and 503 mean that a back end is away: the same to a script as no gateway.
    pub(crate) fn from_wire(code: u16, message: String) -> Self {
        match code {
            408 | 503 => Self::Unreachable { code: Some(code), message },
            _ => Self::Refused { code: Some(code), message },
        }
    }

    /// The gateway's code, if this is its error reply.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } | Self::Unreachable { code, .. } => *code,
            Self::Usage(_) | Self::Failed(_) | Self::Interrupted | Self::Cancelled(_) => None,
        }
    }

    /// One word for programs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Usage(_) => "usage",
            Self::Unreachable { .. } => "unreachable",
            Self::Failed(_) => "failed",
            Self::Interrupted | Self::Cancelled(_) => "interrupted",
        }
    }

    /// 0 is success, see `doorward --help` for the rest.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused { .. } | Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 3,
            // What a shell reports for a program that SIGINT ended.
            Self::Interrupted | Self::Cancelled(_) => 130,
        })
    }
}
