//! Why a call to a back end failed: the one vocabulary between doorward's processes.

/// What a service tells its caller of a failure; everything else stays in the service's log.
///
/// Each is one gRPC code on the wire and one code of the client dialects at the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request itself is wrong; the message says where.
    BadRequest,
    /// Not authenticated: unknown, ended or idle token, unknown conversation.
    Unauthenticated,
    /// Authenticated but not allowed, or a caller without a row in the access table.
    Forbidden,
    /// No such thing.
    NotFound,
    /// A bound is reached; later may work.
    TooMany,
    /// A deadline passed.
    TimedOut,
    /// A part that is needed cannot be reached.
    Unavailable,
    /// A fault of ours; the log has the chain.
    Fault,
}

/// A status whose code no doorward service sends: it came from the transport below.
#[cfg(feature = "grpc")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unstated;

#[cfg(feature = "grpc")]
impl Reason {
    /// The gRPC status that carries this reason with a sentence that is safe to show.
    pub fn to_wire(self, sentence: impl Into<String>) -> tonic::Status {
        let code = match self {
            Self::BadRequest => tonic::Code::InvalidArgument,
            Self::Unauthenticated => tonic::Code::Unauthenticated,
            Self::Forbidden => tonic::Code::PermissionDenied,
            Self::NotFound => tonic::Code::NotFound,
            Self::TooMany => tonic::Code::ResourceExhausted,
            Self::TimedOut => tonic::Code::DeadlineExceeded,
            Self::Unavailable => tonic::Code::Unavailable,
            Self::Fault => tonic::Code::Internal,
        };
        tonic::Status::new(code, sentence)
    }

    /// The reason that a status carries.
    ///
    /// # Errors
    /// [`Unstated`] for codes that only the transport makes.
    pub fn from_wire(status: &tonic::Status) -> Result<Self, Unstated> {
        Ok(match status.code() {
            tonic::Code::InvalidArgument => Self::BadRequest,
            tonic::Code::Unauthenticated => Self::Unauthenticated,
            tonic::Code::PermissionDenied => Self::Forbidden,
            tonic::Code::NotFound => Self::NotFound,
            tonic::Code::ResourceExhausted => Self::TooMany,
            // tonic's own server timeout says Cancelled.
            tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => Self::TimedOut,
            tonic::Code::Unavailable => Self::Unavailable,
            tonic::Code::Internal => Self::Fault,
            tonic::Code::Ok
            | tonic::Code::Unknown
            | tonic::Code::AlreadyExists
            | tonic::Code::FailedPrecondition
            | tonic::Code::Aborted
            | tonic::Code::OutOfRange
            | tonic::Code::Unimplemented
            | tonic::Code::DataLoss => return Err(Unstated),
        })
    }
}

#[cfg(all(test, feature = "grpc"))]
mod tests {
    use super::*;

    #[test]
    fn a_reason_survives_the_wire() {
        for reason in [
            Reason::BadRequest,
            Reason::Unauthenticated,
            Reason::Forbidden,
            Reason::NotFound,
            Reason::TooMany,
            Reason::TimedOut,
            Reason::Unavailable,
            Reason::Fault,
        ] {
            assert_eq!(Reason::from_wire(&reason.to_wire("x")), Ok(reason));
        }
    }
}
