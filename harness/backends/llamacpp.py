"""GGUF files as they are stored, through llama.cpp in this process.

What goes to the model is what the local backend sends: our text, encoded by our rules, stopped by
our rules and sampled by our noise. Only the logits are llama.cpp's, computed from the quantised
weights with its own kernels.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from harness.backends.llama_context import LlamaContext, LlamaModel, library, version
from harness.backends.llama_rows import Rows
from harness.backends.local.backend import ENGINE_VERSION, InProcessBackend, isolated
from harness.backends.local.decoding import Decoder, DecodingRow
from harness.backends.local.off_script import off_script_mass
from harness.backends.local.packing import Pack, pack
from harness.backends.local.room import Room
from harness.backends.local.scoring import EncodedRequest
from harness.backends.protocol import (
    Answers,
    ModelSpec,
    ScoreRequest,
    Scorings,
)
from harness.errors import HarnessError
from harness.extras import require
from harness.models import LoadedModel, ModelSource, load_tokenizer, locate
from harness.records import Loglikelihood

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Tokens of answers and prompts that share a KV cache. Wider packs share more of a beginning, but
#: each token looks at every cell.
_PACK = 512
#: Branches of one tree, for each of which llama.cpp keeps room for logits.
_SEQUENCES = 64
#: Cells of a sequence are a multiple of this in llama.cpp.
_ROUND = 256
#: Text on which tokenizers differ: numbers, contractions, spaces, scripts, a line break.
_PROBE = "In 2024 it's 3.14159…  don't\n\n\tif (x[10] != y) { return; }\nÜber Größe, 漢字 мир"


def open_backend(
    model: ModelSpec,
    *,
    tokenizer: str = "",
    gpu_layers: int | str = -1,
    threads: int | str = 0,
    budget: int | str = 16384,
) -> LlamaCppBackend:
    """Load a GGUF file. ``tokenizer`` is a folder with the model's own, in place of the file's.

    Layers run on a GPU where the package was built for one; ``threads`` are torch's by default.
    ``budget`` limits the tokens that are held at a time. Raises HarnessError for anything that is
    no GGUF file, and for an adapter or quantisation of the local backend.
    """
    library()
    source = locate(model.model)
    if source.gguf is None:
        raise HarnessError(
            "llama.cpp runs GGUF files only", where=model.model, hint="leave --engine llamacpp out"
        )
    for given, flag in (
        (model.adapter, "--adapter"),
        (model.quantisation, "--load-in-4bit and --load-in-8bit"),
        (model.dtype != "auto", "--dtype"),
    ):
        if given:
            raise HarnessError(
                f"llama.cpp runs a file as it is: {flag} has no effect there",
                where=model.model,
                hint="--engine local dequantises the file",
            )
    require("gguf", "a GGUF file", model.model)  # for its tokenizer
    import torch

    weights = LlamaModel(
        source.file,
        gpu_layers=_number("gpu_layers", gpu_layers, -1),
        threads=_number("threads", threads, 0) or torch.get_num_threads(),
    )
    ours = _tokenizer_of(tokenizer) if tokenizer else load_tokenizer(source)
    _check_tokenizer(ours, weights, source.file)
    return LlamaCppBackend(source, ours, weights, budget=_number("budget", budget, 256))


def _number(name: str, value: int | str, least: int) -> int:
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if number < least:
        raise HarnessError(
            f"invalid --engine-option {name}={value}: expected a whole number of at least {least}"
        )
    return number


def _tokenizer_of(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, which need not hold a model's configuration."""
    from transformers import PreTrainedConfig

    config = None if (Path(folder) / "config.json").is_file() else PreTrainedConfig()
    return load_tokenizer(ModelSource(Path(folder).name, folder, None, ""), config)


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, weights: LlamaModel, where: str) -> None:
    """Print a note where ids differ from llama.cpp's; refuse ids that the model does not have."""
    hint = "--engine-option tokenizer=FOLDER takes the tokenizer of the original model"
    if len(tokenizer) > weights.vocabulary_size:
        raise HarnessError(
            f"the tokenizer has {len(tokenizer)} tokens and the model {weights.vocabulary_size}",
            where=where,
            hint=hint,
        )
    if tokenizer(_PROBE, add_special_tokens=False).input_ids != weights.tokenize(_PROBE):
        print(f"note: {where}: llama.cpp tokenises its text differently; {hint}", file=sys.stderr)


