"""The pages that show what Kiva sees, as a browser without JavaScript reads and sends them."""

import html
import re

import pytest

from kiva_sandbox.data import portfolio
from kiva_sandbox.switches import Switches

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
PAGES = ("/pa2/", "/pa2/drafts", "/pa2/journals", "/pa2/repayments", "/pa2/loans", "/pa2/switches")


def journal(number=11, **changes):
    return {"internal_loan_id": f"L-{70_000 + number}-1", "subject": "A second stall", "body": "Rented."} | changes


def row(loan_id="L-70011-1", amount=1250.5):
    return {"loan_id": loan_id, "amount": amount}


@pytest.fixture
def drafted(kiva):
    """Submits a draft; gives the address of its page."""

    def post(body):
        return f"/pa2/drafts/{kiva.post('loan_draft', body).json()['loan_draft_uuid']}"

    return post


@pytest.fixture
def archived(kiva):
    """Submits journals; gives the address that a person is told to open."""

    def post(*journals):
        return kiva.post("journals", {"journals": list(journals)}).json()["confirm_url"]

    return post


@pytest.fixture
def uploaded(kiva):
    """Submits repayments; gives the address of their page."""

    def post(*rows):
        return f"/pa2/repayments/{kiva.post('repayments', {'repayments': list(rows)}).json()['upload_id']}"

    return post


@pytest.fixture
def look(http):
    """Opens a page, follows where it leads, and gives what it says: text without markup, in one line."""

    def get(address, method="GET", status=200, **options):
        answer = http.request(method, address, **options)
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        main = answer.text.partition("</header>")[2]
        return " ".join(html.unescape(re.sub("<[^>]*>", " ", main)).split())

    return get


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_that_it_is_an_imitation_and_lets_nothing_run_or_load(http, page):
    answer = http.get(page)
    assert answer.status_code == 200
    assert "An imitation of Kiva&#39;s PA2" in answer.text
    assert "<script" not in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert 'aria-current="page"' in answer.text


@pytest.mark.parametrize("address", ["/", "/pa2"])
def test_whoever_comes_to_the_door_is_led_in(http, address):
    assert http.get(address).url.path == "/pa2/"


def test_the_look_comes_from_the_sandbox_itself(http):
    assert 'href="/pa2/page.css"' in http.get("/pa2/").text
    assert http.get("/pa2/page.css").headers["Content-Type"] == "text/css; charset=utf-8"


def test_the_overview_counts_what_waits_and_what_came_in(look, kiva, drafted, archived, uploaded, individual):
    assert "0 drafts to publish, of 0" in look("/pa2/")
    drafted(individual)
    drafted(individual)
    archived(journal(), journal(12))
    uploaded(row())
    look(drafted(individual), "POST")
    said = look("/pa2/")
    for count in (
        "2 drafts to publish, of 3",
        "1 archives to confirm, of 1",
        "1 uploads to finalise, of 1",
        "501 loans",
    ):
        assert count in said
    assert "Token requests 1 Calls of loan_draft 3 Calls of journals 1 Calls of repayments 1" in said


@pytest.mark.parametrize("page", ["drafts", "journals", "repayments"])
def test_a_list_of_nothing_says_so(look, page):
    assert "has come in yet" in look(f"/pa2/{page}")


# --- drafts ---


def test_a_draft_is_listed_with_what_pa2_says_and_leads_to_its_page(http, look, drafted, individual, group):
    complete, incomplete = drafted(individual), drafted({**group, "location": "Atlantis: Nowhere", "loanuse": ""})
    said = look("/pa2/drafts")
    assert said.index("GL-0310-1 Horta Nova 2 270.00 XOF 2 to complete to publish") < said.index(
        "L-77310-2 Akinyi 1 60,000.00 KES complete to publish"
    )
    for address in (complete, incomplete):
        assert f'href="{address}"' in http.get("/pa2/drafts").text


def test_a_draft_is_shown_as_it_came_with_its_photo(http, look, drafted, group):
    address = drafted(group)
    said = look(address)
    for what in ("Horta Nova", "São Domingos: Guinea-Bissau", "270.00 XOF", "2026-09-01", "G-0310", "Instalments: 1"):
        assert what in said
    assert "Fatumata Baldé C-501 GL-0310-1-A 150.00 yes" in said
    assert "Inácio Gomes C-502 GL-0310-1-B 120.00 no" in said
    assert f'<img src="{group["image_encoded"]}"' in http.get(address).text


