//! The domain's parts, in the order in which they need each other, and what keeps them current.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{Parts, ServerError};
use crate::{
    accounts::{change::Change, directory::Directory},
    authorization::{Authorizer, lifetime::Lifetime, limits},
    billing::{closing::Closing, dunning::Dunning},
    catalog::book::PriceBook,
    clock,
    database::pool,
    ledger::seals,
    metering::{
        recorder::{Recorder, RecorderOptions},
        rollups,
        window::UsageWindow,
    },
    personal_data::retention,
};

/// When to read again after a failure: neither a price nor a token that was revoked must stay good for
/// longer than the database is away.
const RELOAD_AGAIN: Duration = Duration::from_millis(500);

/// What the services share.
#[derive(Clone)]
pub(super) struct Domain {
    pub(super) directory: Arc<Directory>,
    pub(super) book: Arc<PriceBook>,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) recorder: Recorder,
    pub(super) closing: Closing,
}

impl Domain {
    /// Loads what is needed and starts what runs in the background.
    pub(super) async fn start(parts: &Parts, lifetime: Lifetime) -> Result<Self, ServerError> {
        let directory = Arc::new(Directory::new(parts.pool.clone()));
        let book = Arc::new(PriceBook::open(parts.pool.clone()).await?);
        let authorizer = Authorizer::start(
            parts.pool.clone(),
            Arc::clone(&directory),
            Arc::clone(&book),
            parts.metrics.authorization.clone(),
            Arc::clone(&parts.admission),
            lifetime,
            &parts.tasks,
        )
        .await?;
        let recorder = recorder(parts, &authorizer).await?;
        let options = || parts.pool.connect_options().as_ref().clone();
        let metering = || parts.metrics.metering.clone();
        // Summaries are as quick as the rollups are close behind, which rest by themselves.
        rollups::keep(pool::single(options(), "usage rollups"), metering(), &parts.tasks);
        seals::keep(pool::single_last(options(), "seals"), metering(), &parts.tasks);
        let eraser = pool::single_last(options(), "details retention");
        retention::keep(eraser, parts.details_retention_days, metering(), &parts.tasks);
        let closing = Closing::new(parts.pool.clone(), Arc::clone(&book));
        if parts.closes_months {
            closing.clone().keep(&parts.tasks);
        }
        Dunning::new(parts.pool.clone(), parts.overdue_grace_days).keep(&parts.tasks);
        let domain = Self { directory, book, authorizer, recorder, closing };
        domain.listen(parts);
        Ok(domain)
    }

    /// Hears what other servers change, and drops it from memory here.
    fn listen(&self, parts: &Parts) {
        let (stopping, pool) = (parts.tasks.stopping(), parts.pool.clone());
        let directory = Arc::clone(&self.directory);
        let (reload, reloads) = watch::channel(());
        let (ask, questions) = tokio::sync::mpsc::channel(limits::QUESTIONS);
        let (authorizer, revoked) = (Arc::clone(&self.authorizer), Arc::clone(&parts.revoked));
        let on_change = move |change: Option<&Change>| match change {
            Some(Change::Account(account) | Change::Budgets(account)) => {
                authorizer.limits_changed(*account);
            }
            Some(Change::Recall(account, by)) => authorizer.recalled(*account, *by),
            Some(Change::Token(token)) => revoked.add(*token),
            Some(Change::Key(_)) => {}
            Some(Change::Barrier(number)) => authorizer.heard(*number),
            Some(Change::Question(own)) if own.asker == authorizer.instance() => {}
            Some(Change::Question(question)) => {
                // Too many at once: whoever asks names this server as missing.
                let _ = ask.try_send((clock::since_boot(), *question));
            }
            Some(Change::Prices) | None => {
                let _ = reload.send(());
            }
        };
        parts.tasks.spawn_essential("change listener", async move {
            tokio::select! {
                () = directory.listen(pool, on_change) => {}
                () = stopping.cancelled() => {}
            }
        });

        let (stopping, authorizer) = (parts.tasks.stopping(), Arc::clone(&self.authorizer));
        parts.tasks.spawn("answers to other servers", async move {
            authorizer.answer_until(questions, stopping).await;
        });

        let book = Arc::clone(&self.book);
        self.keep_current(parts, "price book reload", reloads.clone(), move || {
            let book = Arc::clone(&book);
            async move { book.reload().await.map_err(|error| error.to_string()) }
        });
        let (revoked, pool) = (Arc::clone(&parts.revoked), parts.pool.clone());
        self.keep_current(parts, "revoked tokens reload", reloads, move || {
            let (revoked, pool) = (Arc::clone(&revoked), pool.clone());
            async move { revoked.load(&pool).await.map_err(|error| error.to_string()) }
        });
    }

    /// Reads something again whenever it may have changed unheard, until that succeeds.
    fn keep_current<F>(
        &self,
        parts: &Parts,
        name: &'static str,
        mut reloads: watch::Receiver<()>,
        reload: impl Fn() -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), String>> + Send,
    {
        let (mut missed, stopping) = (self.authorizer.missed(), parts.tasks.stopping());
        parts.tasks.spawn_essential(name, async move {
            loop {
                tokio::select! {
                    changed = reloads.changed() => if changed.is_err() { return },
                    changed = missed.changed() => if changed.is_err() { return },
                    () = stopping.cancelled() => return,
                }
                while let Err(error) = reload().await {
                    tracing::warn!(task = name, error, "nothing was read; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(RELOAD_AGAIN) => {}
                        () = stopping.cancelled() => return,
                    }
                }
            }
        });
    }
}

async fn recorder(parts: &Parts, authorizer: &Arc<Authorizer>) -> Result<Recorder, ServerError> {
    let settling = Arc::clone(authorizer);
    let options = RecorderOptions {
        instance: authorizer.instance(),
        database: parts.pool.connect_options().as_ref().clone(),
        window: UsageWindow::open(parts.pool.clone(), &parts.tasks).await?,
        settle: Arc::new(move |account, id, charge| settling.settle(account, id, charge)),
        admission: Arc::clone(&parts.admission),
        metrics: parts.metrics.metering.clone(),
    };
    Ok(Recorder::start(options, &parts.tasks))
}
