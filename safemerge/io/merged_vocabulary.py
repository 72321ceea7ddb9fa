"""One vocabulary for models whose tokenizers differ, and their tables in it.

The rules are mergekit's (0.1.5, `tokenizer:`). A token that a model lacks has there the row of the
only model that knows it, else the base's, else the mean of those that know it, or what is chosen
for it. Rows are as many as tokens, padding aside: unused rows of a table are not taken over.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor

from safemerge.errors import CheckpointError
from safemerge.io.compat import load_finite
from safemerge.io.files import inside, read_json, setting
from safemerge.io.reader import Checkpoint
from safemerge.names import is_vocabulary

FILE, CONFIG, LEGACY = "tokenizer.json", "tokenizer_config.json", "added_tokens.json"
_SAVE = "save it with AutoTokenizer.from_pretrained(...).save_pretrained(...)"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """Where the row of a token comes from."""

    model: int | None = None  # index of a model; None is by the rules, or zero
    token: str | None = None  # another token of that model
    token_id: int | None = None  # or one of its rows
    zero: bool = False  # all zeros
    force: bool = False  # in all models, not only where they lack it


@dataclass(frozen=True, slots=True)
class VocabularyPlan:
    """What the merged vocabulary is made of."""

    source: int | None  # the model whose tokenizer it is; None is the union
    choices: Mapping[str, TokenChoice] = field(default_factory=dict)
    pad_to_multiple_of: int = 1
    prefer_base: bool = True  # among several that know a token


@dataclass(frozen=True, slots=True)
class MergedTokenizer:
    """Files of the merged tokenizer."""

    folder: Path  # whose tokenizer it begins with
    replaced: Mapping[str, str | None]  # texts of files that differ; None where one is left out


@dataclass(frozen=True, slots=True)
class _Own:
    """A model's own tokenizer."""

    tokens: Mapping[str, int]  # those with a row
    rows: int  # of its tables, by its config


@dataclass(frozen=True, slots=True)
class _Fill:
    """Rows for models that lack tokens."""

    rows: Mapping[int, Sequence[tuple[int, int]]]  # {donor: (merged id, its row)}
    means: Mapping[int, Sequence[tuple[int, int]]]  # {merged id: (model, its row)}
    everywhere: Tensor  # (size,) bool: also in models that know the token


def merge_vocabularies(
    models: Sequence[Checkpoint], plan: VocabularyPlan
) -> tuple[list[Checkpoint], MergedTokenizer]:
    """Views of the models, base first, in the merged vocabulary, and the tokenizer of it.

    Raises:
        CheckpointError: a tokenizer that is not there or cannot be changed, tokenizers of different
            kinds in a union, a chosen row that its model lacks.
    """
    own = [_read(model) for model in models]
    tokenizer = own[0] if plan.source is None else own[plan.source]
    donor = models[plan.source or 0]
    if tokenizer is None:
        raise CheckpointError(f"{donor.folder} has no {FILE}, which the merge needs; {_SAVE}")
    text, rows = tokenizer
    merged = Tokenizer.from_str(text if plan.source else _stripped(text, rows, donor))
    if plan.source is None:
        _check_kinds(models, own)
        for pair in own:
            if pair is not None:
                merged.add_tokens(_plain_tokens(*pair, merged.get_vocab()))
        for pair in own:
            if pair is not None:
                merged.add_tokens(_added_tokens(*pair, merged.get_vocab()))
    known = merged.get_vocab()
    merged.add_tokens([token for token in plan.choices if token not in known])
    vocabulary = merged.get_vocab()
    size = max(len(vocabulary), max(vocabulary.values()) + 1)
    padded = -(-size // plan.pad_to_multiple_of) * plan.pad_to_multiple_of
    tokens = [_tokens(pair or own[0] or tokenizer) for pair in own]
    fill = _fill(models, tokens, vocabulary, plan, size)
    all_ids = []
    for known in tokens:
        ids = torch.full((size,), -1, dtype=torch.int64)
        for token, id_ in vocabulary.items():
            ids[id_] = known.get(token, -1)
        all_ids.append(ids)
    same = torch.arange(padded)
    changed = bool(fill.everywhere.any()) or any(
        not torch.equal(ids, same) or setting(model.config, "vocab_size") != padded
        for ids, model in zip(all_ids, models, strict=True)
    )
    views = [
        _view(models, index, ids, fill, padded) if changed else models[index]
        for index, ids in enumerate(all_ids)
    ]
    return views, _files(donor.folder, merged, text, plan)


def _read(model: Checkpoint) -> tuple[str, int] | None:
    """The text of a tokenizer.json and the rows of the tables; None without a tokenizer."""
    path = inside(model.folder, FILE)
    if not path.exists():
        return None
    content = read_json(path)
    config = inside(model.folder, CONFIG)
    named = read_json(config).get("added_tokens_decoder") if config.exists() else None
    listed = {entry["content"] for entry in content.get("added_tokens") or ()}
    for id_, entry in (named or {}).items():
        if isinstance(entry, dict) and entry.get("content") not in listed:
            flags = {flag: bool(entry.get(flag)) for flag in _FLAGS}
            content.setdefault("added_tokens", []).append(
                {"id": int(id_), "content": entry["content"], **flags}
            )
    rows = setting(model.config, "vocab_size")
    text = json.dumps(content)
    try:
        size = Tokenizer.from_str(text).get_vocab_size()
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"{path} is no tokenizer that can be read ({error}); {_SAVE}") from (
            error
        )
    return text, rows if isinstance(rows, int) else size


