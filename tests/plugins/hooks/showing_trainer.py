"""A tiny trainer that shows signals of its validations, for the tests of the hook `samples`."""

import torch

from audiozen_core.results.samples import read_samples
from audiozen_plugins.hooks.samples import Samples
from tests.tiny_training import TinyTrainer, make_loader, make_trainer

SR = 16000


def noise(name, seconds=0.05):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    return 0.1 * torch.randn(round(seconds * SR), generator=generator)


class Shows(TinyTrainer):
    """Shows three signals of each validation file. The network changes one of them."""

    seconds = 0.05
    scores = ()

    def prepare_batch(self, batch, mode):
        if mode == "validate":
            batch["noisy"] = torch.stack([noise(id, self.seconds) for id in batch["id"]])
            batch["clean"] = batch["noisy"] / 2
        return batch

    def validation_step(self, batch, batch_idx, dataloader_idx):
        for noisy, clean in zip(batch["noisy"], batch["clean"], strict=True):
            self.show(noisy=noisy, enhanced=self.enhanced(noisy), clean=clean)
        return self._error(batch)

    def enhanced(self, noisy):
        return noisy * self.model[0].weight[0, 0]

    def validation_epoch_end(self, outputs):
        scores = self.scores or [super().validation_epoch_end(outputs)]
        return float(scores[min(self.progress.epoch, len(scores)) - 1])


def train(folder, *, cls=Shows, hooks=None, validation=None, samples=None, **args):
    hook = samples or Samples(count=1)
    trainer = make_trainer(folder, cls=cls, hooks={"samples": hook, **(hooks or {})}, **args)
    trainer.train(make_loader(), [validation or make_loader(shuffle=False)])
    return trainer


def kept(folder):
    return [sample.epoch for sample in read_samples(folder)]
