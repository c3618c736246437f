//! PAM itself: which calls, in which order, and what their codes mean.

use std::rc::Rc;

use doorward_proto::pam::v1 as wire;
use pam_client::{Context, ErrorCode, Flag};

use crate::packet::Connection;
use crate::process::Log;
use crate::request::{Request, Task};
use crate::rounds::Rounds;
use crate::service::Stacks;

/// How often an expired password may be tried to be changed.
const CHANGES: u32 = 3;

/// One conversation. Ends PAM before it returns, so that whatever modules do at their end is done when
/// authd acts on the verdict.
pub(crate) fn run(
    service: &str,
    stacks: Stacks,
    request: &Request,
    connection: &Rc<Connection>,
    log: &Log,
) -> wire::Verdict {
    let mut user = String::new();
    let result = match Context::new(service, Some(&request.user), Rounds::new(Rc::clone(connection))) {
        Ok(mut context) => {
            let outcome = steps(&mut context, stacks, request, &mut user);
            // Whatever PAM made of it, a peer that broke the protocol gets no success.
            if context.conversation().broken() { Err(wire::Result::Protocol) } else { outcome }
        }
        Err(error) => Err(meaning(error.code())),
    };
    let result = match result {
        Ok(()) => wire::Result::Success,
        Err(result) => result,
    };
    if result == wire::Result::Fault {
        log.line("PAM or a module failed; its own log says more");
    }
    let delay = pam_sys::fail_delay_requested().unwrap_or_default();
    wire::Verdict {
        result: result.into(),
        user,
        fail_delay_us: u64::try_from(delay.as_micros()).unwrap_or(u64::MAX),
    }
}

fn steps(
    context: &mut Context<Rounds>,
    stacks: Stacks,
    request: &Request,
    user: &mut String,
) -> Result<(), wire::Result> {
    let fault = |_| wire::Result::Fault;
    if let Some(address) = request.rhost {
        context.set_rhost(Some(&address.to_string())).map_err(fault)?;
    }
    // Only what is there: pam-client dereferences the null pointer that it would pass for `None`.
    if let Some(tty) = &request.tty {
        context.set_tty(Some(tty)).map_err(fault)?;
    }
    if request.task == Task::Login {
        context.authenticate(Flag::DISALLOW_NULL_AUTHTOK).map_err(|error| meaning(error.code()))?;
        // Before account management and before a password is changed: both are the user's own.
        same_user(context, request, user)?;
    }
    // authd asks such rounds of those alone who may log in: others could try passwords by them.
    context.conversation_mut().set_authenticated();
    match context.acct_mgmt(Flag::DISALLOW_NULL_AUTHTOK) {
        Ok(()) => {}
        Err(error) if error.code() == ErrorCode::NEW_AUTHTOK_REQD && request.task == Task::Login => {
            same_user(context, request, user)?;
            change_password(context, stacks)?;
            context.acct_mgmt(Flag::DISALLOW_NULL_AUTHTOK).map_err(|error| meaning(error.code()))?;
        }
        Err(error) => return Err(meaning(error.code())),
    }
    same_user(context, request, user)
}

/// Reads PAM_USER, after successes only: libpam is told the last code when PAM ends, and this call's
/// would hide a failure.
fn same_user(context: &Context<Rounds>, request: &Request, user: &mut String) -> Result<(), wire::Result> {
    *user = context.user().map_err(|_| wire::Result::UserChanged)?;
    if *user == request.user {
        return Ok(());
    }
    while user.len() > 256 {
        user.pop();
    }
    Err(wire::Result::UserChanged)
}

/// Up to three tries. Another try makes sense only where the new password was the trouble.
fn change_password(context: &mut Context<Rounds>, stacks: Stacks) -> Result<(), wire::Result> {
    if !stacks.password {
        return Err(wire::Result::PasswordExpired);
    }
    for _ in 0..CHANGES {
        let Err(error) = context.chauthtok(Flag::CHANGE_EXPIRED_AUTHTOK) else {
            return Ok(());
        };
        // A broken conversation gives module errors; asking again would never be answered.
        let again = pam_sys::asked_to_try_again() || error.code() == ErrorCode::AUTHTOK_ERR;
        if !again || context.conversation().broken() {
            break;
        }
    }
    Err(wire::Result::PasswordExpired)
}

/// What a code other than success means. No catch-all: a code that is new in pam-client must be thought about.
fn meaning(code: ErrorCode) -> wire::Result {
    match code {
        // OpenPAM returns AUTH_ERR where Linux-PAM returns USER_UNKNOWN; all of these mean denied.
        ErrorCode::AUTH_ERR
        | ErrorCode::USER_UNKNOWN
        | ErrorCode::PERM_DENIED
        | ErrorCode::MAXTRIES
        | ErrorCode::ACCT_EXPIRED
        | ErrorCode::CRED_EXPIRED
        | ErrorCode::AUTHTOK_EXPIRED => wire::Result::Denied,
        ErrorCode::NEW_AUTHTOK_REQD => wire::Result::PasswordExpired,
        // ABORT stands for codes that pam-client does not know, too.
        ErrorCode::OPEN_ERR
        | ErrorCode::SYMBOL_ERR
        | ErrorCode::SERVICE_ERR
        | ErrorCode::SYSTEM_ERR
        | ErrorCode::BUF_ERR
        | ErrorCode::CRED_INSUFFICIENT
        | ErrorCode::AUTHINFO_UNAVAIL
        | ErrorCode::SESSION_ERR
        | ErrorCode::CRED_UNAVAIL
        | ErrorCode::CRED_ERR
        | ErrorCode::CONV_ERR
        | ErrorCode::AUTHTOK_ERR
        | ErrorCode::AUTHTOK_RECOVERY_ERR
        | ErrorCode::AUTHTOK_LOCK_BUSY
        | ErrorCode::AUTHTOK_DISABLE_AGING
        | ErrorCode::ABORT
        | ErrorCode::MODULE_UNKNOWN
        | ErrorCode::BAD_ITEM
        | ErrorCode::CONV_AGAIN
        | ErrorCode::INCOMPLETE => wire::Result::Fault,
    }
}
