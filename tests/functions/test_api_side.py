import base64
import gzip
import hashlib
import json
from copy import replace
from urllib.parse import urljoin

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from deployment import FUNCTIONS
from handlers import Function
from images import data_uri, png
from invocations import request, routes
from kiva_partner import runtime
from kiva_partner.api import Answer, summary
from kiva_partner.ledger import Outcome, Row, State
from kiva_partner.messages import MAX_MESSAGE_BYTES, Kind, parse

PNG = png()


def at(headers):
    """The path that a client finds in Location when it has posted to the API's root."""
    return urljoin("/repayments", headers["Location"])


def test_a_post_is_taken_in_queued_and_can_be_looked_up_at_its_location(function, deployed, waiting, console):
    status, body, headers = function.post(function.message("L-1"))
    assert (status, body["state"]) == (202, "QUEUED")
    (queued,) = waiting()
    assert json.loads(queued["Body"]) == function.message("L-1")
    assert deployed.sent == []
    assert console(at(headers)) == (200, body)


@pytest.mark.parametrize(("rows", "seconds"), [(1, 0), (99, 0), (200, 2)])
def test_a_list_is_not_delivered_before_its_rows_are_written(reports, rows, seconds):
    asked = []
    runtime.aws("sqs")().meta.events.register(
        "provide-client-params.sqs.SendMessage", lambda params, **_: asked.append(params["DelaySeconds"])
    )
    report = [{"loan_id": f"L-{number}", "client_id": "C-1", "amount": 1} for number in range(rows)]
    assert reports.post({"period": "2026-10", "repayments": report})[0] == 202
    assert asked == [seconds]


def test_what_was_queued_is_submitted_when_the_queue_delivers_it(function, deployed, waiting, console):
    _, _, headers = function.post(function.message("L-1"))
    assert function.batch(waiting()[0]["Body"]) == []
    _, found = console(at(headers))
    assert found["state"] == "ACCEPTED"
    assert found["kiva"]


def test_prefer_wait_answers_with_the_outcome_and_queues_nothing(function, deployed, waiting):
    status, body, headers = function.post(function.message("L-1"), Prefer="respond-async, wait=20")
    assert (status, body["state"]) == (200, "ACCEPTED")
    assert headers["Preference-Applied"] == "wait"
    assert len(deployed.sent) == 1
    assert waiting() == []


@pytest.mark.parametrize("name", ["prefer", "PREFER", "Prefer"])
def test_header_names_have_no_case(function, deployed, name):
    assert function.post(function.message("L-1"), **{name: "wait"})[0] == 200


def test_a_refusal_of_kiva_is_told_at_once_to_who_waits(drafts, deployed):
    deployed.answers = [(400, {"message": "location is not defined for this partner"})]
    status, body, headers = drafts.post(drafts.message("L-1"), Prefer="wait")
    assert (status, body["state"], body["title"]) == (422, "REJECTED", "Kiva refused it; nothing was created")
    assert "location is not defined" in body["reason"]
    assert headers["Content-Type"] == "application/problem+json"


def test_who_waits_for_an_unknown_outcome_is_told_to_look_again(function, deployed):
    deployed.answers = [requests.ReadTimeout("slow")]
    status, body, _ = function.post(function.message("L-1"), Prefer="wait")
    assert (status, body["state"]) == (202, "UNKNOWN")


@pytest.mark.parametrize("trouble", ["429", "no token"])
def test_what_kiva_did_not_process_is_queued_even_for_who_waits(function, deployed, waiting, trouble):
    if trouble == "429":
        deployed.answers = [(429, {})]
    else:
        deployed.mock.replace("POST", "https://auth.kiva.test/oauth/token", status=503)
    status, body, _ = function.post(function.message("L-1"), Prefer="wait")
    assert (status, body["state"]) == (202, "RETRY" if trouble == "429" else "QUEUED")
    assert len(waiting()) == 1


