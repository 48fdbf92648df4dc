"""Sixty-odd plugins, each broken in a different way, and a hundred good ones: what they publish, and what must be said.

Nothing here needs pytest, so that the benchmark of start-up times uses the same plugins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from audiozen_core.kinds import GROUPS

ANYTHING = ""


@dataclass(frozen=True)
class BadPlugin:
    """One distribution that is broken in one way.

    Attributes:
        name: the distribution. Its module has the same name, with `_` for `-`.
        source: the text of the module.
        entries: the entry points, as `group: name = attribute`, or with a complete value: `group: name = module:attr`.
        use: how a TOML file uses it: overrides for `--set`, or lines to append to the file.
        doctor: what `plugins doctor` says, in part; None if only a run can find out.
        check: what `check` says, in part; None if it finds nothing.
        run: what `run` says, in part; None if the run succeeds, because the fault is undone or concerns nobody.
        command: a command of the plugin, and then `run` is what it says.
        requires: the requirement on AudioZEN.
        version: the version of the distribution.
        named: whether the error of a run names the distribution.
        metadata: files of the metadata that differ from what a build tool writes.
    """

    name: str
    source: str | bytes = ""
    entries: tuple[str, ...] = ()
    use: str = ""
    doctor: str | None = None
    check: str | None = None
    run: str | None = None
    command: str = ""
    requires: str = ""
    version: str = "1.0"
    named: bool = True
    metadata: dict[str, bytes] = field(default_factory=dict)

    @property
    def beside(self) -> str:
        """The name of the plugin that has the same fault from the other side; "" if there is none."""
        left, right = "left", "right"
        return self.name.replace(left, right) if left in self.name else self.name.replace(right, left)

    @property
    def only_warned(self) -> bool:
        """Whether `check` only warns, because the run succeeds."""
        return self.check is not None and self.run is None

    @property
    def distribution(self) -> str:
        return f"acme-{self.name}"

    @property
    def module(self) -> str:
        return self.distribution.replace("-", "_")

    def text(self, toml: str) -> str:
        """Returns the text of a TOML file that uses the plugin."""
        if self.use.startswith("["):
            return f"{toml}{self.use}\n"
        section, _, name = self.use.partition(".path=")
        return re.sub(rf'(?<=\[{section}\]\npath = ")[^"]*', name, toml) if section else toml


def hook(
    name: str, body: str, doctor: str | None, check: str | None, run: str | None, more: str = "", named: bool = True
) -> BadPlugin:
    """A hook plugin: a class whose body is given, used by the TOML file under its own name."""
    source = f"from audiozen import hookimpl\nimport torch\n\n\nclass Hook:\n{_indented(body)}\n{more}\n"
    use = f'[[hooks]]\npath = "{name}"'
    return BadPlugin(name, source, (f"hooks: {name} = Hook",), use, doctor, check, run, named=named)


def answer(hook_name: str, value: str, run: str) -> BadPlugin:
    """A hook plugin that gives a wrong answer, which only a run can find."""
    name = f"answers-{hook_name.replace('_', '-')}"
    return hook(name, f"@hookimpl\ndef {hook_name}(self):\n    return {value}", None, None, run)


def unmarked(name: str, body: str, words: str) -> BadPlugin:
    """A hook plugin with a mistake in its class, which everything finds."""
    return hook(name, body, words, words, words)


def imports(name: str, source: str, words: str) -> BadPlugin:
    """A loss function whose import fails."""
    entries = (f"loss_function: {name} = Loss",)
    return BadPlugin(name, source, entries, f"loss_function.path={name}", words, words, words)


def changes(name: str, source: str, words: str | None) -> BadPlugin:
    """A loss function whose import changes the process. The change is undone and named, and the run succeeds."""
    source = f"import torch\nfrom torch import nn\n{source}\nclass Loss(nn.MSELoss): ...\n"
    entries = (f"loss_function: {name} = Loss",)
    return BadPlugin(name, source, entries, f"loss_function.path={name}", words, words, None)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


NET = "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self, in_features, out_features):\n"
SPECS = "from audiozen import hookspec\nclass Specs:\n    @hookspec\n"
LOSS = "from torch import nn\n\n\nclass Loss(nn.MSELoss): ...\n"

BAD = (
    # ------------------------------------------------------------------ wrong answers of hooks
    answer("stop_reason", "True", "answered `stop_reason` with `True`"),
    answer("stop_within_epoch_reason", "3", "answered `stop_within_epoch_reason` with `3`"),
    answer("backward", "'yes'", "answered `backward` with `'yes'`"),
    answer("autocast", "5", "answered `autocast` with `5`"),
    answer("optimizer_step", "1.0", "answered `optimizer_step` with `1.0`"),
    answer("skip_batch", "'no'", "answered `skip_batch` with `'no'`"),
    answer("skip_checkpoint_reason", "['x']", "answered `skip_checkpoint_reason` with a `list`"),
    answer("epoch_scalars", "[1.0]", "`epoch_scalars`"),
    answer("evaluation_scalars", "{'snr': 'high'}", "`evaluation_scalars`"),
    answer("on_epoch_end", "True", "returned `True` from `on_epoch_end`"),
    answer("on_component_built", "7", "on_component_built"),
    # ------------------------------------------------------------------ classes of hooks
    unmarked("hook-generator", "@hookimpl\ndef on_epoch_end(self):\n    yield", "`on_epoch_end` has a `yield`"),
    unmarked("hook-async", "@hookimpl\nasync def on_epoch_end(self): ...", "`on_epoch_end` is async"),
    unmarked("hook-no-self", "@hookimpl\ndef on_epoch_end(): ...", "`on_epoch_end` has no `self`"),
    unmarked("hook-misspelt", "@hookimpl\ndef on_epoch_ends(self): ...", "`on_epoch_ends` is not a hook"),
    unmarked("hook-argument", "@hookimpl\ndef on_epoch_end(self, epok): ...", "no argument `epok`"),
    unmarked("hook-default", "@hookimpl\ndef on_epoch_end(self, epoch=1): ...", "has a default"),
    unmarked("hook-phase", "phase = 'never'", "`never` is not a phase"),
    unmarked("hook-unmarked", "def on_epoch_end(self): ...", "`on_epoch_end` is not marked as a hook"),
    unmarked("hook-before-number", "before = 5", "`before` is not a tuple"),
    unmarked("hook-try-first", "@hookimpl(tryfirst=True)\ndef on_epoch_end(self): ...", "`tryfirst`"),
    hook("hook-circle", "before = ('progress',)\nafter = ('progress',)", None, "hook-circle", "hook-circle"),
    hook("hook-init", "def __init__(self):\n    1 / 0", None, None, "ZeroDivisionError"),
    hook("hook-phase-raises", "@property\ndef phase(self):\n    1 / 0", None, None, "ZeroDivisionError"),
    hook("hook-before-computed", "def __init__(self):\n    self.before = 5", None, None, "`before`"),
    hook("hook-phase-computed", "def __init__(self):\n    self.phase = 'never'", None, None, "`never`"),
    hook("hook-raises", "@hookimpl\ndef on_epoch_end(self):\n    1 / 0", None, None, "failed in `on_epoch_end`"),
    hook("hook-exits", "@hookimpl\ndef on_epoch_end(self):\n    raise SystemExit(0)", None, None, "on_epoch_end"),
    hook("hook-init-exits", "def __init__(self):\n    raise SystemExit(0)", None, None, "SystemExit"),
    hook(
        "hook-state-number", "def state_dict(self):\n    return 5\ndef load_state_dict(self, state): ...",
        None, None, None,
    ),
    hook(
        "hook-state-object", "def state_dict(self):\n    return {'x': object()}\ndef load_state_dict(self, s): ...",
        None, None, "hook-state-object", named=False,
    ),
    hook(
        "hook-extra", "@hookimpl\ndef on_checkpoint_save(self, extra):\n    extra['x'] = object()", None, None,
        "hook-extra", named=False,
    ),
    hook("hook-default-true", "default = True\n@hookimpl\ndef on_run_start(self):\n    1 / 0", None, None, "ZeroDiv"),
    hook("hook-metaclass", "pass", None, None, None,
         "class Meta(type):\n    def __dir__(self):\n        1 / 0\nclass Hook(metaclass=Meta):\n    pass"),
    # ------------------------------------------------------------------ imports
    imports("import-raises", "1 / 0", "ZeroDivisionError"),
    imports("import-exits", "import sys\nsys.exit(0)", "ends the program while it is imported: sys.exit(0)"),
    imports("import-missing", "import no_such_thing", "no_such_thing"),
    imports("import-syntax", "class Loss(:", "SyntaxError"),
    imports("import-not-utf8", "Loss = '\xe4'".encode("latin-1"), "SyntaxError"),
    imports("import-null", b"Loss\x00 = 1", "null bytes"),
    imports("import-message", "class E(Exception):\n    def __str__(self):\n        1 / 0\nraise E", "E"),
    imports("import-getattr", "def __getattr__(name):\n    1 / 0", "ZeroDivisionError"),
    imports("import-lacks", "", "Loss"),
    imports("import-instance", "class M: ...\nLoss = M()", "is not a class or a function"),
    imports("import-module", "import os as Loss", "module"),
    imports("import-recursion", "def f():\n    f()\nf()", "RecursionError"),
    changes("import-chdir", "import os\nos.chdir('/')", "the working directory"),
    changes("import-dtype", "torch.set_default_dtype(torch.float64)", "torch's default type"),
    changes("import-seed", "torch.manual_seed(5)", "torch's random numbers"),
    changes("import-environment", "import os\nos.environ['OMP_NUM_THREADS'] = '7'", "the environment"),
    changes("import-locale", "import locale\nlocale.setlocale(locale.LC_ALL, 'C.UTF-8')", "the locale"),
    changes("import-signal", "import signal\nsignal.signal(signal.SIGINT, lambda *_: None)", "signal handlers"),
    changes("import-path", "import sys\nsys.path.insert(0, '/nowhere')", "the search path for modules"),
    changes("import-excepthook", "import sys\nsys.excepthook = print", "how uncaught exceptions are shown"),
    changes("import-warnings", "import warnings\nwarnings.simplefilter('error')", "the filters of warnings"),
    changes("import-errstate", "import numpy\nnumpy.seterr(all='raise')", "NumPy's floating-point errors"),
    changes("import-prints", "print('hello')", "standard output"),
    changes("import-stdout", "import sys\nsys.stdout.close()", None),
    changes("import-stdout-set", "import sys, io\nsys.stdout = io.StringIO()", None),
    # ------------------------------------------------------------------ objects that their group does not accept
    BadPlugin("value-no-module", "", ("loss_function: value-no-module = nowhere_at_all:Loss",),
              "loss_function.path=value-no-module", "nowhere_at_all", "nowhere_at_all", "nowhere_at_all"),
    BadPlugin("value-dots", "", ("loss_function: value-dots = ..value:Loss",),
              "loss_function.path=value-dots", "value-dots", "value-dots", "value-dots"),
    BadPlugin("value-no-name", "", ("loss_function: value-no-name = :Loss",),
              "loss_function.path=value-no-name", "value-no-name", "value-no-name", "value-no-name"),
    BadPlugin("value-call", LOSS, ("loss_function: value-call = acme_value_call:Loss()",),
              "loss_function.path=value-call", "value-call", "value-call", "value-call"),
    BadPlugin("kind-model", "class Net: ...", ("model: kind-model = Net",), "model.path=kind-model",
              "not a subclass", "not a subclass", "not a subclass"),
    BadPlugin("kind-trainer", "def trainer(): ...", ("trainer: kind-trainer = trainer",), "trainer.path=kind-trainer",
              "not a class", "not a class", "not a class"),
    BadPlugin("kind-optimizer", "from torch.nn import Linear", ("optimizer: kind-optimizer = Linear",),
              "optimizer.path=kind-optimizer", "is not an optimiser", "is not an optimiser", "is not an optimiser"),
    BadPlugin("kind-abstract", "import abc\nclass Loss(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...",
              ("loss_function: kind-abstract = Loss",), "loss_function.path=kind-abstract",
              "is abstract", "is abstract", "is abstract"),
    BadPlugin("signature-number", f"{LOSS}\nLoss.__signature__ = 5", ("loss_function: signature-number = Loss",),
              "loss_function.path=signature-number", None, None, None),
    BadPlugin("signature-raises", "class Meta(type):\n    @property\n    def __signature__(cls):\n        1 / 0\n"
              "class Loss(metaclass=Meta):\n    def __call__(self, a, b):\n        return ((a - b) ** 2).mean()",
              ("loss_function: signature-raises = Loss",), "loss_function.path=signature-raises", None, None, None),
    BadPlugin("annotation-raises", "from __future__ import annotations\nfrom torch import nn\nclass Loss(nn.MSELoss):\n"
              "    def __init__(self, a: 1 / 0 = 1):\n        super().__init__()",
              ("loss_function: annotation-raises = Loss",), "loss_function.path=annotation-raises", None, None, None),
    BadPlugin("settings-raise", f"{LOSS}\ndef check_settings(*args, **kwargs):\n    1 / 0\n"
              "Loss.check_settings = check_settings", ("loss_function: settings-raise = Loss",),
              "loss_function.path=settings-raise", None, "ZeroDivisionError", None),
    BadPlugin("settings-exit", f"{LOSS}\ndef check_settings(*args, **kwargs):\n    raise SystemExit(0)\n"
              "Loss.check_settings = check_settings", ("loss_function: settings-exit = Loss",),
              "loss_function.path=settings-exit", None, "SystemExit", None),
    BadPlugin("attribute-raises", "class Meta(type):\n    def __getattr__(cls, name):\n        1 / 0\n"
              "class Loss(metaclass=Meta):\n    def __call__(self, a, b):\n        return ((a - b) ** 2).mean()",
              ("loss_function: attribute-raises = Loss",), "loss_function.path=attribute-raises",
              None, "ZeroDivisionError", None),
    BadPlugin("loss-raises", f"{LOSS}    \ndef forward(self, a, b):\n    1 / 0\nLoss.forward = forward",
              ("loss_function: loss-raises = Loss",), "loss_function.path=loss-raises", None, None, "ZeroDivision"),
    BadPlugin("loss-number", f"{LOSS}    \ndef forward(self, a, b):\n    return 5.0\nLoss.forward = forward",
              ("loss_function: loss-number = Loss",), "loss_function.path=loss-number", None, None, "is a float"),
    BadPlugin("model-init", f"{NET}        1 / 0",
              ("model: model-init = Net",), "model.path=model-init", None, None, "ZeroDivisionError"),
    BadPlugin("model-no-super", f"{NET}        pass",
              ("model: model-no-super = Net",), "model.path=model-no-super", None, None,
              "does not call `super().__init__()`"),
    # ------------------------------------------------------------------ sections
    BadPlugin("section-number", "Settings = 5", ("section: section-number = Settings",), "[section-number]\nx = 1",
              "not a dataclass", "not a dataclass", "not a dataclass"),
    BadPlugin("section-taken", "from dataclasses import dataclass\n@dataclass\nclass S:\n    x: int = 1",
              ("section: model = S",), "", "has the name of one of AudioZEN's own"),
    BadPlugin("section-raises", "from dataclasses import dataclass\n@dataclass\nclass S:\n    x: int = 1\n"
              "    def __post_init__(self):\n        1 / 0", ("section: section-raises = S",),
              "[section-raises]\nx = 1", None, "ZeroDivisionError", "ZeroDivisionError"),
    BadPlugin("section-exits", "from dataclasses import dataclass\n@dataclass\nclass S:\n    x: int = 1\n"
              "    def __post_init__(self):\n        raise SystemExit(0)", ("section: section-exits = S",),
              "[section-exits]\nx = 1", None, "SystemExit", "SystemExit"),
    BadPlugin("section-import", "import sys\nsys.exit(0)", ("section: section-import = S",), "[section-import]\nx = 1",
              "sys.exit(0)", "sys.exit(0)", "sys.exit(0)"),
    BadPlugin("section-annotation", "from __future__ import annotations\n"
              "from dataclasses import dataclass\n@dataclass\n"
              "class S:\n    x: Nothing | 5 = 1", ("section: section-annotation = S",),
              "[section-annotation]\nx = 1", None, None, None),
    # ------------------------------------------------------------------ specs of hooks
    BadPlugin("specs-number", "Specs = 5", ("hookspecs: specs-number = Specs",), "", "has no hook"),
    BadPlugin("specs-ours", f"{SPECS}    def on_epoch_end(self): ...",
              ("hookspecs: specs-ours = Specs",), "", "`on_epoch_end` is one of AudioZEN's own hooks"),
    BadPlugin("specs-import", "import sys\nsys.exit(0)", ("hookspecs: specs-import = Specs",), "", "sys.exit(0)"),
    BadPlugin("specs-left", f"{SPECS}    def acme_x(self) -> None: ...",
              ("hookspecs: specs-left = Specs",), "", "the hook `acme_x` belongs to"),
    BadPlugin("specs-right", f"{SPECS}    def acme_x(self) -> None: ...",
              ("hookspecs: specs-right = Specs",), "", "the hook `acme_x` belongs to"),
    # ------------------------------------------------------------------ commands
    BadPlugin("command-run", "import click\ncommand = click.Command('x')", ("commands: run = command",), "",
              "has the name of one of AudioZEN's own"),
    BadPlugin("command-number", "command = 5", ("commands: command-number = command",), "", "not a click command",
              command="command-number", run="not a click command"),
    BadPlugin("command-raises", "import click\n@click.command()\ndef command():\n    1 / 0",
              ("commands: command-raises = command",), "", None, command="command-raises", run="ZeroDivisionError"),
    BadPlugin("command-import", "import sys\nsys.exit(0)", ("commands: command-import = command",), "", "sys.exit(0)",
              command="command-import", run="sys.exit(0)"),
    # ------------------------------------------------------------------ names
    BadPlugin("name-space", LOSS, ("loss_function: with space = Loss",), "", "can name"),
    BadPlugin("name-slash", LOSS, ("loss_function: x/y = Loss",), "", "can name"),
    BadPlugin("name-colon", LOSS, ("loss_function: with:colon = Loss",), "", "can name"),
    BadPlugin("name-dash", LOSS, ("loss_function: --help = Loss",), "", "can name"),
    BadPlugin("name-sdnn", "1 / 0", ("model: sdnn = Net",), "", "the model `sdnn` is published by"),
    BadPlugin("name-progress", "1 / 0", ("hooks: progress = Hook",), "", "`progress` is published by"),
    BadPlugin("name-left", LOSS, ("loss_function: twice = Loss",), "loss_function.path=twice", "acme-name-right:twice",
              "acme-name-right:twice", "acme-name-right:twice"),
    BadPlugin("name-right", LOSS, ("loss_function: twice = Loss",), "loss_function.path=twice", "acme-name-left:twice",
              "acme-name-left:twice", "acme-name-left:twice"),
    BadPlugin("name-pytest", "import pytest_of_nobody", ("model: test_model = Test", "hooks: conftest = Test"),
              "model.path=test_model", "pytest_of_nobody", "pytest_of_nobody", "pytest_of_nobody"),
    # ------------------------------------------------------------------ metadata
    BadPlugin("group-unknown", LOSS, ("loss: group-unknown = Loss",), "loss_function.path=group-unknown",
              "did you mean `audiozen.loss_function`", "group-unknown", "group-unknown"),
    BadPlugin("group-stray", LOSS, (), "", "did you mean `audiozen.model`",
              metadata={"entry_points.txt": b"[audiozen_models]\nx = acme_group_stray:Loss\n"}),
    BadPlugin("needs-newer", LOSS, ("loss_function: needs-newer = Loss",), "loss_function.path=needs-newer",
              "requires audiozen>=7", "requires audiozen>=7", "requires audiozen>=7", requires="audiozen>=7"),
    BadPlugin("metadata-latin1", LOSS, (), "", "can't be read",
              metadata={"METADATA": "Name: acme-metadata-latin1\nVersion: 1\nAuthor: J\xe4ger\n\n".encode("latin-1"),
                        "entry_points.txt": b"[audiozen.loss_function]\nl1 = acme_metadata_latin1:Loss\n"}),
    BadPlugin("metadata-nameless", LOSS, (), "", "it has no name",
              metadata={"METADATA": b"Version: 1\n\n",
                        "entry_points.txt": b"[audiozen.loss_function]\nl2 = acme_metadata_nameless:Loss\n"}),
    BadPlugin("metadata-empty", LOSS, (), "", "it has no name",
              metadata={"METADATA": b"",
                        "entry_points.txt": b"[audiozen.loss_function]\nl3 = acme_metadata_empty:Loss\n"}),
    BadPlugin("metadata-bom", LOSS, (), "", "metadata-bom",
              metadata={"entry_points.txt": b"\xef\xbb\xbf[audiozen.loss_functions]\nl4 = acme_metadata_bom:Loss\n"}),
    BadPlugin("metadata-twice", LOSS, (), "loss_function.path=l5", "has two entry points `l5`",
              metadata={"entry_points.txt": b"[audiozen.loss_function]\n"
                        b"l5 = acme_metadata_twice:Loss\nl5 = nowhere:Loss\n"}),
    BadPlugin("metadata-ours", "class Hook:\n    default = True\n    def __init__(self):\n        1 / 0", (), "",
              "it says that it belongs to `audiozen`",
              metadata={"METADATA": b"Metadata-Version: 2.1\nName: audiozen\nVersion: 9.0\n\n",
                        "entry_points.txt": b"[audiozen.hooks]\nthief = acme_metadata_ours:Hook\n"
                        b"[audiozen.model]\nsdnn = acme_metadata_ours:Hook\n"}),
    BadPlugin("metadata-line", LOSS, (), "", "is not `name = module:attribute`",
              metadata={"entry_points.txt": b"[audiozen.loss_function]\nnonsense\n"}),
)  # fmt: skip


def install_all(site: Path, *, good: int = 100, bad: tuple[BadPlugin, ...] = BAD) -> None:
    """Writes the modules and the metadata of plugins into a folder."""
    for plugin in bad:
        install_bad(site, plugin)
    kinds = [kind for kind in GROUPS if kind in GOOD]
    for number in range(good):
        kind = kinds[number % len(kinds)]
        install_bad(site, BadPlugin(f"good-{number}", GOOD[kind], (f"{kind}: good-{number} = Thing",)))


GOOD = {
    "model": "from torch import nn\nclass Thing(nn.Linear): ...",
    "loss_function": "from torch import nn\nclass Thing(nn.MSELoss): ...",
    "hooks": "from audiozen import hookimpl\nclass Thing:\n    default = True\n"
    "    @hookimpl\n    def on_epoch_end(self): ...",
    "commands": "import click\n@click.command()\ndef Thing(): ...",
    "section": "from dataclasses import dataclass\n@dataclass\nclass Thing:\n    x: int = 1",
}


def install_bad(site: Path, plugin: BadPlugin) -> None:
    """Writes the module and the metadata of one plugin into a folder."""
    source = plugin.source if isinstance(plugin.source, bytes) else plugin.source.encode()
    (site / f"{plugin.module}.py").write_bytes(source)
    folder = site / f"{plugin.module}-{plugin.version}.dist-info"
    folder.mkdir()
    needs = f"Requires-Dist: {plugin.requires}\n" if plugin.requires else ""
    readme = "".join(f"Line {number} of what a README says about the plugin.\n" for number in range(60))
    headers = f"Metadata-Version: 2.1\nName: {plugin.distribution}\nVersion: {plugin.version}\n{needs}\n{readme}"
    files = {"METADATA": headers.encode(), "entry_points.txt": "".join(_lines(plugin)).encode(), **plugin.metadata}
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _lines(plugin: BadPlugin) -> Iterator[str]:
    for entry in plugin.entries:
        group, _, rest = entry.partition(": ")
        name, _, value = rest.partition(" = ")
        yield f"[audiozen.{group}]\n{name} = {value if ':' in value else f'{plugin.module}:{value}'}\n"
