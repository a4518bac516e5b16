"""fl-edge: the edge client's command line."""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from edge_client import options as opt
from edge_client.site import Site
from fl_protocol import commandline as cl
from fl_protocol import entrypoints
from fl_protocol.bounds import at_least
from fl_protocol.broker import KEEPALIVE_S, BrokerOptions
from fl_protocol.errors import ConfigError, DataError
from fl_protocol.topics import checked_name
from fl_tasks.partition_kind import FORMS, parse_partition

app = cl.program(
    "fl-edge", "Take part in a federated training job with the images of this place; they never leave it."
)

DEVICES = ("auto", "cpu", "cuda")


@app.callback()
def main_options(ctx: typer.Context, config: cl.ConfigOption = None) -> None:
    cl.load_config(ctx, config)


@app.command()
@cl.spread
def join(
    *,
    given: opt.SiteOptions,
    private_metrics: opt.PrivateMetricsOption = False,
    connect_timeout: opt.ConnectTimeoutOption = 60.0,
    login: cl.LoginOptions,
    keepalive: cl.KeepaliveOption = KEEPALIVE_S,
    plugin: cl.PluginOption = None,
    verbose: opt.VerboseOption = False,
) -> None:
    """Join a job, train whenever a round asks for it, and stay until the job is finished."""
    from edge_client.agent import run
    from edge_client.console import make_view

    logging.basicConfig(level=logging.DEBUG if verbose else logging.CRITICAL, stream=sys.stderr)
    broker = login.at(given.broker, keepalive)
    site = site_of(given, broker, plugin, connect_timeout=connect_timeout, private_metrics=private_metrics)
    check_data(site.data, plugin)
    raise typer.Exit(run(site, make_view(sys.stdout)))


@app.command()
@cl.spread
def doctor(
    *,
    given: opt.SiteOptions,
    as_json: cl.ChecksAsJsonOption = False,
    login: cl.LoginOptions,
    plugin: cl.PluginOption = None,
) -> None:
    """Say whether a join with the same options would work, and what to do if not. It disturbs nobody.

    One line a check: ok, warn or fail. Ends with 0 if a join would work, 2 if
    something is to be mended here, 3 if at the broker or the aggregator.
    """
    logging.basicConfig(level=logging.CRITICAL)  # what is not delivered is a finding
    from edge_client.doctor import examine
    from fl_protocol.doctor import present

    site = site_of(given, login.at(given.broker), plugin)
    raise typer.Exit(present(examine(site), "a join", sys.stdout, to_json=as_json))


def site_of(
    given: opt.SiteOptions, broker: BrokerOptions, plugin: str | None, *, connect_timeout: float = 0.0,
    private_metrics: bool = False,
) -> Site:  # fmt: skip
    """The edge that the options of a command describe. Raises ConfigError for what cannot be."""
    part, parts = parse_shard(given.shard)
    client = given.client_id
    if client is None:
        client = default_client(socket.gethostname(), part, parts)
    return Site(
        broker=broker,
        job=checked_name(given.job, "--job"),
        client=checked_name(client, "--client-id"),
        workdir=Path(given.workdir or f"hilum-edge/{client}"),
        data=given.data,
        shard=part,
        shards=parts,
        partition=checked_partition(given.partition),
        seed=at_least(given.seed, 0, "--seed", 2**63 - 1),
        device=one_of(given.device, DEVICES, "--device"),
        threads=None if given.threads is None else at_least(given.threads, 1, "--threads"),
        plugin=plugin,
        connect_timeout_s=at_least(connect_timeout, 0.0, "--connect-timeout"),
        private_metrics=private_metrics,
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
@cl.spread
def serve(
    ctx: typer.Context,
    *,
    broker: opt.RoomBrokerOption = None,
    model: Annotated[
        str | None, cl.option("model", "A model file instead, e.g. global.safetensors.", metavar="FILE")
    ] = None,
    listen: opt.ListenOption = "127.0.0.1:8090",
    job: cl.JobOption = cl.JOB,
    workdir: opt.RoomWorkdirOption = None,
    refer_below: opt.ReferBelowOption = 0.8,
    device: opt.DeviceOption = "cpu",
    web_cert: cl.WebCertOption = None,
    web_key: cl.WebKeyOption = None,
    login: cl.LoginOptions,
    keepalive: cl.KeepaliveOption = KEEPALIVE_S,
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
    where = login.at(given["broker"], keepalive) if given["broker"] else None
    room.serve(room.settings_of(given, where), lambda line: print(line, flush=True))


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
