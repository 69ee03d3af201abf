//! A year of business: startups and enterprises, a price change, late and reversed usage, grants, an
//! outage, payments of every kind and their return, credit notes, voids, refunds with and without tax,
//! disputes lost and won, a write-off and its recovery, a closed account. Its course is drawn from a
//! fixed seed. In the end every proof that we have must hold.

use proptest::{
    prelude::RngExt as _,
    test_runner::{RngAlgorithm, TestRng},
};
use rust_decimal::Decimal;
use tollgate::{
    ledger::posting::TransferKind,
    proto::{
        AccountStatus, AllocatePaymentRequest, ChargebackStage, CloseAccountRequest, Contract,
        DocumentKind, GetAgingRequest, GetTaxSummaryRequest, GetTrialBalanceRequest,
        GrantCreditRequest, Invoice, IssueCreditNoteRequest, ListInvoicesRequest,
        ListPaymentsRequest, Outcome, PaymentAllocation, PaymentMethod, PaymentTerms, Price,
        ProviderCost, PublishPricesRequest, Rates, RecordChargebackRequest, RecordPaymentRequest,
        RefundRequest, ReversePaymentRequest, ReverseUsageRequest, TaxTreatment, TopUpRequest,
        VoidInvoiceRequest, WriteOffRequest,
    },
};

use super::{
    Customer, close, customer, decimal, german, id_at, month, name, noon, set_seller, set_tax_rate,
    sla_credit::pro_requests, work_as,
};
use crate::{
    harness::{
        server::TestServer,
        world::{MODEL, World, top_up, usd},
    },
    journals::assert_hledger_agrees,
};

const MONTHS: u32 = 12;
/// Who stops paying in the middle of the year, and who leaves at its end.
const INSOLVENT: &str = "enterprise-3";
const LEAVING: &str = "enterprise-2";

struct Year {
    world: World,
    random: TestRng,
    customers: Vec<(String, Customer)>,
    /// Credit notes of the leaving customer of which something was beyond what was open.
    surpluses: Vec<String>,
    /// For references that are never the same.
    counted: u32,
}

/// Of a database that has served for a year there are the partitions of all its months.
async fn a_database_of_a_year() -> World {
    const OLDER_MONTHS: &str = "
        DO $$
        DECLARE
            v_parent text;
            v_name   text;
            v_month  timestamp;
        BEGIN
            FOR v_month IN
                SELECT generate_series(date_trunc('month', now() AT TIME ZONE 'UTC')
                                       - interval '14 months',
                                       date_trunc('month', now() AT TIME ZONE 'UTC')
                                       - interval '3 months', interval '1 month')
            LOOP
                FOREACH v_parent IN ARRAY ARRAY['usage_events', 'usage_details'] LOOP
                    v_name := v_parent || to_char(v_month, '_YYYY_MM');
                    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                                   v_name, v_parent, first_id_at(v_month AT TIME ZONE 'UTC'),
                                   first_id_at((v_month + interval '1 month') AT TIME ZONE 'UTC'));
                    IF v_parent = 'usage_events' THEN
                        EXECUTE format('CREATE TRIGGER usage_events_no_truncate BEFORE TRUNCATE '
                                       'ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()',
                                       v_name);
                    END IF;
                END LOOP;
            END LOOP;
        END $$";
    let first = TestServer::start().await;
    sqlx::query(OLDER_MONTHS).execute(&first.pool()).await.unwrap();
    let database = first.database.clone();
    first.drain().await.unwrap();
    World::on(TestServer::start_on(database).await).await
}

fn money(cents: Decimal) -> Option<tollgate::proto::Money> {
    usd(&cents.normalize().to_string())
}

impl Year {
    fn one_in(&mut self, chances: u32) -> bool {
        self.random.random_range(0..chances) == 0
    }

    fn reference(&mut self) -> String {
        self.counted += 1;
        format!("reference-{}", self.counted)
    }

