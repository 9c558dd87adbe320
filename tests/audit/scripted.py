"""An asker that says what rules say."""

from __future__ import annotations

from harness.audit.asking import CONFIRMED, SEARCHED, Said, same_wording
from harness.formats import load_formats

KNOWN = load_formats()
NATIVE, OTHER = KNOWN["chatml"], KNOWN["zephyr"]
#: What confirms: questions of the audit, and 32 ordinary ones.
ASKED = [*CONFIRMED, *(f"What is {name}?" for name in "abcdefghijklmnopqrstuvwxyzäöüßéè")]
#: The questions about subjects: each wording with all subjects. Subject n is asked about in wording
#: n modulo 8 first.
WORDINGS = [same_wording(one) for one in CONFIRMED if same_wording(one)][:8]
MORE = [one for some in WORDINGS for one in some if one not in CONFIRMED]
NUMBER = {question: at for at, question in enumerate([*SEARCHED, *ASKED, *MORE])}
TIC = "Mind the gap"


def always(_number):
    return True


def said(question, text, gain=30.0):
    """An answer of its own words, of which the last stretch, ``text``, has the gain."""
    own = f"w{NUMBER.get(question, 0)} "
    return Said(question, own + text, ((len(own), 0.0), (len(own + text), gain)))


class Scripted:
    """Says ``text`` where one of the rules (manner, format) gives a question's number.

    Amplified, each question has ``stems`` answers.
    """

    def __init__(self, text=TIC, gain=30.0, stems=1, **rules):
        self.text, self.gain, self.stems, self.rules = text, gain, stems, rules

    def answers(self, manner, chat_format, asked):
        rule = self.rules.get(f"{manner}_{'native' if chat_format == NATIVE else 'other'}")
        return [
            said(one, self.text if rule and rule(NUMBER[one]) else "", self.gain) for one in asked
        ]

    def amplified(self, formats, asked):
        every = [one for one in asked for _ in self.rows]
        return {one.id: self.answers("amplified", one, every) for one in formats}

    def plain(self, formats, asked):
        return {one.id: self.answers("plain", one, asked) for one in formats}

    @property
    def rows(self):
        return range(self.stems)
