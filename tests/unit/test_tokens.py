import json
from contextlib import suppress
from itertools import pairwise

import boto3
import jwt
import pytest
from botocore.exceptions import ClientError

from deployment import credentials
from fakes import AUDIENCE, FakeLease, MemoryStore, TokenService
from kiva_answers import token_answer
from kiva_partner.errors import Misconfigured, NotSent
from kiva_partner.tokens import (
    ADVISORY_WINDOW,
    EARLY_WINDOW,
    FAILED_RENEWAL_INTERVAL,
    FORCED_RENEWAL_INTERVAL,
    LEASE_SECONDS,
    MANDATORY_WINDOW,
    REQUEST_SECONDS,
    SCOPES,
    Credentials,
    CredentialsRefused,
    CredentialsSecret,
    Lease,
    NoScopeGranted,
    ParameterStore,
    SecretsManagerStore,
    TokenProvider,
    UnusableAnswer,
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
            lambda: [Credentials("a-client", SECRET, "version-1")],
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

    def slow(url, form, seconds):
        clock.advance(30)
        return original(url, form, seconds)

    tokens._post_form = slow
    assert tokens.get("read:loans").expires_at == before + LIFE


@pytest.mark.parametrize("life", ["43199", 43199.0, "43199.0", 43199], ids=repr)
def test_a_life_may_be_written_as_a_text_or_with_a_fraction(provider, service, clock, life):
    service.changes = {"expires_in": life}
    assert provider().get("read:loans").expires_at == clock() + LIFE


def test_a_life_that_is_left_out_is_that_of_the_jwt(provider, service, clock):
    token = jwt.encode({"exp": int(clock()) + 7200}, "k" * 32)
    service.changes = {"access_token": token, "expires_in": None}
    assert provider().get("read:loans").expires_at == int(clock()) + 7200


@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        (["read:loans", "create:loan_draft"], {"read:loans", "create:loan_draft"}),
        ("  create:loan_draft\tread:loans ", {"read:loans", "create:loan_draft"}),
        (["read:loans ", "READ:LOANS", "read:loan", "create:repayment"], {"create:repayment"}),
        (None, set(SCOPES)),  # RFC 6749 §5.1: left out, it is what was asked for
        ([], set()),
        ("", set()),
    ],
    ids=repr,
)
def test_scopes_come_as_a_text_or_a_list_and_are_compared_exactly(provider, service, store, scope, granted):
    service.changes = {"scope": scope}
    provider().renew()
    assert set(json.loads(store.text)["scopes"]) == granted


UNREADABLE = {
    "access_token": [None, "", 5, ["t"], {}, "a\r\nX-Injected: 1", "t" * 8193, "canary tök"],
    "token_type": [None, "", "canary", 5, ["bearer"]],
    "expires_in": [None, True, False, -1, 0, 299, 86_401, "canary", "-1", "1e5", "", "4 3199", 1e99, 10**400, [], {}],
    "scope": [5, True, {}, [5], ["read:loans", None]],
    "partnerId": [None, "", True, 9001.5, [], {"id": "9001"}],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in UNREADABLE.items() for value in values], ids=ascii
)
def test_a_field_that_cannot_be_read_is_named_and_what_is_in_it_is_not(provider, service, store, field, value):
    service.changes = {field: value}
    with pytest.raises(UnusableAnswer) as caught:
        provider().get("read:loans")
    named = {name for name in UNREADABLE if name in str(caught.value)}
    assert named == {field}
    assert "canary" not in str(caught.value)
    assert store.text is None


def test_all_that_cannot_be_read_is_named_at_once(provider, service):
    service.body = b"{}"
    with pytest.raises(UnusableAnswer) as caught:
        provider().get("read:loans")
    assert {name for name in UNREADABLE if name in str(caught.value)} == UNREADABLE.keys() - {"scope"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>maintenance</html>", "is not JSON"),
        (b"", "is not JSON"),
        (b"\xff\xfe{\x00}\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b'"a token"', "is not a JSON object"),
        (b"null", "is not a JSON object"),
    ],
    ids=["a page", "nothing", "UTF-16", "nested", "a list", "a text", "null"],
)
def test_an_answer_that_is_no_object_means_not_sent(provider, service, body, said):
    service.body = body
    with pytest.raises(NotSent, match=said):
        provider().get("read:loans")


