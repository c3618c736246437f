//! Debug for the messages that carry secrets: the type's name and nothing of its content.
//!
//! Enclosing messages derive Debug and so print `[redacted]` for these. Which they are is listed in
//! `tests/generated.rs`.

use std::fmt;

macro_rules! redacted {
    ($($message:ty),* $(,)?) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), " [redacted]"))
            }
        }
    )*};
}

include!("generated/redacted.rs");