def test_a_complete_draft_is_published_by_one_button_and_becomes_a_loan(http, look, kiva, drafted, individual):
    address = drafted(individual)
    answer = http.post(address)
    assert [(step.status_code, step.headers["Location"]) for step in answer.history] == [(303, address)]
    assert "Published. It is loan 2990501 at Kiva, and raises funds" in look(address)
    assert "<form" not in answer.text
    assert "published" in look("/pa2/drafts")
    assert kiva.get("loans", query="L-77310-2").json()["data"][0]["kiva_id"] == "2990501"


def test_a_draft_that_pa2_has_messages_about_is_published_only_by_who_has_seen_to_them(look, kiva, drafted, individual):
    address = drafted({**individual, "image_encoded": None})
    assert "a photo is missing (image_encoded)" in look(address)
    assert "Not published: PA2 has messages about this draft" in look(address, "POST", 409)
    assert kiva.seen("drafts")["data"][0]["published"] is False
    said = look(address, "POST", data={"completed": "yes"})
    assert "What PA2 said about it a photo is missing" in said
    assert "Published. It is loan 2990501" in said


def test_a_draft_is_not_published_twice_nor_without_what_makes_a_loan(look, kiva, drafted, individual):
    address = drafted(individual)
    look(address, "POST")
    assert "Not published: this draft is already published." in look(address, "POST", 409)
    nothing = drafted({})
    assert "Draft of a loan without an id" in look(nothing)
    assert "Not published: the draft has no" in look(nothing, "POST", 409, data={"completed": "yes"})
    assert kiva.seen("loans")["total"] == 501


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/svg+xml;base64,PHN2Zy8+",
        "data:text/html;base64,PHA+",
        "data:image/png,<svg>",
        'data:image/png;base64,AAAA" onerror="alert(1)',
        "data:image/png;base64,",
        " data:image/png;base64,AAAA",
        "https://elsewhere.example/photo.png",
        "javascript:alert(1)",
    ],
)
def test_what_is_no_photo_by_its_form_is_not_rendered(http, look, drafted, individual, uri):
    address = drafted({**individual, "image_encoded": uri})
    assert "<img" not in http.get(address).text
    assert "What came as a photo is none, so it is not shown." in look(address)


def test_a_photo_that_is_to_be_fetched_is_named_and_not_fetched(http, drafted, individual):
    page = http.get(drafted({**individual, "image_encoded": None, "image_url": "https://elsewhere.example/1.jpg"})).text
    assert "https://elsewhere.example/1.jpg" in page
    assert "<img" not in page
    assert "elsewhere" not in " ".join(re.findall('(?:href|src)="([^"]*)"', page))


# --- journals ---


def test_confirm_url_leads_to_the_archive_which_is_confirmed_there(http, look, kiva, archived):
    url = archived(journal(), journal(12, subject="Good rains", internal_client_id="C-18012"))
    other = archived(journal())
    assert url == "http://testserver/pa2/journals/confirm/48001"
    said = look(url)
    assert "A second stall About loan L-70011-1 Rented." in said
    assert "Good rains About loan L-70012-1 of client C-18012" in said
    assert "<form" in http.get(url).text
    assert "Confirmed: its journals are public." in look(url, "POST")
    assert "<form" not in http.get(url).text
    assert "<form" in http.get(other).text
    assert "48002 1 L-70011-1 to confirm" in look("/pa2/journals")
    assert "48001 2 L-70011-1, L-70012-1 confirmed" in look("/pa2/journals")
    assert [kept["confirmed"] for kept in kiva.seen("journals")["data"]] == [True, True, False]


def test_a_journal_about_a_loan_that_kiva_does_not_know_says_so(look, archived):
    assert "About loan L-1, which Kiva does not know" in look(archived(journal(internal_loan_id="L-1")))