def test_a_post_repeated_is_answered_from_the_ledger(function, deployed, waiting):
    function.post(function.message("L-1"), Prefer="wait")
    status, body, _ = function.post(function.message("L-1"))
    assert (status, body["state"]) == (200, "ACCEPTED")
    assert len(deployed.sent) == 1
    assert waiting() == []


def test_a_post_repeated_while_it_waits_is_queued_once(function, deployed, waiting):
    assert function.post(function.message("L-1"))[0] == 202
    assert function.post(function.message("L-1"))[0] == 202
    assert len(waiting()) == 1


@pytest.mark.parametrize("headers", [{}, {"Prefer": "wait"}])
def test_other_content_under_a_used_reference_is_refused(drafts, deployed, waiting, headers):
    drafts.post(drafts.message("L-1"), Prefer="wait")
    status, body, _ = drafts.post(drafts.message("L-1", loanuse="to buy seed"), **headers)
    assert (status, body["references"]) == (409, ["L-1"])
    assert len(deployed.sent) == 1
    assert waiting() == []


def test_a_refused_reference_may_be_posted_again_corrected(drafts, deployed):
    deployed.answers = [(400, {})]
    assert drafts.post(drafts.message("L-1"), Prefer="wait")[0] == 422
    assert drafts.post(drafts.message("L-1", loanuse="to buy seed"), Prefer="wait")[0] == 200


def test_a_corrected_message_waits_as_queued_and_not_as_the_refused_one(drafts, deployed, console):
    deployed.answers = [(400, {})]
    drafts.post(drafts.message("L-1"), Prefer="wait")
    status, body, headers = drafts.post(drafts.message("L-1", loanuse="to buy seed"))
    assert (status, body["state"]) == (202, "QUEUED")
    assert "reason" not in console(at(headers))[1]


def test_a_list_of_one_can_be_looked_up_by_both_references(reports, deployed, console):
    _, body, headers = reports.post(
        {"reference": "R7", "repayments": [{"loan_id": "L", "client_id": "C", "amount": 1}]}
    )
    assert console(at(headers)) == (200, body)
    assert console("/submissions/repayment/R7")[1]["submissions"] == [body]


def test_a_list_has_a_location_for_all_of_it(reports, deployed, waiting, console):
    rows = [{"loan_id": f"L-{number}", "client_id": "C", "amount": number} for number in range(3)]
    status, body, headers = reports.post({"reference": "R7", "repayments": rows})
    assert (status, body["states"]) == (202, {"QUEUED": 3})
    assert at(headers) == "/submissions/repayment/R7"
    reports.batch(waiting()[0]["Body"])
    _, found = console(at(headers))
    assert found["states"] == {"ACCEPTED": 3}
    assert [each["reference"] for each in found["submissions"]] == ["R7:L-0", "R7:L-1", "R7:L-2"]


def report(*loans, reference="R7"):
    return {"reference": reference, "repayments": [{"loan_id": it, "client_id": "C", "amount": 1} for it in loans]}


def fail(*_, **__):
    raise RuntimeError("canary")


@pytest.fixture
def deliver(waiting):
    """Has the queue deliver what it holds, to a function; gives the ids of what is to come again."""

    def now(function):
        (queued,) = waiting()
        return function.batch(queued["Body"], attributes=queued["MessageAttributes"])

    return now


@pytest.mark.parametrize("way", ["api", "queue"])
def test_messages_under_one_reference_are_all_found_under_it(reports, deployed, console, deliver, way):
    prefer = {"Prefer": "wait"} if way == "api" else {}
    for loans in (("L-1", "L-2"), ("L-3",), ("L-4", "L-5"), ("L-1", "L-2")):
        assert reports.post(report(*loans), **prefer)[0] in (200, 202)
    if way == "queue":
        sqs = boto3.client("sqs")
        for queued in sqs.receive_message(QueueUrl=runtime.settings().queue_url, MaxNumberOfMessages=10)["Messages"]:
            reports.batch(queued["Body"])
    _, found = console("/submissions/repayment/R7")
    assert found["states"] == {"ACCEPTED": 5}
    assert sorted(each["loan_id"] for each in found["submissions"]) == [f"L-{number}" for number in range(1, 6)]


