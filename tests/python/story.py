"""The main story, told by an outside program: sell, gate, meter, and prove the books.

    python3 tests/python/story.py target/debug/tollgate

starts a server of its own and walks through it, one chapter per function, each a use of the API
that can be read as an example. Amounts are decimals from end to end, and every expected one is
worked out here, apart from the server. Ends with status 0 if all of it came out as told.
"""

import json
import string
import sys
import time
import zlib
from decimal import Decimal

from server import Server
from tollgate_client import Client, Refused, enum_name

FLASH = "deepseek-ai/DeepSeek-V4-Flash"
GPT = "gpt-4o"
PRO = "Pro/deepseek-ai/DeepSeek-V3.2"
UNPRICED = "research/no-price-yet"

# Dollars per million tokens, as this story publishes them.
PRICES = {
    FLASH: {"input": "0.25", "output": "1.00", "cache_read": "0.05"},
    GPT: {"input": "2.50", "output": "10.00", "cache_read": "1.25"},
    PRO: {"input": "0.50", "output": "1.50"},
}
# A tokenizer may count more prompt tokens than the gateway did: so much is reserved on top.
INPUT_MARGIN = Decimal("1.10")
MILLION = Decimal(1_000_000)
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


class Story:
    """What one chapter leaves for the next."""

    def __init__(self, server):
        self.server = server
        self.operator = Client(server.address, server.operator_token())
        # What a gateway is given in production: it may authorize and record, and nothing else.
        self.gateway = Client(server.address, server.mint("gateway", "--subject=edge-1"))
        self.keys = {}
        self.charged = Decimal(0)

    def authorize(self, key, model, **fields):
        answer = self.gateway.AuthorizationService.Authorize(
            api_key=self.keys.get(key, key), model=model, **fields
        )
        return answer.grant if answer.HasField("grant") else answer.denial

    def record(self, **fields):
        return self.gateway.UsageService.RecordUsage(**fields)

    def balance(self, account):
        return self.operator.CreditService.GetBalance(account=account).balance


def the_server_describes_itself_and_serves(story):
    services = story.operator.services()
    for name in ("AccountService", "AuthorizationService", "LedgerService", "UsageService"):
        expect(f"tollgate.v1.{name}" in services, True)
    health = Client(story.server.address, package="grpc.health.v1")
    expect(enum_name(health.Health.Check(), "status"), "SERVING")


def callers_need_a_token_and_the_right_role(story):
    for token in (None, "not-a-token", story.server.operator_token() + "x"):
        stranger = Client(story.server.address, token)
        refusal = refused(lambda: stranger.CreditService.GetBalance(account="startup"))
        expect(refusal.code, "UNAUTHENTICATED")
    refusal = refused(lambda: story.gateway.CreditService.GetBalance(account="startup"))
    expect(refusal.code, "PERMISSION_DENIED")


def prices_are_published_all_or_nothing(story):
    publish = story.operator.CatalogService.PublishPrices
    prices = [price(model, rates) for model, rates in PRICES.items()]
    models = [{"name": UNPRICED, "provider": "research"}]
    models.append({"name": PRO, "route": "ROUTE_DEDICATED", "context_tokens": 100_000})
    published = publish(models=models, prices=prices)
    expect((published.models_added, published.prices_added), (4, 3))
    expect(publish(prices=prices).prices_unchanged, 3)

    # A price is never edited, and of a publication with a fault nothing counts.
    changed = price(GPT, {"input": "2.00", "output": "10.00"})
    refusal = refused(lambda: publish(prices=[price("new/model", PRICES[FLASH]), changed]))
    expect(refusal.code, "ALREADY_EXISTS")
    refusal = refused(lambda: publish(prices=[price("new/model", {"input": "-1", "output": "1"})]))
    expect(refusal.code, "INVALID_ARGUMENT")
    expect("prices[0].rates.input" in refusal.field, True)
    refusal = refused(lambda: story.operator.CatalogService.GetModel(name="new/model"))
    expect(refusal.code, "NOT_FOUND")

    estimate = story.operator.CatalogService.EstimateCost(
        model=FLASH, quantities={"input": 2_000_000, "output": 500_000}
    )
    expect(dollars(estimate.cost), Decimal("1.00"))


