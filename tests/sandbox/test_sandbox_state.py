"""What is kept, where, and for how long: in memory until the end, or in a file from one start to the next."""

import signal
import sqlite3
import stat
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from threading import Thread

import httpx2
import pytest

from kiva_sandbox.bodies import Draft, Repayments
from kiva_sandbox.data import Partner, portfolio
from kiva_sandbox.state import State, Unusable
from kiva_sandbox.tokens import Tokens

JOURNAL = {"internal_loan_id": "L-70011-1", "subject": "A second stall", "body": "Rented."}


def now():
    return datetime(2026, 9, 1, 8, tzinfo=UTC)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "kiva.sqlite"


@pytest.fixture
def opened():
    """Opens a state, of 20 loans unless told otherwise; it is closed with the test."""
    with ExitStack() as states:

        def make(file=None, loans=20):
            state = State(portfolio(loans), now, file)
            states.callback(state.close)
            return state

        yield make


def report(*rows):
    return Repayments.model_validate(
        {"repayments": [{"loan_id": loan_id, "amount": amount} for loan_id, amount in rows]}
    )


def codes(upload):
    return [(problem["loan_id"], problem["code"]) for problem in upload["problems"]]


def drafted(state, body):
    return state.add_draft(body, Draft.model_validate(body))["loan_draft_uuid"]


def everything(state):
    return state.drafts(), state.journals(), state.uploads(), state.loans(), state.counters(), state.waiting()


# --- from one start to the next ---


def test_what_came_in_and_what_a_person_did_about_it_survive(opened, file, individual, group):
    before = opened(file)
    for body in (individual, group):
        drafted(before, body)
    before.publish(drafted(before, individual), completed=False)
    before.confirm(before.add_journals([JOURNAL, JOURNAL]))
    before.add_journals([JOURNAL])
    before.finalise(before.add_upload(report(("L-70011-1", 100), ("L-1", 5)))["upload_id"])
    before.add_upload(report(("L-70011-1", 200)))
    before.count("token")
    before.count("loans")
    kept = everything(before)
    before.close()
    after = opened(file)
    assert everything(after) == kept
    assert [draft["published"] for draft in after.drafts()] == [False, False, True]
    assert [journal["confirmed"] for journal in after.journals()] == [True, True, False]
    assert [upload["finalised"] for upload in after.uploads()] == [True, False]
    assert after.waiting() == {"drafts": (2, 3), "archives": (1, 2), "uploads": (1, 2)}
    assert after.counters() == (1, {"loan_draft": 0, "journals": 0, "repayments": 0, "loans": 1, "config": 0})


def test_numbers_go_on_where_they_were(opened, file, individual):
    before = opened(file)
    before.publish(drafted(before, individual), completed=False)
    before.add_journals([JOURNAL])
    before.add_upload(report(("L-70011-1", 100)))
    before.close()
    after = opened(file)
    assert after.add_journals([JOURNAL]) == "48002"
    assert after.add_upload(report(("L-70011-1", 100)))["upload_id"] == 90_002
    assert after.publish(drafted(after, individual), completed=False)["kiva_id"] == "2990022"


def test_reported_amounts_are_kept_to_the_last_digit(opened, file):
    before = opened(file)
    before.add_upload(report(("L-70011-1", Decimal("100.000000000000000000002"))))
    before.close()
    after = opened(file)
    assert codes(after.add_upload(report(("L-70011-1", Decimal("100.000000000000000000002"))))) == []
    assert codes(after.add_upload(report(("L-70011-1", Decimal("100.000000000000000000001"))))) == [
        ("L-70011-1", "repayment.amount_below_expected")
    ]


