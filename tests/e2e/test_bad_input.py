"""What a person can get wrong: one line on stderr that says how to mend it, the right exit code, nothing left behind."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fl_protocol.modelfile import write
from fl_protocol.tensors import TensorSpec
from tests.brokers import Broker
from tests.e2e.conftest import XrayRun, phantoms
from tests.e2e.processes import ECHO_JOB, Programs

AT_ONCE = 3
BROKER, CLOSED, LOGIN = "{broker}", "{closed}", "{login}"
"""Addresses in a case's words: one that answers, one where nobody listens, one that asks for a password."""

Prepare = Callable[[Path, Path], object]
"""Makes what a case needs in its folder; the second argument is the run directory of a finished echo run."""


@dataclass(frozen=True)
class Case:
    """One mistake. ``line`` is a pattern for the one line on stderr."""

    name: str
    words: str
    code: int
    line: str
    prepare: Prepare | None = None
    env: dict[str, str] = field(default_factory=dict)
    leaves: tuple[str, ...] = ()
    """What may be new in the folder afterwards."""


ECHO = " ".join(ECHO_JOB)
AGG = f"fl-agg start --broker {BROKER} --out run"
AGG_ECHO = f"{AGG} --job echo {ECHO}"
EDGE = f"fl-edge join --broker {BROKER}"
EDGE_XRAY = f"{EDGE} --data xrays"


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    os.truncate(path, path.stat().st_size // 2)


def xrays(folder: Path, _run: Path, count: int = 2) -> Path:
    """``xrays/{NORMAL,PNEUMONIA}`` with small images."""
    return phantoms(folder / "xrays", count)


def one_class(folder: Path, run: Path) -> None:
    shutil.rmtree(xrays(folder, run) / "PNEUMONIA")


def an_empty_folder(folder: Path, _run: Path) -> None:
    (folder / "xrays").mkdir()


def empty_classes(folder: Path, run: Path) -> None:
    xrays(folder, run, count=0)


def a_finished_run(folder: Path, run: Path) -> Path:
    shutil.copytree(run, folder / "run")
    return folder / "run"


def with_a_cut_global(folder: Path, run: Path) -> None:
    cut(a_finished_run(folder, run) / "global.safetensors")


def with_no_database(folder: Path, run: Path) -> None:
    for file in a_finished_run(folder, run).glob("journal.sqlite*"):
        file.unlink()
    (folder / "run" / "journal.sqlite").write_bytes(b"not a database at all" * 300)


def without_models(folder: Path, run: Path) -> None:
    shutil.rmtree(a_finished_run(folder, run) / "models")


def a_cut_model(folder: Path, run: Path) -> None:
    shutil.copy(run / "global.safetensors", folder / "model.safetensors")
    cut(folder / "model.safetensors")


def a_model_of_other_shapes(folder: Path, _run: Path) -> None:
    write(folder / "model.safetensors", (TensorSpec("a", (5,)),), {}, [bytes(20)])


def a_text(name: str, content: str = "hello\n") -> Prepare:
    return lambda folder, _run: (folder / name).write_text(content)


CASES = [
    # --- fl-agg: the broker
    Case("agg-no-broker", f"fl-agg start --broker {CLOSED} --connect-timeout 0.5 --out run {ECHO}", 3,
         r"no MQTT broker at 127\.0\.0\.1:\d+.*: start one, or check --broker", leaves=("run",)),
    Case("agg-no-broker-by-variable", f"fl-agg start --broker {CLOSED} --out run {ECHO}", 3,
         r"no MQTT broker at 127\.0\.0\.1:\d+", env={"FL_CONNECT_TIMEOUT": "0.3"}, leaves=("run",)),
    Case("agg-wrong-host", f"fl-agg start --broker nobody.invalid --connect-timeout 1 --out run {ECHO}", 3,
         r"nobody\.invalid.*--broker", leaves=("run",)),
    Case("agg-broker-is-a-url", f"fl-agg start --broker mqtt://localhost --out run {ECHO}", 2,
         "without mqtt://"),
    Case("agg-port", f"fl-agg start --broker localhost:70000 --out run {ECHO}", 2, "port is a number from 1 to 65535"),
    Case("agg-no-login", f"fl-agg start --broker {LOGIN} --out run {ECHO}", 3,
         "asks for a login: give --username and --password-file", leaves=("run",)),
    Case("agg-wrong-password", f"fl-agg start --broker {LOGIN} --username aggregator --out run {ECHO}", 3,
         "refuses the login 'aggregator': check --username and --password-file", env={"FL_PASSWORD": "wrong"}, leaves=("run",)),
    Case("agg-password-file-missing", f"{AGG_ECHO} --username aggregator --password-file nowhere", 2,
         "--password-file nowhere: no such file"),
    Case("agg-password-without-name", AGG_ECHO, 2, "give --username", env={"FL_PASSWORD": "x"}),
    Case("agg-ca-missing", f"{AGG_ECHO} --ca nowhere.pem", 2, "--ca nowhere.pem: no such file"),
    Case("agg-key-without-cert", f"{AGG_ECHO} --key k.pem", 2, "--key needs --cert"),
    # --- fl-agg: what is learned, and how
    Case("agg-model", f"{AGG} --model resnet1800", 2, "unknown model 'resnet1800': use one of .*hilum-cnn"),
    Case("agg-task", f"{AGG} --task weather", 2, "unknown task 'weather': use one of chest-xray"),
    Case("agg-strategy", f"{AGG_ECHO} --strategy fedmagic", 2, "fedmagic.*fedavg"),
    Case("agg-strategy-option", f"{AGG_ECHO} --strategy fedadam --strategy-option beta3=1", 2,
         "--strategy-option beta3: strategy fedadam has no such option: did you mean beta"),
    Case("agg-strategy-option-value", f"{AGG_ECHO} --strategy fedadam --strategy-option beta1=1", 2,
         r"beta1=1: beta1 of fedadam is a number in \[0, 1\) \(default 0.9\); its options: beta1, "),
    Case("agg-strategy-option-form", f"{AGG_ECHO} --strategy-option clip_norm", 2, "'clip_norm' is not key=value"),
    Case("agg-strategy-option-by-variable", f"{AGG_ECHO} --strategy fedadam", 2, "--strategy-option tau=-1: tau of fedadam",
         env={"FL_STRATEGY_OPTION": "server_lr=0.1 tau=-1"}),
    Case("agg-strategy-option-wins", f"{AGG_ECHO} --strategy-option clip_norm=1 --rounds 0", 2, "--rounds 0",
         env={"FL_STRATEGY_OPTION": "clip_norm=-1"}),
    Case("agg-strategy-option-in-toml", f"fl-agg start --out run {ECHO}", 2, "--strategy-option tau=-1: tau of fedadam",
         prepare=a_text("hilum.toml", '[start]\nstrategy = "fedadam"\nstrategy_option = { server_lr = 0.1, tau = -1 }\n')),
    Case("agg-strategy-quorum", f"{AGG_ECHO} --strategy krum", 2,
         "--strategy krum with these options needs 5 updates a round, and a round could close with 2: give --quorum 5"),
    Case("agg-plugin", f"{AGG} --plugin no_such_module --task weather", 2, "no module 'no_such_module'"),
    Case("agg-rounds-0", f"{AGG_ECHO} --rounds 0", 2, "--rounds 0 .*at least 1"),
    Case("agg-rounds-minus", f"{AGG_ECHO} --rounds -3", 2, "--rounds -3 .*at least 1"),
    Case("agg-rounds-text", f"{AGG_ECHO} --rounds many", 2, "'--rounds'.*valid integer.*--help"),
    Case("agg-rounds-by-variable", AGG_ECHO, 2, "--rounds 0 .*at least 1", env={"FL_ROUNDS": "0"}),
    Case("agg-rounds-in-toml", f"fl-agg start --out run {ECHO}", 2, "--rounds 0 .*at least 1",
         prepare=a_text("hilum.toml", "[start]\nrounds = 0\n")),
    Case("agg-quorum-above-cohort", f"{AGG_ECHO} --quorum 3 --cohort 2", 2, "--quorum 3 is above --cohort 2"),
    Case("agg-cohort-fraction", f"{AGG_ECHO} --cohort 1.5", 2, "--cohort '1.5' must be .*fraction"),
    Case("agg-cohort-text", f"{AGG_ECHO} --cohort half", 2, "--cohort 'half' must be .*fraction"),
    Case("agg-quorum-0", f"{AGG_ECHO} --quorum 0", 2, "--quorum '0' must be a number of clients"),
    Case("agg-quorum-fraction-0", f"{AGG_ECHO} --quorum 0.0", 2, "--quorum '0.0' must be .*fraction"),
    Case("agg-quorum-nan", f"{AGG_ECHO} --quorum nan", 2, "--quorum 'nan' must be"),
    Case("agg-min-clients", f"{AGG_ECHO} --min-clients 0", 2, "--min-clients 0 .*at least 1"),
    Case("agg-grace", f"{AGG_ECHO} --grace -1", 2, "--grace -1.* at least 0"),
    Case("agg-deadline", f"{AGG_ECHO} --deadline 0", 2, "--deadline 0.* at least"),
    Case("agg-deadline-inf", f"{AGG_ECHO} --deadline inf", 2, "--deadline inf is too large: give at most"),
    Case("agg-grace-nan", f"{AGG_ECHO} --grace nan", 2, "--grace nan .*give at least 0"),
    Case("agg-learning-rate-nan", f"{AGG_ECHO} --learning-rate nan", 2, "--learning-rate nan .*give at least 0"),
    Case("agg-batch-size", f"{AGG_ECHO} --batch-size 100000", 2, "--batch-size 100000 .*at most 65536"),
    Case("agg-local-epochs", f"{AGG_ECHO} --local-epochs 0", 2, "--local-epochs 0 .*at least 1"),
    Case("agg-local-steps-and-epochs", f"{AGG_ECHO} --local-steps 5 --local-epochs 2", 2, "--local-steps and --local-epochs"),
    Case("agg-schedule", f"{AGG_ECHO} --learning-rate-schedule linear", 2, "--learning-rate-schedule 'linear' is no schedule: use"),
    Case("agg-sampling", f"{AGG_ECHO} --sampling big-ones", 2, "--sampling 'big-ones' is unknown: use uniform, by-size"),
    Case("agg-early-stop", f"{AGG_ECHO} --early-stop never", 2, "--early-stop 'never' is not PATIENCE"),
    Case("agg-best-by", f"{AGG_ECHO} --best-by auroc", 2, "--best-by auroc needs --eval-data.*client_eval_auroc"),
    Case("agg-seed", f"{AGG_ECHO} --seed -1", 2, "--seed -1 .*at least 0"),
    Case("agg-seed-huge", f"{AGG_ECHO} --seed 99999999999999999999", 2, "--seed 99999999999999999999 is too large: give at most"),
    Case("agg-image-size", f"{AGG_ECHO} --image-size 1", 2, "--image-size 1 .*at least 8"),
    Case("agg-job", f"fl-agg start --broker {BROKER} --out run --job Bad/Name {ECHO}", 2, "--job 'Bad/Name' is not allowed: use"),
    Case("agg-no-such-option", f"{AGG_ECHO} --quorom 2", 2, "No such option: --quorom.*--help"),
    Case("agg-no-such-command", "fl-agg begin", 2, "No such command 'begin'.*--help"),
    Case("agg-toml-key", f"fl-agg start {ECHO}", 2, r"unknown key 'min-client' in \[start\] of hilum.toml: did you mean 'min_clients'",
         prepare=a_text("hilum.toml", "[start]\nmin-client = 3\n")),
    Case("agg-toml-broken", f"fl-agg start {ECHO}", 2, "hilum.toml is not valid TOML",
         prepare=a_text("hilum.toml", "[start\n")),
    # --- fl-agg: files
    Case("agg-run-of-another-task", f"{AGG} --job echo --task other --model tiny --plugin echo_task", 2,
         "run holds a run with task 'echo', not 'other': give another --out, or --fresh", prepare=a_finished_run),
    Case("agg-run-of-another-model", f"{AGG_ECHO.replace('tiny', 'mb-1')}", 2,
         "run holds a run with model 'tiny', not 'mb-1': give another --out, or --fresh", prepare=a_finished_run),
    Case("agg-run-of-another-job", f"{AGG} --job echo2 {ECHO}", 2,
         "run holds a run with job 'echo', not 'echo2': give another --out, or --fresh", prepare=a_finished_run),
    Case("agg-run-of-another-image-size", f"{AGG_ECHO} --image-size 32", 2,
         "run holds a run with image_size .*, not 32: give another --out, or --fresh", prepare=a_finished_run),
    Case("agg-global-cut", AGG_ECHO, 2, "global.safetensors is not a usable model file .*--fresh", prepare=with_a_cut_global),
    Case("agg-journal-broken", AGG_ECHO, 2, "journal.sqlite.*--fresh", prepare=with_no_database),
    Case("agg-models-gone", AGG_ECHO, 2, r"models/.*\.safetensors .*--fresh", prepare=without_models),
    Case("agg-init-cut", f"{AGG_ECHO} --init model.safetensors", 2,
         "model.safetensors is not a usable model file .*give a whole", prepare=a_cut_model),
    Case("agg-init-missing", f"{AGG_ECHO} --init model.safetensors", 2, "model.safetensors is not a usable .*does not exist"),
    Case("agg-init-text", f"{AGG_ECHO} --init model.safetensors", 2, "model.safetensors is not a usable model file",
         prepare=a_text("model.safetensors")),
    Case("agg-init-other-shapes", f"{AGG_ECHO} --init model.safetensors", 2,
         "model.safetensors.*tensor a has shape", prepare=a_model_of_other_shapes),
    Case("agg-init-other-shapes-xray", f"{AGG} --init model.safetensors", 2,
         "model.safetensors.*tensor ", prepare=a_model_of_other_shapes),
    Case("agg-eval-data-missing", f"{AGG} --eval-data nowhere", 2, "nowhere does not exist: give a folder with"),
    Case("agg-eval-data-one-class", f"{AGG} --eval-data xrays", 2, "one class only: put .*PNEUMONIA", prepare=one_class),
    Case("agg-out-below-a-file", f"fl-agg start --broker {BROKER} --out taken/run {ECHO}", 2,
         "cannot write to taken/run .*another --out", prepare=a_text("taken")),
    Case("agg-out-is-a-file", f"fl-agg start --broker {BROKER} --out taken {ECHO}", 2,
         "cannot write to taken .*another --out", prepare=a_text("taken")),
    # --- fl-edge: the broker
    Case("edge-no-broker", f"fl-edge join --broker {CLOSED} --data xrays --connect-timeout 0.5", 3,
         r"no broker answered at 127\.0\.0\.1:\d+ within 0.5 s.*--connect-timeout", prepare=xrays, leaves=("hilum-edge",)),
    Case("edge-wrong-host", "fl-edge join --broker nobody.invalid --data xrays --connect-timeout 1", 3,
         r"nobody\.invalid.*--broker", prepare=xrays, leaves=("hilum-edge",)),
    Case("edge-no-login", f"fl-edge join --broker {LOGIN} --data xrays", 3,
         "asks for a login: give --username and --password-file", prepare=xrays, leaves=("hilum-edge",)),
    Case("edge-wrong-password", f"fl-edge join --broker {LOGIN} --username site-a --data xrays", 3,
         "refuses the login 'site-a': check --username", prepare=xrays, env={"FL_PASSWORD": "no"}, leaves=("hilum-edge",)),
    Case("edge-no-broker-named", "fl-edge join --data xrays", 2, "--broker", prepare=xrays),
    Case("edge-tls-on-a-plain-port", f"{EDGE_XRAY} --tls --connect-timeout 2", 3, "TLS port", prepare=xrays, leaves=("hilum-edge",)),
    # --- fl-edge: the folder
    Case("edge-folder-missing", f"{EDGE} --data nowhere", 2, "nowhere does not exist: give a folder with"),
    Case("edge-folder-not-named", EDGE, 2, "name one with --data"),
    Case("edge-folder-is-a-file", f"{EDGE} --data xrays", 2, "xrays is not a folder: give", prepare=a_text("xrays")),
    Case("edge-folder-empty", EDGE_XRAY, 2, "xrays has no class folders: it must look like", prepare=an_empty_folder),
    Case("edge-classes-empty", EDGE_XRAY, 2, "xrays holds no image: put .*NORMAL", prepare=empty_classes),
    Case("edge-one-class", EDGE_XRAY, 2, "one class only: put .*xrays/PNEUMONIA", prepare=one_class),
    # --- fl-edge: options
    Case("edge-shard-0", f"{EDGE_XRAY} --shard 0/3", 2, "--shard '0/3' is not K/N: give e.g. 1/3", prepare=xrays),
    Case("edge-shard-above", f"{EDGE_XRAY} --shard 4/3", 2, "--shard '4/3' is not K/N: give e.g. 1/3", prepare=xrays),
    Case("edge-shard-text", f"{EDGE_XRAY} --shard x", 2, "--shard 'x' is not K/N: give e.g. 1/3", prepare=xrays),
    Case("edge-partition", f"{EDGE_XRAY} --partition even", 2, "--partition 'even' is unknown: use iid, dirichlet:ALPHA", prepare=xrays),
    Case("edge-partition-alpha", f"{EDGE_XRAY} --partition dirichlet:0", 2, "--partition 'dirichlet:0'.*dirichlet:ALPHA", prepare=xrays),
    Case("edge-client-id", f"{EDGE_XRAY} --client-id St.Anna", 2, "--client-id 'St.Anna' is not allowed: use 1 to 64 of", prepare=xrays),
    Case("edge-client-id-reserved", f"{EDGE_XRAY} --client-id _aggregator", 2, "--client-id '_aggregator' is not allowed", prepare=xrays),
    Case("edge-device", f"{EDGE_XRAY} --device tpu", 2, "--device 'tpu' is unknown: use one of auto, cpu, cuda", prepare=xrays),
    Case("edge-threads", f"{EDGE_XRAY} --threads 0", 2, "--threads 0 .*at least 1", prepare=xrays),
    Case("edge-seed-huge", f"{EDGE_XRAY} --seed 99999999999999999999", 2, "--seed 99999999999999999999 is too large", prepare=xrays),
    Case("edge-connect-timeout", f"{EDGE_XRAY} --connect-timeout nan", 2, "--connect-timeout nan", prepare=xrays),
    Case("edge-workdir-is-a-file", f"{EDGE_XRAY} --workdir taken", 2, "--workdir taken cannot be used: Not a directory",
         prepare=lambda folder, run: (xrays(folder, run), a_text("taken")(folder, run))),
    Case("edge-toml-key", "fl-edge join", 2, "unknown key 'brokr' in the top of hilum.toml: did you mean 'broker'",
         prepare=a_text("hilum.toml", 'brokr = "localhost"\n')),
    Case("edge-toml-missing", "fl-edge --config nowhere.toml join", 2, "cannot read nowhere.toml"),
]  # fmt: skip


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str
    left: set[str]
    living: dict[int, str]


def run_case(case: Case, folder: Path, finished: Path, addresses: dict[str, str]) -> Ended:
    folder.mkdir()
    if case.prepare:
        case.prepare(folder, finished)
    before = set(folder.iterdir())
    words = case.words.format(**addresses).split()
    programs = Programs(folder, addresses["broker"], "unused")
    programs.log_folder = folder.with_suffix(".log")
    programs.log_folder.mkdir()
    program = programs.start(words[0], *words[1:], env=case.env)
    try:
        code = program.process.wait(45)
    except subprocess.TimeoutExpired:
        code = -1
    living = program.living()
    programs.close()
    left = {path.name for path in set(folder.iterdir()) - before} - set(case.leaves)
    left |= {str(path) for path in folder.rglob("*.tmp")}
    return Ended(code, program.out, program.err, left, living)


@pytest.fixture(scope="module")
def endings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, broker_address: str,
    login_broker: Broker, closed_port: int, finished_run: Path,
) -> Iterator[dict[str, Future[Ended]]]:  # fmt: skip
    """Every selected case, some at once: each is a program that ends by itself."""
    folder = tmp_path_factory.mktemp("cases")
    addresses = {
        "broker": broker_address,
        "closed": f"127.0.0.1:{closed_port}",
        "login": login_broker.options.where,
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            case.name: pool.submit(run_case, case, folder / case.name, finished_run, addresses)
            for item in request.session.items
            if isinstance(case := getattr(item, "callspec", None) and item.callspec.params.get("case"), Case)  # type: ignore[attr-defined]
        }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_one_line(case: Case, endings: dict[str, Future[Ended]]) -> None:
    ended = endings[case.name].result()
    told = f"\n{case.words}\n{ended.out}\n--- stderr\n{ended.err}"
    assert ended.code == case.code, told
    lines = ended.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"{case.words.split()[0]}: "), told
    assert re.search(case.line, lines[0]), f"wanted {case.line!r}{told}"
    assert "Traceback" not in ended.out, told
    assert not ended.living, told
    assert not ended.left, f"left behind: {ended.left}{told}"


