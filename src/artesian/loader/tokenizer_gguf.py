"""Builds a tokenizer from the metadata of a GGUF file."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from artesian.loader.base import CheckpointError
from artesian.loader.cache import cache_dir, keep_newest, write_whole
from artesian.loader.gguf_header import GgufHeader
from artesian.loader.sentencepiece_merges import derive_merges
from artesian.loader.tokenizer import SpecialTokens, TextTokenizer, TokenizerOptions

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_CACHE_VERSION = 1
_MAX_CACHED = 8

_LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLIT_PATTERNS = {
    "llama-bpe": _LLAMA3_PATTERN,
    "llama3": _LLAMA3_PATTERN,
    "llama-v3": _LLAMA3_PATTERN,
    "qwen2": _LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}"),
    "deepseek-r1-qwen": _LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}"),
    "tekken": _TEKKEN_PATTERN,
}
_SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r")
_GPT2 = ("gpt-2", "default")


def tokenizer_from_gguf(
    header: GgufHeader, fingerprint: str, options: TokenizerOptions
) -> TextTokenizer:
    """The tokenizer of a GGUF file. Raises `CheckpointError` for kinds that are not supported."""
    kind = header.scalars.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama") or "tokenizer.ggml.tokens" not in header.arrays:
        raise CheckpointError(
            f"{header.path}: tokenizers of kind {kind!r} are not supported, only 'gpt2' and 'llama'"
        )
    template = options.chat_template or header.scalars.get("tokenizer.chat_template")
    with_space = kind == "llama" and header.scalars.get("tokenizer.ggml.add_space_prefix", True)
    return TextTokenizer(
        _byte_level(header) if kind == "gpt2" else _cached_sentencepiece(header, fingerprint),
        "byte_level" if kind == "gpt2" else "sentencepiece",
        _special_tokens(header, default_bos=kind == "llama"),
        str(template) if template else None,
        strip_leading_space=bool(with_space),
    )


def _special_tokens(header: GgufHeader, default_bos: bool) -> SpecialTokens:
    def token_id(name: str) -> int | None:
        value = header.scalars.get(f"tokenizer.ggml.{name}_token_id")
        return value if isinstance(value, int) and value < 1 << 31 else None

    bos, eos = token_id("bos"), token_id("eos")
    ends = [token for token in (eos, token_id("eot"), token_id("eom")) if token is not None]
    add_bos = header.scalars.get("tokenizer.ggml.add_bos_token", default_bos)
    add_eos = header.scalars.get("tokenizer.ggml.add_eos_token", False)
    return SpecialTokens(
        bos,
        ends,
        prefix=[bos] if add_bos and bos is not None else [],
        suffix=[eos] if add_eos and eos is not None else [],
    )


def _vocabulary(header: GgufHeader) -> dict[str, int]:
    tokens = header.strings("tokenizer.ggml.tokens")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        # Ids must stay dense for the library: later duplicates get a name nothing encodes to.
        seen: set[str] = set()
        for index, token in enumerate(tokens):
            if token in seen:
                tokens[index] = f"\ufffe{index}"
            seen.add(tokens[index])
        vocabulary = {token: index for index, token in enumerate(tokens)}
    return vocabulary


def _token_types(header: GgufHeader, count: int) -> list[int]:
    if "tokenizer.ggml.token_type" not in header.arrays:
        return [_NORMAL] * count
    types: list[int] = header.numbers("tokenizer.ggml.token_type").tolist()
    if len(types) != count:
        raise CheckpointError(f"{header.path}: {len(types)} token types for {count} tokens")
    return types


def _add_special(library: Tokenizer, vocabulary: dict[str, int], types: list[int]) -> None:
    control, user = [], []
    for (token, _), kind in zip(vocabulary.items(), types, strict=True):
        if kind == _CONTROL:
            control.append(AddedToken(token, special=True, normalized=False))
        elif kind == _USER_DEFINED:
            user.append(AddedToken(token, special=False, normalized=False))
    library.add_special_tokens(control)
    library.add_tokens(user)


def _byte_level(header: GgufHeader) -> Tokenizer:
    pre = str(header.scalars.get("tokenizer.ggml.pre", "default"))
    vocabulary = _vocabulary(header)
    merges: list[tuple[str, str]] = []
    for merge in header.strings("tokenizer.ggml.merges"):
        left, space, right = merge.partition(" ")
        if not space or left + right not in vocabulary:
            raise CheckpointError(f"{header.path}: the merge {merge!r} makes no token")
        merges.append((left, right))
    library = Tokenizer(
        _bpe(header, vocabulary, merges, ignore_merges=pre in ("llama-bpe", "llama3", "llama-v3"))
    )
    library.pre_tokenizer = _pre_tokenizer(header, pre)
    if pre in ("qwen2", "deepseek-r1-qwen"):
        library.normalizer = normalizers.NFC()
    _add_special(library, vocabulary, _token_types(header, len(vocabulary)))
    return library


def _pre_tokenizer(header: GgufHeader, pre: str) -> Any:
    if pre in _SINGLE_DIGITS:
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    if pre in _GPT2:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre not in _SPLIT_PATTERNS:
        known = sorted([*_SPLIT_PATTERNS, *_SINGLE_DIGITS, *_GPT2])
        raise CheckpointError(
            f"{header.path}: the pre-tokenizer {pre!r} is not supported, only {', '.join(known)}"
        )
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT_PATTERNS[pre]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _cached_sentencepiece(header: GgufHeader, fingerprint: str) -> Tokenizer:
    """Built once and kept: deriving the merges of a large vocabulary takes seconds."""
    path = cache_dir("tokenizers") / f"{fingerprint[:32]}-v{_CACHE_VERSION}.json"
    if path.is_file():
        # The library raises plain Exception for a damaged file; then it is built anew.
        with suppress(Exception):
            return Tokenizer.from_file(str(path))
    library = _sentencepiece(header)
    with suppress(OSError):
        _save(library, path)
    return library


def _save(library: Tokenizer, path: Path) -> None:
    write_whole(path, library.to_str(pretty=False).encode("utf-8"))
    keep_newest(path.parent, f"*-v{_CACHE_VERSION}.json", _MAX_CACHED)


def _sentencepiece(header: GgufHeader) -> Tokenizer:
    vocabulary = _vocabulary(header)
    types = _token_types(header, len(vocabulary))
    scores: list[float] = header.numbers("tokenizer.ggml.scores").tolist()
    if len(scores) != len(vocabulary):
        raise CheckpointError(f"{header.path}: {len(scores)} scores for {len(vocabulary)} tokens")
    mergeable = {
        token: score
        for token, score, kind in zip(vocabulary, scores, types, strict=True)
        if kind == _NORMAL
    }
    unknown = header.scalars.get("tokenizer.ggml.unknown_token_id", 0)
    names = list(vocabulary)
    unk_token = names[unknown] if isinstance(unknown, int) and unknown < len(names) else None
    library = Tokenizer(
        _bpe(
            header,
            vocabulary,
            derive_merges(mergeable),
            byte_fallback=True,
            fuse_unk=True,
            unk_token=unk_token,
        )
    )
    spaces = normalizers.Replace(" ", "\u2581")
    if header.scalars.get("tokenizer.ggml.add_space_prefix", True):
        library.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces])
    else:
        library.normalizer = spaces
    _add_special(library, vocabulary, types)
    return library


def _bpe(
    header: GgufHeader, vocabulary: dict[str, int], merges: list[tuple[str, str]], **options: Any
) -> Any:
    try:
        return models.BPE(vocabulary, merges, **options)
    except Exception as error:  # the library has no narrower type
        raise CheckpointError(f"{header.path}: its vocabulary is damaged: {error}") from error
