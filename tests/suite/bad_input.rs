//! Nonsense, sent to the real server: each call gets a status whose details name the field, the
//! reason and, in its message, the remedy; and afterwards the server serves as before.

use std::{future::Future, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tollgate::{
    ids::AuthorizationId,
    proto::{
        self, CancelAuthorizationRequest, Contract, CreateAccountRequest, DenialReason,
        EstimateCostRequest, ExtendAuthorizationRequest, GetAccountRequest, GetBalanceRequest,
        GetModelRequest, GrantCreditRequest, ListKeysRequest, ListReservationsRequest,
        ListTransfersRequest, ListUnsettledRequest, ListUsageRequest, Money, PaymentMethod,
        PaymentTerms, RefundRequest, ReverseUsageRequest, RevokeKeyRequest, RotateKeyRequest,
        TopUpRequest, UpdateAccountRequest, VerifyLedgerRequest, WithdrawGrantRequest,
        record_usage_request::Source,
    },
};
use tonic::{Code, Response, Status};

use crate::harness::{
    server::refusal,
    world::{MODEL, World, decimal, request, top_up, usage, usd},
};

/// A well-formed id that nothing has.
const NOBODY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// What a call was refused with: code, reason, field.
async fn refused<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Refusal {
    let Err(status) = call.await else { panic!("it was not refused") };
    assert!(status.message().len() > 20, "{status:?} does not say what to do");
    refusal(&status)
}

type Refusal = (Code, String, String);

fn expected(code: Code, reason: &str, field: &str) -> Refusal {
    (code, reason.to_owned(), field.to_owned())
}

#[tokio::test]
async fn an_account_that_does_not_exist_is_named_by_every_service() {
    let world = World::start().await;
    let client = &world.client;
    let not_found = expected(Code::NotFound, "ACCOUNT_NOT_FOUND", "account");
    for name in [NOBODY, "nobody", "No Body", "a\0b", "'; DROP TABLE accounts; --", "\u{202e}"] {
        let account = || name.to_owned();
        let answers =
            [
                refused(client.accounts().get_account(GetAccountRequest { account: account() }))
                    .await,
                refused(client.credits().get_balance(GetBalanceRequest { account: account() }))
                    .await,
                refused(
                    client
                        .keys()
                        .list_keys(ListKeysRequest { account: account(), ..Default::default() }),
                )
                .await,
                refused(
                    client
                        .usage()
                        .list_usage(ListUsageRequest { account: account(), ..Default::default() }),
                )
                .await,
                refused(client.usage().list_unsettled(ListUnsettledRequest {
                    account: account(),
                    ..Default::default()
                }))
                .await,
                refused(client.ledger().list_transfers(ListTransfersRequest {
                    account: account(),
                    ..Default::default()
                }))
                .await,
                refused(client.ledger().verify_ledger(VerifyLedgerRequest { account: account() }))
                    .await,
                refused(client.authorization().list_reservations(ListReservationsRequest {
                    account: account(),
                    ..Default::default()
                }))
                .await,
            ];
        for answer in answers {
            assert_eq!(answer, not_found, "{name:?}");
        }
    }
}

#[tokio::test]
async fn an_id_is_malformed_or_unknown_and_the_refusal_says_which() {
    let world = World::start().await;
    world.startup("acme", "1").await;
    let client = &world.client;
    let reverse = |event_id: &str| ReverseUsageRequest {
        account: "acme".to_owned(),
        event_id: event_id.to_owned(),
        reason: "a test".to_owned(),
        idempotency_key: String::new(),
    };
    for id in ["x", "a\0b", &"9".repeat(10_000), "01890a5d-ac96-774b-bcce-b302099a805"] {
        let revoke = RevokeKeyRequest { key_id: id.to_owned(), ..Default::default() };
        let rotate = RotateKeyRequest { key_id: id.to_owned(), ..Default::default() };
        let key = expected(Code::InvalidArgument, "INVALID_ID", "key_id");
        assert_eq!(refused(client.keys().revoke_key(revoke)).await, key);
        assert_eq!(refused(client.keys().rotate_key(rotate)).await, key);
        let event = expected(Code::InvalidArgument, "INVALID_ID", "event_id");
        assert_eq!(refused(client.usage().reverse_usage(reverse(id))).await, event);
    }
    let revoke = RevokeKeyRequest { key_id: NOBODY.to_owned(), ..Default::default() };
    let unknown = refused(client.keys().revoke_key(revoke)).await;
    assert_eq!(unknown, expected(Code::NotFound, "UNKNOWN_KEY", "key_id"));
    let unknown = refused(client.usage().reverse_usage(reverse(NOBODY))).await;
    assert_eq!(unknown, expected(Code::NotFound, "EVENT_NOT_FOUND", "event_id"));
}

#[tokio::test]
async fn an_unknown_model_is_named_by_the_field_that_names_it() {
    let world = World::start().await;
    for name in ["", "gpt-0", "a\0b", &"m".repeat(10_000)] {
        let model = || name.to_owned();
        let get = GetModelRequest { name: model(), ..Default::default() };
        let found = refused(world.client.catalog().get_model(get)).await;
        assert_eq!(found, expected(Code::NotFound, "MODEL_NOT_FOUND", "name"));
        let estimate = EstimateCostRequest { model: model(), ..Default::default() };
        let found = refused(world.client.catalog().estimate_cost(estimate)).await;
        assert_eq!(found, expected(Code::NotFound, "MODEL_NOT_FOUND", "model"));
    }
    world.startup("acme", "1").await;
    let mut asked = request(&world.key("acme").await, 1);
    asked.model = "gpt-0\n".repeat(1_000);
    let denial = world.denied(&asked, DenialReason::ModelNotFound).await;
    assert!(denial.message.len() < 500 && !denial.message.contains('\n'), "{denial:?}");
}

#[tokio::test]
async fn a_broken_grant_token_is_refused_by_whatever_takes_one() {
    let (world, other) = (World::start().await, World::start().await);
    for world in [&world, &other] {
        world.startup("acme", "1").await;
    }
    let grant = world.granted(&request(&world.key("acme").await, 10)).await;
    let foreign = other.granted(&request(&other.key("acme").await, 10)).await;
    let caller_token = crate::harness::server::token(&[tollgate::identity::Role::Gateway], None);
    let halves: Vec<&str> = grant.token.split('.').collect();
    let unsigned = format!("{}.{}.", halves[0], halves[1]);
    let swapped =
        format!("{}.{}.{}", halves[0], foreign.token.split('.').nth(1).unwrap(), halves[2]);
    let too_long = "A".repeat(100_000);
    for (token, reason) in [
        ("", "GRANT_TOKEN_INVALID"),
        ("x", "GRANT_TOKEN_INVALID"),
        ("..", "GRANT_TOKEN_INVALID"),
        (&too_long, "GRANT_TOKEN_INVALID"),
        (&unsigned, "GRANT_TOKEN_INVALID"),
        (&swapped, "GRANT_TOKEN_INVALID"),
        (&caller_token, "GRANT_TOKEN_FOREIGN"),
        (&foreign.token, "GRANT_TOKEN_FOREIGN"),
    ] {
        let because = expected(Code::InvalidArgument, reason, "token");
        let extend = ExtendAuthorizationRequest {
            token: token.to_owned(),
            max_output_tokens: 20,
            allow_reduced_output: false,
        };
        let cancel = CancelAuthorizationRequest { token: token.to_owned() };
        let mut gate = world.client.authorization();
        assert_eq!(refused(gate.extend_authorization(extend)).await, because);
        assert_eq!(refused(gate.cancel_authorization(cancel)).await, because);
        let recorded = world.record(token, 1, 1).await.unwrap_err();
        assert_eq!(refusal(&recorded), because);
    }
    assert!(!world.record(&grant.token, 1, 1).await.unwrap().duplicate);
}

#[tokio::test]
async fn an_absurd_count_is_refused_and_an_extension_that_raises_nothing_as_well() {
    let world = World::start().await;
    world.startup("acme", "1").await;
    let key = world.key("acme").await;
    let grant = world.granted(&request(&key, 10)).await;
    let extend = |max_output_tokens| ExtendAuthorizationRequest {
        token: grant.token.clone(),
        max_output_tokens,
        allow_reduced_output: false,
    };
    for (output, reason) in [(0, "NO_RISE"), (10, "NO_RISE"), (u64::MAX, "FIELD_INVALID")] {
        let answer =
            refused(world.client.authorization().extend_authorization(extend(output))).await;
        assert_eq!(answer, expected(Code::InvalidArgument, reason, "max_output_tokens"));
    }
    for count in [u64::MAX, 1 << 63, 1_000_000_001] {
        let status = world.record(&grant.token, 0, count).await.unwrap_err();
        let field = "quantities.output";
        let because = expected(Code::InvalidArgument, "QUANTITIES_OUT_OF_RANGE", field);
        assert_eq!(refusal(&status), because);
    }
    // A count below zero can only come in a provider's own object.
    for (json, problem) in [
        (r#"{"prompt_tokens":-1,"completion_tokens":1}"#, "-1"),
        (r#"{"prompt_tokens":1.5,"completion_tokens":1}"#, "1.5"),
        (r#"{"prompt_tokens":1e300,"completion_tokens":1}"#, "prompt_tokens"),
        (
            r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}"#,
            "cached_tokens",
        ),
    ] {
        let usage =
            proto::ProviderUsage { dialect: proto::Dialect::Openai.into(), json: json.into() };
        let request = proto::RecordUsageRequest {
            source: Some(proto::record_usage_request::Source::Token(grant.token.clone())),
            usage: Some(proto::record_usage_request::Usage::ProviderUsage(usage)),
            ..Default::default()
        };
        let status = world.client.usage().record_usage(request).await.unwrap_err();
        let field = "provider_usage.json";
        let because = expected(Code::InvalidArgument, "PROVIDER_USAGE_UNREADABLE", field);
        assert_eq!(refusal(&status), because, "{json}");
        assert!(status.message().contains(problem), "{status}");
    }
}

/// Amounts that nobody can have meant, with the field that is named under `amount`.
const BAD_AMOUNTS: [(&str, &str, &str, &str); 10] = [
    ("1.0000000000001", "USD", "INVALID_AMOUNT", ".amount"),
    ("10000000000000000", "USD", "INVALID_AMOUNT", ".amount"),
    ("", "USD", "INVALID_AMOUNT", ".amount"),
    ("NaN", "USD", "INVALID_AMOUNT", ".amount"),
    ("1e3", "USD", "INVALID_AMOUNT", ".amount"),
    ("1,5", "USD", "INVALID_AMOUNT", ".amount"),
    ("１", "USD", "INVALID_AMOUNT", ".amount"),
    ("1", "usd", "INVALID_CURRENCY", ".currency_code"),
    ("1", "", "INVALID_CURRENCY", ".currency_code"),
    ("1", "EUR", "CURRENCY_MISMATCH", ".currency_code"),
];

#[tokio::test]
async fn a_bad_amount_or_another_currency_is_refused_by_whatever_takes_money() {
    let world = World::start().await;
    world.startup("acme", "50").await;
    let client = &world.client;
    for (amount, currency, reason, part) in BAD_AMOUNTS {
        let money =
            || Some(Money { currency_code: currency.to_owned(), amount: amount.to_owned() });
        let because =
            |field: &str| expected(Code::InvalidArgument, reason, &format!("{field}{part}"));
        let paid = TopUpRequest { amount: money(), ..payment("50") };
        assert_eq!(refused(client.credits().top_up(paid)).await, because("amount"));
        let granted = GrantCreditRequest { amount: money(), ..gift("1") };
        assert_eq!(refused(client.credits().grant_credit(granted)).await, because("amount"));
        let refund = RefundRequest {
            account: "acme".to_owned(),
            amount: money(),
            method: PaymentMethod::Wire.into(),
            external_reference: "r".to_owned(),
            ..Default::default()
        };
        assert_eq!(refused(client.credits().refund(refund)).await, because("amount"));
        let withdraw = WithdrawGrantRequest {
            account: "acme".to_owned(),
            amount: money(),
            reason: "a test".to_owned(),
            ..Default::default()
        };
        assert_eq!(refused(client.credits().withdraw_grant(withdraw)).await, because("amount"));
        let limited = CreateAccountRequest {
            contract: Some(Contract {
                payment_terms: PaymentTerms::Net30.into(),
                credit_limit: money(),
                ..Default::default()
            }),
            ..new_account("limited")
        };
        let answer = refused(client.accounts().create_account(limited)).await;
        assert_eq!(answer, because("contract.credit_limit"));
    }
    assert_eq!(world.balance("acme").await.credits, usd("50"));
}

#[tokio::test]
async fn funds_that_pass_the_largest_amount_together_are_refused() {
    let world = World::start().await;
    world.startup("acme", "50").await;
    let client = &world.client;
    let most = "9999999999999999.999";
    let credit = expected(Code::FailedPrecondition, "BALANCE_TOO_LARGE", "amount");
    assert_eq!(refused(client.credits().top_up(payment(most))).await, credit);
    assert_eq!(refused(client.credits().grant_credit(gift(most))).await, credit);
    let update = UpdateAccountRequest {
        account: "acme".to_owned(),
        version: 1,
        display_name: "Acme".to_owned(),
        contract: Some(Contract {
            payment_terms: PaymentTerms::Net30.into(),
            credit_limit: usd(most),
            ..Default::default()
        }),
        ..Default::default()
    };
    let limit = expected(Code::FailedPrecondition, "BALANCE_TOO_LARGE", "contract.credit_limit");
    assert_eq!(refused(client.accounts().update_account(update)).await, limit);
    assert_eq!(decimal(world.balance("acme").await.available.as_ref()), 50.into());
    world.verify().await;
}

fn payment(amount: &str) -> TopUpRequest {
    TopUpRequest {
        account: "acme".to_owned(),
        amount: usd(amount),
        method: PaymentMethod::Wire.into(),
        external_reference: AuthorizationId::generate().to_string(),
        ..Default::default()
    }
}

fn gift(amount: &str) -> GrantCreditRequest {
    GrantCreditRequest {
        account: "acme".to_owned(),
        amount: usd(amount),
        reason: "a test".to_owned(),
        ..Default::default()
    }
}

fn new_account(handle: &str) -> CreateAccountRequest {
    CreateAccountRequest {
        handle: handle.to_owned(),
        display_name: handle.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_span_that_ends_before_it_begins_is_refused_by_every_list() {
    let world = World::start().await;
    world.startup("acme", "1").await;
    let moment = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let because = expected(Code::InvalidArgument, "EMPTY_RANGE", "until");
    let transfers = ListTransfersRequest {
        account: "acme".to_owned(),
        from: moment(2_000),
        until: moment(1_000),
        ..Default::default()
    };
    assert_eq!(refused(world.client.ledger().list_transfers(transfers)).await, because);
    let usage = ListUsageRequest {
        account: "acme".to_owned(),
        from: moment(1_000),
        until: moment(1_000),
        ..Default::default()
    };
    assert_eq!(refused(world.client.usage().list_usage(usage)).await, because);
}

#[tokio::test]
async fn garbage_on_the_port_and_huge_messages_do_no_harm() {
    let world = World::start().await;
    world.startup("acme", "1").await;
    let address = world.server.endpoint().replace("http://", "");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let pseudo_random: Vec<u8> =
        (0_u64..200_000).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[7]).collect();
    let oversized_frame = [preface.clone(), vec![0xff; 70_000]].concat();
    let after_preface = [preface, pseudo_random.clone()].concat();
    let requests: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\0\x05hello",
        &pseudo_random,
        &oversized_frame,
        &after_preface,
    ];
    let mut strangers = tokio::task::JoinSet::new();
    for bytes in requests.map(<[u8]>::to_vec) {
        strangers.spawn(talk_garbage(address.clone(), bytes));
    }
    strangers.join_all().await;

    let huge = CreateAccountRequest { display_name: "x".repeat(8 << 20), ..new_account("huge") };
    let status = world.client.accounts().create_account(huge).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    let labels = (0..1_000).map(|n| (format!("label {n}"), "v".repeat(1_000))).collect();
    let mut asked = request(&world.key("acme").await, 1);
    asked.labels = labels;
    let answer = refused(world.client.authorization().authorize(asked.clone())).await;
    assert_eq!(answer, expected(Code::InvalidArgument, "FIELD_INVALID", "labels"));

    asked.labels.clear();
    world.granted(&asked).await;
    top_up(&world.client, "acme", "1").await;
    world.verify().await;
}

/// Says it and hangs up; the server must not hold on to the connection.
async fn talk_garbage(address: String, bytes: Vec<u8>) {
    let mut stream = TcpStream::connect(&address).await.unwrap();
    // The server may hang up in the middle.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let ended = tokio::time::timeout(Duration::from_secs(20), read).await;
    assert!(ended.is_ok(), "the server holds on to a connection of garbage");
}

#[tokio::test]
async fn an_event_id_or_a_time_outside_the_accepted_window_is_refused_by_its_field() {
    let world = World::start().await;
    world.startup("acme", "1").await;
    let (key, _) = world.issue("acme", proto::Tier::Standard, proto::KeyLimits::default()).await;
    let now = u64::try_from(tollgate::clock::now().timestamp()).unwrap();
    let id_of = |seconds| {
        let moment = uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0);
        uuid::Uuid::new_v7(moment).to_string()
    };
    let day = 24 * 60 * 60;
    // The year 2100, ten minutes ahead, a hundred days ago.
    let strange = [4_102_444_800, now + 600, now - 100 * day];
    let cases = strange.iter().flat_map(|seconds| {
        [("event_id", id_of(*seconds), now), ("occurred_at", id_of(now), *seconds)]
    });
    for (field, event_id, occurred_at) in cases {
        let seconds = i64::try_from(occurred_at).unwrap();
        let work = proto::UnauthorizedUsage {
            event_id,
            account: "acme".to_owned(),
            key_id: key.key_id.clone(),
            model: MODEL.to_owned(),
            occurred_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        };
        let usage = usage(Source::Unauthorized(work), 1, 1);
        let answer = refused(world.client.usage().record_usage(usage)).await;
        let because = expected(
            Code::InvalidArgument,
            "OUTSIDE_USAGE_WINDOW",
            &format!("unauthorized.{field}"),
        );
        assert_eq!(answer, because, "{occurred_at}");
    }
}
