"""Words: the same vocabulary everywhere, and cutting as BERT does it."""

import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlbench.data.batches import Collator
from vlbench.data.words import CLEANING, SPECIAL, Words, pretrained_words, read_words, train_whole_words, train_words
from vlbench.types import BadData, Fault

TEXTS = [
    "What color is the triangle?",
    "Is there a yellow circle in the image?",
    "What shape is present? Is it not a circle?",
    "Does the image not contain a teal rectangle?",
]
_PRINT = """
import sys
from vlbench.data.words import train_words
texts = sys.stdin.read().splitlines()
if len(sys.argv) > 1:
    texts = list(set(texts)) * int(sys.argv[1])
print(train_words(texts, 300).identity)
"""


def fresh(seed: str, *, threads: str, shuffled: bool = False) -> str:
    """Train in a fresh process with another hash seed, and say what came out."""
    text = "\n".join(f"{word} word{n % 7} {word[::-1]}" for n, word in enumerate(sorted(dir(str) + dir(int))))
    environment = {
        **os.environ,
        "PYTHONHASHSEED": seed,
        "RAYON_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "true",
    }
    command = [sys.executable, "-c", _PRINT, *(["1"] if shuffled else [])]
    done = subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_fresh_processes_learn_the_same() -> None:
    first = fresh("1", threads="1")
    assert len(first) == 64
    assert first == fresh("2", threads="2")


def test_order_of_texts_changes_nothing() -> None:
    # a set's order hangs on the hash seed
    assert fresh("3", threads="1", shuffled=True) == fresh("4", threads="1", shuffled=True)
    assert train_words(TEXTS, 200).identity == train_words(TEXTS[::-1], 200).identity


def test_a_learned_vocabulary_is_what_the_rule_says() -> None:
    words = train_words(["aab aab ab", "zq"], 100)
    # joins: a + ##b comes once, a + ##a twice, ##a + ##b twice; of the two, "##a" sorts first
    pieces = words._text.split()
    assert pieces == [*SPECIAL, "##a", "##b", "##q", "a", "z", "##ab", "aab"]
    assert words.vocabulary == len(pieces)
    assert (words.padding, words.unknown, words.cls, words.sep, words.mask) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("size", [16, 20, 40, 100])
def test_size_is_a_limit(size: int) -> None:
    words = train_words(TEXTS * 3, size)
    assert words.vocabulary <= size
    assert all(0 <= number < size for ids in words.encode(TEXTS, 99) for number in ids)


def test_frequent_words_become_one_piece() -> None:
    words = train_words(TEXTS * 2, 1000)
    assert [len(ids) for ids in words.encode(["triangle", "YELLOW circle", "Is it?"], 20)] == [3, 4, 5]
    assert words.decode(words.encode(["Teal   rectangle"], 20)[0]) == "teal rectangle"
    assert words.encode(["☃"], 9) == [[words.cls, words.unknown, words.sep]]


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60), length=st.integers(2, 12))
def test_every_text_is_cut_to_length(text: str, length: int) -> None:
    words = train_words(TEXTS, 60)
    whole, cut = words.encode([text], 10_000)[0], words.encode([text], length)[0]
    assert whole[0] == words.cls
    assert cut[-1] == whole[-1] == words.sep
    assert cut[:-1] == whole[:-1][: length - 1]
    assert len(cut) == min(length, len(whole))


@settings(max_examples=60, deadline=None)
@given(names=st.lists(st.sampled_from(sorted({w for t in TEXTS for w in t.lower().replace("?", "").split()}))))
def test_round_trip(names: list[str]) -> None:
    words = train_words(TEXTS, 90)
    assert words.decode(words.encode([" ".join(names)], 500)[0]) == " ".join(names)


def test_decode_stops_at_the_end() -> None:
    words = train_words(TEXTS * 2, 1000)
    circle = words.encode(["circle"], 5)[0][1]
    assert words.decode([words.cls, circle, words.padding, words.mask, words.sep, circle]) == "circle"
    assert words.decode([circle, circle]) == "circle circle"
    assert words.decode([]) == ""


