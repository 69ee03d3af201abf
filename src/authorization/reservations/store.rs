//! The SQL of listing the reservations of all servers.

use std::collections::BTreeMap;

use sqlx::{PgPool, Row as _, types::Json};

use crate::{
    accounts::change::{CHANNEL, Change, Question},
    authorization::{
        grant::GrantClaims,
        limits::{ANSWERS_KEPT, HEARTBEAT_TTL},
    },
    ids::{InstanceId, QuestionId},
};

const OTHERS: &str = "
    SELECT instance_id FROM instances
     WHERE stopped_at IS NULL AND instance_id <> $1 AND heartbeat_at + $2 > clock_timestamp()
     ORDER BY instance_id";

/// The servers that live besides this one.
pub(super) async fn others(pool: &PgPool, own: InstanceId) -> sqlx::Result<Vec<InstanceId>> {
    sqlx::query_scalar(OTHERS).bind(own).bind(HEARTBEAT_TTL).fetch_all(pool).await
}

/// Asks them.
pub(super) async fn ask(pool: &PgPool, question: Question) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(Change::Question(question).to_string())
        .execute(pool)
        .await
        .map(drop)
}

const ANSWER: &str = "
    INSERT INTO reservation_answers (question, instance_id, reservations) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING";

/// Answers another server.
pub(super) async fn answer(
    pool: &PgPool,
    question: QuestionId,
    own: InstanceId,
    reservations: Vec<GrantClaims>,
) -> sqlx::Result<()> {
    sqlx::query(ANSWER)
        .bind(question)
        .bind(own)
        .bind(Json(reservations))
        .execute(pool)
        .await
        .map(drop)
}

/// Who has answered.
pub(super) async fn answered(pool: &PgPool, question: QuestionId) -> sqlx::Result<Vec<InstanceId>> {
    sqlx::query_scalar("SELECT instance_id FROM reservation_answers WHERE question = $1")
        .bind(question)
        .fetch_all(pool)
        .await
}

// Also whatever was answered too late for whoever asked.
const COLLECT: &str = "
    DELETE FROM reservation_answers
     WHERE question = $1 OR answered_at + $2 < clock_timestamp()
    RETURNING question, instance_id, reservations";

/// Takes the answers, by server.
pub(super) async fn collect(
    pool: &PgPool,
    question: QuestionId,
) -> sqlx::Result<BTreeMap<InstanceId, Vec<GrantClaims>>> {
    let rows = sqlx::query(COLLECT).bind(question).bind(ANSWERS_KEPT).fetch_all(pool).await?;
    let mut answers = BTreeMap::new();
    for row in rows {
        if row.try_get::<QuestionId, _>("question")? == question {
            let Json(reservations) = row.try_get("reservations")?;
            answers.insert(row.try_get("instance_id")?, reservations);
        }
    }
    Ok(answers)
}
