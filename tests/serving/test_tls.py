"""TLS between client and server, with certificates made here; and deadlines that a jump of the clock does not move."""

from __future__ import annotations

import datetime
import ipaddress
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from worldr1_core.errors import UserError
from worldr1_rewards.serving.client import ClientSettings, ScoringClient
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed

DAY = datetime.timedelta(days=1)


def make_certificate(folder: Path, name: str = "server") -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def test_a_trusted_server_scores_over_tls(start_server, tmp_path, make_clip):
    certificate, key = make_certificate(tmp_path)
    server = start_server(certificate=certificate, key=key, token="secret-token")
    assert server.url.startswith("https://127.0.0.1:")
    client = server.client(ca_file=certificate, token="secret-token")
    (scored,) = client.score([make_clip()], ["contrast"])
    assert scored.scores["contrast"].reason is None
    with pytest.raises(RequestFailed) as caught:
        server.client(ca_file=certificate, token="other").score([make_clip()], ["contrast"])
    assert caught.value.code is ErrorCode.UNAUTHORISED


def test_a_server_that_is_not_trusted_gets_no_clip(start_server, tmp_path, make_clip):
    certificate, key = make_certificate(tmp_path)
    other, _ = make_certificate(tmp_path, "other")
    server = start_server(certificate=certificate, key=key)
    for trusted in (other, None):
        client = server.client(ca_file=trusted, patience=0.2)
        with pytest.raises(RequestFailed, match=r"(?i)certificate") as caught:
            client.score([make_clip()], ["contrast"])
        assert caught.value.code is ErrorCode.UNAVAILABLE
    assert server.worker.batches == []


def test_a_server_with_tls_refuses_plain_requests(start_server, tmp_path, make_clip):
    certificate, key = make_certificate(tmp_path)
    server = start_server(certificate=certificate, key=key)
    plain = server.url.replace("https:", "http:")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{plain}/healthz")


def test_certificates_that_are_none_are_an_error(tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(UserError, match=r"ca\.pem.*cannot be read as certificates"):
        ScoringClient(ClientSettings(urls=["https://127.0.0.1:1"], ca_file=file))


@pytest.mark.parametrize("jump", [86400.0 * 365, -86400.0 * 365], ids=["forward", "back"])
def test_a_jump_of_the_clock_moves_no_deadline(server, make_clip, monkeypatch, jump):
    wall = time.time
    client = server.client(timeout=20.0)
    server.worker.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.score, [make_clip()], ["contrast"])
        while not server.worker.batches:
            time.sleep(0.01)
        monkeypatch.setattr(time, "time", lambda: wall() + jump)
        time.sleep(0.2)
        server.worker.gate.set()
        (scored,) = running.result()
    assert scored.scores["contrast"].reason is None
    server.worker.gate.clear()
    start = time.monotonic()
    with pytest.raises(RequestFailed, match=r"within 0\.3 s"):
        server.client(timeout=0.3).score([make_clip(1)], ["contrast"])
    assert 0.2 < time.monotonic() - start < 10
