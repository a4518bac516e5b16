"""Logins, TLS and rights: the shipped files, and what a person is told who may not enter."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fl_protocol.errors import AccessRefused, BrokerUnavailable, ConfigError
from fl_protocol.network import Connected, Disconnected, Received, Undelivered, Will
from fl_protocol.transport import BrokerOptions, MqttTransport, probe
from tests.brokers import Broker, Peer, mosquitto, nats, program, running, shipped_mosquitto

# paho leaves the socket of a failed TLS handshake to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed .ssl.SSLSocket:ResourceWarning")

JOB = "fl/1/lung"
USERS = ("aggregator", "operator", "site-a", "site-b")


def openssl(*words: str | Path) -> None:
    """Run openssl, quietly."""
    subprocess.run([program("openssl"), *map(str, words)], check=True, capture_output=True)


def issue(folder: Path, name: str, authority: str = "ca", alt: str = "IP:127.0.0.1,DNS:localhost") -> None:
    """A key and a certificate for ``name``, signed by ``authority``."""
    key, request, extra = folder / f"{name}.key", folder / f"{name}.csr", folder / f"{name}.ext"
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
    extra.write_text(f"subjectAltName={alt}\n")
    openssl("x509", "-req", "-in", request, "-CA", folder / f"{authority}.crt", "-CAkey", folder / f"{authority}.key",
            "-CAcreateserial", "-days", "60", "-extfile", extra, "-out", folder / f"{name}.crt")  # fmt: skip


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, a server and a site."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "stranger"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "60", "-subj", f"/CN={name}",
                "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    issue(folder, "server")
    issue(folder, "elsewhere", alt="DNS:elsewhere.example")
    issue(folder, "site-a")
    issue(folder, "forged", authority="stranger")
    return folder


def password_file(path: Path) -> Path:
    """Every user's password is ``NAME-secret``."""
    path.touch(mode=0o600)
    for user in USERS:
        command = [program("mosquitto_passwd"), "-b", str(path), user, f"{user}-secret"]
        subprocess.run(command, check=True, capture_output=True)
    return path


def tls_lines(folder: Path, server: str = "server") -> list[str]:
    """What makes a mosquitto listener TLS."""
    return [
        f"cafile {folder / 'ca.crt'}",
        f"certfile {folder / server}.crt",
        f"keyfile {folder / server}.key",
    ]


def trusting(broker: Broker, folder: Path, **more: str) -> BrokerOptions:
    """The broker's options with the right authority."""
    return replace(broker.options, ca=str(folder / "ca.crt"), **more)  # type: ignore[arg-type]


# The shipped files.


@pytest.fixture
def secure(tmp_path: Path, certificates: Path) -> Iterator[Broker]:
    """broker/mosquitto.conf with its secure block switched on, and broker/acl."""
    broker = shipped_mosquitto(tmp_path, secure=True)
    password_file(tmp_path / "passwords")
    for suffix in ("crt", "key"):
        (tmp_path / f"server.{suffix}").write_bytes((certificates / f"server.{suffix}").read_bytes())
    broker.options = trusting(broker, certificates)
    with running(broker):
        yield broker


def member(broker: Broker, user: str, **more: object) -> Peer:
    """A peer under its own login."""
    options = replace(broker.options, username=user, password=f"{user}-secret")
    return Peer(options, user, **more)  # type: ignore[arg-type]


def test_the_shipped_file_loads_and_announces_its_limit(tmp_path: Path) -> None:
    with running(shipped_mosquitto(tmp_path)) as broker:
        assert probe(broker.options) == Connected("5", 1048576)
        assert "unknown configuration" not in broker.log.read_text().lower()


def test_a_site_reads_only_what_is_its_own(secure: Broker) -> None:
    filters = ["fl/#", f"{JOB}/dn/site-b/#", f"{JOB}/up/+/state"]
    with member(secure, "aggregator") as aggregator, member(secure, "site-a", filters=filters) as site:
        aggregator.next(Connected)
        site.next(Connected)
        for topic in (
            "up/site-b/state",
            "dn/site-b/control",
            "up/site-a/state",
            "dn/site-a/control",
            "pub/round",
        ):
            aggregator.transport.publish(f"{JOB}/{topic}", b"x", retain=True)
        got = {message.topic for message in site.receive_until(f"{JOB}/pub/round")}
        assert got == {f"{JOB}/dn/site-a/control", f"{JOB}/pub/round"}


