//! What a run is.

use crate::mutation::Mutation;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Decides everything that chance decides.
    pub seed: u64,
    /// Requests and orders of clients.
    pub steps: u64,
    /// Whether each event is printed in words.
    pub trace: bool,
    /// The rule that this run does without.
    pub mutation: Option<Mutation>,
}

impl Options {
    pub const STEPS: u64 = 250;

    pub fn of(seed: u64) -> Self {
        Self { seed, steps: Self::STEPS, trace: false, mutation: None }
    }
}
