"""The command line as a user meets it: exit statuses, messages, and no traceback unless asked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from mmssl_dist import __version__
from mmssl_dist.app import app
from mmssl_dist.errors import WorkerError
from mmssl_dist.pipeline import stages

ROOT = Path(__file__).parents[3]


@pytest.fixture
def job_file(tmp_path):
    """A valid job whose raw files exist."""
    raw = tmp_path / "raw"
    raw.mkdir()
    pairs = {"user_id": [user for user in range(4) for _ in range(10)], "item_id": list(range(10)) * 4}
    pq.write_table(pa.table(pairs), raw / "interactions.parquet")
    np.save(raw / "image.npy", np.zeros((10, 3), np.float32))
    path = tmp_path / "job.yaml"
    path.write_text(
        f"output: {tmp_path}/out\ndata:\n  path: {raw}\n  modalities:\n    image: {{file: image.npy}}\n"
    )
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.processes
def test_help_lists_every_command_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom mmssl_dist.app import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'dgl', 'deepspeed', 'pyarrow', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    commands = (
        "init validate embed prepare partition train evaluate export run tune submit doctor jobs "
        "synthesize convert fetch recommend similar serve report summarize compare plan"
    ).split()
    listed = [line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert listed == commands
    assert "..." not in done.stdout.partition("Commands:")[2]  # every summary fits its line


@pytest.mark.processes
def test_the_driver_of_stages_imports_neither_pandas_nor_ray_data_nor_torch():
    """Each takes part of a second, before anything is done."""
    program = (
        "import sys\n"
        "import mmssl_dist.pipeline.whole_run, mmssl_dist.report.compare, mmssl_dist.report.html\n"
        "import mmssl_dist.launch.model_stages, mmssl_dist.launch.worker_group\n"
        "heavy = {'pandas', 'ray.data', 'torch', 'dgl', 'mlflow', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "validate",
        "run",
        "train",
        "tune",
        "submit",
        "synthesize",
        "summarize",
        "compare",
        "doctor",
        "recommend",
        "similar",
        "serve",
        "report",
        "plan",
        "convert",
        "fetch",
        "init",
    ],
)
def test_each_command_explains_itself(command):
    done = call(command, "--help")
    assert done.exit_code == 0
    assert "--debug" in done.output


def test_the_shell_completes_commands():
    environment = {"_MMSSL_DIST_COMPLETE": "complete_bash", "COMP_WORDS": "mmssl-dist re", "COMP_CWORD": "1"}
    done = CliRunner().invoke(app, [], env=environment, prog_name="mmssl-dist")
    assert done.output.split() == ["recommend", "report"]


def test_version():
    assert call("--version").output == f"mmssl-dist {__version__}\n"


def test_validate_shows_the_job_in_short(job_file, tmp_path):
    done = call("validate", job_file, "--set", "scaling.workers=2", "--set", "seed=9")
    assert done.exit_code == 0, done.output
    assert f"output:      {tmp_path}/out" in done.output
    assert "scaling:     2 worker(s), 1 CPU and 0 GPU each" in done.output
    assert "seed:        9" in done.output
    assert "valid; 2 raw files found" in done.output
    assert not (tmp_path / "out").exists()


def test_all_problems_of_the_yaml_at_once(job_file):
    done = call(
        "run", job_file, "--set", "scaling.workers=9", "--set", "model.dimensions=3", "--set", "seed=x"
    )
    assert done.exit_code == 2
    assert "3 problem(s)" in done.stderr
    for part in ("did you mean dimension?", "seed: found 'x'", "scaling.workers"):
        assert part in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output: [", r"job.yaml, line \d+: found .*a job is a YAML mapping"),
        ("just words", "a job is a YAML mapping"),
        ("", "a job is a YAML mapping"),
    ],
)
def test_not_a_yaml_mapping(job_file, text, message):
    job_file.write_text(text)
    done = call("run", job_file)
    assert done.exit_code == 2
    assert re.search(message, done.stderr), done.stderr


@pytest.mark.parametrize("command", ["validate", "run", "prepare"])
def test_missing_raw_file_names_the_key_before_any_work(job_file, tmp_path, command):
    (tmp_path / "raw" / "image.npy").unlink()
    done = call(command, job_file)
    assert done.exit_code == 2
    assert "data.modalities.image.file" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "missing", "before"),
    [
        ("partition", "dataset", "prepare"),
        ("train", "dataset", "prepare"),
        ("export", "dataset", "prepare"),
    ],
)
def test_stage_without_what_it_reads_says_what_to_run(job_file, command, missing, before):
    done = call(command, job_file)
    assert done.exit_code == 2
    assert f"the {missing} must be published first. Run `mmssl-dist {before}` on this job." in done.stderr


def test_no_cluster_to_submit_to(job_file):
    done = call("submit", job_file, "--address", "http://127.0.0.1:1")
    assert done.exit_code == 2
    assert "`ray start --head`" in done.stderr


@pytest.mark.parametrize("modality", ["image", "image=", "=3", "image=0", "image=x"])
def test_modality_to_synthesize_that_is_none(tmp_path, modality):
    done = call("synthesize", tmp_path / "raw", "--modality", modality)
    assert done.exit_code == 2
    assert f"--modality: found {modality};" in done.stderr


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (WorkerError("worker 1 failed: KeyError: 'x'"), 1, "error: worker 1 failed: KeyError: 'x'\n"),
        (
            ZeroDivisionError("division by zero"),
            1,
            "error: ZeroDivisionError: division by zero (run with --debug for the traceback)\n",
        ),
        (
            KeyboardInterrupt(),
            130,
            "interrupted. What is published is complete; run the same command again to resume.\n",
        ),
    ],
)
def test_failures_become_one_message_and_a_status(monkeypatch, job_file, error, status, message):
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(stages, "run_all", fail)
    done = call("run", job_file)
    assert (done.exit_code, done.stderr) == (status, message)
    if status == 1:
        debug = call("run", job_file, "--debug")
        assert debug.exit_code == 1
        assert "Traceback (most recent call last)" in debug.stderr
        assert "in fail" in debug.stderr


def test_no_traceback_shows_a_signature(monkeypatch, job_file):
    def fail(*arguments: object) -> None:
        failure = OSError("GET https://a.blob.core.windows.net/c/x?sv=1&sig=c2VjcmV0%3D failed")
        failure.add_note("In worker 0:\nOSError: AccountKey=c2VjcmV0")
        try:
            raise failure
        except OSError as error:
            raise WorkerError("worker 0 failed") from error

    monkeypatch.setattr(stages, "run_all", fail)
    debug = call("run", job_file, "--debug")
    assert "OSError: GET https://a.blob.core.windows.net/c/x?... failed\nIn worker 0:" in debug.stderr
    assert "c2Vj" not in debug.output


@pytest.mark.processes
@pytest.mark.parametrize("words", [(str(ROOT / "cli.py"),), ("-m", "mmssl_dist")])
def test_a_real_process_ends_with_the_status_and_without_traceback(tmp_path, words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words, "run", "nowhere.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 2
    assert done.stderr == "error: nowhere.yaml: found no such file; a job is a YAML file. Check the path.\n"
    assert done.stdout == ""