def test_half_surrogate_pairs_survive_wherever_they_stand(opened, file, individual):
    individual["entreps"][0] |= {"loan_id": "L-\ud83d", "client_id": "C-\ud83d", "first_name": "Half \ud83d"}
    before = opened(file)
    before.publish(drafted(before, individual), completed=False)
    before.add_journals([{**JOURNAL, "body": "half \ud83d"}])
    before.add_upload(report(("L-\ud83d", 1), ("L-\ud83c", 1)))
    kept = everything(before)
    before.close()
    after = opened(file)
    assert everything(after) == kept
    assert after.drafts()[0]["body"] == individual
    assert after.find_loans("\ud83d", "", 0, 5) == after.find_loans("L-\ud83d", "", 0, 5) == (1, after.loans()[-1:])
    assert codes(after.uploads()[0]) == [
        ("L-\ud83d", "repayment.loan_not_expected"),
        ("L-\ud83c", "repayment.loan_not_found"),
    ]
    assert after.has_draft("L-\ud83d")
    assert (after.draft("\ud83d"), after.archive("\ud83d"), after.loan("\ud83d")) == (None, [], None)


def test_a_token_of_before_opens_the_door_afterwards_and_no_other_sandboxs_door(opened, file, form):
    before = opened(file)
    token = Tokens(Partner(), before.signing_key(), now).issue(form)["access_token"]
    before.close()
    after = opened(file)
    after.reset()
    assert Tokens(Partner(), after.signing_key(), now).check(f"Bearer {token}").partner_id == "9001"
    keys = {opened().signing_key().private_numbers().d, opened().signing_key().private_numbers().d}
    assert len(keys | {after.signing_key().private_numbers().d}) == 3


def test_an_existing_file_keeps_its_own_loans_even_when_reset(opened, file, individual):
    opened(file, loans=3).close()
    state = opened(file, loans=20)
    state.publish(drafted(state, individual), completed=False)
    assert len(state.loans()) == 4
    state.add_upload(report(("L-70001-1", 500)))
    state.reset()
    assert state.loans() == portfolio(3)
    assert not state.has_draft("L-77310-2")
    assert state.add_journals([JOURNAL]) == "48001"
    assert codes(state.add_upload(report(("L-70001-1", 400), ("L-77310-2", 1)))) == [
        ("L-77310-2", "repayment.loan_not_found")
    ]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_was_answered_is_there_after_the_process_ended(start, file, form, individual, ending):
    options = ("--port", "0", "--state", str(file))
    first = start(*options, "--loans", "12")
    greeting = first.stdout.readline()
    assert f"12 loans, kept in {file}," in greeting
    with httpx2.Client(base_url=greeting.split()[-1], trust_env=False) as http:
        headers = {"Authorization": f"Bearer {http.post('/oauth/token', data=form).json()['access_token']}"}
        draft = http.post("/v3/partner/9001/loan_draft", json=individual, headers=headers).json()["loan_draft_uuid"]
        loan = http.post(f"/_sandbox/drafts/{draft}/publish").json()
        archive = http.post("/v3/partner/9001/journals", json=[JOURNAL], headers=headers).json()["archive_id"]
        body = {"repayments": [{"loan_id": "L-70011-1", "amount": 100}]}
        upload = http.post("/v3/partner/9001/repayments", json=body, headers=headers).json()["upload_id"]
        first.send_signal(ending)
    first.wait(timeout=30)
    second = start(*options)
    greeting = second.stdout.readline()
    assert f"13 loans, kept in {file}," in greeting
    with httpx2.Client(base_url=greeting.split()[-1], trust_env=False) as http:
        drafts, archives, uploads, loans = (
            http.get(f"/_sandbox/{name}").json()["data"] for name in ("drafts", "journals", "uploads", "loans")
        )
        counters = http.get("/_sandbox/counters").json()
        found = http.get("/v3/partner/9001/loans", params={"query": "L-77310-2"}, headers=headers)
    assert [(kept["loan_draft_uuid"], kept["published"], kept["body"]) for kept in drafts] == [
        (draft, True, individual)
    ]
    assert [(kept["archive_id"], kept["journal"]) for kept in archives] == [(archive, JOURNAL)]
    assert [kept["upload_id"] for kept in uploads] == [upload]
    assert loans == [*portfolio(12), loan]
    assert counters["token_requests"] == counters["calls"]["repayments"] == counters["calls"]["loan_draft"] == 1
    assert (found.status_code, found.json()["data"]) == (200, [loan])