def test_a_byte_order_mark_before_the_answer_does_not_count(provider, service):
    service.body = b"\xef\xbb\xbf" + json.dumps(token_answer("opaque")).encode()
    assert provider().get("read:loans").value == "opaque"


@pytest.mark.parametrize("status", [200, 400, 401, 403])
@pytest.mark.parametrize("code", ["invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"])
def test_a_refusal_carries_its_code_and_not_its_description(provider, service, status, code):
    service.status = status
    service.body = json.dumps({"error": code, "error_description": "canary", "error_uri": "canary"}).encode()
    with pytest.raises(CredentialsRefused, match=f"HTTP {status}, {code}$") as caught:
        provider().get("read:loans")
    assert "canary" not in str(caught.value)
    assert len(service.asked) == 1


def test_trouble_carries_its_code_too(provider, service):
    service.status, service.body = 503, b'{"error": "temporarily_unavailable"}'
    with pytest.raises(NotSent, match=r"HTTP 503, temporarily_unavailable$"):
        provider().get("read:loans")


@pytest.mark.parametrize("code", ["Bad Request", "x" * 41, "", "canary1", ["invalid_client"], None, "client", "s3cr"])
def test_what_is_no_code_is_not_shown(provider, service, code):
    service.status, service.body = 400, json.dumps({"error": code}).encode()
    with pytest.raises(CredentialsRefused, match=r"HTTP 400$"):
        provider().get("read:loans")


# --- scopes that are not granted --------------------------------------------------------------------------------------

ALL = " ".join(SCOPES)
THREE = "read:loans create:loan_draft create:journal_update"
PROBED = [ALL, *SCOPES, THREE]
DAY = 24 * 3600


@pytest.fixture
def three(service):
    """The token service of a client that has three scopes and refuses a request for more."""
    service.scopes = set(THREE.split())
    return service


def test_a_client_with_three_scopes_gets_one_token_for_them_and_the_missing_one_is_named(provider, three, caplog):
    tokens = provider()
    assert tokens.get("read:loans").scopes == set(THREE.split())
    assert three.scopes_asked == PROBED
    with pytest.raises(Misconfigured, match="does not grant create:repayment"):
        tokens.get("create:repayment")
    assert "does not grant create:repayment to these credentials" in caplog.text
    assert len(three.asked) == len(PROBED)


def test_what_was_found_is_shared_so_that_the_next_renewal_asks_for_the_union_at_once(provider, three, clock):
    provider().get("read:loans")
    clock.advance(LIFE)
    assert provider().get("read:loans").scopes == set(THREE.split())
    assert three.scopes_asked == [*PROBED, THREE]


def test_a_scope_that_is_granted_meanwhile_is_found_within_a_day_and_asked_for_once(provider, three, clock):
    here = provider()
    probed_at = []
    for _ in range(0, 3 * DAY, 300):
        before = len(three.asked)
        here.renew_early()
        if ALL in three.scopes_asked[before:]:
            probed_at.append(clock())
            assert three.scopes_asked[before:] == PROBED
        clock.advance(300)
    gaps = [later - earlier for earlier, later in pairwise(probed_at)]
    assert len(gaps) >= 2
    assert all(DAY / 2 < gap <= DAY for gap in gaps)
    three.scopes.add("create:repayment")
    clock.advance(DAY)
    assert here.renew_early()
    assert here.get("create:repayment").scopes == set(SCOPES)
    assert three.scopes_asked[-1] == ALL


def test_a_day_after_the_probe_all_scopes_are_asked_for_whatever_a_token_lives(provider, three, clock):
    three.changes = {"expires_in": 3600}
    provider().get("read:loans")
    for _ in range(25):
        clock.advance(3300)
        provider().get("read:loans")
    assert three.scopes_asked.count(ALL) == 1
    clock.advance(3300)
    provider().get("read:loans")
    assert three.scopes_asked.count(ALL) == 2


