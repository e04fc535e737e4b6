"""A file of keys is read again when it changes, and never believed when it is broken."""

import logging
import os
from pathlib import Path

import pytest

from service.__main__ import main
from service.http.api_keys import ApiKeys, ApiKeysError, new


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the keys will be."""
    return tmp_path / "keys"


def test_a_new_key_is_good_once_its_line_is_in_the_file(file: Path) -> None:
    """The line does not hold the key; another key is not good, nor is what stands in the file."""
    (key, line), (other, _) = new("ward-7"), new("ward-7")
    assert key not in line
    file.write_text(f"# the wards\n\n{line}  # since today\n")
    keys = ApiKeys(file)
    found = keys.find(key.encode())
    assert found
    assert (found.name, found.scope) == ("ward-7", "all")
    assert keys.find(key.encode()) == found  # also the second time
    for wrong in (other, key[:-1], key + "x", key.upper(), line.split()[1], "", " " + key):
        assert keys.find(wrong.encode()) is None


def test_a_name_may_have_two_keys_while_one_takes_over(file: Path) -> None:
    """Clients change to the new one in their own time."""
    (old, first), (young, second) = new("ward-7"), new("ward-7", "metrics")
    file.write_text(f"{first}\n{second}\n")
    assert [found.scope for key in (old, young) if (found := ApiKeys(file).find(key.encode()))] == ["all", "metrics"]


@pytest.mark.parametrize("how", ["written", "renamed", "linked"])
def test_a_changed_file_is_read_again(file: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Written in place, renamed over, or behind a link as Kubernetes swaps secrets; a removed key is good no more."""
    (old, first), (young, second) = new("old"), new("young")
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
    assert "good are now those of young" in caplog.text
    for secret in (old, young, second.split()[1]):
        assert secret not in caplog.text


@pytest.mark.parametrize("broken", ["ward-7 abc", "ward-7", "secret-key-itself", "\0" * 100, "a b c d", None])
def test_a_broken_file_leaves_the_keys_as_they_were_and_says_so_once(
    file: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a line, a key put there itself, no file any more; and what stood in it is not repeated."""
    key, line = new("ward-7")
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


def test_who_removes_the_last_key_lets_nobody_in(file: Path) -> None:
    """A key that leaked must not stay good for being the only one."""
    key, line = new("ward-7")
    file.write_text(line)
    keys = ApiKeys(file)
    file.write_text(f"# {line}")
    keys.refresh()
    assert keys.find(key.encode()) is None


@pytest.mark.parametrize(
    "content", [None, "", "# nobody yet", "ward-7 abc", "x" * (2**20 + 1), "a " + "0" * 64 + "\n" * 2]
)
def test_there_must_be_keys_to_begin_with(file: Path, content: str | None) -> None:
    """In one line that names the file; a file with one good line is enough."""
    if content is not None:
        file.write_text(content)
    if content and content.startswith("a "):
        assert ApiKeys(file)
        return
    with pytest.raises(ApiKeysError) as caught:
        ApiKeys(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pipe_in_place_of_a_file_does_not_stop_the_service(file: Path) -> None:
    """To open one waits for a writer."""
    os.mkfifo(file)
    with pytest.raises(ApiKeysError):
        ApiKeys(file)


def test_the_same_key_twice_is_refused(file: Path) -> None:
    """Whose would it be?"""
    line = new("ward-7")[1]
    file.write_text(f"{line}\n{line.replace('ward-7', 'ward-8')}")
    with pytest.raises(ApiKeysError, match="the same key twice"):
        ApiKeys(file)


def test_the_command_prints_line_and_key_apart(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that >> appends the line to the file, and the key is seen this once."""
    main(["key", "prometheus", "metrics"], standalone_mode=False)
    out, err = capsys.readouterr()
    file.write_text(out)
    found = ApiKeys(file).find(err.strip().encode())
    assert found
    assert (found.name, found.scope) == ("prometheus", "metrics")


@pytest.mark.parametrize("arguments", [[], ["two words"], ["a", "root"], ["a", "all", "b"], ["#"], [""]])
def test_the_command_refuses_what_the_file_could_not_hold(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And prints no key then."""
    with pytest.raises(SystemExit) as exited:
        main(["key", *arguments])
    assert exited.value.code not in (0, None)
    assert capsys.readouterr().out == ""
