//! The messages of one conversation call, recorded before pam-client sees them one by one.

use core::ffi::{c_char, c_int, c_void};
use std::cell::RefCell;

use crate::{
    PAM_CONV_ERR, PAM_ERROR_MSG, PAM_MAX_NUM_MSG, PAM_PROMPT_ECHO_OFF, PAM_PROMPT_ECHO_ON, PAM_TEXT_INFO,
    pam_conv, pam_message, pam_response,
};

/// The most bytes of a message's text that are recorded: what PAM's headers call the maximum.
pub const TEXT_MAX: usize = crate::PAM_MAX_MSG_SIZE as usize;

/// What a message is for. The other styles of Linux-PAM (radio, binary) are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A question; the answer is not echoed.
    Hidden,
    /// A question; the answer is echoed.
    Visible,
    /// Text to be shown.
    Info,
    /// An error to be shown.
    Error,
}

/// One message of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub style: Style,
    /// Its text, cut at [`TEXT_MAX`] bytes, what is not UTF-8 replaced.
    pub text: String,
}

thread_local! {
    static ROUND: RefCell<Option<Vec<Message>>> = const { RefCell::new(None) };
}

/// The messages of the conversation call that is going on; once per call.
///
/// A conversation handler asks in each of its functions: `Some` means that a new call has begun and
/// that this is its first message, `None` that the call goes on.
pub fn take_round() -> Option<Vec<Message>> {
    ROUND.take()
}

/// The conversation function that libpam gets in place of the caller's, with a `pam_conv` of the
/// caller's as its data.
///
/// # Safety
/// For libpam only: `msg` must lead to `num_msg` messages with texts that end in NUL or are null,
/// `appdata_ptr` to a `pam_conv` that nobody changes, and its function must be callable with its data.
pub(crate) unsafe extern "C" fn record_and_forward(
    num_msg: c_int,
    msg: *mut *const pam_message,
    resp: *mut *mut pam_response,
    appdata_ptr: *mut c_void,
) -> c_int {
    if msg.is_null() || resp.is_null() || appdata_ptr.is_null() {
        return PAM_CONV_ERR;
    }
    // Null in every case but success: a module that looks at it nevertheless finds no garbage.
    // SAFETY: not null, and libpam's contract makes it a place for one pointer.
    unsafe { *resp = core::ptr::null_mut() };
    // SAFETY: the caller's promise, the number is checked there.
    let Some(round) = (unsafe { read_messages(num_msg, msg) }) else {
        return PAM_CONV_ERR;
    };
    // SAFETY: `start` put a pointer to a leaked `pam_conv` here, which stays and does not change.
    let inner = unsafe { *appdata_ptr.cast::<pam_conv>() };
    let Some(function) = inner.conv else {
        return PAM_CONV_ERR;
    };
    ROUND.replace(Some(round));
    // SAFETY: the same arguments that libpam gave, with the data that belongs to this function.
    let code = unsafe { function(num_msg, msg, resp, inner.appdata_ptr) };
    // A handler that never asked must not find this round in the next call.
    ROUND.take();
    code
}

/// `None` for a call that this program does not take part in: none or too many messages, or a style
/// that is not text. In particular binary messages never reach pam-client, which trusts their length.
///
/// # Safety
/// As for [`record_and_forward`]; `msg` is not null.
unsafe fn read_messages(num_msg: c_int, msg: *mut *const pam_message) -> Option<Vec<Message>> {
    let count = usize::try_from(num_msg).ok().filter(|_| (1..=PAM_MAX_NUM_MSG).contains(&num_msg))?;
    (0..count)
        .map(|i| {
            // SAFETY: both systems pass an array of `num_msg` pointers; `i` is below that.
            let message = unsafe { (*msg.add(i)).as_ref() }?;
            let style = match message.msg_style {
                PAM_PROMPT_ECHO_OFF => Style::Hidden,
                PAM_PROMPT_ECHO_ON => Style::Visible,
                PAM_TEXT_INFO => Style::Info,
                PAM_ERROR_MSG => Style::Error,
                _ => return None,
            };
            // SAFETY: the styles above have texts that end in NUL, or none.
            Some(Message { style, text: unsafe { read_text(message.msg) } })
        })
        .collect()
}

