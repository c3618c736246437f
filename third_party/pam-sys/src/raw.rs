//! The C types and functions that both systems have in common.
#![allow(missing_docs)]
// The names are the C header's.
#![allow(non_camel_case_types)]

use core::ffi::{c_char, c_int, c_void};
use core::marker::{PhantomData, PhantomPinned};

/// A PAM transaction. Only libpam knows what is in it.
#[repr(C)]
pub struct pam_handle {
    _contents: [u8; 0],
    // Neither Send, Sync nor Unpin: nothing is known about what is behind it.
    _opaque: PhantomData<(*mut u8, PhantomPinned)>,
}

pub type pam_handle_t = pam_handle;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct pam_message {
    pub msg_style: c_int,
    pub msg: *const c_char,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct pam_response {
    pub resp: *mut c_char,
    pub resp_retcode: c_int,
}

// pam-client derives Debug for a buffer of these, and `resp` leads to a password.
impl core::fmt::Debug for pam_response {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("pam_response [redacted]")
    }
}

/// The type of a conversation function.
pub type conversation_function = unsafe extern "C" fn(
    num_msg: c_int,
    msg: *mut *const pam_message,
    resp: *mut *mut pam_response,
    appdata_ptr: *mut c_void,
) -> c_int;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct pam_conv {
    pub conv: Option<conversation_function>,
    pub appdata_ptr: *mut c_void,
}

unsafe extern "C" {
    pub fn pam_end(pamh: *mut pam_handle_t, pam_status: c_int) -> c_int;
    pub fn pam_set_item(pamh: *mut pam_handle_t, item_type: c_int, item: *const c_void) -> c_int;
    pub fn pam_get_item(pamh: *const pam_handle_t, item_type: c_int, item: *mut *const c_void) -> c_int;
    pub fn pam_strerror(pamh: *mut pam_handle_t, errnum: c_int) -> *const c_char;
    pub fn pam_putenv(pamh: *mut pam_handle_t, name_value: *const c_char) -> c_int;
    pub fn pam_getenv(pamh: *mut pam_handle_t, name: *const c_char) -> *const c_char;
    pub fn pam_getenvlist(pamh: *mut pam_handle_t) -> *mut *mut c_char;
    pub fn pam_authenticate(pamh: *mut pam_handle_t, flags: c_int) -> c_int;
    pub fn pam_setcred(pamh: *mut pam_handle_t, flags: c_int) -> c_int;
    pub fn pam_acct_mgmt(pamh: *mut pam_handle_t, flags: c_int) -> c_int;
    pub fn pam_open_session(pamh: *mut pam_handle_t, flags: c_int) -> c_int;
    pub fn pam_close_session(pamh: *mut pam_handle_t, flags: c_int) -> c_int;
}
