//! Constants, per system.
//!
//! Linux-PAM and OpenPAM number errors, items and flags differently, and OpenPAM's flags overlap, so
//! none of these may leave the process. On Linux a test compares them with the C header.
#![allow(missing_docs)]

use core::ffi::c_int;

/// Declares the constants, and lists them for the comparison with the C header.
macro_rules! constants {
    ($($name:ident = $value:expr),* $(,)?) => {
        $(pub const $name: c_int = $value;)*
        /// Every constant by its name in the C header.
        pub const CONSTANTS: &[(&str, c_int)] = &[$((stringify!($name), $name)),*];
    };
}

#[cfg(target_os = "linux")]
constants! {
    PAM_SUCCESS = 0,
    PAM_OPEN_ERR = 1,
    PAM_SYMBOL_ERR = 2,
    PAM_SERVICE_ERR = 3,
    PAM_SYSTEM_ERR = 4,
    PAM_BUF_ERR = 5,
    PAM_PERM_DENIED = 6,
    PAM_AUTH_ERR = 7,
    PAM_CRED_INSUFFICIENT = 8,
    PAM_AUTHINFO_UNAVAIL = 9,
    PAM_USER_UNKNOWN = 10,
    PAM_MAXTRIES = 11,
    PAM_NEW_AUTHTOK_REQD = 12,
    PAM_ACCT_EXPIRED = 13,
    PAM_SESSION_ERR = 14,
    PAM_CRED_UNAVAIL = 15,
    PAM_CRED_EXPIRED = 16,
    PAM_CRED_ERR = 17,
    PAM_NO_MODULE_DATA = 18,
    PAM_CONV_ERR = 19,
    PAM_AUTHTOK_ERR = 20,
    PAM_AUTHTOK_RECOVERY_ERR = 21,
    PAM_AUTHTOK_LOCK_BUSY = 22,
    PAM_AUTHTOK_DISABLE_AGING = 23,
    PAM_TRY_AGAIN = 24,
    PAM_IGNORE = 25,
    PAM_ABORT = 26,
    PAM_AUTHTOK_EXPIRED = 27,
    PAM_MODULE_UNKNOWN = 28,
    PAM_BAD_ITEM = 29,
    PAM_CONV_AGAIN = 30,
    PAM_INCOMPLETE = 31,

    PAM_PROMPT_ECHO_OFF = 1,
    PAM_PROMPT_ECHO_ON = 2,
    PAM_ERROR_MSG = 3,
    PAM_TEXT_INFO = 4,
    PAM_RADIO_TYPE = 5,
    PAM_BINARY_PROMPT = 7,
    PAM_MAX_NUM_MSG = 32,
    PAM_MAX_MSG_SIZE = 512,
    PAM_MAX_RESP_SIZE = 512,

    PAM_SILENT = 0x8000,
    PAM_DISALLOW_NULL_AUTHTOK = 0x1,
    PAM_ESTABLISH_CRED = 0x2,
    PAM_DELETE_CRED = 0x4,
    PAM_REINITIALIZE_CRED = 0x8,
    PAM_REFRESH_CRED = 0x10,
    PAM_CHANGE_EXPIRED_AUTHTOK = 0x20,

    PAM_SERVICE = 1,
    PAM_USER = 2,
    PAM_TTY = 3,
    PAM_RHOST = 4,
    PAM_CONV = 5,
    PAM_AUTHTOK = 6,
    PAM_OLDAUTHTOK = 7,
    PAM_RUSER = 8,
    PAM_USER_PROMPT = 9,
    PAM_FAIL_DELAY = 10,
    PAM_XDISPLAY = 11,
    PAM_XAUTHDATA = 12,
    PAM_AUTHTOK_TYPE = 13,
}

#[cfg(target_os = "freebsd")]
constants! {
    PAM_SUCCESS = 0,
    PAM_OPEN_ERR = 1,
    PAM_SYMBOL_ERR = 2,
    PAM_SERVICE_ERR = 3,
    PAM_SYSTEM_ERR = 4,
    PAM_BUF_ERR = 5,
    PAM_CONV_ERR = 6,
    PAM_PERM_DENIED = 7,
    PAM_MAXTRIES = 8,
    PAM_AUTH_ERR = 9,
    PAM_NEW_AUTHTOK_REQD = 10,
    PAM_CRED_INSUFFICIENT = 11,
    PAM_AUTHINFO_UNAVAIL = 12,
    PAM_USER_UNKNOWN = 13,
    PAM_CRED_UNAVAIL = 14,
    PAM_CRED_EXPIRED = 15,
    PAM_CRED_ERR = 16,
    PAM_ACCT_EXPIRED = 17,
    PAM_AUTHTOK_EXPIRED = 18,
    PAM_SESSION_ERR = 19,
    PAM_AUTHTOK_ERR = 20,
    PAM_AUTHTOK_RECOVERY_ERR = 21,
    PAM_AUTHTOK_LOCK_BUSY = 22,
    PAM_AUTHTOK_DISABLE_AGING = 23,
    PAM_NO_MODULE_DATA = 24,
    PAM_IGNORE = 25,
    PAM_ABORT = 26,
    PAM_TRY_AGAIN = 27,
    PAM_MODULE_UNKNOWN = 28,
    PAM_DOMAIN_UNKNOWN = 29,
    PAM_BAD_HANDLE = 30,
    PAM_BAD_ITEM = 31,
    PAM_BAD_FEATURE = 32,
    PAM_BAD_CONSTANT = 33,

    PAM_PROMPT_ECHO_OFF = 1,
    PAM_PROMPT_ECHO_ON = 2,
    PAM_ERROR_MSG = 3,
    PAM_TEXT_INFO = 4,
    PAM_MAX_NUM_MSG = 32,
    PAM_MAX_MSG_SIZE = 512,
    PAM_MAX_RESP_SIZE = 512,

    PAM_SILENT = c_int::MIN,
    PAM_DISALLOW_NULL_AUTHTOK = 0x1,
    PAM_ESTABLISH_CRED = 0x1,
    PAM_DELETE_CRED = 0x2,
    PAM_REINITIALIZE_CRED = 0x4,
    PAM_REFRESH_CRED = 0x8,
    PAM_CHANGE_EXPIRED_AUTHTOK = 0x4,

    PAM_SERVICE = 1,
    PAM_USER = 2,
    PAM_TTY = 3,
    PAM_RHOST = 4,
    PAM_CONV = 5,
    PAM_AUTHTOK = 6,
    PAM_OLDAUTHTOK = 7,
    PAM_RUSER = 8,
    PAM_USER_PROMPT = 9,
}

/// OpenPAM has no such error, but pam-client names it: a number that no call returns.
#[cfg(target_os = "freebsd")]
pub const PAM_CONV_AGAIN: c_int = 10_030;

/// As [`PAM_CONV_AGAIN`].
#[cfg(target_os = "freebsd")]
pub const PAM_INCOMPLETE: c_int = 10_031;
