"""Builds a tokenizer from the metadata of a GGUF file."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from artesian.loader.base import CheckpointError
from artesian.loader.cache import cache_dir, keep_newest, write_whole
from artesian.loader.gguf_header import GgufHeader
from artesian.loader.gguf_vocabulary import GgufVocabulary
from artesian.loader.sentencepiece_merges import derive_merges
from artesian.loader.tokenizer import SpecialTokens, TextTokenizer, TokenizerOptions

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
_PRE_TOKENIZERS = (*_GPT2, *_SINGLE_DIGITS, *_SPLIT_PATTERNS)
_WHOLE_WORDS_FIRST = ("llama-bpe", "llama3", "llama-v3")
_COMPOSED = ("qwen2", "deepseek-r1-qwen")


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
    vocabulary = GgufVocabulary(header)
    pre = str(header.scalars.get("tokenizer.ggml.pre", "default"))
    if kind == "gpt2" and pre not in _PRE_TOKENIZERS:
        raise CheckpointError(
            f"{header.path}: the pre-tokenizer {pre!r} is not supported, only "
            f"{', '.join(_PRE_TOKENIZERS)}"
        )

    def load_library() -> Tokenizer:
        if kind == "gpt2":
            return _byte_level(header, vocabulary, pre)
        return _cached_sentencepiece(header, vocabulary, fingerprint)

    return TextTokenizer(
        vocabulary,
        load_library,
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


def _add_special(library: Tokenizer, vocabulary: GgufVocabulary) -> None:
    library.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in vocabulary.control]
    )
    library.add_tokens([AddedToken(t, normalized=False) for t in vocabulary.user_defined()])


def _byte_level(header: GgufHeader, vocabulary: GgufVocabulary, pre: str) -> Tokenizer:
    ids = vocabulary.ids()
    merges: list[tuple[str, str]] = []
    for merge in header.strings("tokenizer.ggml.merges"):
        left, space, right = merge.partition(" ")
        if not space or left + right not in ids:
            raise CheckpointError(f"{header.path}: the merge {merge!r} makes no token")
        merges.append((left, right))
    library = Tokenizer(_bpe(header, ids, merges, ignore_merges=pre in _WHOLE_WORDS_FIRST))
    library.pre_tokenizer = _pre_tokenizer(pre)
    if pre in _COMPOSED:
        library.normalizer = normalizers.NFC()
    _add_special(library, vocabulary)
    return library


def _pre_tokenizer(pre: str) -> Any:
    if pre in _GPT2:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre in _SINGLE_DIGITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT_PATTERNS[pre]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _cached_sentencepiece(
    header: GgufHeader, vocabulary: GgufVocabulary, fingerprint: str
) -> Tokenizer:
    """Built once and kept: deriving the merges of a large vocabulary takes seconds."""
    path = cache_dir("tokenizers") / f"{fingerprint[:32]}-v{_CACHE_VERSION}.json"
    if path.is_file():
        # The library raises plain Exception for a damaged file; then it is built anew.
        with suppress(Exception):
            return Tokenizer.from_file(str(path))
    library = _sentencepiece(header, vocabulary)
    with suppress(OSError):
        _save(library, path)
    return library


def _save(library: Tokenizer, path: Path) -> None:
    write_whole(path, library.to_str(pretty=False).encode("utf-8"))
    keep_newest(path.parent, f"*-v{_CACHE_VERSION}.json", _MAX_CACHED)


def _sentencepiece(header: GgufHeader, vocabulary: GgufVocabulary) -> Tokenizer:
    unknown = header.scalars.get("tokenizer.ggml.unknown_token_id", 0)
    library = Tokenizer(
        _bpe(
            header,
            vocabulary.ids(),
            derive_merges(vocabulary.scores()),
            byte_fallback=True,
            fuse_unk=True,
            unk_token=vocabulary.token(unknown) if isinstance(unknown, int) else None,
        )
    )
    spaces = normalizers.Replace(" ", "\u2581")
    if header.scalars.get("tokenizer.ggml.add_space_prefix", True):
        library.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces])
    else:
        library.normalizer = spaces
    _add_special(library, vocabulary)
    return library


def _bpe(
    header: GgufHeader, ids: dict[str, int], merges: list[tuple[str, str]], **options: Any
) -> Any:
    try:
        return models.BPE(ids, merges, **options)
    except Exception as error:  # the library has no narrower type
        raise CheckpointError(f"{header.path}: its vocabulary is damaged: {error}") from error
