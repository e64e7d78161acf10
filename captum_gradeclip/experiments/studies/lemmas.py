"""Lemmas: the forms under which a dictionary may have an English word, by rules of its endings."""

from __future__ import annotations

from collections.abc import Iterator

_IRREGULAR = {
    **dict.fromkeys(("is", "are", "am", "was", "were", "been", "being"), "be"),
    **dict.fromkeys(("has", "had", "having"), "have"),
    **dict.fromkeys(("does", "did", "done"), "do"),
    **dict.fromkeys(("goes", "went", "gone"), "go"),
    **dict.fromkeys(("sat",), "sit"),
    **dict.fromkeys(("ate", "eaten"), "eat"),
    **dict.fromkeys(("held",), "hold"),
    **dict.fromkeys(("laid", "lain", "lying"), "lie"),
    **dict.fromkeys(("stood",), "stand"),
    **dict.fromkeys(("ridden", "rode"), "ride"),
    **dict.fromkeys(("ran",), "run"),
    **dict.fromkeys(("thrown", "threw"), "throw"),
    **dict.fromkeys(("worn", "wore"), "wear"),
    **dict.fromkeys(("made",), "make"),
    **dict.fromkeys(("taken", "took"), "take"),
    **dict.fromkeys(("seen", "saw"), "see"),
    **dict.fromkeys(("flown", "flew"), "fly"),
    **dict.fromkeys(("driven", "drove"), "drive"),
    **dict.fromkeys(("men",), "man"),
    **dict.fromkeys(("women",), "woman"),
    **dict.fromkeys(("children",), "child"),
    **dict.fromkeys(("feet",), "foot"),
    **dict.fromkeys(("teeth",), "tooth"),
    **dict.fromkeys(("geese",), "goose"),
    **dict.fromkeys(("mice",), "mouse"),
    **dict.fromkeys(("knives",), "knife"),
    **dict.fromkeys(("wives",), "wife"),
    **dict.fromkeys(("better", "best"), "good"),
    **dict.fromkeys(("worse", "worst"), "bad"),
    "an": "a",
}
# As dictionaries of English have them: the ending of a form, and what stands in its place in the lemma.
_ENDINGS = (
    *(("ies", "y"), ("ves", "f"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("zes", "z"), ("oes", "o")),
    *(("s", ""), ("es", ""), ("ied", "y"), ("ed", ""), ("ed", "e"), ("ying", "ie"), ("ing", ""), ("ing", "e")),
    *(("iest", "y"), ("est", ""), ("est", "e"), ("ier", "y"), ("er", ""), ("er", "e"), ("'s", "")),
)


def lemmas(word: str) -> Iterator[str]:
    """The lemmas that a word could belong to, the most probable first; which of them exists, a dictionary has to say.

    Args:
        word: a word in lower case.

    >>> list(lemmas("crosses"))[:2], next(lemmas("children")), list(lemmas("sitting"))[:2], list(lemmas("red"))
    (['cross', 'crosse'], 'child', ['sitt', 'sit'], [])
    """
    if word in _IRREGULAR:
        yield _IRREGULAR[word]
    for ending, instead in _ENDINGS:
        stem = word[: -len(ending)]
        if not word.endswith(ending) or len(stem) < 2 or (ending == "s" and word.endswith("ss")):
            continue
        yield stem + instead
        if not instead and len(stem) > 2 and stem[-1] == stem[-2] and ending in ("ed", "ing", "er", "est"):
            yield stem[:-1]