BROKEN = ["enqueue", "write_receipt", "read_all after", "all after"]


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("loans", [("L-1",), ("L-1", "L-2", "L-3")], ids=len)
def test_once_it_is_queued_nothing_is_denied_and_what_is_missing_is_made_up_for(
    reports, deployed, console, deliver, monkeypatch, what, loans, capsys
):
    ledger = runtime.ledger()
    with monkeypatch.context() as broken:
        names = {"read_all after": ["read_all"], "all after": ["enqueue", "write_receipt", "read_all"]}.get(
            what, [what]
        )
        sqs = runtime.aws("sqs")()
        send = sqs.send_message

        def then_break(**call):
            answer = send(**call)
            for name in names:
                broken.setattr(ledger, name, fail)
            return answer

        broken.setattr(sqs, "send_message", then_break)
        status, body, headers = reports.post(report(*loans))
    assert (status, headers["Location"]) == (202, "submissions/repayment/" + ("R7" if len(loans) > 1 else "R7:L-1"))
    shown = body.get("submissions", [body])
    assert [(each["reference"], each["state"]) for each in shown] == [(f"R7:{loan}", "QUEUED") for loan in loans]
    assert "unexpected RuntimeError" in capsys.readouterr().out
    assert deliver(reports) == []
    for path in ("/submissions/repayment/R7", at(headers)):
        status, found = console(path)
        assert status == 200
        assert {each["state"] for each in found.get("submissions", [found])} == {"ACCEPTED"}
        assert len(found.get("submissions", [found])) == len(loans)


