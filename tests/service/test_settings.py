"""Settings come from options before environment before defaults, and an error names the setting."""

from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patient.command_line import SettingsError, options
from service.__main__ import main
from service.model.device import GpuOptions
from service.settings import Settings, read_client_key, read_settings, refuse_exposure


def from_command_line(words: list[str]) -> Settings:
    """Parse a command line as `serve` does."""
    return read_settings(click.Command("serve", params=options(Settings)).make_context("serve", words).params)


def test_every_setting_has_a_default_and_help() -> None:
    """`--help` explains them all."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


def test_flags_before_environment_before_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_an_error_names_the_option_and_the_variable(flags: list[str], words: str) -> None:
    """In one line."""
    with pytest.raises(SettingsError) as caught:
        from_command_line(flags)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gpu_options_come_from_the_settings() -> None:
    """A crossover of 0 is not an unset one; the defaults are the same in both places."""
    assert GpuOptions.of(from_command_line([])) == GpuOptions()
    flags = ["--gpu-mode", "plain", "--gpu-memory", "512", "--crossover", "0"]
    assert GpuOptions.of(from_command_line(flags)) == GpuOptions("plain", 512, 0)


def test_an_error_in_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEART_PROVIDER", "tpu")
    with pytest.raises(SettingsError, match="HEART_PROVIDER: Input should be 'auto', 'cuda' or 'cpu'"):
        from_command_line([])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "no-such-name.invalid"])
def test_beyond_this_machine_keys_or_a_setting_are_required(host: str, tmp_path: Path) -> None:
    """The error is one line that names both remedies, and either of them helps."""
    with pytest.raises(SettingsError) as caught:
        refuse_exposure(from_command_line(["--host", host]))
    assert "\n" not in str(caught.value)
    for remedy in ("--keys", "HEART_KEYS", "--open-to-network", "HEART_OPEN_TO_NETWORK=true"):
        assert remedy in str(caught.value)
    for words in (["--open-to-network"], ["--keys", str(tmp_path / "keys")]):
        refuse_exposure(from_command_line(["--host", host, *words]))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_this_machine_alone_needs_no_keys(host: str) -> None:
    refuse_exposure(from_command_line(["--host", host]))


@pytest.mark.parametrize("origin", ["*", "ward.example", "https://ward.example/", "https://*.example", ""])
def test_an_origin_is_named_in_full(origin: str) -> None:
    """As browsers send it: no wildcard, no path."""
    with pytest.raises(SettingsError, match="HEART_CORS_ORIGINS"):
        from_command_line(["--cors-origins", origin])
    assert from_command_line(["--cors-origins", "https://a.example,http://b:1"]).cors_origins == [
        "https://a.example",
        "http://b:1",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["--cors-origins", "https://a.example,https://b.example"],
        ["--cors-origins", "https://a.example", "--cors-origins", "https://b.example"],
        ["--cors-origins", '["https://a.example", "https://b.example"]'],
        ["--cors-origins", "[https://a.example,https://b.example]"],
    ],
)
def test_a_list_is_comma_separated_repeated_or_json(words: list[str]) -> None:
    assert from_command_line(words).cors_origins == ["https://a.example", "https://b.example"]


@pytest.mark.parametrize("text", ["https://a.example,https://b.example", '["https://a.example","https://b.example"]'])
def test_a_list_in_the_environment_is_written_as_on_the_command_line(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEART_CORS_ORIGINS", text)
    assert read_settings().cors_origins == ["https://a.example", "https://b.example"]
    monkeypatch.setenv("HEART_CORS_ORIGINS", "http://localhost:3000")
    assert read_settings().cors_origins == ["http://localhost:3000"]


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Compose file passes on what is not set as empty. It never opens the service to a network."""
    for name in Settings.model_fields:
        monkeypatch.setenv(f"HEART_{name.upper()}", "")
    assert read_settings() == Settings()
    assert read_settings().max_body == 4 * 2**20
    with pytest.raises(SettingsError, match="no API keys are set"):
        refuse_exposure(from_command_line(["--host", "0.0.0.0"]))


@pytest.mark.parametrize("link", ["tcp://10.0.0.1:8000", "udp://10.0.0.1:53", "sctp://[fd00::1]:8000"])
def test_kubernetes_variables_of_a_service_named_heart_are_ignored(link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are set in every container of the namespace. A wrong HEART_PORT is still an error."""
    monkeypatch.setenv("HEART_PORT", link)
    monkeypatch.setenv("HEART_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("HEART_SERVICE_PORT", "8000")
    monkeypatch.setenv("HEART_PORT_8000_TCP", link)
    assert read_settings().port == 8000
    assert from_command_line(["--port", "8001"]).port == 8001
    for wrong in ("tcp", "80 80", "http://10.0.0.1:8000"):
        monkeypatch.setenv("HEART_PORT", wrong)
        with pytest.raises(SettingsError, match="HEART_PORT"):
            read_settings()


def test_choices_may_be_written_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    """LOG_LEVEL=INFO is how most programs want it."""
    monkeypatch.setenv("HEART_LOG_LEVEL", "WARNING")
    monkeypatch.setenv("HEART_PROVIDER", "CPU")
    settings = from_command_line(["--log-format", "JSON"])
    assert (settings.log_level, settings.provider, settings.log_format) == ("warning", "cpu", "json")


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30) | st.sampled_from(
    ["[", "{}", "null", "-1", "1e999", "NaN", "tcp://", "[" * 10_000, ",", "true", "\n", " 8000 "]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from([*Settings.model_fields]), TEXTS, max_size=3))
def test_a_hostile_environment_gives_settings_or_one_line(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Whatever the variables hold: never a traceback."""
    with monkeypatch.context() as patched:
        for name, text in variables.items():
            patched.setenv(f"HEART_{name.upper()}", text)
        message = ""
        try:
            assert read_settings()
        except SettingsError as error:
            message = str(error)
        assert not message or ("HEART_" in message and "\n" not in message)


def test_null_unsets_an_optional_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEART_VERSION", "3")
    assert from_command_line([]).version == 3
    assert from_command_line(["--version", "null"]).version is None


def test_a_switch_goes_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEART_ACCESS_LOG", "false")
    assert not from_command_line([]).access_log
    assert from_command_line(["--access-log"]).access_log
    assert not from_command_line(["--no-access-log"]).access_log


def test_a_clients_key_comes_from_the_environment_and_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No option takes it: other users can read a command line."""
    assert read_client_key() is None
    monkeypatch.setenv("HEART_KEY", "heart_abc")
    assert read_client_key() == "heart_abc"
    monkeypatch.setenv("HEART_KEY", "heart_abc\r\nX: y")
    with pytest.raises(SettingsError) as caught:
        read_client_key()
    assert "heart_abc" not in str(caught.value)


def test_help_shows_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--help"])
    assert exited.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in shown
        assert str(field.description) in shown
    assert "--max-rows INTEGER" in shown
    assert "[default: 10000]" in shown


def test_an_unknown_option_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--prot", "8000"])
    assert exited.value.code == 2
    assert "--prot" in capsys.readouterr().err


def test_a_wrong_setting_exits_with_1_and_one_line() -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--port", "70000"])
    assert exited.value.code == "service: --port or HEART_PORT: Input should be less than or equal to 65535"