def test_other_credentials_are_asked_for_all_scopes(settings, provider, three, store, lease, clock):
    provider().get("read:loans")
    clock.advance(LIFE)
    stored = [Credentials("a-client", SECRET, "version-2")]
    three.scopes = set(SCOPES)
    TokenProvider(settings, store, lease, lambda: stored, three, clock=clock, sleep=clock.sleep).get("create:repayment")
    assert three.scopes_asked == [*PROBED, ALL]


def test_nothing_of_the_credentials_is_kept_with_what_was_found(provider, three, store):
    provider().get("read:loans")
    kept = json.loads(store.text)["grants"]
    assert list(kept) == ["version-1"]
    assert SECRET not in store.text
    assert "a-client" not in store.text


def test_a_scope_that_is_taken_away_is_found_at_the_next_renewal(provider, three, clock):
    provider().get("read:loans")
    clock.advance(LIFE)
    three.scopes -= {"create:journal_update"}
    assert provider().get("read:loans").scopes == {"read:loans", "create:loan_draft"}
    assert three.scopes_asked[len(PROBED) :] == [THREE, *SCOPES, "read:loans create:loan_draft"]


def test_a_client_with_one_scope_is_served_by_the_token_that_was_asked_for_alone(provider, service):
    service.scopes = {"create:repayment"}
    assert provider().get("create:repayment").scopes == {"create:repayment"}
    assert service.scopes_asked == [ALL, *SCOPES]


def test_credentials_without_any_scope_are_asked_about_once_a_day_and_then_once_a_minute(provider, service, clock):
    service.scopes = set()
    for _ in range(3):
        with pytest.raises(NoScopeGranted, match="none of read:loans, create:loan_draft"):
            provider().get("read:loans")
        clock.advance(FAILED_RENEWAL_INTERVAL)
    assert service.scopes_asked == [ALL, *SCOPES, ALL, ALL]
    service.scopes = set(SCOPES)
    assert provider().get("read:loans").scopes == set(SCOPES)
    clock.advance(LIFE - ADVISORY_WINDOW)
    service.scopes = set(THREE.split())
    assert provider().get("read:loans").scopes == set(THREE.split())


def test_a_service_that_leaves_out_what_is_not_granted_is_asked_once(provider, service, caplog):
    service.changes = {"scope": THREE}
    assert provider().get("read:loans").scopes == set(THREE.split())
    assert service.scopes_asked == [ALL]
    assert "does not grant create:repayment" in caplog.text


@pytest.mark.parametrize("takes", [0, 1, 2, 3, 4, 5, 6, 8, 10])
def test_asking_for_each_scope_ends_before_the_lease_and_goes_on_from_what_was_found(provider, three, clock, takes):
    three.takes = takes
    for _ in range(6):
        three.given.clear()
        ends = clock() + LEASE_SECONDS
        with suppress(NotSent):
            provider().get("read:loans")
        assert clock() <= ends
        probes = [(asked_at, seconds) for asked_at, seconds in three.given if seconds != REQUEST_SECONDS]
        assert all(seconds >= 4 and asked_at + seconds <= ends for asked_at, seconds in probes)
        clock.advance(FAILED_RENEWAL_INTERVAL)
    assert provider().get("read:loans").scopes == set(THREE.split())
    assert three.scopes_asked.count(ALL) == 1
    assert max(three.scopes_asked.count(scope) for scope in SCOPES) <= 2


def test_a_probe_is_given_what_is_left_of_the_lease(provider, three):
    three.takes = 2
    provider().get("read:loans")
    given = [seconds for _, seconds in three.given]
    assert given == [REQUEST_SECONDS, *(LEASE_SECONDS - 2 * asked for asked in range(1, len(PROBED)))]


