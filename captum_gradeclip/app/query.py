"""The query: everything that a visitor asks for beside the picture itself, with its way into a link and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints
from urllib.parse import parse_qs, urlencode

from ..adapters.base import Foreign
from ..attr import METHODS, GradECLIP, TokenAttribution, find_method
from ..attr.registry import Kind
from ..options import literals
from ..quoting import check_utf8, quoted
from .limits import Limits

Head = Literal["features", "match", "classes"]
"""Which score of a model is explained: of the features of two encoders, of a matching head, or of a classifier."""
MOST_SEED = 10**6
"""The largest seed of a scene."""
_MOST_OF_LINK = 20_000
"""The most letters of a link that are read."""


def choices(option: str) -> list[str]:
    """The values of an option of Grad-ECLIP that give one map for each text.

    >>> choices("heads"), choices("spatial_weight")
    (['single', 'model'], ['loosened', 'softmax', 'none'])
    """
    return [str(one) for one in literals(get_type_hints(GradECLIP.Options)[option]) if one != "each"]


@dataclass(frozen=True)
class Query:
    """What a visitor asks for.

    Attributes:
        texts: what the picture is compared with; of a classifier, names or numbers of classes, or none for the most
            probable ones.
        scene: the seed of the scene that is explained, from 0 to 10^6; ``None`` (default) for an uploaded picture.
        model: the label of the model (default ``"scenes"``).
        methods: ids of methods (default Grad-ECLIP alone).
        layers: how many of the last layers of the image tower; 0 (default) for those that a method is meant for.
        heads: as for Grad-ECLIP (default ``"single"``), for the methods that have this option.
        spatial_weight: likewise (default ``"loosened"``).
        signed: whether what counts against a text is shown as well (default false).
        against: the text that each text is held against; ``None`` (default) for no contrast, ``""`` for no words.
        head: which score (default ``"features"``).

    >>> query = Query(("a red circle", "ü & é"), scene=3, layers=2, against="")
    >>> Query.from_link(query.link()) == query
    True
    """

    texts: tuple[str, ...] = ()
    scene: int | None = None
    model: str = "scenes"
    methods: tuple[str, ...] = (GradECLIP.__name__,)
    layers: int = 0
    heads: str = "single"
    spatial_weight: str = "loosened"
    signed: bool = False
    against: str | None = None
    head: Head = "features"

    def check(self, limits: Limits) -> None:
        """Refuses what lies outside the limits or does not exist, before any work.

        Args:
            limits: how much may be asked for.

        Raises:
            ValueError: naming the field, what was expected and what to do.

        >>> Query().check(Limits())
        Traceback (most recent call last):
        ValueError: texts: expected at least one text, got none; write what to look for, each text on a line of its own
        """
        if not self.texts and self.head != "classes":
            raise ValueError(
                "texts: expected at least one text, got none; write what to look for, each text on a line of its own"
            )
        if len(self.texts) > limits.texts:
            raise ValueError(f"texts: expected at most {limits.texts} lines, got {len(self.texts)}; leave some out")
        for text in (*self.texts, *([] if self.against is None else [self.against])):
            check_utf8("texts", text)
            if len(text) > limits.letters:
                raise ValueError(
                    f"texts: expected at most {limits.letters} letters in a line, got {len(text):,} in {quoted(text, 40)};"
                    " models read a few dozen words, so shorten it"
                )
        if len(set(self.texts)) < len(self.texts):
            raise ValueError("texts: expected each text once, got one twice; remove one of the two")
        if not 1 <= len(self.methods) <= limits.methods:
            raise ValueError(f"methods: expected 1 to {limits.methods} methods, got {len(self.methods)}; choose so many")
        known = [kind.__name__ for kind in METHODS]
        for name in self.methods:
            if name not in known:
                raise ValueError(f"methods: expected some of {', '.join(known)}, got {quoted(name)}")
        for name in ("heads", "spatial_weight"):
            if getattr(self, name) not in choices(name):
                raise ValueError(f"{name}: expected one of {', '.join(choices(name))}, got {quoted(getattr(self, name))}")
        if self.head not in get_args(Head):
            raise ValueError(f"head: expected one of {', '.join(get_args(Head))}, got {quoted(self.head)}")
        if self.scene is not None and not 0 <= self.scene <= MOST_SEED:
            raise ValueError(f"scene: expected a seed from 0 to {MOST_SEED:,}, got {quoted(self.scene)}")
        if self.layers < 0:
            raise ValueError(f"layers: expected 0, for those that a method is meant for, or more, got {quoted(self.layers)}")
        if self.against is not None and self.head == "match":
            raise ValueError(
                "against: a matching head judges each text by itself; explain the features to hold two texts together"
            )

    def kinds(self) -> list[Kind]:
        """The classes of the methods."""
        return [find_method(name) for name in self.methods]

    def options(self, kind: Kind) -> dict[str, Foreign]:
        """The options that a method is given: those of the query that it has.

        Args:
            kind: the method.

        >>> from captum_gradeclip.attr import RISE
        >>> query = Query(("a dog",), heads="model", layers=2)
        >>> query.options(GradECLIP), query.options(RISE)
        ({'heads': 'model', 'layers': 2}, {})
        """
        usual = GradECLIP.Options()
        asked = {"heads": self.heads, "spatial_weight": self.spatial_weight, "relu_attributions": not self.signed}
        own = get_type_hints(kind.Options)
        found: dict[str, Foreign] = {}
        for name, value in asked.items():
            fits = name in own and (not isinstance(value, str) or value in literals(own[name]))
            if fits and value != getattr(usual, name):
                found[name] = value
        if self.layers and issubclass(kind, TokenAttribution):
            found["layers"] = self.layers
        return found

    def link(self) -> str:
        """What stands behind the question mark of an address that brings this query back."""
        told: list[tuple[str, str]] = []
        for one in fields(self):
            value = getattr(self, one.name)
            if value == one.default:
                continue
            several = value if isinstance(value, tuple) else [value]
            told += [(one.name, "1" if each is True else str(each)) for each in several]
        return urlencode(told)

    @classmethod
    def from_link(cls, link: str) -> Query:
        """The query of a link; what is not understood has its default, so that old links still open.

        Args:
            link: what stands behind the question mark, which may stand before it.

        >>> Query.from_link("?texts=a+dog&texts=a+cat&layers=x&scene=7")
        Query(texts=('a dog', 'a cat'), scene=7, model='scenes', methods=('GradECLIP',), layers=0, heads='single', \
spatial_weight='loosened', signed=False, against=None, head='features')
        """
        try:
            told = parse_qs(link[:_MOST_OF_LINK].removeprefix("?"), keep_blank_values=True, max_num_fields=100)
        except ValueError:  # too many fields
            return cls()
        return cls(**_read(told))


def _read(told: Mapping[str, Sequence[str]]) -> dict[str, Foreign]:
    """The fields of a query in what a link holds."""
    found: dict[str, Foreign] = {}
    for name in ("texts", "methods"):
        if several := tuple(one for one in told.get(name, ()) if one.strip()):
            found[name] = several
    for name in ("model", "heads", "spatial_weight", "head", "against"):
        if name in told:
            found[name] = told[name][0]
    for name in ("scene", "layers"):
        given = told.get(name, ("",))[0]
        if given.isascii() and given.isdecimal() and len(given) < 10:
            found[name] = int(given)
    if told.get("signed", ("",))[0] == "1":
        found["signed"] = True
    return found


def lines_of(text: str) -> tuple[str, ...]:
    r"""The texts in what stands in the field of texts: its lines, without those that are empty.

    Args:
        text: what was written.

    >>> lines_of(" a dog \n\n a cat")
    ('a dog', 'a cat')
    """
    return tuple(one.strip() for one in text.splitlines() if one.strip())
