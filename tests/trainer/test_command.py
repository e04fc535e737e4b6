"""`python -m trainer fit`, as a person calls it."""

import gzip
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from rich.console import Console

from service.model.loading import load
from tests.conftest import CLEVELAND, MODELS
from trainer import progress
from trainer.__main__ import main
from trainer.dataset import Dataset
from trainer.export import TRITON_FILE
from trainer.report.card import command_line


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    """Return a function that runs a command line, in an empty folder, and returns the exit status or message."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> int | str:
        with pytest.raises(SystemExit) as exited:
            main(list(words))
        assert isinstance(exited.value.code, int | str)
        return exited.value.code

    return call


def fit(command: object, *flags: str) -> int | str:
    """`trainer fit` on the committed data."""
    assert callable(command)
    brief = ["--epochs", "5", "--repeats", "0", "--test-share", "0.2"]
    result = command("fit", "--data", str(CLEVELAND), *brief, *flags)
    assert isinstance(result, int | str)
    return result


def test_fit_makes_a_version_that_serves(command: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first is 1, the next 2, and the service takes the newest; the summary says what was reached."""
    assert fit(command) == 0
    assert fit(command, "--hidden", "8,4", "--threshold", "0.4", "--force") == 0
    shown = capsys.readouterr().out
    for words in ("loss", "5 epochs on 242 rows, 61 held out", "majority", "AUC", "differ by at most", "Wrote"):
        assert words in shown
    model = load(tmp_path / "models/heart_disease", "cpu")
    assert (model.version, model.metadata.threshold) == ("2", 0.4)
    assert model.metadata.flags["hidden"] == [8, 4]
    assert "--hidden 8,4" in (tmp_path / "models/heart_disease/2/MODEL_CARD.md").read_text()


def test_the_same_flags_make_the_same_file_but_for_the_time(command: object, tmp_path: Path) -> None:
    """Byte for byte, once version and time stamp are set equal."""
    files = []
    for folder in ("a", "b"):
        assert fit(command, "--models", folder) == 0
        model = onnx.load(tmp_path / folder / "1/model.onnx")
        next(p for p in model.metadata_props if p.key == "created").value = ""
        files.append(model.SerializeToString(deterministic=True))
    assert files[0] == files[1]


def test_all_rows_may_train(command: object, tmp_path: Path) -> None:
    """Without held-out rows there is no test score, and none is shown."""
    assert fit(command, "--test-share", "0", "--models", "all") == 0
    metadata = load(tmp_path / "all", "cpu").metadata
    assert metadata.data["train_rows"] == 303
    assert set(metadata.metrics) == {"train"}


