"""A job's YAML: what is accepted, and how each kind of mistake is reported."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmssl_dist.config import load_job, parse_job
from mmssl_dist.errors import ConfigError, InputError
from tests.unit.config.trees import SMALL, changed, problems, write


def test_two_keys_are_enough(tmp_path: Path) -> None:
    job = load_job(
        write(tmp_path, "output: runs/x\ndata: {path: raw, modalities: {image: {file: image.npy}}}\n")
    )
    assert job.data.modalities["image"].file == "image.npy"
    assert (job.scaling.workers, job.partition.parts, job.training.fanout) == (1, 4, (10, 10))


def test_a_job_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_job(SMALL).seed = 3  # type: ignore[misc]


def test_the_resolved_tree_reads_back() -> None:
    job = parse_job(changed(training={"fanout": [5, 3]}, losses={"candidates": "all"}))
    assert parse_job(job.model_dump(mode="json")) == job
    assert parse_job(yaml.safe_load(yaml.safe_dump(job.model_dump(mode="json")))) == job


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E+2", 100.0), ("2.5e3", 2500.0), (".5e-1", 0.05), ("3.e2", 300.0), ("1", 1.0)],
)
def test_numbers_with_an_exponent_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    path = write(tmp_path, yaml.safe_dump(SMALL) + f"training: {{rows: {{learning_rate: {text}}}}}\n")
    assert load_job(path).training.rows.learning_rate == value
    assert parse_job(SMALL, [f"training.rows.learning_rate={text}"]).training.rows.learning_rate == value


def test_a_name_that_looks_like_an_exponent_stays_a_name() -> None:
    assert parse_job(SMALL, ["data.columns.user=e5"]).data.columns.user == "e5"


def test_all_problems_are_shown_at_once_with_their_paths(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
otput: runs/x
data:
  path: raw
  modalities:
    image: {file: image.npy, vektor: v}
    "no good": {file: x.npy}
  split: {validation: 0.5, test: 0.6}
partition: {parts: 2, method: metiz}
scaling: {workers: 4, cpus_per_worker: two}
model: {dimension: 10, heads: 3}
training: {fanout: none}
losses: {candidates: some}
""",
    )
    with pytest.raises(ConfigError) as caught:
        load_job(path)
    assert caught.value.exit_status == 2
    lines = list(caught.value.problems)
    assert "output: missing; this key is required" in lines
    assert "otput: unknown key; did you mean output?" in lines
    assert "data.modalities.image.vektor: unknown key; did you mean vector?" in lines
    assert any(line.startswith("data.modalities.no good: found 'no good'; ") for line in lines)
    assert "partition.method: found 'metiz'; must be auto, metis, streaming or random" in lines
    assert "scaling.cpus_per_worker: found 'two'; must be a whole number" in lines
    assert "training.fanout: found 'none'; must be all or a list" in lines
    assert any(line.startswith("losses.candidates: found 'some'; ") for line in lines)
    # And those between settings, although others are wrong alone.
    assert any(
        line.startswith("scaling.workers: found 4; must be at most partition.parts (2)") for line in lines
    )
    assert any(line.startswith("data.split.test: found 0.6; ") for line in lines)
    assert "model.heads: found 3; must divide model.dimension (10)" in lines
    assert len(lines) == 11
    assert str(caught.value).splitlines()[0] == f"{path}: 11 problem(s)"