def test_saved_words_are_the_same(tmp_path: Path) -> None:
    words = train_words(TEXTS, 80)
    words.save(tmp_path / "run" / "vocab.txt")
    again = read_words(tmp_path / "run" / "vocab.txt")
    assert again.identity == words.identity
    assert again.encode(TEXTS, 20) == words.encode(TEXTS, 20)
    assert pickle.loads(pickle.dumps(words)).encode(TEXTS, 20) == words.encode(TEXTS, 20)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"[PAD]\nx\n", "no line is .UNK."),
        (b"[UNK]\nx\nx\n", "two lines are alike"),
        (b"[UNK]\nx\n", "none of its tokens is"),
        (b'{"model": 3}', "not a tokenizer.json"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"", "no line"),
    ],
)
def test_a_wrong_vocabulary_is_named(tmp_path: Path, content: bytes, wrong: str) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(BadData, match=rf"vocab\.txt.*{wrong}"):
        read_words(tmp_path / "vocab.txt")
    with pytest.raises(BadData, match="cannot read"):
        read_words(tmp_path / "none.txt")


@pytest.mark.parametrize("capital", [False, True])
def test_published_vocabulary_cuts_like_transformers(tmp_path: Path, capital: bool) -> None:
    import transformers

    pieces = [
        *SPECIAL,
        "un",
        "##aff",
        "##able",
        "the",
        "café",
        "cafe",
        "Paris" if capital else "paris",
        ",",
        "中",
    ]
    place = tmp_path / "tokenisers" / "bert-tiny"
    place.mkdir(parents=True)
    (place / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    words = pretrained_words("bert-tiny", tmp_path)
    official = transformers.BertTokenizer(vocab=str(place / "vocab.txt"), do_lower_case=not capital)
    texts = ["The unaffable Café, Paris", "the 中 paris", "", "un\u00a0\taffable\u200b ,,"]
    assert words.encode(texts, 50) == official(texts)["input_ids"]
    assert len(words.encode(["the paris"], 50)[0]) == 4


def test_a_tokenizer_json_works_too(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    cutter = Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "cat": 5}, "<unk>"))
    cutter.pre_tokenizer = pre_tokenizers.Whitespace()
    cutter.enable_truncation(3)
    place = tmp_path / "tokenisers" / "other"
    place.mkdir(parents=True)
    cutter.save(str(place / "tokenizer.json"))
    words = pretrained_words("other", tmp_path)
    assert words.encode(["cat dog cat cat cat"], 20) == [[0, 5, 3, 5, 5, 5, 2]]
    assert (words.padding, words.mask, words.vocabulary) == (1, 4, 6)
    words.save(tmp_path / "words")
    assert read_words(tmp_path / "words").identity == words.identity


def test_absent_words_say_where_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    with pytest.raises(Fault, match="not on this machine") as fault:
        pretrained_words("bert-nowhere", tmp_path)
    assert str(tmp_path / "tokenisers" / "bert-nowhere") in fault.value.todo
    assert "huggingface.co/google-bert/bert-nowhere" in fault.value.todo


def test_absent_words_are_missed_without_loading_what_would_read_them(tmp_path: Path) -> None:
    lines = ("import sys", "from pathlib import Path", "from vlbench.data.words import pretrained_words")
    asks = ("try:", f"    pretrained_words('bert-nowhere', Path({str(tmp_path)!r}))", "except Exception as error:")
    code = "\n".join((*lines, *asks, "    print(error, 'transformers' in sys.modules)"))
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert "not on this machine" in done.stdout
    assert done.stdout.split()[-1] == "False"