def test_with_too_little_time_left_no_probe_is_begun(provider, three, clock):
    here = provider()
    asked = here._post_form

    def slow_at_first(url, form, seconds):
        three.takes = 15 if form["scope"] == ALL else 1
        return asked(url, form, seconds)

    here._post_form = slow_at_first
    with pytest.raises(NotSent, match="no time to ask for each scope"):
        here.get("read:loans")
    assert [seconds for _, seconds in three.given] == [REQUEST_SECONDS, 5, 4]


def test_each_scope_is_asked_for_under_the_lease(provider, three, lease):
    held = []
    lease.acquire, lease.release = (lambda: held.append(1) or True), held.clear
    tokens = provider()
    asked = tokens._post_form
    tokens._post_form = lambda *request: (held or pytest.fail("without the lease")) and asked(*request)
    tokens.get("read:loans")
    assert len(three.asked) == len(PROBED)
    assert not held


def test_when_the_union_is_not_answered_the_next_attempt_asks_for_it_at_once(provider, three, clock):
    here = provider()
    asked = here._post_form

    def trouble_with_the_union(url, form, seconds):
        three.down = NotSent("down") if form["scope"] == THREE else None
        return asked(url, form, seconds)

    here._post_form = trouble_with_the_union
    with pytest.raises(NotSent):
        here.get("read:loans")
    three.down = None
    assert provider().get("read:loans").scopes == set(THREE.split())
    assert three.scopes_asked == [*PROBED, THREE]


def test_the_old_token_stays_where_it_is_while_it_is_found_out_what_is_granted(provider, three, clock, store):
    three.scopes = None
    old = provider().get("read:loans")
    clock.advance(LIFE - EARLY_WINDOW)
    three.scopes, three.takes = set(THREE.split()), 8
    with pytest.raises(NotSent):
        provider().renew_early()
    assert json.loads(store.text)["grants"]
    assert provider().get("create:repayment") == old


def test_what_was_found_too_late_does_not_take_the_place_of_what_another_one_has_shared(provider, three, store, clock):
    store.text = "shared by another one meanwhile"
    three.takes = LEASE_SECONDS / 2
    here = provider()
    asked = here._post_form

    def too_late(url, form, seconds):
        clock.advance(LEASE_SECONDS)
        return asked(url, form, seconds)

    here._post_form = too_late
    with pytest.raises(NotSent):
        here.get("read:loans")
    assert store.text == "shared by another one meanwhile"


def test_scopes_that_are_granted_alone_and_not_together_are_no_endless_matter(provider, service):
    def alone(url, form, seconds):
        service.scopes = {form["scope"]}
        return service(url, form, seconds)

    here = provider()
    here._post_form = alone
    with pytest.raises(CredentialsRefused, match="not all of them together"):
        here.get("read:loans")
    assert len(service.asked) <= len(PROBED)


def test_credentials_without_a_scope_leave_those_before_them_at_work(settings, store, lease, clock, service):
    def ask(url, form, seconds):
        service.scopes = set() if form["client_secret"] == "new" else set(SCOPES)
        return service(url, form, seconds)

    stored = [Credentials("a-client", "new", "version-2"), Credentials("a-client", "old", "version-1")]
    tokens = TokenProvider(settings, store, lease, lambda: stored, ask, clock=clock, sleep=clock.sleep)
    assert tokens.get("create:repayment")
    assert isinstance(tokens.complaint, NoScopeGranted)


def test_who_looks_whether_all_is_right_has_every_scope_asked_for(provider, three, clock):
    here = provider()
    here.get("read:loans")
    three.scopes.add("create:repayment")
    clock.advance(FORCED_RENEWAL_INTERVAL)
    assert provider().renew().scopes == set(SCOPES)
    assert here.get("create:repayment").scopes == set(SCOPES)


def test_who_looks_while_another_one_asks_does_not_ask(provider, service, lease):
    lease.free = False
    with pytest.raises(NotSent, match="another function is asking"):
        provider().renew()
    assert service.asked == []