def customers_are_a_startup_and_an_enterprise(story):
    create = story.operator.AccountService.CreateAccount
    startup = create(handle="startup", display_name="Startup Inc", idempotency_key="create-1")
    again = create(handle="startup", display_name="Startup Inc", idempotency_key="create-1")
    expect(again.account.account_id, startup.account.account_id)
    create(
        handle="enterprise",
        display_name="Enterprise AG",
        contract={
            "legal_name": "Enterprise Aktiengesellschaft",
            "address": {"line_1": "Hauptstrasse 1", "city": "Berlin", "country_code": "DE"},
            "tax_id": "DE123456789",
            "purchase_order": "PO-2026-77",
            "accounts_payable_email": "ap@enterprise.example",
            "payment_terms": "PAYMENT_TERMS_NET_30",
            "credit_limit": usd("1000"),
            "discount_percent": "10",
        },
    )
    accounts = story.operator.AccountService.ListAccounts().accounts
    expect(sorted(account.handle for account in accounts), ["enterprise", "startup"])
    refusal = refused(lambda: create(handle="Not A Handle", display_name="x"))
    expect((refusal.code, refusal.field), ("INVALID_ARGUMENT", "handle"))


def keys_are_shown_once(story):
    issue = story.operator.KeyService.IssueKey
    standard = issue(account="startup", name="production", tier="TIER_STANDARD")
    expect(standard.api_key.startswith("ga_sk_"), True)
    pro = issue(account="enterprise", name="production", tier="TIER_PRO")
    expect(pro.api_key.startswith("ga_pro_"), True)
    limits = {"allowed_models": ["deepseek-ai/*"], "max_tokens_per_request": 5_000}
    limits["max_cost_per_request"] = usd("0.002")
    capped = issue(account="startup", name="capped", tier="TIER_STANDARD", limits=limits)
    revoked = issue(account="startup", name="leaked", tier="TIER_STANDARD")
    story.operator.KeyService.RevokeKey(key_id=revoked.key.key_id, reason="found in a repository")
    story.keys = {
        "standard": standard.api_key,
        "pro": pro.api_key,
        "capped": capped.api_key,
        "revoked": revoked.api_key,
    }
    listed = story.operator.KeyService.ListKeys(account="startup").keys
    expect(len(listed), 3)
    expect(any(key.hint in story.keys.values() for key in listed), False)


def a_payment_is_credited_once(story):
    top_up = story.operator.CreditService.TopUp
    payment = {
        "account": "startup",
        "amount": usd("5.00"),
        "method": "PAYMENT_METHOD_VISA",
        "external_reference": "ch_1001",
    }
    first = top_up(**payment)
    expect((first.duplicate, dollars(first.balance.credits)), (False, Decimal("5")))
    again = top_up(**payment)
    expect((again.duplicate, again.payment_id), (True, first.payment_id))
    expect(dollars(story.balance("startup").credits), Decimal("5"))
    refusal = refused(lambda: top_up(**{**payment, "amount": usd("50.00")}))
    expect(refusal.code, "ALREADY_EXISTS")


def an_allowed_request_is_reserved_at_its_ceiling(story):
    request = {"request_id": "req-1", "input_tokens": 1_000, "max_output_tokens": 500}
    grant = story.authorize("standard", FLASH, **request)
    ceiling = cost(FLASH, input=1_000) * INPUT_MARGIN + cost(FLASH, output=500)
    expect(dollars(grant.reserved), ceiling)
    expect(enum_name(grant, "route"), "ROUTE_STANDARD")
    # A gateway that asks again, because the answer was lost, gets the same grant.
    expect(story.authorize("standard", FLASH, **request).authorization_id, grant.authorization_id)

    held = story.operator.AuthorizationService.ListReservations(account="startup").reservations
    expect([each.authorization_id for each in held], [grant.authorization_id])
    story.first = grant


def usage_is_charged_exactly_and_once(story):
    usage = {"token": story.first.token, "quantities": {"input": 1_000, "output": 321}}
    usage["outcome"] = "OUTCOME_SUCCESS"
    first = story.record(**usage)
    expect(dollars(first.charged), cost(FLASH, input=1_000, output=321))
    expect((first.event_id, first.duplicate), (story.first.authorization_id, False))
    expect(dollars(first.overrun), Decimal(0))
    story.charged += dollars(first.charged)

    again = story.record(**usage)
    expect((again.duplicate, dollars(again.charged)), (True, dollars(first.charged)))
    usage["quantities"] = {"input": 1_000, "output": 322}
    refusal = refused(lambda: story.record(**usage))
    expect((refusal.code, refusal.reason), ("ALREADY_EXISTS", "USAGE_CONFLICT"))
    expect(refusal.field, "quantities.output")


