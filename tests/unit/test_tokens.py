import json

import boto3
import jwt
import pytest

from deployment import credentials
from fakes import AUDIENCE, FakeLease, MemoryStore, TokenService
from kiva_partner.errors import Misconfigured, NotSent
from kiva_partner.tokens import (
    ADVISORY_WINDOW,
    EARLY_WINDOW,
    FAILED_RENEWAL_INTERVAL,
    FORCED_RENEWAL_INTERVAL,
    LEASE_SECONDS,
    MANDATORY_WINDOW,
    Credentials,
    CredentialsSecret,
    Lease,
    ParameterStore,
    SecretsManagerStore,
    TokenProvider,
)

LIFE = 43_199
SECRET = "s3cr&t+/="


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def lease():
    return FakeLease()


@pytest.fixture
def service(clock):
    return TokenService(clock)


@pytest.fixture
def provider(settings, store, lease, service, clock):
    """A new execution environment: its memory is empty, store, lease and service are those of its stage."""

    def new():
        return TokenProvider(
            settings,
            store,
            lease,
            lambda: [Credentials("a-client", SECRET)],
            service,
            clock=clock,
            sleep=clock.sleep,
            jitter=lambda low, _: low,
        )

    return new


def test_the_request_is_client_credentials_with_all_four_scopes(provider, service):
    provider().get("read:loans")
    assert service.asked == [
        {
            "grant_type": "client_credentials",
            "scope": "read:loans create:loan_draft create:journal_update create:repayment",
            "audience": AUDIENCE,
            "client_id": "a-client",
            "client_secret": SECRET,
        }
    ]


def test_a_fresh_token_serves_from_memory(provider, store, service):
    tokens = provider()
    first = tokens.get("read:loans")
    loads = store.loads
    assert tokens.get("create:repayment") is first
    assert store.loads == loads
    assert len(service.asked) == 1


def test_another_environment_takes_the_shared_token(provider, service):
    assert provider().get("read:loans") == provider().get("read:loans")
    assert len(service.asked) == 1


def test_the_token_type_may_be_in_any_case_but_must_be_bearer(provider, service):
    service.changes = {"token_type": "mac"}
    with pytest.raises(Misconfigured):
        provider().get("read:loans")
    service.changes = {"token_type": "BEARER"}
    assert provider().get("read:loans")


def test_scopes_are_a_set_whatever_their_order(provider, service):
    service.changes = {"scope": "read:loans create:loan_draft"}
    tokens = provider()
    assert tokens.get("create:loan_draft").scopes == {"create:loan_draft", "read:loans"}
    with pytest.raises(Misconfigured, match="does not grant create:repayment"):
        tokens.get("create:repayment")


@pytest.mark.parametrize(
    "changes",
    [
        {"partnerId": "63"},
        {"partnerId": None},
        {"expires_in": 299},
        {"expires_in": 86_401},
        {"access_token": "a\r\nX-Injected: 1"},
        {"access_token": ""},
        {"access_token": "t" * 8193},
        {"access_token": jwt.encode({"exp": 5}, "k" * 32)},
        {"access_token": jwt.encode({"exp": True}, "k" * 32)},
    ],
    ids=str,
)
def test_a_token_that_cannot_be_meant_for_us_is_refused(provider, service, store, changes):
    service.changes = changes
    with pytest.raises(Misconfigured):
        provider().get("read:loans")
    assert store.text is None


def test_an_exp_beyond_all_numbers_shortens_nothing(provider, service, clock):
    service.changes = {"access_token": jwt.encode({"exp": 10**400}, "k" * 32)}
    assert provider().get("read:loans").expires_at > clock() + LIFE - 1


def test_scopes_that_nobody_asked_for_go_nowhere(provider, service):
    service.changes = {"scope": "read:loans \u001b[31m create:anything"}
    assert provider().get("read:loans").scopes == {"read:loans"}


def test_a_partner_id_given_as_a_number_is_the_same_partner(provider, service):
    service.changes = {"partnerId": 9001}
    assert provider().get("read:loans")


@pytest.mark.parametrize("status", [400, 401, 403])
def test_refused_credentials_are_a_misconfiguration_that_names_no_secret(provider, service, status):
    service.status = status
    with pytest.raises(Misconfigured) as caught:
        provider().get("read:loans")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("status", [302, 404, 429, 500, 503])
def test_a_token_service_in_trouble_means_not_sent(provider, service, status):
    service.status = status
    with pytest.raises(NotSent):
        provider().get("read:loans")


