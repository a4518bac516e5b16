"""fl-edge: the edge client's command line."""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from edge_client import options as opt
from edge_client.site import Site
from fl_protocol import commandline as cl
from fl_protocol import entrypoints
from fl_protocol.bounds import at_least
from fl_protocol.errors import ConfigError, DataError
from fl_protocol.topics import checked_name
from fl_tasks.partition_kind import FORMS, parse_partition

app = typer.Typer(
    name="fl-edge",
    help="Take part in a federated training job with the images of this place; they never leave it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEVICES = ("auto", "cpu", "cuda")


@app.callback()
def main_options(ctx: typer.Context, config: cl.ConfigOption = None) -> None:
    cl.load_config(ctx, config)


@app.command()
def join(
    ctx: typer.Context,
    broker: opt.BrokerOption,
    data: opt.DataOption = None,
    job: cl.JobOption = "default",
    client_id: opt.ClientIdOption = None,
    workdir: opt.WorkdirOption = None,
    device: opt.DeviceOption = "auto",
    threads: opt.ThreadsOption = None,
    shard: opt.ShardOption = None,
    partition: opt.PartitionOption = "iid",
    seed: opt.SeedOption = 0,
    private_metrics: opt.PrivateMetricsOption = False,
    connect_timeout: opt.ConnectTimeoutOption = 60.0,
    username: cl.UsernameOption = None,
    password_file: cl.PasswordFileOption = None,
    tls: cl.TlsOption = False,
    ca: cl.CaOption = None,
    cert: cl.CertOption = None,
    key: cl.KeyOption = None,
    keepalive: cl.KeepaliveOption = cl.KEEPALIVE_S,
    plugin: cl.PluginOption = None,
    verbose: opt.VerboseOption = False,
) -> None:
    """Join a job, train whenever a round asks for it, and stay until the job is finished."""
    from edge_client.agent import run
    from edge_client.console import make_view

    logging.basicConfig(level=logging.DEBUG if verbose else logging.CRITICAL, stream=sys.stderr)
    site = site_of(ctx.params)
    check_data(site.data, plugin)
    raise typer.Exit(run(site, make_view(sys.stdout)))


@app.command()
def doctor(
    ctx: typer.Context,
    broker: opt.BrokerOption,
    data: opt.DataOption = None,
    job: cl.JobOption = "default",
    client_id: opt.ClientIdOption = None,
    workdir: opt.WorkdirOption = None,
    device: opt.DeviceOption = "auto",
    threads: opt.ThreadsOption = None,
    shard: opt.ShardOption = None,
    partition: opt.PartitionOption = "iid",
    seed: opt.SeedOption = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="An array with an object a check, for programs.")
    ] = False,
    username: cl.UsernameOption = None,
    password_file: cl.PasswordFileOption = None,
    tls: cl.TlsOption = False,
    ca: cl.CaOption = None,
    cert: cl.CertOption = None,
    key: cl.KeyOption = None,
    plugin: cl.PluginOption = None,
) -> None:
    """Say whether a join with the same options would work, and what to do if not. It disturbs nobody.

    One line a check: ok, warn or fail. Ends with 0 if a join would work, 2 if
    something is to be mended here, 3 if at the broker or the aggregator.
    """
    logging.basicConfig(level=logging.CRITICAL)  # what is not delivered is a finding
    from edge_client.doctor import examine
    from fl_protocol.doctor import present

    site = site_of(ctx.params)
    raise typer.Exit(present(examine(site), "a join", sys.stdout, to_json=as_json))


def site_of(given: Mapping[str, Any]) -> Site:
    """The edge that the options of a command describe. Raises ConfigError for what cannot be."""
    part, parts = parse_shard(given["shard"])
    name = given["client_id"]
    client = name if name is not None else default_client(socket.gethostname(), part, parts)
    login = {
        key: given[key] for key in ("broker", "username", "password_file", "tls", "ca", "cert", "key", "keepalive")
        if key in given
    }  # fmt: skip
    threads = given["threads"]
    return Site(
        broker=cl.broker_options(**login),
        job=checked_name(given["job"], "--job"),
        client=checked_name(client, "--client-id"),
        workdir=Path(given["workdir"] or f"hilum-edge/{client}"),
        data=given["data"],
        shard=part,
        shards=parts,
        partition=checked_partition(given["partition"]),
        seed=at_least(given["seed"], 0, "--seed", 2**63 - 1),
        device=one_of(given["device"], DEVICES, "--device"),
        threads=None if threads is None else at_least(threads, 1, "--threads"),
        plugin=given["plugin"],
        connect_timeout_s=at_least(given.get("connect_timeout", 0.0), 0.0, "--connect-timeout"),
        private_metrics=given.get("private_metrics", False),
    )