def a_providers_usage_object_is_made_disjoint(story):
    grant = story.authorize("standard", GPT, input_tokens=1_200, max_output_tokens=400)
    # OpenAI counts cached tokens within the prompt, and reasoning within the completion.
    provider_object = {
        "prompt_tokens": 1_200,
        "prompt_tokens_details": {"cached_tokens": 1_024},
        "completion_tokens": 300,
        "completion_tokens_details": {"reasoning_tokens": 128},
        "total_tokens": 1_500,
    }
    recorded = story.record(
        token=grant.token,
        provider_usage={"dialect": "DIALECT_OPENAI", "json": json.dumps(provider_object)},
        provider="openai",
        served_model="gpt-4o-2024-11-20",
        latency="1.250s",
    )
    charge = cost(GPT, input=176, cache_read=1_024, output=172) + cost(GPT, output=128)
    expect(dollars(recorded.charged), charge)
    story.charged += charge

    newest = story.operator.UsageService.ListUsage(account="startup", page_size=1).events[0]
    counts = newest.quantities
    expect((counts.input, counts.cache_read), (176, 1_024))
    expect((counts.output, counts.reasoning), (172, 128))


def a_request_is_reduced_to_what_the_funds_cover(story):
    wish = {"input_tokens": 1_000, "max_output_tokens": 10_000_000}
    denial = story.authorize("standard", GPT, **wish)
    expect(enum_name(denial, "reason"), "DENIAL_REASON_INSUFFICIENT_CREDITS")
    grant = story.authorize("standard", GPT, allow_reduced_output=True, **wish)
    expect(grant.reduced, True)
    available = Decimal(5) - story.charged
    left_for_output = available - cost(GPT, input=1_000) * INPUT_MARGIN
    expect(grant.max_output_tokens, int(left_for_output / Decimal(PRICES[GPT]["output"]) * MILLION))
    expect(dollars(grant.reserved) <= available, True)
    # The request is not made after all: what was held comes back.
    cancelled = story.gateway.AuthorizationService.CancelAuthorization(token=grant.token)
    expect(dollars(cancelled.released), dollars(grant.reserved))
    expect(dollars(cancelled.charged), Decimal(0))


def every_denial_says_what_to_do(story):
    small, long_one, dear_one = request(10, 10), request(4_000, 2_000), request(10, 3_000)
    flipped = story.keys["standard"][:-1] + ("a" if story.keys["standard"][-1] != "a" else "b")
    cases = [
        # the key, the model, the request, and the answer: reason, HTTP status, error code
        ("nonsense", FLASH, small, "MALFORMED_KEY", 401, "invalid_api_key"),
        (flipped, FLASH, small, "MALFORMED_KEY", 401, "invalid_api_key"),
        (nobodys_key(), FLASH, small, "UNKNOWN_KEY", 401, "invalid_api_key"),
        ("revoked", FLASH, small, "KEY_REVOKED", 401, "invalid_api_key"),
        ("standard", "gpt-nonsense", small, "MODEL_NOT_FOUND", 404, "model_not_found"),
        ("standard", UNPRICED, small, "MODEL_UNPRICED", 404, "model_not_found"),
        ("capped", GPT, small, "MODEL_NOT_ALLOWED", 403, "model_not_allowed"),
        ("standard", PRO, small, "PRO_KEY_REQUIRED", 403, "model_not_allowed"),
        ("capped", FLASH, long_one, "REQUEST_TOO_LARGE", 400, "context_length_exceeded"),
        ("pro", PRO, request(100_001, 1), "REQUEST_TOO_LARGE", 400, "context_length_exceeded"),
        ("capped", FLASH, dear_one, "REQUEST_TOO_EXPENSIVE", 400, "request_too_expensive"),
        ("standard", GPT, request(10, 600_000), "INSUFFICIENT_CREDITS", 402, "insufficient_quota"),
        ("pro", GPT, request(10, 10**8 * 2), "CREDIT_LIMIT_EXCEEDED", 402, "insufficient_quota"),
    ]
    for key, model, fields, reason, http_status, error_code in cases:
        denial = story.authorize(key, model, **fields)
        got = enum_name(denial, "reason") if hasattr(denial, "reason") else denial
        expect(got, f"DENIAL_REASON_{reason}", (key, model))
        expect((denial.http_status, denial.error_code), (http_status, error_code), reason)
        expect(bool(denial.scope and denial.message), True, reason)
        expect(any(key in denial.message for key in story.keys.values()), False, reason)

    # The numbers of a shortage are there to be read by a program.
    denial = story.authorize("standard", GPT, **request(10, 600_000))
    expect(denial.scope, "account startup")
    expect(Decimal(denial.limit), Decimal(5) - story.charged)
    expect(denial.retryable, False)
    denial = story.authorize("capped", FLASH, **long_one)
    expect((denial.limit, denial.used), ("5000", "6000"))


