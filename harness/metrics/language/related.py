"""Languages too near to each other for trigrams, distinguished by what only one of them uses.

Danish and Norwegian, Malay and Indonesian, Serbian and Croatian share most words: words that one of
them never uses tell them apart. Traditional and simplified Chinese, and Chinese in a Japanese text,
share a script: characters that the national character set of one lacks tell them apart. A text
without any such word or character could be either, and is not scored.

Not distinguished: Bosnian from Croatian and Serbian, the national forms of English, Spanish,
Portuguese and German, Bokmål from Nynorsk.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache

import regex

MIN_MARKERS = 2
"""Different words of the other language, with none of the expected one between them, are drift."""

_MARKERS = {
    ("no", "da"): (
        """å av etter hva meg deg seg mye ut mellom nå jobb jobben gutt gutten jente jenta gikk
        fikk veldig noe noen kjenner liker uke uken gjøre gjør ble snakket trenger bruke bruker
        brukt språk språket bok boken igjen ikkje eg kva kvifor korleis berre mykje frå noko
        nokon dei vart mogleg mulig forskjellig forskjellige vennlig takk spørre spør gate gaten
        kjøpe kjøper kjøpt skip farge hvit kveld kvelden kveldsmat gjennom fortelle forteller
        fortalt hatt tilbake kanskje alltid aldri ganger vei veien venn venner mat lese leser
        leste reise reiser hjelp hjelpe hjelper mer uten riktig deilig penger vår våre sitter
        lørdag vanligvis rett retten mot bli gi gir si sier ta tar vite vet arbeid arbeidet
        utdannelse lik samfunn samfunnet enkelte norsk norske kunnskap høyre slutt""",
        """af efter hvad mig dig sig meget kun ud mellem dreng drengen pige pigen gik fik noget
        nogen nogle kender lave lavede laver lavet uge ugen gøre gør blev blevet mad brug bruge
        bruger brugt sprog sproget bog bogen igen tak jeres hvornår venlig muligt forskellig
        forskellige tænke tænker købe køber købt farve efterår efteråret hedder spørge spørger
        vejr vejret morgenmad aftensmad skib sidder øjeblik hende sætter havde cykel nej sagde
        vej vejen ven mælk læse læser læste rejse rejser måske altid aldrig gennem fortælle
        fortæller været haft arbejde arbejder arbejdet hjælp hjælpe hjælper vores uden lige nu
        mere penge dejlig rigtig derhjemme sommetider selvom ret mod blive bliver give giver sige
        siger tage tager vide uddannelse samfund samfundet have viden højre slut mand""",
    ),
    ("id", "ms"): (
        """karena bahwa bisa mau coba saja besok kantor uang mobil mobilnya mobilmu delapan yaitu
        universitas kualitas perusahaan kalian sepeda pikir polisi tas gratis toko sore kapan
        aktivitas televisi handuk sepatu kulkas nomor dokter apotek paspor butuh membutuhkan
        mencoba listrik gampang kemarin nggak enggak gak banget senin selasa rabu kamis jumat
        bandara silakan kabar inggris provinsi ponsel sehat bis telepon obat berpikir maupun
        manapun apapun siapapun internasional pengadilan menikah perkawinan pernikahan liburan
        deklarasi kesehatan sedangkan tapi maret juni agustus desember informasi kode unduh situs
        sandi perangkat jaringan mahasiswa siswa berbagai adonan wajan dibutuhkan kebutuhan cabai
        derajat energi hewan tubuh olahraga tim musik film bioskop arti artinya sulit jerman
        prancis tiongkok teknik karenanya ilmiah penghasilan""",
        """kerana bahawa awak mahu cuba sahaja esok wang lapan iaitu universiti kualiti syarikat
        basikal fikir berfikir bercakap hospital bas beg aktiviti televisyen tuala kasut nak
        telefon teksi nombor ubat perlukan mencuba elektrik bandar encik cikgu tarikh ogos julai
        setiausaha sihat khabar isnin khamis jumaat ahad inggeris doktor polis rosak mahupun
        sesiapa antarabangsa mahkamah kahwin berkahwin perkahwinan perisytiharan kesihatan
        manakala jun disember maklumat kod fail laluan peranti perisian rangkaian murid pelbagai
        adunan kuali cili darjah haiwan sukan muzik filem pawagam erti ertinya bermaksud perancis
        teknikal kanak sentiasa hendaklah semasa asas keperluan saintifik kerjaya""",
    ),
    ("cs", "sk"): (
        """jsem jsi jsme jste jsou není také protože když který která které jeho její jak ještě
        než nebo může můžeme můžete být bylo jen už kde proč děkuji dobře hezké počasí věc věci
        přes před při pro se co dělat dělám říct říká chci mít řekl město člověk lidé lidí kdy
        včera zítra práci""",
        """som si sme ste sú nie tiež pretože keď ktorý ktorá ktoré jej ako ešte alebo môže
        môžeme môžete byť len prečo ďakujem dobre pekné počasie vec veci cez pred pri pre sa čo
        robiť robím povedať hovorí chcem mať povedal mesto človek ľudia ľudí zajtra prácu ideme
        dom""",
    ),
    ("ru", "uk"): (
        """что как это очень хорошо спасибо меня тебя если или только когда где есть был была
        было были его её их чтобы потому сегодня дела сейчас может нужно человек время год город
        здесь""",
        """що як це дуже добре дякую мене тебе якщо або тільки коли є була було були його її їх
        щоб сьогодні зараз може треба людина рік місто тут""",
    ),
    ("hr", "sr"): (
        """što tko uvijek lijepo vrijeme mjesto mjesta tjedan tisuća kruh gdje svijet riječ
        riječi dijete djeca mlijeko rijeka htio ovdje poslije sljedeći uvjet općina vlak kolodvor
        netko ljepši bijel bijela bijeli lijep lijepa čovjek čovjeka cijeli cijela vidjeti
        vidjela živjeti razumjeti htjeti obitelj kazalište tvrtka povijest svatko nitko opći opća
        opće tijekom vjera vjere sudjelovati utjecaj prije djelo djela mjera mjere primjer
        primjerice riješiti svjetski cijena uvjeti uvjetima obitelji sveopće europa europske
        djelovanje""",
        """šta ko uvek lepo vreme mesto mesta nedelja nedelje hiljada hleb gde svet reč reči dete
        deca mleko reka hteo ovde posle sledeći uslov opština vazduh voz lepši beo bela beli lep
        lepa čovek čoveka ceo celi cela videti videla živeti razumeti hteti pozorište preduzeće
        istorija dve svako niko opšti opšta opšte tokom vera vere učestvovati uticaj pre delo
        dela mera mere primer rešiti svetski cena uslovi uslovima porodica porodice evropa
        evropske delovanje""",
    ),
}
"""For a pair, words of the first that the second does not use, and the reverse."""


_SPELLINGS = {
    "no": r"sjon|øy|het(?:en|er|ene)?$|skap(?:et|er|ene)?$",
    "da": r"øj|hed(?:en|er|erne)?$|skab(?:et|er|erne)?$|erne$",
    "ru": "[ыэёъ]",
    "uk": "[іїєґ]",
    "hr": r"ije[dklprsštčž]",
    "cs": "[ěřů]",
    "sk": "[ľĺŕäô]",
}
"""Spellings that one language of a pair has and the other has not."""
_WORD = re.compile(r"[^\W\d_]+")


@cache
def _pair(expect: frozenset[str]) -> tuple[_Markers, _Markers] | None:
    """The markers of the one expected language of a pair, and those of the other."""
    for pair, texts in _MARKERS.items():
        for own, other in ((0, 1), (1, 0)):
            if pair[own] in expect and pair[other] not in expect:
                return _Markers.of(pair[own], texts[own]), _Markers.of(pair[other], texts[other])
    return None


@dataclass(frozen=True, slots=True)
class _Markers:
    """Words and spellings by which one language of a pair is known."""

    language: str
    words: frozenset[str]
    spelling: re.Pattern[str]

    @classmethod
    def of(cls, language: str, words: str) -> _Markers:
        nothing = "(?!)"
        return cls(
            language, frozenset(words.split()), re.compile(_SPELLINGS.get(language, nothing))
        )

    def has(self, word: str) -> bool:
        return word in self.words or bool(self.spelling.search(word))


def related_stretches(text: str, expect: frozenset[str]) -> Iterator[tuple[int, int, str]]:
    """Where two or more words of a related language follow each other, with no word between them
    that only the expected one uses: start, end, language.
    """
    pair = _pair(expect)
    if pair is None:
        return
    own, other = pair
    run: list[re.Match[str]] = []
    for match in _WORD.finditer(text):
        word = match[0].lower()
        if own.has(word):
            yield from _marked(run, other.language)
            run = []
        elif other.has(word):
            run.append(match)
    yield from _marked(run, other.language)


def _marked(run: list[re.Match[str]], language: str) -> Iterator[tuple[int, int, str]]:
    if len({match[0].lower() for match in run}) >= MIN_MARKERS:
        yield run[0].start(), run[-1].end(), language


_TRADITIONAL = ("zh-hant", "zh-tw", "zh-hk", "zh-mo")
_SIMPLIFIED = ("zh-hans", "zh-cn", "zh-sg")
_FORMS = {
    "zh-Hant": ("big5", "gb2312"),
    "zh-Hans": ("gb2312", "big5"),
    "ja": ("shift_jis", "gb2312"),
}
"""A way of writing Han → the character set that holds its characters, and that of the other way
(for Japanese: Chinese).
"""
_USED_BY_ALL = "着"
_HAN = regex.compile(r"\p{Han}")


def written_form(tag: str) -> str | None:
    """The way of writing Han that a tag prescribes, if it does: plain ``zh`` allows both."""
    tag = tag.strip().lower().replace("_", "-")
    if tag.startswith(_TRADITIONAL):
        return "zh-Hant"
    if tag.startswith(_SIMPLIFIED):
        return "zh-Hans"
    return "ja" if tag.split("-")[0] == "ja" else None


def _form_of(tags: Collection[str]) -> str | None:
    """The form that all tags in Han letters agree on."""
    forms = {written_form(tag) for tag in tags if re.match("(?i)(zh|ja|ko)", tag.strip())}
    return forms.pop() if len(forms) == 1 else None


@cache
def _only_in(character: str, encoding: str, rival: str) -> bool:
    """Whether one character set holds a character that the other lacks."""
    return (
        character not in _USED_BY_ALL
        and _encodes(character, encoding)
        and not _encodes(character, rival)
    )


def _encodes(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def other_form(text: str, tags: Collection[str], prompt: str = "") -> tuple[tuple[int, ...], str]:
    """Offsets of characters that the expected way of writing Han lacks, and the name of the other
    way.

    Characters of the prompt may be quoted.
    """
    form = None if text.isascii() else _form_of(tags)
    if form is None:
        return (), ""
    encoding, rival = _FORMS[form]
    offsets = tuple(
        match.start()
        for match in _HAN.finditer(text)
        if match[0] not in prompt and _only_in(match[0], rival, encoding)
    )
    return offsets, "zh-Hant" if form == "zh-Hans" else "zh-Hans"


def nothing_tells(text: str, tags: Collection[str], expect: frozenset[str]) -> str:
    """Which related language or form a text could as well be in; empty if it cannot, or if none is.

    Where Danish and Norwegian would write the same, the answer is neither fine nor drift.
    """
    if pair := _pair(expect):
        own, other = pair
        if not any(own.has(match[0].lower()) for match in _WORD.finditer(text)):
            return other.language
    form = _form_of(tags)
    if form in ("zh-Hant", "zh-Hans"):
        encoding, rival = _FORMS[form]
        if not any(_only_in(match[0], encoding, rival) for match in _HAN.finditer(text)):
            return "zh-Hans" if form == "zh-Hant" else "zh-Hant"
    return ""
