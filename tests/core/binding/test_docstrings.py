import torch
from torch import nn

from audiozen_core.binding.docstrings import parameter_docs, summary


def numpy_style(rate, size=3):
    """Does it.

    Parameters
    ----------
    rate : int
        How often,
        in hertz.
    size : int, optional
        How much.

    Returns
    -------
    nothing : None
    """


class Parent(nn.Module):
    """The parent.

    Args:
        size: how much.
        rate: how often.
    """


class Child(Parent):
    """The child: of the parent.

    Args:
        rate (int, optional): how often, in the child;
            seldom.
        **options: the rest: all of it.

    Attributes:
        size: of the child.

    Example:
        >>> value: int = 3
    """


def test_class_docstring_overrides_the_parent_docstring():
    docs = parameter_docs(Child)
    assert docs["rate"] == "how often, in the child; seldom."
    assert docs["options"] == "the rest: all of it."
    assert docs["size"] == "of the child."
    assert parameter_docs(Parent)["size"] == "how much."
    assert "value" not in docs


def test_numpy_style_is_read():
    assert parameter_docs(numpy_style) == {"rate": "How often, in hertz.", "size": "How much."}


def test_torch_docstrings_are_read():
    docs = parameter_docs(torch.optim.Adam)
    assert docs["lr"].startswith("learning rate (default: 1e-3).")
    assert docs["betas"].startswith("coefficients used for computing running averages")
    assert parameter_docs(torch.optim.lr_scheduler.StepLR)["gamma"].startswith("Multiplicative factor")


def test_summary_is_the_first_paragraph():
    assert summary(Child) == "The child: of the parent."
    assert summary(object()) != ""
    assert summary(lambda: None) == ""
