//! What the rows that sessions may call are for, in a line each: for `rpc/describe`.

use super::Handler;

/// Of a row as a whole. Empty for rows that are described to nobody.
pub(super) fn of_row(handler: Handler) -> &'static str {
    match handler {
        Handler::Query => "What is up and may be used",
        Handler::Settings => "Registered keys",
        Handler::Sessions => "Sessions that live now",
        Handler::Logs => "Audit records",
        Handler::Describe => "What there is to call of a row or a subsystem",
        Handler::Cancel => "Ends calls to subsystems that are under way on this connection",
        Handler::Subscribe => "Events, from now on",
        Handler::Unsubscribe => "Events no more",
        Handler::Identify
        | Handler::Auth
        | Handler::AuthRespond
        | Handler::AuthToken
        | Handler::AuthSsl
        | Handler::AuthClear => "",
    }
}

/// Of one action; a row that has none of its own has one line.
pub(super) fn of(handler: Handler, action: &str) -> &'static str {
    match (handler, action) {
        (Handler::Settings, "list_ssl_certs") => "Own keys; everybody's with full access",
        (Handler::Settings, "list_ssl_checksums") => "Checksums of the same keys, for old clients",
        (Handler::Settings, "register_challenge") => {
            "A text to be signed with a key that is to be registered"
        }
        (Handler::Settings, "register_ssl_cert") => "Registers a key for logins",
        (Handler::Settings, "revoke_ssl_cert") => "Revokes a key and ends the sessions that it opened",
        (Handler::Sessions, "list") => "Own sessions; everybody's with full access",
        (Handler::Sessions, "end") => "Ends a session",
        (Handler::Sessions, "end_others") => "Ends all other sessions of the same user",
        (Handler::Logs, "read_logs") => "Own records by time, the oldest first; everybody's with full access",
        (_, "_") => of_row(handler),
        _ => "",
    }
}
