"""Our hooks beside the user's: what torch runs, what a copy takes along, what is left."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from captum_gradeclip import ImageTextScore, scenes
from captum_gradeclip.attention import SeeOutputs, is_observed, one_call
from captum_gradeclip.attention.calls import AttentionMode
from captum_gradeclip.attention.hooks import Beside, own_hooks
from captum_gradeclip.attr import GAME


def nothing(*_: object) -> None:
    """A hook of the user."""


def test_a_copy_has_the_hooks_of_the_user_alone() -> None:
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(nothing)
    with SeeOutputs([layer], nothing):
        assert len(layer._forward_hooks) == 2
        buffer = io.BytesIO()
        torch.save(layer, buffer)
        buffer.seek(0)
        twins = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(buffer, weights_only=False)]
    for twin in (*twins, layer):
        assert type(twin._forward_hooks) is OrderedDict
        assert list(twin._forward_hooks.values()) == [nothing]


def test_hooks_that_the_user_adds_or_removes_meanwhile_stay_so() -> None:
    layer = nn.Linear(2, 2)
    before = layer.register_forward_hook(nothing)
    with SeeOutputs([layer], nothing):
        during = layer.register_forward_hook(nothing)
        first = layer.register_forward_pre_hook(nothing, prepend=True, with_kwargs=True)
        before.remove()
        assert before.id not in layer._forward_hooks
    assert list(layer._forward_hooks) == [during.id]
    with SeeOutputs([layer], nothing):
        assert len(layer._forward_hooks) == 2
    during.remove()
    first.remove()
    assert not layer._forward_hooks
    assert not layer._forward_pre_hooks
    assert not is_observed([layer])


def test_two_contexts_on_one_module() -> None:
    layer = nn.Linear(2, 2)
    one, two = SeeOutputs([layer], nothing), SeeOutputs([layer], nothing)
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert isinstance(layer._forward_hooks, Beside)
    assert len(layer._forward_hooks) == 1
    two.__exit__(None, None, None)
    assert type(layer._forward_hooks) is OrderedDict


def test_what_a_call_left_open_is_closed_at_its_end() -> None:
    layer, seen = nn.Linear(2, 2), []

    @one_call
    def leaves() -> None:
        SeeOutputs([layer], lambda *_: seen.append(1)).__enter__()

    leaves()
    layer(torch.zeros(1, 2))
    assert not seen
    assert not layer._forward_hooks


def test_captums_hooks_go_after_an_interrupt() -> None:
    layer = nn.Linear(2, 2)
    own = layer.register_forward_hook(nothing)
    try:
        with own_hooks(layer):
            layer.register_forward_hook(nothing)
            layer.register_forward_pre_hook(nothing, with_kwargs=True)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert list(layer._forward_hooks) == [own.id]
    assert not layer._forward_pre_hooks


def test_copies_while_another_thread_explains() -> None:
    model, _, tokenizer = scenes.load()
    score = ImageTextScore(model, ["a red circle"], tokenizer)
    images, done = torch.rand(2, 3, 64, 64), threading.Event()

    def explain() -> None:
        while not done.is_set():
            GAME.for_score(score).attribute(images, target=0)

    thread = threading.Thread(target=explain)
    thread.start()
    try:
        twins = [pickle.loads(pickle.dumps(model)) if n % 2 else copy.deepcopy(model) for n in range(20)]
    finally:
        done.set()
        thread.join()
    assert not any(part._forward_hooks or part._forward_pre_hooks for twin in twins for part in twin.modules())


class Users(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def stack() -> list[object]:
    return [torch._C._get_function_stack_at(depth) for depth in range(torch._C._len_torch_function_stack())]


def interrupted(taken: int) -> None:
    """An interrupt while torch has some modes off its stack, as it does for a while."""
    with AttentionMode(lambda record: record.value, None):
        for _ in range(taken):
            torch._C._pop_torch_function_stack()
        raise KeyboardInterrupt


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_stack_of_modes_from_which_an_interrupt_took_some_is_restored(taken: int) -> None:
    with Users() as users:
        with pytest.raises(KeyboardInterrupt):
            one_call(interrupted)(taken)
        assert len(stack()) == 1 and stack()[0] is users
    assert not stack()


@pytest.mark.parametrize("taken", [0, 1])
def test_a_mode_takes_nothing_but_itself_off_the_stack(taken: int) -> None:
    with Users() as users:
        with pytest.raises(KeyboardInterrupt):
            interrupted(taken)
        assert len(stack()) == 1 and stack()[0] is users
        with AttentionMode(lambda record: record.value, None):
            torch._C._push_on_torch_function_stack(Users())
        assert len(stack()) == 1 and stack()[0] is users