def test_a_model_that_does_not_exist_leaves_the_folder_for_the_one_that_does(programs: Programs) -> None:
    assert programs.agg("--model", "typo").wait() == 2
    agg = programs.agg("--rounds", 1, "--min-clients", 1)
    programs.edge("edge1")
    assert agg.wait() == 0, agg.told()


def test_a_folder_with_odd_images_is_used_without_those_that_cannot_be_read(xray_run: XrayRun) -> None:
    """Named, counted and skipped: a cut image, a text, a single pixel. 16 bits and colour are no reason to."""
    told = xray_run.odd.told()
    assert (xray_run.agg.process.returncode, xray_run.odd.process.returncode) == (0, 0), (
        told + xray_run.agg.told()
    )
    assert re.search(r"data folder=odd images=12 .*unreadable=3 NORMAL=7 PNEUMONIA=5", xray_run.odd.out), told
    notes = re.findall(r"data note: NORMAL/IM-(\d+)-0001.* (is .*)", xray_run.odd.out)
    assert [number for number, _ in notes] == ["0900", "0901", "0904"], told
    assert ["Truncated" in notes[0][1], notes[1][1], notes[2][1]] == [
        True,
        "is no JPEG, PNG or DICOM image",
        "is only 1 x 1 pixels",
    ]


