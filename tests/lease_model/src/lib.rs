//! The lease protocol as a model, explored to its last state.
//!
//! `docs/architecture.md` says why each rule of the protocol is there. Here they are proved to
//! suffice, and each to be needed: the checker walks through every order in which the protocol's
//! steps can happen, at two servers and with three requests, and looks after each step whether more
//! was charged under cover than the account had. With all of `rules::Rules` it finds no such order;
//! without any one of them it finds one. (Without the refusal of a server that was removed, what it
//! finds is a lease that nobody would ever give back.)
//!
//! All steps in one space would be too many states, so each scene of `scenes` has those that can
//! get in each other's way, and is explored to the end: reserving, renewing, settling at the issuer
//! and elsewhere, late commits and late answers are in all of them. What no scene has: time going
//! on while callers cancel, extensions at a server that dies, both servers dying. Amounts are 1 and
//! 2; time has three or four moments.
//!
//! | scene | what can happen besides | states |
//! |---|---|---|
//! | settlement | cancellations, two postings of one request | 590,000 |
//! | overruns | charges below and above what was authorized | 57,000 |
//! | expiry | time, lapsing by a clock that may be fast | 1,376,000 |
//! | recall | giving back what is free | 20,000 |
//! | strays | that, and renewals given up on that take effect later | 438,000 |
//! | extension | time, raising at the issuer and elsewhere | 1,599,000 |
//! | deaths | time, a server that crashes, or falls silent, is removed and comes back | 202,000 |
//!
//! What the model leaves out is what the protocol does not rest on: how much a server asks for, how
//! promptly it asks, and what it does with an answer that came too late but to drop it.

#[cfg(test)]
mod model;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod scenes;
#[cfg(test)]
mod state;