    async fn customers() -> Self {
        let world = a_database_of_a_year().await;
        let client = &world.client;
        set_seller(client).await;
        set_tax_rate(client, "DE", "19", true).await;
        let price = Price {
            model: MODEL.to_owned(),
            currency_code: "USD".to_owned(),
            effective_from: Some(tollgate::api::convert::timestamp(noon(month(6), 11))),
            rates: Some(Rates {
                input: "8.123457".to_owned(),
                output: "12.5".to_owned(),
                ..Rates::default()
            }),
            // In another currency than the price.
            cost: Some(ProviderCost {
                currency_code: "EUR".to_owned(),
                rates: Some(Rates {
                    input: "3.141593".to_owned(),
                    output: "7".to_owned(),
                    ..Rates::default()
                }),
            }),
            source: "a price change".to_owned(),
            ..Price::default()
        };
        let request =
            PublishPricesRequest { prices: vec![price], ..PublishPricesRequest::default() };
        client.catalog().publish_prices(request).await.unwrap();

        let net_30 = Contract {
            payment_terms: PaymentTerms::Net30.into(),
            credit_limit: usd("100000"),
            ..Contract::default()
        };
        let abroad =
            Contract { tax_treatment: TaxTreatment::ReverseCharge.into(), ..net_30.clone() };
        let discount = Contract { discount_percent: "12.5".to_owned(), ..net_30.clone() };
        let mut customers = Vec::new();
        for (handle, contract) in [
            ("startup-0", Contract::default()),
            ("startup-1", german(Contract::default())),
            ("startup-2", Contract::default()),
            ("enterprise-0", german(net_30.clone())),
            ("enterprise-1", german(discount)),
            (LEAVING, abroad),
            (INSOLVENT, german(net_30)),
        ] {
            customers.push((handle.to_owned(), customer(client, handle, contract).await));
        }
        let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        Self { world, random, customers, surpluses: Vec::new(), counted: 0 }
    }

    async fn use_and_fund(&mut self, back: u32) {
        for at in 0..self.customers.len() {
            let handle = self.customers[at].0.clone();
            if handle.starts_with("startup") && (back == MONTHS || !self.one_in(3)) {
                self.fund(&handle).await;
            }
            for _ in 0..self.random.random_range(1..5) {
                // Some of it comes after its month was closed.
                let late = back < MONTHS && self.one_in(6);
                let done = noon(month(back + u32::from(late)), self.random.random_range(1..28));
                let (event, input) = (id_at(done), self.random.random_range(1..3_000_000));
                let output = self.random.random_range(0..200_000);
                let customer = &self.customers[at].1;
                work_as(&self.world.client, customer, event, done, input, output).await.unwrap();
                if self.one_in(9) {
                    let request = ReverseUsageRequest {
                        account: handle.clone(),
                        event_id: event.to_string(),
                        reason: "wrong answer".to_owned(),
                        ..ReverseUsageRequest::default()
                    };
                    self.world.client.usage().reverse_usage(request).await.unwrap();
                }
            }
        }
        if back == 4 {
            let customer = &self.customers[4].1;
            let client = &self.world.client;
            pro_requests(client, customer, month(back), Outcome::Success, 300..302, 700_000).await;
            pro_requests(client, customer, month(back), Outcome::Timeout, 0..120, 0).await;
        }
    }

    async fn fund(&mut self, handle: &str) {
        let amount = Decimal::new(self.random.random_range(500..6_000), 2);
        let top_up = TopUpRequest {
            account: handle.to_owned(),
            amount: money(amount),
            method: PaymentMethod::Visa.into(),
            external_reference: self.reference(),
            ..TopUpRequest::default()
        };
        self.world.client.credits().top_up(top_up).await.unwrap();
        if self.one_in(3) {
            let grant = GrantCreditRequest {
                account: handle.to_owned(),
                amount: usd("2.5"),
                reason: "loyal".to_owned(),
                ..GrantCreditRequest::default()
            };
            self.world.client.credits().grant_credit(grant).await.unwrap();
        }
    }