def test_a_folder_of_texts_named_like_images_is_an_error(xray_run: XrayRun) -> None:
    texts = xray_run.texts
    assert texts.process.returncode == 2, texts.told()
    assert re.fullmatch(r"fl-edge: .*texts.*no .*image.*\n", texts.err), texts.told()


@pytest.mark.parametrize(
    ("words", "env", "toml", "said"),
    [
        ("", {}, "", "localhost:1"),
        ("", {}, 'broker = "localhost:2"', "localhost:2"),
        ("", {"FL_BROKER": "localhost:3"}, 'broker = "localhost:2"', "localhost:3"),
        ("--broker localhost:4", {"FL_BROKER": "localhost:3"}, 'broker = "localhost:2"', "localhost:4"),
        ("", {}, 'broker = "localhost:2"\n[join]\nbroker = "localhost:5"', "localhost:5"),
    ],
    ids=["nothing", "toml", "variable", "option", "toml-table"],
)
def test_option_then_variable_then_toml(
    programs: Programs, words: str, env: dict[str, str], toml: str, said: str
) -> None:
    (programs.folder / "hilum.toml").write_text(toml)
    edge = programs.start(
        "fl-edge", "join", "--connect-timeout", "0.01", "--plugin", "echo_task", *words.split(), env=env
    )
    if said == "localhost:1":
        assert edge.wait() == 2 and "--broker" in edge.err
        return
    assert edge.wait() == 3, edge.told()
    assert f"connecting broker={said}\n" in edge.out, edge.told()