def test_a_change_that_breaks_halfway_changes_nothing(opened, file):
    state = opened(file)
    state._db.execute("CREATE TRIGGER full BEFORE INSERT ON uploads BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(sqlite3.Error, match="disk full"):
        state.add_upload(report(("L-70011-1", 500)))
    state._db.execute("DROP TRIGGER full")
    assert state.uploads() == []
    assert codes(state.add_upload(report(("L-70011-1", 400)))) == []


# --- the file ---


def test_a_file_is_its_owners_alone_also_one_that_was_copied_carelessly(opened, file):
    state = opened(file)
    state.count("loans")
    assert {stat.S_IMODE(each.stat().st_mode) for each in file.parent.iterdir()} == {0o600}
    state.close()
    file.chmod(0o644)
    opened(file).count("loans")
    assert {stat.S_IMODE(each.stat().st_mode) for each in file.parent.iterdir()} == {0o600}


def test_an_empty_file_is_as_good_as_none(opened, file):
    file.touch()
    assert opened(file).loans() == portfolio(20)


def test_a_file_named_as_sqlite_names_memory_is_a_file(opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = opened(tmp_path.joinpath(":memory:").relative_to(tmp_path))
    state.add_journals([JOURNAL])
    state.close()
    assert len(opened(tmp_path / ":memory:").journals()) == 1


def text(file):
    file.write_text("borrowers and their loans\n" * 100)


def somebody_elses(file, *changes):
    with sqlite3.connect(file) as db:
        for change in ("CREATE TABLE loans (number)", *changes):
            db.execute(change)
    db.close()


def another_programs(file):
    somebody_elses(file, "PRAGMA application_id = 7")


def another_versions(file):
    State(portfolio(3), now, file).close()
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()


def cut_off(file):
    State(portfolio(20), now, file).close()
    file.write_bytes(file.read_bytes()[:9000])


def damaged(file):
    State(portfolio(20), now, file).close()
    held = bytearray(file.read_bytes())
    held[8192:16384] = bytes(8192)
    file.write_bytes(held)


REFUSED = {
    text: "file is not a database",
    somebody_elses: "holds something else than a sandbox's state",
    another_programs: "holds something else than a sandbox's state",
    another_versions: "is of another version of the sandbox: remove it, or",
    cut_off: "malformed",
    damaged: "is damaged: remove it, or",
}


@pytest.mark.parametrize(("make", "words"), REFUSED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_file_that_is_no_state_is_refused_in_one_line_and_left_as_it_is(opened, file, make, words):
    make(file)
    held, mode = file.read_bytes(), file.stat().st_mode
    with pytest.raises(Unusable) as refused:
        opened(file)
    assert words in str(refused.value)
    assert str(refused.value).startswith(str(file))
    assert str(refused.value).endswith("name another file")
    assert "\n" not in str(refused.value)
    assert (file.read_bytes(), file.stat().st_mode) == (held, mode)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("path", "words"), [("", "is no file"), ("text/kiva", "Not a directory"), ("nowhere/kiva", "No such file")]
)
def test_a_path_where_no_file_can_be_is_refused_in_one_line(opened, tmp_path, path, words):
    (tmp_path / "text").touch()
    with pytest.raises(Unusable, match=rf"{words}.*: name another file"):
        opened(tmp_path / path)


def test_a_file_that_cannot_be_written_is_refused_in_one_line(opened, file, monkeypatch):
    opened(file).close()
    connect = sqlite3.connect
    # As SQLite opens a file that may only be read; whoever runs the tests may be allowed to write everything.
    monkeypatch.setattr(sqlite3, "connect", lambda path, **how: connect(f"file:{path}?mode=ro", uri=True, **how))
    with pytest.raises(Unusable, match=r"attempt to write a readonly database.*: name another file"):
        opened(file)


def test_two_sandboxes_never_share_a_file(opened, file):
    first = opened(file)
    first.add_journals([JOURNAL])
    with pytest.raises(Unusable, match="in use, maybe by another sandbox: stop that one, or name another file"):
        opened(file)
    first.add_journals([JOURNAL])
    first.close()
    assert len(opened(file).journals()) == 2


def test_a_second_process_on_a_file_ends_with_one_clear_line_and_the_first_goes_on(start, file):
    first = start("--port", "0", "--state", str(file))
    address = first.stdout.readline().split()[-1]
    second = start("--port", "0", "--state", str(file))
    log, errors = second.communicate(timeout=30)
    assert (second.returncode, log) == (1, "")
    assert errors == f"kiva-sandbox: {file} is in use, maybe by another sandbox: stop that one, or name another file\n"
    assert httpx2.get(f"{address}/_sandbox/health", trust_env=False).status_code == 200


# --- several threads ---


def test_threads_that_add_at_the_same_time_lose_nothing_and_share_no_number(opened, file):
    state = opened(file)

    def add():
        for _ in range(40):
            state.add_upload(report(("L-70011-1", 1)))
            state.add_journals([JOURNAL])
            state.count("repayments")

    threads = [Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [upload["upload_id"] for upload in state.uploads()] == list(range(90_001, 90_081))
    assert [kept["archive_id"] for kept in state.journals()] == [str(number) for number in range(48_001, 48_081)]
    assert state.counters()[1]["repayments"] == 80


# --- one of them ---


def test_one_of_each_is_found_by_its_id_written_exactly(opened, individual):
    state = opened()
    uuid = drafted(state, individual)
    assert state.draft(uuid) == state.drafts()[0]
    assert state.loan(uuid) is None
    assert state.publish(uuid, completed=False) == state.loan(uuid)
    archive_id = state.add_journals([JOURNAL])
    assert state.archive(archive_id) == state.journals()
    upload = state.add_upload(report(("L-70011-1", 1)))
    assert state.upload(upload["upload_id"]) == upload
    assert state.kiva_ids(["L-70011-1", "L-77310-2", "L-1", "L-70010-1-A"]) == {
        "L-70011-1": "2990011",
        "L-77310-2": "2990021",
    }
    assert [state.archive(each) for each in ("48002", "048001", " 48001", "48001.0", "")] == [[]] * 5
    assert [state.upload(each) for each in (90_002, 10**30, -1)] == [None] * 3
    with pytest.raises(KeyError):
        state.finalise(10**30)
    with pytest.raises(KeyError):
        state.confirm("48002")


def test_a_page_of_an_upload_with_an_endless_number_is_not_there(http):
    assert http.get("/pa2/repayments/" + "9" * 40).status_code == 404


# --- search ---


@pytest.fixture
def named(opened, individual):
    """A state in which these names have a loan each; gives whom a search finds."""

    def make(*names):
        state = opened(loans=0)
        for number, name in enumerate(names):
            individual["entreps"][0] |= {"first_name": name, "loan_id": f"L-{number}", "client_id": f"C-{number}"}
            state.publish(drafted(state, individual), completed=True)
        return lambda query, offset=0, limit=20: [
            loan["name"] for loan in state.find_loans(query, "", offset, limit)[1]
        ]

    return make


def test_percent_underscore_and_quotes_are_characters_like_any_other(named):
    find = named("100% Fatumata", "Ana_Maria", "AnaXMaria", "O'Brien", "a\\b")
    assert find("%") == ["100% Fatumata"]
    assert find("_") == find("a_m") == ["Ana_Maria"]
    assert find("o'b") == ["O'Brien"]
    assert find("\\") == ["a\\b"]
    assert find("' OR 1=1 --") == find('"') == find("*") == []


def test_case_is_no_matter_in_any_script(named):
    find = named("Зарина", "Фирӯз", "Straße", "INÁCIO", "")
    assert find("ЗАРИ") == find("зари") == ["Зарина"]
    assert find("ӮЗ") == ["Фирӯз"]
    assert find("STRASSE") == find("  straße ") == ["Straße"]
    assert find("ácio") == ["INÁCIO"]
    assert find("") == find("  ") == ["Зарина", "Фирӯз", "Straße", "INÁCIO", ""]


def test_what_is_found_comes_in_pages_in_the_order_of_the_loans(opened):
    state = opened(loans=500)
    paying = [loan for loan in portfolio(500) if loan["status"] == "payingBack"]
    for offset, limit in ((0, 20), (20, 20), (340, 20), (350, 20), (0, 0), (10**30, 10**30), (0, 10**30)):
        assert state.find_loans("", "payingBack", offset, limit) == (350, paying[offset : offset + limit])
    assert state.find_loans("", "payingback", 0, 20) == state.find_loans("", "\ud83d", 0, 20) == (0, [])


# --- groups and their members ---


def test_a_members_id_reports_no_repayment_unless_it_is_asked_for_then_the_groups_does_not(opened):
    state = opened()
    rows = report(("L-70010-1", 100), ("L-70010-1-A", 60), ("L-70011-1", 5))
    by_group = state.add_upload(rows)
    assert by_group["problems"] == [
        {
            "loan_id": "L-70010-1-A",
            "details": "This is one member's id; the group's repayment is reported by the group's id",
            "code": "repayment.member_of_group",
            "severity": "error",
        }
    ]
    by_member = state.add_upload(rows, by_member=True)
    assert by_member["problems"] == [
        {
            "loan_id": "L-70010-1",
            "details": "This is a group's id; the group's repayment is reported by its members' ids",
            "code": "repayment.group_not_members",
            "severity": "error",
        }
    ]
    assert [row["recorded"] for row in by_group["rows"]] == [True, False, True]
    assert [row["recorded"] for row in by_member["rows"]] == [False, True, True]


def test_each_member_of_a_group_has_amounts_of_its_own_and_a_client_of_its_own_or_the_groups(opened):
    state = opened()
    state.add_upload(report(("L-70010-1-A", 60), ("L-70010-1-B", 40)), by_member=True)
    assert codes(state.add_upload(report(("L-70010-1-A", 61), ("L-70010-1-B", 39)), by_member=True)) == [
        ("L-70010-1-B", "repayment.amount_below_expected")
    ]
    rows = [
        {"loan_id": "L-70010-1-A", "client_id": client, "amount": 62}
        for client in ("C-18010-A", "C-18010", "C-18010-B")
    ]
    told = state.add_upload(Repayments.model_validate({"repayments": rows}), by_member=True)
    assert codes(told) == [("L-70010-1-A", "repayment.client_not_found")]


def test_as_many_members_as_a_group_has_are_known_and_none_of_them_is_a_loan(opened):
    state = opened()
    for loan in state.loans():
        count = loan["borrower_count"]
        ids = [f"{loan['internal_loan_id']}-{letter}" for letter in "ABCDEFGHI"]
        told = codes(state.add_upload(report(*((each, 1) for each in ids))))
        members = count if count > 1 else 0
        assert [code for _, code in told] == ["repayment.member_of_group"] * members + ["repayment.loan_not_found"] * (
            9 - members
        )
        assert all(state.find_loans(each, "", 0, 1)[0] == 0 for each in ids)


def test_members_of_a_published_group_are_those_of_its_draft_also_after_a_restart(opened, file, group):
    group["entreps"].append({**group["entreps"][0], "loan_id": None, "client_id": None})
    before = opened(file)
    before.publish(drafted(before, group), completed=True)
    before.close()
    after = opened(file)
    rows = report(("GL-0310-1", 1), ("GL-0310-1-A", 1), ("GL-0310-1-B", 1), ("GL-0310-1-C", 1), ("", 1))
    assert codes(after.add_upload(rows)) == [
        ("GL-0310-1", "repayment.loan_not_expected"),
        ("GL-0310-1-A", "repayment.member_of_group"),
        ("GL-0310-1-B", "repayment.member_of_group"),
        ("GL-0310-1-C", "repayment.loan_not_found"),
        ("", "repayment.loan_not_found"),
    ]
    assert [code for _, code in codes(after.add_upload(rows, by_member=True))][:3] == [
        "repayment.group_not_members",
        "repayment.loan_not_expected",
        "repayment.loan_not_expected",
    ]


def test_whether_a_loan_was_drafted_already_is_known_by_the_id_of_the_whole(opened, file, individual, group):
    state = opened(file)
    assert state.has_draft("L-70011-1")
    ids = ("L-77310-2", "GL-0310-1", "GL-0310-1-A", "L-70010-1-A", "l-77310-2", "")
    assert [state.has_draft(each) for each in ids] == [False] * 6
    drafted(state, individual)
    drafted(state, group)
    drafted(state, {})
    state.close()
    assert [opened(file).has_draft(each) for each in ids[:1]] == [True]