    async fn open_invoices(&self, account: &str) -> Vec<Invoice> {
        let request = ListInvoicesRequest {
            account: account.to_owned(),
            kind: DocumentKind::Invoice.into(),
            only_open: true,
            ..ListInvoicesRequest::default()
        };
        self.world.client.billing().list_invoices(request).await.unwrap().into_inner().invoices
    }

    /// Each open invoice meets one of the things that happen to invoices.
    async fn settle(&mut self, back: u32) {
        for invoice in self.open_invoices("").await {
            let handle = self.handle_of(&invoice);
            if handle == INSOLVENT && back < 8 {
                continue;
            }
            let open = decimal(invoice.open.as_ref());
            let half = (open / Decimal::TWO).round_dp(2);
            let named = PaymentAllocation { invoice: invoice.number.clone(), ..Default::default() };
            match self.random.random_range(0..10) {
                0..4 => self.pay(&handle, open, vec![named]).await,
                4 if !half.is_zero() => self.pay(&handle, half, vec![named]).await,
                5 => self.pay(&handle, open + Decimal::ONE, vec![named]).await,
                6 => self.pay(&handle, open, Vec::new()).await,
                7 if !half.is_zero() && half < open => {
                    let withheld = PaymentAllocation { withheld: money(open - half), ..named };
                    self.pay(&handle, half, vec![withheld]).await;
                }
                8 => self.credit(&invoice).await,
                9 => self.void(&invoice).await,
                _ => {}
            }
        }
        self.put_right().await;
    }

    fn handle_of(&self, invoice: &Invoice) -> String {
        let found = self.customers.iter().find(|one| one.1.account == invoice.account_id);
        found.unwrap().0.clone()
    }

    async fn pay(&mut self, handle: &str, amount: Decimal, allocations: Vec<PaymentAllocation>) {
        let request = RecordPaymentRequest {
            account: handle.to_owned(),
            amount: money(amount),
            method: PaymentMethod::Wire.into(),
            external_reference: self.reference(),
            fee: self.one_in(3).then(|| usd("0.01")).flatten(),
            allocations,
            ..RecordPaymentRequest::default()
        };
        let paid = self.world.client.billing().record_payment(request).await.unwrap().into_inner();
        if self.one_in(6) {
            let amount = self.one_in(2).then(|| usd("0.01")).flatten();
            let request = ReversePaymentRequest {
                payment_id: paid.payment.unwrap().payment_id,
                amount,
                external_reference: self.reference(),
                reason: "returned".to_owned(),
                ..ReversePaymentRequest::default()
            };
            self.world.client.billing().reverse_payment(request).await.unwrap();
        }
    }

    async fn credit(&mut self, invoice: &Invoice) {
        let net = self.one_in(2).then(|| usd("0.02")).flatten();
        let request = IssueCreditNoteRequest {
            invoice: invoice.number.clone(),
            net,
            reason: "a dispute".to_owned(),
            ..IssueCreditNoteRequest::default()
        };
        // Less than that may be left of an invoice that was credited before.
        let issued = self.world.client.billing().issue_credit_note(request).await;
        let issued = issued.map(tonic::Response::into_inner);
        let is_leaving = self.handle_of(invoice) == LEAVING;
        if let Ok(issued) = issued
            && is_leaving
            && !decimal(issued.surplus.as_ref()).is_zero()
        {
            self.surpluses.push(issued.credit_note.unwrap().invoice.unwrap().number);
        }
    }

    async fn void(&mut self, invoice: &Invoice) {
        let request = VoidInvoiceRequest {
            invoice: invoice.number.clone(),
            reason: "wrong order number".to_owned(),
            ..VoidInvoiceRequest::default()
        };
        // One that was credited in part cannot be voided.
        let _ = self.world.client.billing().void_invoice(request).await;
    }

