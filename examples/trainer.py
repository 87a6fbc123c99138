"""Hugging Face's Trainer as a worker: python trainer.py NAME SERVER TEXT, or python trainer.py init MODEL."""

import sys
from functools import partial
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from ostrakon import TransformersCallback, Worker, write_initial


def make_model() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    return GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=64, n_embd=32, n_layer=2, n_head=2))  # bytes


def main(name: str, server: str, path: str) -> None:
    text = torch.tensor(list(Path(path).read_bytes()))
    pieces = [{"input_ids": piece, "labels": piece} for piece in text.split(64) if len(piece) == 64]
    training, others = pieces[: -len(pieces) // 4], torch.stack([one["labels"] for one in pieces[-len(pieces) // 4 :]])
    model = make_model()

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        return model(input_ids=batch, labels=batch).loss

    tls = {"ca": "certificates/ca.pem", "certificate": f"certificates/worker-{name}.pem"}
    with Worker(model, server=server, tls=tls | {"key": f"certificates/worker-{name}.key"}) as worker:
        arguments = TrainingArguments(name, max_steps=worker.rounds, report_to="none", save_strategy="no")
        vote = TransformersCallback(worker, lambda: partial(loss_of, others[torch.randperm(len(others))[:16]]))
        Trainer(model, arguments, train_dataset=training, callbacks=[vote]).train()
    model.save_pretrained(name)


if __name__ == "__main__":
    if sys.argv[1] == "init":
        write_initial(make_model(), sys.argv[2])
    else:
        main(*sys.argv[1:])