def test_while_kiva_is_down_what_could_not_be_noted_is_seen_to_wait(reports, deployed, console, deliver, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(runtime.ledger(), "note", fail)
        assert reports.post(report("L-1", "L-2"))[0] == 202
    assert console("/submissions/repayment/R7")[0] == 404
    deployed.mock.replace("POST", "https://auth.kiva.test/oauth/token", status=503)
    assert deliver(reports) == ["m0"]
    assert console("/submissions/repayment/R7")[1]["states"] == {"QUEUED": 2}


def test_a_message_that_cannot_be_noted_is_submitted_and_comes_again(reports, deployed, console, monkeypatch, waiting):
    with monkeypatch.context() as broken:
        broken.setattr(runtime.ledger(), "write_receipt", fail)
        reports.post(report("L-1", "L-2"))
        (queued,) = waiting()
        assert reports.batch(queued["Body"], attributes=queued["MessageAttributes"]) == ["m0"]
        assert console("/submissions/repayment/R7:L-1")[1]["state"] == "ACCEPTED"
    assert reports.batch(queued["Body"], attributes=queued["MessageAttributes"]) == []
    assert console("/submissions/repayment/R7")[1]["states"] == {"ACCEPTED": 2}
    assert len(deployed.sent) == 1


def test_what_a_producer_puts_into_the_queue_is_noted_nowhere_else(reports, deployed, monkeypatch, console):
    monkeypatch.setattr(runtime.ledger(), "has_noted", fail)
    assert reports.batch(report("L-1", "L-2")) == []
    assert console("/submissions/repayment/R7")[0] == 404


def test_a_noted_message_is_not_noted_anew_when_it_is_delivered(reports, deployed, deliver, monkeypatch):
    reports.post(report("L-1", "L-2"))
    monkeypatch.setattr(runtime.ledger(), "note", fail)
    assert deliver(reports) == []


def test_who_waits_hears_the_outcome_though_no_receipt_can_be_written(reports, deployed, console, deliver, monkeypatch):
    with monkeypatch.context() as broken:
        for name in ("write_receipt", "read_all"):
            real = getattr(runtime.ledger(), name)
            broken.setattr(runtime.ledger(), name, lambda *given, real=real: fail() if deployed.sent else real(*given))
        status, body, _ = reports.post(report("L-1", "L-2"), Prefer="wait")
    assert (status, body["states"]) == (200, {"ACCEPTED": 2})
    assert all(each["kiva"]["upload_id"] for each in body["submissions"])
    assert console("/submissions/repayment/R7")[0] == 404
    assert deliver(reports) == []
    assert console("/submissions/repayment/R7")[1]["states"] == {"ACCEPTED": 2}
    assert len(deployed.sent) == 1


def test_a_list_that_came_by_queue_is_found_by_its_reference_once_it_is_posted(reports, deployed, console):
    reports.batch(report("L-1", "L-2"))
    assert reports.post(report("L-1", "L-2"))[0] == 200
    assert console("/submissions/repayment/R7")[1]["states"] == {"ACCEPTED": 2}


def test_the_longest_list_there_can_be_is_found_by_its_reference(reports, deployed, console):
    rows = [
        {"loan_id": "😀" * 62 + f"{n:02}", "client_id": "C", "amount": 1, "payment_id": "p" * 100} for n in range(90)
    ]
    rows += [{"loan_id": f"{n:032x}", "client_id": "C", "amount": 100, "payment_id": f"{n:036}"} for n in range(4900)]
    message = parse(Kind.REPAYMENT, json.dumps({"reference": "r" * 100, "repayments": rows}), runtime.settings().rules)
    runtime.ledger().write_receipt(message)
    runtime.ledger().write_receipt(message)
    found = runtime.ledger().read_receipt(Kind.REPAYMENT, "r" * 100)
    assert found == [each.reference for each in message.submissions]


def test_a_message_too_long_for_one_answer_is_read_page_by_page(reports, deployed, console, monkeypatch):
    monkeypatch.setattr("kiva_partner.api.MAX_SHOWN_BYTES", 1500)
    loans = [f"L-{number}" for number in range(7)]
    _, first, _ = reports.post(report(*loans), Prefer="wait")
    assert (first["states"], first["more"]) == ({"ACCEPTED": 7}, 7 - len(first["submissions"]))
    assert console("/submissions/repayment/R7") == (200, first)
    seen, body = first["submissions"], first
    while "cursor" in body:
        _, body = console("/submissions/repayment/R7", cursor=body["cursor"])
        assert body["states"] == {"ACCEPTED": 7}
        seen += body["submissions"]
        assert body.get("more", 0) == 7 - len(seen)
    assert [each["loan_id"] for each in seen] == loans


@pytest.mark.parametrize("cursor", ["x", "R7:L-9", "R8:L-1", "é"])
def test_a_cursor_of_another_message_is_refused(reports, deployed, console, cursor):
    reports.post(report("L-1", "L-2"))
    reports.post(report("L-1", "L-2", reference="R8"))
    status, body = console("/submissions/repayment/R7", cursor=cursor)
    assert (status, body["errors"][0]["field"]) == (400, "cursor")


def test_whatever_rows_hold_an_answer_fits_what_lambda_takes(deployed):
    outcome = Outcome(State.REJECTED, 'he said "no" ' * 40, {"upload_id": "90001"}, http_status=400)
    row = Row(Kind.REPAYMENT, "r" * 970, '"😀' * 32, State.REJECTED, "f" * 64, "t" * 32, "t" * 32, outcome=outcome)
    rows = [replace(row, reference=f"{number:0970}") for number in range(12_000)]
    body = summary(Kind.REPAYMENT, "R7", rows)
    assert len(body["submissions"]) > 1000
    assert len(json.dumps(Answer(200, body, {}).as_proxy_result(), ensure_ascii=False).encode()) < 6_291_556
    assert body["states"] == {"REJECTED": 12_000}


# --- photos ---------------------------------------------------------------------------------------------------------


def test_a_photo_too_large_for_a_queue_goes_by_way_of_the_bucket(drafts, deployed, waiting):
    photo = PNG + bytes(range(256)) * 5_000
    assert drafts.post(drafts.message("L-1", image_encoded=data_uri(photo)))[0] == 202
    (queued,) = waiting()
    key = json.loads(queued["Body"])["photo"]["s3_key"]
    assert key == f"photos/{hashlib.sha256(photo).hexdigest()}.png"
    assert boto3.client("s3").get_object(Bucket="payloads", Key=key)["Body"].read() == photo
    assert drafts.batch(queued["Body"]) == []
    assert deployed.sent[0][1]["image_encoded"] == data_uri(photo)


def test_with_its_photo_inside_or_beside_it_is_the_same_draft(drafts, deployed, waiting):
    message = drafts.message("L-1", image_encoded=data_uri(PNG + bytes(MAX_MESSAGE_BYTES)))
    drafts.post(message)
    drafts.batch(waiting()[0]["Body"])
    assert drafts.post(message)[:1] == (200,)
    assert len(deployed.sent) == 1


def test_a_photo_that_the_bucket_does_not_hold_is_told_as_a_rule(drafts, deployed, waiting):
    message = drafts.message("L-1", photo={"s3_key": "photos/none.png"})
    status, body, _ = drafts.post(message, Prefer="wait")
    assert status == 400
    assert body["errors"] == [{"field": "$.photo.s3_key", "rule": "names no object of the payload bucket"}]
    assert drafts.batch(message) == []
    assert "names no object" in waiting("dead letters")[0]["MessageAttributes"]["Reason"]["StringValue"]


def test_a_photo_that_the_bucket_does_not_hold_is_refused_before_anything_is_queued(drafts, deployed, waiting, table):
    message = drafts.message("L-1", photo={"s3_key": "photos/none.png"})
    status, body, _ = drafts.post(message)
    assert status == 400
    assert body["errors"] == [{"field": "$.photo.s3_key", "rule": "names no object of the payload bucket"}]
    assert waiting() == []
    assert table.scan(TableName="ledger")["Items"] == []
    boto3.client("s3").put_object(Bucket="payloads", Key="photos/none.png", Body=PNG)
    assert drafts.post(message)[0] == 202
    assert len(waiting()) == 1


@pytest.mark.parametrize("code", ["403", "500", "503"])
def test_when_s3_cannot_tell_whether_a_photo_is_there_it_is_taken_in(drafts, deployed, waiting, monkeypatch, code):
    s3 = runtime.aws("s3")()

    def head_object(**_):
        raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": int(code)}}, "HeadObject")

    monkeypatch.setattr(s3, "head_object", head_object)
    assert drafts.post(drafts.message("L-1", photo={"s3_key": "photos/none.png"}))[0] == 202
    assert len(waiting()) == 1


def test_what_is_settled_is_answered_though_its_photo_is_gone(drafts, deployed):
    """Photos are deleted after 30 days, and a POST repeated then is no new draft."""
    s3 = boto3.client("s3")
    s3.put_object(Bucket="payloads", Key="photos/1.png", Body=PNG)
    message = drafts.message("L-1", photo={"s3_key": "photos/1.png"})
    assert drafts.post(message, Prefer="wait")[0] == 200
    s3.delete_object(Bucket="payloads", Key="photos/1.png")
    assert drafts.post(message)[0] == 200


@pytest.mark.parametrize("answer", [(429, {}), (500, {})], ids=["RETRY", "UNKNOWN"])
def test_what_was_sent_once_is_not_refused_for_its_photo(drafts, deployed, table, answer):
    """Of what is UNKNOWN, "nothing was taken" would not be true."""
    s3 = boto3.client("s3")
    s3.put_object(Bucket="payloads", Key="photos/1.png", Body=PNG)
    message = drafts.message("L-1", photo={"s3_key": "photos/1.png"})
    deployed.answers = [answer]
    assert drafts.post(message, Prefer="wait")[0] == 202
    s3.delete_object(Bucket="payloads", Key="photos/1.png")
    assert drafts.post(message)[0] == 202


def test_one_call_looks_for_a_photo_and_none_for_a_draft_without(drafts, deployed):
    calls = []
    runtime.aws("s3")().meta.events.register("before-call.s3", lambda model, **_: calls.append(model.name))
    boto3.client("s3").put_object(Bucket="payloads", Key="photos/1.png", Body=PNG)
    drafts.post(drafts.message("L-1", photo={"s3_key": "photos/1.png"}))
    drafts.post(drafts.message("L-2"))
    assert calls == ["HeadObject"]


def test_an_object_that_is_no_photo_is_refused(drafts, deployed):
    boto3.client("s3").put_object(Bucket="payloads", Key="photos/x.png", Body=b"%PDF-1.7")
    status, body, _ = drafts.post(drafts.message("L-1", photo={"s3_key": "photos/x.png"}), Prefer="wait")
    assert status == 400
    assert "PNG, JPEG or GIF" in json.dumps(body["errors"])


# --- refusals -------------------------------------------------------------------------------------------------------


def test_what_breaks_a_rule_gets_a_problem_detail_and_is_nowhere_stored(function, deployed, waiting, table):
    status, body, headers = function.post({**function.message("L-1"), "surprise": "Canary-Akinyi"})
    assert (status, headers["Content-Type"]) == (400, "application/problem+json")
    assert body["type"] == "urn:kiva-relay:problem:invalid-message"
    assert body["errors"] == [{"field": "$.surprise", "rule": "is not a field of this kind of message"}]
    assert waiting() == []
    assert table.scan(TableName="ledger")["Items"] == []


@pytest.mark.parametrize("body", ["", "{", "null", "[]", "5", '"x"', "[" * 10_000, '{"a": 1, "a": 2}'], ids=repr)
def test_what_is_no_message_at_all_gets_400(function, deployed, body):
    assert function.post(body[:10_000])[0] == 400


def test_a_body_that_no_function_is_sent_gets_413_unread(function, deployed, monkeypatch):
    monkeypatch.setattr("kiva_partner.api.decode", None)
    status, body, _ = function.post("[" * (6 * 2**20 + 1))
    assert (status, body["errors"][0]["field"]) == (413, "$")


def test_a_message_that_no_queue_can_carry_gets_413(deployed, context, waiting):
    row = {"internal_client_id": "C", "subject": "S", "body": "x" * 20_000}
    message = {"journals": [{**row, "internal_loan_id": f"L-{number}"} for number in range(50)]}
    status, body, _ = Function(Kind.JOURNAL_UPDATE, context).post(message)
    assert (status, body["title"]) == (413, "The message is too large")
    assert waiting() == []


def test_a_message_is_taken_in_below_the_base_path_of_a_domain_too(function, deployed):
    (path,) = [it for _, it in routes() if it.strip("/").replace("-", "_") == FUNCTIONS[function.kind]]
    event = request("POST", path, json.dumps(function.message("L-1")), base_path="/relay")
    answer = function.handler(event, function.context)
    assert answer["statusCode"] == 202
    assert not answer["headers"]["Location"].startswith("/"), "the client would leave the base path out"


def test_another_media_type_gets_415(function, deployed):
    assert function.post(function.message("L-1"), **{"Content-Type": "text/xml"})[0] == 415


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "gzip, identity"])
def test_a_compressed_body_gets_415_and_is_told_what_is_taken(function, deployed, coding):
    """RFC 9110 §12.5.3 and §15.5.16."""
    status, body, headers = function.post(function.message("L-1"), **{"Content-Encoding": coding})
    assert (status, headers["Accept-Encoding"]) == (415, "identity")
    assert body["title"] == "The message must not be compressed (Content-Encoding)"
    assert function.post(function.message("L-1"), **{"Content-Encoding": "identity"})[0] == 202


