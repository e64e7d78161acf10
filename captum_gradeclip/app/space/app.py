"""The page as a Space: the models in the variable ``GRADECLIP_MODELS``, open to all who reach the Space."""

from __future__ import annotations

import os

from captum_gradeclip.app.desk import Desk
from captum_gradeclip.app.limits import Limits
from captum_gradeclip.app.models import Models, Named
from captum_gradeclip.app.server import Place, ending, serving


def named(told: str) -> list[Named]:
    """The models of a line such as ``scenes, ViT-B-16@openai``: names, each with its weights behind ``@`` if it has some.

    Args:
        told: the line.

    >>> named("scenes, ViT-B-16@openai")
    [Named(name='scenes', pretrained=None), Named(name='ViT-B-16', pretrained='openai')]
    """
    parts = (one.strip().partition("@") for one in told.split(",") if one.strip())
    return [Named(name, tag or None) for name, _, tag in parts]


def main() -> None:
    """Shows the page until the Space stops; the limits are narrower than at home, since the machine is small."""
    desk = Desk(Models(named(os.environ.get("GRADECLIP_MODELS", "scenes"))), Limits(seconds=30))

    def build() -> object:
        from captum_gradeclip.app.page import build

        return build(desk)

    place = Place(host="0.0.0.0", port=int(os.environ.get("PORT", "7860")), open_to_all=True)
    with ending() as wait, serving(build, place, desk.limits):
        wait()


if __name__ == "__main__":
    main()