def test_a_site_writes_only_what_is_its_own(secure: Broker) -> None:
    with member(secure, "aggregator", filters=["fl/#"]) as aggregator, member(secure, "site-a") as site:
        aggregator.next(Connected)
        site.next(Connected)
        forbidden = ("up/site-b/state", "pub/round", "dn/site-a/control", "up/site-b/chunk/t1/0")
        for topic in forbidden:
            site.transport.publish(f"{JOB}/{topic}", b"x")
        site.transport.publish(f"{JOB}/up/site-a/state", b"mine")
        assert aggregator.next(Received) == Received(f"{JOB}/up/site-a/state", b"mine", retained=False)
        told = {site.next(Undelivered).topic for _ in forbidden}
        assert told == {f"{JOB}/{topic}" for topic in forbidden}


def test_a_refusal_is_told_once_per_kind_of_topic(secure: Broker) -> None:
    with member(secure, "site-a") as site:
        site.next(Connected)
        for i in range(5):
            site.transport.publish(f"{JOB}/up/site-b/chunk/t1/{i}", b"x")
        site.transport.publish(f"{JOB}/pub/agg", b"x")
        assert "Not authorized" in site.next(Undelivered).reason
        assert site.next(Undelivered).topic == f"{JOB}/pub/agg"


def test_a_site_neither_reads_nor_writes_what_is_for_operators(secure: Broker) -> None:
    filters = [f"{JOB}/op/#", f"{JOB}/op/run", f"{JOB}/pub/round"]
    commands = [f"{JOB}/op/command"]
    with (
        member(secure, "aggregator", filters=commands) as aggregator,
        member(secure, "site-a", filters=filters) as site,
    ):
        aggregator.next(Connected)
        site.next(Connected)
        for topic in ("op/command", "op/answer", "op/run", "op/round/1"):
            site.transport.publish(f"{JOB}/{topic}", b"from a site")
            assert site.next(Undelivered).topic == f"{JOB}/{topic}"
        for topic in ("op/run", "op/round/1", "op/answer", "pub/round"):
            aggregator.transport.publish(f"{JOB}/{topic}", b"x", retain=True)
        assert [message.topic for message in site.receive_until(f"{JOB}/pub/round")] == [f"{JOB}/pub/round"]
        with member(secure, "operator", filters=[f"{JOB}/op/#"]) as operator:
            operator.next(Connected)
            assert set(operator.receive(3)) == {f"{JOB}/op/run", f"{JOB}/op/round/1", f"{JOB}/op/answer"}
            operator.transport.publish(f"{JOB}/op/command", b"from an operator")
            assert aggregator.next(Received).payload == b"from an operator", "the site's did not come"
            operator.transport.publish(f"{JOB}/op/run", b"x")
            assert "Not authorized" in operator.next(Undelivered).reason


def test_an_operator_reads_and_does_not_write(secure: Broker) -> None:
    with member(secure, "aggregator", filters=["fl/#"]) as aggregator:
        aggregator.next(Connected)
        with member(secure, "operator", filters=[f"{JOB}/up/+/state"]) as operator:
            operator.next(Connected)
            operator.transport.publish(f"{JOB}/pub/round", b"x")
            assert "Not authorized" in operator.next(Undelivered).reason
            aggregator.transport.publish(f"{JOB}/up/site-a/state", b"seen")
            assert operator.next(Received).payload == b"seen"
            assert aggregator.next(Received).topic == f"{JOB}/up/site-a/state"


def test_a_sites_last_will_stands_under_its_own_name(secure: Broker) -> None:
    state = f"{JOB}/up/site-a/state"
    with member(secure, "aggregator", filters=["fl/#"]) as aggregator:
        aggregator.next(Connected)
        site = member(secure, "site-a", will=Will(state, b"lost"))
        site.transport.start()
        site.next(Connected)
        site.transport._leave = lambda link: True  # type: ignore[method-assign]
        site.transport.close(timeout_s=1.0)
        assert aggregator.next(Received) == Received(state, b"lost", retained=False)


# Logins.


@pytest.fixture(params=["mosquitto", "nats-server"])
def locked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """A broker of either kind that wants a login."""
    if request.param == "mosquitto":
        passwords = password_file(tmp_path / "passwords")
        broker = mosquitto(tmp_path, f"password_file {passwords}")
        broker.config = broker.config.replace("allow_anonymous true", "allow_anonymous false")
    else:
        broker = nats(tmp_path, "authorization {", "  user: site-a", "  password: site-a-secret", "}")
    broker.options = replace(broker.options, username="site-a", password="site-a-secret")
    with running(broker):
        yield broker


