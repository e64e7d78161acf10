"""The page of the study, in Gradio; what it does lies in :mod:`captum_gradeclip.app.room`."""

from __future__ import annotations

import gradio as gr

from ..adapters.base import Foreign
from ..quoting import line
from . import views
from .room import Room
from .study_views import WELCOME, end, labels, question


def build(room: Room) -> Foreign:
    """Builds the page of a study.

    Args:
        room: where the participants sit.

    Returns:
        The ``gradio.Blocks``, which :func:`captum_gradeclip.app.server.serving` shows.
    """
    with gr.Blocks(title="which caption?", analytics_enabled=False) as page:
        gr.Markdown("# Which caption does the model score higher?")
        token, place = gr.State(None), gr.State(0)
        welcome = gr.Markdown(WELCOME)
        begin = gr.Button("Begin", variant="primary", elem_id="begin")
        sight = gr.HTML("", elem_id="question", visible=False)
        with gr.Row(visible=False) as choice:
            first = gr.Button("A", elem_id="first", min_width=140)
            second = gr.Button("B", elem_id="second", min_width=140)
        onward = gr.Button("Next", variant="primary", visible=False, elem_id="onward")
        outputs = [token, place, welcome, begin, sight, choice, first, second, onward]

        def show(own: str | None) -> tuple[Foreign, ...]:
            hidden = gr.update(visible=False)
            try:
                sitting = room.sitting(own)
            except ValueError as error:
                return own, 0, hidden, hidden, gr.update(value=views.refusal(str(error)), visible=True), *[hidden] * 4
            if sitting.question is None:
                return own, sitting.place, hidden, hidden, gr.update(value=end(room, sitting), visible=True), *[hidden] * 4
            example = sitting.question.example
            one, other = (f"{letter}: {line(text, 200)}" for letter, text in zip("AB", labels(room, sitting)))
            return (
                own,
                sitting.place,
                hidden,
                hidden,
                gr.update(value=question(room, sitting), visible=True),
                gr.update(visible=not example),
                gr.update(value=one),
                gr.update(value=other),
                gr.update(visible=example),
            )

        def start() -> tuple[Foreign, ...]:
            return show(room.enter())

        def answered(chosen: int | None) -> Foreign:
            def reply(own: str | None, at: int) -> tuple[Foreign, ...]:
                try:
                    room.answer(own, at, chosen)
                except (OSError, ValueError) as error:
                    raise gr.Error(line(str(error), 300)) from None
                return show(own)

            return reply

        quiet: dict[str, Foreign] = {"api_visibility": "private", "show_progress": "hidden"}
        begin.click(start, None, outputs, **quiet)
        first.click(answered(0), [token, place], outputs, **quiet)
        second.click(answered(1), [token, place], outputs, **quiet)
        onward.click(answered(None), [token, place], outputs, **quiet)
    return page