def test_a_compressed_body_that_does_not_say_so_is_named(drafts, deployed):
    packed = base64.b64encode(gzip.compress(json.dumps(drafts.message("L-1")).encode())).decode()
    event = {"httpMethod": "POST", "path": "/x", "headers": None, "isBase64Encoded": True, "body": packed}
    answer = drafts.handler(event, drafts.context)
    assert json.loads(answer["body"])["errors"] == [{"field": "$", "rule": "is compressed (gzip); send it as it is"}]


def test_an_envelope_is_named_by_the_api_and_in_the_dead_letter(function, deployed, waiting):
    envelope = {"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-1:1:mis", "Message": "{}"}
    rule = "is a notification of SNS around a message; turn on raw message delivery for the subscription"
    status, body, _ = function.post(envelope)
    assert (status, body["errors"]) == (400, [{"field": "$", "rule": rule}])
    assert function.batch(envelope) == []
    assert waiting("dead letters")[0]["MessageAttributes"]["Reason"]["StringValue"] == f"$: {rule}"


def test_a_body_in_base64_is_read_and_garbage_in_it_is_refused(drafts, deployed):
    event = {"httpMethod": "POST", "path": "/x", "headers": None, "isBase64Encoded": True}
    good = base64.b64encode(json.dumps(drafts.message("L-1")).encode()).decode()
    assert drafts.handler({**event, "body": good}, drafts.context)["statusCode"] == 202
    for bad in ("%%%", "é", base64.b64encode(b"\xff").decode()):
        assert drafts.handler({**event, "body": bad}, drafts.context)["statusCode"] == 400


