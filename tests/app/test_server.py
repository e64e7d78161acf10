"""Who may reach the page, and the command that shows it."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from captum_gradeclip import cli
from captum_gradeclip.app.server import Place

Told = pytest.CaptureFixture[str]


@pytest.mark.parametrize("given", [{"host": "0.0.0.0"}, {"share": True}, {"host": "192.168.0.3", "share": True}])
def test_others_need_a_password_unless_they_may_all_come(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="password: expected one, since others can reach"):
        Place(**given)
    Place(**given, password="secret")
    Place(**given, open_to_all=True)


def test_passwords_are_compared_whole() -> None:
    place = Place(password="geheim é")
    assert place.allows("", "geheim é") and not any(
        place.allows("a", one) for one in ("", "geheim", "geheim éé", "GEHEIM É")
    )
    assert Place().allows("", "anything")
    with pytest.raises(ValueError, match="at least one letter"):
        Place(password="")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "--password: expected one, since others can reach 0.0.0.0; give a password, or"),
        (["--share"], "--password: expected one, since others can reach a shared page"),
        (["--megabytes", "0"], "--megabytes: expected above 0, got 0"),
        (["--model", "scenes", "--model", "ViT-B-16", "--pretrained", "openai"], "--pretrained: expected one for each of 2"),
        (["--model", "scenes", "--model", "scenes"], "--model: expected at least one model, each given once"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_what_the_command_refuses(arguments: list[str], said: str, capsys: Told) -> None:
    assert cli.main(["app", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_password_is_no_argument(monkeypatch: pytest.MonkeyPatch, capsys: Told) -> None:
    monkeypatch.delenv("GRADECLIP_PASSWORD", raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "")
    assert cli.main(["app", "--password"]) == 2
    assert "--password: expected one, got none; set GRADECLIP_PASSWORD or type it" in capsys.readouterr().err


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Told) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "gradio":
            raise ModuleNotFoundError("No module named 'gradio'", name="gradio")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.delitem(__import__("sys").modules, "captum_gradeclip.app.page", raising=False)
    assert cli.main(["app"]) == 2
    assert "pip install 'captum_gradeclip[app]'" in capsys.readouterr().err
