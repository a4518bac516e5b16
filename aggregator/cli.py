"""fl-agg: the aggregator's command line."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from aggregator import dashboard_options as web
from aggregator import options as opt
from aggregator.console import make_view
from fl_protocol import commandline as cl
from fl_protocol.bounds import at_least
from fl_protocol.broker import KEEPALIVE_S
from fl_protocol.errors import ConfigError
from fl_protocol.topics import checked_name
from fl_tasks.defaults import DEFAULT_TASK, defaults_for
from fl_tasks.jobs import EVAL

app = cl.program(
    "fl-agg",
    "Serve a federated training job over MQTT: announce rounds, publish the model, average the updates.",
)

StatusBrokerOption = Annotated[
    str, cl.option("broker", "Broker to ask.", metavar="HOST[:PORT]", rich_help_panel=cl.BROKER)
]


@app.callback()
def main_options(ctx: typer.Context, config: cl.ConfigOption = None) -> None:
    logging.basicConfig(level=logging.ERROR)  # what is not delivered the view says
    cl.load_config(ctx, config)


@app.command()
@cl.spread
def start(
    ctx: typer.Context,
    *,
    rounds: opt.RoundsOption = opt.ROUNDS,
    broker: opt.BrokerOption = None,
    job: cl.JobOption = cl.JOB,
    learning: opt.LearningOptions,
    min_clients: opt.MinClientsOption = opt.MIN_CLIENTS,
    inviting: opt.InvitingOptions,
    closing: opt.ClosingOptions,
    judging: opt.JudgingOptions,
    training: opt.TrainingOptions,
    init: opt.InitOption = None,
    eval_data: opt.EvalDataOption = None,
    out: opt.OutOption = None,
    fresh: opt.FreshOption = False,
    wait: opt.WaitOption = False,
    listen: opt.ListenOption = "127.0.0.1",
    connect_timeout: opt.ConnectTimeoutOption = 30.0,
    metrics_port: opt.MetricsPortOption = None,
    metrics_host: opt.MetricsHostOption = "127.0.0.1",
    dashboard: web.DashboardOption = None,
    tensorboard: opt.TensorboardOption = None,
    device: opt.DeviceOption = opt.DEVICE,
    plugin: cl.PluginOption = None,
    login: cl.LoginOptions,
    keepalive: cl.KeepaliveOption = KEEPALIVE_S,
) -> None:
    """Run a federated training job, or go on with one.

    Waits for clients, opens a round, averages what they send once quorum is
    reached, publishes the result, and so on. Ctrl-C stops it; the same command
    goes on where it stopped.
    """
    from aggregator.rule import effective, rule_of  # here, so that a dashboard's process stays small

    config, rule = rule_of(ctx.params, evaluate=eval_data is not None)
    checked_name(job, "--job")
    if wait and fresh:
        raise ConfigError("--wait begins every run in a folder of its own: leave --fresh out")
    given = login.at(broker, keepalive) if broker else None

    from aggregator.service import serve  # here, so that a slip is told at once
    from aggregator.start import RunSettings

    settings = RunSettings(
        job=job,
        out=Path(out or f"runs/{job}"),
        config=config,
        strategy=rule,
        init=init,
        eval_data=eval_data,
        fresh=fresh,
        device=device,
        plugin=plugin,
        connect_timeout_s=at_least(connect_timeout, 0.0, "--connect-timeout"),
        dashboard=web.page_words(ctx, dashboard),
        effective=cl.effective_settings(ctx) if wait else effective(cl.effective_settings(ctx), config, rule),
        tensorboard=Path(tensorboard) if tensorboard is not None else None,
        stays=wait,
        given=ctx.params,
    )
    check_files(settings)
    if tensorboard is not None:
        from aggregator.tensorboard import check_installed

        check_installed()
    page = None
    if metrics_port is not None:
        page = metrics_host, at_least(metrics_port, 1, "--metrics-port", 65_535)
    serve(settings, given, listen, make_view(sys.stdout), page)


@app.command()
def strategies(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False,
) -> None:
    """List the strategies with their options, defaults and sources, those of installed packages included."""
    from aggregator.strategies.listing import listed

    found = listed()
    if as_json:
        print(json.dumps([each.as_json() for each in found], indent=1))
    else:
        print("\n\n".join("\n".join(each.lines()) for each in found))
    for each in found:
        if each.error:
            raise ConfigError(each.error)


@app.command()
def demo(
    data: Annotated[
        str | None,
        cl.option(
            "data",
            "Folder of X-rays: NORMAL and PNEUMONIA in DIR/train and DIR/test. Without it: synthetic phantoms.",
            metavar="DIR",
        ),
    ] = None,
    clients: Annotated[int, cl.option("clients", "How many edges to start.")] = 3,
    rounds: opt.RoundsOption = 5,
    out: Annotated[str, cl.option("out", "Run directory.", metavar="DIR")] = "runs/demo",
    fresh: Annotated[
        bool, cl.option("fresh", "Start over, even if an unfinished demonstration could go on.", flag=True)
    ] = False,
    dashboard: web.DashboardOption = None,
) -> None:
    """See it work: a broker, an aggregator and edges, as real processes on this machine."""
    from aggregator.demo import DemoSettings
    from aggregator.demo import demo as run_demo
    from fl_tasks.folder import quick_check

    at_least(clients, 1, "--clients")
    at_least(rounds, 1, "--rounds")
    if data is not None:
        quick_check(data)
    folder = Path(data).resolve() if data else None
    more = ("--dashboard", dashboard) if dashboard is not None else ()
    code = run_demo(DemoSettings(folder, clients, rounds, Path(out).resolve(), fresh, more), print)
    raise typer.Exit(code)


@app.command()
@cl.spread
def status(
    *,
    broker: StatusBrokerOption = "localhost",
    job: cl.JobOption = cl.JOB,
    as_json: cl.JsonOption = False,
    login: cl.LoginOptions,
) -> None:
    """Tell how a job stands, from what the broker keeps: also when the aggregator is away."""
    from aggregator.status.job import as_json as keys_of
    from aggregator.status.job import read_status
    from aggregator.status.lines import show

    found = read_status(login.at(broker), checked_name(job, "--job"))
    if as_json:
        print(json.dumps(keys_of(found), indent=1))
    else:
        show(found, sys.stdout)


@app.command()
@cl.spread
def dashboard(
    *,
    broker: Annotated[
        str,
        cl.option("broker", "Broker to listen to.", metavar="HOST[:PORT]", rich_help_panel=cl.BROKER),
    ] = "localhost",
    listen: web.ListenOption = web.LISTEN,
    job: web.JobOption = None,
    runs: web.RunsOption = "runs",
    open_reading: web.OpenReadingOption = None,
    token_file: web.TokenFileOption = None,
    web_cert: cl.WebCertOption = None,
    web_key: cl.WebKeyOption = None,
    login: cl.LoginOptions,
) -> None:
    """Show jobs, sites, rounds and runs in a browser, and let those who have the token operate them.

    It is one more subscriber of the broker: it may start before or after
    everything else, and nobody notices when it ends.
    """
    from aggregator.dashboard import launch_fields, place_for_job
    from fl_web.dashboard.service import Settings, serve

    given = login.at(broker)
    settings = Settings(
        broker=given,
        join_line=place_for_job(given),
        listen=listen,
        job=None if job is None else checked_name(job, "--job"),
        runs=Path(runs),
        open_reading=open_reading,
        token_file=token_file,
        cert=web_cert,
        key=web_key,
    )
    serve(settings, launch_fields, lambda line: print(line, flush=True))


@app.command()
@cl.spread
def doctor(
    *,
    broker: opt.BrokerOption = None,
    job: cl.JobOption = cl.JOB,
    task: opt.TaskOption = DEFAULT_TASK,
    model: opt.ModelOption = None,
    min_clients: opt.MinClientsOption = opt.MIN_CLIENTS,
    image_size: opt.ImageSizeOption = None,
    init: opt.InitOption = None,
    eval_data: opt.EvalDataOption = None,
    out: opt.OutOption = None,
    device: opt.DeviceOption = opt.DEVICE,
    as_json: cl.ChecksAsJsonOption = False,
    plugin: cl.PluginOption = None,
    login: cl.LoginOptions,
) -> None:
    """Say whether a start with the same options would work, and what to do if not. It disturbs nobody.

    One line a check: ok, warn or fail. Ends with 0 if a start would work, 2 if
    something is to be mended here, 3 if at the broker.
    """
    from aggregator.doctor import Place, examine
    from fl_protocol.doctor import present

    size = image_size if image_size is not None else defaults_for(task).image_size
    place = Place(
        broker=login.at(broker) if broker else None,
        job=checked_name(job, "--job"),
        out=Path(out or f"runs/{job}"),
        task=task,
        model=model or defaults_for(task).model,
        image_size=at_least(size, 8, "--image-size", 4096),
        min_clients=at_least(min_clients, 1, "--min-clients"),
        init=init,
        eval_data=eval_data,
        device=device,
        plugin=plugin,
    )
    raise typer.Exit(present(examine(place), "a start", sys.stdout, to_json=as_json))


@app.command()
def export(
    out: Annotated[str, cl.option("out", "File to write; the model card goes beside it.", metavar="FILE")],
    form: Annotated[str, cl.option("format", "onnx, torchscript or safetensors.", metavar="FORM")] = "onnx",
    run: Annotated[
        str | None,
        cl.option("run", "A run directory: its newest model, and what the card tells.", metavar="DIR"),
    ] = None,
    model: Annotated[
        str | None, cl.option("model", "A model file instead, e.g. DIR/best.safetensors.", metavar="FILE")
    ] = None,
    as_json: cl.JsonOption = False,
) -> None:
    """Write a model as ONNX, TorchScript or safetensors, and a model card as Markdown and JSON beside it.

    ONNX and TorchScript take pixels, bring them to what the model sees, and give
    logits and heat maps; they are held against torch before they are kept.
    """
    from aggregator import export_command as command

    done = command.export(command.wanted_of(form, out, model, run))
    print(json.dumps(done, indent=1) if as_json else command.told(done))


def check_files(settings: Any) -> None:
    """Raises ConfigError or DataError for files and folders that cannot work, before anything is started."""
    from fl_protocol.modelfile import read_header
    from fl_tasks.sources import HAS_LAYOUT, quick_check

    if settings.init is not None:
        read_header(Path(settings.init))
    if settings.eval_data is not None and settings.config.task in HAS_LAYOUT:
        quick_check(settings.eval_data, EVAL, settings.config.task)


def main() -> NoReturn:
    """The program ``fl-agg``."""
    from aggregator.dashboard_child import spelled_out

    cl.run(app, "fl-agg", spelled_out(sys.argv[1:]))
