//! How much of everything: what the contract says, and what keeps one subsystem within its host.

use std::time::Duration;

/// The args of a call, in bytes.
pub const ARGS_MAX: usize = 128 << 10;
/// A result, in bytes.
pub const RESULT_MAX: usize = 1 << 20;
/// One message of progress, in bytes.
pub const PROGRESS_MAX: usize = 64 << 10;
/// The args of an event, in bytes.
pub const EVENT_MAX: usize = 64 << 10;
/// A JSON Schema, in bytes.
pub const SCHEMA_MAX: usize = 16 << 10;
/// Actions of one subsystem, and events.
pub const ACTIONS_MAX: usize = 256;
/// A whole description, in bytes: the gateway reads no longer one.
pub const DESCRIPTION_MAX: usize = 128 << 10;
/// A text for people, in characters.
pub const TEXT_MAX: usize = 200;
/// The largest request: args, an assertion, and some air.
pub const REQUEST_MAX: usize = ARGS_MAX + doorward_assertion::JWT_MAX + (4 << 10);
/// How deep a result may be nested.
pub const DEPTH_MAX: usize = 64;

/// Calls under way at a time.
pub const CALLS_MAX: usize = 256;
/// Those of one user.
pub const CALLS_BY_ONE: usize = CALLS_MAX / 4;
/// However long a caller is ready to wait.
pub const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Progress that the gateway has not taken yet.
pub const PROGRESS_QUEUE: usize = 16;
/// Events that the gateway has not taken yet: their number, and their bytes.
pub const EVENTS_QUEUE: usize = 4_096;
/// See above.
pub const EVENTS_QUEUE_BYTES: usize = 8 << 20;

/// Assertions that were used for a write and are still valid: of all users, and of one.
pub const USED_MAX: usize = 10_000;
/// See above.
pub const USED_BY_ONE: usize = 2_500;