def a_suspended_account_is_denied_at_once(story):
    story.operator.AccountService.SuspendAccount(account="startup", reason="unpaid")
    denial = story.authorize("standard", FLASH, input_tokens=10, max_output_tokens=10)
    expect(enum_name(denial, "reason"), "DENIAL_REASON_ACCOUNT_SUSPENDED")
    story.operator.AccountService.ResumeAccount(account="startup", reason="paid")
    grant = story.authorize("standard", FLASH, input_tokens=10, max_output_tokens=10)
    story.gateway.AuthorizationService.CancelAuthorization(token=grant.token)


def an_expired_key_is_denied(story):
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    issued = story.operator.KeyService.IssueKey(
        account="startup", name="for a moment", tier="TIER_STANDARD", expires_at=soon
    )
    time.sleep(2.1)
    denial = story.authorize(issued.api_key, FLASH, input_tokens=10, max_output_tokens=10)
    expect(enum_name(denial, "reason"), "DENIAL_REASON_KEY_EXPIRED")


def a_long_answer_is_extended_in_mid_stream(story):
    grant = story.authorize("pro", PRO, input_tokens=2_000, max_output_tokens=1_000)
    expect(enum_name(grant, "route"), "ROUTE_DEDICATED")
    # Ten percent off, which is a price version of its own.
    ceiling = cost(PRO, input=2_000) * INPUT_MARGIN + cost(PRO, output=1_000)
    expect(dollars(grant.reserved), ceiling * Decimal("0.9"))
    extended = story.gateway.AuthorizationService.ExtendAuthorization(
        token=grant.token, max_output_tokens=4_000
    ).grant
    expect(extended.authorization_id, grant.authorization_id)
    ceiling = cost(PRO, input=2_000) * INPUT_MARGIN + cost(PRO, output=4_000)
    expect(dollars(extended.reserved), ceiling * Decimal("0.9"))
    recorded = story.record(
        token=extended.token, quantities={"input": 2_000, "output": 3_500}
    )
    charge = cost(PRO, input=2_000, output=3_500) * Decimal("0.9")
    expect((dollars(recorded.charged), dollars(recorded.overrun)), (charge, Decimal(0)))
    expect(dollars(story.balance("enterprise").unbilled), charge)
    story.enterprise_event, story.enterprise_charge = recorded.event_id, charge


def a_stream_acknowledges_each_item(story):
    grants = [
        story.authorize("standard", FLASH, input_tokens=100, max_output_tokens=100)
        for _ in range(20)
    ]
    items = [
        {"sequence": number, "usage": {"token": grant.token, "quantities": {"input": 100}}}
        for number, grant in enumerate(grants)
    ]
    # One of them is damaged, and fails alone.
    items[7]["usage"]["token"] = "damaged"
    answers = {
        answer.sequence: answer.result
        for answer in story.gateway.UsageService.RecordUsageStream(iter(items))
    }
    expect(sorted(answers), list(range(20)))
    expect(answers[7].error.field, "token")
    charges = [dollars(answers[n].response.charged) for n in range(20) if n != 7]
    expect(charges, [cost(FLASH, input=100)] * 19)
    story.charged += sum(charges)
    story.gateway.AuthorizationService.CancelAuthorization(token=grants[7].token)


def usage_is_reversed_to_where_it_was_paid_from(story):
    reverse = {
        "account": "enterprise",
        "event_id": story.enterprise_event,
        "reason": "the answer was cut off",
        "idempotency_key": "reverse-1",
    }
    reversal = story.operator.UsageService.ReverseUsage(**reverse)
    expect(dollars(reversal.to_unbilled), story.enterprise_charge)
    again = story.operator.UsageService.ReverseUsage(**reverse)
    expect(dollars(again.reversed), story.enterprise_charge)
    expect(dollars(story.balance("enterprise").unbilled), Decimal(0))