def test_confirm_url_is_under_the_address_that_was_called(kiva):
    answer = kiva.http.post(
        f"{kiva.base}/journals",
        json=[journal()],
        headers={**kiva.headers, "Host": "host.docker.internal:8080"},
    )
    assert answer.json()["confirm_url"] == "http://host.docker.internal:8080/pa2/journals/confirm/48001"


# --- repayments ---


def test_an_upload_shows_its_problem_rows_first_and_is_finalised(http, look, kiva, uploaded):
    uploaded(row("L-70012-1", 500))
    address = uploaded(row(), row("L-70012-1", 499), row("L-1"))
    said = look(address)
    places = [
        said.index(start) for start in ("L-1 1,250.50 no error", "L-70012-1 499.00 yes warning", "L-70011-1 1,250")
    ]
    assert places == sorted(places)
    assert "repayment.amount_below_expected" in said
    assert "90002 3 1 1 to finalise" in look("/pa2/repayments")
    assert "Finalised: it cannot be changed any more." in look(address, "POST")
    assert "<form" not in http.get(address).text
    assert "90002 3 1 1 finalised" in look("/pa2/repayments")
    assert [upload["finalised"] for upload in kiva.seen("uploads")["data"]] == [False, True]


def test_a_program_finalises_an_upload_without_the_page(kiva, uploaded):
    uploaded(row())
    assert kiva.http.post("/_sandbox/uploads/90001/finalise").json()["finalised"] is True
    assert kiva.http.post("/_sandbox/uploads/90002/finalise").status_code == 404


def test_a_warning_about_a_whole_upload_stands_above_its_rows(look, uploaded):
    said = look(uploaded(*[row()] * 301))
    assert said.index("301 rows in one call; at most 300 are recommended") < said.index("Loan id Client id")


# --- loans ---


def test_loans_are_found_by_id_by_part_of_a_name_and_by_status(look):
    assert "1 found" in look("/pa2/loans", params={"query": "L-70011-1"})
    defaulted = [loan for loan in portfolio() if loan["status"] == "defaulted"]
    assert f"{len(defaulted)} found" in look("/pa2/loans", params={"status": "defaulted"})
    named = [loan for loan in defaulted if "wan" in loan["name"].casefold()]
    assert f"{len(named)} found" in look("/pa2/loans", params={"query": "wan", "status": "defaulted"})
    assert "0 found" in look("/pa2/loans", params={"query": HOSTILE, "status": HOSTILE})


def test_paging_through_a_search_meets_every_loan_that_it_finds_once(http):
    paying = [loan["internal_loan_id"] for loan in portfolio() if loan["status"] == "payingBack"]
    seen, address = [], "/pa2/loans?status=payingBack"
    while address:
        page = http.get(address).text
        seen += re.findall(r'<th scope="row">([^<]*)</th>', page)
        following = re.search('rel="next" href="([^"]*)"', page)
        address = following and f"/pa2/loans{html.unescape(following[1])}"
    assert seen == paying


def test_a_page_beyond_the_last_is_the_last(look):
    assert "Page 5 of 5, 500 in all" in look("/pa2/loans?page=" + "9" * 30)


# --- much of it ---


def test_a_thousand_journals_and_a_full_upload_come_a_hundred_at_a_time(look, archived, uploaded):
    url = archived(*(journal(number % 500, subject=f"Visit {number}.") for number in range(1000)))
    assert "Page 1 of 10, 1000 in all" in look(url)
    assert "Visit 100." not in look(url)
    assert "Visit 999." in look(url + "?page=10")
    assert "Page 3 of 3, 250 in all" in look(uploaded(*(row(f"L-{70_001 + n}-1") for n in range(250))) + "?page=3")


# --- bad input ---


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/pa2/drafts/006e35d4-3e9b-4f6b-8192-2f4cc22f47c4", "no draft 006e35d4"),
        ("/pa2/journals/confirm/1", "no archive 1."),
        ("/pa2/repayments/1", "no upload 1."),
        ("/pa2/nothing", "no such page"),
    ],
)
def test_what_is_not_there_is_said_in_words(look, address, words, method):
    assert words in look(address, method, 404)


@pytest.mark.parametrize(
    "address", ["/pa2/loans?page=0", "/pa2/drafts?page=x", "/pa2/repayments/x", "/pa2/repayments/1.5"]
)
def test_what_cannot_be_read_is_refused_in_words(look, address):
    assert "cannot be read" in look(address, status=400)