class LlamaCppBackend(InProcessBackend):
    """Scores and generates with a GGUF model.

    ``budget`` limits the tokens held at a time, ``most`` the rows decoded at a time.
    """

    def __init__(
        self,
        source: ModelSource,
        tokenizer: PreTrainedTokenizerBase,
        weights: LlamaModel,
        *,
        budget: int = 16384,
        most: int = 64,
    ) -> None:
        self.weights = weights
        self.budget = budget
        self.most = most
        self.loaded = _described(source, tokenizer, weights)
        self._context: tuple[tuple[int, int, bool], LlamaContext] | None = None

    @property
    def fingerprint(self) -> dict[str, str]:
        return {
            "backend": f"llama.cpp-{version()}",
            "engine_version": str(ENGINE_VERSION),
            "model": self.loaded.digest,
            "adapter": "",
            "tokenizer": self.loaded.tokenizer_digest,
            "dtype": self.weights.quantisation,
            "device": self.loaded.device,
        }

    def _decoder(self) -> Decoder:
        return _RowDecoder(self)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scorings]:
        """Log-probabilities of the answers' own words.

        A beginning that several answers or requests share is computed once, where the model has no
        states. A request that does not fit into the model's window is left out.
        """
        yield from isolated(requests, self._score)

    def _score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scorings]:
        encoded = (EncodedRequest.of(request, self.loaded) for request in requests)
        items = [item for item in encoded if item.width <= self.weights.window]
        for tree in pack([item.ids for item in items], _PACK) if items else []:
            batch = [items[number] for number in tree.groups]
            members = _members(tree)
            if self.weights.keeps_states or max(each[-1] for each in members) >= self._sequences:
                results = [self._score_alone(item) for item in batch]
            else:
                results = self._score_tree(tree, members, batch)
            yield [(item.key, result) for item, result in zip(batch, results, strict=True)]

    def _score_alone(self, item: EncodedRequest) -> list[Loglikelihood]:
        """Score each answer of a request in a sequence of its own, its prompt included."""
        results = []
        for ids, scored in zip(item.ids, item.scored, strict=True):
            tree, one = Pack(), EncodedRequest(item.key, (ids,), (scored,), item.language)
            tree.add(0, one.ids)
            results += self._score_tree(tree, _members(tree), [one])[0]
        return results

    def _score_tree(
        self, tree: Pack, members: Sequence[Sequence[int]], batch: Sequence[EncodedRequest]
    ) -> list[list[Loglikelihood]]:
        """Score the requests of one tree. Logits are read where a scored token follows."""
        import torch

        followers: dict[int, list[int]] = {}
        for paths, item in zip(tree.paths, batch, strict=True):
            for path, ids, scored in zip(paths, item.ids, item.scored, strict=True):
                for at in scored:
                    followers.setdefault(path[at - 1], []).append(ids[at])
        languages = {item.language for item in batch} - {""}
        values: dict[tuple[int, int], float] = {}
        masses: dict[tuple[int, str], float] = {}
        context = self.context(cells=max(_PACK, len(tree)), sequences=self._sequences, shared=True)
        for nodes, logits in context.run(tree.ids, tree.depths, members, sorted(followers)):
            rows = torch.from_numpy(logits)
            pairs = [(row, token) for row, node in enumerate(nodes) for token in followers[node]]
            where, tokens = (list(each) for each in zip(*pairs, strict=True))
            found = (rows[where, tokens] - rows.logsumexp(-1)[where]).tolist()
            values |= {
                (nodes[row], token): value for (row, token), value in zip(pairs, found, strict=True)
            }
            for language in languages:
                mass = off_script_mass(rows, self.loaded, language).tolist()
                masses |= {(node, language): one for node, one in zip(nodes, mass, strict=True)}
        return [
            [
                _loglikelihood(
                    [values[path[at - 1], ids[at]] for at in scored],
                    [masses[path[at - 1], item.language] for at in scored] if item.language else [],
                )
                for path, ids, scored in zip(paths, item.ids, item.scored, strict=True)
            ]
            for paths, item in zip(tree.paths, batch, strict=True)
        ]

    @property
    def _sequences(self) -> int:
        """The most sequences of one tree."""
        return 1 if self.weights.keeps_states else _SEQUENCES

    def context(self, *, cells: int, sequences: int, shared: bool) -> LlamaContext:
        """An empty KV cache of at least this size; the last one where it fits."""
        if self._context is not None:
            (had, *rest), context = self._context
            if [sequences, shared] == rest and cells <= had:
                context.clear()
                return context
            self._context = None
            context.close()
        context = LlamaContext(self.weights, cells=cells, sequences=sequences, shared=shared)
        self._context = ((cells, sequences, shared), context)
        return context

    def close(self) -> None:
        """Free the weights and the cache."""
        if self._context is not None:
            self._context[1].close()
            self._context = None
        self.weights.close()