def test_a_rule_keeps_quiet_about_a_setting_that_is_wrong_already() -> None:
    assert problems(changed(scaling={"workers": 8}, partition={"parts": "many"})) == [
        "partition.parts: found 'many'; must be a whole number"
    ]
    assert problems(changed(scaling={"workers": 8}, partition=3)) == [
        "partition: found 3; this is a section, with keys below it"
    ]


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        (changed(scaling={"workers": 5}), "scaling.workers: found 5; must be at most partition.parts (4)"),
        (
            changed(training={"batch_size": 3}),
            "training.batch_size: found 3; must be at least partition.parts (4)",
        ),
        (changed(model={"heads": 7}), "model.heads: found 7; must divide model.dimension (128)"),
        (
            changed(model={"layers": 3}, training={"fanout": [10, 10]}),
            "training.fanout: found 2 number(s); model.layers is 3",
        ),
        (
            changed(tracking={"registered_model": "shop"}),
            "tracking.registered_model: found shop; the registry is MLflow's, and tracking.mlflow is not set",
        ),
        *(
            (
                changed(tracking={"mlflow": "runs", "registered_model": name}),
                f"tracking.registered_model: found {name!r}; must not be blank or have one of / : % ' \"",
            )
            for name in ("a/b", "a:b", "a%b", "a'b", 'a"b', "a\nb", "  ")
        ),
        (
            changed(tracking={"mlflow": "runs", "registered_model": "..a"}),
            "tracking.registered_model: found '..a'; must be a name for a folder of MLflow's registry",
        ),
        (
            changed(tracking={"mlflow": "runs", "registered_model": "ä" * 128}),
            "tracking.registered_model: found 'ä",
        ),
        *(
            (
                changed(tracking={"wandb": project}),
                f"tracking.wandb: found {project!r}; must be PROJECT or ENTITY/PROJECT, without",
            )
            for project in ("a/b/c", "/a", "a/", "a:b", "a#b", "a?b", "a%b", "a\nb", " ")
        ),
        (changed(tracking={"wandb": "a" * 129}), "tracking.wandb: found 'aaaa"),
        (
            changed(tracking={"wandb": "shop", "wandb_mode": "disabled"}),
            "tracking.wandb_mode: found 'disabled'",
        ),
        (
            changed(tracking={"wandb_mode": "offline"}),
            "tracking.wandb_mode: found offline; tracking.wandb names no project. Set it, or remove the mode",
        ),
        (
            changed(output="s3://runs/a", tracking={"wandb": "shop", "wandb_mode": "offline"}),
            "tracking.wandb_mode: found offline; its files are written to a folder below the output, and "
            "s3://runs/a is no local folder. Choose a local output, or online",
        ),
        (
            changed(evaluation={"ks": [5], "metric": "recall@20"}),
            "evaluation.metric: found recall@20; its K must be among evaluation.ks [5]",
        ),
        (
            changed(output="raw", data={**SMALL["data"], "path": "raw/dataset"}),
            "data.path: found raw/dataset; output/",
        ),
        (changed(data={**SMALL["data"], "split": {"method": "given"}}), "data.columns.split: missing; "),
        (changed(data={**SMALL["data"], "split": {"method": "temporal"}}), "data.columns.time: missing; "),
        (
            changed(data={**SMALL["data"], "layout": "mmssl", "split": {"method": "temporal"}}),
            "data.split.method: ",
        ),
        (
            changed(data={**SMALL["data"], "split": {"validation": 0.5, "test": 0.5}}),
            "data.split.test: found 0.5; ",
        ),
        (changed(data={"path": "raw", "modalities": {}}), "data.modalities: found {}; "),
        (changed(data={"path": "raw", "modalities": 3}), "data.modalities: found 3; this is a section"),
        (changed(data={**SMALL["data"], "path": ""}), "data.path: found ''; "),
        (
            changed(partition={"item_neighbours": 0}, model={"item_graph": {"weight": 1.0}}),
            "model.item_graph.weight: found 1; partition.item_neighbours is 0",
        ),
        (
            changed(model={"layers": 0, "item_graph": {"weight": 1.0}}, training={"fanout": "all"}),
            "model.item_graph.weight: found 1; a user's items",
        ),
        (
            changed(model={"feature_columns": 129}, losses={"adversarial": {"weight": 0}}),
            "model.feature_columns: found 129; must be at most model.dimension (128)",
        ),
        (
            changed(model={"feature_columns": 8}, losses={"adversarial": {"kind": "critic", "weight": 1e-4}}),
            "losses.adversarial.weight: found 0.0001; model.feature_columns is 8",
        ),
        (
            changed(
                model={"feature_columns": 8, "modality_graph": {"size": 3}},
                losses={"adversarial": {"weight": 0}},
            ),
            "model.modality_graph.size: found 3; model.feature_columns is 8",
        ),
        (
            changed(model={"item_graph": {"weight": 0.0}}, losses={"adversarial": {"rows": "modality"}}),
            "losses.adversarial.rows: found modality; model.item_graph.weight is 0",
        ),
        (
            changed(losses={"contrastive": {"rows": "lists", "weight": 0.1}}),
            "losses.contrastive.rows: found lists; model.",
        ),
        (
            changed(model={"item_graph": {"weight": 0.0}}, losses={"contrastive": {"weight": 0.1}}),
            "losses.contrastive.rows: found item_graph; model.item_graph.weight is 0",
        ),
        (changed(seed=-1), "seed: found -1; "),
        (changed(seed=1.0), "seed: found 1.0; must be a whole number"),
        (changed(seed=True), "seed: found True; must be a whole number"),
        (changed(seed="1"), "seed: found '1'; must be a whole number"),
        (changed(model={"dropout": 1.0}), "model.dropout: found 1.0; "),
        (changed(training={"fanout": [5, 0]}), "training.fanout.1: found 0; "),
        (
            changed(training={"rows": {"learning_rate": float("inf")}}),
            "training.rows.learning_rate: found inf; ",
        ),
        (changed(storage={"endpoint": "127.0.0.1:9000"}), "storage.endpoint: found '127.0.0.1:9000'; "),
        (changed(data={**SMALL["data"], "interactions": 5}), "data.interactions: found 5; "),
        (
            changed(data={**SMALL["data"], "columns": {"user": "a", "item": "a"}}),
            "data.columns.item: found 'a'; data.",
        ),
        (changed(zebra=1), "zebra: unknown key; known here: output, seed, data, "),
    ],
)
def test_each_rule_names_path_and_value(tree: dict[str, Any], line: str) -> None:
    result = problems(tree)
    assert len(result) == 1
    assert result[0].startswith(line)