def test_a_form_that_cannot_be_read_publishes_nothing(look, kiva, drafted, individual):
    address = drafted(individual)
    look(address, "POST", 400, data={"completed": HOSTILE})
    assert kiva.seen("drafts")["data"][0]["published"] is False


def test_a_hostile_draft_is_text_and_not_markup(http, look, drafted, group):
    hostile = group | dict.fromkeys([field for field, value in group.items() if isinstance(value, str)], HOSTILE)
    hostile["entreps"] = [
        dict.fromkeys(("client_id", "loan_id", "first_name", "last_name", "gender"), HOSTILE) | {"amount": 1}
    ] * 2
    hostile["schedule"] = [{"date": HOSTILE, "principal": 1}]
    address = drafted(hostile)
    for page in (address, "/pa2/drafts"):
        text = http.get(page).text
        assert HOSTILE not in text
        assert not re.search("<script|<img", text)
    # Nine of the draft itself, five of each borrower, and the date of its instalment.
    assert look(address).count(HOSTILE) == 9 + 2 * 5 + 1


def test_hostile_journals_repayments_and_searches_are_text_and_not_markup(http, archived, uploaded):
    everything = dict.fromkeys(("internal_loan_id", "internal_client_id", "subject", "body", "image_url"), HOSTILE)
    pages = [
        archived(everything),
        "/pa2/journals",
        uploaded({"loan_id": HOSTILE, "client_id": HOSTILE, "amount": 1}),
        f"/pa2/loans?query={HOSTILE}&status={HOSTILE}",
        "/pa2/drafts/<script>alert(1)",
        "/pa2/journals/confirm/<script>alert(1)",
    ]
    for page in pages:
        text = http.get(page).text
        assert not re.search("<script|<img", text)
    assert "&lt;script&gt;" in http.get(pages[0]).text


def test_a_published_hostile_draft_is_text_among_the_loans(http, drafted, individual):
    individual["entreps"][0] |= dict.fromkeys(("loan_id", "client_id", "first_name"), HOSTILE)
    http.post(drafted({**individual, "location": HOSTILE}), data={"completed": "yes"})
    text = http.get("/pa2/loans?status=fundRaising").text
    assert text.count("&lt;script&gt;") == 4
    assert not re.search("<script|<img", text)


def test_half_a_surrogate_pair_does_not_break_a_page(http, kiva):
    headers = {**kiva.headers, "Content-Type": "application/json"}
    body = rb'{"currency": "KES", "entreps": [{"loan_id": "L-\ud83d", "first_name": "\ud83d", "amount": 1}]}'
    uuid = http.post(f"{kiva.base}/loan_draft", content=body, headers=headers).json()["loan_draft_uuid"]
    assert "L-?" in http.post(f"/pa2/drafts/{uuid}", data={"completed": "yes"}).text
    assert "L-?" in http.get("/pa2/loans?status=fundRaising").text
    body = rb'[{"internal_loan_id": "L-\ud83d", "subject": "\ud83d", "body": "half \ud83d"}]'
    url = http.post(f"{kiva.base}/journals", content=body, headers=headers).json()["confirm_url"]
    assert "half ?" in http.get(url).text


def test_an_amount_without_end_is_shown_as_it_came(look, uploaded):
    assert "1e+300 yes" in look(uploaded(row(amount=1e300)))


# --- who may ---

ELSEWHERE = [
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://testserver:3000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://elsewhere.example"},
    {"Origin": "http://testserver:3000"},
    {"Origin": "http://testserver.elsewhere.example"},
    {"Origin": "null"},
]


