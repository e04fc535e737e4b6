"""The key file is re-read when it changes, and ignored while it is invalid."""

import logging
import os
from pathlib import Path

import pytest

from service.__main__ import main
from service.http.api_keys import ApiKeys, ApiKeysError, new_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_a_new_key_is_valid_once_its_line_is_in_the_file(file: Path) -> None:
    """The line does not contain the key; other keys, and the digest itself, are invalid."""
    (key, line), (other, _) = new_key("ward-7"), new_key("ward-7")
    assert key not in line
    file.write_text(f"# the wards\n\n{line}  # since today\n")
    keys = ApiKeys(file)
    found = keys.find(key.encode())
    assert found
    assert (found.name, found.scope) == ("ward-7", "all")
    assert keys.find(key.encode()) == found  # also the second time
    for wrong in (other, key[:-1], key + "x", key.upper(), line.split()[1], "", " " + key):
        assert keys.find(wrong.encode()) is None


def test_a_byte_order_mark_is_not_part_of_the_first_name(file: Path) -> None:
    """Windows editors write one."""
    key, line = new_key("ward-7")
    file.write_text(f"{line}\n", encoding="utf-8-sig")
    found = ApiKeys(file).find(key.encode())
    assert found
    assert found.name == "ward-7"


def test_a_name_may_have_two_keys_during_a_rotation(file: Path) -> None:
    """Each client switches to the new key when it can."""
    (old, first), (young, second) = new_key("ward-7"), new_key("ward-7", "metrics")
    file.write_text(f"{first}\n{second}\n")
    assert [found.scope for key in (old, young) if (found := ApiKeys(file).find(key.encode()))] == ["all", "metrics"]


@pytest.mark.parametrize("how", ["written", "renamed", "linked"])
def test_a_changed_file_is_read_again(file: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Written in place, renamed over, or behind a link, as Kubernetes replaces secrets; a removed key is invalid."""
    (old, first), (young, second) = new_key("old"), new_key("young")
    if how == "linked":
        for folder, line in (("1", first), ("2", second)):
            (file.parent / folder).mkdir()
            (file.parent / folder / "keys").write_text(line)
        (file.parent / "data").symlink_to("1")
        file.symlink_to("data/keys")
    else:
        file.write_text(first)
    keys = ApiKeys(file)
    assert keys.find(old.encode())
    if how == "linked":
        (file.parent / "next").symlink_to("2")
        (file.parent / "next").rename(file.parent / "data")
    elif how == "renamed":
        (file.parent / "next").write_text(second)
        (file.parent / "next").rename(file)
    else:
        file.write_text(second)
        os.utime(file, (1, 1))  # a clock that went back
    keys.refresh()
    assert not keys.find(old.encode())
    assert keys.find(young.encode())
    assert "valid names: young" in caplog.text
    for secret in (old, young, second.split()[1]):
        assert secret not in caplog.text


@pytest.mark.parametrize("broken", ["ward-7 abc", "ward-7", "secret-key-itself", "\0" * 100, "a b c d", None])
def test_an_invalid_file_leaves_the_keys_unchanged_and_is_logged_once(
    file: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a line, a key instead of its digest, a deleted file; the log does not repeat the content."""
    key, line = new_key("ward-7")
    file.write_text(line)
    keys = ApiKeys(file)
    if broken is None:
        file.unlink()
    else:
        file.write_text(f"{line}\n{broken}")
    for _ in range(3):
        keys.refresh()
    assert keys.find(key.encode())
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "secret-key-itself" not in caplog.text
    file.write_text(line)
    keys.refresh()
    assert keys.find(key.encode())


def test_removing_the_last_key_rejects_all_requests(file: Path) -> None:
    """A leaked key must not stay valid because it was the only one."""
    key, line = new_key("ward-7")
    file.write_text(line)
    keys = ApiKeys(file)
    file.write_text(f"# {line}")
    keys.refresh()
    assert keys.find(key.encode()) is None


def test_a_file_that_was_truncated_by_accident_locks_nobody_out(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`: > keys`, or a write that has only begun: the keys stay, and the log says so."""
    key, line = new_key("ward-7")
    file.write_text(line)
    keys = ApiKeys(file)
    file.write_text("")
    keys.refresh()
    assert keys.find(key.encode())
    assert "is empty" in caplog.text
    assert caplog.records[-1].levelno == logging.ERROR


@pytest.mark.parametrize(
    "content", [None, "", "# nobody yet", "ward-7 abc", "x" * (2**20 + 1), "a " + "0" * 64 + "\n" * 2]
)
def test_a_file_needs_a_key_at_start_up(file: Path, content: str | None) -> None:
    """The error is one line that names the file; one valid key is enough."""
    if content is not None:
        file.write_text(content)
    if content and content.startswith("a "):
        assert ApiKeys(file)
        return
    with pytest.raises(ApiKeysError) as caught:
        ApiKeys(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pipe_instead_of_a_file_does_not_block_the_service(file: Path) -> None:
    """Opening a pipe waits for a writer."""
    os.mkfifo(file)
    with pytest.raises(ApiKeysError):
        ApiKeys(file)


def test_a_key_that_is_listed_twice_is_rejected(file: Path) -> None:
    """It would be unclear whose key it is."""
    line = new_key("ward-7")[1]
    file.write_text(f"{line}\n{line.replace('ward-7', 'ward-8')}")
    with pytest.raises(ApiKeysError, match="the same key is listed twice"):
        ApiKeys(file)


def test_the_command_prints_the_line_to_stdout_and_the_key_to_stderr(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So >> appends the line to the file, and the key is shown only this once."""
    main(["key", "prometheus", "metrics"], standalone_mode=False)
    out, err = capsys.readouterr()
    file.write_text(out)
    found = ApiKeys(file).find(err.strip().encode())
    assert found
    assert (found.name, found.scope) == ("prometheus", "metrics")


@pytest.mark.parametrize("arguments", [[], ["two words"], ["a", "root"], ["a", "all", "b"], ["#"], [""]])
def test_the_command_rejects_names_and_scopes_that_are_invalid_in_the_file(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And prints no key."""
    with pytest.raises(SystemExit) as exited:
        main(["key", *arguments])
    assert exited.value.code not in (0, None)
    assert capsys.readouterr().out == ""
