"""The sandbox as people start it: a process of its own, reached over a socket."""

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest


@pytest.fixture
def process(start):
    return start("--port", "0", "--loans", "3", "--journal-success", "201")


def test_a_draft_goes_through_the_real_server_which_logs_paths_only_and_stops_when_told(process, form, individual):
    greeting = process.stdout.readline()
    assert "http://127.0.0.1:" in greeting
    with httpx2.Client(base_url=greeting.split()[-1], trust_env=False) as http:
        token = http.post("/oauth/token", data=form).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        draft = http.post("/v3/partner/9001/loan_draft", json=individual, headers=headers).json()
        found = http.get("/v3/partner/9001/loans", params={"query": "Akinyi"}, headers=headers)
        kept = http.get("/_sandbox/drafts").json()
        loans = http.get("/_sandbox/loans").json()
        switches = http.get("/_sandbox/switches").json()
    assert found.status_code == 200
    assert [one["loan_draft_uuid"] for one in kept["data"]] == [draft["loan_draft_uuid"]]
    assert loans["total"] == 3
    assert switches["journal_success"]["value"] == 201
    process.send_signal(signal.SIGTERM)
    log, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert '"GET /v3/partner/9001/loans HTTP/1.1" 200' in log
    assert '"POST /v3/partner/9001/loan_draft HTTP/1.1" 200' in log
    for secret in ("Akinyi", "query=", token, form["client_secret"]):
        assert secret not in log + errors


def test_told_to_stop_it_waits_for_no_latency_and_logs_no_traceback(process, form, individual):
    address = process.stdout.readline().split()[-1]
    with httpx2.Client(base_url=address, trust_env=False) as http, ThreadPoolExecutor() as aside:
        token = http.post("/oauth/token", data=form).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Kiva-Sandbox": "latency=600"}
        call = aside.submit(http.post, "/v3/partner/9001/loan_draft", json=individual, headers=headers, timeout=60)
        while not http.get("/_sandbox/drafts").json()["total"]:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        with pytest.raises(httpx2.RemoteProtocolError):
            call.result()
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_a_port_that_is_taken_is_one_clear_line_and_exit_1(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        late = start("--port", str(port))
        log, errors = late.communicate(timeout=30)
    assert late.returncode == 1
    assert log == ""
    assert len(errors.splitlines()) == 1
    assert f"127.0.0.1:{port}" in errors
    assert "--port" in errors