@pytest.mark.parametrize("headers", ELSEWHERE, ids=lambda headers: " ".join(headers.values()))
def test_a_page_elsewhere_cannot_make_a_browser_act(look, kiva, drafted, archived, uploaded, individual, headers):
    draft, archive, upload = drafted(individual), archived(journal()), uploaded(row())
    for address in (draft, archive, upload):
        assert "from a page elsewhere, so nothing was done" in look(address, "POST", 403, headers=headers)
    uuid = draft.rpartition("/")[2]
    for path in (f"drafts/{uuid}/publish", "journals/48001/confirm", "uploads/90001/finalise", "reset"):
        assert kiva.http.post(f"/_sandbox/{path}", headers=headers).status_code == 403
    assert kiva.seen("drafts")["data"][0]["published"] is False
    assert kiva.seen("journals")["data"][0]["confirmed"] is False
    assert kiva.seen("uploads")["data"][0]["finalised"] is False


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}, {"Origin": "http://testserver"}, {}],
    ids=["a browser", "a browser that does not trust the address", "a program"],
)
def test_the_pages_own_forms_and_programs_act(look, drafted, individual, headers):
    assert "Published." in look(drafted(individual), "POST", headers=headers)


def test_a_link_from_elsewhere_may_lead_to_an_archive(look, archived):
    assert "Archive 48001" in look(archived(journal()), headers={"Sec-Fetch-Site": "cross-site"})


def test_a_browser_may_say_where_a_form_comes_from_and_tells_nobody_else(http, drafted, individual):
    answer = http.get(drafted(individual))
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert "no-referrer" not in answer.text


def fields(http):
    """What the form of the switches sends when nobody has touched it, read out of the page."""
    page = http.get("/pa2/switches").text
    chosen = re.findall(r'<select name="(\w+)"[^>]*>(?:(?!</select>).)*<option selected>([^<]*)', page, re.DOTALL)
    typed = re.findall(r'<input type="number" name="(\w+)"[^>]*value="([^"]*)"', page)
    return dict(chosen + typed)


def test_the_form_of_the_switches_holds_all_of_them_and_sent_untouched_changes_none(http, look):
    http.patch("/_sandbox/switches", json={"fault": "lost", "fault_times": 7, "latency": 0.5})
    form = fields(http)
    assert set(form) == set(Switches.model_fields)
    before = http.get("/_sandbox/switches").json()
    look("/pa2/switches", "POST", data=form)
    assert http.get("/_sandbox/switches").json() == before


def test_switches_are_set_shown_as_changed_and_taken_back_to_the_start(http, look):
    assert "off now" not in look("/pa2/switches")
    shown = look("/pa2/switches", "POST", data=fields(http) | {"fault": "503", "retry_after": "30", "naming": "camel"})
    for words in ("off now 503", "none now 30", "snake now camel"):
        assert words in shown
    now = http.get("/_sandbox/switches").json()
    assert [now[name]["value"] for name in ("fault", "retry_after", "naming")] == [503, 30, "camel"]
    emptied = look("/pa2/switches", "POST", data=fields(http) | {"retry_after": ""})
    assert "none now" not in emptied
    back = look("/pa2/switches/start", "POST")
    assert "off now" not in back
    assert http.get("/_sandbox/switches").json()["naming"]["value"] == "snake"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fault": "418"}, "Nothing was set: fault must be one of: off, expired, 429"),
        ({"latency": ""}, "Nothing was set: latency must be one of: a number from 0 to 600"),
        ({"fault_times": "0"}, "fault_times must be one of: a number from 1, always"),
        ({HOSTILE: "1"}, "there is no switch '<script>alert(1)"),
    ],
)
def test_a_switch_that_does_not_exist_is_said_in_words_and_sets_nothing(http, look, changes, words):
    assert words in look("/pa2/switches", "POST", 400, data=fields(http) | {"naming": "camel"} | changes)
    assert http.get("/_sandbox/switches").json()["naming"]["value"] == "snake"


def test_the_overview_tells_what_is_not_at_its_default(http, look):
    assert "otherwise" not in look("/pa2/")
    http.patch("/_sandbox/switches", json={"fault": 503, "naming": "camel"})
    assert "otherwise than it does by default: naming is camel, fault is 503. Switches" in look("/pa2/")


@pytest.mark.parametrize("address", ["/pa2/switches", "/pa2/switches/start"])
def test_no_page_elsewhere_sets_a_switch(http, address):
    http.patch("/_sandbox/switches", json={"fault": 503})
    sent = http.post(address, data={"fault": "500"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert sent.status_code == 403
    assert http.get("/_sandbox/switches").json()["fault"]["value"] == 503
