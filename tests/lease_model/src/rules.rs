//! What is explored: the protocol's rules, each of which can be switched off, and how much of it.

use crate::state::REQUESTS;

/// The rules of the protocol, each of which can be switched off.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// An expired reservation does not return to `free`; the lease shrinks by it instead.
    pub expired_is_not_free: bool,
    /// A cancellation returns its amount only after its event of charge zero is committed.
    pub cancel_after_commit: bool,
    /// A dead server's leases stay for as long as an authorization of it can live.
    pub dead_leases_stay: bool,
    /// What is given back is not used from the moment on at which that is decided.
    pub given_back_is_gone: bool,
    /// A posting's cover is judged by the database's time under the row's lock, and not by the
    /// time at which it was sent.
    pub posting_judged_under_lock: bool,
    /// Shrinking by what has expired is judged by the same time under the same lock, and not by the
    /// server's own idea of the time.
    pub shrinking_judged_under_lock: bool,
    /// A renewal has a sequence number; one that was overtaken is ignored.
    pub renewals_in_sequence: bool,
    /// A server authorizes only until its deadline.
    pub heartbeat_deadline: bool,
    /// A server that was removed for dead is refused when it renews.
    pub removed_is_refused: bool,
}

impl Rules {
    pub const ALL: Self = Self {
        expired_is_not_free: true,
        cancel_after_commit: true,
        dead_leases_stay: true,
        given_back_is_gone: true,
        posting_judged_under_lock: true,
        shrinking_judged_under_lock: true,
        renewals_in_sequence: true,
        heartbeat_deadline: true,
        removed_is_refused: true,
    };
}

/// A part of the protocol that is explored to the end: which steps there are, and how much.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    pub funds: i8,
    /// What each request's authorization holds.
    pub amounts: [u8; REQUESTS],
    /// How many postings each request's caller sends in all: usage, cancellation, a repetition.
    pub posts: [u8; REQUESTS],
    /// Whether postings can carry less, or more, than was authorized.
    pub other_charges: bool,
    pub cancels: bool,
    pub gives_back: bool,
    /// Whether a renewal can be given up on and take effect later.
    pub strays: bool,
    /// How many of the requests, from the first, can be extended, by one.
    pub extensions: usize,
    /// How many of the servers, from the first, can crash, or fall silent, be removed and come
    /// back; the others are heard of all the time.
    pub mortals: usize,
    /// By how much a server's idea of the time may be fast.
    pub fast: u8,
    /// The last moment.
    pub end: u8,
}
