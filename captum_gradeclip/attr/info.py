"""What a method declares about itself."""

from __future__ import annotations

from dataclasses import dataclass

from ..former import renamed


class NotDefinedError(ValueError):
    """A method is not defined for this kind of model or input, but another method is."""


@dataclass(frozen=True)
class MethodInfo:
    """What a method declares about itself; the command line, tables, docs and tests follow from it.

    A method is known by the name of its class. The name in here is only printed.

    Attributes:
        name: the method's name as papers print it.
        paper: where the method comes from.
        image: whether it explains images (default True).
        text: whether it explains texts (default False).
        convolutional: whether it explains an attention pool over convolutions (default False).
        cross_attention: whether it explains the keys of attention whose queries are other tokens, as a matching head has it;
            methods that look at no layers need not (default False).
        class_discriminative: whether its map depends on the target (default True).
        stochastic: whether it draws random numbers (default False).
        gradient: whether it differentiates the score (default False).
        layers: number of the last layers of an image tower that it is meant for, at least 0; 0 means all layers
            (default 1).
        text_layers: the same number for a text tower; ``None`` (default) means the number for images.
        needs: names of options that only a caller can give, for example ``("masks",)`` for a method that must be
            given the true masks (default none).
        unit: what the values of its maps are measured in; ``None`` (default) for the unit of the score, which also products
            of its gradient with what the model computed have, or for attention where maps do not depend on the target.

    >>> from captum_gradeclip import GradECLIP
    >>> info = GradECLIP.info
    >>> info.name, info.image, info.text, info.layers, info.text_layers
    ('Grad-ECLIP', True, True, 1, 8)
    """

    name: str
    paper: str
    image: bool = True
    text: bool = False
    convolutional: bool = False
    cross_attention: bool = False
    class_discriminative: bool = True
    stochastic: bool = False
    gradient: bool = False
    layers: int = 1
    text_layers: int | None = None
    needs: tuple[str, ...] = ()
    unit: str | None = None

    @property
    def resnet(self) -> bool:
        """The name of :attr:`convolutional` in version 0.1; it goes with the next version."""
        renamed("MethodInfo.resnet", "MethodInfo.convolutional")
        return self.convolutional

    @property
    def needs_text(self) -> bool:
        """The name of :attr:`class_discriminative` in version 0.1; it goes with the next version."""
        renamed("MethodInfo.needs_text", "MethodInfo.class_discriminative")
        return self.class_discriminative