class _RowDecoder(Decoder):
    """The local backend's decoding, whose logits are llama.cpp's."""

    def __init__(self, backend: LlamaCppBackend) -> None:
        super().__init__(backend.loaded, Room(backend.budget, backend.most, 0))
        self.backend = backend

    def run(self, rows: Sequence[DecodingRow]) -> Iterator[Answers]:
        """Decode all rows, those of similar width together, and yield them as they end."""
        alike: dict[int, list[DecodingRow]] = {}
        for row in rows:
            alike.setdefault(max(_ROUND, row.room - 1).bit_length(), []).append(row)
        for _, some in sorted(alike.items(), reverse=True):
            width = -(-max(row.room for row in some) // _ROUND) * _ROUND
            slots = self.room.slots(width, len(some))
            context = self.backend.context(cells=slots * width, sequences=slots, shared=False)
            waiting = deque(sorted(some, key=lambda row: row.ids))
            yield from self._decode(waiting, cast(Any, Rows(context, slots)))
            if waiting:
                raise HarnessError(
                    "out of memory beside llama.cpp",
                    where=self.loaded.name,
                    hint=f"--engine-option budget={self.room.cache_tokens // 2}",
                )


def _described(
    source: ModelSource, tokenizer: PreTrainedTokenizerBase, weights: LlamaModel
) -> LoadedModel:
    """What encoding, decoding and scoring ask of a model, without its weights."""
    config = SimpleNamespace(max_position_embeddings=weights.window)
    config.get_text_config = lambda: config
    ends = SimpleNamespace(eos_token_id=tokenizer.eos_token_id)
    model = cast(Any, SimpleNamespace(config=config, generation_config=ends))
    device = "gpu" if weights.on_gpu else "cpu"
    return LoadedModel(source, model, tokenizer, weights.quantisation, device)


def _members(tree: Pack) -> list[list[int]]:
    """For each node of a tree, the leaves below it: the sequences that hold its token."""
    inner = set(tree.parents)
    members: list[list[int]] = [[] for _ in tree.ids]
    leaves = [node for node in range(len(tree)) if node not in inner]
    for number, leaf in enumerate(leaves):
        node = leaf
        while node >= 0:
            members[node].append(number)
            node = tree.parents[node]
    return members


def _loglikelihood(values: Iterable[float], mass: Iterable[float]) -> Loglikelihood:
    values = list(values)
    return Loglikelihood(
        sum(values),
        len(values),
        tuple(round(value, 5) for value in values),
        tuple(round(value, 5) for value in mass),
    )
