//! peercred
