//! PAM declarations.
