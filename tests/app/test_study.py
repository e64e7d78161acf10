"""The study: the protocol of the paper, written out; who is right; the paired test; people who leave."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from captum_gradeclip import ImageTextScore
from captum_gradeclip.adapters.loading import load
from captum_gradeclip.app import study_views
from captum_gradeclip.app.room import Room
from captum_gradeclip.app.study import (
    Pair,
    Reply,
    csv_of,
    outcome,
    pairs_of,
    plan,
    replies_in,
    row_material,
    scene_material,
)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return pairs_of(load("scenes"), scene_material(6), "GradECLIP")


def test_set_one_without_maps_always_comes_first() -> None:
    for participant in range(20):
        asked = plan(participant)
        assert [(one.part, one.example, one.maps) for one in asked] == [
            *[(1, True, False)] * 2,
            *[(1, False, False)] * 5,
            *[(2, True, True)] * 2,
            *[(2, False, True)] * 5,
        ]
        own = [one.picture for one in asked if not one.example]
        assert sorted(own) == list(range(10))  # each picture once, with or without its maps
        assert {one.picture for one in asked if one.example} == {10, 11}


def test_each_picture_stands_equally_often_in_both_sets() -> None:
    """34 participants as in the paper, 10 pictures: 17 times in either set."""
    counts = Counter((one.picture, one.part) for number in range(34) for one in plan(number) if not one.example)
    assert set(counts) == {(picture, part) for picture in range(10) for part in (1, 2)}
    assert set(counts.values()) == {17}
    halves = {
        frozenset(one.picture for one in plan(2 * number) if one.part == 1 and not one.example) for number in range(17)
    }
    assert len(halves) > 10, "the halves are drawn anew, so that no two pictures always stand together"


def test_sides_and_order_are_drawn() -> None:
    swapped = [one.swapped for number in range(100) for one in plan(number) if not one.example]
    assert 0.4 < sum(swapped) / len(swapped) < 0.6
    assert len({tuple(one.picture for one in plan(number)) for number in range(30)}) == 30
    assert plan(7) == plan(7) != plan(7, seed=1)
    for given in ({"pictures": 5}, {"pictures": 0}, {"examples": -1}, {"participant": -1}):
        with pytest.raises(ValueError, match=r"expected (an even number|at least)"):
            plan(**{"participant": 0, **given})


def test_the_higher_caption_is_that_of_the_unmodified_model(pairs: list[Pair]) -> None:
    loaded = load("scenes")
    for one in pairs:
        score = ImageTextScore(loaded.model, list(one.captions), loaded.tokenizer)
        with torch.no_grad():
            expected = score(one.explanation.pictures[0].pixels)[0]
        assert one.scores == pytest.approx(expected.tolist(), abs=1e-5) and one.higher == int(expected.argmax())
    assert {one.higher for one in pairs} == {0, 1}


def sit(room: Room, accuracy: dict[int, list[bool]], leaves: bool = False) -> str:
    """Answers all questions, right where ``accuracy`` says so, and the last one only if the participant stays."""
    token = room.enter()
    turns = {part: iter(several) for part, several in accuracy.items()}
    while (question := room.sitting(token).question) is not None:
        sitting = room.sitting(token)
        page = study_views.question(room, sitting)
        assert (
            page.count("<img") == (3 if question.maps else 1)
            and ("score +" in page or "score -" in page) == question.example
        )
        if question.example:
            room.answer(token, sitting.place, None)
            continue
        pair = room.pairs[question.picture]
        right = study_views.labels(room, sitting).index(pair.captions[pair.higher])
        assert f"{'AB'[right]}:</b> {pair.captions[pair.higher]}" in page
        last = sitting.place == len(sitting.questions) - 1
        if leaves and last:
            return token
        room.answer(token, sitting.place, right if next(turns[question.part]) else 1 - right)
    return token


def test_a_whole_study(pairs: list[Pair], tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    room = Room(pairs, pictures=4, examples=2, answers=file)
    sit(room, {1: [True, False], 2: [True, True]})
    sit(room, {1: [False, False], 2: [True, True]}, leaves=True)  # number 1 is still there
    sit(room, {1: [False, False], 2: [True, False]})
    token = sit(room, {1: [True, True], 2: [True, True]})
    found = room.outcome
    assert found.participants == 3 and found.without == 0.5 and found.with_maps == pytest.approx(5 / 6)
    # Differences 0.5, 0.5, 0: mean 1/3, standard deviation sqrt(1/12), t = (1/3) / sqrt(1/36).
    assert found.test is not None and found.test.statistic == pytest.approx((1 / 3) / math.sqrt((1 / 12) / 3))
    assert str(found).startswith("3 participants: 50.0% right without maps, 83.3% with maps; paired t(2) = 2.000, p = 0.092")
    end = study_views.end(room, room.sitting(token))
    assert "100% of the answers without maps, and in 100% with maps" in end and "answers-3.csv" in end
    assert replies_in(file.read_text()) == room.replies and {one.participant for one in room.replies} == {0, 2, 3}
    assert len(room.replies) == 3 * 4 and all(one.seconds >= 0 for one in room.replies)
    again = Room(pairs, pictures=4, examples=2, answers=file)
    assert again.outcome == found
    with pytest.raises(ValueError, match="are about 'GradECLIP of ', and now it is 'GradECLIP of other'; name another file"):
        Room(pairs, pictures=4, answers=file, model="other")
    with pytest.raises(ValueError, match="answers: those in the file are about other pictures"):
        Room(pairs, pictures=2, answers=file)
    assert again.sitting(again.enter()).participant == 1, "the number of who left is given to another"


def test_the_figures_of_the_paper_are_one_tailed() -> None:
    """Its t(33) = 1.904 has p = 0.0328, which it prints as 0.032, for "maps help"; two-sided it would be 0.066."""
    from scipy import stats

    assert stats.t.sf(1.904, 33) == pytest.approx(0.0328, abs=0.00005)
    replies = [
        Reply(number, part, place, "a", part - 1, "x", "y", 0.1, 0.2, 1, int(part == 2 or place < 2 + number % 2), 1.0)
        for number in range(6)
        for part in (1, 2)
        for place in range(5)
    ]
    found = outcome(replies)
    first, second = (
        [sum(one.right for one in replies if (one.participant, one.part) == (n, part)) for n in range(6)] for part in (1, 2)
    )
    expected = stats.ttest_rel(second, first, alternative="greater")
    assert found.test is not None
    assert (found.test.statistic, found.test.p_value) == pytest.approx((expected.statistic, expected.pvalue))


def test_clicks_that_do_not_count(pairs: list[Pair]) -> None:
    room = Room(pairs, pictures=4, examples=2)
    token = room.enter()
    room.answer(token, 0, None)
    room.answer(token, 0, None)  # twice
    assert room.sitting(token).place == 1
    with pytest.raises(ValueError, match="chosen: expected 0 or 1, and None for an example, got 0"):
        room.answer(token, 1, 0)
    room.answer(token, 1, None)
    with pytest.raises(ValueError, match="got None"):
        room.answer(token, 2, None)
    with pytest.raises(ValueError, match="reload the page"):
        room.answer("guess", 0, 0)
    assert room.replies == [] and room.outcome.participants == 0 and "0 participants" in str(room.outcome)


def test_pictures_that_do_not_suffice(pairs: list[Pair], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 10 pictures and 2 examples, got 6"):
        Room(pairs)
    (tmp_path / "broken.csv").write_text(csv_of([]) + "1,2\n")
    with pytest.raises(ValueError, match="in line 2"):
        Room(pairs, pictures=4, answers=tmp_path / "broken.csv")
    (tmp_path / "other.csv").write_text("name,phone\n")
    with pytest.raises(ValueError, match="got 'name,phone'; name another file"):
        Room(pairs, pictures=4, answers=tmp_path / "other.csv")


def test_pictures_of_your_own(tmp_path: Path) -> None:
    rows = ["image,caption"]
    for color in ("red", "blue", "green"):
        Image.new("RGB", (96, 96), color).save(tmp_path / f"{color}.png")
        rows += [f"{color}.png,something {color}", f"{color}.png,a {color} thing"]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    found = row_material(tmp_path / "rows.csv", 3)
    assert {name for name, _, _ in found} == {"red.png", "blue.png", "green.png"}
    pool = {row.split(",")[1] for row in rows[1:]}
    assert all(set(captions) <= pool and captions[0] != captions[1] for _, _, captions in found)


def test_captions_are_drawn_from_the_whole_data_set() -> None:
    material = scene_material(40)
    assert len({caption for _, _, captions in material for caption in captions}) > 20
    with pytest.raises(ValueError, match="count: expected at least 2"):
        scene_material(1)


def test_hostile_captions_are_escaped(pairs: list[Pair]) -> None:
    from dataclasses import replace

    explanation = replace(pairs[0].explanation, texts=["<script>alert(1)</script>", "b"])
    room = Room([Pair("x", explanation), *pairs[1:]], pictures=4, examples=2)
    for asked in plan(0, 4, 2):
        sitting = SimpleNamespace(question=asked, at=(1, 2), place=0)
        assert "<script" not in study_views.question(room, sitting)  # type: ignore[arg-type]
