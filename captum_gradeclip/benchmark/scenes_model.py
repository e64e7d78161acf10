"""The old place of :mod:`captum_gradeclip.experiments.findings`, kept for one version."""

from ..experiments.findings import Finding, evaluate_scenes  # noqa: F401
from ..experiments.findings.pointing import pointing  # noqa: F401
from ..experiments.findings.recognition import retrieval, zero_shot  # noqa: F401
from ..experiments.findings.words import words  # noqa: F401
