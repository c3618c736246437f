//! certd