    /// Receipts find the invoices that they are for.
    async fn put_right(&mut self) {
        let request =
            ListPaymentsRequest { only_unapplied: true, ..ListPaymentsRequest::default() };
        let listed = self.world.client.billing().list_payments(request).await.unwrap();
        for payment in listed.into_inner().payments {
            if self.one_in(2) {
                let request = AllocatePaymentRequest {
                    payment: payment.payment_id,
                    oldest_first: true,
                    ..AllocatePaymentRequest::default()
                };
                self.world.client.billing().allocate_payment(request).await.unwrap();
            }
        }
    }

    /// A top-up of the third startup is disputed and lost, and of the German one disputed, won, disputed
    /// again and lost; this one and the first get some credits back.
    async fn dispute_and_refund(&mut self) {
        use ChargebackStage::{Lost, Opened, Won};
        top_up(&self.world.client, "startup-0", "300").await;
        let (done, customer) = (noon(month(3), 20), &self.customers[2].1);
        let (event, client) = (id_at(done), &self.world.client);
        let lost = self.pay_in("startup-2", "2000").await;
        work_as(client, customer, event, done, 20_000_000, 0).await.unwrap();
        for stage in [Opened, Lost] {
            self.dispute("startup-2", &lost, stage, "first").await;
        }
        let taxed = self.pay_in("startup-1", "2000").await;
        for (stage, reference) in [(Opened, "second"), (Won, "second"), (Opened, "third")] {
            self.dispute("startup-1", &taxed, stage, reference).await;
        }
        self.pay_in("startup-1", "300").await;
        for handle in ["startup-0", "startup-1"] {
            self.refund_most_of(handle).await;
        }
        self.dispute("startup-1", &taxed, Lost, "third").await;
    }

    /// A payment that becomes credits: its id.
    async fn pay_in(&self, handle: &str, amount: &str) -> String {
        let top_up = TopUpRequest {
            account: handle.to_owned(),
            amount: usd(amount),
            method: PaymentMethod::Visa.into(),
            external_reference: format!("{handle} pays {amount}"),
            ..TopUpRequest::default()
        };
        self.world.client.credits().top_up(top_up).await.unwrap().into_inner().payment_id
    }

    async fn dispute(&self, handle: &str, payment: &str, stage: ChargebackStage, reference: &str) {
        let request = RecordChargebackRequest {
            account: handle.to_owned(),
            payment_id: payment.to_owned(),
            stage: stage.into(),
            external_reference: reference.to_owned(),
            reason: "fraudulent".to_owned(),
            ..RecordChargebackRequest::default()
        };
        self.world.client.credits().record_chargeback(request).await.unwrap();
    }

    async fn refund_most_of(&self, handle: &str) {
        let balance = self.world.balance(handle).await;
        let refundable = decimal(balance.credits.as_ref()).trunc_with_scale(2);
        assert!(!refundable.is_zero(), "{handle} has nothing left");
        let request = RefundRequest {
            account: handle.to_owned(),
            amount: money(refundable),
            method: PaymentMethod::Visa.into(),
            external_reference: format!("refund of {handle}"),
            reason: "asked for".to_owned(),
            ..RefundRequest::default()
        };
        self.world.client.credits().refund(request).await.unwrap();
    }

    async fn give_up(&mut self) -> Vec<Invoice> {
        let invoices = self.open_invoices(INSOLVENT).await;
        for (at, invoice) in invoices.iter().enumerate() {
            let request = WriteOffRequest {
                invoice: invoice.number.clone(),
                tax_relief: at % 2 == 0,
                reason: "insolvent".to_owned(),
                ..WriteOffRequest::default()
            };
            self.world.client.billing().write_off(request).await.unwrap();
        }
        invoices
    }

    /// Everything that is open is paid, what is left over goes back, and the account closes.
    async fn leave(&mut self) {
        for invoice in self.open_invoices(LEAVING).await {
            let named = PaymentAllocation { invoice: invoice.number.clone(), ..Default::default() };
            let request = RecordPaymentRequest {
                account: LEAVING.to_owned(),
                amount: invoice.open.clone(),
                method: PaymentMethod::Wire.into(),
                external_reference: self.reference(),
                allocations: vec![named],
                ..RecordPaymentRequest::default()
            };
            self.world.client.billing().record_payment(request).await.unwrap();
        }
        let request = ListPaymentsRequest {
            account: LEAVING.to_owned(),
            only_unapplied: true,
            ..ListPaymentsRequest::default()
        };
        let listed = self.world.client.billing().list_payments(request).await.unwrap();
        for payment in listed.into_inner().payments {
            self.give_back(payment.payment_id, payment.unapplied).await;
        }
        for note in self.surpluses.clone() {
            self.give_back(note, None).await;
        }
    }

