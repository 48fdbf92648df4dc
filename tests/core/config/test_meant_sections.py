"""Following a suggestion makes the file better, for every name that older versions and other toolkits use."""

from __future__ import annotations

import re

import pytest

from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.diagnostics.synonyms import SYNONYMS
from audiozen_core.errors import ConfigError
from audiozen_core.kinds import SECTIONS, kind_of
from tests.tiny_experiment import TOML, TinyExperiment

# Other tests cover the same code. Measuring the coverage here too would take longer than the tests themselves.
pytestmark = pytest.mark.no_cover

GAN = TOML.replace("[model]", "[model_g]").replace("[loss_function]", "[loss_function_g]")
GAN = GAN.replace("[optimizer]", "[optimizer_g]").replace("parts.Trainer", "parts.Gan")
PARTS = """
class Gan(Trainer):
    def training_step(self, batch, batch_idx):
        loss = self.loss_functions["g"]
        return {f"loss_{name}": loss(net(batch["x"]), batch["y"]) for name, net in self.models.items()}
"""
SMALL = TOML[: TOML.index("dataloader.batch_size")]
FILES = {"small": SMALL, "full": TOML, "gan": GAN}

BODIES = {
    "model": 'path = "torch.nn.Linear"\nargs = { in_features = 4, out_features = 1 }\n',
    "loss_function": 'path = "torch.nn.L1Loss"\n',
    "optimizer": 'path = "torch.optim.SGD"\n',
    "lr_scheduler": 'path = "torch.optim.lr_scheduler.ExponentialLR"\nargs.gamma = 0.5\n',
    "dataset": 'path = "parts.Data"\n',
    "acoustics": "sr = 8000\n",
    "distributed": "timeout = 60.0\n",
    "launcher": "nodes = 2\n",
    "meta": "seed = 1\n",
    "trainer": 'path = "parts.Trainer"\n',
    "dataloader": "batch_size = 3\n",
    "sampler": 'path = "torch.utils.data.SequentialSampler"\n',
    "collate_fn": 'path = "torch.utils.data.default_collate"\n',
    "metrics": 'path = "si_sdr"\n',
}

OTHERS = """\
acoustic amp augment checkpoint collate_fn criterion_d criterion_g data_loader dataloader dataset_dev
dataset_test dataset_val dev_loader discriminator discriminator_lr_scheduler discriminator_optimizer
early_stopping ema eval_loader generator generator_loss generator_optimizer infer_loader loss_d loss_fn
loss_functions lossfunction metric metrics model_ema models_d modl_d net_d opt_d opt_g optim_g optimiser
optimizer_discriminator optimizer_generator sampler sched_d speech_dataloader train_dataloader train_set
trainers transforms val_loader valid_loader validation_dataset_dns_1 wandb
"""
NAMES = sorted(
    {*OTHERS.split(), *(other for name in SECTIONS for other in SYNONYMS.get(name, "").split())} - set(SECTIONS)
)


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    tiny = TinyExperiment(tmp_path_factory.mktemp("names"), PARTS)

    def check(text, *, sections_only=False):
        """Returns the findings about a file."""
        path = tiny.write(text=text)
        try:
            loaded = load_config(path)
            return loaded.findings if sections_only else check_config(loaded).warnings
        except ConfigError as error:
            return error.diagnostics

    return check


def with_section(text, name, kind):
    """Adds a section, and removes the one of the same kind if the name is to take its place."""
    body = BODIES.get(kind, 'path = "progress"\n')
    header = f"[[{name}]]" if kind == "hooks" else f"[{name}]"
    return f"{text}\n{header}\n{body}"


def suggested(findings, name):
    (finding,) = [found for found in findings if found.code == "AZ101" and f"`{name}`" in found.message]
    match = re.fullmatch(r"did you mean `(.+)`\?", finding.label)
    return match[1] if match else None


def has(text, section):
    return re.search(rf"^\[+{re.escape(section)}\]", text, re.MULTILINE) is not None


@pytest.mark.parametrize("file", ["full", "gan", pytest.param("small", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_following_a_suggestion_leaves_no_mistake(check, file, name):
    text = FILES[file]
    before = check(with_section(text, name, "dataset"), sections_only=True)
    if not any(found.code == "AZ101" for found in before):
        return  # an old name that is still read
    meant = suggested(before, name)
    if meant is None:
        return
    assert not has(text, meant), "the file already has it"
    kind = kind_of(meant.partition(".")[0]).name if "." not in meant else meant.rpartition(".")[2]
    if kind == "metrics":
        return  # a table of metrics must be rewritten anyway
    assert check(with_section(text, meant, kind)) == ()


@pytest.mark.parametrize(
    ("file", "name", "meant"),
    [
        ("full", "sampler", "dataset.dataloader.sampler"),
        ("full", "collate_fn", "dataset.dataloader.collate_fn"),
        ("full", "dataloader", None),
        ("small", "val_loader", None),
        ("full", "val_loader", None),
        ("full", "speech_dataloader", None),
        ("full", "valid_dataset", None),
        ("full", "eval_dataset", None),
        ("full", "dev_dataset", None),
        ("small", "eval_dataset", "validate_dataset"),
        ("full", "dataset_val", None),
        ("full", "train_set", None),
        ("full", "loss_fn", None),
        ("full", "loss_functions", None),
        ("full", "generator_optimizer", None),
        ("gan", "generator_optimizer", None),
        ("full", "discriminator", "model_d"),
        ("gan", "discriminator", "model"),
        ("full", "criterion_d", None),
        ("full", "net_d", "model_d"),
        ("full", "net_work", None),
    ],
)
def test_suggestions_for_one_section(check, file, name, meant):
    assert suggested(check(with_section(FILES[file], name, "dataset"), sections_only=True), name) == meant


def test_section_that_is_already_there_is_named(check):
    (finding,) = check(with_section(TOML, "valid_dataset", "dataset"))
    assert finding.label == (
        "the file already has `[validate_dataset]`; to add a second section, write another `[[validate_dataset]]`"
    )
    (finding,) = check(with_section(TOML, "loss_fn", "loss_function"))
    assert finding.label == "the file already has `[loss_function]`"


def test_networks_of_a_gan_and_their_optimisers_are_suggested_together(check):
    text = TOML + "".join(
        f"\n[{name}]\n{BODIES[kind]}"
        for name, kind in [
            ("discriminator_optimizer", "optimizer"),
            ("discriminator", "model"),
            ("discriminator_loss", "loss_function"),
        ]
    )
    meant = {name: suggested(check(text), name) for name in re.findall(r"^\[(discriminator\w*)\]", text, re.MULTILINE)}
    assert meant == {
        "discriminator_optimizer": "optimizer_d",
        "discriminator": "model_d",
        "discriminator_loss": "loss_function_d",
    }
    for name, section in meant.items():
        text = text.replace(f"[{name}]", f"[{section}]")
    assert check(text) == ()