@app.command()
def predict(
    images: Annotated[list[str], typer.Argument(help="Images, or folders that hold some.", metavar="IMAGE")],
    model: Annotated[str, cl.option("model", "A model file, e.g. global.safetensors.", metavar="FILE")],
    as_json: Annotated[
        bool, typer.Option("--json", help="An array with an object an image, for programs.")
    ] = False,
    device: opt.DeviceOption = "auto",
) -> None:
    """Say what the model sees in images: class and probability. Research only, no diagnosis."""
    from fl_tasks.predict import predict as predict_rows

    rows = predict_rows(model, images, one_of(device, DEVICES, "--device"))
    print(json.dumps(rows, indent=1) if as_json else table(rows))
    if all("error" in row for row in rows):
        raise DataError("none of the images could be read: give JPEG, PNG or DICOM files")


@app.command()
def serve(
    ctx: typer.Context,
    broker: opt.RoomBrokerOption = None,
    model: Annotated[
        str | None, cl.option("model", "A model file instead, e.g. global.safetensors.", metavar="FILE")
    ] = None,
    listen: opt.ListenOption = "127.0.0.1:8090",
    job: cl.JobOption = "default",
    workdir: opt.RoomWorkdirOption = None,
    refer_below: opt.ReferBelowOption = 0.8,
    device: opt.DeviceOption = "cpu",
    web_cert: opt.WebCertOption = None,
    web_key: opt.WebKeyOption = None,
    username: cl.UsernameOption = None,
    password_file: cl.PasswordFileOption = None,
    tls: cl.TlsOption = False,
    ca: cl.CaOption = None,
    cert: cl.CertOption = None,
    key: cl.KeyOption = None,
    keepalive: cl.KeepaliveOption = cl.KEEPALIVE_S,
    plugin: cl.PluginOption = None,
    verbose: opt.VerboseOption = False,
) -> None:
    """A page for the clinic: hand in X-rays, read what the model sees, how sure it is and where it looked.

    The newest model of a job arrives by itself (--broker), or a file is used
    (--model). Images stay in the memory of this device. Research only, no diagnosis.
    """
    from edge_client import serve as room

    logging.basicConfig(level=logging.DEBUG if verbose else logging.CRITICAL, stream=sys.stderr)
    checked_name(job, "--job")
    one_of(device, DEVICES, "--device")
    given = ctx.params | cl.overruled(ctx, "broker", "model")
    where = given["broker"]
    login = (
        cl.broker_options(where, username, password_file, tls, ca, cert, key, keepalive) if where else None
    )
    room.serve(room.settings_of(given, login), lambda line: print(line, flush=True))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of predictions for people."""
    width = max((len(row["file"]) for row in rows), default=0)
    lines = [
        f"{row['file']:<{width}}  {row['error']}"
        if "error" in row
        else f"{row['file']:<{width}}  {row['class']}  {row['probability']:.1%}"
        for row in rows
    ]
    return "\n".join(lines)


def parse_shard(text: str | None) -> tuple[int, int]:
    """K and N of ``K/N``."""
    if text is None:
        return 1, 1
    found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard {text!r} is not K/N: give e.g. 1/3, with K from 1 to N")
    return int(found[1]), int(found[2])


def default_client(host: str, part: int, parts: int) -> str:
    """A client id from the name of this machine and the shard."""
    name = re.sub(r"[^a-z0-9_-]+", "-", host.partition(".")[0].lower()).strip("-")[:50] or "edge"
    return f"{name}-shard{part}" if parts > 1 else name


def check_data(data: str | None, plugin: str | None) -> None:
    """The folder, looked at before anything is joined; tasks of others say themselves what they need of it."""
    if plugin or entrypoints.offered(entrypoints.TASKS):
        return
    from fl_tasks.sources import quick_check

    quick_check(data)


def checked_partition(text: str) -> str:
    """``text``, if it names a partition."""
    try:
        parse_partition(text)
    except ConfigError:
        raise ConfigError(f"--partition {text!r} is unknown: use {FORMS}, e.g. dirichlet:0.5") from None
    return text


def one_of(value: str, known: Sequence[str], name: str) -> str:
    """``value``, if it is known."""
    if value not in known:
        raise ConfigError(f"{name} {value!r} is unknown: use one of {', '.join(known)}")
    return value


def main() -> NoReturn:
    """The program ``fl-edge``."""
    cl.run(app, "fl-edge")