/// # Safety
/// `text` is null or leads to bytes that end in NUL.
unsafe fn read_text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    let bytes: Vec<u8> = (0..TEXT_MAX)
        // SAFETY: `take_while` stops at the NUL, so no byte behind it is read.
        .map(|i| unsafe { *text.add(i) } as u8)
        .take_while(|&byte| byte != 0)
        .collect();
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    // Each replacement character is longer than the byte that it stands for.
    while text.len() > TEXT_MAX {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use core::ffi::CStr;

    use super::*;

    /// Calls the recorder as a module would; the inner function notes what `take_round` gave.
    fn call(messages: &[(c_int, &CStr)], num_msg: c_int) -> (c_int, Vec<Option<Vec<Message>>>) {
        unsafe extern "C" fn inner(
            num_msg: c_int,
            _: *mut *const pam_message,
            _: *mut *mut pam_response,
            seen: *mut c_void,
        ) -> c_int {
            // SAFETY: `call` passes its own vector, and nothing else uses it meanwhile.
            let seen = unsafe { &mut *seen.cast::<Vec<Option<Vec<Message>>>>() };
            for _ in 0..num_msg {
                seen.push(take_round());
            }
            crate::PAM_SUCCESS
        }
        let mut seen: Vec<Option<Vec<Message>>> = Vec::new();
        let conv = pam_conv { conv: Some(inner), appdata_ptr: (&raw mut seen).cast() };
        let structs: Vec<pam_message> = messages
            .iter()
            .map(|(style, text)| pam_message { msg_style: *style, msg: text.as_ptr() })
            .collect();
        let mut pointers: Vec<*const pam_message> = structs.iter().map(core::ptr::from_ref).collect();
        let mut responses = core::ptr::null_mut();
        // SAFETY: everything outlives the call, and there are as many messages as said.
        let code = unsafe {
            record_and_forward(
                num_msg,
                pointers.as_mut_ptr(),
                &mut responses,
                (&raw const conv).cast_mut().cast(),
            )
        };
        assert!(responses.is_null());
        (code, seen)
    }

    #[test]
    fn the_whole_call_is_seen_at_its_first_message() {
        let (code, seen) = call(
            &[
                (PAM_PROMPT_ECHO_OFF, c"Password: "),
                (PAM_PROMPT_ECHO_ON, c"Code: "),
                (PAM_TEXT_INFO, c"text"),
                (PAM_ERROR_MSG, c"error"),
            ],
            4,
        );
        assert_eq!(code, crate::PAM_SUCCESS);
        let first = seen[0].as_ref().expect("the first message opens the round");
        let styles: Vec<Style> = first.iter().map(|message| message.style).collect();
        assert_eq!(styles, [Style::Hidden, Style::Visible, Style::Info, Style::Error]);
        assert_eq!(first[1].text, "Code: ");
        assert!(seen[1..].iter().all(Option::is_none));
        assert_eq!(take_round(), None);
    }

    #[test]
    fn numbers_of_messages_from_1_to_32_are_accepted() {
        let many = [(PAM_TEXT_INFO, c"x"); 33];
        for (count, expected) in [(0, PAM_CONV_ERR), (-1, PAM_CONV_ERR), (1, 0), (32, 0), (33, PAM_CONV_ERR)]
        {
            assert_eq!(call(&many, count).0, expected, "{count} messages");
        }
    }

    #[test]
    fn other_styles_are_refused_before_the_handler_sees_them() {
        for style in [0, 5, 7, 99] {
            let (code, seen) = call(&[(PAM_TEXT_INFO, c"x"), (style, c"\xff\xff\xff\xff")], 2);
            assert_eq!(code, PAM_CONV_ERR);
            assert_eq!(seen, []);
        }
    }

    #[test]
    fn long_and_broken_texts_are_cut_and_mended() {
        let long = std::ffi::CString::new(vec![b'x'; 2000]).expect("no NUL in it");
        let broken = std::ffi::CString::new(vec![0xff; 600]).expect("no NUL in it");
        let (_, seen) = call(&[(PAM_TEXT_INFO, &long), (PAM_TEXT_INFO, &broken)], 2);
        let round = seen[0].as_ref().expect("a round");
        assert_eq!(round[0].text.len(), TEXT_MAX);
        assert!(round[1].text.len() <= TEXT_MAX && round[1].text.starts_with('\u{fffd}'));
    }

    #[test]
    fn a_message_without_text_is_an_empty_text() {
        // SAFETY: null is what the function documents.
        assert_eq!(unsafe { read_text(core::ptr::null()) }, "");
    }
}
