"""Which languages does a text name, and does it ask for words of them?

Names are written as people write them in a dozen languages, since a prompt need not be in the
language of the answer: "in Russian", "auf Russisch", "用俄语".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import regex

_NAMES = {
    "en": "english englisch anglais inglés ingles inglese inglês engels engelska engelsk"
    " angielsk* английск* 英语 英文 英語 영어",
    "de": "german deutsch deutschen allemand alemán aleman tedesco alemão duits tyska tysk"
    " niemieck* немецк* 德语 德文 德語 ドイツ語 독일어",
    "fr": "french französisch franzoesisch français francais francés frances francese francês"
    " frans franska fransk francusk* французск* 法语 法文 法語 フランス語 프랑스어",
    "es": "spanish castilian spanisch espagnol español espanol spagnolo espanhol spaans spanska"
    " spansk hiszpańsk* испанск* 西班牙语 西班牙文 西班牙語 スペイン語 스페인어",
    "it": "italian italienisch italien italiano italiana italiaans italienska italiensk włosk*"
    " итальянск* 意大利语 意大利文 義大利語 イタリア語 이탈리아어",
    "pt": "portuguese portugiesisch portugais portugués portoghese português portugees"
    " portugisiska portugisisk portugalsk* португальск* 葡萄牙语 葡萄牙語 ポルトガル語"
    " 포르투갈어",
    "nl": "dutch flemish niederländisch néerlandais holandés olandese holandês nederlands"
    " nederländska nederlandsk niderlandzk* голландск* нидерландск* 荷兰语 荷蘭語 オランダ語"
    " 네덜란드어",
    "sv": "swedish schwedisch suédois sueco svedese zweeds svenska svensk szwedzk* шведск*"
    " 瑞典语 瑞典語 スウェーデン語 스웨덴어",
    "da": "danish dänisch danois danés danese dinamarquês deens danska dansk duńsk* датск*"
    " 丹麦语 丹麥語 デンマーク語 덴마크어",
    "no": "norwegian norwegisch norvégien noruego norvegese norueguês noors norska norsk"
    " norwesk* норвежск* 挪威语 挪威語 ノルウェー語 노르웨이어",
    "fi": "finnish finnisch finnois finlandés finlandese finlandês fins finska finsk suomeksi"
    " fińsk* финск* 芬兰语 芬蘭語 フィンランド語 핀란드어",
    "pl": "polish polnisch polonais polaco polacco polonês pools polska polsk polsk* польск*"
    " 波兰语 波蘭語 ポーランド語 폴란드어",
    "cs": "czech tschechisch tchèque checo ceco tcheco tsjechisch tjeckiska czesk* česk* чешск*"
    " 捷克语 捷克語 チェコ語 체코어",
    "sk": "slovak slowakisch slovaque eslovaco slovacco slovensk* словацк*",
    "hu": "hungarian ungarisch hongrois húngaro ungherese hongaars ungerska magyarul węgiersk*"
    " венгерск* 匈牙利语",
    "ro": "romanian rumänisch roumain rumano rumeno romeno roemeens rumänska română румынск*"
    " 罗马尼亚语",
    "tr": "turkish türkisch turc turco turks turkiska türkçe tureck* турецк* 土耳其语 土耳其語"
    " トルコ語 터키어",
    "id": "indonesian indonesisch indonésien indonesio indonesiano indonésio bahasa"
    " индонезийск* 印尼语 印尼語 インドネシア語",
    "ms": "malay malaiisch malais malayo malese melayu малайск* 马来语",
    "tl": "tagalog filipino pilipino",
    "vi": "vietnamese vietnamesisch vietnamien vietnamita вьетнамск* 越南语 越南語 ベトナム語"
    " 베트남어",
    "ca": "catalan katalanisch català catalán каталанск*",
    "hr": "croatian kroatisch croate croata хорватск* hrvatsk*",
    "sr": "serbian serbisch serbe serbio serbo сербск* srpsk*",
    "sl": "slovenian slovene slowenisch slovène esloveno словенск*",
    "et": "estonian estnisch estonien estonio эстонск*",
    "lv": "latvian lettisch letton letón латышск*",
    "lt": "lithuanian litauisch lituanien lituano литовск*",
    "sq": "albanian albanisch albanais albanés албанск*",
    "sw": "swahili kiswahili suaheli суахили",
    "af": "afrikaans африкаанс",
    "cy": "welsh walisisch gallois galés cymraeg",
    "so": "somali",
    "eo": "esperanto эсперанто 世界语",
    "la": "latin latein lateinisch latín latino latijn łacin* латинск* латын* 拉丁语 拉丁文",
    "is": "icelandic isländisch islandais islandés norse исландск*",
    "ga": "irish gaelic irisch gälisch irlandais irlandés gaeilge",
    "eu": "basque baskisch vasco euskera euskara баскск*",
    "haw": "hawaiian hawaiisch",
    "mi": "maori māori",
    "zu": "zulu",
    "xh": "xhosa",
    "yo": "yoruba",
    "qu": "quechua",
    "nah": "nahuatl",
    "zh": "chinese mandarin cantonese chinesisch chinois chino cinese chinês chinees kinesiska"
    " kinesisk chińsk* китайск* 中文 汉语 漢語 中国語 중국어 pinyin hanzi kanji 汉字 漢字"
    " 普通话 国语 國語",
    "ja": "japanese japanisch japonais japonés giapponese japonês japans japanska japansk"
    " japońsk* японск* 日语 日文 日語 日本語 일본어 kanji hiragana katakana romaji",
    "ko": "korean koreanisch coréen coreano koreaans koreanska koreansk koreańsk* корейск* 韩语"
    " 韓語 韓国語 한국어 hangul hangeul",
    "ru": "russian russisch russe ruso rusa russo russa ryska russisk rosyjsk* русск* 俄语 俄文"
    " 俄語 ロシア語 러시아어 cyrillic kyrillisch",
    "uk": "ukrainian ukrainisch ukrainien ucraniano ucraino украинск* українськ* 乌克兰语",
    "bg": "bulgarian bulgarisch bulgare búlgaro болгарск*",
    "mk": "macedonian mazedonisch македонск*",
    "ar": "arabic arabisch arabe árabe arabo arabiska arabsk* арабск* 阿拉伯语 阿拉伯文"
    " アラビア語 아랍어 العربية عربي",
    "fa": "persian farsi persisch persan persa персидск* 波斯语 فارسی",
    "ur": "urdu урду اردو",
    "hi": "hindi хинди 印地语 ヒンディー語 हिन्दी हिंदी devanagari",
    "sa": "sanskrit санскрит* 梵语 梵文",
    "mr": "marathi",
    "ne": "nepali nepalesisch",
    "bn": "bengali bangla bengalisch",
    "pa": "punjabi panjabi",
    "ta": "tamil",
    "te": "telugu",
    "kn": "kannada",
    "ml": "malayalam",
    "gu": "gujarati",
    "si": "sinhala sinhalese",
    "th": "thai thailändisch thaïlandais tailandés тайск* 泰语 泰文 タイ語 태국어",
    "lo": "lao laotian",
    "km": "khmer cambodian",
    "my": "burmese",
    "he": "hebrew hebräisch hébreu hebreo ebraico hebraico hebrajsk* иврит* 希伯来语 עברית",
    "yi": "yiddish jiddisch",
    "el": "greek griechisch grec griego greco grego grieks grekiska gresk greck* греческ*"
    " 希腊语 希臘語 ギリシャ語 그리스어 ελληνικά",
    "ka": "georgian georgisch грузинск*",
    "hy": "armenian armenisch армянск*",
    "am": "amharic amharisch",
    "bo": "tibetan tibetisch",
}
_BEFORE = r"(?:in|into|to|from|auf|ins|aus|en|em|al|på|op|naar|na|po|till|til|vers|au|du|по|на|с)"
_AFTER = (
    r"(?:words?|phrases?|names?|terms?|for|expressions?|sayings?|proverbs?|idioms?|greetings?|letters?"
    r"|characters?|spelling|translation|equivalent|version|language|sentences?|toasts?|verbs?|nouns?"
    r"|alphabet|wort|wörter|mot|palabra|parola)"
)
_REQUEST = regex.compile(
    r"\b(?:translat|render|pronounc|pronunciation|spell|say|said|mean|call|teach|learn|speak|write"
    r"|written|greet|etymolog|origin|deriv|übersetz|heißt|heisst|sagt man|bedeut|aussprech|tradui"
    r"|dit-on|prononc|signifi|traduc|traduz|tradur|dice|decir|pronuncia|significa|diz|перев|сказать"
    r"|скажи|по-|значит|произн)|[译譯訳]|怎么说|怎麼說|怎么写|번역",
    regex.IGNORECASE,
)


@cache
def _names() -> tuple[regex.Pattern[str], dict[str, list[str]]]:
    """A pattern of all names, and the languages of each."""
    languages: dict[str, list[str]] = {}
    for code, names in _NAMES.items():
        for name in names.split():
            languages.setdefault(name.rstrip("*"), []).append(code)
    words: list[str] = []
    stems: list[str] = []
    signs: list[str] = []
    for name in {name for names in _NAMES.values() for name in names.split()}:
        unspaced = bool(regex.search(r"[\p{Han}\p{Katakana}\p{Hangul}]", name))
        (stems if name.endswith("*") else signs if unspaced else words).append(name.rstrip("*"))
    spaced = (
        rf"(?<!\p{{L}})(?:(?P<word>{'|'.join(sorted(words))})(?!\p{{L}})"
        rf"|(?P<stem>{'|'.join(sorted(stems))})\p{{L}}*)"
    )
    unspaced_names = "|".join(sorted(signs, key=len, reverse=True))
    return regex.compile(rf"{spaced}|(?P<sign>{unspaced_names})", regex.IGNORECASE), languages


_ASKS_BEFORE = regex.compile(rf"\b{_BEFORE}[\s-]+(?:the\s+|het\s+)?\Z", regex.IGNORECASE)
_ASKS_AFTER = regex.compile(rf"\s+{_AFTER}\b", regex.IGNORECASE)


def languages_named(text: str) -> frozenset[str]:
    """The languages whose names a text holds, whatever for."""
    return frozenset(_codes(_names()[0].finditer(text)))


def name_places(text: str) -> Iterator[tuple[int, int]]:
    """Where the names of languages are in a text: no text leaves a language by naming one."""
    return (match.span() for match in _names()[0].finditer(text))


def languages_asked(prompt: str) -> frozenset[str]:
    """The languages of which a prompt asks for words.

    It names the language after a preposition ("in Russian", "from Greek") or before a noun
    ("Russian word", "Russian for"), or it names it and asks what something means, how it is said,
    written or translated, or where it comes from. A nationality alone ("the Russian president")
    asks for nothing.
    """
    found = list(_names()[0].finditer(prompt))
    if not found:
        return frozenset()
    asks = bool(_REQUEST.search(prompt))
    return frozenset(
        _codes(
            match
            for match in found
            if asks
            or match["sign"]
            or _ASKS_BEFORE.search(prompt, max(0, match.start() - 20), match.start())
            or _ASKS_AFTER.match(prompt, match.end())
        )
    )


def _codes(matches: Iterable[regex.Match[str]]) -> Iterable[str]:
    languages = _names()[1]
    for match in matches:
        name = match["word"] or match["stem"] or match["sign"]
        yield from languages.get(name.lower(), ())
