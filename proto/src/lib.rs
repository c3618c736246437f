//! Every message that crosses a process boundary, and the reasons that failures are mapped to.
//!
//! The sources are `doorward/<service>/v1/*.proto`; the code below `generated/` is committed and
//! compared with them by a test. Wire types stop at each program's edge.

pub mod acl;
mod reason;
mod redact;

pub use reason::Reason;
#[cfg(feature = "grpc")]
pub use reason::Unstated;

/// The descriptors of all services, encoded (google.protobuf.FileDescriptorSet).
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

/// The largest packet between authd and the PAM worker, in bytes.
pub const PAM_PACKET_MAX: usize = 4096;

/// The largest packet on authd's peer socket, in bytes.
pub const PEER_PACKET_MAX: usize = 512;

/// The longest identity assertion, in bytes.
pub const ASSERTION_MAX: usize = 16 * 1024;

/// The longest JWT that a client logs in by, in bytes: with the message around it, it fits the 8 KiB that a message may
/// have before a login.
pub const LOGIN_JWT_MAX: usize = 8_000;

/// authd's services.
pub mod authd {
    /// Version 1.
    pub mod v1 {
        #![allow(missing_docs, unreachable_pub, clippy::all)]
        include!("generated/doorward.authd.v1.rs");
    }
}

/// What plug-in authenticators answer.
pub mod authenticator {
    /// Version 1.
    pub mod v1 {
        #![allow(missing_docs, unreachable_pub, clippy::all)]
        include!("generated/doorward.authenticator.v1.rs");
    }
}

/// What handlers of channels answer.
pub mod channel {
    /// Version 1.
    pub mod v1 {
        #![allow(missing_docs, unreachable_pub, clippy::all)]
        include!("generated/doorward.channel.v1.rs");
    }
}

/// certd's services.
pub mod certd {
    /// Version 1.
    pub mod v1 {
        #![allow(missing_docs, unreachable_pub, clippy::all)]
        include!("generated/doorward.certd.v1.rs");
    }
}

/// Messages between authd and the PAM worker.
pub mod pam {
    /// Version 1.
    pub mod v1 {
        #![allow(missing_docs, unreachable_pub, clippy::all)]
        include!("generated/doorward.pam.v1.rs");
    }
}

/// What subsystems answer.
pub mod subsystem {
    /// Version 1.
    pub mod v1 {
        #![allow(missing_docs, unreachable_pub, clippy::all)]
        include!("generated/doorward.subsystem.v1.rs");
    }
}
