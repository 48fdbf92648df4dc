from __future__ import annotations

import math

import torch

from audiozen_core.binding.signature import signature_of


def test_long_signature_is_shortened_around_the_parameter_to_keep():
    text = signature_of(torch.nn.Transformer).text(keep="bias")
    assert text == "Transformer(d_model=512, nhead=8, num_encoder_layers=6, bias=True, …)"


def test_parameter_to_keep_is_shown_even_if_it_is_too_long():
    name = "width" * 20
    parameters = {"first": 1, name: 2}
    function = eval(f"lambda {', '.join(f'{key}={value}' for key, value in parameters.items())}: None")
    assert signature_of(function).text(keep=name) == f"<lambda>({name}=2, …)"


def test_defaults_with_a_long_or_useless_repr_are_shortened():
    something = object()

    def odd(a=something, b=torch.nn.ReLU, c="x" * 90, d=math.pi, e=len): ...

    assert signature_of(odd).text() == "odd(a=…, b=ReLU, c=…, d=3.141592653589793, e=…)"