def test_an_unreadable_answer_means_not_sent(provider, service):
    service.changes = {"expires_in": "soon"}
    with pytest.raises(NotSent):
        provider().get("read:loans")


def test_exp_of_the_jwt_may_shorten_the_life_but_never_lengthen_it(provider, service, clock, store):
    def life(exp):
        key = "unverified, so any key will do: it is 32 bytes long"
        service.changes = {"access_token": jwt.encode({"exp": int(clock() + exp)}, key, "HS256")}
        store.text = None
        return provider().get("read:loans").expires_at - clock()

    assert life(LIFE / 2) == pytest.approx(LIFE / 2, abs=1)
    assert life(LIFE * 2) == LIFE


def test_life_is_counted_from_before_the_request(provider, service, clock):
    before = clock()
    original = service.__call__
    tokens = provider()

    def slow(url, form):
        clock.advance(30)
        return original(url, form)

    tokens._post_form = slow
    assert tokens.get("read:loans").expires_at == before + LIFE


# --- renewal ----------------------------------------------------------------------------------------------------------


def test_inside_the_advisory_window_one_renews_and_shares(provider, service, clock):
    tokens, other = provider(), provider()
    old = tokens.get("read:loans")
    other.get("read:loans")
    clock.advance(LIFE - ADVISORY_WINDOW)
    new = tokens.get("read:loans")
    assert new.value != old.value
    assert other.get("read:loans") == new
    assert len(service.asked) == 2


def test_before_the_advisory_window_nobody_renews(provider, service, clock):
    tokens = provider()
    tokens.get("read:loans")
    clock.advance(LIFE - ADVISORY_WINDOW - 1)
    tokens.get("read:loans")
    assert len(service.asked) == 1


def test_while_another_renews_the_old_token_serves_without_waiting(provider, lease, clock):
    tokens = provider()
    old = tokens.get("read:loans")
    clock.advance(LIFE - ADVISORY_WINDOW)
    lease.free = False
    before = clock()
    assert tokens.get("read:loans") == old
    assert clock() == before


def test_in_the_last_minutes_everybody_waits_for_the_new_one(provider, store, lease, clock):
    tokens, other = provider(), provider()
    tokens.get("read:loans")
    clock.advance(LIFE - MANDATORY_WINDOW)
    lease.free = False

    def other_finishes(seconds):
        clock.advance(seconds)
        lease.free = True
        other.get("read:loans")
        lease.free = False

    tokens._sleep = other_finishes
    assert tokens.get("read:loans") == other.get("read:loans")


def test_a_holder_that_never_comes_back_is_not_waited_for_for_ever(provider, lease, clock):
    lease.free = False
    before = clock()
    with pytest.raises(NotSent):
        provider().get("read:loans")
    assert LEASE_SECONDS < clock() - before < 2 * LEASE_SECONDS


@pytest.mark.parametrize("trouble", [NotSent("down"), Misconfigured("refused")])
def test_a_failed_renewal_is_only_a_warning_while_the_old_token_is_good(provider, service, clock, caplog, trouble):
    tokens = provider()
    old = tokens.get("read:loans")
    clock.advance(LIFE - 1)
    service.down = trouble
    assert tokens.get("read:loans") == old
    assert "the old one still serves" in caplog.text
    clock.advance(1)
    with pytest.raises(type(trouble)):
        tokens.get("read:loans")


def test_a_token_that_cannot_be_shared_still_serves_its_finder(provider, store, caplog):
    store.broken = True
    assert provider().get("read:loans")
    assert "could not share" in caplog.text


@pytest.mark.parametrize("trouble", [NotSent("down"), Misconfigured("refused")])
def test_a_token_service_in_trouble_is_asked_once_a_minute(provider, service, clock, trouble):
    here = provider()
    service.down = trouble
    for _ in range(5):
        with pytest.raises(type(trouble), match=str(trouble)):
            here.get("read:loans")
        clock.advance(10)
    assert len(service.asked) == 1
    clock.advance(FAILED_RENEWAL_INTERVAL)
    service.down = None
    assert here.get("read:loans").value == "opaque-2"


def test_who_must_wait_for_the_next_attempt_is_told_how_long(provider, service, clock):
    here = provider()
    service.down = NotSent("down")
    with pytest.raises(NotSent):
        here.get("read:loans")
    clock.advance(20)
    with pytest.raises(NotSent) as raised:
        here.get("read:loans")
    assert raised.value.retry_after == FAILED_RENEWAL_INTERVAL - 20


