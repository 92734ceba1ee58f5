"""TLS with real certificates: what is accepted, and which words say what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError
from tests.ground.certificates import Authority
from tests.ground.cluster import Cluster, ServerCertificate
from tests.ground.errors import StartFailed
from tests.ground.servers import Installation

pytestmark = pytest.mark.usefixtures("_one_driver")


class Encrypted(NamedTuple):
    """A server that speaks TLS, and the files around it."""

    server: Cluster
    authority: Authority
    other: Authority


@pytest.fixture(scope="module")
def encrypted(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    authority = Authority.create(tmp_path_factory.mktemp("ours"), "ours")
    other = Authority.create(tmp_path_factory.mktemp("others"), "others")
    server = Cluster(installation, tls=ServerCertificate(*authority.issue("server"), authority.file))
    try:
        server.start()
    except StartFailed as reason:
        server.remove()
        if "SSL is not supported by this build" in str(reason):
            pytest.skip(f"the server of {installation.source} is built without TLS")
        raise
    with server.connect() as superuser:
        superuser.execute("CREATE ROLE by_certificate LOGIN")
    hba = server.data / "pg_hba.conf"
    hba.write_text(f"hostssl all by_certificate all cert\n{hba.read_text(encoding='utf-8')}", encoding="utf-8")
    with server.connect() as superuser:
        superuser.execute("SELECT pg_reload_conf()")
    yield Encrypted(server, authority, other)
    server.remove()


def encryption(server: Cluster, **options: Any) -> bool:
    """Connect and return whether the session is encrypted."""
    given = ConnectionOptions.from_params({**server.login(), **options})
    with connect(given, application_name="pgops.runbook/test", read_only=True) as session:
        return bool(session.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))


@pytest.mark.parametrize(("mode", "expected"), [("", True), ("prefer", True), ("require", True), ("disable", False), ("allow", False)])
def test_modes_without_a_check(encrypted: Encrypted, mode: str, expected: bool) -> None:
    assert encryption(encrypted.server, ssl_mode=mode) is expected


def test_a_certificate_that_is_right(encrypted: Encrypted) -> None:
    authority = str(encrypted.authority.file)
    assert encryption(encrypted.server, ssl_mode="verify-ca", ca_cert=authority)
    assert encryption(encrypted.server, ssl_mode="verify-full", ca_cert=authority, login_host="localhost")


def test_a_client_certificate(encrypted: Encrypted) -> None:
    certificate, key = encrypted.authority.issue("by_certificate")
    given = {"login_user": "by_certificate", "login_password": None, "ssl_cert": str(certificate), "ssl_key": str(key)}
    assert encryption(encrypted.server, ssl_mode="require", **given)


@pytest.mark.parametrize(
    ("options", "layer", "words", "hint"),
    [
        ({"ssl_mode": "verify-ca", "ca_cert": "{other}"}, "tls", "certificate verify failed", "not signed by the authority"),
        (
            {"ssl_mode": "verify-full", "ca_cert": "{ours}"},
            "tls",
            "does not match host name",
            "Connect by a name",
        ),
        ({"ssl_mode": "verify-full", "ca_cert": "/nowhere/ca.pem"}, "tls", "/nowhere/ca.pem", "Give ca_cert"),
        ({"ssl_mode": "require", "ssl_cert": "{cert}", "ssl_key": "/nowhere/key.pem"}, "tls", "/nowhere/key.pem", "Check ssl_mode"),
        ({"ssl_mode": "require", "login_user": "by_certificate", "login_password": None}, "authentication", "certificate", "certificate"),
    ],
)
def test_what_is_wrong_is_named(encrypted: Encrypted, options: dict[str, Any], layer: str, words: str, hint: str) -> None:
    certificate, _key = encrypted.authority.issue("client")
    files = {"other": encrypted.other.file, "ours": encrypted.authority.file, "cert": certificate}
    given = {name: text.format(**files) if isinstance(text, str) else text for name, text in options.items()}
    with pytest.raises(ConnectError) as caught:
        encryption(encrypted.server, **given)
    assert caught.value.layer == layer
    assert words in caught.value.message
    assert hint in str(caught.value.hint)


def test_a_server_without_tls(cluster: Cluster) -> None:
    with pytest.raises(ConnectError, match="server does not support SSL") as caught:
        encryption(cluster, ssl_mode="require")
    assert caught.value.layer == "tls"
    assert "Switch TLS on" in str(caught.value.hint)
