//! Writes events straight into the database, as a writer does and without a server around it: the
//! limits that `tollgate bench` measures the server by.

use sqlx::{PgConnection, postgres::PgConnectOptions};

use super::{
    event::NewEvent,
    store::{self, Mode},
};
use crate::ids::{InstanceId, ModelId, PriceVersionId};

/// One writer's connection.
#[derive(Debug)]
pub(crate) struct DirectWriter {
    connection: PgConnection,
    instance: InstanceId,
}

impl DirectWriter {
    /// Connects as a writer does, for events that `instance` authorized.
    pub(crate) async fn connect(
        options: &PgConnectOptions,
        instance: InstanceId,
    ) -> Result<Self, sqlx::Error> {
        let mut connection = store::connect_writer(options).await?;
        store::wait_for_locks(&mut connection).await?;
        Ok(Self { connection, instance })
    }

    /// Posts a batch that is in the order of its accounts and ids.
    pub(crate) async fn post(&mut self, events: &[NewEvent]) -> Result<(), sqlx::Error> {
        let mode = Mode { skip_locked: false, expect_duplicates: false };
        store::post(&mut self.connection, self.instance, mode, events.iter()).await?;
        Ok(())
    }

    /// Whether what a server does with events in the background, rollups and seals, has more than the
    /// last half minute before it.
    pub(crate) async fn is_behind(&mut self) -> Result<bool, sqlx::Error> {
        store::is_behind(&mut self.connection).await
    }

    /// Which model a price is of.
    pub(crate) async fn model_of(&mut self, price: PriceVersionId) -> Result<ModelId, sqlx::Error> {
        store::model_of(&mut self.connection, price).await
    }

    /// Inserts the same rows into a table of the same shape, and nothing else.
    pub(crate) async fn insert(&mut self, events: &[NewEvent]) -> Result<(), sqlx::Error> {
        store::insert_alone(&mut self.connection, events.iter()).await
    }

    /// Makes that table.
    pub(crate) async fn make_bare_table(&mut self) -> Result<(), sqlx::Error> {
        store::make_bare_table(&mut self.connection).await
    }
}