def usage_can_be_listed_and_summed(story):
    events, token = [], ""
    while True:
        page = story.operator.UsageService.ListUsage(
            account="startup", page_size=7, page_token=token
        )
        events.extend(page.events)
        token = page.next_page_token
        if not token:
            break
    expect(len({event.event_id for event in events}), len(events))
    expect(sum(dollars(event.charged) for event in events), story.charged)
    summaries = story.operator.UsageService.SummarizeUsage(
        account="startup", group_by="USAGE_GROUPING_MODEL"
    ).summaries
    expect(sum(dollars(summary.charged) for summary in summaries), story.charged)
    expect({summary.group for summary in summaries}, {FLASH, GPT})


def the_books_balance_to_the_last_decimal(story):
    balance = story.balance("startup")
    expect(dollars(balance.credits), Decimal(5) - story.charged)
    trial = story.operator.LedgerService.GetTrialBalance()
    for total in trial.totals:
        expect(dollars(total.debits), dollars(total.credits))
    lines = {line.code: dollars(line.balance) for line in trial.lines}
    expect(lines["4000"], story.charged)
    expect(lines["2000"], Decimal(5) - story.charged)
    expect(sum(value for code, value in lines.items() if code.startswith("1000")), Decimal(5))
    transfers = story.operator.LedgerService.ListTransfers(account="startup").transfers
    revenue = [each for each in transfers if each.credit == "4000"]
    expect(sum(dollars(each.amount) for each in revenue), story.charged)
    verified = story.operator.LedgerService.VerifyLedger()
    findings = [finding for check in verified.checks for finding in check.findings]
    expect((verified.clean, findings), (True, []))
    expect(sum(check.examined for check in verified.checks) > 0, True)


CHAPTERS = [
    the_server_describes_itself_and_serves,
    callers_need_a_token_and_the_right_role,
    prices_are_published_all_or_nothing,
    customers_are_a_startup_and_an_enterprise,
    keys_are_shown_once,
    a_payment_is_credited_once,
    an_allowed_request_is_reserved_at_its_ceiling,
    usage_is_charged_exactly_and_once,
    a_providers_usage_object_is_made_disjoint,
    a_request_is_reduced_to_what_the_funds_cover,
    every_denial_says_what_to_do,
    a_suspended_account_is_denied_at_once,
    an_expired_key_is_denied,
    a_long_answer_is_extended_in_mid_stream,
    a_stream_acknowledges_each_item,
    usage_is_reversed_to_where_it_was_paid_from,
    usage_can_be_listed_and_summed,
    the_books_balance_to_the_last_decimal,
]


def usd(amount):
    return {"currency_code": "USD", "amount": amount}


def dollars(money):
    expect(money.currency_code, "USD")
    return Decimal(money.amount)


def price(model, rates):
    begin = "2026-01-01T00:00:00Z"
    return {"model": model, "currency_code": "USD", "effective_from": begin, "rates": rates}


def request(input_tokens, max_output_tokens):
    return {"input_tokens": input_tokens, "max_output_tokens": max_output_tokens}


def nobodys_key():
    """A key of the right form that was never issued: 43 characters and the CRC-32 before it."""
    text = "ga_sk_" + "0" * 43
    rest, checksum = zlib.crc32(text.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        checksum = BASE62[digit] + checksum
    return text + checksum


def cost(model, **tokens):
    """What so many tokens of these classes cost at this story's prices."""
    rates = PRICES[model]
    return sum(Decimal(rates[each]) * count / MILLION for each, count in tokens.items())


def refused(call):
    """The refusal that a call must meet."""
    try:
        answer = call()
    except Refused as refusal:
        return refusal
    raise AssertionError(f"this should have been refused, and was answered: {answer}")


def expect(actual, wanted, about=""):
    if actual != wanted:
        raise AssertionError(f"{about} is {actual!r} and should be {wanted!r}".strip())


def main():
    server = Server(sys.argv[1])
    try:
        server.wait_until_it_listens()
        story = Story(server)
        for chapter in CHAPTERS:
            chapter(story)
            print(f"ok   {chapter.__name__.replace('_', ' ')}", flush=True)
        expect(server.stop(), 0, "the exit status after SIGTERM")
        print("ok   the server drains and ends with status 0")
        print(f"\n{len(CHAPTERS) + 1} passed, 0 failed")
    except BaseException:
        print(f"\nThe server's last words:\n{server.read_log()[-4_000:]}", file=sys.stderr)
        raise
    finally:
        server.remove()


if __name__ == "__main__":
    main()