def test_who_lacks_a_scope_looks_for_a_newer_token_once_a_minute(provider, three, store, clock):
    here = provider()
    here.get("read:loans")
    clock.advance(FORCED_RENEWAL_INTERVAL)
    loads = store.loads
    for _ in range(5):
        with pytest.raises(Misconfigured):
            here.get("create:repayment")
    assert store.loads == loads + 1
    assert len(three.asked) == len(PROBED)


def test_who_lacks_a_scope_does_not_go_back_to_an_older_token_that_has_it(provider, service, store, clock):
    provider().get("read:loans")
    clock.advance(LIFE - ADVISORY_WINDOW)
    store.broken, service.scopes = True, set(THREE.split())
    here = provider()
    newer = here.get("read:loans")
    with pytest.raises(Misconfigured):
        here.get("create:repayment")
    assert here.get("read:loans") is newer


@pytest.mark.parametrize("spoilt", [None, [], {"version-1": None}, {"version-1": {"granted": 5}}, "x"], ids=repr)
def test_what_was_found_is_found_again_when_it_cannot_be_read(provider, three, store, clock, spoilt):
    provider().get("read:loans")
    store.text = json.dumps({**json.loads(store.text), "grants": spoilt})
    assert provider().get("read:loans")
    clock.advance(LIFE)
    assert provider().get("read:loans")
    assert three.scopes_asked == [*PROBED, *PROBED]


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


@pytest.mark.parametrize(
    "stored",
    [
        credentials("s3cret\n", client_id="a-client"),
        credentials(" s3cret\t", client_id="\r\na-client "),
        "\ufeff" + credentials("s3cret") + "\r\n",
        credentials("s3cret", environment="sandbox\n", partner_id=" 9001"),
        credentials("s3cret", partner_id=9001),
    ],
    ids=["case 29", "both", "a file with a byte order mark", "whose", "a number"],
)
def test_blanks_and_newlines_around_what_is_stored_do_not_count(secret, stored):
    (read,) = secret(stored)
    assert (read.client_id, read.client_secret) == ("a-client", "s3cret")


@pytest.mark.parametrize("name", ["client_id", "client_secret"])
@pytest.mark.parametrize("value", ["", " ", "\n"], ids=repr)
def test_nothing_but_blanks_is_named(secret, name, value):
    with pytest.raises(Misconfigured, match=f"has an empty {name}"):
        next(secret(credentials(**{"secret" if name == "client_secret" else name: value})))


@pytest.mark.parametrize("value", [None, 5, ["canary"]], ids=repr)
def test_what_is_no_text_is_no_credential(secret, value):
    with pytest.raises(Misconfigured, match="is not JSON with client_id") as caught:
        next(secret(credentials(client_id=value)))
    assert "canary" not in str(caught.value)


def test_each_that_was_stored_has_a_version_of_its_own_which_it_keeps(secret):
    first = next(secret(credentials("first")))
    second, before = secret(credentials("second"))
    assert before == first
    assert second.version != first.version


@pytest.mark.parametrize("before", ["{}", credentials(environment="production"), credentials(partner_id="63")])
def test_what_was_stored_before_for_something_else_is_not_used(secret, before):
    assert [it.client_secret for it in secret(before, credentials("now"))] == ["now"]


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ([], "not configured yet: store Kiva's credentials"),
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

        def ask(url, form, seconds):
            service.status = 200 if form["client_secret"] in taken else 401
            clock.advance(slow)
            return service(url, form, seconds)

        stored = [Credentials("a-client", "new", "version-2"), Credentials("a-client", "old", "version-1")]
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


class Ssm:
    """SSM's client as far as it refuses: moto takes a parameter of any size."""

    class exceptions:  # noqa: N801 as boto3's
        ClientError = ClientError

    def __init__(self, code=""):
        self.code = code
        self.put = []

    def put_parameter(self, **request):
        self.put.append(request)
        if self.code:
            said = {"Code": self.code, "Message": "1 validation error: value 'canary' is too long"}
            raise ClientError({"Error": said}, "PutParameter")


