"""The test kit for plugin authors: tiny experiments, a recorder of hook calls, and conformance checks.

The fixtures `tiny_experiment` and `hook_recorder` need no import: pytest finds them wherever AudioZEN is installed.

    from audiozen.testing import check_model

    def test_model():
        check_model(lambda: Net(bands=4), torch.rand(2, 65, 9))

    def test_training(tiny_experiment):
        outcome = tiny_experiment.set("model", path="acme:net", bands=4).run("train")
        assert outcome.metrics("train/loss")
"""

from audiozen._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
