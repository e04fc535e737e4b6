"""Settings come from flags before environment before defaults, and a wrong one names itself."""

from pathlib import Path

import pytest

from service.model.device import GpuOptions
from service.settings import Client, Settings, SettingsError, from_command_line, refuse_exposure


def test_every_setting_has_a_default_and_help() -> None:
    """`--help` explains them all."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


def test_flags_before_environment_before_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest to the hand wins."""
    assert from_command_line([]).port == 8000
    monkeypatch.setenv("HEART_PORT", "8001")
    monkeypatch.setenv("HEART_MAX_BODY", "17")
    settings = from_command_line(["--port", "8002"])
    assert (settings.port, settings.max_body) == (8002, 17)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "70000"], "--port or HEART_PORT: Input should be less than or equal to 65535"),
        (["--max-body", "x"], "--max-body or HEART_MAX_BODY: Input should be a valid integer"),
        (["--gpu-memory", "1"], "--gpu-memory or HEART_GPU_MEMORY: Input should be greater than or equal to 64"),
        (["--gpu-mode", "fast"], "--gpu-mode or HEART_GPU_MODE: Input should be 'plain' or 'iobinding'"),
        (["--crossover", "-1"], "--crossover or HEART_CROSSOVER: Input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_flag_names_itself(flags: list[str], words: str) -> None:
    """In one line."""
    with pytest.raises(SettingsError) as caught:
        from_command_line(flags)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_said_of_the_gpu_is_told_to_it() -> None:
    """A crossover of 0 is not one that was left to be measured; the defaults are the same in both places."""
    assert GpuOptions.of(from_command_line([])) == GpuOptions()
    flags = ["--gpu-mode", "plain", "--gpu-memory", "512", "--crossover", "0"]
    assert GpuOptions.of(from_command_line(flags)) == GpuOptions("plain", 512, 0)


def test_a_wrong_variable_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is held to the same rules."""
    monkeypatch.setenv("HEART_PROVIDER", "tpu")
    with pytest.raises(SettingsError, match="HEART_PROVIDER: Input should be 'auto', 'cuda' or 'cpu'"):
        from_command_line([])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "no-such-name.invalid"])
def test_beyond_this_machine_keys_are_needed_or_a_word(host: str, tmp_path: Path) -> None:
    """The refusal is one line that names both ways out, and either of them opens it."""
    with pytest.raises(SettingsError) as caught:
        refuse_exposure(from_command_line(["--host", host]))
    assert "\n" not in str(caught.value)
    for way in ("--keys", "HEART_KEYS", "--open-to-network", "HEART_OPEN_TO_NETWORK=true"):
        assert way in str(caught.value)
    for way_out in (["--open-to-network"], ["--keys", str(tmp_path / "keys")]):
        refuse_exposure(from_command_line(["--host", host, *way_out]))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_alone_needs_no_keys(host: str) -> None:
    """Whoever can reach it is here already."""
    refuse_exposure(from_command_line(["--host", host]))


@pytest.mark.parametrize("origin", ["*", "ward.example", "https://ward.example/", "https://*.example", ""])
def test_an_origin_is_named_in_full(origin: str) -> None:
    """As browsers send it: no star, no path."""
    with pytest.raises(SettingsError, match="HEART_CORS_ORIGINS"):
        from_command_line(["--cors-origins", origin])
    assert from_command_line(["--cors-origins", "https://a.example,http://b:1"]).cors_origins == [
        "https://a.example",
        "http://b:1",
    ]


def test_a_clients_key_comes_from_the_environment_and_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No flag takes it: others can read a command line."""
    monkeypatch.setenv("HEART_KEY", "heart_abc")
    key = Client.from_environment().key
    assert key
    assert key.get_secret_value() == "heart_abc"
    assert "heart_abc" not in repr(Client.from_environment())
    monkeypatch.setenv("HEART_KEY", "heart_abc\r\nX: y")
    with pytest.raises(SettingsError) as caught:
        Client.from_environment()
    assert "heart_abc" not in str(caught.value)


def test_help_and_unknown_flags_exit(capsys: pytest.CaptureFixture[str]) -> None:
    """As every command does."""
    with pytest.raises(SystemExit) as caught:
        from_command_line(["--help"])
    assert caught.value.code == 0
    assert "--max-rows int" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        from_command_line(["--prot", "8000"])
    assert caught.value.code == 2
    assert "--prot" in capsys.readouterr().err
