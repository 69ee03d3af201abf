//! What is reserved on all servers. Each holds its reservations in memory alone; so the one that is
//! asked announces a question, and the others write their answers where it can read them.
//!
//! Of each server the first rows after the page's beginning are enough: whatever is among the first
//! of all is among the first of its own server. The order is that of authorizations and then of
//! servers, since an authorization that was extended on another server is held by both.
//!
//! | what | round trips | bound |
//! |---|---|---|
//! | a server that is alone | 1 | |
//! | with others | 3, and the looks for their answers | [`limits::ANSWERS_WAIT`] |

mod store;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Held, authorizer::Authorizer, grant::GrantClaims, limits};
use crate::{
    accounts::change::Question,
    clock,
    database::failure::DatabaseFailure,
    ids::{AccountId, AuthorizationId, InstanceId, QuestionId},
};

/// Where a reservation stands in the order of all.
pub type Position = (AuthorizationId, InstanceId);

/// The first reservations of all servers after a position.
#[derive(Debug)]
pub struct Reservations {
    /// In order, at most as many as were asked for.
    pub rows: Vec<GrantClaims>,
    /// Servers that live and did not answer in time.
    pub missing: Vec<InstanceId>,
}

/// Where a reservation stands: who holds it is its issuer, since whoever extends a grant of another
/// server issues it anew.
#[must_use]
pub fn position(claims: &GrantClaims) -> Position {
    (claims.authorization_id, claims.issuer)
}

/// A question with the moment, since boot, when it was heard.
pub type Heard = (Duration, Question);

impl Authorizer {
    /// What is reserved here and on all other servers, of one account or of all, after a position.
    ///
    /// # Errors
    /// When the database cannot be asked who else there is, or what they hold.
    pub async fn reservations(
        &self,
        account: Option<AccountId>,
        after: Option<Position>,
        limit: u32,
    ) -> Result<Reservations, DatabaseFailure> {
        let id = QuestionId::generate();
        let question = Question { id, asker: self.instance, account, after, limit };
        let patience = limits::ANSWERS_WAIT + limits::ANSWER_PATIENCE;
        let (answers, missing) = match timeout(patience, self.ask_others(question)).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()),
        };
        let mut rows = self.own(question);
        rows.extend(answers.into_values().flatten());
        rows.sort_unstable_by_key(position);
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Reservations { rows, missing })
    }

    async fn ask_others(
        &self,
        question: Question,
    ) -> sqlx::Result<(BTreeMap<InstanceId, Vec<GrantClaims>>, Vec<InstanceId>)> {
        let others = store::others(&self.database, self.instance).await?;
        if others.is_empty() {
            return Ok((BTreeMap::new(), others));
        }
        store::ask(&self.database, question).await?;
        let asked = clock::since_boot();
        let mut pause = limits::FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            let answered = store::answered(&self.database, question.id).await?;
            let waited = clock::since_boot().saturating_sub(asked);
            if others.iter().all(|other| answered.contains(other)) || waited >= limits::ANSWERS_WAIT
            {
                break;
            }
            pause = (pause * 2).min(limits::LONGEST_LOOK);
        }
        let answers = store::collect(&self.database, question.id).await?;
        let missing = others.into_iter().filter(|other| !answers.contains_key(other)).collect();
        Ok((answers, missing))
    }

    /// Answers what other servers ask, until told to stop.
    pub async fn answer_until(
        &self,
        mut questions: mpsc::Receiver<Heard>,
        stopping: CancellationToken,
    ) {
        loop {
            let (heard, question) = tokio::select! {
                question = questions.recv() => match question {
                    Some(question) => question,
                    None => return,
                },
                () = stopping.cancelled() => return,
            };
            let age = clock::since_boot().saturating_sub(heard);
            // Nobody waits for it any more.
            let Some(left) = limits::ANSWERS_WAIT.checked_sub(age) else { continue };
            let rows = self.own(question).into_iter().map(shown).collect();
            let answering = store::answer(&self.database, question.id, self.instance, rows);
            match timeout(left, answering).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "another server got no answer"),
                Err(_) => tracing::warn!("another server got no answer in time"),
            }
        }
    }

    /// The first reservations of this server after the question's position.
    fn own(&self, question: Question) -> Vec<GrantClaims> {
        let slots = match question.account {
            Some(account) => self.leases.existing(account).into_iter().collect(),
            None => self.leases.all(),
        };
        let mut found: Vec<(Position, Arc<Held>)> = Vec::new();
        for slot in slots {
            let state = slot.lock();
            let held = state.holdings.reservations().map(|(_, reservation)| {
                let held = Arc::clone(&reservation.grant);
                (position(&held.grant.claims), held)
            });
            found.extend(held.filter(|(at, _)| question.after.is_none_or(|last| *at > last)));
        }
        found.sort_unstable_by_key(|(at, _)| *at);
        found.truncate(usize::try_from(question.limit).unwrap_or(usize::MAX));
        found.into_iter().map(|(_, held)| GrantClaims::clone(&held.grant.claims)).collect()
    }
}

/// Without what a list does not show and a customer may have made long.
fn shown(claims: GrantClaims) -> GrantClaims {
    GrantClaims { end_user: String::new(), labels: BTreeMap::new(), ..claims }
}
