use rust_decimal::Decimal;
use sqlx::{PgPool, postgres::PgConnectOptions};

use super::*;
use crate::{
    accounts::{account::AccountStatus, contract::PaymentTerms},
    money::Currency,
};

fn account() -> AccountRecord {
    AccountRecord {
        account_id: AccountId::generate(),
        handle: "acme".to_owned(),
        currency: Currency::USD,
        status: AccountStatus::Active,
        payment_terms: PaymentTerms::Prepaid,
        discount_percent: Decimal::ZERO,
        model_discounts: Vec::new(),
        tax_rate: Decimal::ZERO,
        budgets: Vec::new(),
    }
}

/// Whoever has a slot when it is forgotten neither waits on it nor queues it, and takes a new one.
#[tokio::test]
async fn an_idle_slot_is_forgotten_and_taken_anew() {
    let (leases, mut queue) = Leases::new(InstanceId::generate(), AuthorizationMetrics::default());
    let directory = Directory::new(PgPool::connect_lazy_with(PgConnectOptions::new()));
    let account = account();
    let slot = leases.slot(&account);
    let used = Duration::from_hours(1);
    slot.lock().touch(&[PoolKey::Funds], used);

    let soon = used + Duration::from_secs(1);
    leases.upkeep(soon, &directory, clock::now()).await;
    assert!(leases.existing(account.account_id).is_some(), "it may be used again soon");

    let late = used + limits::IDLE_LEASE;
    leases.upkeep(late, &directory, clock::now()).await;
    assert!(leases.existing(account.account_id).is_none());
    let need = "1".parse().unwrap();
    let waited = leases.wait(&slot, &[PoolKey::Funds], need, need).await;
    assert_eq!(waited, Waited::Renewed, "look again");
    assert!(queue.try_recv().is_err(), "nothing is leased for a slot that is gone");
    assert!(!Arc::ptr_eq(&slot, &leases.slot(&account)));
}