def test_words_of_the_hub_cache_are_found(tmp_path: Path) -> None:
    place = tmp_path / "models--bert-tiny"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("a1")
    (place / "snapshots" / "a1").mkdir(parents=True)
    (place / "snapshots" / "a1" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncat\n")
    (place / "snapshots" / "a1" / "config.json").write_text('{"model_type": "bert"}')
    (place / "snapshots" / "a1" / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    code = "import sys; from pathlib import Path; from vlbench.data.words import pretrained_words\n"
    code += "print(pretrained_words('bert-tiny', Path('nowhere')).encode(['cat'], 5))"
    told = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, env=told, check=False)
    assert done.stdout.strip() == "[[2, 5, 3]]", done.stderr


def test_words_without_unknown_roles() -> None:
    words = Words("[UNK]\n[CLS]\n[SEP]\ncat\n")
    assert (words.padding, words.mask) == (0, 0)
    assert words.encode(["cat"], 5) == [[1, 3, 2]]


def test_whole_words_are_lower_case_without_punctuation() -> None:
    texts = ["What's the man's hat-colour?", "the hat, the HAT", "a/b the"]
    words = train_whole_words(texts, 12)
    assert words.pieces[:8] == [*SPECIAL, "the", "hat", "a"]
    ids = words.encode(["The hat-colour (of) it?"], 20)[0]
    assert (ids[0], ids[-1]) == (words.cls, words.sep)
    assert [words.pieces[number] for number in ids[1:-1]] == ["the", "hat", "colour", "[UNK]", "[UNK]"]
    assert words.decode(words.encode(["the hat"], 9)[0]) == "the hat"
    assert train_whole_words(reversed(texts), 12).identity == words.identity


@pytest.fixture(scope="module")
def clip_words() -> Words:
    """Lay the vocabulary that open_clip ships out as CLIP's tokenizer.json has it."""
    from open_clip.tokenizer import default_bpe
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [chr(byte) for byte in shown] + [chr(256 + number) for number in range(256 - len(shown))]
    pieces = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    numbers = {piece: number for number, piece in enumerate(pieces)}
    cutter = Tokenizer(models.BPE(numbers, merges, unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    cutter.normalizer = normalizers.Sequence(steps)
    split = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    cutter.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(split, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    cutter.decoder = decoders.ByteLevel()
    return Words(cutter.to_str())


@pytest.mark.parametrize(
    "text",
    [
        "a dog",
        "A photo of two DOGS, one isn't  brown!",
        "the café's 12 croissants -- unbelievably good",
        "中文 and emoji 🐶",
        "x" * 60,
        "",
    ],
)
def test_clip_words_are_those_of_open_clip(clip_words: Words, text: str) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    official = SimpleTokenizer()
    ids = clip_words.encode([text], 77)[0]
    assert ids == [official.sot_token_id, *official.encode(text), official.eot_token_id]
    assert clip_words.decode(ids) == official.decode(ids[1:-1]).strip()
    assert "</w>" not in clip_words.decode(ids)


def test_clip_words_of_clean_text_come_back(clip_words: Words) -> None:
    assert clip_words.vocabulary == 49408
    assert clip_words.decode(clip_words.encode(["a dog on unbelievable grass"], 77)[0]) == "a dog on unbelievable grass"
    # what open_clip mends before it cuts, and we do not (a departure on CoCa's card)
    assert clip_words.decode(clip_words.encode(["salt &amp; pepper"], 77)[0]) == "salt & amp ; pepper"


@pytest.mark.parametrize(
    ("rule", "kind", "text", "clean"),
    [
        ("albef", "questions", "What's on the man's T-shirt/cap?  ", "whats on the mans t shirt cap"),
        ("albef", "questions", '"Is it (really) #1: yes; ~no*!', "is it really 1 yes no"),
        ("albef", "questions", "is <person>  there?", "is <person>  there"),
        ("albef", "captions", " <PERSON>'s dog - a well-known one.\n", "persons dog a well known one"),
        ("blip", "questions", "What's on the man's T-shirt/cap?", "what's on the man's t-shirt/cap?"),
        ("blip", "questions", 'Is "it" (really), #1: yes; ~no*! ', "is it really, 1 yes no"),
        ("blip", "captions", "Two dogs.One, isn't it (brown)? <person>!", "two dogs one, isn't it brown ? <person>"),
        ("blip", "captions", "a\t b\nc \n", "a b\nc"),
        ("albef", "captions", "...", ""),
    ],
)
def test_texts_are_cleaned_as_the_authors_do(rule: str, kind: str, text: str, clean: str) -> None:
    assert CLEANING[rule][kind](text) == clean


@pytest.mark.parametrize("rule", sorted(CLEANING))
@pytest.mark.parametrize(("kind", "words"), [("questions", 50), ("captions", 30)])
def test_long_texts_are_cut_by_words(rule: str, kind: str, words: int) -> None:
    text = " ".join(map(str, range(60)))
    assert CLEANING[rule][kind](text).split() == text.split()[:words]


def test_a_collator_cuts_clean_texts() -> None:
    words = train_words([*TEXTS, "whats"] * 2, 300)
    clean = CLEANING["albef"]["questions"]
    found = Collator(None, words, length=20, clean=clean).lay_out(["What's SHAPE?"])  # type: ignore[arg-type]
    assert words.decode(found.tokens[0].tolist()) == "whats shape"
    plain = Collator(None, words, length=20).lay_out(["What's SHAPE?"])  # type: ignore[arg-type]
    assert words.decode(plain.tokens[0].tolist()) != "whats shape"