def test_between_the_attempts_the_old_token_serves_without_waiting(provider, service, clock):
    here = provider()
    here.get("read:loans")
    clock.advance(LIFE - MANDATORY_WINDOW + 60)
    service.down = NotSent("down")
    before = clock()
    for _ in range(5):
        assert here.get("read:loans").value == "opaque-1"
    assert (len(service.asked), clock()) == (2, before)


def test_housekeeping_renews_in_the_last_hour_and_not_before(provider, service, clock):
    tokens = provider()
    assert tokens.renew_early()
    clock.advance(LIFE - EARLY_WINDOW - 1)
    assert not tokens.renew_early()
    clock.advance(1)
    assert tokens.renew_early()
    assert len(service.asked) == 2


@pytest.mark.parametrize("failure", [NotSent("down"), Misconfigured("the credentials are refused")], ids=repr)
def test_housekeeping_hears_that_it_could_not_renew_while_the_old_token_serves(provider, service, clock, failure):
    tokens = provider()
    tokens.renew_early()
    clock.advance(LIFE - EARLY_WINDOW)
    service.down = failure
    with pytest.raises(type(failure), match=str(failure)):
        tokens.renew_early()
    assert tokens.get("read:loans").value == "opaque-1"


def test_housekeeping_has_no_complaint_when_somebody_else_renewed_after_its_failure(provider, service, clock):
    tokens = provider()
    tokens.renew_early()
    clock.advance(LIFE - EARLY_WINDOW)
    service.down = NotSent("down")
    with pytest.raises(NotSent):
        tokens.renew_early()
    service.down = None
    assert provider().renew_early()
    assert not tokens.renew_early()


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_refused_token_is_replaced_for_all_but_only_once(provider, service, clock):
    environments = [provider() for _ in range(20)]
    held = [tokens.get("read:loans") for tokens in environments]
    clock.advance(3600)
    for tokens, old in zip(environments, held, strict=True):
        tokens.discard(old)
    renewed = {tokens.get("read:loans").value for tokens in environments}
    assert renewed == {"opaque-2"}
    assert len(service.asked) == 2


def test_forced_renewals_are_a_minute_apart(provider, service, clock):
    tokens = provider()
    tokens.discard(tokens.get("read:loans"))
    with pytest.raises(Misconfigured, match="less than a minute ago"):
        tokens.get("read:loans")
    clock.advance(FORCED_RENEWAL_INTERVAL)
    assert tokens.get("read:loans").value == "opaque-2"


def test_discarding_an_old_token_leaves_the_new_one_alone(provider, clock):
    tokens, other = provider(), provider()
    old = tokens.get("read:loans")
    other.get("read:loans")
    clock.advance(LIFE - ADVISORY_WINDOW)
    new = tokens.get("read:loans")
    tokens.discard(old)
    assert tokens.get("read:loans") is new


# --- credentials ------------------------------------------------------------------------------------------------------


@pytest.fixture
def secret(aws, settings):
    """What people store, one after the other, and the versions that the functions read of it."""
    client = boto3.client("secretsmanager")
    client.create_secret(Name=settings.credentials_secret)

    def versions(*stored):
        for text in stored:
            client.put_secret_value(SecretId=settings.credentials_secret, SecretString=text)
        return CredentialsSecret(lambda: client, settings).versions()

    return versions


def test_the_credentials_stored_last_come_first_and_those_before_them_next(secret):
    three = [credentials(name) for name in ("first", "second", "third")]
    assert [it.client_secret for it in secret(*three)] == ["third", "second"]


def test_credentials_stored_twice_are_tried_once(secret):
    assert len(list(secret(credentials(), credentials()))) == 1


@pytest.mark.parametrize("before", ["{}", credentials(environment="production"), credentials(partner_id="63")])
def test_what_was_stored_before_for_something_else_is_not_used(secret, before):
    assert [it.client_secret for it in secret(before, credentials("now"))] == ["now"]


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ([], "has no value yet"),
        (["canary"], "is not JSON with client_id, client_secret, environment and partner_id"),
        (["[]"], "is not JSON with"),
        (['{"client_id": "canary", "client_secret": "canary"}'], "is not JSON with"),
        ([credentials(environment="production")], "for another KIVA_ENVIRONMENT than sandbox"),
        ([credentials(partner_id="63")], "for another KIVA_PARTNER_ID than 9001"),
    ],
    ids=["nothing", "no JSON", "a list", "not whose", "another stage", "another partner"],
)
def test_credentials_that_are_not_for_this_stack_are_never_used(secret, stored, said):
    with pytest.raises(Misconfigured, match=said) as caught:
        next(secret(credentials(), *stored) if stored else secret())
    assert "canary" not in str(caught.value)


