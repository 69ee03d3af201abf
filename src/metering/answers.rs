//! How the answers of a batch get back to those who wait for them.
//!
//! A batch answers some hundred calls at once, and those wait on the few threads that serve calls.
//! Waking one call on another thread takes a system call, and a thread that is woken for the first
//! answer writes it out alone. So a thread that serves calls has a letter box: it is handed all of a
//! batch's answers at once, and passes them on itself. Whoever waits on a thread without one is
//! answered directly.

use std::{cell::RefCell, time::Instant};

use tokio::sync::{mpsc, oneshot};

use super::{error::MeteringError, event::Recorded};

/// What became of an event.
pub(super) type Answer = Result<Recorded, MeteringError>;

/// An answer and who waits for it.
type Letter = (oneshot::Sender<Answer>, Answer);

/// Bounded by the events that are queued: each is answered once.
type LetterBox = mpsc::UnboundedSender<Vec<Letter>>;

thread_local! {
    static LETTER_BOX: RefCell<Option<LetterBox>> = const { RefCell::new(None) };
}

/// Gives this thread a letter box and passes on what comes, for ever. For the runtime of a single
/// thread; dropped, it leaves the thread without one again.
pub async fn pass_on() {
    let (letter_box, mut letters) = mpsc::unbounded_channel();
    LETTER_BOX.set(Some(letter_box));
    let _taken_down = TakenDown;
    while let Some(batch) = letters.recv().await {
        batch.into_iter().for_each(deliver);
    }
}

struct TakenDown;

impl Drop for TakenDown {
    fn drop(&mut self) {
        LETTER_BOX.set(None);
    }
}

/// Where the answer to an event goes.
#[derive(Debug)]
pub(super) struct ReturnAddress {
    to: oneshot::Sender<Answer>,
    letter_box: Option<LetterBox>,
    /// From when it waits for its first batch; none once it was put back, for which others are to blame.
    pub(super) waits_since: Option<Instant>,
}

impl ReturnAddress {
    /// This thread, and where the answer will be.
    pub(super) fn here() -> (Self, oneshot::Receiver<Answer>) {
        let (to, answer) = oneshot::channel();
        let letter_box = LETTER_BOX.with_borrow(Clone::clone);
        (Self { to, letter_box, waits_since: Some(Instant::now()) }, answer)
    }

    /// Answers at once.
    pub(super) fn answer(self, answer: Answer) {
        deliver((self.to, answer));
    }
}

/// Whoever waited may be gone; what is recorded stays recorded.
fn deliver((to, answer): Letter) {
    drop(to.send(answer));
}

/// The answers of one batch, by where they go. Dropped, it sends them.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// One for each thread that serves calls.
    bundles: Vec<(LetterBox, Vec<Letter>)>,
}

impl Mail {
    pub(super) fn add(&mut self, address: ReturnAddress, answer: Answer) {
        let letter = (address.to, answer);
        let Some(letter_box) = address.letter_box else { return deliver(letter) };
        match self.bundles.iter_mut().find(|(other, _)| other.same_channel(&letter_box)) {
            Some((_, bundle)) => bundle.push(letter),
            None => self.bundles.push((letter_box, vec![letter])),
        }
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        for (letter_box, bundle) in self.bundles.drain(..) {
            // A thread that has ended has taken its letter box down.
            if let Err(mpsc::error::SendError(bundle)) = letter_box.send(bundle) {
                bundle.into_iter().for_each(deliver);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    fn stopping() -> Answer {
        Err(MeteringError::Stopping)
    }

    #[tokio::test]
    async fn a_thread_with_a_letter_box_passes_a_batch_on_and_one_without_is_answered_directly() {
        let (direct, directly) = ReturnAddress::here();
        let local = LocalSet::new();
        local
            .run_until(async {
                let passing_on = tokio::task::spawn_local(pass_on());
                tokio::task::yield_now().await;
                let (boxed, by_box) = ReturnAddress::here();
                let (late, too_late) = ReturnAddress::here();
                assert!(boxed.letter_box.is_some() && direct.letter_box.is_none());
                let mut mail = Mail::default();
                mail.add(boxed, stopping());
                mail.add(direct, stopping());
                assert!(directly.await.unwrap().is_err());
                drop(mail);
                assert!(by_box.await.unwrap().is_err());

                passing_on.abort();
                let _ = passing_on.await;
                assert!(ReturnAddress::here().0.letter_box.is_none());
                let mut mail = Mail::default();
                mail.add(late, stopping());
                drop(mail);
                assert!(too_late.await.unwrap().is_err());
            })
            .await;
    }
}
