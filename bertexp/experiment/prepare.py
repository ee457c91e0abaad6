"""From the configuration to examples: corpus, tokenizer, tokens and task, cached."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any

from rich.console import RenderableType

from bertexp.config import Config
from bertexp.data.cache import cache_root, fingerprint
from bertexp.data.corpora import CORPORA
from bertexp.data.corpora.corpus import CorpusStore
from bertexp.data.corpora.corpus import prepare as prepare_corpus
from bertexp.data.corpora.shard import identity
from bertexp.data.tokens.encoding import TextEncoder
from bertexp.data.tokens.saved import open_tokenizer
from bertexp.data.tokens.store import TokenStore, prepare_tokens
from bertexp.data.tokens.stream import DocumentStream, TokenStream
from bertexp.data.tokens.tokenizer import Tokenizer
from bertexp.data.tokens.training import train_tokenizer
from bertexp.data.tokens.unknown import check_unknown
from bertexp.evaluation.bank import Bank, build_bank
from bertexp.evaluation.evaluator import Evaluator, Source, prepare_evaluators
from bertexp.evaluation.grammar.reading import check_source
from bertexp.evaluation.sizing import CHARACTERS_OF_A_TOKEN
from bertexp.families.architecture import check_fit, read_architecture
from bertexp.families.kind import USE_CHECKPOINT_TOKENIZER
from bertexp.objectives.base import Reference
from bertexp.objectives.examples import Examples
from bertexp.objectives.task import Task
from bertexp.training.machine import cores
from bertexp.training.setup import autocast_type

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """The data for training and evaluation.

    Attributes:
        corpus: the documents; only the first ones of a streamed corpus, as in ``tokens``.
        evaluators: further measurements of the model.
        reference: what is known of all metrics.
    """

    corpus: CorpusStore
    tokenizer: Tokenizer
    tokens: dict[str, TokenStore]
    task: Task
    examples: Examples
    bank: Bank
    evaluators: list[Evaluator]
    reference: Reference

    @property
    def fingerprints(self) -> dict[str, Any]:
        return {
            "corpus": self.corpus.fingerprint,
            "tokenizer": self.tokenizer.fingerprint,
            "tokens": self.tokens["train"].fingerprint,
            "bank": self.reference.fingerprints,
        }

    def details(self, metrics: Mapping[str, float]) -> list[RenderableType]:
        """Return the lines below the table of results."""
        return [*self.bank.details(metrics), *(p for e in self.evaluators for p in e.details())]

    @property
    def summary(self) -> dict[str, Any]:
        """Further measurements for ``summary.json``."""
        return {name: value for e in self.evaluators for name, value in e.summary().items()}


def prepare_tokenizer(config: Config) -> Tokenizer:
    """Prepare only the tokenizer; an existing one needs no corpus."""
    return _existing(config) or train_tokenizer(config.tokenizer, _prepare_corpus(config))


def _existing(config: Config) -> Tokenizer | None:
    own, tokenizer = config.tokenizer, None
    tokens, other = own.vocab_size, f"tokenizer={own.name} tokenizer.vocab_size={own.vocab_size}"
    if own.name == "pretrained":
        path = str(own.path)
        key = "model.pretrained" if path == config.model.pretrained else "tokenizer.path"
        tokenizer = open_tokenizer(path, key, own.lowercase, own.strip_accents)
        tokens = tokenizer.vocab_size
        other = "" if path == config.model.pretrained else f"tokenizer.path={path}"
    if config.model.pretrained:
        named = f"model.pretrained={config.model.pretrained}"
        architecture = read_architecture(config.model.pretrained)
        check_fit(architecture, tokens, named, other, config.model.resize)
        if tokenizer is None:
            log.warning(
                "%s: its embeddings are of other tokens than those that %s trains; %s",
                *(named, f"tokenizer={own.name}", USE_CHECKPOINT_TOKENIZER),
            )
    return tokenizer


def prepare_examples(config: Config, tokenizer: Tokenizer | None = None) -> tuple[Task, Examples]:
    """Prepare only the task and its training examples, see ``prepare_data``."""
    corpus, _, tokens, task = _prepare_text(config, tokenizer)
    return task, _examples(config, corpus, tokens["train"], task)


def prepare_data(config: Config, tokenizer: Tokenizer | None = None) -> Data:
    """Prepare everything but the model, or find it in the cache.

    Args:
        tokenizer: replaces that of ``config.tokenizer``.
    """
    check_source(config.evaluation.minimal_pairs)
    corpus, tokenizer, tokens, task = _prepare_text(config, tokenizer)
    examples = _examples(config, corpus, tokens["train"], task)
    language = CORPORA[config.dataset.name](config.dataset).language()
    bank = build_bank(task.objectives, tokens, config.evaluation, language)
    length = config.task.max_length
    trained = trained_tokens(config, corpus)
    source = Source(
        *(config.evaluation, config.dataset, corpus, tokenizer, tokens, task),
        *(language, length, trained, autocast_type(config.hardware)),
    )
    evaluators = prepare_evaluators(source)
    reference = reduce(or_, (each.reference for each in evaluators), bank.reference)
    return Data(corpus, tokenizer, tokens, task, examples, bank, evaluators, reference)


def trained_tokens(config: Config, corpus: CorpusStore) -> float | None:
    """Return about how many tokens a run trains on, whatever its tokenizer; None if unknown."""
    trainer, whole = config.trainer, corpus.sizes["train"].characters / CHARACTERS_OF_A_TOKEN
    # The end of a stream is unknown, and so is what fits into a time.
    epochs = None if config.dataset.streaming else trainer.epochs
    step = trainer.batch_size * trainer.gradient_accumulation_steps * config.task.max_length
    limits = ((epochs, whole), (trainer.max_steps, step), (trainer.max_tokens, 1))
    return min((number * each for number, each in limits if number is not None), default=None)


def _prepare_text(
    config: Config, tokenizer: Tokenizer | None
) -> tuple[CorpusStore, Tokenizer, dict[str, TokenStore], Task]:
    # First, to find mistakes before the corpus, which may take long, is prepared.
    tokenizer = tokenizer or _existing(config)
    corpus = _prepare_corpus(config)
    tokenizer = tokenizer or train_tokenizer(config.tokenizer, corpus)
    sentences = config.task.sentences if config.task.uses_sentences else None
    tokens = _tokens(config, corpus, tokenizer, sentences)
    for split, store in tokens.items():
        texts = (text for _, text in corpus.paragraphs(split))
        counts_V = store.counts(tokenizer.vocab_size)
        source = f"dataset={config.dataset.name} ({split})"
        check_unknown(counts_V, tokenizer, texts, source, _advice(config, tokenizer))
    return corpus, tokenizer, tokens, Task.of(config.task, tokenizer, config.masking, config.seed)


def _tokens(
    config: Config, corpus: CorpusStore, tokenizer: Tokenizer, sentences: str | None
) -> dict[str, TokenStore]:
    processes = preparation_processes(config)
    return prepare_tokens(corpus, tokenizer, sentences, config.dataset.language, processes)


def _advice(config: Config, tokenizer: Tokenizer) -> str:
    size = config.tokenizer.vocab_size
    if config.model.pretrained:
        return "a checkpoint of this language, or model=tiny tokenizer=wordpiece, knows more"
    if config.tokenizer.name == "pretrained":
        return "tokenizer=wordpiece trains a vocabulary on this corpus"
    if tokenizer.vocab_size < size:
        return "they have characters that no document to train on has"
    return f"a larger tokenizer.vocab_size than {size} has more of them"


def _examples(config: Config, corpus: CorpusStore, tokens: TokenStore, task: Task) -> Examples:
    dataset = config.dataset
    writer = task.writer
    if not dataset.streaming:
        text = tokens
        if config.task.format_sentences:
            # Evaluation is of the text that is not cut, as the cuts may change tokens.
            cut = _tokens(config, corpus, writer.tokenizer, config.task.sentences)
            text = cut["train"]
        return task.marked(task.written(text), tokens)
    source = CORPORA[dataset.name](dataset)
    validation = frozenset(map(identity, corpus.documents("validation")))
    documents = DocumentStream(source.shards(), validation, config.seed)
    encoder = TextEncoder(writer.tokenizer)
    key = [
        *(source.fingerprint(), corpus.fingerprint, writer.tokenizer.fingerprint),
        *(writer.block_tokens, dataset.shuffle_buffer, config.seed),
    ]
    notes = cache_root() / "streams" / f"{fingerprint(key)}.jsonl"
    stream = TokenStream(documents, encoder, writer.block_tokens, dataset.shuffle_buffer, notes)
    return task.marked(writer.write_streamed(stream, dataset.shuffle_buffer), tokens)


def _prepare_corpus(config: Config) -> CorpusStore:
    dataset = config.dataset
    if dataset.streaming:
        dataset = replace(dataset, max_documents=dataset.head_documents)
    return prepare_corpus(dataset, preparation_processes(config))


def preparation_processes(config: Config) -> int:
    """Return how many processes prepare a corpus: by default one for each core."""
    hardware = config.hardware
    return hardware.num_workers or hardware.threads or cores()