def test_the_right_password_enters_and_is_never_shown(locked: Broker) -> None:
    assert probe(locked.options).protocol in {"5", "3.1.1"}
    assert "secret" not in repr(locked.options)


def test_a_wrong_password_is_refused_for_good(locked: Broker) -> None:
    wrong = replace(locked.options, password="guess")
    with pytest.raises(
        AccessRefused, match="refuses the login 'site-a': check --username and --password-file"
    ):
        probe(wrong)
    with Peer(wrong, "a") as peer:
        assert isinstance(peer.next(Disconnected).fatal, AccessRefused)


def test_no_login_is_asked_for(locked: Broker) -> None:
    with pytest.raises(AccessRefused, match="asks for a login: give --username and --password-file"):
        probe(replace(locked.options, username=None, password=None))


# TLS.


def test_tls_with_the_right_authority(tmp_path: Path, certificates: Path) -> None:
    with (
        running(mosquitto(tmp_path, *tls_lines(certificates))) as broker,
        Peer(trusting(broker, certificates), "a", filters=["n/+"]) as peer,
    ):
        peer.connected()
        wanted = {f"n/{i}": bytes([i]) * 250_000 for i in range(20)}
        for topic, payload in wanted.items():
            peer.transport.publish(topic, payload, bulk=True)
        assert peer.receive(len(wanted)) == wanted


def test_an_unknown_authority_and_a_wrong_name_are_refused(tmp_path: Path, certificates: Path) -> None:
    with running(mosquitto(tmp_path / "a", *tls_lines(certificates))) as broker:
        for options in (
            replace(broker.options, tls=True),
            replace(broker.options, ca=str(certificates / "stranger.crt")),
        ):
            with pytest.raises(AccessRefused, match="give the authority that signed it with --ca"):
                probe(options)
    with (
        running(mosquitto(tmp_path / "b", *tls_lines(certificates, "elsewhere"))) as broker,
        pytest.raises(AccessRefused, match="use the host name in it"),
    ):
        probe(trusting(broker, certificates))


def test_tls_where_none_is_spoken_and_none_where_it_is(tmp_path: Path, certificates: Path) -> None:
    with (
        running(mosquitto(tmp_path / "a")) as broker,
        pytest.raises(BrokerUnavailable, match="TLS port"),
    ):
        probe(trusting(broker, certificates))
    with (
        running(mosquitto(tmp_path / "b", *tls_lines(certificates))) as broker,
        Peer(broker.options, "a") as peer,
    ):
        assert "no MQTT answer" in peer.next(Disconnected).reason


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
def test_mutual_tls(tmp_path: Path, certificates: Path, version: str) -> None:
    lines = [*tls_lines(certificates), "require_certificate true", "use_identity_as_username true"]
    with running(mosquitto(tmp_path, *lines, f"tls_version {version}")) as broker:
        site = {"cert": str(certificates / "site-a.crt"), "key": str(certificates / "site-a.key")}
        assert probe(trusting(broker, certificates, **site)).protocol == "5"
        forged = {"cert": str(certificates / "forged.crt"), "key": str(certificates / "forged.key")}
        for _ in range(
            5
        ):  # whether the refusal arrives before our greeting fails is a race; the verdict is not
            with pytest.raises(AccessRefused, match="give a client certificate with --cert and --key"):
                probe(trusting(broker, certificates))
            with pytest.raises(AccessRefused, match="check --cert and --key"):
                probe(trusting(broker, certificates, **forged))


def test_files_that_are_no_certificates(tmp_path: Path, certificates: Path) -> None:
    (tmp_path / "empty").touch()
    here = BrokerOptions("127.0.0.1")
    openssl(
        "rsa",
        "-in",
        certificates / "site-a.key",
        "-aes128",
        "-passout",
        "pass:x",
        "-out",
        tmp_path / "locked.key",
    )
    for options, named in (
        (replace(here, ca=str(tmp_path / "none")), "--ca .*none cannot be used"),
        (replace(here, ca=str(tmp_path / "empty")), "--ca .*empty cannot be used"),
        (replace(here, cert=str(tmp_path / "empty")), "--cert .*empty cannot be used"),
        (replace(here, key=str(certificates / "site-a.key")), "--key needs --cert"),
        (
            replace(here, cert=str(certificates / "site-a.crt"), key=str(tmp_path / "locked.key")),
            "unencrypted PEM",
        ),
    ):
        with pytest.raises(ConfigError, match=named):
            MqttTransport(options, "a", None, print)
