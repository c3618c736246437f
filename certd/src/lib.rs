//! certd
pub mod acl;
pub mod assertion;
pub mod challenge;
pub mod import_sysadm;
pub mod key;
pub mod pem;
pub mod proof;
pub mod registry;
pub mod rights;
pub mod x509;

#[cfg(test)]
#[path = "../tests/certd/openssl.rs"]
mod openssl;