    async fn give_back(&mut self, source: String, amount: Option<tollgate::proto::Money>) {
        let request = ReversePaymentRequest {
            payment_id: source,
            amount,
            external_reference: self.reference(),
            reason: "paid back".to_owned(),
            method: PaymentMethod::Wire.into(),
            ..ReversePaymentRequest::default()
        };
        self.world.client.billing().reverse_payment(request).await.unwrap();
    }
}

#[tokio::test]
async fn a_year_of_business_proves_right_in_every_way() {
    let mut year = Year::customers().await;
    let mut given_up = Vec::new();
    for back in (1..=MONTHS).rev() {
        year.use_and_fund(back).await;
        if back == 3 {
            year.dispute_and_refund().await;
        }
        close(&year.world.client, month(back)).await;
        year.settle(back).await;
        if back == 2 {
            given_up = year.give_up().await;
        }
    }
    assert!(given_up.len() >= 4, "{given_up:?}");
    let recovered = PaymentAllocation { invoice: given_up[0].number.clone(), ..Default::default() };
    year.pay(INSOLVENT, decimal(given_up[0].open.as_ref()), vec![recovered]).await;
    year.leave().await;
    let world = &year.world;
    let client = &world.client;

    // The year had everything in it.
    let kinds = "SELECT kind, count(*) FROM transfers GROUP BY kind";
    let kinds: Vec<(String, i64)> =
        sqlx::query_as(kinds).fetch_all(&world.server.pool()).await.unwrap();
    let never = ["promotional_withdrawal", "account_closing"];
    for kind in TransferKind::ALL.map(TransferKind::name) {
        let happened = kinds.iter().any(|(name, _)| name == kind);
        assert_ne!(happened, never.contains(&kind), "{kind} in {kinds:?}");
    }
    let voids = "SELECT count(*) FROM credit_notes WHERE purpose = 'void'";
    let voids: i64 = sqlx::query_scalar(voids).fetch_one(&world.server.pool()).await.unwrap();
    assert!(voids > 2, "{voids}");

    world.verify().await;
    let trial = client.ledger().get_trial_balance(GetTrialBalanceRequest::default()).await.unwrap();
    for total in trial.into_inner().totals {
        assert_eq!(total.debits, total.credits);
    }
    let request = GetAgingRequest { page_size: 1_000, ..GetAgingRequest::default() };
    let aging = client.billing().get_aging(request).await.unwrap().into_inner();
    for (handle, customer) in &year.customers {
        let balance = world.balance(handle).await;
        let owed = decimal(balance.receivable.as_ref()) - decimal(balance.unapplied.as_ref());
        let aged = aging.accounts.iter().find(|one| one.account_id == customer.account);
        let aged = aged.map_or(Decimal::ZERO, |one| decimal(one.total.as_ref()));
        assert_eq!(aged, owed, "{handle}");
    }
    for back in 1..=MONTHS {
        let request = GetTaxSummaryRequest { period: name(month(back)) };
        let taxes = client.billing().get_tax_summary(request).await.unwrap().into_inner();
        assert!(taxes.agrees, "{taxes:?}");
    }
    assert_hledger_agrees(world).await;

    let request = CloseAccountRequest {
        account: LEAVING.to_owned(),
        reason: "left".to_owned(),
        ..CloseAccountRequest::default()
    };
    let closed = client.accounts().close_account(request).await.unwrap().into_inner();
    assert_eq!(closed.account.unwrap().status(), AccountStatus::Closed);
    world.verify().await;
}
