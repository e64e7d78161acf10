"""The room: where participants of the study sit, each before questions of their own, and where their answers are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from time import monotonic

from ..files import write_text
from ..quoting import quoted
from .store import Store
from .study import EXAMPLES, PICTURES, Outcome, Pair, Question, Reply, csv_of, outcome, plan, replies_in

_PATIENCE = 3600.0
"""Seconds after which a participant who has not come to an end is taken to have left."""
_OTHER = "name another file, or ask as before"


@dataclass
class Sitting:
    """One participant, from the first question to the last.

    Attributes:
        participant: the number.
        questions: the questions in their order, see :func:`captum_gradeclip.app.study.plan`.
        place: how many of them are behind the participant.
        replies: the answers so far.
        asked: when the question at hand was shown, in seconds of :func:`time.monotonic`.
        started: when the participant came in.
    """

    participant: int
    questions: Sequence[Question]
    place: int = 0
    replies: list[Reply] = field(default_factory=list)
    asked: float = field(default_factory=monotonic)
    started: float = field(default_factory=monotonic)

    @property
    def question(self) -> Question | None:
        """The question at hand; ``None`` behind the last one."""
        return self.questions[self.place] if self.place < len(self.questions) else None

    @property
    def at(self) -> tuple[int, int]:
        """The number of the question at hand among those of its set, from 1, and how many there are; examples count 0."""
        now = self.questions[min(self.place, len(self.questions) - 1)]
        of_part = [one for one in self.questions if one.part == now.part and not one.example]
        return (0 if now.example else 1 + of_part.index(now)), len(of_part)


class Room:
    """All participants of one study.

    Args:
        pairs: the pictures with their captions: those that are asked about, and behind them the examples.
        pictures: how many are asked about, an even number (default 10).
        examples: how many examples come before each set (default 2).
        answers: a CSV file that all answers of finished participants are written to, and that an earlier run may have begun;
            ``None`` (default) for none.
        seed: of the plans (default 0).
        model: what the model is called, which answers are kept with (default: nothing).

    Raises:
        ValueError: for fewer pairs than the study needs, a file of other content, or answers to another study.
        OSError: if the file cannot be read.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        pictures: int = PICTURES,
        examples: int = EXAMPLES,
        answers: Path | None = None,
        seed: int = 0,
        model: str = "",
    ) -> None:
        if len(pairs) < pictures + examples:
            raise ValueError(
                f"pairs: expected {pictures} pictures and {examples} examples, got {len(pairs)} with two captions of"
                " different scores; give more pictures, or ask about fewer"
            )
        plan(0, pictures, examples, seed)  # refuses what does not fit
        self.pairs, self.pictures, self.examples, self.seed = list(pairs), pictures, examples, seed
        self.model, self.method = model, self.pairs[0].explanation.method
        self._answers, self._lock = answers, Lock()
        self._sittings = Store[Sitting](most=1000)
        self._present: dict[int, Sitting] = {}
        self._replies = replies_in(answers.read_text()) if answers is not None and answers.exists() else []
        self._check()

    def enter(self) -> str:
        """Gives a participant a seat, and returns the token of it.

        The number is the first that nobody has, so that the numbers of those who left are given to others, and the halves of
        the pictures stay balanced.
        """
        with self._lock:
            now = monotonic()
            taken = self._numbers
            taken |= {number for number, one in self._present.items() if now - one.started < _PATIENCE}
            number = next(one for one in range(len(taken) + 1) if one not in taken)
            sitting = Sitting(number, plan(number, self.pictures, self.examples, self.seed))
            self._present[number] = sitting
            return self._sittings.put(sitting)

    def sitting(self, token: str | None) -> Sitting:
        """The participant of a token.

        Raises:
            ValueError: if there is none.
        """
        found = self._sittings.get(token)
        if found is None:
            raise ValueError("participant: this seat is no longer held; reload the page to begin anew")
        return found

    def answer(self, token: str | None, place: int, chosen: int | None) -> Sitting:
        """Takes the answer to a question, and goes on to the next one.

        Args:
            token: of the participant.
            place: the place of the question that was answered; of another one than that at hand, nothing is taken, since it
                was clicked twice.
            chosen: 0 for the first caption, 1 for the second, ``None`` for an example, which has no answer.

        Returns:
            The participant, with the next question at hand.

        Raises:
            ValueError: if there is no such participant, or an answer of another kind is expected.
            OSError: if the file of answers cannot be written.
        """
        sitting = self.sitting(token)
        with self._lock:
            question, now = sitting.question, monotonic()
            if question is None or place != sitting.place:
                return sitting
            if (chosen is None) != question.example or chosen not in (None, 0, 1):
                raise ValueError(f"chosen: expected 0 or 1, and None for an example, got {quoted(chosen)}")
            if chosen is not None:
                sitting.replies.append(self._reply(sitting, question, chosen, now - sitting.asked))
            sitting.place += 1
            sitting.asked = now
            if sitting.question is None and self._present.get(sitting.participant) is sitting:
                del self._present[sitting.participant]
                self._replies += sitting.replies
                if self._answers is not None:
                    write_text(self._answers, csv_of(self._replies))
        return sitting

    @property
    def replies(self) -> list[Reply]:
        """The answers of all who have finished."""
        with self._lock:
            return list(self._replies)

    @property
    def outcome(self) -> Outcome:
        """What the study has found so far."""
        return outcome(self.replies)

    def _check(self) -> None:
        """Refuses to go on with the answers to another study, which no test could be made of together."""
        names = {one.name for one in self.pairs[: self.pictures]}
        for one in self._replies:
            if (one.model, one.method) != (self.model, self.method):
                there, now = f"{one.method} of {one.model}", f"{self.method} of {self.model}"
                raise ValueError(
                    f"answers: those in the file are about {quoted(there)}, and now it is {quoted(now)}; {_OTHER}"
                )
        kept = {number: {one.picture for one in self._replies if one.participant == number} for number in self._numbers}
        if any(several != names for several in kept.values()):
            raise ValueError(f"answers: those in the file are about other pictures; {_OTHER}")

    @property
    def _numbers(self) -> set[int]:
        return {one.participant for one in self._replies}

    def _reply(self, sitting: Sitting, question: Question, chosen: int, seconds: float) -> Reply:
        pair = self.pairs[question.picture]
        order = (1, 0) if question.swapped else (0, 1)
        return Reply(
            participant=sitting.participant,
            part=question.part,
            position=sitting.at[0] - 1,
            picture=pair.name,
            maps=int(question.maps),
            first=pair.captions[order[0]],
            second=pair.captions[order[1]],
            score_first=pair.scores[order[0]],
            score_second=pair.scores[order[1]],
            chosen=chosen,
            right=int(order[chosen] == pair.higher),
            seconds=round(seconds, 3),
            model=self.model,
            method=self.method,
        )
