//! What an operator sees from outside: logs, and the numbers behind `/metrics`.
//!
//! No secret reaches a log: nothing here or elsewhere logs headers, keys or tokens, and a filter
//! under all of it ([`scrub`]) strikes out what looks like one, whatever path it came by.

pub mod logs;
pub mod metrics;
pub mod scrub;
pub mod served;
