"""What goes over the gateway wire comes out the same, and what should not is refused."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drivers.clock import RealClock
from drivers.errors import (
    BadFrame,
    DriverDisconnected,
    DriverError,
    DriverRefused,
    DriverTimeout,
)
from drivers.gateway import DRIVER
from drivers.gateway.wire import (
    MAX_COMMAND_BYTES,
    RECEIPT,
    SUB_SCAN,
    FrameHeader,
    block_of,
    block_parts,
    dump,
    require_loopback,
    revived,
    wire_error,
)
from drivers.serve import data as data_module
from drivers.serve import server as server_module
from drivers.serve.data import DataLink
from drivers.serve.server import InstrumentServer
from drivers.vocabulary import AnyArray, FrameBlock, Receipt, SubScan
from tests.conformance.scenes import SceneDriver, instrument
from tests.conformance.serving import RawClient, serving
from tests.conformance.suite import Rig, collect, connected, scanning

D = 10.0
numbers = st.floats(-1e6, 1e6)
sizes = st.floats(1e-3, 1e6)
sub_scans = st.builds(
    SubScan,
    id=st.text(min_size=1, max_size=20),
    center_nm=st.tuples(numbers, numbers),
    fov_nm=st.tuples(sizes, sizes),
    shape=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    dwell_us=sizes,
    rotation_deg=numbers,
)


@given(sub_scans, st.booleans(), sizes)
def test_receipts_survive_json(sub_scan: SubScan, completed: bool, seconds: float) -> None:
    receipt = Receipt(sub_scan, completed, 3, seconds, 1.0, 1.0 + seconds)
    assert RECEIPT.validate_python(json.loads(json.dumps(dump(receipt)))) == receipt
    assert SUB_SCAN.validate_python(json.loads(json.dumps(dump(sub_scan)))) == sub_scan


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.uint32, np.float32]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
    )
)
def test_blocks_survive_the_wire_bit_for_bit(data: AnyArray) -> None:
    block = FrameBlock(data, 7, 99, "camera", "s-1", 0.0)
    header, payload = block_parts(block, 3)
    again = block_of(FrameHeader.model_validate_json(header), memoryview(bytes(payload)), 5.0)
    assert again.data.dtype == data.dtype
    assert again.data.tobytes() == data.tobytes()
    assert again.data.shape == data.shape
    assert (again.first_index, again.expected_total, again.received_at_s) == (7, 99, 5.0)


@pytest.mark.parametrize(
    ("dtype", "n_bytes"), [("uint16", 11), ("object", 96), ("no such type", 12), ("M8[s]", 96)]
)
def test_bytes_that_are_no_block_are_bad_frames(dtype: str, n_bytes: int) -> None:
    header = FrameHeader(seq=0, detector="camera", sub_scan_id="s-1", shape=(1, 2, 3), dtype=dtype)
    with pytest.raises(BadFrame, match="camera"):
        block_of(header, memoryview(bytes(n_bytes)), 0.0)


@pytest.mark.parametrize(
    "error",
    [
        DriverTimeout("scan s-1", 2.5),
        DriverRefused("no"),
        DriverDisconnected("gone"),
        BadFrame("camera", "s-1", "lost"),
        DriverError("hm"),
    ],
)
def test_errors_keep_type_and_words(error: DriverError) -> None:
    again = revived(wire_error(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_an_unknown_error_names_its_type() -> None:
    assert "ZeroDivisionError: oh" in str(revived(wire_error(ZeroDivisionError("oh"))))


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5555", "tcp://localhost:5555"])
def test_loopback_is_allowed(endpoint: str) -> None:
    assert require_loopback(endpoint) == "tcp://127.0.0.1:5555"


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://192.168.1.4:5555", "tcp://127.0.0.1",
     "inproc://x", "", "tcp://127.0.0.1:notaport", "tcp://127.0.0.1.evil.org:1"],
)  # fmt: skip
def test_other_addresses_are_refused_by_both_sides(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"tcp://127\.0\.0\.1|no endpoint"):
        require_loopback(endpoint)
    with pytest.raises(DriverRefused, match="endpoint"):
        DRIVER.open(instrument().served_by_gateway(endpoint), RealClock())


def test_the_server_binds_no_outside_address() -> None:
    room = SceneDriver().room(instrument(), RealClock())
    with pytest.raises(ValueError, match="other machines"):
        InstrumentServer(room, "tcp://0.0.0.0:0", 60.0)
    room.close()


def test_an_endpoint_is_asked_for() -> None:
    with pytest.raises(DriverRefused, match="endpoint"):
        DRIVER.emergency(instrument())


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([b"\x80\x04pickle"], "not a command"),
        ([b"[]"], "not a command"),
        ([b'{"id": "c-1"}'], "cmd"),
        ([b'{"id": "c-1", "cmd": "blank", "deadline_s": NaN}'], "deadline_s"),
        ([b'{"id": "c-1", "cmd": "blank", "deadline_s": 1, "more": 1}'], "more"),
        ([b"x" * (MAX_COMMAND_BYTES + 1)], "at most"),
        ([b"{}", b"{}"], "2 parts"),
        ([b"[" * 20000], "not a command"),
    ],
)
def test_malformed_commands_are_refused_and_the_server_lives(parts: list[bytes], why: str) -> None:
    with serving() as served, RawClient(served.endpoint) as client:
        client.send(*parts)
        reply = client.receive()
        assert not reply["ok"]
        assert why in reply["error"]["message"]
        assert client.ask("emergency.is_blanked")["result"] is True


def test_unknown_commands_and_wrong_arguments_are_refused() -> None:
    with serving() as served, RawClient(served.endpoint) as client:
        assert "no command 'explode'" in client.ask("explode")["error"]["message"]
        reply = client.ask("claim", "c-2", args={"holder": "Ada", "sudo": True})
        assert "sudo" in reply["error"]["message"]
        reply = client.ask("arm", "c-3", args={"detector": "haadf", "sub_scan": {"id": "s"}})
        assert reply["error"]["kind"] == "DriverRefused"


def test_an_expired_command_is_not_carried_out() -> None:
    with serving() as served, RawClient(served.endpoint) as client:
        token = client.ask("claim", "c-1", args={"holder": "Ada"})["result"]["token"]
        reply = client.ask("unblank", "c-2", token=token, sent_unix_s=time.time() - 60)
        assert "expired" in reply["error"]["message"]
        assert served.room.is_blanked()


def test_a_repeated_command_gets_the_same_answer_and_is_done_once(tmp_path: Path) -> None:
    with serving() as served, RawClient(served.endpoint) as client:
        first = client.ask("claim", "c-1", args={"holder": "Ada"})
        assert client.ask("claim", "c-1", args={"holder": "Ada"}) == first
        token = first["result"]["token"]
        client.ask("unblank", "c-2", token=token)
        client.ask("blank", "c-3", token=token)
        assert client.ask("unblank", "c-2", token=token)["ok"]
        assert served.room.is_blanked()


def test_a_scan_repeated_while_it_runs_is_answered_twice_and_done_once() -> None:
    sub_scan = dump(SubScan("s-1", (0, 0), (1, 1), (4, 4), 10_000.0))
    with serving() as served, RawClient(served.endpoint) as client:
        token = client.ask("claim", "c-1", args={"holder": "Ada"})["result"]["token"]
        with zmq.Context() as context, context.socket(zmq.PULL) as data:
            data.connect(client.ask("claim", "c-1")["result"]["data"])
            client.ask("arm", "c-2", token=token, args={"detector": "bf", "sub_scan": sub_scan})
            message = {"id": "c-3", "cmd": "scan", "token": token, "deadline_s": 5.0}
            for _ in range(2):
                client.send(json.dumps({**message, "args": {"sub_scan": sub_scan}}).encode())
            answers = [client.receive(), client.receive()]
        assert answers[0] == answers[1]
        assert answers[0]["result"]["positions_executed"] == 16


def test_a_scan_in_progress_is_remembered_however_much_comes_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "REMEMBERED", 3)
    sub_scan = dump(SubScan("s-1", (0, 0), (1, 1), (4, 4), 1e6))
    with serving() as served, RawClient(served.endpoint) as client:
        token = client.ask("claim", "c-1", args={"holder": "Ada"})["result"]["token"]
        client.ask("arm", "c-2", token=token, args={"detector": "bf", "sub_scan": sub_scan})
        scan = {"id": "c-3", "cmd": "scan", "token": token, "deadline_s": 60.0}
        client.send(json.dumps({**scan, "args": {"sub_scan": sub_scan}}).encode())
        for n in range(10):
            assert client.ask("heartbeat", f"h-{n}", token=token)["ok"]
        client.send(json.dumps({**scan, "args": {"sub_scan": sub_scan}}).encode())
        client.send(json.dumps({**scan, "id": "c-4", "cmd": "cancel"}).encode())
        answers = [client.receive() for _ in range(3)]
        assert all(answer["ok"] for answer in answers), answers
        assert sorted(answer["id"] for answer in answers) == ["c-3", "c-3", "c-4"]


async def test_nobody_there_is_said_at_once() -> None:
    session = DRIVER.open(instrument().served_by_gateway("tcp://127.0.0.1:9"), RealClock())
    async with asyncio.timeout(2):
        with pytest.raises(DriverDisconnected, match=r"127\.0\.0\.1:9"):
            await session.connect("Ada", deadline_s=D)
    await session.close()
    emergency = DRIVER.emergency(instrument().served_by_gateway("tcp://127.0.0.1:9"))
    with pytest.raises(DriverDisconnected):
        await asyncio.to_thread(emergency.blank, D)
    await asyncio.to_thread(emergency.close)


async def test_a_lost_block_is_noticed_by_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    def skip_one(link: DataLink, block: FrameBlock) -> None:
        link._seq += 1
        original(link, block)

    original = DataLink.send_block
    with serving() as served:
        async with connected(Rig(served.open, served.emergency)) as session:
            detector, sub_scan = session.detectors["bf"], RIG.sub_scan()
            assert session.scan is not None
            await detector.arm(sub_scan, deadline_s=D)
            monkeypatch.setattr(DataLink, "send_block", skip_one)
            await session.scan.scan(sub_scan, deadline_s=D)
            with pytest.raises(BadFrame, match="lost on the way"):
                await collect(detector)


def test_a_holder_that_takes_no_frames_overruns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "PATIENCE_MS", 20)
    with zmq.Context() as context:
        link = DataLink(context)
        block = FrameBlock(np.zeros((1, 2, 3), np.uint8), 0, 1, "bf", "s-1", 0.0)
        with pytest.raises(BadFrame, match="overrun"):
            link.send_block(block)
        link.close()
        with pytest.raises(BadFrame, match="lease"):
            link.send_block(block)
        link.send_end("bf", "s-1", completed=False)


async def test_closing_during_a_scan_cancels_blanks_and_parks() -> None:
    with serving() as served:
        rig = Rig(served.open, served.emergency)
        session = rig.open()
        await session.connect("Ada", deadline_s=D)
        async with scanning(session, rig.sub_scan(seconds=30)) as (scan, _):
            await session.close()
            # the machine's last answer may or may not have come before the connection closed
            (end,) = await asyncio.gather(scan, return_exceptions=True)
            assert isinstance(end, DriverDisconnected) or not end.completed  # type: ignore[union-attr]
        assert served.room.is_blanked()
        assert served.room.scan_state().probe == "parked"


async def test_frames_nobody_waits_for_are_dropped_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving() as served:
        async with connected(Rig(served.open, served.emergency)) as session:
            assert session.scan is not None
            haadf, first = session.detectors["haadf"], RIG.sub_scan("s-1")
            await haadf.arm(first, deadline_s=D)
            # forget the sub-scan on this side only, as after a deadline that was missed
            session.inboxes.clear()  # type: ignore[attr-defined]
            await session.scan.scan(first, deadline_s=D)
            second = RIG.sub_scan("s-2")
            await haadf.arm(second, deadline_s=D)
            await session.scan.scan(second, deadline_s=D)
            (block,) = await collect(haadf)
            assert block.sub_scan_id == "s-2"
            assert session.stale_blocks == 1  # type: ignore[attr-defined]
    assert "haadf of s-1" in caplog.text


async def test_an_emergency_call_with_no_answer_times_out() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as mute:
        port = mute.bind_to_random_port("tcp://127.0.0.1")
        there = instrument().served_by_gateway(f"tcp://127.0.0.1:{port}")
        emergency = DRIVER.emergency(there)
        with pytest.raises(DriverTimeout, match=r"emergency\.blank"):
            await asyncio.to_thread(emergency.blank, 0.1)
        await asyncio.to_thread(emergency.close)
        session = DRIVER.open(there, RealClock())
        with pytest.raises(DriverTimeout, match="hello"):
            await session.connect("Ada", deadline_s=0.1)


async def test_a_silent_holder_is_fenced(tmp_path: Path) -> None:
    log = tmp_path / "exposures.jsonl"
    with serving(exposure_log=log, heartbeat_timeout_s=0.8) as served:
        rig = Rig(served.open, served.emergency)
        async with (
            connected(rig, "Ada") as session,
            scanning(session, rig.sub_scan(seconds=30)) as (scan, _),
        ):
            async with asyncio.timeout(D):
                receipt = await scan
            assert not receipt.completed
            assert served.room.is_blanked()
            assert served.room.scan_state().probe == "parked"
            assert session.beam is not None
            with pytest.raises(DriverRefused, match="no heartbeat of Ada"):
                await session.beam.unblank(deadline_s=D)


async def test_heartbeats_keep_the_lease() -> None:
    with serving(heartbeat_timeout_s=0.8) as served:
        rig = Rig(served.open, served.emergency)
        async with (
            connected(rig, "Ada") as session,
            scanning(session, rig.sub_scan(seconds=1.2)) as (scan, _),
        ):
            while not scan.done():
                await session.heartbeat()
                await asyncio.wait({scan}, timeout=0.05)
            assert (await scan).completed


RIG = Rig(lambda: pytest.fail("unused"), lambda: pytest.fail("unused"))