def _tokens(pair: tuple[str, int]) -> dict[str, int]:
    text, rows = pair
    return {t: i for t, i in Tokenizer.from_str(text).get_vocab().items() if i < rows}


def _stripped(text: str, rows: int, model: Checkpoint) -> str:
    """A tokenizer without tokens that have no row."""
    content = json.loads(text)
    vocab = Tokenizer.from_str(text).get_vocab()
    unused = {token for token, id_ in vocab.items() if id_ >= rows}
    if not unused:
        return text
    content["added_tokens"] = [t for t in content["added_tokens"] if t["id"] < rows]
    part = content["model"]
    if not isinstance(part["vocab"], dict):
        raise CheckpointError(
            f"the tokenizer of {model.folder} has {len(unused)} tokens beyond its {rows} rows, and "
            f"is of the kind {part.get('type')}, of which none can be left out; correct {FILE}"
        )
    part["vocab"] = {token: id_ for token, id_ in part["vocab"].items() if token not in unused}
    if "merges" in part:
        pairs = [(m.split(" ") if isinstance(m, str) else m, m) for m in part["merges"]]
        part["merges"] = [merge for pair, merge in pairs if not unused & {*pair, "".join(pair)}]
    return json.dumps(content)


def _check_kinds(models: Sequence[Checkpoint], own: Sequence[tuple[str, int] | None]) -> None:
    kinds: dict[tuple[str, str], Path] = {}
    for model, pair in zip(models, own, strict=True):
        if pair is not None:
            content = json.loads(pair[0])
            steps = json.dumps([content.get("pre_tokenizer"), content.get("decoder")])
            spelling = "bytes" if '"ByteLevel"' in steps else "text"
            kinds.setdefault((content["model"].get("type"), spelling), model.folder)
    if len(kinds) > 1:
        (one, here), (other, there), *_ = kinds.items()
        raise CheckpointError(
            f"the tokenizers of {here} and {there} are of different kinds ({' of '.join(one)}, "
            f"{' of '.join(other)}), so they have no union; use the tokenizer of one model (base, "
            "or its path)"
        )


def _plain_tokens(text: str, rows: int, known: Mapping[str, int]) -> list[str]:
    """Tokens of a vocabulary that are new, in the order of their ids."""
    added = {entry["content"] for entry in json.loads(text).get("added_tokens") or ()}
    new = [(i, t) for t, i in _tokens((text, rows)).items() if t not in added and t not in known]
    return [token for _, token in sorted(new)]


def _added_tokens(text: str, rows: int, known: Mapping[str, int]) -> list[AddedToken]:
    listed = sorted(json.loads(text).get("added_tokens") or (), key=lambda entry: entry["id"])
    return [
        AddedToken(entry["content"], **{flag: bool(entry.get(flag)) for flag in _FLAGS})
        for entry in listed
        if entry["id"] < rows and entry["content"] not in known
    ]


def _fill(
    models: Sequence[Checkpoint],
    tokens: Sequence[Mapping[str, int]],
    vocabulary: Mapping[str, int],
    plan: VocabularyPlan,
    size: int,
) -> _Fill:
    """Where the rows come from that models lack."""
    rows: dict[int, list[tuple[int, int]]] = defaultdict(list)
    means = {}
    everywhere = torch.zeros(size, dtype=torch.bool)
    for token, id_ in vocabulary.items():
        choice = plan.choices.get(token, TokenChoice())
        having = [index for index, own in enumerate(tokens) if token in own]
        if len(having) == len(models) and not choice.force:
            continue
        everywhere[id_] = choice.force
        if choice.zero or (choice.model is None and not having):
            continue
        if choice.model is not None:
            rows[choice.model].append((id_, _chosen(models, tokens, token, choice)))
        elif len(having) == 1 or (plan.prefer_base and 0 in having):
            rows[having[0]].append((id_, tokens[having[0]][token]))
        else:
            means[id_] = [(index, tokens[index][token]) for index in having]
    return _Fill(rows, means, everywhere)