def test_bad_rows_are_left_out_counted_and_listed_where_a_share_is_allowed(
    command: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default the first bad row ends it; nobody loses patients without a word."""
    (tmp_path / "t.csv").write_text(CLEVELAND.read_text().replace("63,1,1,", "630,1,1,", 1))
    message = fit(command, "--data", "t.csv")
    assert message == "trainer: t.csv:2: age: Age must be a number from 18 to 120 years"
    assert not (tmp_path / "rejects.csv").exists()
    assert fit(command, "--data", "t.csv", "--max-bad-share", "0.01") == 0
    assert "Invalid rows left out: 1; rejects.csv lists them" in capsys.readouterr().out
    assert (tmp_path / "rejects.csv").read_text().splitlines()[1].startswith("t.csv,2,age,Age must be")
    assert load(tmp_path / "models/heart_disease", "cpu").metadata.data["rows"] == 302


def test_identical_rows_and_columns_without_a_name_are_noted(
    command: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By fit and by evaluate; the rows are kept."""
    lines = CLEVELAND.read_text().splitlines()
    lines += lines[5:6]
    (tmp_path / "t.csv").write_text("\n".join(f"{i or ''},{line}" for i, line in enumerate(lines)))
    assert fit(command, "--data", "t.csv") == 0
    assert callable(command)
    assert command("evaluate", "--data", "t.csv", "--model", "models/heart_disease/1") == 0
    shown = capsys.readouterr().out
    assert shown.count("t.csv: Column 1 without a name: left out\n") == 2
    assert shown.count("Identical rows: 1 of 304 repeat an earlier one.") == 2
    assert shown.count("Lines: 305 repeats 6\n") == 2
    assert load(tmp_path / "models/heart_disease", "cpu").metadata.data["rows"] == 304


@pytest.mark.parametrize("suffix", [b".csv", b".csv.gz", b".parquet"])
def test_names_may_be_any_bytes(suffix: bytes, command: object, capsys: pytest.CaptureFixture[str]) -> None:
    """Of tables, of what is written, and of folders; they are printed as escapes."""
    raw = (b"models\xff", b"data/one\xff" + suffix, b"rejects\xff", b"out\xff")
    folder, table, rejects, out = (Path(os.fsdecode(name)) for name in raw)
    table.parent.mkdir()
    content = CLEVELAND.read_bytes().replace(b"63,1,", b"7,1,", 1)
    if suffix == b".parquet":
        pa.parquet.write_table(pa.csv.read_csv(io.BytesIO(content)), packed := io.BytesIO())
        content = packed.getvalue()
    table.write_bytes(gzip.compress(content) if suffix == b".csv.gz" else content)
    assert callable(command)
    share = ["--max-bad-share", "0.1", "--rejects", str(rejects)]
    brief = ["--data", str(table.parent), "--models", str(folder), "--epochs", "2", "--repeats", "0"]
    assert str(command("fit", *brief)).startswith(f"trainer: data/one\\xff{suffix.decode()}:")
    assert command("fit", *brief, *share) == 0
    assert "rejects\\xff" in (shown := capsys.readouterr().out)
    assert "Wrote models\\xff/1" in shown
    assert rejects.read_text().splitlines()[1].startswith(f"data/one\\xff{suffix.decode()},")
    assert command("fit", *brief[:1], str(CLEVELAND), *brief[2:], "--if-none") == 0
    renamed = Path(os.fsdecode(b"renamed\xff.csv"))
    renamed.write_bytes(CLEVELAND.read_bytes())
    shutil.copytree(MODELS / "3", folder / "3")
    assert command("generate", str(out.with_suffix(".parquet")), "--rows", "10", "--data", str(renamed)) == 0
    evaluated = ["--model", str(folder / "3"), "--recalibrate", "--force", "--out", str(out.with_suffix(".json"))]
    assert command("evaluate", "--data", str(renamed), *evaluated) == 0
    assert "Wrote out\\xff.json" in capsys.readouterr().out


def test_if_none_leaves_a_model_alone(command: object, tmp_path: Path) -> None:
    """What a container's start needs: one model, not one more at every start."""
    assert fit(command, "--if-none") == 0
    assert fit(command, "--if-none") == 0
    assert sorted(path.name for path in (tmp_path / "models/heart_disease").iterdir()) == ["1", TRITON_FILE]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--epochs", "0", "--l2", "-1"], "--epochs: Input should be greater than or equal to 1; --l2: "),
        (["--blank-fields", "ca,bmi"], "not a field of the record; they are age, sex"),
        (["--test-share", "many"], "--test-share: Input should be a valid number"),
        (["--data", "nowhere.csv"], "nowhere.csv: No such file"),
        (["--models", "/dev/null/x"], "Not a directory"),
    ],
)
def test_a_wrong_flag_is_one_line_that_names_it(command: object, flags: list[str], words: str) -> None:
    """No traceback, a failing exit status, nothing written."""
    message = fit(command, *flags)
    assert isinstance(message, str)
    assert words in message
    assert "\n" not in message
    assert not Path("models").exists()


@pytest.mark.parametrize("task", ["fit", "evaluate"])
def test_too_few_patients_for_the_folds_are_one_line(command: object, tmp_path: Path, task: str) -> None:
    """Said before the training."""
    assert callable(command)
    lines = CLEVELAND.read_text().splitlines()[:16]
    (tmp_path / "few.csv").write_text("\n".join(lines))
    message = command(task, "--data", "few.csv")
    assert message.startswith("trainer: 10 folds need 10 patients with and 10 without disease; the table has 6 and 9:")
    assert "\n" not in message
    assert not Path("models").exists()


