//! Messages of either side, one by one.