def test_a_message_of_another_kind_is_told_where_it_belongs(drafts, reports, deployed):
    _, body, _ = drafts.post(reports.message("L-1"))
    assert body["errors"] == [
        {"field": "$.repayments", "rule": "belongs to a repayment message, but this is the way of loan_draft"}
    ]


def test_when_the_queue_does_not_take_it_nothing_is_promised(function, deployed, queue_urls, table):
    boto3.client("sqs").delete_queue(QueueUrl=queue_urls[0])
    status, body, _ = function.post(function.message("L-1"))
    assert (status, body["title"]) == (503, "It was not taken in; send it again, that is always safe")
    assert table.scan(TableName="ledger")["Items"] == []


def test_refused_credentials_alarm_the_operator_and_name_nothing(function, deployed, capsys):
    deployed.mock.replace("POST", "https://auth.kiva.test/oauth/token", status=401, body="canary-secret&+=")
    status, body, _ = function.post(function.message("L-1"), Prefer="wait")
    assert (status, body["type"]) == (502, "urn:kiva-relay:problem:misconfigured")
    out = capsys.readouterr().out
    assert '"Misconfigured":[1.0]' in out
    assert "canary" not in (out + json.dumps(body)).lower()


@pytest.mark.parametrize("status", [200, 400, 500])
def test_nothing_personal_is_answered_or_logged_though_kiva_repeats_the_request(function, deployed, capsys, status):
    deployed.answers = [(status, {"message": json.dumps(function.message("L-1"))})]
    answers = [
        function.post(function.message("L-1"), Prefer="wait"),
        function.post({**function.message("L-2"), "Canary-Akinyi": "Canary-Odhiambo"}),
        function.post({**function.message("L-2"), "reference": "Canary Odhiambo"}),
    ]
    everything = (json.dumps(answers) + capsys.readouterr().out).lower()
    assert "l-1" in everything
    assert "canary" not in everything


def test_white_space_and_absent_fields_do_not_make_a_message_large(drafts, deployed):
    assert drafts.post(drafts.message("L-1", image_encoded=None, location=" " * MAX_MESSAGE_BYTES))[0] == 202