def test_interrupted_means_nothing_written(command: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C gives a message, not a traceback."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.cli.fit.fit_chunks", interrupt)
    assert fit(command) == "trainer: interrupted, nothing written"
    assert not Path("models").exists()


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Epoch, loss and time left on one line that moves."""
    monkeypatch.setattr(progress, "console", Console(force_terminal=True, width=100))
    with progress.bars() as tick:
        tick("epoch", 1, 2, {"loss": 0.6})
        tick("epoch", 2, 2, {"loss": 0.512345})
    assert "2/2" in (shown := capsys.readouterr().out)
    assert "loss 0.5123" in shown


def test_the_committed_model_is_what_its_flags_make(cleveland: Dataset, command: object, tmp_path: Path) -> None:
    """Training again with the flags in the committed file gives its probabilities."""
    committed = load(CLEVELAND.parents[2] / "models/heart_disease", "cpu")
    flags = committed.metadata.flags | {"repeats": 0, "test_share": committed.metadata.flags["test_share"] or 0}
    assert callable(command)
    assert command("fit", "--data", str(CLEVELAND), *command_line(flags)) == 0
    again = load(tmp_path / "models/heart_disease", "cpu")
    assert committed.metadata.data == again.metadata.data
    assert np.abs(committed(cleveland.rows) - again(cleveland.rows)).max() < 1e-3  # another machine may round otherwise


def test_tensorboard_gets_its_logs(command: object, tmp_path: Path) -> None:
    """Loss and held-out loss of every epoch."""
    assert fit(command, "--tensorboard", "logs") == 0
    (events,) = (tmp_path / "logs").iterdir()
    content = events.read_bytes()
    assert content.count(b"held-out loss") == 5


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_evaluate_compares_the_network_with_its_baselines(
    command: object, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    """On screen as tables, and in a file for a program."""
    assert callable(command)
    flags = ["--repeats", "1", "--folds", "2", "--epochs", "30", "--data", str(CLEVELAND), "--out", f"result.{suffix}"]
    assert command("evaluate", *flags) == 0
    shown = capsys.readouterr().out
    for words in ("majority class", "logistic regression", "random forest", "gradient boosting", "lecture", "95 %"):
        assert words in shown
    result = (tmp_path / f"result.{suffix}").read_text()
    if suffix == "json":
        found = json.loads(result, parse_constant=pytest.fail)["scores"]["majority class"]["log_loss"]
        assert found == {"mean": pytest.approx(0.69, abs=0.01), "sd": None}  # one repeat has no spread
    else:
        assert result.startswith("model,metric,mean,sd\nnetwork,log_loss,0.")
        assert "logistic regression,auc,0." in result


def test_evaluate_validates_a_finished_model_on_other_patients(
    command: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without training anything; recalibrating it is an offer, and makes a version when taken."""
    assert callable(command)
    shutil.copytree(CLEVELAND.parents[2] / "models/heart_disease/1", tmp_path / "models/1")
    flags = ["--model", "models/1", "--data", str(CLEVELAND), "--out", "result.json"]
    assert command("evaluate", *flags) == 0
    shown = capsys.readouterr().out
    assert "Version 1 on 303 patients" in shown
    assert "calibration slope" in shown
    assert json.loads((tmp_path / "result.json").read_text())["slope"] > 0
    assert command("evaluate", *flags, "--recalibrate", "--force") == 0
    assert load(tmp_path / "models", "cpu").version == "2"
    assert (
        command("evaluate", "--model", "models/7", "--data", str(CLEVELAND))
        == "trainer: models/7/model.onnx: No such file or directory"
    )


def test_a_worse_candidate_is_left_aside(command: object, tmp_path: Path) -> None:
    """It exits with the number that failed, and the version that serves goes on serving."""
    assert callable(command)
    flags = ["--data", str(CLEVELAND), "--repeats", "1", "--folds", "3"]
    assert command("fit", *flags, "--epochs", "60") == 0
    message = command("fit", *flags, "--epochs", "1")
    assert "not promoted: its log loss of" in message
    assert "is worse than version 1's" in message
    models = tmp_path / "models/heart_disease"
    assert load(models, "cpu").version == "1"
    (candidate,) = models.glob("candidate-*")
    assert (candidate / "MODEL_CARD.md").exists()
    assert command("fit", *flags, "--epochs", "1", "--force") == 0
    forced = load(models, "cpu").metadata
    assert (forced.version, forced.flags["force"]) == ("2", True)
    assert forced.promotion["candidate"] > forced.promotion["serving"]


def test_without_anything_to_compare_a_second_version_needs_force(command: object) -> None:
    """No evidence, no promotion."""
    assert fit(command, "--test-share", "0") == 0
    assert "no rows were held out to compare it with version 1" in str(fit(command, "--test-share", "0"))