def _chosen(
    models: Sequence[Checkpoint],
    tokens: Sequence[Mapping[str, int]],
    token: str,
    choice: TokenChoice,
) -> int:
    """The row of its model that a token is to have."""
    assert choice.model is not None
    folder, own = models[choice.model].folder, tokens[choice.model]
    if choice.token_id is not None:
        count = setting(models[choice.model].config, "vocab_size")
        if isinstance(count, int) and choice.token_id >= count:
            raise CheckpointError(
                f"the token {token!r} is to have row {choice.token_id} of {folder}, which has "
                f"{count}; give a smaller token_id"
            )
        return choice.token_id
    wanted = choice.token or token
    if wanted not in own:
        raise CheckpointError(
            f"the token {token!r} is to have the row of {wanted!r} in {folder}, whose tokenizer "
            "has no such token; name another model or token"
        )
    return own[wanted]


def _view(
    models: Sequence[Checkpoint], index: int, ids: Tensor, fill: _Fill, padded: int
) -> Checkpoint:
    """A model in the merged vocabulary."""
    model = models[index]
    rows = setting(model.config, "vocab_size")
    infos, made = dict(model.tensors), {}
    for name, info in model.tensors.items():
        count = info.shape[0] if info.shape else 0
        if not is_vocabulary(name) or not info.is_float or name in model.tied:
            continue
        if isinstance(rows, int) and count != rows:  # such as what an image is embedded by
            continue
        infos[name] = replace(info, shape=(padded, *info.shape[1:]))
        made[name] = _table(models, index, name, ids, fill, padded)
    vocab = {"vocab_size": padded}
    inner = model.config.get("text_config")
    config: dict[str, Any] = {}
    if "vocab_size" in model.config or not isinstance(inner, dict):
        config |= vocab
    if isinstance(inner, dict) and "vocab_size" in inner:
        config["text_config"] = {**inner, **vocab}
    return model.view(infos, made, **config)


def _table(
    models: Sequence[Checkpoint], index: int, name: str, ids: Tensor, fill: _Fill, padded: int
) -> Callable[[], Tensor]:
    def table() -> Tensor:
        own = load_finite(models[index], name)
        size = len(ids)
        out = own.new_zeros((padded, *own.shape[1:]))
        here = (ids >= 0) & (ids < len(own)) & ~fill.everywhere
        out[:size][here] = own[ids[here]]
        for donor, pairs in fill.rows.items():
            wanted = [pair for pair in pairs if not here[pair[0]]]
            if wanted:
                to, of = torch.tensor(wanted).unbind(1)
                out[to] = (own if donor == index else load_finite(models[donor], name))[of].to(out)
        means = {id_: parts for id_, parts in fill.means.items() if not here[id_]}
        if means:
            tables = [load_finite(model, name) for model in models]
            for id_, parts in means.items():
                out[id_] = torch.stack([tables[i][row].float() for i, row in parts]).mean(dim=0)
        out[size:] = out[:size].float().mean(dim=0)
        return out

    return table


def _files(folder: Path, merged: Tokenizer, before: str, plan: VocabularyPlan) -> MergedTokenizer:
    """The merged tokenizer as files beside those of `folder`."""
    text = merged.to_str(pretty=True)
    added = {str(entry["id"]): entry for entry in json.loads(text)["added_tokens"]}
    replaced: dict[str, str | None] = {FILE: text + "\n"}
    if len(merged.get_vocab()) == len(Tokenizer.from_str(before).get_vocab()):
        return MergedTokenizer(folder, {})
    path = inside(folder, CONFIG)
    config = read_json(path) if path.exists() else {}
    if "added_tokens_decoder" in config:
        flags = ("content", *_FLAGS)
        config["added_tokens_decoder"] = {
            id_: {flag: entry[flag] for flag in flags} for id_, entry in added.items()
        }
        replaced[CONFIG] = json.dumps(config, indent=2, sort_keys=True) + "\n"
    # Formats from before tokenizer.json know nothing of the new tokens.
    replaced |= dict.fromkeys((LEGACY, "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"))
    return MergedTokenizer(folder, replaced)
