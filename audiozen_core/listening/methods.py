"""The two methods of listening tests, with the wording of the scales in the ITU recommendations."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

MethodName = Literal["mushra", "p835"]


@dataclass(frozen=True, slots=True)
class Scale:
    """A rating scale.

    Attributes:
        name: the name in files, which is also the name of the metric.
        label: the name in tables.
        question: the question that the listener answers.
        lead: the beginning of a sentence that the words of a category complete.
        words: the words of the categories, from best to worst.
        low: the lowest rating.
        high: the highest rating.
    """

    name: str
    label: str
    question: str
    lead: str
    words: tuple[str, ...]
    low: int
    high: int

    def to_json(self) -> dict[str, Any]:
        """Returns the attributes for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Method:
    """A method for listening tests.

    Attributes:
        name: the name on the command line.
        label: the name on the page and in tables.
        standard: the ITU recommendation.
        scales: the rating scales.
        training: the maximum number of training trials.
    """

    name: MethodName
    label: str
    standard: str
    scales: tuple[Scale, ...]
    training: int


MUSHRA = Method(
    "mushra",
    "MUSHRA",
    "ITU-R BS.1534-3",
    (
        Scale(
            "mushra",
            "MUSHRA",
            "How close is each recording to the quality of the reference?",
            "",
            ("Excellent", "Good", "Fair", "Poor", "Bad"),
            0,
            100,
        ),
    ),
    training=1,
)

P835 = Method(
    "p835",
    "P.835",
    "ITU-T P.835",
    (
        Scale(
            "signal",
            "speech signal",
            "Attending ONLY to the SPEECH SIGNAL, select the category which best describes the sample you just heard.",
            "The SPEECH SIGNAL in this sample was",
            ("Not distorted", "Slightly distorted", "Somewhat distorted", "Fairly distorted", "Very distorted"),
            1,
            5,
        ),
        Scale(
            "background",
            "background",
            "Attending ONLY to the BACKGROUND, select the category which best describes the sample you just heard.",
            "The BACKGROUND in this sample was",
            (
                "Not noticeable",
                "Slightly noticeable",
                "Noticeable but not intrusive",
                "Somewhat intrusive",
                "Very intrusive",
            ),
            1,
            5,
        ),
        Scale(
            "overall",
            "overall",
            "Select the category which best describes the sample you just heard for purposes of everyday speech "
            "communication.",
            "The OVERALL SPEECH SAMPLE was",
            ("Excellent", "Good", "Fair", "Poor", "Bad"),
            1,
            5,
        ),
    ),
    training=1,
)

METHODS: dict[str, Method] = {method.name: method for method in (MUSHRA, P835)}
