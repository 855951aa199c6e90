"""Overload, deadlines and neighbours: nothing is lost, swapped, or run after its time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from .bundles import WIDTH, Fixture, score
from .conftest import MakeBundle
from .serving import Answer, Server, running

ROW = [1.0] * WIDTH


def row(value: float) -> list[list[float]]:
    return [[value, *ROW[1:]]]


def in_parallel(count: int, call: Callable[[int], Answer]) -> list[Answer]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


def settled(server: Server) -> tuple[float, float, float]:
    """The ledger once nothing is in flight."""
    end = time.monotonic() + 10
    while (in_flight := server.metric("infc_in_flight")) > 0 and time.monotonic() < end:
        time.sleep(0.01)
    return server.metric("infc_accepted_total"), server.metric("infc_outcomes_total"), in_flight


def test_every_client_gets_its_own_answer_and_the_ledger_agrees(serve_binary: Path, make_bundle: MakeBundle) -> None:
    clients, each = 12, 40

    def client(number: int) -> int:
        right = 0
        connection = server.connect()
        for turn in range(each):
            name = f"{number}-{turn}"
            value = float(number * each + turn)
            bad = turn % 5 == 0
            features = row(999.0) if bad else row(value)
            body = json.dumps({"features": features, "id": name}).encode()
            connection.request("POST", "/infer", body, {"content-type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert answer["id"] == name
            assert response.status == (422 if bad else 200)
            if not bad:
                assert np.allclose(answer["outputs"]["score"], score(np.array(features)), atol=1e-4)
            right += 1
        connection.close()
        return right

    fixture = Fixture(defines=("DELAY_MS=2",), serve={"instances": 2})
    with running(serve_binary, make_bundle(fixture)) as server:
        with ThreadPoolExecutor(clients) as pool:
            assert sum(pool.map(client, range(clients))) == clients * each
        assert settled(server) == (clients * each, clients * each, 0)
        (stats,) = server.get("/v2/models/fixture/stats").json["model_stats"]
        assert stats["inference_count"] == clients * each
        assert stats["execution_count"] < clients * each, "no two requests ever shared a batch"
        assert server.metric("infc_requests_total") == clients * each + 1


def test_a_full_queue_is_429_with_retry_after_and_what_was_accepted_is_answered(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    fixture = Fixture(defines=("DELAY_MS=300",), serve={"queue": 2, "batch": {"max_requests": 1, "max_rows": 1}})
    with running(serve_binary, make_bundle(fixture)) as server:
        answers = in_parallel(12, lambda _: server.post("/infer", {"features": [ROW]}))
        statuses = sorted(a.status for a in answers)
        assert set(statuses) == {200, 429}
        for answer in answers:
            if answer.status == 429:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json["error"]["code"] == "queue_full"
        accepted, outcomes, in_flight = settled(server)
        assert (accepted, outcomes, in_flight) == (statuses.count(200), statuses.count(200), 0)
        openai = in_parallel(8, lambda _: server.post("/v2/models/fixture/infer", {"inputs": []}))
        assert {a.status for a in openai} == {422}, "a wrong request never takes a place in the queue"


def executions(server: Server) -> int:
    """Batches that were run, as the statistics have it."""
    (stats,) = server.get("/v2/models/fixture/stats").json["model_stats"]
    return int(stats["execution_count"])


def test_a_deadline_that_passes_is_504_and_the_request_is_never_run(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    fixture = Fixture(defines=("DELAY_MS=400",), serve={"batch": {"max_requests": 1, "max_rows": 1}})
    with running(serve_binary, make_bundle(fixture)) as server:
        first = threading.Thread(target=server.post, args=("/infer", {"features": [ROW]}))
        first.start()
        while server.metric("infc_in_flight") == 0:
            time.sleep(0.005)
        begin = time.monotonic()
        late = server.post("/infer", {"features": [ROW]}, {"x-request-deadline-ms": "50"})
        assert late.status == 504
        assert time.monotonic() - begin < 0.35, "it is told when its time is over, not when its turn comes"
        first.join()
        assert settled(server) == (2, 2, 0)
        assert executions(server) == 1
        assert server.post("/infer", {"features": [ROW]}, {"x-request-deadline-ms": "0"}).status == 504
        assert server.post("/infer", {"features": [ROW]}, {"x-request-deadline-ms": "soon"}).status == 400


def test_the_bundles_own_deadline_holds_and_a_client_may_give_more_time(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    fixture = Fixture(defines=("DELAY_MS=300",), serve={"deadline_s": 0.1})
    with running(serve_binary, make_bundle(fixture)) as server:
        assert server.post("/infer", {"features": [ROW]}).status == 504
        assert server.post("/infer", {"features": [ROW]}, {"x-request-deadline-ms": "20000"}).status == 200
        assert settled(server) == (2, 2, 0)


def test_clients_that_leave_are_an_outcome_and_free_their_place(serve_binary: Path, make_bundle: MakeBundle) -> None:
    fixture = Fixture(defines=("DELAY_MS=300",), serve={"queue": 4, "batch": {"max_requests": 1, "max_rows": 1}})
    with running(serve_binary, make_bundle(fixture)) as server:
        connections = [server.connect() for _ in range(4)]
        for connection in connections:
            connection.request("POST", "/infer", json.dumps({"features": [ROW]}), {"content-type": "application/json"})
        while server.metric("infc_accepted_total") < 4:
            time.sleep(0.005)
        for connection in connections:
            connection.close()
        accepted, outcomes, in_flight = settled(server)
        assert (accepted, outcomes, in_flight) == (4, 4, 0)
        (stats,) = server.get("/v2/models/fixture/stats").json["model_stats"]
        assert stats["execution_count"] <= 2, "what nobody waits for is not run"
        assert server.post("/infer", {"features": [ROW]}).status == 200


def test_requests_wait_for_company_as_configured(serve_binary: Path, make_bundle: MakeBundle) -> None:
    batch = {"max_requests": 4, "max_rows": 16, "max_tokens": 64, "wait_s": 5.0}
    with running(serve_binary, make_bundle(Fixture(serve={"batch": batch}))) as server:
        answers = in_parallel(4, lambda n: server.post("/infer", {"features": row(float(n))}))
        assert [a.status for a in answers] == [200] * 4
        (stats,) = server.get("/v2/models/fixture/stats").json["model_stats"]
        assert [b["batch_size"] for b in stats["batch_stats"]] == [4]


def test_a_lost_device_is_503_and_readiness_falls(serve_binary: Path, make_bundle: MakeBundle) -> None:
    with running(serve_binary, make_bundle(Fixture(defines=("LOSE_DEVICE_AT=3",)))) as server:
        assert server.post("/infer", {"features": [ROW]}).status == 200
        lost = server.post("/infer", {"features": [ROW]})
        assert lost.status == 503
        assert "gone" not in lost.body.decode(), "the device's own words are for the log"
        assert server.get("/v2/health/ready").status == 503
        assert server.get("/v2/health/live").status == 200


@pytest.mark.full
def test_the_ledger_holds_under_a_storm_of_every_kind(serve_binary: Path, make_bundle: MakeBundle) -> None:
    fixture = Fixture(defines=("DELAY_MS=5",), serve={"queue": 8, "deadline_s": 0.05})
    with running(serve_binary, make_bundle(fixture)) as server:

        def client(number: int) -> None:
            for turn in range(60):
                kind = (number + turn) % 4
                connection = server.connect()
                headers = {"content-type": "application/json", "x-request-deadline-ms": str(1 + 20 * kind)}
                connection.request("POST", "/infer", json.dumps({"features": [ROW]}), headers)
                if kind != 0:
                    assert connection.getresponse().status in (200, 429, 504)
                connection.close()

        with ThreadPoolExecutor(24) as pool:
            list(pool.map(client, range(24)))
        accepted, outcomes, in_flight = settled(server)
        assert accepted == outcomes
        assert in_flight == 0


def test_what_cannot_be_in_time_is_429_at_once_with_the_time_after_which_it_could(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    fixture = Fixture(defines=("DELAY_MS=100",), serve={"deadline_s": 1.0, "batch": {"max_requests": 1, "max_rows": 1}})
    with running(serve_binary, make_bundle(fixture)) as server:
        for _ in range(30):  # the pace is learned: a row takes 100 ms
            assert server.post("/infer", {"features": [ROW]}).status == 200
        begin = time.monotonic()
        answers = in_parallel(60, lambda _: server.post("/infer", {"features": [ROW]}))
        refused = [a for a in answers if a.status == 429]
        assert len(refused) >= 30
        assert time.monotonic() - begin < 20
        assert {a.status for a in answers} <= {200, 429, 504}
        assert sum(a.status == 200 for a in answers) >= 5, "what is admitted is served"
        for answer in refused:
            assert int(answer.headers["retry-after"]) >= 1
            assert "could not be answered before its deadline" in answer.json["error"]["message"]
        accepted, outcomes, in_flight = settled(server)
        assert (accepted, in_flight) == (outcomes, 0)
        # Work of twenty seconds is admitted by an empty queue: only its own deadline ends it.
        assert server.post("/infer", {"features": [ROW] * 8}, {"x-request-deadline-ms": "20000"}).status == 200


@pytest.mark.full
def test_of_three_hundred_clients_with_sixty_texts_as_many_as_can_be_in_time_are_served(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    """A batch of eight texts takes 50 ms: 300 requests of 60 texts are two minutes of work, and each has ten seconds."""
    batch = {"max_requests": 8, "max_rows": 8, "max_tokens": 4096, "wait_s": 0.0}
    serve = {"deadline_s": 10.0, "queue": 1000, "batch": batch}
    fixture = Fixture(kind="embed", defines=("DELAY_MS=50",), serve=serve)
    with running(serve_binary, make_bundle(fixture)) as server:
        texts = ["a text of some length, as people send them " * 2] * 60
        for _ in range(4):  # the known answer at the start takes no time in this fixture
            assert server.post("/infer", {"text": texts}).status == 200
        begin = time.monotonic()
        answers = in_parallel(300, lambda _: server.post("/infer", {"text": texts}))
        counts = {status: sum(a.status == status for a in answers) for status in (200, 429, 504)}
        waits = sorted({int(a.headers["retry-after"]) for a in answers if a.status == 429})
        print(
            f"served {counts[200]}, refused {counts[429]}, late {counts[504]}, in {time.monotonic() - begin:.1f} s; "
            f"Retry-After {waits}"
        )
        assert sum(counts.values()) == 300
        assert counts[200] >= 5, "ten seconds are enough for 26"
        assert counts[429] >= 150, "what cannot be in time is refused, not run"
        assert min(waits) >= 1
        accepted, outcomes, in_flight = settled(server)
        assert (accepted, in_flight) == (outcomes, 0)


@pytest.mark.full
def test_of_three_hundred_clients_with_sixty_rows_as_many_as_can_be_in_time_are_served(
    serve_binary: Path, make_bundle: MakeBundle
) -> None:
    """A batch of eight rows takes 50 ms: 300 requests of 60 rows are two minutes of work, and each has ten seconds."""
    batch = {"max_requests": 8, "max_rows": 8, "max_tokens": 0, "wait_s": 0.0}
    fixture = Fixture(defines=("DELAY_MS=50",), serve={"deadline_s": 10.0, "queue": 1000, "batch": batch})
    with running(serve_binary, make_bundle(fixture)) as server:
        begin = time.monotonic()
        answers = in_parallel(300, lambda _: server.post("/infer", {"features": [ROW] * 60}))
        counts = {status: sum(a.status == status for a in answers) for status in (200, 429, 504)}
        print(f"served {counts[200]}, refused {counts[429]}, late {counts[504]}, in {time.monotonic() - begin:.1f} s")
        assert sum(counts.values()) == 300
        assert counts[200] >= 10, "ten seconds are enough for 25"
        assert counts[504] <= counts[200], "what cannot be in time is refused, not run"
        assert all(int(a.headers["retry-after"]) >= 1 for a in answers if a.status == 429)
        accepted, outcomes, in_flight = settled(server)
        assert (accepted, in_flight) == (outcomes, 0)