@pytest.fixture
def rotating(settings, store, lease, clock):
    """A provider to which two secrets are stored, and the token service that takes those given."""

    def new(*taken, slow=0):
        service = TokenService(clock)

        def ask(url, form):
            service.status = 200 if form["client_secret"] in taken else 401
            clock.advance(slow)
            return service(url, form)

        stored = [Credentials("a-client", "new"), Credentials("a-client", "old")]
        return TokenProvider(settings, store, lease, lambda: stored, ask, clock=clock, sleep=clock.sleep), service

    return new


def secrets_asked_with(service):
    return [form["client_secret"] for form in service.asked]


@pytest.mark.parametrize("taken", [("new", "old"), ("new",)], ids=["both live", "the old one gone"])
def test_a_new_secret_is_used_as_soon_as_kiva_takes_it(rotating, taken):
    provider, service = rotating(*taken)
    assert provider.get("read:loans")
    assert (secrets_asked_with(service), provider.complaint) == (["new"], None)


def test_a_secret_that_kiva_does_not_take_yet_leaves_the_old_one_at_work(rotating, caplog):
    provider, service = rotating("old")
    assert provider.get("read:loans")
    assert secrets_asked_with(service) == ["new", "old"]
    assert "refuses the client id, secret or audience" in str(provider.complaint)


def test_when_both_are_refused_nothing_is_sent(rotating):
    provider, service = rotating()
    with pytest.raises(Misconfigured, match="HTTP 401"):
        provider.get("read:loans")
    assert secrets_asked_with(service) == ["new", "old"]


def test_after_a_slow_refusal_there_is_no_second_try_for_which_the_lease_is_too_short(rotating):
    provider, service = rotating("old", slow=6)
    with pytest.raises(Misconfigured):
        provider.get("read:loans")
    assert secrets_asked_with(service) == ["new"]


# --- stores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"), [("environment", "production"), ("partner_id", "63"), ("audience", "x"), ("token_url", "x")]
)
def test_a_shared_token_of_another_stage_or_partner_is_not_used(provider, store, service, name, value):
    provider().get("read:loans")
    store.text = json.dumps({**json.loads(store.text), name: value})
    provider().get("read:loans")
    assert len(service.asked) == 2


@pytest.mark.parametrize("text", ["", "not json", "[]", "null", '{"access_token": "x"}', "[" * 30_000])
def test_a_spoilt_store_is_an_empty_store(provider, store, service, text):
    store.text = text
    assert provider().get("read:loans")
    assert len(service.asked) == 1


@pytest.mark.parametrize("value", ["t\r\nX-Evil: 1", "t t", "tök", "", 5, None, ["t"]], ids=repr)
def test_a_token_that_no_header_can_carry_is_no_token(provider, store, service, value):
    provider().get("read:loans")
    store.text = json.dumps({**json.loads(store.text), "access_token": value})
    assert provider().get("read:loans").value != value
    assert len(service.asked) == 2


def test_secrets_manager_keeps_the_token(aws):
    client = boto3.client("secretsmanager")
    store = SecretsManagerStore(lambda: client, "a-token")
    assert store.load() is None
    client.create_secret(Name="a-token")
    assert store.load() is None
    store.save("one")
    store.save("two")
    assert store.load() == "two"


def test_ssm_keeps_the_token_as_a_secure_string(aws):
    client = boto3.client("ssm")
    store = ParameterStore(lambda: client, "/stack/token", "alias/a-key")
    assert store.load() is None
    store.save("one")
    store.save("two")
    assert store.load() == "two"
    assert client.get_parameter(Name="/stack/token")["Parameter"]["Type"] == "SecureString"


def test_a_lease_has_one_holder_until_it_is_given_back_or_runs_out(table, clock):
    one, two = (Lease(lambda: table, "ledger", "lease", clock) for _ in range(2))
    assert one.acquire()
    assert not two.acquire()
    one.release()
    assert two.acquire()
    clock.advance(LEASE_SECONDS)
    assert not one.acquire()
    clock.advance(1)
    assert one.acquire()
    two.release()
    assert not two.acquire()


def test_neither_token_nor_secret_shows_in_a_repr(provider):
    token = provider().get("read:loans")
    assert token.value not in repr(token)
    assert SECRET not in repr(Credentials("a-client", SECRET))
