//! `pam_start` and `pam_chauthtok` with what this program adds to them.

use core::ffi::{c_char, c_int};
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use core::time::Duration;

use crate::round::record_and_forward;
use crate::{PAM_SUCCESS, PAM_SYSTEM_ERR, PAM_TRY_AGAIN, pam_conv, pam_handle_t};

mod real {
    use super::{c_char, c_int, pam_conv, pam_handle_t};

    unsafe extern "C" {
        pub(super) fn pam_start(
            service_name: *const c_char,
            user: *const c_char,
            pam_conversation: *const pam_conv,
            pamh: *mut *mut pam_handle_t,
        ) -> c_int;
        #[cfg(all(feature = "confdir", target_os = "linux"))]
        pub(super) fn pam_start_confdir(
            service_name: *const c_char,
            user: *const c_char,
            pam_conversation: *const pam_conv,
            confdir: *const c_char,
            pamh: *mut *mut pam_handle_t,
        ) -> c_int;
        pub(super) fn pam_chauthtok(pamh: *mut pam_handle_t, flags: c_int) -> c_int;
    }
}

/// Microseconds; 0 means that nobody asked.
static FAIL_DELAY: AtomicU32 = AtomicU32::new(0);
static LAST_CHAUTHTOK: AtomicI32 = AtomicI32::new(PAM_SUCCESS);

/// The longest delay that a module asked for after a failure, since [`pam_start`].
///
/// `None` where nobody asked, and always on OpenPAM, whose modules sleep by themselves.
pub fn fail_delay_requested() -> Option<Duration> {
    match FAIL_DELAY.load(Ordering::Relaxed) {
        0 => None,
        microseconds => Some(Duration::from_micros(microseconds.into())),
    }
}

/// Whether the last [`pam_chauthtok`] ended with `PAM_TRY_AGAIN`.
pub fn asked_to_try_again() -> bool {
    LAST_CHAUTHTOK.load(Ordering::Relaxed) == PAM_TRY_AGAIN
}

/// libpam's `pam_start`; the conversation is recorded for [`crate::take_round`], and delays after a
/// failure are recorded in place of being slept.
///
/// # Safety
/// As for libpam's: the strings end in NUL (`user` may be null), `pamh` is a place for a pointer, and
/// the function in `pam_conversation` may be called with its data until `pam_end`.
pub unsafe fn pam_start(
    service_name: *const c_char,
    user: *const c_char,
    pam_conversation: *const pam_conv,
    pamh: *mut *mut pam_handle_t,
) -> c_int {
    // SAFETY: null or, by the caller's promise, a valid struct.
    let Some(conversation) = (unsafe { pam_conversation.as_ref() }) else {
        return PAM_SYSTEM_ERR;
    };
    FAIL_DELAY.store(0, Ordering::Relaxed);
    LAST_CHAUTHTOK.store(PAM_SUCCESS, Ordering::Relaxed);
    let inner = Box::into_raw(Box::new(*conversation));
    let outer = pam_conv { conv: Some(record_and_forward), appdata_ptr: inner.cast() };
    // SAFETY: the caller's arguments; libpam copies `outer`. `inner` stays allocated for ever when
    // this succeeds: 16 bytes, once in a process, and no guess about when modules stop using it.
    let code = unsafe { start(service_name, user, &outer, pamh) };
    if code != PAM_SUCCESS {
        // SAFETY: made by Box::into_raw above; after a failed start libpam has no transaction
        // through which it could still call the conversation.
        drop(unsafe { Box::from_raw(inner) });
        return code;
    }
    // SAFETY: a successful start filled `pamh` with a handle.
    unsafe { record_delays(pamh) }
}

#[cfg(not(all(feature = "confdir", target_os = "linux")))]
use real::pam_start as start;

#[cfg(all(feature = "confdir", target_os = "linux"))]
static SERVICE_DIRECTORY: std::sync::OnceLock<std::ffi::CString> = std::sync::OnceLock::new();

/// Test builds only: from now on [`pam_start`] reads service files from this directory.
#[cfg(all(feature = "confdir", target_os = "linux"))]
pub fn use_service_directory(directory: std::ffi::CString) {
    // The first call counts; a process has one conversation.
    let _ = SERVICE_DIRECTORY.set(directory);
}

#[cfg(all(feature = "confdir", target_os = "linux"))]
unsafe fn start(
    service_name: *const c_char,
    user: *const c_char,
    conversation: *const pam_conv,
    pamh: *mut *mut pam_handle_t,
) -> c_int {
    match SERVICE_DIRECTORY.get() {
        // SAFETY: the caller's arguments, and a string that lives as long as the process.
        Some(directory) => unsafe {
            real::pam_start_confdir(service_name, user, conversation, directory.as_ptr(), pamh)
        },
        // SAFETY: the caller's arguments.
        None => unsafe { real::pam_start(service_name, user, conversation, pamh) },
    }
}

#[cfg(target_os = "linux")]
unsafe fn record_delays(pamh: *mut *mut pam_handle_t) -> c_int {
    use core::ffi::{c_uint, c_void};

    /// Called by Linux-PAM at the end of authentication, after a success too.
    extern "C" fn record(status: c_int, microseconds: c_uint, _appdata: *mut c_void) {
        if status != PAM_SUCCESS {
            FAIL_DELAY.fetch_max(microseconds, Ordering::Relaxed);
        }
    }
    let callback: extern "C" fn(c_int, c_uint, *mut c_void) = record;
    // SAFETY: a handle of a successful start; the item is a function of the type that Linux-PAM
    // documents for it, and functions stay.
    let code = unsafe { crate::pam_set_item(*pamh, crate::PAM_FAIL_DELAY, callback as *const c_void) };
    if code != PAM_SUCCESS {
        // Without the callback every failure would hold a process for seconds: no conversation then.
        // SAFETY: the handle is ended once and not used afterwards, since the caller gets null.
        unsafe {
            crate::pam_end(*pamh, code);
            *pamh = core::ptr::null_mut();
        }
    }
    code
}

#[cfg(target_os = "freebsd")]
unsafe fn record_delays(_pamh: *mut *mut pam_handle_t) -> c_int {
    PAM_SUCCESS
}

/// libpam's `pam_chauthtok`; its code is kept for [`asked_to_try_again`].
///
/// # Safety
/// `pamh` is a handle of a successful [`pam_start`] that has not ended.
pub unsafe fn pam_chauthtok(pamh: *mut pam_handle_t, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    let code = unsafe { real::pam_chauthtok(pamh, flags) };
    LAST_CHAUTHTOK.store(code, Ordering::Relaxed);
    code
}