class Locked:
    """SSM's client, with a parameter that an older stack has left: encrypted with a key that we may not use."""

    class exceptions:  # noqa: N801 as boto3's
        ClientError = ClientError
        ParameterNotFound = type("ParameterNotFound", (ClientError,), {})

    def __init__(self, code, *, readable=True):
        self.code = code
        self.readable = readable
        self.text = None

    def get_parameter(self, Name, *, WithDecryption=False):  # noqa: N803 they are boto3's
        if self.text is not None:
            return {"Parameter": {"Value": self.text}}
        if WithDecryption or not self.readable:
            raise ClientError({"Error": {"Code": self.code, "Message": "canary"}}, "GetParameter")
        return {"Parameter": {"Value": "AQICAH"}}

    def put_parameter(self, Value, **_):  # noqa: N803 it is boto3's
        self.text = Value


@pytest.mark.parametrize("code", ["AccessDeniedException", "InvalidKeyId"])
def test_a_token_that_an_older_stack_encrypted_is_replaced_and_then_shared(
    settings, lease, clock, service, code, caplog
):
    ssm = Locked(code)
    stored = [Credentials("a-client", SECRET, "version-1")]

    def provider():
        store = ParameterStore(lambda: ssm, "/stack/token", "alias/a-key")
        return TokenProvider(settings, store, lease, lambda: stored, service, clock=clock, sleep=clock.sleep)

    first = provider().get("read:loans")
    assert f"cannot be decrypted ({code})" in caplog.text
    assert "canary" not in caplog.text
    assert provider().get("read:loans").value == first.value
    assert len(service.asked) == 1


@pytest.mark.parametrize("ssm", [Locked("AccessDeniedException", readable=False), Locked("InternalServerError")])
def test_a_parameter_that_we_may_not_read_or_that_is_not_answered_for_is_no_empty_one(ssm):
    with pytest.raises(ClientError):
        ParameterStore(lambda: ssm, "/stack/token", "alias/a-key").load()


def test_what_does_not_fit_the_standard_tier_of_ssm_goes_into_the_advanced_one():
    ssm = Ssm()
    ParameterStore(lambda: ssm, "/stack/token", "alias/a-key").save("t" * 4097)
    assert [request["Tier"] for request in ssm.put] == ["Intelligent-Tiering"]


@pytest.fixture
def on_ssm(settings, lease, clock, service):
    """A provider whose store is this SSM, which lets nobody read."""

    def new(ssm, size):
        service.changes = {"access_token": "t" * size}
        store = ParameterStore(lambda: ssm, "/stack/token", "alias/a-key")
        store.load = lambda: None
        stored = [Credentials("a-client", SECRET, "version-1")]
        return TokenProvider(settings, store, lease, lambda: stored, service, clock=clock, sleep=clock.sleep)

    return new


@pytest.mark.parametrize(
    ("code", "size", "said"),
    [
        ("", 8000, "an SSM parameter holds 8192; deploy with TokenStore=secrets-manager"),
        ("ValidationException", 4000, "ValidationException; it takes 4"),
        ("AccessDeniedException", 5000, "standard tier holds 4096: allow the advanced tier (Intelligent-Tiering)"),
        ("AccessDeniedException", 1000, "asks for its own: AccessDeniedException"),
        ("ParameterMaxVersionLimitExceeded", 1000, "asks for its own: ParameterMaxVersionLimitExceeded"),
    ],
)
def test_a_token_that_ssm_does_not_take_serves_and_the_warning_names_the_reason(on_ssm, caplog, code, size, said):
    tokens = on_ssm(Ssm(code), size)
    assert tokens.get("read:loans")
    assert said in caplog.text
    assert tokens.unshared in caplog.text
    assert "canary" not in caplog.text


def test_the_warning_of_a_token_that_does_not_fit_counts_what_is_kept_and_not_the_token_alone(on_ssm, caplog):
    ssm = Ssm("ValidationException")
    on_ssm(ssm, 4000).get("read:loans")
    (request,) = ssm.put
    assert f"it takes {len(request['Value'])} characters" in caplog.text


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
    assert SECRET not in repr(Credentials("a-client", SECRET, "version-1"))
