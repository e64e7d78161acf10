"""The desk: takes what visitors bring, keeps it apart, and hands out what was found."""

from __future__ import annotations

import os
from collections.abc import Iterator

from PIL import Image

from ..quoting import line
from . import views
from .answer import Answer, answer
from .download import files_of
from .limits import Limits
from .models import Models
from .picture import scene_picture, uploaded
from .query import Query
from .store import Store

_GONE = "this page no longer holds it, since others came later; press Explain again"


class Desk:
    """All that the page does, without the page: each visitor holds tokens of the own picture and of the own answer.

    Args:
        models: the models on offer.
        limits: how much a visitor may ask for; ``None`` (default) for the usual limits.

    >>> from captum_gradeclip.app.models import Named
    >>> desk = Desk(Models([Named("scenes")]))
    >>> *_, (token, found) = desk.explain(Query(("a red circle",), scene=3))
    >>> found.texts, "region of a" in desk.word(token, text=0, word=0)
    (['a red circle'], True)
    """

    def __init__(self, models: Models, limits: Limits | None = None) -> None:
        self.models, self.limits = models, limits or Limits()
        self._pictures: Store[tuple[Image.Image, str]] = Store()
        self._answers: Store[Answer] = Store()

    def take(self, path: str | os.PathLike[str], name: str | None = None) -> tuple[str, Image.Image, str]:
        """Takes an uploaded picture.

        Args:
            path: where the server has put it.
            name: what the visitor calls it; ``None`` (default) for the name of the file.

        Returns:
            A token, the picture, and its name as it may be shown.

        Raises:
            ValueError: as :func:`captum_gradeclip.app.picture.uploaded`.
        """
        image = uploaded(path, self.limits, name)
        called = line(os.path.basename(os.fspath(path)) if name is None else name, 60)
        return self._pictures.put((image, called), 3 * image.width * image.height), image, called

    def seen(self, picture: str | None) -> str:
        """The preview of an uploaded picture; nothing if there is none."""
        kept = self._pictures.get(picture)
        return "" if kept is None else views.preview(*kept)

    def explain(self, query: Query, picture: str | None = None) -> Iterator[tuple[str | None, Answer]]:
        """Answers a query, method by method.

        Args:
            query: what is asked for.
            picture: the token of an uploaded picture; ``None`` (default) for a scene.

        Yields:
            The answer so far, and behind the last method its token.

        Raises:
            TypeError, ValueError: saying what cannot be answered.
        """
        query.check(self.limits)
        image, name = self._picture(query, picture)
        loaded = self.models[query.model]
        if query.head not in (heads := self.models.heads(query.model)):
            raise ValueError(
                f"head: the model {query.model} has the scores {', '.join(heads)}, not {query.head}; choose one of them"
            )
        so_far: Answer | None = None
        for so_far in answer(query, loaded, image, name, self.limits):
            if len(so_far.found) < len(query.methods):
                yield None, so_far
        assert so_far is not None, "a query has a method"
        yield self._answers.put(so_far, 3 * image.width * image.height), so_far

    def word(self, token: str | None, text: int, word: int) -> str:
        """The region of a word, see :func:`captum_gradeclip.app.views.region`.

        Raises:
            ValueError: also if the answer is no longer there.
        """
        return views.region(self._answer(token), text, word)

    def result(self, token: str | None, shared: bool) -> str:
        """The maps of an answer, see :func:`captum_gradeclip.app.views.result`; errors as for :meth:`word`."""
        return views.result(self._answer(token), shared)

    def files(self, token: str | None, shared: bool) -> list[tuple[str, bytes]]:
        """The files of an answer, see :func:`captum_gradeclip.app.download.files_of`; errors as for :meth:`word`."""
        found = self._answer(token)
        return files_of(found, self.models.named(found.query.model), "shared" if shared else "each")

    def _picture(self, query: Query, picture: str | None) -> tuple[Image.Image, str]:
        if query.scene is not None:
            return scene_picture(query.scene), f"scene {query.scene}"
        kept = self._pictures.get(picture)
        if kept is None:
            raise ValueError("picture: expected one, got none; upload a picture, or choose a scene")
        return kept

    def _answer(self, token: str | None) -> Answer:
        found = self._answers.get(token)
        if found is None:
            raise ValueError(f"answer: {_GONE}" if token else "answer: there is none yet; press Explain first")
        return found
