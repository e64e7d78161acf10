"""The questions of the study as HTML. All text is escaped."""

from __future__ import annotations

from html import escape

from .. import show
from ..maps import to_pixels
from ..quoting import legible
from ..show.fonts import shown
from .room import Room, Sitting
from .study import Pair, Question, csv_of, outcome
from .views import data_address, links, shrunk

WELCOME = """
A model looks at a picture and at two captions, and gives each caption a score: the better it finds that caption and picture
match, the higher. **Which of the two captions does the model score higher?** The captions are drawn at random, so that none
of them has to be true of the picture.

There are two rounds. In the first you see the picture and the captions. In the second you also see, for each caption, a map
of what the model looked at: bright places speak for the caption. Before each round come examples with the model's own
scores. Your answers and how long they took are kept under a number, without your name.
"""


def question(room: Room, sitting: Sitting) -> str:
    """The question at hand: the picture with both captions, with maps in Set II, and with scores in an example.

    Args:
        room: the study.
        sitting: the participant, who is not at the end yet.
    """
    asked = sitting.question
    assert asked is not None, "there is a question until the end"
    pair = room.pairs[asked.picture]
    number, many = sitting.at
    place = "an example" if asked.example else f"question {number} of {many}"
    told = "these are the model's scores" if asked.example else "which caption does the model score higher?"
    small = shrunk(pair.explanation.pictures[0].image)
    heading = f"<h3>round {asked.part}, {place}</h3><div class='question'>{told}</div>"
    body = f'<div class="asked"><img src="{data_address(small)}" alt="the picture"></div>'
    captions = "".join(_caption(pair, asked, side, small.size) for side in (0, 1))
    return f'<div class="gradeclip" data-place="{sitting.place}">{heading}<div class="captions">{body}{captions}</div></div>'


def end(room: Room, sitting: Sitting) -> str:
    """What is said behind the last question: the own answers, and what all participants make together.

    Args:
        room: the study.
        sitting: the participant, who is at the end.
    """
    own = outcome(sitting.replies)
    rounds = f"You were right in {own.without:.0%} of the answers without maps, and in {own.with_maps:.0%} with maps."
    every = escape(str(room.outcome))
    files = links([(f"answers-{sitting.participant}.csv", csv_of(sitting.replies).encode())])
    return f'<div class="gradeclip"><h3>Thank you</h3><p>{rounds}</p><p>All so far: {every}.</p>{files}</div>'


def labels(room: Room, sitting: Sitting) -> tuple[str, str]:
    """The captions in the order in which they stand."""
    asked = sitting.question
    assert asked is not None, "there is a question until the end"
    first, second = room.pairs[asked.picture].captions
    return (second, first) if asked.swapped else (first, second)


def _caption(pair: Pair, asked: Question, side: int, size: tuple[int, int]) -> str:
    """A caption, with its map and its score as far as they are shown."""
    which = 1 - side if asked.swapped else side
    explanation, letter = pair.explanation, "AB"[side]
    parts = []
    if asked.maps:
        picture = explanation.pictures[0]
        fine = to_pixels(explanation.maps[0], picture.frame_of(explanation.maps[0]).resized(size))
        scale = show.Scale.of(fine)  # one for both captions
        overlay = show.overlay(
            shrunk(picture.image), fine[which], scale=None if show.flat(fine[which]) is not None else scale
        )
        parts.append(f'<img src="{data_address(overlay)}" alt="map of caption {letter}">')
    parts.append(f'<div dir="auto"><b>{letter}:</b> {escape(legible(shown(pair.captions[which])))}</div>')
    if asked.example:
        higher = ", the higher one" if which == pair.higher else ""
        parts.append(f"<div>score {pair.scores[which]:+.3f}{higher}</div>")
    return f'<div class="asked">{"".join(parts)}</div>'