def test_overrides() -> None:
    job = parse_job(
        SMALL,
        [
            "scaling.workers=2",
            "training.fanout=[3, 2]",
            "data.modalities.text.file=t.npy",
            "partition.method=random",
        ],
    )
    assert (job.scaling.workers, job.training.fanout, job.partition.method) == (2, (3, 2), "random")
    assert set(job.data.modalities) == {"image", "text"}
    assert "scaling" not in SMALL  # the given tree is left alone
    assert "text" not in SMALL["data"]["modalities"]


def test_the_last_override_wins_and_a_value_may_hold_an_equals_sign() -> None:
    assert parse_job(SMALL, ["seed=1", "seed=2", "data.path=s3://b/a=1"]).data.path == "s3://b/a=1"
    assert parse_job(SMALL, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    "override", ["seed", "=3", "a..b=3", ".seed=1", "output.x=1", "seed=[", "seed=1\n - : x"]
)
def test_a_malformed_override_is_refused(override: str) -> None:
    with pytest.raises(InputError, match="--set"):
        parse_job(SMALL, [override])


def test_an_unknown_key_in_an_override_is_an_ordinary_problem() -> None:
    assert problems(SMALL, "scaling.wrokers=2") == ["scaling.wrokers: unknown key; did you mean workers?"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "job.yaml"),
        ("- a\n- b\n", "job.yaml"),
        ("output: [", "line 1"),
        ("output: a\noutput: b\n", "line 2"),
        ("output: !!python/object/apply:os.system ['true']\n", "line 1"),
        ("output: 2024-13-45\n", "job.yaml"),
        ("a: &a [*a]\n", "job.yaml"),
        ("output: &a {x: *a}\ndata: *a\n", "job.yaml"),
        ("[" * 5000, "job.yaml"),
    ],
)
def test_a_file_that_is_no_job_is_refused(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(InputError) as caught:
        load_job(write(tmp_path, text))
    assert where in str(caught.value)


def test_a_key_given_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 4: found the key seed a second time"):
        load_job(write(tmp_path, "output: x\nseed: 1\ndata: {}\nseed: 2\n"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_job(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="no such file"):
        load_job(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("output: \xe9".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        load_job(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(InputError, match="at most 1048576"):
        load_job(tmp_path / "large.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]),
        "\n".join(["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40))]),
        "a: [" + "1," * 5000 + "]",
    ],
    ids=["billion laughs", "merges", "as it is"],
)
def test_a_yaml_of_more_values_than_a_job_has_is_refused_before_it_unfolds(tmp_path: Path, text: str) -> None:
    started = time.monotonic()
    with pytest.raises(
        InputError, match="found more than 5000 values; a job has fewer, with every alias expanded"
    ):
        load_job(write(tmp_path, text))
    assert time.monotonic() - started < 10


def test_aliases_and_merges_within_reason_are_read(tmp_path: Path) -> None:
    job = load_job(
        write(
            tmp_path,
            "output: x\ndata:\n  path: raw\n  modalities:\n    image: &m {file: i.parquet}\n"
            "    text: {<<: *m, vector: v}\n    audio: *m\n",
        )
    )
    assert job.data.modalities["text"].file == job.data.modalities["audio"].file == "i.parquet"


def test_of_very_many_problems_some_are_shown() -> None:
    result = problems(changed(evaluation={"ks": ["x"] * 3000}))
    assert result[0].startswith("evaluation.ks.0: found 'x'")
    assert result[-1] == "and 2950 more"


@pytest.mark.parametrize(
    "text",
    [
        "seed=0x" + "f" * 5000,
        "training.epochs=0x" + "f" * 5000,
        "scaling.workers=[1, 0x" + "f" * 5000 + "]",
        f"evaluation.metric=recall@{'9' * 5000}",
        "training.epochs=1" + "0" * 4000,
    ],
)
def test_numbers_without_end_are_refused(text: str) -> None:
    assert problems(SMALL, text)[0].startswith(text.split("=")[0])


def test_errors_survive_pickling() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_job(changed(seed=-1, zebra=1))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.problems) == (
        ConfigError,
        str(caught.value),
        caught.value.problems,
    )
    other = InputError("a.b", 3, "must be 4", "Write 4.")
    assert str(pickle.loads(pickle.dumps(other))) == "a.b: found 3; must be 4. Write 4."


@pytest.mark.processes
def test_importing_the_package_loads_neither_torch_nor_ray_nor_dgl() -> None:
    code = (
        "import sys, mmssl_dist.config\n"
        "heavy = {'torch', 'ray', 'dgl', 'deepspeed', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'loaded {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