def limit_files(pid: int, num_bytes: int) -> None:
    """From now on no file of this process may grow beyond that: a disk without space, as far as it can tell."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (num_bytes, hard))


def test_a_disk_without_space_for_the_spool_is_told_and_waited_out(programs: Programs) -> None:
    agg = programs.agg("--rounds", 1, "--min-clients", 1, "--model", "mb-2")
    agg.says("waiting for clients")
    limit_files(agg.process.pid, 1_000_000)
    edge = programs.edge("edge1")
    agg.says(
        r"warning: cannot keep the update of edge1 \(File too large\): make room in \S+/spool; it will be sent again"
    )
    assert agg.running and not programs.rounds()
    limit_files(agg.process.pid, resource.RLIM_INFINITY)
    assert agg.wait() == 0, agg.told()
    assert edge.wait() == 0, edge.told()
    assert programs.rounds()[0]["accepted"] == ["edge1"] and not programs.rounds()[0]["rejected"]
    assert agg.err == edge.err == ""


def test_a_disk_without_space_for_the_model_ends_the_run_and_it_resumes(programs: Programs) -> None:
    """The update is in the spool, so the same command folds it once there is room."""
    agg = programs.agg("--rounds", 1, "--min-clients", 1, "--model", "mb-2")
    agg.says("waiting for clients")
    limit_files(agg.process.pid, 2_000_100)
    edge = programs.edge("edge1")
    assert agg.wait() == 2, agg.told()
    assert re.fullmatch(
        r"fl-agg: .*\(File too large\).*make room, then the same command goes on from here\n", agg.err
    ), agg.told()
    again = programs.agg("--rounds", 1, "--min-clients", 1, "--model", "mb-2")
    assert again.wait() == 0, again.told()
    assert edge.wait() == 0, edge.told()
    assert programs.rounds()[0]["accepted"] == ["edge1"]
    assert not list(programs.run_dir.rglob("*.tmp"))


def test_an_edge_whose_disk_is_full_says_so_and_goes_on_when_there_is_space(programs: Programs) -> None:
    agg = programs.agg("--rounds", 1, "--min-clients", 1, "--model", "mb-2")
    agg.says("waiting for clients")
    gate = programs.folder / "gate"
    edge = programs.edge("edge1", env={"ECHO_GATE": str(gate)})
    limit_files(edge.process.pid, 1_000_000)
    edge.says(r"cannot keep the model \(File too large in \S+/edge1\): make room, it is tried again")
    assert agg.running and edge.running
    for pid in edge.living():
        limit_files(pid, resource.RLIM_INFINITY)
    gate.touch()
    assert agg.wait() == 0, agg.told()
    assert edge.wait() == 0, edge.told()
    assert programs.rounds()[0]["outcome"] == "closed"
