"""The page of explanations, in Gradio; what it does lies in :mod:`captum_gradeclip.app.desk`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import gradio as gr

from ..adapters.base import Foreign
from ..attr import METHODS
from . import views
from .desk import Desk
from .picture import scene_picture, texts_about
from .query import MOST_SEED, Query, choices, lines_of
from .style import CLICK_WORD, READ_ADDRESS, SET_OPACITY, SHOW_REGION, WRITE_ADDRESS

SCENE, UPLOAD = "a drawn scene", "a picture of mine"
_EXPECTED = (OSError, TypeError, ValueError)
_HEADS = {"features": "of two encoders (cosine)", "match": "of the matching head (logit)", "classes": "of a class (logit)"}
_OF_HEADS = {"single": "one head, as in the paper", "model": "the model's own heads"}


def build(desk: Desk) -> Foreign:
    """Builds the page.

    Args:
        desk: takes what visitors bring, and answers.

    Returns:
        The ``gradio.Blocks``, which :func:`captum_gradeclip.app.server.serve` shows.
    """
    labels = desk.models.labels
    first = labels[0]
    heads = desk.models.heads(first)
    with gr.Blocks(title="captum_gradeclip", analytics_enabled=False, delete_cache=(600, 600)) as page:
        gr.Markdown("# Why do an image and a text match?")
        picture, token, link, auto = gr.State(None), gr.State(None), gr.Textbox(visible=False), gr.State(False)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                kind = gr.Radio([SCENE, UPLOAD], value=SCENE, label="picture", elem_id="kind")
                seed = gr.Number(0, label="scene number", precision=0, minimum=0, maximum=MOST_SEED, elem_id="seed")
                file = gr.File(label="picture", visible=False, elem_id="file", height=140)
                preview = gr.HTML(views.preview(scene_picture(0), "scene 0"), elem_id="preview")
                texts = gr.Textbox(
                    "\n".join(texts_about(0)) if heads[0] != "classes" else "",
                    lines=4,
                    max_lines=10,
                    label="texts, one per line",
                    info="" if heads[0] != "classes" else "classes by name or number; none for the most probable ones",
                    elem_id="texts",
                )
                with gr.Row():
                    contrast = gr.Checkbox(False, label="rather than another text", elem_id="contrast", min_width=140)
                    against = gr.Textbox(
                        "", label="B", info="empty: the text without words", visible=False, elem_id="against"
                    )
                button = gr.Button("Explain", variant="primary", elem_id="explain")
                methods = gr.Dropdown(
                    [(one.info.name, one.__name__) for one in METHODS],
                    value=["GradECLIP"],
                    multiselect=True,
                    label="methods",
                    elem_id="methods",
                )
                with gr.Accordion("model, layers, heads, spatial weight", open=len(labels) > 1, elem_id="more"):
                    model = gr.Dropdown(labels, value=first, label="model", elem_id="model")
                    head = gr.Radio([(_HEADS[one], one) for one in heads], value=heads[0], label="score", elem_id="head")
                    layers = gr.Number(0, label="last layers", info="0: as the method is meant", precision=0, minimum=0)
                    of_heads = gr.Radio(
                        [(_OF_HEADS.get(one, one), one) for one in choices("heads")], value="single", label="heads"
                    )
                    weight = gr.Radio(choices("spatial_weight"), value="loosened", label="spatial weight")
                    signed = gr.Checkbox(False, label="also what counts against a text (blue)")
            with gr.Column(scale=5, min_width=320):
                with gr.Row():
                    opacity = gr.Slider(0, 1, 1, step=0.05, label="opacity of the maps", elem_id="opacity")
                    shared = gr.Checkbox(True, label="one color scale for all texts", elem_id="shared")
                result = gr.HTML(
                    '<div class="gradeclip">Choose a picture and texts, and press Explain.</div>',
                    js_on_load=CLICK_WORD,
                    elem_id="result",
                )
                region = gr.HTML("", elem_id="region")
                make = gr.Button("Prepare files to download", size="sm", elem_id="make")
                files = gr.HTML("", elem_id="files")
                shown_link = gr.Textbox("", label="link to this page", interactive=False, buttons=["copy"], elem_id="link")
        asked = [kind, seed, picture, texts, contrast, against, model, methods, layers, of_heads, weight, signed, head]

        def explain(*given: Foreign, progress: Foreign = gr.Progress()) -> Iterator[tuple[Foreign, ...]]:  # noqa: B008
            *values, together = given
            try:
                query, own = _query(*values)
                names = [one.info.name for one in query.kinds()] if query.methods else []
                progress((0, len(names)), desc=names[0] if names else "")
                for number, (found_token, found) in enumerate(desk.explain(query, own), start=1):
                    if found_token is None:
                        progress((number, len(names)), desc=names[number])
                    yield views.result(found, together), "", "", found_token, query.link()
            except _EXPECTED as error:
                yield views.refusal(str(error)), "", "", None, ""

        def take(path: str | None) -> tuple[Foreign, ...]:
            if path is None:
                return None, ""
            try:
                own, image, name = desk.take(path)
            except _EXPECTED as error:
                return None, views.refusal(str(error))
            return own, views.preview(image, name)

        def show_scene(which: str, number: float | None, own: str | None) -> tuple[Foreign, ...]:
            scene = which == SCENE
            sight = gr.update(visible=scene), gr.update(visible=not scene)
            if not scene:
                return *sight, desk.seen(own), gr.skip()
            number = _seed(number)
            about = gr.skip() if heads[0] == "classes" else "\n".join(texts_about(number))
            return *sight, views.preview(scene_picture(number), f"scene {number}"), about

        def choose_model(label: str) -> tuple[Foreign, ...]:
            try:
                found = desk.models.heads(label)
            except _EXPECTED as error:
                raise gr.Error(str(error)) from None
            about = "" if found[0] == "classes" else gr.skip()  # what scenes show is no class
            return gr.update(choices=[(_HEADS[one], one) for one in found], value=found[0]), about

        def click(own: str | None, event: gr.EventData) -> str:
            try:
                return desk.word(own, int(event.text), int(event.word))
            except (AttributeError, *_EXPECTED) as error:
                return views.refusal(str(error))

        def redraw(own: str | None, together: bool) -> Foreign:
            try:
                return desk.result(own, together) if own else gr.skip()
            except _EXPECTED as error:
                return views.refusal(str(error))

        def prepare(own: str | None, together: bool) -> str:
            try:
                return views.links(desk.files(own, together))
            except _EXPECTED as error:
                return views.refusal(str(error))

        def restore(address: str) -> tuple[Foreign, ...]:
            query = Query.from_link(address)
            if query == Query():
                return tuple(gr.skip() for _ in range(15))
            if query.model not in desk.models.labels:
                query = replace(query, model=first)
            offered = desk.models.heads(query.model)
            head_now = query.head if query.head in offered else offered[0]
            scene = query.scene is not None
            if scene and not query.texts and head_now != "classes":
                query = replace(query, texts=tuple(texts_about(_seed(query.scene))))
            sight = (
                views.preview(scene_picture(_seed(query.scene)), f"scene {_seed(query.scene)}")
                if scene
                else views.refusal("picture: that of this link was uploaded and is not part of it; upload it here as well")
            )
            return (
                SCENE if scene else UPLOAD,
                gr.update(value=_seed(query.scene), visible=scene),
                gr.update(visible=not scene),
                sight,
                "\n".join(query.texts),
                query.against is not None,
                gr.update(value=query.against or "", visible=query.against is not None),
                query.model,
                list(query.methods),
                query.layers,
                query.heads if query.heads in choices("heads") else "single",
                query.spatial_weight if query.spatial_weight in choices("spatial_weight") else "loosened",
                query.signed,
                gr.update(choices=[(_HEADS[one], one) for one in offered], value=head_now),
                scene,
            )

        quiet: dict[str, Foreign] = {"api_visibility": "private", "show_progress": "hidden"}
        heavy: dict[str, Foreign] = {
            "api_visibility": "private",
            "concurrency_limit": desk.limits.at_once,
            "concurrency_id": "models",
        }
        outputs = [result, region, files, token, link]
        gr.on(
            [button.click], explain, [*asked, shared], outputs, show_progress_on=result, trigger_mode="once", **heavy
        ).then(None, link, shown_link, js=WRITE_ADDRESS, **quiet)
        file.change(take, file, [picture, preview], api_visibility="private", show_progress_on=preview)
        # What is typed by hand changes the page; what a link restores must not overwrite its texts.
        gr.on([kind.input, seed.input], show_scene, [kind, seed, picture], [seed, file, preview, texts], **quiet)
        model.input(choose_model, model, [head, texts], api_visibility="private")
        contrast.change(lambda on: gr.update(visible=on), contrast, against, **quiet)
        result.click(click, token, region, show_progress_on=region, **heavy).then(None, None, None, js=SHOW_REGION, **quiet)
        shared.input(redraw, [token, shared], result, **quiet)
        opacity.change(None, opacity, None, js=SET_OPACITY, **quiet)
        make.click(prepare, [token, shared], files, show_progress_on=files, **heavy)
        restored = [
            kind,
            seed,
            file,
            preview,
            texts,
            contrast,
            against,
            model,
            methods,
            layers,
            of_heads,
            weight,
            signed,
            head,
        ]
        address = gr.Textbox(visible=False)
        page.load(restore, address, [*restored, auto], js=READ_ADDRESS, **quiet)
        # Only of a page that was opened by a link is this changed, so that no other one waits for its turn.
        auto.change(explain, [*asked, shared], outputs, show_progress_on=result, **heavy).then(
            None, link, shown_link, js=WRITE_ADDRESS, **quiet
        )
    return page


def _query(
    kind: str,
    seed: float | None,
    picture: str | None,
    texts: str,
    contrast: bool,
    against: str,
    model: str,
    methods: list[str],
    layers: float | None,
    heads: str,
    weight: str,
    signed: bool,
    head: Foreign,
) -> tuple[Query, str | None]:
    """The query in the fields of the page, and the token of the picture if it was uploaded."""
    scene = kind == SCENE
    query = Query(
        texts=lines_of(texts or ""),
        scene=_seed(seed) if scene else None,
        model=model,
        methods=tuple(methods or ()),
        layers=int(layers or 0),
        heads=heads,
        spatial_weight=weight,
        signed=bool(signed),
        against=against.strip() if contrast else None,
        head=head,
    )
    return query, None if scene else picture


def _seed(number: float | None) -> int:
    """The seed in a field for numbers, which may be empty."""
    return min(max(int(number or 0), 0), MOST_SEED)
